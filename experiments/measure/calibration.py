"""Calibration of a world model's probabilities of the next reward and of the next end.

What is judged is the model's prediction of a row from the rows before it and the action, that is

    p(r_t, end_t | x_<t, a_<=t) = E p(r_t, end_t | o_t, z_t)

where the expectation is over the latents z_<t of the filtering posterior (row by row, as an agent
filters: a smoother, too, reads no later row), over z_t of the prior, and over the observations o_t
that the model predicts, not the one that was observed. It is the mean over K particles;
observations of few values are summed over, of others each particle draws one. A mean of K draws is
itself uncertain, by at most 1 / (2 sqrt(K)), which spreads predictions a little around the true
ones.

A probability is calibrated if, of all events that were given it, that share happened: a
reliability diagram (DeGroot and Fienberg 1983) draws the two beside each other, by bins, and the
expected calibration error is the mean distance between them (Naeini et al. 2015). Densities are
judged by the rank of the observed value among K draws, ties broken at random,
(rank + u) / (K + 1): this probability integral transform is uniform if the density is right (Dawid
1984), whatever K is. Even the true model has an error in a finite sample; its expectation stands
beside each error.
"""

from collections.abc import Callable
from typing import Any, NamedTuple, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from worldmodel import ModelState, Row, Sequences, WorldModel, nested
from worldmodel.codecs import by_path, is_image
from worldmodel.distributions import masses_of
from worldmodel.noise import OwnNoise

Floats = NDArray[np.float64]

MOST, FEWEST = 64, 32  # particles
OF_IMAGES = 8  # particles where images have to be drawn
AT_ONCE = 6_400  # predictions that are made together, about

EDGES = (0, 0.01, 0.03, *np.arange(1, 10) / 10, 0.97, 0.99, 1)  # of bins; most events are rare
BINS = 10  # of the histogram of a transform
Z = 1.96  # of a 95 % interval
TRIALS = 200  # simulations of the error by chance


class Predictions(NamedTuple):
    """A model's predictions of N rows from the rows before them, and the outcomes."""

    end: Floats  # [N], the probability of the end
    ended: NDArray[np.bool_]  # [N]
    reward: Floats  # [N], observed
    values: Floats  # [V], the support of rewards; V = 0 where they have a density
    probability: Floats  # [N, V], of each value
    rank: Floats  # [N], of the observed reward among K draws, of a density; else empty


class Bin(NamedTuple):
    """Predictions of nearly the same probability."""

    low: float
    high: float
    number: int
    predicted: float  # their mean
    happened: float  # the share of their events that happened
    interval: tuple[float, float]  # of that share, 95 % (Wilson 1927)


class Reliability(NamedTuple):
    """Predicted probabilities beside frequencies."""

    bins: list[Bin]  # those that are not empty
    error: float  # expected calibration error: the mean of |predicted - happened| over predictions
    by_chance: float  # that error if all these probabilities were right
    number: int  # of predictions
    happened: int


class Uniformity(NamedTuple):
    """A probability integral transform beside the uniform distribution."""

    counts: list[int]  # [BINS]
    error: float  # the mean distance between its distribution function and the uniform one
    by_chance: float  # that distance if the density were right
    within_half: float  # the share that lies in the central half of the density
    within_most: float  # in its central nine tenths
    number: int


class Calibration(NamedTuple):
    """The calibration of a model's predictions of reward and end."""

    end: Reliability
    reward: Reliability | None  # of every value, all in one; None where rewards have a density
    density: Uniformity | None  # of rewards that have a density
    values: list[float]  # that rewards take, where they are few
    particles: int
    episodes: int


def calibration(
    model: WorldModel,
    sequences: Sequences,
    particles: int,
    seed: int = 0,
    note: Callable[[int, int], None] = lambda done, total: None,
) -> Calibration:
    """The calibration of a model on whole held-out episodes [T, B, ...]; see the module.

    note: called with (rows, all rows) of the longest episode.
    """
    with OwnNoise(seed)():
        found = predictions(model, sequences, particles, note)
    few = len(found.values) > 0
    return Calibration(
        reliability(found.end, found.ended, seed),
        reliability_of_rewards(found, seed) if few else None,
        None if few else uniformity(found.rank),
        found.values.tolist(),
        particles,
        sequences.mask.shape[1],
    )


def particles_for(model: WorldModel, space: Any, episodes: int) -> int:
    """The number of particles for so many episodes side by side. space: of observations."""
    images = any(map(is_image, by_path(space).values()))
    if images and not model.percepts.separate:
        return OF_IMAGES
    return min(MOST, max(FEWEST, AT_ONCE // episodes))


@torch.no_grad()
def predictions(
    model: WorldModel,
    sequences: Sequences,
    particles: int,
    note: Callable[[int, int], None] = lambda done, total: None,
) -> Predictions:
    """Predictions of every row of whole episodes [T, B, ...] that is no first row."""
    order = sequences.lengths.argsort(descending=True)  # those that are over come last
    sequences = nested.to(nested.index(sequences, (slice(None), order)), model.device)
    alive = [count for count in sequences.mask.sum(1).tolist() if count]  # at time t
    state = model.initial_state(alive[0])
    found: list[tuple[Tensor, ...]] = []
    values = torch.zeros(0)
    for t, count in enumerate(alive):
        row = nested.index(sequences, (slice(t, t + 1), slice(count)))  # [1, count, ...]
        if t:
            state = _first(state, count, particles)
            now = nested.index(row.rows, 0)
            end, probability, rank, values = foresee(model, now, state, particles)
            found.append((end, now.terminated, now.reward, probability, rank))
        _, state = model.infer(row, state, particles)
        note(t + 1, len(alive))
    end, ended, reward, probability, rank = (torch.cat(part) for part in zip(*found, strict=True))
    return Predictions(
        _array(end),
        ended.cpu().numpy(),
        _array(reward),
        *_merged(_array(values), _array(probability), _array(reward)),
        _array(rank),
    )


def _first(state: ModelState, count: int, particles: int) -> ModelState:
    """States of the first `count` episodes, from leaves [K * B, ...]."""
    return nested.map(
        lambda leaf: leaf.unflatten(0, (particles, -1))[:, :count].flatten(0, 1), state
    )


class Foreseen(NamedTuple):
    """Predictions of rows [B]; see `Predictions`."""

    end: Tensor  # [B]
    probability: Tensor  # [B, V], V = 0 where rewards have a density
    rank: Tensor  # [B]; empty where they have none
    values: Tensor  # [V], perhaps with duplicates


def foresee(model: WorldModel, row: Row, state: ModelState, particles: int) -> Foreseen:
    """Predictions of rows [B] from the states before them, [K * B, ...]: of their percepts only
    the reward is read, to rank it."""
    prediction, _ = model.predict(row.action.repeat(particles, 1), state)
    weights, then = prediction.marginal()  # [n, K * B]
    end = _over_particles((weights * then.mean["terminated"]).sum(0), particles)
    reward = then.parts["reward"]
    masses = masses_of(reward)
    if masses is not None:
        values, probs = masses
        probability = _over_particles((weights[..., None] * probs).sum(0), particles)
        return Foreseen(end, probability, end[:0], values)
    draws = prediction.alone().sample()["reward"].unflatten(0, (particles, -1))
    return Foreseen(end, end.new_zeros(len(end), 0), rank_of(row.reward, draws), end[:0])


def _over_particles(value: Any, particles: int) -> Tensor:
    """The mean [B, ...] of [K * B, ...]."""
    return cast(Tensor, value.unflatten(0, (particles, -1)).mean(0))


def rank_of(value: Tensor, draws: Tensor) -> Tensor:
    """Ranks of values [B] among draws [K, B], in 0..1: uniform, if they have one distribution."""
    below, ties = (draws < value).sum(0), (draws == value).sum(0)
    return (below + torch.rand(value.shape, device=value.device) * (ties + 1)) / (len(draws) + 1)


def _merged(values: Floats, probability: Floats, came: Floats) -> tuple[Floats, Floats]:
    """The values without duplicates, sorted, with observed ones of probability 0 among them."""
    if not len(values):
        return values, probability
    merged = np.unique(np.concatenate([values[probability.max(0) > 0], came]))
    columns = [probability[:, values == value].sum(1) for value in merged]
    return merged, np.stack(columns, 1)


def reliability_of_rewards(found: Predictions, seed: int = 0) -> Reliability:
    """The reliability of the probability of each value of each reward, N * V predictions."""
    summed = found.probability.cumsum(1)[:, :-1]

    def draw(random: np.random.Generator) -> NDArray[np.bool_]:
        place = (random.random((len(summed), 1)) > summed).sum(1)
        return (place[:, None] == np.arange(len(found.values))).ravel()

    came = found.reward[:, None] == found.values
    return reliability(found.probability.ravel(), came.ravel(), seed, draw)


def reliability(
    probability: Floats,
    happened: NDArray[np.bool_],
    seed: int = 0,
    draw: Callable[[np.random.Generator], NDArray[np.bool_]] | None = None,
) -> Reliability:
    """The reliability of predictions [N] of events. draw: samples events of these probabilities,
    bool [N]; by default independently."""
    place = np.searchsorted(EDGES[1:-1], probability, side="right")
    count = np.bincount(place, minlength=len(EDGES) - 1)
    predicted = np.bincount(place, probability, len(count))  # sums over bins
    number = np.bincount(place, happened, len(count))
    bins = [
        Bin(
            float(EDGES[k]),
            float(EDGES[k + 1]),
            int(count[k]),
            float(predicted[k] / count[k]),
            float(number[k] / count[k]),
            binomial_interval(float(number[k]), int(count[k])),
        )
        for k in np.flatnonzero(count)
    ]
    random, total = np.random.default_rng(seed), len(probability)
    draw = draw or (lambda random: random.random(total) < probability)
    chance = [
        np.abs(np.bincount(place, draw(random), len(count)) - predicted) for _ in range(TRIALS)
    ]
    return Reliability(
        bins,
        float(np.abs(number - predicted).sum() / total),
        float(np.mean([off.sum() / total for off in chance])),
        total,
        int(happened.sum()),
    )


def binomial_interval(happened: float, count: int) -> tuple[float, float]:
    """The 95 % interval of the probability of an event that happened so often (Wilson 1927).

    >>> [round(edge, 3) for edge in binomial_interval(0, 10)]
    [0.0, 0.278]
    """
    share, extra = happened / count, Z**2 / count
    middle = (share + extra / 2) / (1 + extra)
    half = (share * (1 - share) * extra + extra**2 / 4) ** 0.5 / (1 + extra)
    return max(0.0, middle - half), min(1.0, middle + half)


def uniformity(rank: Floats) -> Uniformity:
    """The uniformity of a transform [N], from 0 to 1."""
    counts, _ = np.histogram(rank, BINS, (0, 1))
    from_middle = np.abs(rank - 0.5)
    return Uniformity(
        counts.tolist(),
        distance_to_uniform(rank),
        (2 / np.pi) ** 0.5 * np.pi / 8 / len(rank) ** 0.5,  # E |Brownian bridge|, averaged
        float((from_middle <= 0.25).mean()),
        float((from_middle <= 0.45).mean()),
        len(rank),
    )


def distance_to_uniform(rank: Floats, points: int = 999) -> float:
    """The mean of |F(x) - x| over x from 0 to 1, F the distribution function of the ranks."""
    x = np.arange(1, points + 1) / (points + 1)
    return float(np.abs(np.searchsorted(np.sort(rank), x, "right") / len(rank) - x).mean())


def _array(x: Tensor) -> Floats:
    return x.cpu().double().numpy()
