"""Figures that are reported of any model or agent: losses in nats, returns with their intervals.

Nats are losses, minus log likelihoods: lower is better. Functions and fields named
`log_prob` give the log likelihood itself.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor

from worldmodel import (
    BOUNDS,
    Agent,
    Environment,
    Episodes,
    GenCore,
    Row,
    Sequences,
    WorldModel,
    nested,
)
from worldmodel.codecs import by_path
from worldmodel.distributions import masses_of
from worldmodel.noise import OwnNoise

CHUNK_ROWS = 200_000  # particles times rows scored at once: bounds the memory
RESAMPLES = 9_999  # of a bootstrap
DENSITIES = "densities: may be negative; lower is better"  # printed beside losses


def model_log_prob(
    model: WorldModel,
    sequences: Sequences,
    bound: str,
    particles: int,
    note: Callable[[int, int], None] = lambda done, total: None,
) -> dict[str, Tensor]:
    """The model's bound on the log likelihood by key, [T, B] nats, chunk by chunk."""
    length, batch_size = sequences.mask.shape
    if not model.initial_state(1).core.latent.shape[-1]:
        particles = 1  # nothing to draw: the likelihood is exact
    size = max(1, CHUNK_ROWS // (particles * length))
    chunks = []
    for begin in range(0, batch_size, size):
        chunk = nested.index(sequences, (slice(None), slice(begin, begin + size)))
        chunks.append(nested.to(BOUNDS[bound](model, chunk, particles), "cpu"))
        note(min(begin + size, batch_size), batch_size)
    return nested.concatenate(chunks, 1)


def over_keys(by_key: dict[str, Tensor]) -> Tensor:
    """The sum over keys, in float64."""
    return torch.stack([value.double() for value in by_key.values()]).sum(0)


def per_step(losses: Tensor, counted: Tensor) -> tuple[float, float]:
    """The mean of losses [T, B] over the `counted` rows, bool [T, B], and its standard error, over
    episodes."""
    steps = counted.sum(0).double()  # [B]
    lost = torch.where(counted, losses, 0.0).sum(0)
    mean = lost.sum() / steps.sum()
    error = (lost - mean * steps).square().sum().sqrt() / steps.sum()
    return mean.item(), error.item()


def densities_of(model: WorldModel, space: spaces.Space) -> frozenset[str]:
    """The keys of percepts that have a density, no probability: observations (of `space`)
    with floats among them, and rewards of any size."""
    floats = any(
        isinstance(part, spaces.Box) and np.issubdtype(part.dtype, np.floating)
        for part in by_path(space).values()
    )
    with torch.no_grad(), OwnNoise(0)():
        state = model.initial_state(1)
        prediction, _ = model.predict(state.history.new_zeros(1, model.action_size), state)
        reward = prediction.alone().parts["reward"]
    found = {"observation": floats, "reward": masses_of(reward) is None}
    return frozenset(key for key, is_density in found.items() if is_density)


def returns_of(values: np.ndarray, seed: int) -> dict[str, Any]:
    """Statistics of the returns of episodes, [n]: their mean, its 95 % bootstrap interval, and the
    interquartile mean, after Agarwal et al. 2021 (https://arxiv.org/abs/2108.13264). seed: of the
    bootstrap."""
    number = len(values)
    drawn = np.random.default_rng(seed).integers(0, number, (RESAMPLES, number))
    low, high = np.quantile(values[drawn].mean(-1), (0.025, 0.975))
    quarter = number // 4
    return {
        "mean": float(values.mean()),
        "iqm": float(np.sort(values)[quarter : number - quarter].mean()),
        "ci95": [float(low), float(high)],
    }


@torch.no_grad()
def first_episodes(environment: Environment, agent: Agent, copies: int, rows: int) -> Episodes:
    """The first episode of each copy, or its first `rows` rows."""
    core = GenCore(environment, agent)
    state = core.initial_state(copies)
    over = torch.zeros(copies, dtype=torch.bool)
    played: list[Row] = []
    while len(played) < rows:
        (row, _), state = core.step(state)
        over |= row.first.cpu() & bool(played)
        if over.all():
            break
        played.append(nested.to(row, "cpu"))
    episodes = Episodes.cut(Sequences.whole(nested.stack(played)), core.actions)
    begins = np.arange(copies) * len(played)
    return episodes.select(np.searchsorted(episodes.starts, begins))
