"""Whole episodes, in memory: columns of rows, and windows cut from them."""

import io
import json
import math
import os
import zipfile
from abc import ABC, abstractmethod
from collections.abc import Iterator
from io import BufferedReader
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.lib import format as npy

from worldmodel import nested
from worldmodel.arrays import GrowingArray
from worldmodel.codecs import ActionCodec
from worldmodel.files import DamagedError, reading, writing
from worldmodel.sequences import Row, Sequences

PORTION = 10_000  # rows
MOST_UNPACKED = 2**28  # bytes that any .npz may unpack to
MOST_RATIO = 400  # what a larger one unpacks to at most, relative to its size
KEYS = ("action", "observation", "reward", "terminated")
Columns = dict[str, Any]  # the KEYS; arrays [N, ...], "observation" a nested structure of them


class EpisodeSource(ABC):
    """A source of whole episodes, in memory or on disk, actions as values of their space.

    Rows are numbered, those of an episode one after another. The first row of an episode holds
    the reset observation; its action, reward and end are placeholders.
    """

    @property
    @abstractmethod
    def lengths(self) -> np.ndarray:
        """Rows of each episode, int64 [episodes]."""

    @property
    @abstractmethod
    def starts(self) -> np.ndarray:
        """The number of each episode's first row, int64 [episodes], rising."""

    @abstractmethod
    def gather(self, rows: np.ndarray) -> Columns:
        """The columns of the rows of the given numbers: int64 [*] -> arrays [*, ...]."""

    def __len__(self) -> int:
        return len(self.lengths)

    @property
    def rows(self) -> int:
        """The number of all rows, first rows among them."""
        return int(self.starts[-1] + self.lengths[-1] - self.starts[0]) if len(self) else 0

    @property
    def steps(self) -> int:
        """The number of rows that are no first rows: steps of the environment."""
        return self.rows - len(self)

    def select(self, chosen: np.ndarray) -> "Episodes":
        """The episodes with the given indices."""
        spans = zip(self.starts[chosen], self.lengths[chosen], strict=True)
        rows = [np.arange(start, start + length) for start, length in spans]
        return Episodes(
            self.gather(np.concatenate([np.arange(0), *rows])), self.lengths[chosen].copy()
        )

    def windows(
        self,
        actions: ActionCodec,
        episodes: np.ndarray,
        starts: np.ndarray,
        length: int,
        burn_in: int = 0,
        ends: np.ndarray | None = None,
    ) -> Sequences:
        """Windows of `length` rows or, where an episode ends before, fewer: [T, B, ...].

        episodes int [B]; starts int [B], the rows of their episodes where the windows begin;
        ends int [B], the rows before which they end, if not with their episodes.
        A window that begins inside an episode does not score its first `burn_in` rows.
        """
        ends = self.lengths[episodes] if ends is None else ends
        remaining = ends - starts
        times = np.arange(min(length, remaining.max()))[:, None]
        mask = times < remaining  # [T, B]
        index = self.starts[episodes] + np.minimum(starts + times, ends - 1)
        column = nested.map(torch.from_numpy, self.gather(index))
        first = torch.from_numpy((times + starts) == 0)
        scored = mask & (times + starts >= np.where(starts > 0, starts + burn_in, 0))
        action = actions.encode(column["action"]).masked_fill(first[..., None], 0.0)
        rows = Row(first, action, column["observation"], column["reward"], column["terminated"])
        return Sequences(rows, torch.from_numpy(mask), torch.from_numpy(scored))

    def portions(self, chosen: np.ndarray | None = None) -> "Iterator[Episodes]":
        """The chosen episodes, all of them by default, about `PORTION` rows at a time."""
        chosen = np.arange(len(self)) if chosen is None else chosen
        if len(chosen):
            number = (self.starts[chosen] - self.starts[0]) // PORTION
            for part in np.split(chosen, np.flatnonzero(np.diff(number)) + 1):
                yield self.select(part)

    def typical(self) -> "Episodes":
        """Episodes at even distances, of about `PORTION` rows; all, if they have fewer."""
        number = max(1, round(len(self) * min(1.0, PORTION / self.rows)))
        return self.select(np.linspace(0, len(self) - 1, number).round().astype(int))

    def side_by_side(self, rows: int) -> list[np.ndarray]:
        """Places of episodes of about the same length, in groups that fill at most so many rows
        when padded; one each at least."""
        groups: list[list[int]] = []
        for episode in np.argsort(self.lengths, kind="stable").tolist():
            if groups and (len(groups[-1]) + 1) * self.lengths[episode] <= rows:
                groups[-1].append(episode)
            else:
                groups.append([episode])
        return [np.array(group) for group in groups]

    def sequences(self, actions: ActionCodec, episodes: np.ndarray | None = None) -> Sequences:
        """Whole episodes (all of them by default), padded: [T, B, ...]."""
        episodes = np.arange(len(self)) if episodes is None else episodes
        return self.windows(actions, episodes, np.zeros_like(episodes), int(self.lengths.max()))


class Episodes(EpisodeSource):
    """Some episodes, one after another, that stay as they are."""

    KEYS = KEYS

    def __init__(self, columns: Columns, lengths: np.ndarray):
        """columns: by key, leaves [N, ...]; lengths int64 [episodes], in rows, adding up to N."""
        rows = int(lengths.sum())
        fit = all(len(leaf) == rows for leaf in nested.leaves(columns))
        if set(columns) != set(KEYS) or not fit:
            found = {key: nested.map(len, column) for key, column in columns.items()}
            raise ValueError(
                f"episodes expect the columns {KEYS} of {rows} rows each (the sum of their "
                f"lengths), got {found}"
            )
        if any(leaf.dtype.hasobject for leaf in nested.leaves(columns)):
            raise ValueError(
                f"episodes hold numbers, but {describe(columns)} came: Python objects, such as "
                "texts or graphs, have to be turned into numbers first"
            )
        self.columns = {key: columns[key] for key in KEYS}
        self._lengths = lengths
        self._starts = np.cumsum(lengths) - lengths

    @property
    def lengths(self) -> np.ndarray:
        return self._lengths

    @property
    def starts(self) -> np.ndarray:
        return self._starts

    @property
    def rewards(self) -> np.ndarray:
        """The rewards of all rows [N] but first rows, where they are placeholders."""
        return np.delete(self.columns["reward"], self.starts)

    def gather(self, rows: np.ndarray) -> Columns:
        return nested.index(self.columns, rows)

    @classmethod
    def cut(cls, sequences: Sequences, actions: ActionCodec) -> "Episodes":
        """The episodes in rows [T, B, ...] of one unbroken run; the last of each column may be
        unfinished, and counts as truncated. Rows before a column's first row are left out."""
        rows = sequences.rows._replace(action=actions.decode(sequences.rows.action))
        first = rows.first.T.numpy()  # [B, T]
        keep = np.logical_or.accumulate(first, 1)

        def column(leaf: torch.Tensor) -> np.ndarray:
            return leaf.transpose(0, 1).numpy()[keep]

        columns = {key: nested.map(column, getattr(rows, key)) for key in KEYS}
        begins = np.flatnonzero(first[keep])
        return cls(columns, np.diff(begins, append=keep.sum()))

    @classmethod
    def join(cls, parts: list["Episodes"]) -> "Episodes":
        """The episodes of all parts, in their order."""

        def joined(*columns: np.ndarray) -> np.ndarray:
            return np.concatenate(columns)

        columns = nested.map(joined, *(part.columns for part in parts))
        return cls(columns, np.concatenate([part.lengths for part in parts]))

    def save(self, path: Path) -> None:
        """Writes an .npz, under a temporary name first.

        Leaves of a nested observation are arrays named after their place, as in
        "observation.camera"; "structure", JSON, describes their nesting.
        """
        names = nested.names(self.columns)
        arrays = dict(zip(nested.leaves(names), nested.leaves(self.columns), strict=True))
        structure = np.array(json.dumps(names))
        with writing(path) as part, open(part, "wb") as file:
            np.savez_compressed(file, lengths=self.lengths, structure=structure, **arrays)  # type: ignore[arg-type]

    @classmethod
    def load(cls, path: Path) -> "Episodes":
        """Reads what `save` has written; every array is compared with its CRC-32.

        Raises DamagedError for anything else, FileNotFoundError where there is nothing.
        """
        with reading(path) as file:
            try:
                arrays = _read_npz(file)
                lengths = arrays.pop("lengths")
                structure = arrays.pop("structure", None)  # flat observations had none once
                if structure is not None:
                    names = nested.from_json(json.loads(str(structure)))
                    arrays = nested.map(arrays.__getitem__, names)
                return cls(arrays, lengths)
            except Exception as error:
                raise DamagedError(
                    f"{path} is no file of episodes, or damaged: {error}"
                ) from error


def _read_npz(file: BufferedReader) -> dict[str, np.ndarray]:
    """The arrays of an .npz, after their sizes have been looked at."""
    with zipfile.ZipFile(file) as archive:
        unpacked = sum(part.file_size for part in archive.infolist())
        packed = os.fstat(file.fileno()).st_size
        if unpacked > MOST_UNPACKED and unpacked > MOST_RATIO * packed:
            raise ValueError(
                f"its {packed:,} bytes would unpack to {unpacked:,}, more than {MOST_RATIO} times "
                "as many"
            )
        return {
            part.filename.removesuffix(".npy"): _read_array(_unpacked(archive, part))
            for part in archive.infolist()
        }


def _unpacked(archive: zipfile.ZipFile, part: zipfile.ZipInfo) -> bytes:
    """A part of an archive, no more of it than its header says."""
    with archive.open(part) as file:
        return file.read(part.file_size)


def _read_array(raw: bytes) -> np.ndarray:
    """The array of a .npy, whose header says no more than there is."""
    file = io.BytesIO(raw)
    version = npy.read_magic(file)
    read = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}[version]
    shape, _, dtype = read(file)
    if math.prod(shape) * dtype.itemsize != len(raw) - file.tell():
        raise ValueError(f"an array of the shape {list(shape)} and type {dtype} is cut off")
    file.seek(0)
    return npy.read_array(file, allow_pickle=False)


class Joined(EpisodeSource):
    """The episodes of two sources of the same columns, one after the other."""

    def __init__(self, first: EpisodeSource, second: EpisodeSource):
        self.parts = first, second
        self._end = int(first.starts[-1] + first.lengths[-1]) if len(first) else 0
        starts = second.starts - (second.starts[0] if len(second) else 0)
        self._lengths = np.concatenate([first.lengths, second.lengths])
        self._starts = np.concatenate([first.starts, self._end + starts])

    @property
    def lengths(self) -> np.ndarray:
        return self._lengths

    @property
    def starts(self) -> np.ndarray:
        return self._starts

    def gather(self, rows: np.ndarray) -> Columns:
        first, second = self.parts
        if not len(second):
            return first.gather(rows)
        if not len(first):
            return second.gather(rows + second.starts[0])
        late = rows >= self._end
        begin = np.where(late, first.starts[0], rows)
        end = np.where(late, rows - self._end + second.starts[0], second.starts[0])

        def chosen(early: np.ndarray, later: np.ndarray) -> np.ndarray:
            mask = late.reshape(late.shape + (1,) * (early.ndim - late.ndim))
            return np.where(mask, later, early)

        return nested.map(chosen, first.gather(begin), second.gather(end))


class EpisodeStore(EpisodeSource):
    """Episodes to which others are added; beyond a capacity the oldest are dropped.

    Adding costs what the new episodes cost. Row numbers are never used twice.
    """

    def __init__(self, capacity: int | None = None):
        """capacity: rows that are kept at most (the newest episode is kept anyway)."""
        if capacity is not None and capacity < 1:
            raise ValueError(f"a capacity is 1 row or more, got {capacity}")
        self.capacity = capacity
        self._like: Columns = {}  # columns of no rows
        self._clear()

    def _clear(self) -> None:
        self.dropped = 0  # episodes that were here before those that are
        self._starts = GrowingArray(np.empty(0, np.int64))
        self._lengths = GrowingArray(np.empty(0, np.int64))
        self._weights = GrowingArray(np.empty(0))

    @property
    def starts(self) -> np.ndarray:
        return self._starts.array

    @property
    def lengths(self) -> np.ndarray:
        return self._lengths.array

    @property
    def weights(self) -> np.ndarray:
        """Sampling weights of each episode's rows, relative to one another, [episodes]."""
        return self._weights.array

    @property
    def added(self) -> int:
        """The number of episodes ever added."""
        return self.dropped + len(self)

    def add(self, episodes: Episodes, weight: float = 1.0) -> None:
        """Adds episodes whose rows are drawn `weight` times as often as those of others."""
        if not weight > 0 or not np.isfinite(weight):
            raise ValueError(f"the weight of episodes is a positive number, got {weight}")
        if not len(episodes):
            return
        self._check(episodes.columns)
        self._write(episodes, weight)
        end = self.starts[-1] + self.lengths[-1] if len(self) else 0
        self._enter(end + episodes.starts, episodes.lengths, np.full(len(episodes), weight))
        self._trim()

    @abstractmethod
    def rewind(self, added: int) -> None:
        """Removes all but the first `added` episodes ever added; restores the state of then."""

    def _check(self, columns: Columns) -> None:
        """Refuses columns unlike those of the first episodes: all rows have one structure."""
        if not self._like:
            self._like = nested.map(lambda leaf: leaf[:0].copy(), columns)
        expected, came = describe(self._like), describe(columns)
        if came != expected:
            raise ValueError(
                f"episodes of one store have rows of one kind: {expected} are kept here, but "
                f"{came} came; keep the episodes of another environment in another store"
            )

    def _enter(self, starts: np.ndarray, lengths: np.ndarray, weights: np.ndarray) -> None:
        self._starts.append(starts)
        self._lengths.append(lengths)
        self._weights.append(weights)

    def _trim(self) -> None:
        """Drops the oldest episodes beyond the capacity."""
        if self.capacity is not None and self.rows > self.capacity:
            surplus = np.searchsorted(self.starts, self.starts[0] + self.rows - self.capacity)
            self._drop(min(int(surplus), len(self) - 1))

    def _drop(self, number: int) -> None:
        """Removes the oldest episodes."""
        for array in (self._starts, self._lengths, self._weights):
            array.drop(number)
        self.dropped += number

    @abstractmethod
    def _write(self, episodes: Episodes, weight: float) -> None:
        """Puts the columns of new episodes behind all others."""


class MemoryStore(EpisodeStore):
    """Episodes in memory."""

    def __init__(self, capacity: int | None = None):
        super().__init__(capacity)
        self._columns: Columns = {}  # of GrowingArrays

    def gather(self, rows: np.ndarray) -> Columns:
        places = rows - self.starts[0]
        return nested.map(lambda column: column.array[places], self._columns)

    def rewind(self, added: int) -> None:
        if added > self.added or (self.dropped and added < self.added):
            raise ValueError(
                f"{self.added} episodes were added to this memory, {self.dropped} of which it has "
                f"dropped, but the state that it is to go back to has {added}: add the same "
                "episodes first"
            )
        rows = int(self.lengths[: added - self.dropped].sum())
        nested.map(lambda column: column.truncate(rows), self._columns)
        for array in (self._starts, self._lengths, self._weights):
            array.truncate(added - self.dropped)

    def _write(self, episodes: Episodes, weight: float) -> None:
        if not self._columns:
            self._columns = nested.map(GrowingArray, self._like)
        nested.map(lambda column, new: column.append(new), self._columns, episodes.columns)

    def _drop(self, number: int) -> None:
        rows = int(self.lengths[:number].sum())
        nested.map(lambda column: column.drop(rows), self._columns)
        super()._drop(number)


def describe(columns: Columns) -> dict[str, str]:
    """The types and shapes of a row's columns, by name.

    >>> describe({"observation": {"camera": np.zeros((9, 64, 64, 3), np.uint8)}})
    {'observation.camera': 'uint8 [64, 64, 3]'}
    """
    pairs = zip(nested.leaves(nested.names(columns)), nested.leaves(columns), strict=True)
    return {name: f"{leaf.dtype} {list(leaf.shape[1:])}" for name, leaf in pairs}
