"""Watchers that report the progress of a job."""

import time
from collections import Counter, defaultdict
from contextlib import ExitStack

from worldmodel.job import Job, Metrics, Stage, Watcher
from worldmodel.progress import Reporter, StageProgress


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
