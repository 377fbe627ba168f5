"""Modalities whose recordings come from files."""

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from worldmodel import EpisodeSource, Modality, nested
from worldmodel.experiments.data.readers.files import OnError, Recording, Report, files_of
from worldmodel.experiments.recordings.config import RecordingsConfig
from worldmodel.experiments.runs.registry import named


class FileModality(Modality):
    """Recordings in files: their reader, space, first and last layers, and writer of samples.

    statistics: of the training recordings, JSON; a run's folder holds them, and so needs the
    files no more.
    """

    shown: ClassVar[int] = 300  # frames of the samples that are written in training
    suffixes: ClassVar[tuple[str, ...]]  # of files that are searched for in folders

    def __init__(self, data: Any, statistics: dict[str, Any]):
        """data: the experiment's options of the recordings."""
        self.data = data
        self.statistics = statistics

    @classmethod
    def first_statistics(cls, data: Any, report: Report) -> dict[str, Any]:
        """Statistics that encoding the recordings needs. Raises RunError where there are no
        files."""
        files_of([Path(path) for path in data.data], cls.suffixes)
        return {}

    def statistics_of(self, train: EpisodeSource) -> dict[str, Any]:
        """Statistics of the encoded training recordings."""
        return {}

    @abstractmethod
    def recordings(
        self, paths: Sequence[str], on_error: OnError, report: Report
    ) -> Iterator[Recording]:
        """All recordings in files and folders, encoded as elements of the space."""

    def learned(self, report: Report) -> Iterator[Recording]:
        """The recordings for training and validation; the caller assigns a split to those without
        one."""
        return self.recordings(self.data.data, self.data.on_error, report)

    @abstractmethod
    def write(self, samples: list[Any], stem: Path, report: Report) -> list[Path]:
        """Writes samples, leaves [T, ...] each, in common formats; returns the files."""

    def write_beside(
        self, samples: list[Any], real: list[Any], stem: Path, report: Report
    ) -> list[Path]:
        """Writes samples, and as many real recordings; returns the files."""
        beside = stem.with_name(f"{stem.name}-real")
        return self.write(samples, stem, report) + self.write(real, beside, report)

    def prompt(self, given: str, length: int, report: Report) -> Any:
        """The beginning of samples, leaves [T, ...]: the first frames of a file."""
        recording = next(self.recordings([given], "stop", report))
        return nested.index(recording.observation, slice(0, length))

    def steering_of(self, given: str, length: int, beyond: int) -> np.ndarray | None:
        """The actions of a prompt and of the frames `beyond` it, [T, ...]; None: those of the
        modality's agent."""
        return None

    @property
    def orders(self) -> int:
        """Order of the n-gram baseline; 0 where frames are not classes."""
        return 0

    def words(self, sample: Any) -> str:
        """A sample as text for the log; "" where it has none."""
        return ""

    def figures(self, nats: float) -> dict[str, float]:
        """Other figures of a loss, by name. nats: per frame."""
        return {}

    def parts(self, recording: Recording, nats: np.ndarray) -> Iterator[dict[str, Any]]:
        """The parts of a recording that `evaluate --each` lists; nats: losses of rows, [T]."""
        yield {"name": recording.name, "rows": len(nats), "nats": float(nats.sum())}


def modality_class(config: RecordingsConfig | type[RecordingsConfig]) -> type[FileModality]:
    """The modality that a configuration names, imported on demand."""
    return named(config.modality)
