"""Traces of a few updates: where the time of a run goes, by torch's profiler."""

from pathlib import Path

from torch import profiler

from worldmodel import Job, Stage, Watcher
from worldmodel.job import Metrics

WARM_UP, TRACED = 3, 5  # units of a stage


class Profile(Watcher):
    """Writes a trace of some units of every kind of stage, its first time, as Chrome and Perfetto
    read them."""

    def __init__(self, folder: Path):
        """folder: to be made."""
        self.folder = folder
        self._traced: set[str] = set()  # kinds of stages
        self._running: profiler.profile | None = None

    def unit(self, job: Job, stage: Stage, metrics: Metrics) -> bool:
        if self._running is not None and job.done >= min(WARM_UP + TRACED, stage.units):
            self._write(stage)
        elif stage.kind not in self._traced and WARM_UP <= job.done < stage.units:
            self._traced.add(stage.kind)
            self._running = profiler.profile()  # of the processor, and of a GPU where there is one
            self._running.start()
        return True

    def close(self) -> None:
        if self._running is not None:
            self._running.stop()
            self._running = None

    def _write(self, stage: Stage) -> None:
        trace, self._running = self._running, None
        assert trace is not None
        trace.stop()
        self.folder.mkdir(exist_ok=True)
        trace.export_chrome_trace(str(self.folder / f"{stage.kind}.json.gz"))
