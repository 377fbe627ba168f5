"""Learns sequences: text, music, speech, pen strokes, all in the same way.

    worldmodel train text --corpus FILE --out RUN

Reads everything once into the run's folder, learns, and from time to time validates the average of
its weights, keeps the best, and shows what it dreams. What to expect stands in docs/results.md.
"""

from typing import Any, ClassVar

import numpy as np
import torch
from torch import nn

from worldmodel.checkpoint import list_checkpoints
from worldmodel.experiments.recordings.config import RecordingsConfig
from worldmodel.experiments.recordings.dreaming import dream
from worldmodel.experiments.recordings.kind import kind_of_config
from worldmodel.experiments.recordings.learning import (
    Learner,
    Validation,
    model_of,
    standardise,
    updates_within,
)
from worldmodel.experiments.recordings.shelf import examples, shelf, take_in
from worldmodel.experiments.runs.registry import config_of
from worldmodel.experiments.runs.training import Stage, Told, Training as Run
from worldmodel.noise import OwnNoise
from worldmodel.progress import Reporter
from worldmodel.run_folder import RunFolder

SHOWN_LOG = 200  # characters of it, for the log


def check(config: RecordingsConfig) -> None:
    """Says what is wrong with the recordings or the model, before a run's folder is made."""
    of_kind = kind_of_config(config)
    facts = of_kind.first_facts(config.data, lambda line: None)
    model_of(of_kind(config.data, facts), config.model)


class Training(Run):
    """A run in progress."""

    told: ClassVar[dict[str, Told]] = {
        "learn": Told("learning", "updates"),
        "validate": Told("validating", "times"),
    }

    def __init__(self, folder: RunFolder, reporter: Reporter):
        self.config: RecordingsConfig = config_of(folder)
        super().__init__(folder, reporter, self.config.checkpoint_seconds)
        torch.set_num_threads(self.config.threads)
        self.kind = take_in(folder, reporter)
        self.seeds = np.random.SeedSequence(self.config.seed).generate_state(3).tolist()
        learning = self.config.learning
        self.rounds = learning.validations
        self.learner = self._learner(learning.updates)
        if learning.minutes and not list_checkpoints(folder.checkpoints):  # those know
            self.learner = self._learner(updates_within(learning.minutes, self.learner))
        self._plan()
        self.validation = Validation(self.kind, shelf(folder, "valid"), learning, self.seeds[1])

    @property
    def modules(self) -> dict[str, nn.Module]:
        return self.learner.modules

    def work(self, stage: Stage) -> str:
        return self._learn(stage) if stage.kind == "learn" else self._validate(stage)

    def _learn(self, stage: Stage) -> str:
        metrics = self.learner.update()
        self.log(stage, **metrics)
        return f"loss {metrics['nats']:.4f} nats per {self.kind.frame}"

    def _validate(self, stage: Stage) -> str:
        seed = self.seeds[2] + stage.round
        with OwnNoise(seed)():
            nats = self.learner.validate(self.validation)
        self.log(stage, valid_nats=nats, updates=self.learner.trainer.updates)
        self._show(stage, seed)
        return (
            f"loss {nats:.4f} nats per {self.kind.frame} of the held-out recordings, "
            f"the best {self.learner.best_nats:.4f}"
        )

    def _show(self, stage: Stage, seed: int) -> None:
        """What the average of the weights dreams."""
        with OwnNoise(seed)():
            (sample,) = dream(self.learner.averaged, self.kind, self.kind.shown, 1)
        folder = self.folder.path / "samples"
        folder.mkdir(exist_ok=True)
        self.kind.write([sample], folder / f"{stage.round + 1:03d}", lambda line: None)
        if words := self.kind.words(sample):
            self.reporter.say(f"dreams: {words[:SHOWN_LOG]!r}")

    def tensors(self) -> dict[str, Any]:
        return self.learner.state_dict()

    def values(self) -> dict[str, Any]:
        return self.learner.values()

    def load(self, tensors: dict[str, Any], values: dict[str, Any]) -> None:
        self.learner.load(tensors, values)
        self._plan()

    def _plan(self) -> None:
        """Learning, and after each part of it a look at the held-out recordings."""
        parts = np.array_split(np.arange(self.learner.updates), self.rounds)
        self.stages = []
        for number, part in enumerate(parts):
            if len(part):
                self.stages += [Stage("learn", number, len(part)), Stage("validate", number, 1)]

    def _learner(self, updates: int) -> Learner:
        torch.manual_seed(self.config.seed)
        model = model_of(self.kind, self.config.model)
        train = shelf(self.folder, "train")
        standardise(model, examples(train))
        return Learner(model, self.kind, train, self.config.learning, updates, self.seeds[0])
