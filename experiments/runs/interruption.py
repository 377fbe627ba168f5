"""Interruption: what Ctrl-C does to long work."""

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from worldmodel.progress import Reporter


class Interrupted(Exception):  # noqa: N818 (an order, not an error)
    """Somebody pressed Ctrl-C, and what had to be saved is saved."""


@contextmanager
def stoppable(reporter: Reporter) -> Iterator[None]:
    """What is entered may be left by Ctrl-C, or because a gradient is no number: what was found
    until then counts."""
    try:
        yield
    except KeyboardInterrupt:
        reporter.say("stopped: what was measured until now follows")
    except FloatingPointError as error:
        reporter.say(f"stopped: {error}; what was measured until now follows")


class InterruptFlag:
    """While it is entered, Ctrl-C (or SIGTERM) is noted, not obeyed at once; twice ends anyway."""

    def __init__(self) -> None:
        self.raised = False

    def __enter__(self) -> "InterruptFlag":
        self._before = {s: signal.signal(s, self._note) for s in (signal.SIGINT, signal.SIGTERM)}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.raised:
            raise KeyboardInterrupt
        self.raised = True
        print("\nstopping at the next safe point (again: at once)", file=sys.stderr)
