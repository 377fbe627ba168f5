"""Watchers that report the progress of a job."""

from contextlib import ExitStack

from worldmodel.job import Job, Metrics, Stage, Watcher
from worldmodel.progress import Reporter, StageProgress


class ProgressReport(Watcher):
    """Reports the stages of a job as they go on."""

    def __init__(self, reporter: Reporter | None = None):
        self.reporter = reporter or Reporter()
        self._entered = ExitStack()
        self._stage: StageProgress

    def begin(self, job: Job, stage: Stage) -> None:
        doing, unit = job.titles[stage.kind]
        title = f"{doing} (round {stage.round + 1} of {job.rounds})" if job.rounds > 1 else doing
        entered = self.reporter.stage(title, stage.units, job.done, unit)
        self._stage = self._entered.enter_context(entered)

    def unit(self, job: Job, stage: Stage, metrics: Metrics) -> bool:
        self._stage.update(job.done, job.note(stage, metrics))
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
