"""Batches of windows, drawn at random from episodes."""

import numpy as np

from worldmodel.arrays import Sums
from worldmodel.codecs import ActionCodec
from worldmodel.episodes import Episodes, EpisodeStore, MemoryStore
from worldmodel.sequences import Sequences

BY_EPISODE, BY_ROW = 0, 1  # lists of a replay's odds


class Replay:
    """Draws windows from episodes.

    How often a row is drawn depends on what came before it in its episode, never on what comes
    after: drawing long episodes more often, for one, would teach that episodes do not end soon.
    """

    def __init__(
        self,
        actions: ActionCodec,
        seed: int | np.random.SeedSequence,
        episodes: EpisodeStore | None = None,
    ):
        """episodes: where they are kept; in memory by default."""
        self.actions = actions
        self.random = np.random.default_rng(seed)
        self.episodes = MemoryStore() if episodes is None else episodes
        self._forget_odds()

    def add(self, episodes: Episodes, weight: float = 1.0) -> None:
        """Adds episodes whose rows are drawn `weight` times as often as those of others."""
        self.episodes.add(episodes, weight)

    @property
    def steps(self) -> int:
        """Steps of the environment that are stored."""
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
        if not len(self.episodes):
            raise ValueError("the replay is empty: add episodes before sampling")
        self._follow(length)
        weight, weight_of_rows, from_first, from_any = self._odds.totals
        mean = from_start * from_first / weight + (1 - from_start) * from_any / weight_of_rows
        number = max(1, round(rows / mean))
        early = int(self.random.binomial(number, from_start))
        numbers = [
            self._odds.draw(self.random, which, count)
            for which, count in ((BY_EPISODE, early), (BY_ROW, number - early))
        ]
        episodes = np.concatenate(numbers) - self.episodes.dropped
        lengths = self.episodes.lengths
        starts = self.random.integers(0, lengths[episodes])
        starts[:early] = 0
        return [
            self.episodes.windows(self.actions, episodes[block], starts[block], length, burn_in)
            for block in split_by_length(np.minimum(lengths[episodes] - starts, length))
        ]

    def _forget_odds(self) -> None:
        self._length = 0
        self._begin = self._end = self.episodes.dropped  # the episodes whose odds are known
        self._odds = Sums(4, self._begin)

    def _follow(self, length: int) -> None:
        """Brings the odds of windows of `length` rows up to date with the episodes."""
        if length != self._length or self.episodes.added < self._end:
            self._forget_odds()
            self._length = length
        begin, end = self.episodes.dropped, self.episodes.added
        if (begin, end) == (self._begin, self._end):
            return
        self._odds.forget(np.arange(self._begin, min(begin, self._end)))
        new = np.arange(max(begin, self._end), end)
        chosen = new - begin
        lengths, weights = self.episodes.lengths[chosen], self.episodes.weights[chosen]
        self._odds.set(new, _odds(lengths, weights, length))
        self._begin, self._end = begin, end

    def state_dict(self) -> dict:
        return {"random": self.random.bit_generator.state, "episodes": self.episodes.added}

    def load_state_dict(self, state: dict) -> None:
        """Goes on from there; episodes that a store on disk has got since then are forgotten."""
        self.episodes.rewind(state["episodes"])
        self.random.bit_generator.state = state["random"]
        self._forget_odds()


def _odds(lengths: np.ndarray, weights: np.ndarray, length: int) -> np.ndarray:
    """For windows of up to `length` rows that begin at an episode's first row, and at any row: how
    often it is drawn, and times that, the rows that they hold on average, [4, episodes]."""
    capped = np.minimum(lengths, length)
    held = (capped + 1) / 2 * capped / lengths + (1 - capped / lengths) * length
    by_row = weights * lengths
    return np.stack([weights, by_row, weights * capped, by_row * held])


def split_by_length(lengths: np.ndarray) -> list[np.ndarray]:
    """One or two blocks of indices: the split by length [B] that leaves least padding.

    >>> split_by_length(np.array([9, 2, 8, 1]))
    [array([3, 1]), array([2, 0])]
    """
    order = np.argsort(lengths, kind="stable")
    first = np.arange(len(order))[::-1] + 1  # [B], the size of a first block, all of them at first
    padded = first * lengths[order[::-1]] + (len(order) - first) * lengths.max()
    best = first[padded.argmin()]
    return [block for block in (order[:best], order[best:]) if len(block)]
