"""Batches of windows, drawn at random from episodes."""

from itertools import pairwise

import numpy as np

from worldmodel import nested
from worldmodel.arrays import Sums
from worldmodel.codecs import ActionCodec
from worldmodel.episodes import Columns, Episodes, EpisodeStore, MemoryStore, columns_of
from worldmodel.sequences import Row, Sequences

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


class Recorder:
    """Puts the episodes of games that go on and on into a replay, each as soon as it has ended.

    So a kill takes no more than the episodes that had not ended. (That one was truncated is known
    when the next one begins.)
    """

    def __init__(self, replay: Replay, weight: float = 1.0):
        self.replay = replay
        self.weight = weight
        self._pieces: dict[int, list[Columns]] = {}  # of each game's episode that has not ended
        self._ended: list[Episodes] = []

    def write(self, rows: Row) -> None:
        """Takes rows [T, B, ...] that go on from those before; what comes before a game's first
        first row is left out."""
        columns = columns_of(rows, self.replay.actions)  # [B, T, ...]
        for game, first in enumerate(rows.first.T.numpy()):
            for begin, end in pairwise([0, *np.flatnonzero(first).tolist(), len(first)]):
                if begin < end and first[begin]:
                    self._end(game)
                    self._pieces[game] = []
                if begin < end and game in self._pieces:
                    piece = nested.map(np.copy, nested.index(columns, (game, slice(begin, end))))
                    self._pieces[game].append(piece)
                    if piece["terminated"][-1]:
                        self._end(game)
        self._store()

    def finish(self) -> None:
        """Puts in what has not ended, as truncated: these games do not go on."""
        for game in sorted(self._pieces):
            self._end(game)
        self._store()

    def _end(self, game: int) -> None:
        pieces = self._pieces.pop(game, None)
        if pieces is not None:
            columns = nested.map(lambda *leaves: np.concatenate(leaves), *pieces)
            self._ended.append(Episodes(columns, np.array([len(columns["reward"])])))

    def _store(self) -> None:
        if self._ended:
            self.replay.add(Episodes.join(self._ended), self.weight)
            self._ended = []


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
