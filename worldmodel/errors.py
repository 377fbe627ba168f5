"""Messages of errors: whether this package wrote them, and how a terminal is given them."""

import linecache
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from worldmodel.run_folder import RunError

PACKAGE = __name__.partition(".")[0]


def is_raised_by_us(error: BaseException) -> bool:
    """True if an error is from a `raise` statement of this package: its message was then written
    for the person who sees it.

    >>> from worldmodel import HEADS
    >>> def error_of(function):
    ...     try:
    ...         function()
    ...     except Exception as error:
    ...         return error
    >>> is_raised_by_us(error_of(lambda: HEADS["no such head"]))
    True
    >>> is_raised_by_us(error_of(lambda: int("no number")))
    False
    """
    last = error.__traceback__
    while last is not None and last.tb_next is not None:
        last = last.tb_next
    if last is None:
        return False
    frame = last.tb_frame
    if str(frame.f_globals.get("__name__")).partition(".")[0] != PACKAGE:
        return False
    line = linecache.getline(frame.f_code.co_filename, last.tb_lineno)
    return line.strip().startswith("raise ")


@contextmanager
def naming_damage(path: Path) -> Iterator[None]:
    """Turns errors of Python and of other packages inside, where a file or a folder is read that
    may hold anything, into one that names it."""
    try:
        yield
    except (OSError, MemoryError):
        raise
    except Exception as error:
        if is_raised_by_us(error):
            raise
        raise RunError(
            f"{path} cannot be read ({type(error).__name__}: {error}): it seems to be damaged, or "
            "of another version; restore it from a copy (--debug shows where the error is)"
        ) from error


def printable(text: str) -> str:
    r"""A text whose control characters are spelled out: a terminal would obey them.

    >>> print(printable("\x1b[2J"))
    \x1b[2J
    """
    return "".join(
        letter
        if letter.isprintable() or letter == "\n"
        else letter.encode("unicode_escape").decode()
        for letter in text
    )
