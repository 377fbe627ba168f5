"""The record of a job in its run folder: metrics of every unit, checkpoints between units."""

import time
from collections.abc import Callable
from datetime import UTC, datetime

from worldmodel.checkpoint import load_newest, next_number, save_checkpoint
from worldmodel.job import Job, Metrics, Stage, Watcher
from worldmodel.run_folder import RunFolder


class Recorder(Watcher):
    """Logs every unit, and saves after every stage, when the job stops, and from time to time."""

    def __init__(self, folder: RunFolder, checkpoint_seconds: float = 30.0):
        """checkpoint_seconds: between checkpoints within a stage."""
        self.folder = folder
        self.checkpoint_seconds = checkpoint_seconds
        self.seconds_before = 0.0
        self.begun = self.saved = time.monotonic()

    @property
    def seconds(self) -> float:
        """Seconds spent on the run so far, interruptions left out."""
        return self.seconds_before + time.monotonic() - self.begun

    def restore(self, job: Job, say: Callable[[str], None] = lambda text: None) -> None:
        """Puts a new job where the newest checkpoint that can be read left it; without one, writes
        the first.

        say: called with a sentence about each checkpoint that cannot be read.
        """
        try:
            checkpoint, problems = load_newest(self.folder.checkpoints)
        except FileNotFoundError:
            self.folder.truncate_metrics(0)
            self.save(job)
            return
        for problem in problems:
            say(f"{problem}; going on from the checkpoint before it")
        job.restore(checkpoint)
        self.seconds_before, self.begun = checkpoint.values["seconds"], time.monotonic()
        self.folder.truncate_metrics(checkpoint.values["metrics_size"])

    def save(self, job: Job) -> None:
        """Writes a checkpoint."""
        tensors, values = job.state()
        values |= {"seconds": self.seconds, "metrics_size": self.folder.metrics_size()}
        values |= {"saved": datetime.now(UTC).isoformat("T", "seconds")}
        number = next_number(self.folder.checkpoints)
        save_checkpoint(self.folder.checkpoints, number, job.modules, tensors, values)
        self.saved = time.monotonic()

    def unit(self, job: Job, stage: Stage, metrics: Metrics) -> bool:
        where = {"stage": stage.kind, "round": stage.round, "unit": job.done}
        self.folder.log(where | metrics | {"seconds": round(self.seconds, 3)})
        if time.monotonic() - self.saved > self.checkpoint_seconds:
            self.save(job)
        return True

    def end(self, job: Job, stage: Stage) -> None:
        self.save(job)

    def stop(self, job: Job) -> None:
        self.save(job)
