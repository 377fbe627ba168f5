"""Files that are whole or absent, and that are read as they were written or not at all.

What is written goes to a new file beside the old one, which it then replaces; nothing is written
through a link. What is read is a regular file of a bounded size. A JSON object carries its own
checksum: CRC-32, against accidents. It is no protection against somebody who means to deceive: who
can change a file can change its checksum, too.
"""

import fcntl
import json
import os
import secrets
import shutil
import stat
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from io import BufferedReader
from pathlib import Path
from typing import Any, BinaryIO

PART = ".part"  # in front of the names of what is being written
CHECKSUM = "checksum"  # a key of JSON objects
MOST_JSON = 2**28  # bytes
PIECE = 2**20  # bytes that are read at once
LINE = 2**12  # bytes among which the end of a line is looked for


class RunError(Exception):
    """A fault of a run that its user has to know or can fix; one sentence."""


class DamagedError(RunError, ValueError):
    """A file that is there, but is not as it was written."""


class InUseError(RunError, ValueError):
    """A folder that another process writes to."""


@contextmanager
def writing(path: Path) -> Iterator[Path]:
    """Gives a new, empty file in `path`'s folder, of the same suffix, to be written by its name.

    It becomes `path` at the end, when it is on disk; after an error nothing is left of it.
    """
    part = path.with_name(f"{PART}-{secrets.token_hex(4)}-{path.name}")
    try:
        os.close(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o666))
        yield part
        sync(part)
        part.replace(path)
    except OSError as error:
        if error.errno is not None and error.filename in (None, str(part)):
            error.filename = str(path)
        raise
    finally:
        with suppress(OSError):  # it is gone, or was never made
            part.unlink()


@contextmanager
def making(path: Path) -> Iterator[Path]:
    """Gives a new folder beside `path`, which becomes `path`, where nothing or an empty folder is,
    at the end; after an error nothing is left of it."""
    part = path.with_name(f"{PART}-{secrets.token_hex(4)}-{path.name}")
    part.mkdir(parents=True)
    try:
        yield part
        part.rename(path)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def write_text(path: Path, text: str) -> None:
    """Writes a file whole or not at all."""
    with writing(path) as part:
        part.write_text(text, encoding="utf-8")


def append_line(path: Path, line: str) -> None:
    """Appends a line to a regular file, which is made if there is none; what a kill or a full disk
    has left of an unfinished one is removed."""
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW
    with open(path, "r+b", opener=lambda name, _: _open_regular(name, flags)) as file:
        file.truncate(_end_of_lines(file))
        file.seek(0, os.SEEK_END)
        file.write(line.encode() + b"\n")


def _end_of_lines(file: BinaryIO) -> int:
    """The size of a file without a last line that was not finished."""
    end = file.seek(0, os.SEEK_END)
    while end:
        begin = max(0, end - LINE)
        file.seek(begin)
        found = file.read(end - begin).rfind(b"\n")
        if found >= 0:
            return begin + found + 1
        end = begin
    return 0


@contextmanager
def reading(path: Path, most: int | None = None) -> Iterator[BufferedReader]:
    """Opens a regular file of at most `most` bytes for reading; refuses anything else."""
    with open(path, "rb", opener=_open_regular) as file:
        size = os.fstat(file.fileno()).st_size
        if most is not None and size > most:
            raise DamagedError(
                f"{path} has {size:,} bytes, more than the {most:,} that such a file can have: it "
                "is not read"
            )
        yield file


def _open_regular(name: str, flags: int) -> int:
    """Opens a file, not waiting for a writer; raises a DamagedError unless it is a regular one."""
    descriptor = os.open(name, flags | os.O_NONBLOCK, 0o666)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise DamagedError(f"{name} is no regular file: it is neither read nor written")
    return descriptor


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Writes a JSON object with its checksum, whole or not at all."""
    write_text(path, json.dumps(with_checksum(value), indent=1) + "\n")


def append_json(path: Path, value: Mapping[str, Any]) -> None:
    """Appends a JSON object with its checksum to a regular file, as a line."""
    append_line(path, json.dumps(with_checksum(value)))


def with_checksum(value: Mapping[str, Any]) -> dict[str, Any]:
    """An object of JSON with its checksum."""
    plain = json.loads(json.dumps(value))
    return {CHECKSUM: _checksum(plain)} | plain


def object_of(text: bytes) -> tuple[dict[str, Any], bool]:
    """The JSON object of a text, without its checksum, and whether it is as it was written: true
    where it never had any.

    Raises ValueError or RecursionError for anything else.
    """
    value = json.loads(text)
    if not isinstance(value, dict):
        raise ValueError(f"it holds no object, but a {type(value).__name__}")
    checksum = value.pop(CHECKSUM, None)
    return value, checksum in (None, _checksum(value))


def read_json(path: Path) -> dict[str, Any]:
    """Reads a JSON object, without its checksum; one that never had any is taken as it is.

    Raises DamagedError for anything else, and where the checksum differs.
    """
    try:
        with reading(path, MOST_JSON) as file:
            value, is_whole = object_of(file.read())
    except DamagedError:
        raise
    except (ValueError, RecursionError) as error:
        raise DamagedError(f"{path} is damaged: {error}") from error
    if not is_whole:
        raise DamagedError(
            f"{path} is not as it was written (its checksum differs): put it back from a copy, "
            f'or, if it was changed on purpose, delete its line "{CHECKSUM}"'
        )
    return value


def _checksum(value: Mapping[str, Any]) -> str:
    return f"{zlib.crc32(json.dumps(value, sort_keys=True).encode()):08x}"


def crc32_of(path: Path, begin: int, end: int, crc: int = 0) -> int:
    """The CRC-32 of a file's bytes from `begin` to `end`, going on from that of those before."""
    with reading(path) as file:
        file.seek(begin)
        while begin < end and (piece := file.read(min(PIECE, end - begin))):
            crc, begin = zlib.crc32(piece, crc), begin + len(piece)
    return crc


def check_inside(folder: Path) -> None:
    """Raises DamagedError unless all that is in a folder, at any depth, is files and folders: a
    link could lead out of it, and reading a pipe would never end."""
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                with suppress(FileNotFoundError):  # its run has just removed it
                    check_inside(Path(entry.path))
            elif not entry.is_file(follow_symlinks=False):
                kind = "a link" if entry.is_symlink() else "neither a file nor a folder"
                raise DamagedError(
                    f"{entry.path} is {kind}: a run has files and folders of its own only; take "
                    "it away, or put a copy in its place"
                )


def lock(file: Path, said: str) -> int:
    """Keeps other processes from taking the same lock, until the descriptor that is returned is
    closed, or this process ends. said: the sentence of the InUseError."""
    descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK, 0o666)
    try:
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(descriptor)
        raise InUseError(said) from error
    return descriptor


def sync(path: Path) -> None:
    """Waits until a file, or what a folder lists, is on disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
