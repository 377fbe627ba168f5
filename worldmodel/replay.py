"""Whole episodes, and batches of windows cut from them."""

from pathlib import Path

import numpy as np
import torch

from worldmodel.codecs import ActionCodec
from worldmodel.sequences import Row, Sequences


class Episodes:
    """Episodes one after another, actions in the space's own terms.

    The first row of an episode holds the reset observation; its action, reward and end are void.
    """

    KEYS = ("action", "observation", "reward", "terminated")

    def __init__(self, columns: dict[str, np.ndarray], lengths: np.ndarray):
        """columns: arrays [N, ...] by key; lengths int64 [episodes], in rows, that add up to N."""
        rows = int(lengths.sum())
        if set(columns) != set(self.KEYS) or any(len(c) != rows for c in columns.values()):
            found = {key: len(column) for key, column in columns.items()}
            raise ValueError(
                f"episodes expect the columns {self.KEYS} of {rows} rows each (the sum of their "
                f"lengths), got {found}"
            )
        self.columns = columns
        self.lengths = lengths
        self.starts = np.cumsum(lengths) - lengths

    def __len__(self) -> int:
        return len(self.lengths)

    @property
    def steps(self) -> int:
        """Rows that are no first rows: steps of the environment."""
        return int(self.lengths.sum()) - len(self)

    @classmethod
    def cut(cls, sequences: Sequences, actions: ActionCodec) -> "Episodes":
        """The episodes in rows [T, B, ...] of one unbroken run; the last of each column may be
        unfinished, and counts as truncated. Rows before a column's first row are left out."""
        rows = sequences.rows._replace(action=actions.decode(sequences.rows.action))
        first = rows.first.T.numpy()  # [B, T]
        keep = np.logical_or.accumulate(first, 1).reshape(-1)
        columns = {
            key: getattr(rows, key).transpose(0, 1).flatten(0, 1).numpy()[keep] for key in cls.KEYS
        }
        begins = np.flatnonzero(first.reshape(-1)[keep])
        return cls(columns, np.diff(begins, append=keep.sum()))

    @classmethod
    def join(cls, parts: list["Episodes"]) -> "Episodes":
        columns = {key: np.concatenate([part.columns[key] for part in parts]) for key in cls.KEYS}
        return cls(columns, np.concatenate([part.lengths for part in parts]))

    def select(self, chosen: np.ndarray) -> "Episodes":
        """The episodes with the given indices."""
        rows = np.concatenate(
            [np.arange(self.starts[e], self.starts[e] + self.lengths[e]) for e in chosen]
        )
        return Episodes({k: c[rows] for k, c in self.columns.items()}, self.lengths[chosen])

    def windows(
        self,
        actions: ActionCodec,
        episodes: np.ndarray,
        starts: np.ndarray,
        length: int,
        burn_in: int = 0,
    ) -> Sequences:
        """Windows of `length` rows or, where an episode ends before, fewer: [T, B, ...].

        episodes int [B]; starts int [B], the rows of their episodes where the windows begin.
        A window that begins inside an episode does not score its first `burn_in` rows.
        """
        remaining = self.lengths[episodes] - starts
        times = np.arange(min(length, remaining.max()))[:, None]
        mask = times < remaining  # [T, B]
        index = self.starts[episodes] + starts + np.minimum(times, remaining - 1)
        column = {key: torch.from_numpy(array[index]) for key, array in self.columns.items()}
        first = torch.from_numpy((times + starts) == 0)
        mask_, scored = (
            torch.from_numpy(mask),
            torch.from_numpy(mask & (times + starts >= np.where(starts > 0, starts + burn_in, 0))),
        )
        action = actions.encode(column["action"]).masked_fill(first[..., None], 0.0)
        rows = Row(first, action, column["observation"], column["reward"], column["terminated"])
        return Sequences(rows, mask_, scored)

    def sequences(self, actions: ActionCodec, episodes: np.ndarray | None = None) -> Sequences:
        """Whole episodes (all of them by default), padded: [T, B, ...]."""
        episodes = np.arange(len(self)) if episodes is None else episodes
        return self.windows(actions, episodes, np.zeros_like(episodes), int(self.lengths.max()))

    def save(self, path: Path) -> None:
        """Writes an .npz, under a temporary name first."""
        temporary = path.with_name(path.name + ".part")
        with open(temporary, "wb") as file:
            np.savez_compressed(file, lengths=self.lengths, **self.columns)  # type: ignore[arg-type]
            file.flush()
        temporary.replace(path)

    @classmethod
    def load(cls, path: Path) -> "Episodes":
        try:
            with np.load(path, allow_pickle=False) as file:
                columns = dict(file)
                return cls(columns, columns.pop("lengths"))
        except FileNotFoundError:
            raise
        except Exception as error:
            raise ValueError(f"{path} is no file of episodes, or damaged: {error}") from error


class Replay:
    """Draws windows from episodes.

    How often a row is drawn depends on what came before it in its episode, never on what comes
    after: drawing long episodes more often, for one, would teach that episodes do not end soon.
    """

    def __init__(self, actions: ActionCodec, seed: int | np.random.SeedSequence):
        self.actions = actions
        self.random = np.random.default_rng(seed)
        self.episodes: Episodes | None = None
        self.weights = np.empty(0)  # [episodes]

    def add(self, episodes: Episodes, weight: float = 1.0) -> None:
        """Adds episodes whose rows are drawn `weight` times as often as those of others."""
        parts = [episodes] if self.episodes is None else [self.episodes, episodes]
        self.episodes = Episodes.join(parts)
        self.weights = np.append(self.weights, np.full(len(episodes), weight))

    @property
    def steps(self) -> int:
        """Steps of the environment that are stored."""
        return 0 if self.episodes is None else self.episodes.steps

    def sample(
        self, length: int, rows: int, from_start: float = 0.0, burn_in: int = 0
    ) -> list[Sequences]:
        """Windows of up to `length` rows, each inside one episode: blocks of [T, B, ...].

        A window begins at the first row of any episode with probability `from_start`, else at any
        row; one that begins late does not score its first `burn_in` rows. There are as many
        windows as make `rows` rows on average, in two blocks if short ones would else be padded
        to the length of long ones.
        """
        if self.episodes is None or not len(self.episodes):
            raise ValueError("the replay is empty: add episodes before sampling")
        lengths = self.episodes.lengths
        capped = np.minimum(lengths, length)
        by_episode, by_row = self.weights, self.weights * lengths
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
        return {"random": self.random.bit_generator.state}

    def load_state_dict(self, state: dict) -> None:
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
