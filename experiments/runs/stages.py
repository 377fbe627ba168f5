"""Runs in progress: stages of units, and checkpoints between units."""

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any, ClassVar, NamedTuple

import torch
from torch import nn

from worldmodel.checkpoint import Checkpoint, load_newest, next_number, save_checkpoint
from worldmodel.experiments.runs.progress import Interrupted, InterruptFlag, Reporter
from worldmodel.run_folder import RunError, RunFolder


class Stage(NamedTuple):
    """A part of a job that is counted in units."""

    kind: str
    round: int
    units: int


class Told(NamedTuple):
    """What a person is told of a kind of stage: "learning: 300/1000  12 updates/s"."""

    doing: str
    unit: str


class Training(ABC):
    """A run in progress: everything that its next unit depends on, saved and restored whole.

    A subclass builds its parts anew from the run's configuration; `restore` then fills them.
    """

    told: ClassVar[Mapping[str, Told]]  # by kind of stage
    rounds: int

    def __init__(self, folder: RunFolder, reporter: Reporter, checkpoint_seconds: float):
        self.folder = folder
        self.reporter = reporter
        self.checkpoint_seconds = checkpoint_seconds
        self.seconds_before = 0.0
        self.begun = self.saved = time.monotonic()
        self.stages: list[Stage] = []
        self.stage, self.done = 0, 0

    @property
    @abstractmethod
    def modules(self) -> dict[str, nn.Module]:
        """All that has weights, by name."""

    @abstractmethod
    def work(self, stage: Stage) -> str:
        """Does one unit; a word about it."""

    @abstractmethod
    def tensors(self) -> dict[str, Any]:
        """What else the next unit depends on, for `torch.save`."""

    @abstractmethod
    def values(self) -> dict[str, Any]:
        """What else the next unit depends on, for JSON."""

    @abstractmethod
    def load(self, tensors: dict[str, Any], values: dict[str, Any]) -> None:
        """Takes `tensors` and `values` back; the weights are there already."""

    def end_stage(self) -> None:  # noqa: B027 (most leave nothing)
        """What a stage leaves behind for the next one."""

    def run(self, stop_after: Callable[[Any], bool] = lambda training: False) -> None:
        """Goes on to the end. Ctrl-C, or `stop_after` (asked after every unit), saves and raises
        `Interrupted`."""
        self.saved = time.monotonic()
        with InterruptFlag() as flag:
            while self.stage < len(self.stages):
                for _ in self._units(self.stages[self.stage]):
                    if flag.raised or stop_after(self):
                        self.save()
                        raise Interrupted
                    if time.monotonic() - self.saved > self.checkpoint_seconds:
                        self.save()
                self.stage, self.done = self.stage + 1, 0
                self.end_stage()
                self.save()

    @property
    def seconds(self) -> float:
        """Spent on this run so far, interruptions left out."""
        return self.seconds_before + time.monotonic() - self.begun

    def log(self, stage: Stage, **metrics: Any) -> None:
        """A line of metrics.jsonl."""
        where = {"stage": stage.kind, "round": stage.round, "unit": self.done + 1}
        self.folder.log(where | metrics | {"seconds": round(self.seconds, 3)})

    def save(self) -> None:
        """Writes a checkpoint."""
        number = next_number(self.folder.checkpoints)
        tensors = self.tensors() | {"random": torch.get_rng_state()}
        values = self.values() | {
            "stage": self.stage,
            "done": self.done,
            "seconds": self.seconds,
            "saved": datetime.now(UTC).isoformat("T", "seconds"),
            "metrics_size": self.folder.metrics_size(),
        }
        save_checkpoint(self.folder.checkpoints, number, self.modules, tensors, values)
        self.saved = time.monotonic()

    def restore(self) -> None:
        """Goes back to the newest checkpoint that can be read; without one, writes the first."""
        try:
            checkpoint, problems = load_newest(self.folder.checkpoints)
        except FileNotFoundError:
            self.save()
            return
        for problem in problems:
            self.reporter.say(f"{problem}; going on from the checkpoint before it")
        values = checkpoint.values
        checkpoint.load(self.modules)
        self.stage, self.done = values["stage"], values["done"]
        self.seconds_before, self.begun = values["seconds"], time.monotonic()
        self.load(checkpoint.state, values)
        self.folder.truncate_metrics(values["metrics_size"])
        torch.set_rng_state(checkpoint.state["random"])

    def _units(self, stage: Stage) -> Iterator[None]:
        """Does what is left of a stage, unit by unit."""
        doing, unit = self.told[stage.kind]
        title = f"{doing} (round {stage.round + 1} of {self.rounds})" if self.rounds > 1 else doing
        with self.reporter.stage(title, stage.units, self.done, unit) as progress:
            while self.done < stage.units:
                note = self.work(stage)
                self.done += 1
                progress.update(self.done, note)
                yield


def newest_checkpoint(folder: RunFolder) -> Checkpoint:
    """A run as it last was."""
    try:
        return load_newest(folder.checkpoints)[0]
    except FileNotFoundError as error:
        raise RunError(
            f"{error}; `worldmodel resume {folder.path}` goes on with the run"
        ) from error
