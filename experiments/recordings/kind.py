"""What sets one kind of recordings apart from the others: all else is the same for all."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from gymnasium import spaces

from worldmodel import (
    Agent,
    DistModule,
    Encoder,
    EpisodeSource,
    NullAgent,
    encoder_for,
    head_for,
    nested,
)
from worldmodel.codecs import by_path
from worldmodel.experiments.data.readers.files import OnError, Recording, files_of
from worldmodel.experiments.recordings.config import RecordingsConfig
from worldmodel.experiments.runs.registry import named

Report = Callable[[str], None]
NOBODY = spaces.Box(-1.0, 1.0, (0,))


class Kind(ABC):
    """Files that are read, a space, first and last layers, and how samples are shown.

    facts: what the recordings that are learned from told, JSON; in a run's folder they make
    everything that was read independent of the files.
    """

    frame: ClassVar[str]  # what a row is called
    action_space: spaces.Space = NOBODY
    default_head: str
    shown: ClassVar[int] = 300  # frames of the samples that are shown while it learns
    suffixes: ClassVar[tuple[str, ...]]  # of files that are looked for in folders

    def __init__(self, data: Any, facts: dict[str, Any]):
        """data: the experiment's own configuration of them."""
        self.data = data
        self.facts = facts

    @classmethod
    def first_facts(cls, data: Any, report: Report) -> dict[str, Any]:
        """What has to be known before anything can be read as numbers. Raises RunError where there
        is nothing to read."""
        files_of([Path(path) for path in data.data], cls.suffixes)
        return {}

    def facts_of(self, train: EpisodeSource) -> dict[str, Any]:
        """What is known once all that is learned from was read as numbers."""
        return {}

    @property
    @abstractmethod
    def observation_space(self) -> spaces.Space:
        """What a frame is."""

    @property
    def has_density(self) -> bool:
        """Whether figures are of densities: real numbers are among those of a frame."""
        return any(
            isinstance(part, spaces.Box) and np.issubdtype(part.dtype, np.floating)
            for part in by_path(self.observation_space).values()
        )

    @abstractmethod
    def recordings(
        self, paths: Sequence[str], on_error: OnError, report: Report
    ) -> Iterator[Recording]:
        """All that is in files and folders, as numbers of the space."""

    def learned(self, report: Report) -> Iterator[Recording]:
        """What is learned from and validated on; what has no split gets one by whoever asks."""
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

    def agent(self) -> Agent:
        """Who looks on."""
        return NullAgent()

    def actions(self, length: int) -> np.ndarray:
        """What that one does in a recording of so many rows, [T, ...]; the first is void."""
        return np.zeros((length, 0), np.float32)

    def encoder(self) -> Encoder:
        return encoder_for(self.observation_space)

    def head(self, name: str, input_size: int, **options: Any) -> DistModule:
        name = self.default_head if name == "default" else name
        return head_for(name, self.observation_space, input_size, **options)

    def prompt(self, told: str, length: int, report: Report) -> Any:
        """What a sample begins with, leaves [T, ...]: of a file, its first frames."""
        recording = next(self.recordings([told], "stop", report))
        return nested.index(recording.observation, slice(0, length))

    def correction(self, observation: Any) -> Any:
        """Nats that are added to the log likelihoods of frames, leaves [*, ...] -> a number or
        [*], where figures are told of other values than those that the model is shown."""
        return 0.0

    @property
    def orders(self) -> int:
        """How many frames in a row are worth counting, for floors beside a model: of classes."""
        return 0

    def words(self, sample: Any) -> str:
        """A sample for the log, where it can be read."""
        return ""

    def figures(self, nats: float) -> dict[str, float]:
        """What else is told of a loss, nats a frame."""
        return {}

    def parts(self, recording: Recording, nats: np.ndarray) -> Iterator[dict[str, Any]]:
        """What `evaluate --each` lists of a recording, whose rows have losses [T], nats."""
        yield {"name": recording.name, "rows": len(nats), "nats": float(nats.sum())}


def kind_of_config(config: RecordingsConfig) -> type[Kind]:
    """The kind of recordings that a configuration names; imported when it is met."""
    return named(config.modality)
