"""Predictions of a world model for the next row of a game, and its surprise at the row."""

import math
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from worldmodel import ModelState, Prediction, Row, WorldModel, nested
from worldmodel.distributions import Categorical

PARTICLES = 32  # draws over which the model's expectation is averaged
CONSEQUENCES = ("reward", "terminated")


class Expectation(NamedTuple):
    """The model's prediction of the next percept."""

    observation: list[float]  # the probability of each value of a Discrete; [] for other spaces
    reward: float  # the expected one
    terminated: float  # the probability of the end


def expect(
    model: WorldModel, mind: ModelState, action: Tensor, row: Row, particles: int = PARTICLES
) -> tuple[Expectation, dict[str, float]]:
    """The model's prediction of a row of one game, and its surprise at the row, in nats.

    mind: the model's state before the row, leaves [1, ...]; action: the code [1, A] that led to
    the row. Both are averages over K latents: p(x) = E p(x | z). Placeholders of a first row are
    neither predicted nor scored.
    """
    action, row = nested.to((action, row), model.device)
    prediction = _predicted(model, mind, action, row, particles)
    expected = _expectation(prediction)
    if row.first:
        expected = expected._replace(reward=0.0, terminated=0.0)
    return expected, _surprise(prediction, row, particles)


def surprise(
    model: WorldModel, mind: ModelState, action: Tensor, row: Row, particles: int = PARTICLES
) -> dict[str, float]:
    """-log p of a row of one game by key, in nats, each key given those before; see `expect`."""
    action, row = nested.to((action, row), model.device)
    return _surprise(_predicted(model, mind, action, row, particles), row, particles)


def _predicted(
    model: WorldModel, mind: ModelState, action: Tensor, row: Row, particles: int
) -> Prediction:
    """The distribution of the next percept, batch shape [K]."""
    if row.first:
        mind, action = model.initial_state(1), torch.zeros_like(action)
    return model.predict(*nested.repeat((action, mind), particles))[0]


def _expectation(prediction: Prediction) -> Expectation:
    """The mean over a batch [K] of predictions; rewards and ends are summed over the values of a
    Discrete observation, and averaged over one draw each of another."""
    weights, then = prediction.marginal(few=math.inf)  # [n, K]
    given = (float((weights * then.mean[key]).sum(0).mean()) for key in CONSEQUENCES)
    is_discrete = isinstance(prediction.observation, Categorical)
    return Expectation(weights.mean(1).tolist() if is_discrete else [], *given)


def _surprise(prediction: Prediction, row: Row, particles: int) -> dict[str, float]:
    """Surprise from log p(key | keys before, z) [K], with the latents averaged over first. After
    an event of probability 0 all further surprises are 0."""
    log_probs = prediction.log_probs(nested.repeat(row.percept, particles))
    config = ("observation",) if row.first else tuple(log_probs)
    so_far = torch.stack([log_probs[key] for key in config]).cumsum(0)  # [keys, K]
    joint = so_far.logsumexp(-1) - np.log(so_far.shape[-1])  # [keys]
    nats = -torch.diff(joint, prepend=joint.new_zeros(1)).nan_to_num(0.0, torch.inf, -torch.inf)
    return dict(zip(config, nats.tolist(), strict=True))
