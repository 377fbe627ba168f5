"""A model of recordings, how it learns, and how likely it finds them; without run folders."""

import copy
import json
import math
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, cast

import numpy as np
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from worldmodel import (
    BOUNDS,
    OBJECTIVES,
    EpisodeSource,
    Objective,
    ObservationDecoder,
    Passages,
    PerceptEncoder,
    Percepts,
    Sequences,
    Trainer,
    WorldModel,
    action_codec,
    context_size,
    core_options,
    cosine,
    make_core,
    nested,
    options_taken,
)
from worldmodel.experiments.measure.scores import model_log_prob, over_keys
from worldmodel.experiments.recordings.config import SequenceLearningConfig, SequenceModelConfig
from worldmodel.experiments.recordings.kind import Kind
from worldmodel.experiments.runs.processor import products
from worldmodel.objectives import Metrics
from worldmodel.run_folder import RunError

LAST_RATE = 1 / 50  # of the learning rate, relative to the first
ROWS_AT_ONCE = 100_000  # that are scored side by side, padding among them
VALIDATED = 1_000  # rows of a piece that validation reads, at most
WARM_UP, TIMED = 3, 20  # updates, by which the speed is measured


def model_of(kind: Kind, told: SequenceModelConfig) -> WorldModel:
    """A model of recordings of a kind, as it is told."""
    encoder = PerceptEncoder(kind.encoder(), rewards=False)
    actions = action_codec(kind.action_space).size
    contexts = context_size(actions, encoder.size, True, told.history)
    options = core_options(told.core, vars(told))
    core = make_core(told.core, contexts, encoder.size, hidden=told.hidden, **options)
    try:
        head = kind.head(told.head, told.decoder_hidden, **json.loads(told.head_options))
    except (TypeError, ValueError) as error:
        raise RunError(
            f"--head {told.head} --head-options {told.head_options}: {error}"
        ) from error
    decoder = ObservationDecoder(core.feature_size, told.decoder_hidden, head, told.dropout)
    percepts = Percepts(encoder, decoder)
    return WorldModel(percepts, core, actions, history=told.history, dropout=told.deafness)


def objective_for(model: WorldModel, told: SequenceLearningConfig) -> Objective:
    """What is maximised; states are carried from window to window where it takes that."""
    make = OBJECTIVES[told.bound]
    return make(model, particles=told.particles, **options_taken(make, {"carries": True}))


class Learner:
    """A model, and how it learns from recordings that are read in order."""

    def __init__(
        self,
        model: WorldModel,
        kind: Kind,
        train: EpisodeSource,
        told: SequenceLearningConfig,
        updates: int,
        seed: int | np.random.SeedSequence,
        objective: Objective | None = None,
    ):
        """updates: within which the learning rate falls; objective: of the model, instead of the
        bound that is told."""
        self.model = model.eval()
        self.kind = kind
        self.products = told.products
        self.updates = updates
        actions = action_codec(kind.action_space)
        carries = options_taken(OBJECTIVES[told.bound], {"carries": True})
        piece = told.piece if carries else told.window
        self.passages = Passages(train, actions, told.batch, told.window, piece, seed)
        self.trainer = Trainer(
            objective_for(model, told) if objective is None else objective,
            model.parameters(),
            lambda step: cosine(told.learning_rate, LAST_RATE * told.learning_rate, self.updates)(
                step
            ),
            weight_decay=told.weight_decay,
            clip_norm=told.clip_norm,
        )
        average = get_ema_multi_avg_fn(told.averaging)
        self.average = AveragedModel(model, multi_avg_fn=average, use_buffers=True).eval()
        self.best = copy.deepcopy(model)
        self.best_nats = math.inf  # the least loss a frame, of the validation set

    @property
    def modules(self) -> dict[str, nn.Module]:
        return {"model": self.model, "average": self.average, "best": self.best}

    @property
    def averaged(self) -> WorldModel:
        """The model with the average of its weights."""
        return cast(WorldModel, self.average.module)

    def update(self) -> Metrics:
        """One step; `nats`: the loss of a frame, of the values that figures are of."""
        batch = next(self.passages)
        self.model.train()
        with products(self.products):
            metrics = self.trainer.update([batch])
        self.model.eval()
        self.average.update_parameters(self.model)
        each = -corrections(self.kind, batch) / int(batch.mask.sum())
        return metrics | {"nats": metrics["loss"] + each}

    def validate(self, nats: Callable[[WorldModel], float]) -> float:
        """The loss that `nats` finds of the average of the weights, which is kept if it is the
        best: the least."""
        found = nats(self.averaged)
        if found < self.best_nats or not math.isfinite(self.best_nats):
            self.best_nats = found
            self.best.load_state_dict(self.averaged.state_dict())
        return found

    def state_dict(self) -> dict[str, Any]:
        return self.trainer.state_dict()

    def values(self) -> dict[str, Any]:
        """What is no tensor, for JSON."""
        best = self.best_nats if math.isfinite(self.best_nats) else None
        return {"passages": self.passages.state_dict(), "best_nats": best, "updates": self.updates}

    def load(self, state: dict[str, Any], values: dict[str, Any]) -> None:
        self.trainer.load_state_dict(state)
        self.passages.load_state_dict(values["passages"])
        best = values["best_nats"]
        self.best_nats = math.inf if best is None else best
        self.updates = values["updates"]


def updates_within(minutes: float, learner: Learner) -> int:
    """How many updates fit into so much time, by the speed of some that are made."""
    for number in range(WARM_UP + TIMED):
        if number == WARM_UP:
            begun = time.monotonic()
        learner.update()
    each = (time.monotonic() - begun) / TIMED
    return max(1, round(60 * minutes / each))


class Scored(NamedTuple):
    """How likely a recording is."""

    episode: int
    log_prob: np.ndarray  # float64 [T], nats, of each row


def scored(
    model: WorldModel,
    kind: Kind,
    source: EpisodeSource,
    bound: str,
    particles: int,
    note: Callable[[int, int], None] = lambda done, total: None,
) -> Iterator[Scored]:
    """A bound on the likelihood of whole recordings, their first rows too, those of about the
    same length side by side."""
    actions = action_codec(kind.action_space)
    done, total = 0, source.rows
    for group in source.side_by_side(ROWS_AT_ONCE):
        sequences = source.sequences(actions, group)
        log_prob = over_keys(model_log_prob(model, sequences, bound, particles)).numpy()
        observation = sequences.rows.observation
        for column, episode in enumerate(group.tolist()):
            rows = (slice(0, int(source.lengths[episode])), column)
            shown = nested.map(torch.Tensor.numpy, nested.index(observation, rows))
            yield Scored(episode, log_prob[rows] + kind.correction(shown))
        done += int(source.lengths[group].sum())
        note(done, total)


class Validation:
    """Stretches of recordings, the same at every time, that a model is asked about."""

    def __init__(self, kind: Kind, source: EpisodeSource, told: SequenceLearningConfig, seed: int):
        self.bound = told.bound if told.bound in BOUNDS else "elbo"
        self.particles = told.particles
        actions = action_codec(kind.action_space)
        self.blocks: list[Sequences] = []
        columns = max(1, ROWS_AT_ONCE // VALIDATED)
        reader = Passages(source, actions, columns, VALIDATED, VALIDATED, seed)
        self.rows, self.correction = 0, 0.0
        while self.rows < min(told.validation_rows, source.rows):
            block = next(reader)
            self.blocks.append(block)
            self.rows += int(block.mask.sum())
            self.correction += corrections(kind, block)

    def __call__(self, model: WorldModel) -> float:
        """The loss, nats a frame, by the bound that is learned by."""
        found = [
            over_keys(model_log_prob(model, block, self.bound, self.particles)).sum().item()
            for block in self.blocks
        ]
        return -(sum(found) + self.correction) / self.rows


def corrections(kind: Kind, block: Sequences) -> float:
    """The sum of the corrections of valid rows, nats."""
    observation = nested.map(lambda leaf: leaf[block.mask].numpy(), block.rows.observation)
    each = np.broadcast_to(kind.correction(observation), int(block.mask.sum()))
    return float(each.sum())


def standardise(model: WorldModel, values: Any) -> None:
    """The scales of numbers, from observations with leaves [N, ...]."""
    model.percepts.standardise({"observation": values})


def frame_nats(scores: list[Scored]) -> tuple[float, float]:
    """The loss, nats a frame, total over total, and its standard error over recordings (nan of
    one)."""
    nats = np.array([-score.log_prob.sum() for score in scores])
    rows = np.array([len(score.log_prob) for score in scores])
    mean = nats.sum() / rows.sum()
    error = np.sqrt(np.square(nats - mean * rows).sum()) / rows.sum()
    return float(mean), float(error) if len(scores) > 1 else math.nan
