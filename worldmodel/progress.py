"""The progress of long jobs: units done, speed, and time left."""

import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Column

from worldmodel.errors import printable
from worldmodel.job import Job, Metrics, Stage, Watcher

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


class Pace:
    """Seconds that units of each kind of stage have taken, and what is left by these."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self.units: Counter[str] = Counter()
        self.last = 0.0

    def begin(self) -> None:
        """Called before the next unit."""
        self.last = time.monotonic()

    def note(self, stage: Stage) -> None:
        """Called after each unit of a stage."""
        now = time.monotonic()
        self.seconds[stage.kind] += now - self.last
        self.units[stage.kind] += 1
        self.last = now

    def left(self, job: Job) -> float | None:
        """Seconds until the end of a job; None while there is a kind of stage of which nothing is
        known, or where no stage comes later."""
        stages = job.stages[job.stage :]
        if len(stages) < 2 or any(not self.units[stage.kind] for stage in stages):
            return None
        left = -job.done * self._each(stages[0].kind)
        return left + sum(stage.units * self._each(stage.kind) for stage in stages)

    def _each(self, kind: str) -> float:
        return self.seconds[kind] / self.units[kind]


class ProgressReport(Watcher):
    """Reports the stages of a job as they go on, and for how long it goes on in all."""

    def __init__(self, reporter: Reporter | None = None):
        self.reporter = reporter or Reporter()
        self.pace = Pace()
        self._entered = ExitStack()
        self._stage: StageProgress

    def begin(self, job: Job, stage: Stage) -> None:
        doing, unit = job.titles[stage.kind]
        title = f"{doing} (round {stage.round + 1} of {job.rounds})" if job.rounds > 1 else doing
        entered = self.reporter.stage(title, stage.units, job.done, unit)
        self._stage = self._entered.enter_context(entered)
        self.pace.begin()

    def unit(self, job: Job, stage: Stage, metrics: Metrics) -> bool:
        self.pace.note(stage)
        self._stage.update(job.done, job.note(stage, metrics), self.pace.left(job))
        return True

    def end(self, job: Job, stage: Stage) -> None:
        self._entered.close()

    def close(self) -> None:
        self._entered.close()


class UpdatesReport(Watcher):
    """Reports the updates of a job as one stage, across its other stages."""

    def __init__(self, progress: StageProgress):
        self.progress = progress
        self.done = 0

    def unit(self, job: Job, stage: Stage, metrics: Metrics) -> bool:
        if stage.kind == "learn":
            self.done += 1
            self.progress.update(self.done, job.note(stage, metrics))
        return True
