"""Packed runs: a run as one file, to be passed on, which is hostile until it is proved not to be.

    run.wm          a zip file, which any tool can look into
        manifest.json       format, what the run is, and the size and the SHA-256 of all others
        README.md           a card for people
        config.json, metrics.jsonl, evaluation.json, checkpoints/, episodes/    as in a folder

Nothing in it is code, and nothing is pickled. It is read from a folder of its own, which is
removed when the program ends; nothing is written anywhere else, whatever the file says.
"""

import atexit
import hashlib
import os
import shutil
import struct
import tempfile
import zipfile
import zlib
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from worldmodel.files import (
    PIECE,
    DamagedError,
    RunError,
    object_of,
    reading,
    write_json,
    writing,
)

FORMAT = 1
SUFFIX = ".wm"
MANIFEST, CARD = "manifest.json", "README.md"
SUFFIXES = ("", ".json", ".jsonl", ".md", ".npz", ".safetensors")  # nothing that could run
MOST_FILES = 10_000
MOST_LISTED = 2**23  # bytes of the zip file's list of files
MOST_MANIFEST = 2**22  # bytes
MOST_BYTES = 2**31  # of the file, and of all that is in it
MOST_GROWTH, SPARED = 100, 2**26  # times as large as the file, and bytes that may be anyway
END = struct.Struct("<4s4H2LH")  # a zip file's last record, without a comment
END_SIGN, LARGE_SIGN, LARGE_SIZE = b"PK\x05\x06", b"PK\x06\x07", 20


class Manifest(NamedTuple):
    """The content of manifest.json."""

    name: str
    experiment: str
    episodes: bool  # whether they are in it
    card: dict[str, Any]  # title, figures and more, of the card
    files: dict[str, tuple[int, str]]  # bytes and SHA-256, by name


def pack(folder: Path, target: Path, facts: Mapping[str, Any]) -> Manifest:
    """Writes all files of a folder into a packed run, whole or not at all.

    facts: `name`, `experiment`, `episodes` and `card` of the manifest.
    """
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    files = {}
    for path in paths:
        name = path.relative_to(folder).as_posix()
        if fault := _fault_of(name):
            raise RunError(f"{path} cannot be packed: {fault}")
        with reading(path) as opened:
            files[name] = (path.stat().st_size, hashlib.file_digest(opened, "sha256").hexdigest())
    total = sum(size for size, _ in files.values())
    if total > MOST_BYTES or len(files) > MOST_FILES:
        raise RunError(
            f"{folder.name} has {total:,} bytes in {len(files):,} files, and a packed run "
            f"{MOST_BYTES:,} in {MOST_FILES:,} at most: leave out --episodes"
        )
    described = {"format": FORMAT, **facts, "files": files}
    write_json(folder / MANIFEST, described)
    names = [MANIFEST, *files]
    with writing(target) as part:
        _write(part, folder, names, zipfile.ZIP_DEFLATED)
        if total > _most_of(part.stat().st_size):  # pixels that are all the same, say
            _write(part, folder, names, zipfile.ZIP_STORED)
    return _manifest_of(target, described)


def _write(target: Path, folder: Path, names: Iterable[str], method: int) -> None:
    """Writes a zip file that is the same wherever and whenever it is written."""
    with zipfile.ZipFile(target, "w") as archive:
        for name in names:
            info = zipfile.ZipInfo(name)
            info.compress_type, info.external_attr = method, 0o100644 << 16
            with reading(folder / name) as source, archive.open(info, "w") as part:
                shutil.copyfileobj(source, part, PIECE)


def _most_of(size: int) -> int:
    """The bytes that a packed run of a size may hold."""
    return min(MOST_BYTES, SPARED + MOST_GROWTH * size)


_UNPACKED: dict[tuple[Any, ...], Path] = {}


def unpacked(file: Path) -> Path:
    """The folder of a packed run, which is removed when this process ends.

    Raises DamagedError for any file that is not as `pack` wrote it, or that a run cannot be.
    """
    state = file.stat()
    key = (os.getpid(), file.resolve(), state.st_ino, state.st_size, state.st_mtime_ns)
    if key not in _UNPACKED or not _UNPACKED[key].is_dir():
        place = Path(tempfile.mkdtemp(prefix="worldmodel-"))
        atexit.register(_remove, place, os.getpid())
        folder = place / file.name
        try:
            unpack(file, folder)
        except BaseException:
            _remove(place, os.getpid())
            raise
        _UNPACKED[key] = folder
    return _UNPACKED[key]


def _remove(place: Path, owner: int) -> None:
    if os.getpid() == owner:  # not in its forks
        shutil.rmtree(place, ignore_errors=True)


def unpack(file: Path, folder: Path) -> Manifest:
    """Writes what a packed run holds into a new folder, after all of it has been checked that can
    be before; what is written is as large as it said, and no larger."""
    try:
        _check_end(file)
        with zipfile.ZipFile(file) as archive:
            manifest = _listed(file, archive)
            free = shutil.disk_usage(folder.parent).free
            if (total := sum(size for size, _ in manifest.files.values())) > free:
                raise RunError(
                    f"{file} takes {total:,} bytes when it is unpacked, and {folder.parent} has "
                    f"{free:,}: make room, or set TMPDIR to another folder"
                )
            folder.mkdir()
            for name in (MANIFEST, *manifest.files):
                _extract(file, archive, name, folder / name, manifest.files.get(name))
            return manifest
    except RunError:
        raise
    except UNREADABLE as error:
        raise _damaged(file, error) from error


def read_manifest(file: Path) -> Manifest:
    """The manifest of a packed run; nothing else of it is read."""
    try:
        _check_end(file)
        with zipfile.ZipFile(file) as archive:
            return _listed(file, archive)
    except RunError:
        raise
    except UNREADABLE as error:
        raise _damaged(file, error) from error


UNREADABLE = (
    *(zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, struct.error),
    *(ValueError, OverflowError, RecursionError, RuntimeError),
)


def _damaged(file: Path, error: Exception) -> DamagedError:
    return DamagedError(f"{file} is a damaged packed run ({error}): get it again")


def _check_end(file: Path) -> None:
    """Raises DamagedError unless a file is the end of a zip file of a bounded list of files: what
    reads such files reads the list whole."""
    with reading(file, MOST_BYTES) as opened:
        size = os.fstat(opened.fileno()).st_size
        opened.seek(max(0, size - END.size - LARGE_SIZE))
        tail = opened.read()
    if len(tail) < END.size or tail[-END.size :][:4] != END_SIGN:
        raise DamagedError(
            f"{file} is no packed run: expected a folder, or a file that `worldmodel pack` wrote"
        )
    _, _, _, _, count, listed, _, comment = END.unpack(tail[-END.size :])
    is_large = tail[: -END.size][-LARGE_SIZE:].startswith(LARGE_SIGN)
    if is_large or comment or count > MOST_FILES + 1 or listed > MOST_LISTED:
        raise DamagedError(
            f"{file} lists {count:,} files in {listed:,} bytes, or more, and no packed run has "
            f"more than {MOST_FILES:,}: it is not read"
        )


def _listed(file: Path, archive: zipfile.ZipFile) -> Manifest:
    """The manifest, after the list of files has been compared with it."""
    entries = archive.infolist()
    found = {entry.filename: entry for entry in entries}
    for entry in entries:
        if fault := _fault_of(entry.filename) or _fault_in(entry):
            raise DamagedError(f"{file} holds {entry.filename!r}, {fault}: it is not read")
    folders = {str(parent) for name in found for parent in PurePosixPath(name).parents}
    if len(found) < len(entries) or folders & {*found}:
        raise DamagedError(f"{file} holds several files of one name: it is not read")
    if MANIFEST not in found:
        raise DamagedError(f"{file} is no packed run: it has no {MANIFEST}")
    if found[MANIFEST].file_size > MOST_MANIFEST:
        raise DamagedError(f"{file} has a {MANIFEST} of {found[MANIFEST].file_size:,} bytes")
    with archive.open(MANIFEST) as opened:
        text = opened.read(MOST_MANIFEST)
    try:
        described, is_whole = object_of(text)
    except ValueError as error:
        raise DamagedError(f"{file} is damaged: its {MANIFEST} is no JSON") from error
    if not is_whole:
        raise DamagedError(f"{file} is damaged: the checksum of its {MANIFEST} differs")
    manifest = _manifest_of(file, described)
    sizes = {name: size for name, (size, _) in manifest.files.items()}
    if sizes != {name: part.file_size for name, part in found.items() if name != MANIFEST}:
        raise DamagedError(f"{file} is damaged: it holds other files than its {MANIFEST} lists")
    total, most = sum(sizes.values()), _most_of(file.stat().st_size)
    if total > most:
        raise DamagedError(
            f"{file} would take {total:,} bytes when it is unpacked, more than the {most:,} that "
            "a packed run of its size can have: it is not read"
        )
    return manifest


def _manifest_of(file: Path, described: Mapping[str, Any]) -> Manifest:
    """The manifest that JSON describes."""
    if described.get("format") != FORMAT:
        raise DamagedError(
            f"{file} is a packed run of format {described.get('format')!r}, and this program "
            f"reads {FORMAT}: use the version of the package that made it"
        )
    try:
        files = {str(name): (int(size), str(sum)) for name, (size, sum) in _items(described)}
        manifest = Manifest(
            str(described["name"]),
            str(described["experiment"]),
            bool(described["episodes"]),
            dict(described["card"]),
            files,
        )
    except (KeyError, TypeError, ValueError) as error:
        raise DamagedError(f"{file} is damaged: its {MANIFEST} lacks {error}") from error
    if any(size < 0 for size, _ in files.values()):
        raise DamagedError(f"{file} is damaged: its {MANIFEST} has sizes below 0")
    return manifest


def _items(described: Mapping[str, Any]) -> Iterable[tuple[str, Any]]:
    return dict(described["files"]).items()


def _fault_of(name: str) -> str:
    """A reason why no file of a run has this name; "" if one may."""
    parts = name.split("/")
    if not all(parts) or any(part[0] == "." or len(part) > 255 for part in parts):
        return "whose name leads out of a folder, or is hidden"
    if not name.isprintable() or "\\" in name or len(name) > 1_000:
        return "whose name is no path"
    if Path(name).suffix not in SUFFIXES and parts[0] != "episodes":
        return "which is no part of a run"
    return ""


def _fault_in(entry: zipfile.ZipInfo) -> str:
    """A reason why no packed run has such an entry; "" if one may."""
    if entry.external_attr >> 28 not in (0, 8):
        return "which is no regular file"
    if entry.flag_bits & 1:
        return "which is encrypted"
    if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        return "which is compressed in a way that this program never does"
    return ""


def _extract(
    file: Path,
    archive: zipfile.ZipFile,
    name: str,
    target: Path,
    known: tuple[int, str] | None,
) -> None:
    """Writes one file of a packed run. known: its size and SHA-256, None: of the manifest, which
    has a checksum of its own."""
    target.parent.mkdir(parents=True, exist_ok=True)
    digest, left = hashlib.sha256(), archive.getinfo(name).file_size
    with archive.open(name) as source, open(target, "xb") as to:
        while left > 0 and (piece := source.read(min(PIECE, left))):
            to.write(piece)
            digest.update(piece)
            left -= len(piece)
    if left or (known is not None and digest.hexdigest() != known[1]):
        raise DamagedError(
            f"{file} is damaged: {name} is not as it was packed (its SHA-256 differs)"
        )


def manifest_in(folder: Path) -> Manifest | None:
    """The manifest of a folder that a packed run was unpacked into; None of any other folder."""
    path = folder / MANIFEST
    if not path.is_file():
        return None
    with reading(path, MOST_MANIFEST) as opened:
        try:
            described, _ = object_of(opened.read())
        except ValueError as error:
            raise DamagedError(f"{path} is damaged: {error}") from error
    return _manifest_of(path, described)
