"""Interruption of long work by Ctrl-C."""

import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from worldmodel import ranks
from worldmodel.progress import Reporter


class Interrupted(Exception):  # noqa: N818 (an order, not an error)
    """Raised after Ctrl-C, when everything is saved."""


@contextmanager
def stoppable(reporter: Reporter) -> Iterator[None]:
    """Context manager that ends at Ctrl-C or at a gradient that is not finite; results so far are
    kept."""
    try:
        yield
    except KeyboardInterrupt:
        reporter.say("stopped: what was measured until now follows")
    except FloatingPointError as error:
        reporter.say(f"stopped: {error}; what was measured until now follows")


class InterruptFlag:
    """Context manager that defers Ctrl-C and SIGTERM, unless nothing is lost by an end at once; a
    second one ends at once, but for where Python drops exceptions (as while it forks)."""

    def __init__(self, loses_nothing: Callable[[], bool] = lambda: False) -> None:
        self.raised = False
        self.loses_nothing = loses_nothing

    def __enter__(self) -> "InterruptFlag":
        self._before = {s: signal.signal(s, self._note) for s in (signal.SIGINT, signal.SIGTERM)}
        self._drop, sys.unraisablehook = sys.unraisablehook, self._dropped
        return self

    def __exit__(self, *_: object) -> None:
        sys.unraisablehook = self._drop
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.raised or self.loses_nothing():
            raise KeyboardInterrupt
        self.raised = True
        if ranks.size() == 1 or (ranks.is_first() and number == signal.SIGINT):
            print("\nstopping at the next safe point (again: at once)", file=sys.stderr)

    def _dropped(self, error: "sys.UnraisableHookArgs") -> None:
        """Prints no traceback of a Ctrl-C; it is stopped at the next safe point."""
        if error.exc_type is not KeyboardInterrupt:
            self._drop(error)
