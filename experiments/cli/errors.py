"""Errors in one sentence each, for people who type commands; the one place that words them.

The sentence of a fault that a user can mend says what to do. Anything else is a fault of the
program; its sentence says where the traceback is, and to report it.
"""

import errno
import sys
import tempfile
import traceback
from typing import NamedTuple

from worldmodel import UnknownNameError
from worldmodel.errors import is_raised_by_us, printable
from worldmodel.run_folder import RunError

LONGEST = 280  # characters of a sentence, which begins with the name of the program
USER, PROGRAM = 2, 1  # exit codes, by whose fault it is
# Messages of PyTorch, safetensors and HDF5 when the system refuses to write, or to give memory.
UNWRITTEN = ("inline_container", "os error", "ref count", "No space left", "Read-only file system")
NO_MEMORY = ("can't allocate memory", "out of memory", "Unable to allocate", "bad_alloc")
NO_THREAD = "can't start new thread"
ADVICE = {
    errno.ENOSPC: "make room on the disk, or choose another folder",
    errno.EDQUOT: "make room on the disk, or choose another folder",
    errno.EFBIG: "files may not grow so large here: see `ulimit -f`, or choose another folder",
    errno.EROFS: "choose a folder that can be written to",
    errno.EACCES: "change its permissions, or choose another",
    errno.EPERM: "change its permissions, or choose another",
    errno.EMFILE: "allow more open files by `ulimit -n`, or choose fewer copies and workers",
    errno.ENFILE: "close other programs, or choose fewer copies and workers",
    errno.ENOTDIR: "choose a path whose parents are folders",
    errno.EISDIR: "choose the path of a file",
    errno.ENOENT: "was it moved or deleted meanwhile?",
    errno.EIO: "check the disk",
    errno.EAGAIN: "choose fewer --threads, --workers or --num-envs",
}
EXTRAS = ("classic-control", "box2d", "mujoco")  # of Gymnasium and, by the same name, of ours


class Message(NamedTuple):
    """An error in one sentence, and the exit code."""

    sentence: str
    code: int


def message_of(error: BaseException) -> Message:
    """One sentence of at most `LONGEST` characters. Of a fault of the program, the traceback is
    written to a file, which the sentence names: long work is not to be repeated for it."""
    sentence = sentence_of(error)
    if sentence is not None:
        return Message(shortened(sentence), USER)
    file = _written(error)
    where = f"with {file}, which holds the traceback" if file else "with what --debug prints"
    beginning = shortened(f"a fault of the program, not yours: {described(error)}", LONGEST // 2)
    return Message(shortened(f"{beginning}; please report it to its authors, {where}"), PROGRAM)


def sentence_of(error: BaseException) -> str | None:
    """A sentence for an error that a user can mend; None for a fault of the program."""
    if isinstance(error, RunError | UnknownNameError | FloatingPointError):
        return str(error)
    if isinstance(error, OSError) and error.strerror:
        return _of_system(error)
    said = str(error).partition("\n")[0]
    if isinstance(error, OSError) or any(sign in said for sign in UNWRITTEN):
        return f"a file cannot be written ({said}): is the disk full, or read-only?"
    if isinstance(error, MemoryError) or any(sign in said for sign in NO_MEMORY):
        said = said.rpartition("CPUAllocator: ")[2]  # without where in PyTorch it is from
        reason = f" ({said})" if said else ""
        return f"there is not enough memory{reason}: choose smaller sizes, or fewer side by side"
    if NO_THREAD in said:
        return "the system starts no more threads: choose fewer --threads or --workers"
    if type(error).__name__ == "DependencyNotInstalled":
        return _of_missing(said)
    if isinstance(error, RuntimeError | ValueError | TypeError) and is_raised_by_us(error):
        return str(error)
    return None


def shortened(text: str, most: int = LONGEST) -> str:
    """A text in one line of at most `most` characters; its beginning and its end are kept, since
    the end says what to do.

    >>> shortened("there is no run at /very/long/path: give another", 40)
    'there is no run at /very/ … give another'
    """
    text = printable(" ".join(text.split()))
    if len(text) <= most:
        return text
    end = (most - 3) // 3
    return f"{text[: most - 3 - end].rstrip()} … {text[-end:].lstrip()}"


def described(error: BaseException) -> str:
    """An error's type, its message and the line that raised it."""
    frames = traceback.extract_tb(error.__traceback__)
    place = f" in {frames[-1].filename}:{frames[-1].lineno}" if frames else ""
    return f"{type(error).__name__}: {error}{place}"


def _of_system(error: OSError) -> str:
    """A sentence on an error of the operating system."""
    what = f"{error.filename}: {error.strerror}" if error.filename else str(error.strerror)
    advice = ADVICE.get(error.errno or 0)
    return f"{what}; {advice}" if advice else what


def _of_missing(said: str) -> str:
    """A sentence on a package that an environment needs; said: Gymnasium's."""
    for extra in EXTRAS:
        if f"[{extra}]" in said:
            missing = said.partition(",")[0]  # "pygame is not installed"
            return f"{missing}, which draws the environment: pip install 'worldmodel-gym[{extra}]'"
    return f"the environment needs a package that is missing: {said}"


def _written(error: BaseException) -> str | None:
    """The file that a traceback was written to; None if none can be written."""
    try:
        with tempfile.NamedTemporaryFile(
            "w", prefix="worldmodel-", suffix=".txt", delete=False
        ) as file:
            print(*sys.argv, file=file)
            traceback.print_exception(error, file=file)
    except OSError:
        return None
    return file.name
