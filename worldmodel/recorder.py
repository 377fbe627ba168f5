"""The record of a job in its run folder: metrics of every unit, checkpoints between units."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

from worldmodel import ranks
from worldmodel.checkpoint import (
    checkpoint_name,
    list_checkpoints,
    next_number,
    save_checkpoint,
    set_aside,
)
from worldmodel.files import DamagedError, RunError
from worldmodel.job import Job, Metrics, Stage, Watcher
from worldmodel.run_folder import Logged, RunFolder, logged_in


class Recorder(Watcher):
    """Logs every unit, and saves after every stage, when the job stops, and from time to time.

    The values of a checkpoint name the one after the best evaluation so far, `best`, which is
    kept as long as one of the two newest names it. Of several ranks the first one writes, and all
    read.
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
        if ranks.of_first(lambda: not list_checkpoints(folder.checkpoints)):
            if ranks.is_first() and folder.metrics():
                raise DamagedError(
                    f"{folder.checkpoints} is empty, but the run has metrics: put its checkpoints "
                    "back, or train it again"
                )
            if ranks.is_first():
                folder.truncate_metrics(0)
            self.save(job)
            return
        folder = folder.at(ranks.of_first(lambda: folder.checkpoint_path.name))
        checkpoint = folder.checkpoint()
        self._logged = logged_in(checkpoint.values)
        if ranks.is_first():
            folder.check_metrics(self._logged)
        with self._later_aside(say):
            job.restore(checkpoint)
        self._best = checkpoint.values.get("best")
        self.seconds_before, self.begun = checkpoint.values["seconds"], time.monotonic()
        if ranks.is_first():
            folder.truncate_metrics(self._logged.size)

    @contextmanager
    def _later_aside(self, say: Callable[[str], None]) -> Iterator[None]:
        """Sets the checkpoints aside that are later than the chosen one, the newest first, before
        what they speak of is removed. They are put back where the chosen one is refused, which
        comes before that; after any other end (a full disk, Ctrl-C) they stay aside."""
        there, used = list_checkpoints(self.folder.checkpoints), self.folder.checkpoint_path
        later = there[there.index(used) + 1 :] if ranks.is_first() else []
        moved = [(path, set_aside(path)) for path in reversed(later)]
        try:
            yield
        except (RunError, ValueError):
            while moved:
                path, aside = moved.pop()
                aside.rename(path)
            raise
        finally:
            for path, aside in reversed(moved):
                say(f"{path} is not used; it is kept as {aside}")

    def save(self, job: Job) -> None:
        """Writes a checkpoint."""
        tensors, values = job.state()
        weights = {name: module.state_dict() for name, module in job.modules.items()}
        ranks.check_alike((weights, tensors["noise"]), "the weights")
        if ranks.is_first():
            self._write(job, tensors, values)
        self.saved = time.monotonic()

    def _write(self, job: Job, tensors: dict[str, Any], values: dict[str, Any]) -> None:
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

    def unit(self, job: Job, stage: Stage, metrics: Metrics) -> bool:
        where = {"stage": stage.kind, "round": stage.round, "unit": job.done}
        if ranks.is_first():
            self.folder.log(where | metrics | {"seconds": round(self.seconds, 3)})
        if ranks.of_first(lambda: time.monotonic() - self.saved > self.checkpoint_seconds):
            self.save(job)
        return True

    def end(self, job: Job, stage: Stage) -> None:
        self.save(job)

    def stop(self, job: Job) -> None:
        self.save(job)
