"""Recordings read in order: windows that go on from one another."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from worldmodel import timing
from worldmodel.codecs import ActionCodec
from worldmodel.episodes import EpisodeSource
from worldmodel.sequences import Sequences

BLUR = 1.25  # of lengths, so that the neighbours of a piece change from epoch to epoch
Vary = Callable[[Any, Tensor], Any]


class Pieces(NamedTuple):
    """Stretches of recordings."""

    episodes: np.ndarray  # int64 [N]
    starts: np.ndarray  # int64 [N], rows of their episodes
    ends: np.ndarray  # int64 [N]


class SequentialBatches:
    """Reads all recordings, epoch after epoch: pieces of about the same length side by side, each
    from its beginning to its end, in windows that a carried state connects (`Bound.carries`).

    Recordings longer than a piece are cut, elsewhere in every epoch. The first row of a piece is a
    first row: the model's state restarts there.
    """

    def __init__(
        self,
        source: EpisodeSource,
        actions: ActionCodec,
        batch: int,
        window: int,
        piece: int,
        seed: int | np.random.SeedSequence,
        vary: Vary | None = None,
    ):
        """batch: pieces side by side; window, piece: rows, at most; vary: (observations [T, B,
        ...], uniform draws float64 [B] in 0..1) -> what is read instead; a piece keeps its draw to
        its end."""
        if min(batch, window, piece) < 1:
            raise ValueError(
                f"batch, window and piece are 1 or more, got {batch}, {window} and {piece}"
            )
        self.source = source
        self.actions = actions
        self.batch = batch
        self.window = window
        self.piece = piece
        self.vary = vary
        self.random = np.random.default_rng(seed)
        self._begin_epoch()

    def __iter__(self) -> "SequentialBatches":
        return self

    @timing.spent(timing.READING)
    def __next__(self) -> Sequences:
        """The next windows, [T, B, ...]; B changes only where pieces begin."""
        if self._position == len(self._plan):
            self._begin_epoch()
        group, offset = self._plan[self._position]
        self._position += 1
        episodes, starts, ends = (part[group] for part in self._pieces)
        begins = np.minimum(starts + offset, ends)
        sequences = self.source.windows(self.actions, episodes, begins, self.window, ends=ends)
        if self.vary is not None:
            varied = self.vary(sequences.rows.observation, self._draws[group])
            sequences = sequences._replace(rows=sequences.rows._replace(observation=varied))
        return sequences if offset else _begin(sequences)

    def state_dict(self) -> dict[str, Any]:
        """Everything that the next batches depend on."""
        return {"random": self._before, "position": self._position}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Resumes from `state`."""
        self.random.bit_generator.state = state["random"]
        self._begin_epoch()
        self._position = state["position"]

    def _begin_epoch(self) -> None:
        self._before = self.random.bit_generator.state
        self._position = 0
        self._pieces = cut(self.source.lengths, self.piece, self.random)
        lengths = self._pieces.ends - self._pieces.starts
        order = np.argsort(lengths * self.random.uniform(1 / BLUR, BLUR, len(lengths)))
        groups = np.array_split(order, -(-len(order) // self.batch))
        self._plan = [
            (groups[number], offset)
            for number in self.random.permutation(len(groups))
            for offset in range(0, int(lengths[groups[number]].max()), self.window)
        ]
        if self.vary is not None:
            self._draws = torch.from_numpy(self.random.random(len(lengths)))


def cut(lengths: np.ndarray, piece: int, random: np.random.Generator) -> Pieces:
    """Recordings of the given lengths [episodes] in pieces of at most `piece` rows, the first of
    each as long as chance will have it.

    >>> cut(np.array([3, 7]), 4, np.random.default_rng(0))
    Pieces(episodes=array([0, 1, 1]), starts=array([0, 0, 4]), ends=array([3, 4, 7]))
    """
    episodes, starts, ends = [], [], []
    for episode, length in enumerate(lengths.tolist()):
        first = length if length <= piece else int(random.integers(1, piece + 1))
        begins = np.concatenate([[0], np.arange(first, length, piece)])
        episodes.append(np.full(len(begins), episode))
        starts.append(begins)
        ends.append(np.append(begins[1:], length))
    return Pieces(*(np.concatenate(part) for part in (episodes, starts, ends)))


def _begin(sequences: Sequences) -> Sequences:
    """The same windows with their first row marked as a first row."""
    rows = sequences.rows
    first = rows.first.clone()
    first[0] = True
    action = rows.action.clone()
    action[0] = 0.0
    return sequences._replace(rows=rows._replace(first=first, action=action))
