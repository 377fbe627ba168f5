"""Watchers that report the progress of a job."""

import sys
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from contextlib import ExitStack

import torch

from worldmodel import timing
from worldmodel.job import Job, Metrics, Stage, Title, Watcher
from worldmodel.progress import Reporter, StageProgress, clock

MANY = 100  # a second, of which no fractions are told
TOLD = 0.01  # of the whole time, from which on reading or waiting is told


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


class TimeReport(Watcher):
    """Reports, when a job is left, where its time went, at what rates, and how much memory it took
    at most."""

    def __init__(self, reporter: Reporter, name: str = ""):
        """name: what the line begins with."""
        self.reporter = reporter
        self.name = name
        self.pace = Pace()
        self.steps: Counter[str] = Counter()  # by kind of stage
        self.titles: Mapping[str, Title] = {}
        self.begun = 0.0
        self.spent: Mapping[str, float] = {}  # before the job began

    def begin(self, job: Job, stage: Stage) -> None:
        if not self.titles:
            self.begun, self.spent = time.monotonic(), dict(timing.seconds)
            self.titles = job.titles
        self.pace.begin()

    def unit(self, job: Job, stage: Stage, metrics: Metrics) -> bool:
        self.pace.note(stage)
        self.steps[stage.kind] += job.steps(stage, metrics)
        return True

    def close(self) -> None:
        if not self.pace.units:
            return
        whole = max(time.monotonic() - self.begun, 1e-9)
        parts = [self._of(kind, whole) for kind in sorted(self.pace.seconds, key=self._seconds)]
        rest = 1 - sum(self.pace.seconds.values()) / whole
        shares = {
            what: (taken - self.spent.get(what, 0.0)) / whole
            for what, taken in timing.seconds.items()
        }
        inside = [f"{what} {share:.0%}" for what, share in shares.items() if share >= TOLD]
        text = ", ".join([*parts, f"the rest {rest:.0%}"])
        among = f" ({', '.join(inside)})" if inside else ""
        memory = ", ".join(f"{size / 2**20:,.0f} MiB {where}" for where, size in memory_used())
        most = f"; at most {memory}" if memory else ""
        self.reporter.say(f"{self.name}{clock(whole)} in all: {text}{among}{most}")

    def _seconds(self, kind: str) -> float:
        return -self.pace.seconds[kind]

    def _of(self, kind: str, whole: float) -> str:
        doing, unit = self.titles[kind]
        taken = max(self.pace.seconds[kind], 1e-9)
        if self.steps[kind]:
            unit = "steps"
        rate = (self.steps[kind] or self.pace.units[kind]) / taken
        shown = f"{rate:.3g}" if rate < MANY else f"{rate:,.0f}"
        return f"{doing} {taken / whole:.0%} at {shown} {unit}/s"


def memory_used() -> Iterator[tuple[str, int]]:
    """The most memory that this process took, and that its tensors took of each GPU, by place,
    bytes."""
    if sys.platform != "win32":
        yield "of memory", peak_memory()
    if torch.cuda.is_initialized():
        for number in range(torch.cuda.device_count()):
            if taken := torch.cuda.max_memory_allocated(number):
                yield f"of cuda:{number}", taken


def peak_memory() -> int:
    """The most resident memory that this process took so far, bytes."""
    import resource  # which Windows has not

    unit = 1 if sys.platform == "darwin" else 1024
    return unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


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
