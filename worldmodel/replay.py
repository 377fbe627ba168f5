"""Batches of windows, drawn at random from episodes."""

import numpy as np

from worldmodel.codecs import ActionCodec
from worldmodel.episodes import Episodes, EpisodeStore, MemoryStore
from worldmodel.sequences import Sequences


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
        lengths = self.episodes.lengths
        capped = np.minimum(lengths, length)
        by_episode = self.episodes.weights
        by_row = by_episode * lengths
        of_windows = (capped + 1) / 2 * capped / lengths + (1 - capped / lengths) * length
        mean = from_start * np.average(capped, weights=by_episode)
        mean += (1 - from_start) * np.average(of_windows, weights=by_row)
        number = max(1, round(rows / mean))
        early = int(self.random.binomial(number, from_start))
        episodes = np.append(
            _draw(self.random, by_episode, early), _draw(self.random, by_row, number - early)
        )
        starts = self.random.integers(0, lengths[episodes])
        starts[:early] = 0
        return [
            self.episodes.windows(self.actions, episodes[block], starts[block], length, burn_in)
            for block in split_by_length(np.minimum(lengths[episodes] - starts, length))
        ]

    def state_dict(self) -> dict:
        return {"random": self.random.bit_generator.state, "episodes": self.episodes.added}

    def load_state_dict(self, state: dict) -> None:
        """Goes on from there; episodes that a store on disk has got since then are forgotten."""
        self.episodes.rewind(state["episodes"])
        self.random.bit_generator.state = state["random"]


def _draw(random: np.random.Generator, weights: np.ndarray, number: int) -> np.ndarray:
    """`number` indices of `weights`, each drawn in proportion to its weight."""
    until = weights.cumsum()
    places = random.random(number) * until[-1]
    return np.searchsorted(until, places, side="right").clip(max=len(weights) - 1)


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
