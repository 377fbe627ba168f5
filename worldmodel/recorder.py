"""The record of a job in its run folder: metrics of every unit, checkpoints between units."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

from worldmodel import ranks
from worldmodel.checkpoint import (
    checkpoint_name,
    list_checkpoints,
    next_number,
    save_checkpoint,
    set_aside,
)
from worldmodel.files import DamagedError
from worldmodel.job import Job, Metrics, Stage, Watcher
from worldmodel.run_folder import Logged, RunFolder, logged_in


class Recorder(Watcher):
    """Logs every unit, and saves after every stage, when the job stops, and from time to time.

    The values of a checkpoint name the one after the best evaluation so far, `best`, which is
    kept as long as one of the two newest names it.
    """

    def __init__(self, folder: RunFolder, checkpoint_seconds: float = 30.0):
        """checkpoint_seconds: between checkpoints within a stage."""
        self.folder = folder
        self.checkpoint_seconds = checkpoint_seconds
        self.seconds_before = 0.0
        self.begun = self.saved = time.monotonic()
        self._logged = Logged()  # at the last checkpoint
        self._best: str | None = None  # checkpoint

    @property
    def seconds(self) -> float:
        """Seconds spent on the run so far, interruptions left out."""
        return self.seconds_before + time.monotonic() - self.begun

    def restore(self, job: Job, say: Callable[[str], None] = lambda text: None) -> None:
        """Puts a new job where the run's checkpoint left it; writes the first one where nothing
        has been recorded yet.

        say: called with a sentence about each checkpoint that an older, chosen one comes before:
        they are kept under other names.

        Raises DamagedError, and changes nothing, if the checkpoint or its metrics cannot be read.
        """
        folder = self.folder
        if not list_checkpoints(folder.checkpoints):
            if folder.metrics():
                raise DamagedError(
                    f"{folder.checkpoints} is empty, but the run has metrics: put its checkpoints "
                    "back, or train it again"
                )
            folder.truncate_metrics(0)
            self.save(job)
            return
        checkpoint = folder.checkpoint()
        self._logged = logged_in(checkpoint.values)
        folder.check_metrics(self._logged)
        with self._later_aside(say):
            job.restore(checkpoint)
        self._best = checkpoint.values.get("best")
        self.seconds_before, self.begun = checkpoint.values["seconds"], time.monotonic()
        folder.truncate_metrics(self._logged.size)

    @contextmanager
    def _later_aside(self, say: Callable[[str], None]) -> Iterator[None]:
        """Sets the checkpoints aside that are later than the chosen one, the newest first, before
        what they speak of is removed; after an error they are put back."""
        there, used = list_checkpoints(self.folder.checkpoints), self.folder.checkpoint_path
        moved = [(later, set_aside(later)) for later in reversed(there[there.index(used) + 1 :])]
        try:
            yield
        except BaseException:
            for later, aside in reversed(moved):
                aside.rename(later)
            raise
        for later, aside in reversed(moved):
            say(f"{later} is not used; it is kept as {aside}")

    def save(self, job: Job) -> None:
        """Writes a checkpoint."""
        tensors, values = job.state()
        self._logged = self.folder.logged(self._logged)
        values |= {"metrics_size": self._logged.size, "metrics_crc32": self._logged.crc32}
        values |= {"seconds": self.seconds}
        values |= {"saved": datetime.now(UTC).isoformat("T", "seconds")}
        number, before = next_number(self.folder.checkpoints), self._best
        if job.is_best:
            self._best = checkpoint_name(number)
        values |= {"best": self._best}
        save_checkpoint(
            self.folder.checkpoints,
            number,
            job.modules,
            tensors,
            values,
            spared=(before, self._best),
        )
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
