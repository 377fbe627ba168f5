"""Batches of windows, drawn at random from episodes."""

from typing import NamedTuple

import numpy as np

from worldmodel import timing
from worldmodel.arrays import GrowingArray, Sums
from worldmodel.codecs import ActionCodec
from worldmodel.episodes import Episodes, EpisodeStore, MemoryStore
from worldmodel.sequences import Sequences


class Drawn(NamedTuple):
    """A block of windows, and the episodes that they are from."""

    sequences: Sequences  # [T, B, ...]
    episodes: np.ndarray  # int64 [B], numbers of episodes: that of the first ever added is 0
    ratios: np.ndarray  # [B], how likely it would be without priorities over how likely it is


class Priorities:
    """Episodes are drawn in proportion to priority ** exponent: proportional prioritised replay
    (Schaul et al. 2016, https://arxiv.org/abs/1511.05952), of episodes instead of transitions.

    A priority is set by the learner, such as the loss of a window of the episode. So what is
    drawn depends on losses, which depend on whole episodes, also on what comes after a row: a
    model of how episodes go on becomes biased, unless each window's loss is multiplied by its
    ratio (`Drawn.ratios`). New episodes have the highest priority so far.
    """

    def __init__(self, exponent: float = 0.6):
        if not exponent > 0:
            raise ValueError(f"the exponent of priorities must be positive, got {exponent}")
        self.exponent = exponent
        self.highest = 1.0  # so far
        self._values = GrowingArray(np.empty(0))
        self._begin = 0  # the number of the episode that the first value is of

    def follow(self, begin: int, end: int) -> None:
        """Keeps the priorities of the existing episodes from `begin` to `end`."""
        kept = self._values.array
        gone = min(begin - self._begin, len(kept))
        self._values.drop(gone)
        self._begin = begin
        self._values.truncate(min(len(self._values.array), end - begin))
        self._values.append(np.full(end - begin - len(self._values.array), self.highest))

    def set(self, episodes: np.ndarray, priorities: np.ndarray) -> None:
        """Sets the priorities [n] of the episodes of these numbers."""
        self.highest = max(self.highest, float(priorities.max()))
        self._values.array[episodes - self._begin] = priorities

    def factors(self, episodes: np.ndarray) -> np.ndarray:
        """Sampling factors of the episodes of these numbers, relative to others, [n]."""
        return self._values.array[episodes - self._begin] ** self.exponent

    def state_dict(self) -> dict:
        """Everything that the next draws depend on."""
        values = self._values.array.tolist()
        return {"begin": self._begin, "highest": self.highest, "values": values}

    def load_state_dict(self, state: dict) -> None:
        """Resumes from `state`."""
        self._begin, self.highest = state["begin"], state["highest"]
        self._values = GrowingArray(np.empty(0))
        self._values.append(np.array(state["values"], float))


class Replay:
    """Draws windows from episodes.

    How often a row is drawn depends on what came before it in its episode, never on what comes
    after: drawing long episodes more often, for one, would teach that episodes do not end soon.
    (`Priorities` give that up.)
    """

    def __init__(
        self,
        actions: ActionCodec,
        seed: int | np.random.SeedSequence,
        episodes: EpisodeStore | None = None,
        priorities: Priorities | None = None,
    ):
        """episodes: the store to draw from; in memory by default."""
        self.priorities = priorities
        self.actions = actions
        self.random = np.random.default_rng(seed)
        self.episodes = MemoryStore() if episodes is None else episodes
        self._forget_odds()

    def add(self, episodes: Episodes, weight: float = 1.0) -> None:
        """Adds episodes whose rows are drawn `weight` times as often as those of others."""
        self.episodes.add(episodes, weight)

    def rewind(self, added: int) -> None:
        """Takes back all but the first `added` episodes ever added."""
        self.episodes.rewind(added)
        self._forget_odds()

    @property
    def steps(self) -> int:
        """The number of steps of the environment that are stored."""
        return self.episodes.steps

    def sample(
        self, length: int, rows: int, from_start: float = 0.0, burn_in: int = 0
    ) -> list[Sequences]:
        """Windows of up to `length` rows, each inside one episode: blocks of [T, B, ...].

        A window begins at the first row of any episode with probability `from_start`, else at any
        row; one that begins late does not score its first `burn_in` rows. There are as many
        windows as make `rows` rows on average, in two blocks if short ones would else be padded
        to the length of long ones.
        """
        with timing.spent(timing.READING):
            return [drawn.sequences for drawn in self.draw(length, rows, from_start, burn_in)]

    def draw(
        self, length: int, rows: int, from_start: float = 0.0, burn_in: int = 0
    ) -> list[Drawn]:
        """Draws the windows of `sample`, with the episodes that they are from."""
        if not len(self.episodes):
            raise ValueError("the replay is empty: add episodes before sampling")
        self._follow(length)
        by_episode, by_row, from_first, from_any = self._odds.totals[:4]
        mean = from_start * from_first / by_episode + (1 - from_start) * from_any / by_row
        number = max(1, round(rows / mean))
        early = int(self.random.binomial(number, from_start))
        counts = (early, number - early)
        numbers = [self._odds.draw(self.random, which, n) for which, n in enumerate(counts)]
        episodes = np.concatenate(numbers) - self.episodes.dropped
        lengths = self.episodes.lengths[episodes]
        starts = self.random.integers(0, lengths)
        starts[:early] = 0
        ratios = self._ratios(episodes, starts, from_start)
        return [
            Drawn(
                self.episodes.windows(
                    self.actions, episodes[block], starts[block], length, burn_in
                ),
                episodes[block] + self.episodes.dropped,
                ratios[block],
            )
            for block in split_by_length(np.minimum(lengths - starts, length))
        ]

    def prioritise(self, episodes: np.ndarray, priorities: np.ndarray) -> None:
        """Sets the priorities [n], positive, of the episodes of the given numbers [n]; those that
        have been dropped since they were drawn are ignored."""
        if self.priorities is None:
            raise ValueError("this replay has no priorities: make it with Replay(priorities=...)")
        if not (np.isfinite(priorities) & (priorities > 0)).all():
            raise ValueError(f"priorities are positive numbers, got {priorities}")
        self._follow(self._length)
        there = episodes >= self.episodes.dropped
        if there.any():
            self.priorities.set(episodes[there], priorities[there])
            self._set_odds(np.unique(episodes[there]))

    def _ratios(self, episodes: np.ndarray, starts: np.ndarray, from_start: float) -> np.ndarray:
        """The likelihood of windows without priorities over that with them, [B]."""
        if self.priorities is None:
            return np.ones(len(episodes))
        totals = self._odds.totals

        def likelihood(by_episode: float, by_row: float) -> np.ndarray:
            return from_start * (starts == 0) / by_episode + (1 - from_start) / by_row

        factors = self.priorities.factors(episodes + self.episodes.dropped)
        return likelihood(totals[4], totals[5]) / (factors * likelihood(totals[0], totals[1]))

    def _forget_odds(self) -> None:
        self._length = 0
        self._begin = self._end = self.episodes.dropped  # episodes with known probabilities
        self._odds = Sums(4 if self.priorities is None else 6, self._begin)

    def _follow(self, length: int) -> None:
        """Updates the probabilities of windows of `length` rows to the current episodes."""
        if length != self._length or self.episodes.added < self._end:
            self._forget_odds()
            self._length = length
        begin, end = self.episodes.dropped, self.episodes.added
        if (begin, end) == (self._begin, self._end):
            return
        self._odds.forget(np.arange(self._begin, min(begin, self._end)))
        if self.priorities is not None:
            self.priorities.follow(begin, end)
        self._set_odds(np.arange(max(begin, self._end), end))
        self._begin, self._end = begin, end

    def _set_odds(self, numbers: np.ndarray) -> None:
        chosen = numbers - self.episodes.dropped
        lengths, weights = self.episodes.lengths[chosen], self.episodes.weights[chosen]
        odds = _odds(lengths, weights, self._length)
        if self.priorities is not None:
            odds = np.concatenate([odds * self.priorities.factors(numbers), odds[:2]])
        self._odds.set(numbers, odds)

    def state_dict(self) -> dict:
        """Everything that the next draws depend on but the episodes themselves."""
        state = {"random": self.random.bit_generator.state, "episodes": self.episodes.added}
        if self.priorities is not None:
            self._follow(self._length)
            state["priorities"] = self.priorities.state_dict()
        return state

    def load_state_dict(self, state: dict) -> None:
        """Resumes from `state`; episodes that a store on disk has got since then are removed."""
        self.episodes.rewind(state["episodes"])
        self.random.bit_generator.state = state["random"]
        if self.priorities is not None:
            self.priorities.load_state_dict(state["priorities"])
        self._forget_odds()


def _odds(lengths: np.ndarray, weights: np.ndarray, length: int) -> np.ndarray:
    """Sampling rates, and those times the mean rows of a window, of windows of up to `length` rows
    that begin at an episode's first row, and at any row, [4, episodes]."""
    capped = np.minimum(lengths, length)
    held = (capped + 1) / 2 * capped / lengths + (1 - capped / lengths) * length
    by_row = weights * lengths
    return np.stack([weights, by_row, weights * capped, by_row * held])


def split_by_length(lengths: np.ndarray) -> list[np.ndarray]:
    """Indices in one or two blocks: the split by length [B] that leaves least padding.

    >>> split_by_length(np.array([9, 2, 8, 1]))
    [array([3, 1]), array([2, 0])]
    """
    order = np.argsort(lengths, kind="stable")
    first = np.arange(len(order))[::-1] + 1  # [B], the size of a first block, all of them at first
    padded = first * lengths[order[::-1]] + (len(order) - first) * lengths.max()
    best = first[padded.argmin()]
    return [block for block in (order[:best], order[best:]) if len(block)]
