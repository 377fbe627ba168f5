"""Long work in stages of units, which can be stopped, saved and resumed between any two."""

from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping, Sequence
from typing import Any, ClassVar, NamedTuple

from torch import nn

from worldmodel import ranks
from worldmodel.checkpoint import Checkpoint
from worldmodel.files import RunError
from worldmodel.noise import OwnNoise, get_states

Metrics = dict[str, Any]


class Stage(NamedTuple):
    """A part of a job that is counted in units."""

    kind: str  # a key of the job's `titles`
    round: int
    units: int


class Title(NamedTuple):
    """The words for a kind of stage: "learning: 300/1000  12 updates/s"."""

    doing: str
    unit: str


class Watcher:
    """An observer of a job; each method does nothing here."""

    def begin(self, job: "Job", stage: Stage) -> None:
        """Called before the next unit of a stage, at its beginning and where a job goes on."""

    def unit(self, job: "Job", stage: Stage, metrics: Metrics) -> bool:
        """Called after each unit; returning False stops the job there."""
        return True

    def end(self, job: "Job", stage: Stage) -> None:
        """Called after a stage."""

    def stop(self, job: "Job") -> None:
        """Called when a job stops before its end, after the unit at which a watcher stopped it."""

    def close(self) -> None:
        """Called when `Job.run` is left, in any way."""


class Job(ABC):
    """Work in stages; everything that the next unit depends on is saved and restored whole.

    Between two units the job is its `modules`, its `tensors`, its `values`, and its `noise`: it
    draws from a stream of its own, so the same seed gives the same results whatever else a program
    draws from torch's global generator, which is left alone.
    """

    titles: ClassVar[Mapping[str, Title]]  # by kind of stage
    looks: ClassVar[frozenset[str]] = frozenset()
    """Kinds of stages, of one unit each, that leave nothing but metrics."""

    def __init__(self, seed: int):
        self.noise = OwnNoise(seed)
        self._is_running = False
        self.has_weights_alone = False  # of a packed run, which cannot be gone on with
        self.is_looking = False  # at work on a unit of one of `looks`, before which all was saved
        self.stages: list[Stage] = []
        self.stage = 0  # the place of the current stage in `stages`
        self.done = 0  # units of it

    @property
    @abstractmethod
    def modules(self) -> dict[str, nn.Module]:
        """Everything that has weights, by name."""

    @property
    def shown(self) -> Collection[str]:
        """The names of those modules that are read where nothing is gone on with."""
        return self.modules.keys()

    @abstractmethod
    def work(self, stage: Stage) -> Metrics:
        """Does one unit; returns its metrics, numbers (or lists of them) by name."""

    def steps(self, stage: Stage, metrics: Metrics) -> int:
        """The steps of an environment, real or dreamt, that a unit took."""
        return 0

    def note(self, stage: Stage, metrics: Metrics) -> str:
        """A short report on a unit, as text."""
        return ""

    def end_stage(self, stage: Stage) -> None:  # noqa: B027 (most leave nothing)
        """Ends a stage, and prepares the next one."""

    def rest(self) -> None:  # noqa: B027 (most hold nothing)
        """Called when `run` is left, in any way: lets go of what is made anew when needed."""

    @abstractmethod
    def tensors(self) -> dict[str, Any]:
        """Tensors that the next unit depends on besides the weights, for `torch.save`."""

    @abstractmethod
    def values(self) -> dict[str, Any]:
        """Plain values that the next unit depends on besides, for JSON."""

    def build(self, values: Mapping[str, Any]) -> None:  # noqa: B027 (most are built at once)
        """Makes the modules that saved `values` describe, before their weights are loaded."""

    @abstractmethod
    def load(self, tensors: Mapping[str, Any], values: Mapping[str, Any]) -> None:
        """Takes `tensors` and `values` back; the weights are there already."""

    @property
    def rounds(self) -> int:
        """The number of rounds of stages, finished ones too."""
        return 1 + max((stage.round for stage in self.stages), default=0)

    @property
    def is_best(self) -> bool:
        """True where the last evaluation was the best so far: a checkpoint of it is kept."""
        return False

    @property
    def is_done(self) -> bool:
        """True once no stage is left."""
        return self.stage >= len(self.stages)

    def run(self, *watchers: Watcher) -> bool:
        """Does what is left; stops after a unit if a watcher returns False. Returns `is_done`."""
        if self.has_weights_alone:
            raise RunError(
                "this was loaded from a packed run, which holds what was learned and not what "
                "learning goes on from (optimizers, random states): load the run's own folder, or "
                "learn anew"
            )
        with self.noise():
            self._is_running = True
            try:
                if not self._run(watchers):
                    for watcher in watchers:
                        watcher.stop(self)
            finally:
                self._is_running = False
                self.rest()
                for watcher in watchers:
                    watcher.close()
        return self.is_done

    def _run(self, watchers: Sequence[Watcher]) -> bool:
        while not self.is_done:
            stage = self.stages[self.stage]
            for watcher in watchers:
                watcher.begin(self, stage)
            while self.done < stage.units:
                self.is_looking = stage.kind in self.looks
                metrics = self.work(stage)
                self.is_looking = False
                self.done += 1
                goes_on = all([watcher.unit(self, stage, metrics) for watcher in watchers])
                if ranks.any_of(not goes_on):  # all ranks stop after the same unit
                    return False
            self.stage, self.done = self.stage + 1, 0
            self.end_stage(stage)
            for watcher in watchers:
                watcher.end(self, stage)
        return True

    def state(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """`tensors` and `values`, with the noise and the place in the stages; of several ranks,
        which call it together, that of all."""
        noise = get_states() if self._is_running else self.noise.state
        values = self.values() | {"stage": self.stage, "done": self.done}
        return self.tensors() | {"noise": noise}, values

    def restore(self, checkpoint: Checkpoint) -> None:
        """Goes on from a checkpoint of `modules` and `state`, or shows one of `shown` alone."""
        self.build(checkpoint.values)
        self.stage, self.done = checkpoint.values["stage"], checkpoint.values["done"]
        self.has_weights_alone = not checkpoint.state
        if self.has_weights_alone:
            checkpoint.load({name: self.modules[name] for name in self.shown})
            return
        checkpoint.load(self.modules)
        self.load(checkpoint.state, checkpoint.values)
        self.noise.state = checkpoint.state["noise"]
