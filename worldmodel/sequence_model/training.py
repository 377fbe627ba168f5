"""Learning of sequences: recordings are read in order, the average of the weights validated."""

import copy
import json
import math
from collections.abc import Callable, Collection, Mapping
from functools import partial
from typing import Any, ClassVar

import numpy as np
import torch
from torch import nn

from worldmodel import ranks
from worldmodel.codecs import ObservationDecoder, PerceptEncoder, action_codec
from worldmodel.cores import core_options, make_core
from worldmodel.devices import CPU
from worldmodel.episodes import PORTION, EpisodeSource
from worldmodel.job import Job, Metrics, Stage, Title
from worldmodel.learner import Learner
from worldmodel.model import WorldModel, context_size
from worldmodel.noise import OwnNoise
from worldmodel.objectives import OBJECTIVES, Objective, objective_from
from worldmodel.percepts import Percepts
from worldmodel.recurrences import SkipGRU
from worldmodel.registry import options_taken
from worldmodel.schedules import cosine, in_segments
from worldmodel.sequence_model.config import (
    SequenceConfig,
    SequenceLearningConfig,
    SequenceModelConfig,
)
from worldmodel.sequence_model.modality import Modality
from worldmodel.sequence_model.scoring import Validation, corrections
from worldmodel.sequential_batches import SequentialBatches

LAST_RATE = 1 / 50  # of the learning rate, relative to the first


class SequenceTraining(Job):
    """The training of a model of sequences, which can be extended by more updates.

    `learn_from` sets the data, `extend` the number of updates.
    """

    titles: ClassVar[Mapping[str, Title]] = {
        "learn": Title("learning", "updates"),
        "validate": Title("validating", "times"),
    }

    def __init__(
        self,
        config: SequenceConfig,
        modality: Modality,
        objective: Callable[[WorldModel], Objective] | None = None,
        score: Callable[[WorldModel], float] | None = None,
        device: torch.device = CPU,
    ):
        """objective: of the model, instead of the one that the options name; score: the loss, nats
        a frame, that validation goes by, instead of that of stretches of the held-out recordings;
        device: of the model.

        Raises ValueError for options that do not fit the modality.
        """
        super().__init__(config.seed)
        self.config = config
        self.modality = modality
        seeds = np.random.SeedSequence(config.seed).generate_state(3)
        self.seeds: list[int] = seeds.tolist()  # of reading, of validation, of samples
        self._segments: list[tuple[int, int]] = []  # of updates, see `in_segments`
        with self.noise():
            self.model = model_of(modality, config.model).to(device).eval()
        made = None if objective is None else objective(self.model)
        self.learner = learner_for(self.model, config.learning, self._segments, made)
        self.best = copy.deepcopy(self.model).requires_grad_(False)
        self.best_nats = math.inf  # the least loss a frame of the held-out recordings
        self.curve: list[tuple[int, float]] = []  # updates and loss of every validation
        self.passages: SequentialBatches | None = None
        self._given = score
        self.score = score

    @property
    def modules(self) -> dict[str, nn.Module]:
        return {"model": self.model, "best": self.best} | self.learner.modules

    @property
    def shown(self) -> Collection[str]:
        return [kept_module(self.best_nats, self.modules)]

    @property
    def updates(self) -> int:
        """The number of updates so far."""
        return self.learner.updates

    @property
    def kept(self) -> WorldModel:
        """The model with the best validation so far; before the first, the average of the
        weights."""
        is_validated = kept_module(self.best_nats, self.modules) == "best"
        return self.best if is_validated else self.learner.averaged

    def learn_from(self, train: EpisodeSource, valid: EpisodeSource | None = None) -> None:
        """Sets the recordings of training and, if the best is to be kept, of validation."""
        config = self.config.learning
        if not self.updates:
            standardise(self.model, examples(train))
            self.modality.begin(self.model, train)
        actions = action_codec(self.modality.action_space)
        seed = self.seeds[0] + len(self._segments)
        carries = options_taken(OBJECTIVES[config.objective], {"carries": True})
        piece = config.piece if carries else config.window
        self.passages = SequentialBatches(
            train, actions, config.batch_size, config.window, piece, seed, self.modality.vary
        )
        self.score = self._given
        if valid is not None and self.score is None:
            self.score = Validation(self.modality, valid, config, self.seeds[1])

    def extend(
        self,
        updates: int | None = None,
        minutes: float | None = None,
        validations: int | None = None,
    ) -> None:
        """Plans some updates more, and validations among them; what is left of a plan from before
        is dropped.

        updates, minutes, validations: by default those of the options; minutes, of updates alone,
        count if they are not 0.
        """
        config = self.config.learning
        if updates is None:
            updates, minutes = config.updates, config.minutes if minutes is None else minutes
        if updates < 1 or (minutes or 0) < 0:
            raise ValueError(f"expected one update or more, got {updates} in {minutes} minutes")
        assert self.passages is not None, "learn_from comes first"
        begin = self.updates
        self._segments[:] = [segment for segment in self._segments if segment[0] < begin]
        self._segments.append((begin, updates))
        if minutes:
            updates = self.learner.updates_within(minutes, self.passages, lambda block: [block])
            self._segments[-1] = (begin, updates)
        self.best_nats, self.curve = math.inf, []  # what is learned now is judged by itself
        self._plan(updates, validations or config.validations)

    def _plan(self, updates: int, validations: int) -> None:
        """Plans stages of learning, each followed by a validation on the held-out recordings."""
        self.stages, self.stage, self.done = [], 0, 0
        number = validations if self.score is not None else 1
        for part in np.array_split(np.arange(updates), min(updates, number)):
            place = len(self.stages) // 2
            self.stages.append(Stage("learn", place, len(part)))
            if self.score is not None:
                self.stages.append(Stage("validate", place, 1))

    def work(self, stage: Stage) -> Metrics:
        return self._learn() if stage.kind == "learn" else self._validate(stage)

    def note(self, stage: Stage, metrics: Metrics) -> str:
        frame = self.modality.frame
        if stage.kind == "learn":
            best = f", best in validation {self.best_nats:.4f}" if self.curve else ""
            return f"loss {metrics['nats']:.4f} nats per {frame}{best}"
        return (
            f"loss {metrics['valid_nats']:.4f} nats per {frame} of the held-out recordings, the "
            f"best {self.best_nats:.4f}"
        )

    def _learn(self) -> Metrics:
        """Makes one update; `nats`: the loss a frame, in the units of the data's own values."""
        assert self.passages is not None
        block = next(self.passages)
        metrics = self.learner.update([block])
        each = -corrections(self.modality, block) / int(block.mask.sum())
        return metrics | {"nats": metrics.get("nats", metrics["loss"]) + each}

    def _validate(self, stage: Stage) -> Metrics:
        """Scores the average of the weights; keeps it if it is the best so far."""
        assert self.score is not None
        with OwnNoise(self.seeds[2] + stage.round)():
            nats = ranks.of_first(partial(self.score, self.learner.averaged))
        if nats < self.best_nats or not math.isfinite(self.best_nats):
            self.best_nats = nats
            self.best.load_state_dict(self.learner.averaged.state_dict())
        self.curve.append((self.updates, nats))
        return {"valid_nats": nats, "updates": self.updates}

    def tensors(self) -> dict[str, Any]:
        return {"learner": self.learner.state_dict()}

    def values(self) -> dict[str, Any]:
        return {
            "stages": [list(stage) for stage in self.stages],
            "segments": self._segments,
            "passages": None if self.passages is None else self.passages.state_dict(),
            "best_nats": self.best_nats if math.isfinite(self.best_nats) else None,
            "curve": self.curve,
        }

    def build(self, values: Mapping[str, Any]) -> None:
        self.stages = [Stage(*stage) for stage in values["stages"]]
        self._segments[:] = [tuple(segment) for segment in values["segments"]]
        best = values["best_nats"]
        self.best_nats = math.inf if best is None else best
        self.curve = [tuple(point) for point in values["curve"]]

    def load(self, tensors: Mapping[str, Any], values: Mapping[str, Any]) -> None:
        self.learner.load_state_dict(tensors["learner"])
        if self.passages is not None:
            self.passages.load_state_dict(values["passages"])


def kept_module(best_nats: float | None, names: Collection[str]) -> str:
    """The name, among those of modules, of the one with the weights that are kept; best_nats: the
    least loss of a validation, infinite or None before the first."""
    if best_nats is not None and math.isfinite(best_nats):
        return "best"
    return "average" if "average" in names else "model"


def model_of(modality: Modality, config: SequenceModelConfig) -> WorldModel:
    """A model of recordings of a modality that has learned nothing yet."""
    encoder = PerceptEncoder(modality.encoder(), rewards=False)
    actions = action_codec(modality.action_space).size
    contexts = context_size(actions, encoder.size, True, config.history)
    given = vars(config)
    if config.recurrence == "default":
        given = given | {"recurrence": modality.default_recurrence}
    options = core_options(config.core, given)
    core = make_core(config.core, contexts, encoder.size, hidden=config.hidden_size, **options)
    skip = modality.skips and isinstance(getattr(core, "recurrence", None), SkipGRU)
    shown = core.feature_size if skip else 0
    try:
        head_options = json.loads(config.head_options)
        head = modality.head(config.head, config.decoder_hidden + shown, **head_options)
    except (TypeError, ValueError, RecursionError) as error:
        raise ValueError(
            f"the head {config.head} with the options {config.head_options}: {error}"
        ) from error
    hidden = config.decoder_hidden
    decoder = ObservationDecoder(core.feature_size, hidden, head, config.dropout, skip)
    percepts = Percepts(encoder, decoder)
    dropout = config.input_dropout
    return WorldModel(percepts, core, actions, history=config.history, dropout=dropout)


def learner_for(
    model: WorldModel,
    config: SequenceLearningConfig,
    segments: list[tuple[int, int]],
    objective: Objective | None = None,
) -> Learner:
    """The learner of a model; windows carry states on where the objective does so.

    segments: the updates within which the learning rate falls, each time that learning goes on.
    """
    rate = config.learning_rate
    return Learner(
        model,
        objective or objective_from(model, vars(config) | {"carries": True}),
        in_segments(lambda length: cosine(rate, LAST_RATE * rate, length), segments),
        config.weight_decay,
        config.clip_norm,
        config.ema_decay,
        autocast=config.precision == "bfloat16",
        matmul_precision=config.matmul_precision,
    )


def standardise(model: WorldModel, observations: Any) -> None:
    """Sets the scales of numbers by observations, leaves [N, ...]."""
    model.percepts.standardise({"observation": observations})


def examples(source: EpisodeSource) -> Any:
    """Observations to set scales by, evenly from all recordings of any length, leaves
    [N, ...]."""
    places = np.linspace(0, source.rows - 1, min(source.rows, PORTION)).round()
    return source.gather(source.starts[0] + places.astype(np.int64))["observation"]
