"""Modalities whose recordings come from files."""

from abc import abstractmethod
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from worldmodel import EpisodeSource, Modality, nested
from worldmodel.experiments.data.readers.files import OnError, Recording, files_of
from worldmodel.experiments.recordings.config import RecordingsConfig
from worldmodel.experiments.runs.registry import named

Report = Callable[[str], None]


class FileModality(Modality):
    """Files that are read, a space, first and last layers, and how samples are shown.

    statistics: of the recordings that are learned from, JSON; in a run's folder they make
    everything that was read independent of the files.
    """

    shown: ClassVar[int] = 300  # frames of the samples that are shown while it learns
    suffixes: ClassVar[tuple[str, ...]]  # of files that are looked for in folders

    def __init__(self, data: Any, statistics: dict[str, Any]):
        """data: the experiment's own configuration of them."""
        self.data = data
        self.statistics = statistics

    @classmethod
    def first_statistics(cls, data: Any, report: Report) -> dict[str, Any]:
        """Those that are needed before anything can be read as numbers. Raises RunError where
        there is nothing to read."""
        files_of([Path(path) for path in data.data], cls.suffixes)
        return {}

    def statistics_of(self, train: EpisodeSource) -> dict[str, Any]:
        """Those of all that is learned from, once it was read as numbers."""
        return {}

    @abstractmethod
    def recordings(
        self, paths: Sequence[str], on_error: OnError, report: Report
    ) -> Iterator[Recording]:
        """All that is in files and folders, as numbers of the space."""

    def learned(self, report: Report) -> Iterator[Recording]:
        """The recordings that are learned from and validated on; those without a split get one
        from the caller."""
        return self.recordings(self.data.data, self.data.on_error, report)

    @abstractmethod
    def write(self, samples: list[Any], stem: Path, report: Report) -> list[Path]:
        """Files for people, of observations with leaves [T, ...] each."""

    def write_beside(
        self, samples: list[Any], real: list[Any], stem: Path, report: Report
    ) -> list[Path]:
        """The same, and as many real ones."""
        beside = stem.with_name(f"{stem.name}-real")
        return self.write(samples, stem, report) + self.write(real, beside, report)

    def prompt(self, given: str, length: int, report: Report) -> Any:
        """The beginning of samples, leaves [T, ...]: of a file, its first frames."""
        recording = next(self.recordings([given], "stop", report))
        return nested.index(recording.observation, slice(0, length))

    @property
    def orders(self) -> int:
        """Order of the n-gram baseline; 0 where frames are not classes."""
        return 0

    def words(self, sample: Any) -> str:
        """A sample for the log, where it can be read."""
        return ""

    def figures(self, nats: float) -> dict[str, float]:
        """Other figures of a loss, nats a frame."""
        return {}

    def parts(self, recording: Recording, nats: np.ndarray) -> Iterator[dict[str, Any]]:
        """The parts of a recording that `evaluate --each` lists; nats: losses of rows, [T]."""
        yield {"name": recording.name, "rows": len(nats), "nats": float(nats.sum())}


def modality_class(config: RecordingsConfig | type[RecordingsConfig]) -> type[FileModality]:
    """The modality that a configuration names; imported when it is asked for."""
    return named(config.modality)
