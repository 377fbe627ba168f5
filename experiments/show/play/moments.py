"""What is told of a game, row by row: where its worlds stand, how far they are apart."""

from typing import Any, NamedTuple, cast

import numpy as np
from torch import Tensor

from worldmodel import Row, nested
from worldmodel.experiments.show.play.expectation import Expectation


class Place(NamedTuple):
    """Where a world stands after a row, in plain numbers."""

    step: int  # 0 on a first row
    observation: Any  # arrays, nested as the observation space is
    reward: float
    total: float  # the rewards since the first row
    first: bool
    terminated: bool
    truncated: bool

    @property
    def ended(self) -> bool:
        """Whether a new game comes next."""
        return self.terminated or self.truncated


class Difference(NamedTuple):
    """How far the dream is from reality, and how probable it had held what really happened."""

    distance: float  # the greatest, in the encoding that the model reads: numbers in standard
    # deviations, classes and truth values 0 or 1
    log_prob: dict[str, float]  # nats that the dream gave to what really happened, by key; empty
    # where the difference is too small to be noticed
    densities: frozenset[str]  # keys that have no probability, but a density

    @property
    def is_seen(self) -> bool:
        """Whether there is one worth telling."""
        return self.distance > NOTICEABLE


NOTICEABLE = 0.1  # of a distance


class Moment(NamedTuple):
    """What happened last."""

    action: str  # that led here, in words; empty on a first row
    real: Place | None
    dream: Place | None
    predicted: Expectation  # of the world that leads
    surprise: dict[str, float]  # -log p of that by key, nats, each given the keys before it
    difference: Difference | None  # None where there are not two worlds that moved together
    watching: bool  # the dream has just been put where reality is

    @property
    def lead(self) -> Place:
        """The world that the player is in: the real one, where there is one."""
        return cast(Place, self.real or self.dream)


def place_after(row: Row, ended: Tensor, before: Place | None) -> Place:
    """Where a world stands after one more row [1, ...]; ended: bool [1], a new game comes next."""
    first, terminated, reward = bool(row.first), bool(row.terminated), float(row.reward)
    step, total = (0, 0.0) if first or before is None else (before.step + 1, before.total)
    return Place(
        step=step,
        observation=nested.map(lambda leaf: leaf[0].numpy(), row.observation),
        reward=reward,
        total=total + reward,
        first=first,
        terminated=terminated,
        truncated=bool(ended) and not terminated,
    )


# In words.


def config(place: Place) -> list[str]:
    """A world's reward and return, and what is seen of it where a number says it all."""
    end = "the end" * place.terminated + "time is up" * place.truncated
    reward = "none yet" if place.first else f"{place.reward:.4g}"
    seen = place.observation
    sees = f"sees {seen}   " if isinstance(seen, np.ndarray) and seen.ndim == 0 else ""
    return [f"{sees}reward {reward}   return {place.total:.5g}   {end}".rstrip()]


def told_apart(moment: Moment, waits: bool) -> list[str]:
    """What the dream had thought of what really happened."""
    if moment.difference is None:
        return ["the dream has ended" if waits else "the dream watches"]
    if not moment.difference.is_seen:
        return ["what is seen agrees"]
    (first, odds), *others = odds_of(moment).items()
    return [
        f"the dream gave this {first} {odds}",
        "   ".join(f"{key} {odds}" for key, odds in others),
    ]


def odds_of(moment: Moment) -> dict[str, str]:
    """What the dream gave to what really happened, by key."""
    apart = moment.difference
    if apart is None:
        return {}
    return {key: odds(value, key in apart.densities) for key, value in apart.log_prob.items()}


def odds(log_prob: float, is_density: bool = False) -> str:
    """A log probability in words: a percentage, or of a density, which has none, the loss.

    >>> odds(-0.5), odds(2.0, is_density=True), odds(-123.4, is_density=True)
    ('60.7 %', 'loss -2.0 nats', 'loss 123 nats')
    """
    if is_density:
        return f"loss {-log_prob:.{int(abs(log_prob) < 100)}f} nats"
    return f"{100 * np.exp(log_prob):.1f} %"
