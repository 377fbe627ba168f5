"""Runs in progress: a job in its run folder, with progress reports, stopped by Ctrl-C."""

from collections.abc import Callable, Sequence

from worldmodel import Job, Stage, Watcher, ranks
from worldmodel.experiments.runs.interruption import Interrupted, InterruptFlag
from worldmodel.job import Metrics
from worldmodel.progress import Reporter
from worldmodel.recorder import Recorder
from worldmodel.reports import ProgressReport, TimeReport
from worldmodel.run_folder import RunFolder


class Training:
    """A job that is recorded in a run folder; `restore` comes first, then `run`."""

    def __init__(
        self,
        folder: RunFolder,
        reporter: Reporter,
        job: Job,
        checkpoint_seconds: float = 30.0,
        watchers: Sequence[Watcher] = (),
    ):
        """watchers: of the job, besides those for metrics and progress."""
        self.job = job
        self.reporter = reporter
        self.watchers = watchers
        self.time_report = TimeReport(reporter)
        self.recorder = Recorder(folder, checkpoint_seconds)

    def restore(self) -> None:
        """Goes back to the run's checkpoint; where there is none yet, writes the first."""
        self.recorder.restore(self.job, self.reporter.say)

    def extend(self, steps: int) -> bool:
        """Adds steps to the job and saves the plan; False if the job cannot have more."""
        extend = getattr(self.job, "extend", None)
        if extend is None:
            return False
        extend(steps)
        self.recorder.save(self.job)
        return True

    def run(self, stop_after: Callable[[Job], bool] = lambda job: False) -> None:
        """Runs to the end. Ctrl-C or `stop_after` (called after every unit) saves and raises
        `Interrupted`; Ctrl-C in a unit that begins where all is saved, and that leaves nothing, a
        KeyboardInterrupt."""
        with InterruptFlag(lambda: self.job.is_looking) as flag:
            stopping = _Stopping(lambda: flag.raised or stop_after(self.job))
            progress = ProgressReport(self.reporter)
            watchers = (*self.watchers, self.recorder, progress, self.time_report, stopping)
            if not ranks.is_first():
                watchers = (self.recorder, self.time_report, stopping)
            if not self.job.run(*watchers):
                raise Interrupted

    @property
    def seconds(self) -> float:
        """Seconds of this run so far, without interruptions."""
        return self.recorder.seconds


class _Stopping(Watcher):
    """Stops a job after the unit at which a stop is requested."""

    def __init__(self, is_due: Callable[[], bool]):
        self.is_due = is_due

    def unit(self, job: Job, stage: Stage, metrics: Metrics) -> bool:
        return not self.is_due()
