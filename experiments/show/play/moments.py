"""Records of a game, row by row: snapshots of its worlds, and their difference."""

from typing import Any, NamedTuple, cast

import numpy as np
from torch import Tensor

from worldmodel import Row, nested
from worldmodel.experiments.runs.labels import HAPPENED
from worldmodel.experiments.show.play.expectation import Expectation


class Snapshot(NamedTuple):
    """A world after a row, in plain numbers."""

    step: int  # 0 on a first row
    observation: Any  # arrays, nested as the observation space is
    reward: float
    total: float  # the rewards since the first row
    first: bool
    terminated: bool
    truncated: bool

    @property
    def ended(self) -> bool:
        """True if the next row begins a new game."""
        return self.terminated or self.truncated


class Difference(NamedTuple):
    """The distance of dream and reality, and the dream's log probability of the real row."""

    distance: float  # the greatest, in the encoding that the model reads: numbers in standard
    # deviations, classes and truth values 0 or 1
    log_prob: dict[str, float]  # the dream's log probability of the real row by key, nats; empty
    # if the distance is below `NOTICEABLE`
    densities: frozenset[str]  # keys with densities instead of probabilities

    @property
    def is_seen(self) -> bool:
        """True if the distance is noticeable."""
        return self.distance > NOTICEABLE


NOTICEABLE = 0.1  # of a distance


class Moment(NamedTuple):
    """A record of the latest row."""

    action: str  # action of the row, in words; "" on a first row
    real: Snapshot | None
    dream: Snapshot | None
    predicted: Expectation  # of the leading world
    surprise: dict[str, float]  # -log p of that by key, nats, each given the keys before it
    difference: Difference | None  # None unless two worlds moved together
    watching: bool  # the dream has just been synchronised with reality

    @property
    def lead(self) -> Snapshot:
        """The snapshot of the real world, if there is one, or else of the dream."""
        return cast(Snapshot, self.real or self.dream)


def snapshot_after(row: Row, ended: Tensor, before: Snapshot | None) -> Snapshot:
    """The snapshot of a world after a row [1, ...]; ended: bool [1], a new game comes next."""
    first, terminated, reward = bool(row.first), bool(row.terminated), float(row.reward)
    step, total = (0, 0.0) if first or before is None else (before.step + 1, before.total)
    return Snapshot(
        step=step,
        observation=nested.map(lambda leaf: leaf[0].numpy(), row.observation),
        reward=reward,
        total=total + reward,
        first=first,
        terminated=terminated,
        truncated=bool(ended) and not terminated,
    )


# In words.


def config(snapshot: Snapshot) -> list[str]:
    """A world's reward and return in words, and its observation if that is a single number."""
    reward = "none yet" if snapshot.first else f"{snapshot.reward:.4g}"
    seen = snapshot.observation
    sees = f"sees {seen}   " if isinstance(seen, np.ndarray) and seen.ndim == 0 else ""
    return [f"{sees}reward {reward}   return {snapshot.total:.5g}"]


def told_apart(moment: Moment, waits: bool) -> list[str]:
    """The dream's probability of the real row, in words."""
    if moment.difference is None:
        return ["the dream has ended" if waits else "the dream watches"]
    if not moment.difference.is_seen:
        return ["what is seen agrees"]
    return [HAPPENED, "   ".join(" ".join(pair) for pair in happened(moment).items())]


def happened(moment: Moment) -> dict[str, str]:
    """The dream's probability of the real row in words, by part of the row."""
    apart, real = moment.difference, moment.real
    if apart is None or real is None:
        return {}
    return {
        "no " * (key == "terminated" and not real.terminated) + part_of(key): probability(
            value, key in apart.densities
        )
        for key, value in apart.log_prob.items()
    }


def part_of(key: str) -> str:
    """The word for a part of a row, by its key."""
    return {"terminated": "end"}.get(key, key)


def probability(log_prob: float, is_density: bool = False) -> str:
    """A log probability in words: a percentage; of a density, the loss.

    >>> probability(-0.5), probability(-1e-5)
    ('60.7 %', '100 %')
    >>> probability(2.0, is_density=True), probability(-123.4, is_density=True)
    ('loss -2.0 nats', 'loss 123 nats')
    """
    if is_density:
        return f"loss {-log_prob:.{int(abs(log_prob) < 100)}f} nats"
    return f"{100 * np.exp(log_prob):.1f} %".replace("100.0", "100")
