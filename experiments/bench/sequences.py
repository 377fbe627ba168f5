"""Sequence models in benches: trained by a recipe, selected by validation, scored by bounds."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from worldmodel import (
    BOUNDS,
    EpisodeSource,
    Job,
    Modality,
    Objective,
    SequenceConfig,
    SequenceLearningConfig,
    SequenceModelConfig,
    SequenceTraining,
    Stage,
    Watcher,
    WorldModel,
)
from worldmodel.job import Metrics
from worldmodel.noise import OwnNoise
from worldmodel.progress import Reporter
from worldmodel.reports import UpdatesReport
from worldmodel.sequence_model.scoring import frame_nats, has_latents, scored

ELBO_DRAWS = 16  # at most: more of them do not change the expectation


@dataclass(frozen=True)
class Recipe:
    """A model and its training settings."""

    model: SequenceModelConfig
    learning: SequenceLearningConfig


class Learned(NamedTuple):
    """A trained model and its training record, nats a frame."""

    model: WorldModel  # with the averaged weights that were best in validation
    update: int  # of these weights
    updates: int
    nats: float  # of the validation set
    train_nats: float  # of the updates before the last validation
    curve: list[tuple[int, float]]  # (update, nats) of every validation


def learn(
    title: str,
    recipe: Recipe,
    modality: Modality,
    train: EpisodeSource,
    valid: EpisodeSource | None,
    seed: int,
    reporter: Reporter,
    objective: Callable[[WorldModel], Objective] | None = None,
    score: Callable[[WorldModel], float] | None = None,
    at_most: bool = False,
) -> Learned:
    """Trains on the training set; the validation set selects the weights. All randomness comes
    from the seed, whatever was trained before.

    objective, score: see `SequenceTraining`; at_most: minutes allow no more updates than those of
    the recipe.
    """
    config = SequenceConfig(recipe.model, recipe.learning, seed)
    training = SequenceTraining(config, modality, objective, score)
    training.learn_from(train, valid)
    training.extend()
    if at_most and planned(training) > recipe.learning.updates:
        training.extend(recipe.learning.updates)
    losses, updates = _Losses(), planned(training)
    with reporter.stage(f"learning {title}", updates, 0, "updates") as stage:
        training.run(losses, UpdatesReport(stage))
    update, nats = min(training.curve, key=lambda point: point[1])
    return Learned(training.kept, update, updates, nats, losses.mean, training.curve)


def planned(job: Job) -> int:
    """Number of updates of a job."""
    return sum(stage.units for stage in job.stages if stage.kind == "learn")


class _Losses(Watcher):
    """Records the losses of the last training stage."""

    def __init__(self) -> None:
        self.round, self.nats = -1, [0.0]

    @property
    def mean(self) -> float:
        return float(np.mean(self.nats))

    def unit(self, job: Job, stage: Stage, metrics: Metrics) -> bool:
        if stage.kind == "learn":
            if stage.round != self.round:
                self.round, self.nats = stage.round, []
            self.nats.append(metrics["nats"])
        return True


def whole_nats(
    model: WorldModel,
    modality: Modality,
    source: EpisodeSource,
    bound: str = "elbo",
    particles: int = 1,
) -> float:
    """The loss on whole recordings by a bound, in nats a frame."""
    return frame_nats(list(scored(model, modality, source, bound, particles)))[0]


def score(
    model: WorldModel,
    modality: Modality,
    source: EpisodeSource,
    particles: int,
    seed: int,
    title: str,
    reporter: Reporter,
    bounds: Sequence[str] = tuple(BOUNDS),
) -> dict[str, float]:
    """The loss on whole recordings by each bound, nats a frame; {"exact": ...} without latents."""
    if not has_latents(model):
        exact = whole_nats(model, modality, source)
        reporter.say(f"scoring {title}: exact {exact:.3f}")
        return {"exact": exact}
    found = {}
    scoring = reporter.stage(f"scoring {title}", len(bounds), 0, "bounds")
    with scoring as stage, OwnNoise(seed)():
        for number, bound in enumerate(bounds, 1):
            draws = min(particles, ELBO_DRAWS) if bound == "elbo" else particles
            found[bound] = whole_nats(model, modality, source, bound, draws)
            stage.update(number, f"{bound} {found[bound]:.3f}")
    return found
