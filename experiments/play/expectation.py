"""What a world model expects of the next row of a game, and how much a row surprises it."""

from typing import Any, NamedTuple, cast

import numpy as np
import torch
from torch import Tensor

from worldmodel import ModelState, Row, WorldModel, nested
from worldmodel.distributions import Categorical, Chain

PARTICLES = 32  # draws over which the model's expectation is averaged


class Expectation(NamedTuple):
    """What the model expects of the next percept, before it happens."""

    observation: list[float]  # the probability of each value of a Discrete; of others empty
    reward: float  # the expected one
    terminated: float  # the probability of the end


def expect(
    model: WorldModel, mind: ModelState, action: Tensor, row: Row, particles: int = PARTICLES
) -> tuple[Expectation, dict[str, float]]:
    """What the model expected of a row of one game, and how much the row surprised it, in nats.

    mind: the model's state before the row, leaves [1, ...]; action: the code [1, A] that led to
    the row. Both are averages over K latents: p(x) = E p(x | z). What is void on a first row is
    neither expected nor surprising.
    """
    if row.first:
        mind, action = model.initial_state(1), torch.zeros_like(action)
    mind, action, row = nested.repeat((mind, action, row), particles)
    percept = cast(Chain, model.predict(action, mind)[0])
    expected, log_probs = _expectation(percept), percept.log_probs(row.percept)
    if row.first[0]:
        expected = expected._replace(reward=0.0, terminated=0.0)
        log_probs = {"observation": log_probs["observation"]}
    return expected, _surprise(log_probs)


def _expectation(percept: Chain) -> Expectation:
    """The mean over a batch [K] of predictions; rewards and ends are summed over the values of a
    Discrete observation, and averaged over one draw each of another."""
    observation = percept.first.parts["observation"]
    if not isinstance(observation, Categorical):
        then = percept.then({"observation": observation.sample()}).parts
        return Expectation([], float(then["reward"].mean.mean()), _mean(then["terminated"]))
    probs = observation.probs  # [K, n]
    start = getattr(observation, "start", 0)
    consequences = [
        percept.then({"observation": torch.full((len(probs),), start + value)})
        for value in range(probs.shape[-1])
    ]

    def mean(key: str) -> float:
        given = torch.stack([then.parts[key].mean for then in consequences], -1)  # [K, n]
        return float((probs * given).sum(-1).mean())

    return Expectation(probs.mean(0).tolist(), mean("reward"), mean("terminated"))


def _mean(distribution: Any) -> float:
    return float(distribution.mean.mean())


def _surprise(log_probs: dict[str, Tensor]) -> dict[str, float]:
    """-log p by key from log p(key | keys before, z) [K]: the latents are averaged over first.
    After what could not happen nothing is a surprise."""
    so_far = torch.stack(list(log_probs.values())).cumsum(0)  # [keys, K]
    joint = so_far.logsumexp(-1) - np.log(so_far.shape[-1])  # [keys]
    nats = -torch.diff(joint, prepend=joint.new_zeros(1))
    nats = torch.where(nats.isnan(), 0.0, nats)
    return dict(zip(log_probs, nats.tolist(), strict=True))
