"""The progress of long jobs: units done, speed, and time left."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Column

from worldmodel.errors import printable

QUIET_SECONDS = 10.0  # between lines, where there is no terminal
BAR = 12  # columns,
WIDE = 100  # on terminals of so many


class Reporter:
    """Progress of one stage after another: a bar on a terminal, plain lines elsewhere."""

    def __init__(self, console: Console | None = None):
        self.console = console or Console(stderr=True, highlight=False)
        self._noted = "", 0, 0.0  # what was noted last, how far it was, and when

    def say(self, text: str) -> None:
        self.console.print(printable(text), markup=False, soft_wrap=True)

    def note(self, what: str, done: int, total: int) -> None:
        """Prints how far something has come: when it begins, when it ends, and now and then."""
        now, (noted, how_far, at) = time.monotonic(), self._noted
        is_worth_it = what != noted or done == total or now - at > QUIET_SECONDS
        if is_worth_it and (what, done) != (noted, how_far):
            self._noted = what, done, now
            self.say(f"{what}: {done}/{total}")

    @contextmanager
    def stage(self, title: str, total: int, done: int, unit: str) -> Iterator["StageProgress"]:
        """Opens a stage of `total` units, `done` of which are done already."""
        if not self.console.is_terminal:
            yield StageProgress(self, title, total, done, unit, None)
            return
        whatever_fits = Column(ratio=1, no_wrap=True, overflow="ellipsis")
        columns = (
            TextColumn("{task.description}"),
            *[BarColumn(BAR)] * (self.console.width >= WIDE),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}", table_column=whatever_fits),
        )
        with Progress(*columns, console=self.console, expand=True) as progress:
            yield StageProgress(self, title, total, done, unit, progress)


class StageProgress:
    """The progress of one stage."""

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

    def update(self, done: int, note: str = "", in_all: float | None = None) -> None:
        """Sets the number of units done. in_all: seconds left of this and all later stages."""
        now = time.monotonic()
        rate = (done - self.done_before) / max(now - self.begun, 1e-9)
        text = f"{rate:.4g} {self.unit}/s  {note}"
        if self.progress is not None:
            text = text if in_all is None else f"of {clock(in_all)} in all  {text}"
            self.progress.update(self.task, completed=done, note=text)
        elif now - self.last_line > QUIET_SECONDS or done == self.total:
            self.last_line = now
            left = (self.total - done) / max(rate, 1e-9)
            whole = "" if in_all is None else f", in all {in_all:.0f} s"
            said = f"{self.title}: {done}/{self.total}  {text}  {left:.0f} s left{whole}"
            self.reporter.say(said)


def clock(seconds: float) -> str:
    """A duration, as progress bars have it.

    >>> clock(5025.4)
    '1:23:45'
    """
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}"
