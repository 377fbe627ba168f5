"""Says what a long job does, how fast, and how long it will still take."""

import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

QUIET_SECONDS = 10.0  # between lines, where there is no terminal


class Interrupted(Exception):  # noqa: N818 (an order, not an error)
    """Somebody pressed Ctrl-C, and what had to be saved is saved."""


class Reporter:
    """Progress of one stage after another: a bar on a terminal, plain lines elsewhere."""

    def __init__(self, console: Console | None = None):
        self.console = console or Console(stderr=True, highlight=False)
        self._noted = "", 0, 0.0  # what was noted last, how far it was, and when

    def say(self, text: str) -> None:
        self.console.print(text, markup=False, soft_wrap=True)

    def note(self, what: str, done: int, total: int) -> None:
        """Says how far something has come: when it begins, when it ends, and now and then."""
        now, (noted, how_far, at) = time.monotonic(), self._noted
        is_worth_it = what != noted or done == total or now - at > QUIET_SECONDS
        if is_worth_it and (what, done) != (noted, how_far):
            self._noted = what, done, now
            self.say(f"{what}: {done}/{total}")

    @contextmanager
    def stage(self, title: str, total: int, done: int, unit: str) -> Iterator["Stage"]:
        """A stage of `total` units, `done` of which are done already."""
        if not self.console.is_terminal:
            yield Stage(self, title, total, done, unit, None)
            return
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[note]}"),
            TimeRemainingColumn(),
        )
        with Progress(*columns, console=self.console) as progress:
            yield Stage(self, title, total, done, unit, progress)


class Stage:
    """One stage in progress."""

    def __init__(
        self,
        reporter: Reporter,
        title: str,
        total: int,
        done: int,
        unit: str,
        progress: Progress | None,
    ):
        self.reporter = reporter
        self.title = title
        self.total = total
        self.begun = time.monotonic()
        self.done_before = done
        self.unit = unit
        self.progress = progress
        self.last_line = self.begun
        if progress is not None:
            self.task = progress.add_task(title, total=total, completed=done, note="")
        else:
            reporter.say(f"{title}: {total} {unit}")

    def update(self, done: int, note: str = "") -> None:
        """`done` units are done by now."""
        now = time.monotonic()
        rate = (done - self.done_before) / max(now - self.begun, 1e-9)
        text = f"{rate:.4g} {self.unit}/s  {note}"
        if self.progress is not None:
            self.progress.update(self.task, completed=done, note=text)
        elif now - self.last_line > QUIET_SECONDS or done == self.total:
            self.last_line = now
            left = (self.total - done) / max(rate, 1e-9)
            self.reporter.say(f"{self.title}: {done}/{self.total}  {text}  {left:.0f} s left")


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
