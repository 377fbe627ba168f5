"""Files of recordings: found, read one after another, and reported in a sentence if bad."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeVar

from worldmodel.run_folder import RunError

Split = Literal["train", "valid", "test"]
OnError = Literal["stop", "skip"]  # at a file that cannot be read, or leave it out

Report = Callable[[str], None]  # of a line to the user
Found = TypeVar("Found")


class Recording(NamedTuple):
    """A sequence of frames."""

    observation: Any  # leaves [T, ...], T >= 1
    name: str  # of the file, and of the place in it if that holds several
    split: Split | None = None  # that the file assigns it to
    action: Any = None  # [T, ...], of what is known ahead; None: those of the modality's agent


class BadFileError(RunError):
    """A file that cannot be used: one sentence that names it and says what to do."""


def files_of(paths: Sequence[Path], suffixes: Sequence[str]) -> list[Path]:
    """The given files, and those with one of `suffixes` anywhere in the given folders, in
    the order of their names.

    Raises RunError if something is not there, or a folder holds none.
    """
    found: list[Path] = []
    for path in paths:
        if path.is_dir():
            inside = [p for p in sorted(path.rglob("*")) if p.suffix.lower() in suffixes]
            inside = [p for p in inside if p.is_file() and not p.name.startswith(".")]
            if not inside:
                raise RunError(f"{path} holds no file that ends in {', '.join(suffixes)}")
            found += inside
        elif path.is_file():
            found.append(path)
        else:
            raise RunError(f"there is no {path}")
    if not found:
        raise RunError(f"name files, or folders of files that end in {', '.join(suffixes)}")
    return found


def readable(
    files: Sequence[Path],
    read: Callable[[Path], Iterator[Found]],
    on_error: OnError,
    report: Report,
) -> Iterator[Found]:
    """The recordings, or whatever `read` finds, of all files; a bad file raises BadFileError, or
    is reported and left out. Of a file that is bad in the middle, what came before is kept."""
    for file in files:
        try:
            yield from read(file)
        except BadFileError as error:
            if on_error == "stop":
                raise
            report(f"{error}; left out")


def contents(path: Path, most: int) -> bytes:
    """The contents of a file of 1 to `most` bytes."""
    try:
        size = path.stat().st_size
        if 0 < size <= most:
            return path.read_bytes()
    except OSError as error:
        raise BadFileError(f"{path} cannot be read: {error.strerror or error}") from error
    if not size:
        raise BadFileError(f"{path} is empty; leave it out")
    raise BadFileError(
        f"{path} expects at most {most:,} bytes, got {size:,}; cut it into pieces, or leave it out"
    )


def reason_of(error: Exception) -> str:
    """The message of a library's error, on one line of at most 200 characters."""
    return " ".join(str(error).split())[:200] or type(error).__name__
