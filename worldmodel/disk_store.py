"""Whole episodes on disk: as many as fit there, in bounded memory, safe against a kill.

    STORE/
        store.json          types and shapes of the columns, and the nesting of structures
        lock                held by the process that writes
        000000000000/       a shard, named after the number of its first episode
            index           a record for each episode: number, start, length, weight, checksum
            action, observation.camera, reward, ...       rows, one after another, bare

Rows are written and synced before the records that refer to them. So a record that is whole
refers to rows that are whole, whenever the process (or the machine) dies: opening cuts off what
lies behind the last such record, and no episode that `add` has returned from is lost.

Rows are read with `pread`, run by run, and nothing of a file stays in the process. Mapping the
columns would be shorter to write, but the pages of a mapping count as resident, so that a replay
seems to grow to the size of its files, and mapping anew for each batch costs five times as much
as reading (a page fault for every window and column). What is read often stays in the system's
cache, which gives way where memory is wanted.
"""

import fcntl
import json
import os
import shutil
import zlib
from pathlib import Path

import numpy as np

from worldmodel import nested
from worldmodel.checkpoint import sync
from worldmodel.episodes import Columns, Episodes, EpisodeStore

SCHEMA_VERSION = 1
OWN_FILES = {"lock", "store.json.part", "spaces.json"}  # of a store that was never added to
RECORD = np.dtype(
    [
        ("number", "<i8"),  # of the episode; the first ever added is 0
        ("start", "<i8"),  # the number of its first row
        ("length", "<i8"),  # rows
        ("weight", "<f8"),
        ("checksum", "<u4"),  # CRC-32 of all before
    ]
)


class StoreInUseError(ValueError):
    """Another process writes to the store."""


class DiskStore(EpisodeStore):
    """Episodes in a folder, which one process writes and any number read.

    Episodes dropped for want of capacity stay on disk until as many rows again have come, so that
    a run can go back (`rewind`) to a checkpoint.
    """

    def __init__(
        self,
        path: Path,
        capacity: int | None = None,
        writable: bool = True,
        shard_bytes: int = 2**28,
    ):
        """Opens the store at `path`, or makes one; not `writable`, it is read as it is now.

        capacity: rows that are kept at most; shard_bytes: the size at which a shard is full.
        """
        super().__init__(capacity)
        self.path = path
        self.shard_bytes = shard_bytes
        self._description = path / "store.json"
        self._lock: int | None = None
        if writable:
            self._lock = _lock(path)
        elif not self._description.exists():
            raise FileNotFoundError(f"there is no store of episodes at {path}")
        self._read()

    def close(self) -> None:
        """Lets another process write; from now on this store is only read."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def gather(self, rows: np.ndarray) -> Columns:
        found = nested.map(
            lambda like: np.empty((*rows.shape, *like.shape[1:]), like.dtype), self._like
        )
        begins = [shard.start for shard in self._shards]
        of_shard = np.searchsorted(begins, rows, side="right") - 1
        for number in np.unique(of_shard):
            here = of_shard == number
            self._shards[number].read(rows[here], found, here)
        return found

    def rewind(self, added: int) -> None:
        if added > self.added:
            raise ValueError(
                f"{self.path} has had {self.added} episodes, but is to go back to {added}: it is "
                "older than the checkpoint"
            )
        if added == self.added:
            return
        self._check_writable()
        oldest = self._shards[0]
        end = max([shard.end_of(added) for shard in self._shards if shard.number < added] or [0])
        if oldest.number and end - (self.capacity or end) < oldest.start:
            raise ValueError(
                f"{self.path} cannot go back to {added} episodes: some of those that it held then "
                "have left the disk; give it more capacity, or write checkpoints more often"
            )
        for shard in reversed(self._shards):
            shard.truncate(added)
        self._read()

    def _write(self, episodes: Episodes, weight: float) -> None:
        self._check_writable()
        if not self._description.exists():
            _write_description(self._description, self._like)
        if not self._shards or self._shards[-1].bytes >= self.shard_bytes:
            start = self._shards[-1].end if self._shards else 0
            self._shards.append(_Shard(self.path, self._like, self.added, start))
        shard = self._shards[-1]
        records = np.zeros(len(episodes), RECORD)
        records["number"] = self.added + np.arange(len(episodes))
        records["start"] = shard.end + episodes.starts
        records["length"] = episodes.lengths
        records["weight"] = weight
        shard.append(episodes.columns, records)

    def _drop(self, number: int) -> None:
        super()._drop(number)
        if self.capacity is not None and self._lock is not None:
            while self._shards[0].end + self.capacity < self.starts[0]:
                self._shards.pop(0).delete()

    def _read(self) -> None:
        """Reads the store; the writer cuts off rows and records that are incomplete."""
        self._clear()
        self._shards: list[_Shard] = []
        if not self._description.exists():
            return
        self._like = _read_description(self._description)
        folders = sorted(path for path in self.path.iterdir() if path.name.isdigit())
        shards = [_Shard(self.path, self._like, int(folder.name), 0) for folder in folders]
        empty = []
        for shard in shards:
            records = shard.open()
            if len(records):
                self._enter_shard(shard, records)
            else:
                empty.append(shard)
        if self._lock is not None:
            for shard in empty:
                shard.delete()
            for shard in self._shards[-1:]:
                shard.truncate(self.added)
        self._trim()

    def _enter_shard(self, shard: "_Shard", records: np.ndarray) -> None:
        if not self._shards:
            self.dropped = shard.number
        elif (shard.number, shard.start) != (self.added, self._shards[-1].end):
            raise ValueError(
                f"{self.path} is damaged: after episode {self.added - 1} comes {shard.number}"
            )
        self._shards.append(shard)
        self._enter(records["start"], records["length"], records["weight"])

    def _check_writable(self) -> None:
        if self._lock is None:
            raise ValueError(f"{self.path} is open for reading: open it with writable=True")


class _Shard:
    """Episodes that lie in files of their own."""

    def __init__(self, store: Path, like: Columns, number: int, start: int):
        """number: of its first episode; start: the number of that one's first row."""
        self.folder = store / f"{number:012d}"
        self.index = self.folder / "index"
        self.number = number
        self.start = self.end = start
        self.episodes = 0
        names = nested.leaves(nested.names(like))
        self._files = [self.folder / name for name in names]
        self._like = nested.leaves(like)
        self._row_bytes = [
            leaf.dtype.itemsize * int(np.prod(leaf.shape[1:])) for leaf in self._like
        ]

    @property
    def bytes(self) -> int:
        return (self.end - self.start) * sum(self._row_bytes)

    def open(self) -> np.ndarray:
        """Finds how much of the files is intact; returns the records of the whole episodes."""
        records = _whole_records(self.index, self.number)
        if len(records):
            self.start, self.end = int(records["start"][0]), int(_ends(records)[-1])
            self.episodes = len(records)
            for file, row_bytes in zip(self._files, self._row_bytes, strict=True):
                if not file.exists() or file.stat().st_size < (self.end - self.start) * row_bytes:
                    raise ValueError(f"{file} is damaged: it is shorter than its index says")
        return records

    def read(self, rows: np.ndarray, found: Columns, here: np.ndarray) -> None:
        """Puts the rows of the given numbers into `found`, where `here` is true."""
        places, back = np.unique(rows - self.start, return_inverse=True)
        begins = np.flatnonzero(np.diff(places, prepend=-2) != 1)
        counts = np.diff(begins, append=len(places))
        runs = list(zip(places[begins].tolist(), counts.tolist(), strict=True))
        leaves = nested.leaves(found)
        for leaf, file, row_bytes in zip(leaves, self._files, self._row_bytes, strict=True):
            if row_bytes:
                read = np.frombuffer(_read_runs(file, runs, row_bytes), leaf.dtype)
                leaf[here] = read.reshape(len(places), *leaf.shape[here.ndim :])[back]

    def append(self, columns: Columns, records: np.ndarray) -> None:
        """Writes rows, then the records that refer to them."""
        self.folder.mkdir(exist_ok=True)
        self._cut_index()
        rows = self.end - self.start
        leaves = nested.leaves(columns)
        for leaf, file, row_bytes in zip(leaves, self._files, self._row_bytes, strict=True):
            _put(file, rows * row_bytes, np.ascontiguousarray(leaf))
        records["checksum"] = _checksums(records.tobytes())
        _put(self.index, self.episodes * RECORD.itemsize, records)
        if not self.episodes:
            sync(self.folder)
            sync(self.folder.parent)
        self.episodes += len(records)
        self.end = int(_ends(records)[-1])

    def end_of(self, added: int) -> int:
        """The number of the row after the last one of the store's first `added` episodes."""
        records = _whole_records(self.index, self.number)
        return int(_ends(records[: added - self.number])[-1])

    def truncate(self, added: int) -> None:
        """Removes what does not belong to the store's first `added` episodes."""
        if added <= self.number:
            self.delete()
            return
        self.end, self.episodes = self.end_of(added), min(self.episodes, added - self.number)
        self._cut_index()
        for file, row_bytes in zip(self._files, self._row_bytes, strict=True):
            os.truncate(file, (self.end - self.start) * row_bytes)

    def delete(self) -> None:
        """Removes the files, first the index: without it they count for nothing."""
        self.index.unlink(missing_ok=True)
        shutil.rmtree(self.folder)

    def _cut_index(self) -> None:
        """Removes records that are no longer, or were never, valid."""
        if self.index.exists():
            os.truncate(self.index, self.episodes * RECORD.itemsize)
            sync(self.index)


def _whole_records(index: Path, number: int) -> np.ndarray:
    """The records of an index up to the first that is torn, or does not go on from the last."""
    raw = index.read_bytes() if index.exists() else b""
    raw = raw[: len(raw) // RECORD.itemsize * RECORD.itemsize]
    records = np.frombuffer(raw, RECORD)
    whole = _checksums(raw) == records["checksum"]
    whole &= records["number"] == number + np.arange(len(records))
    whole[1:] &= records["start"][1:] == _ends(records)[:-1]
    return records[: np.logical_and.accumulate(whole).sum()]


def _ends(records: np.ndarray) -> np.ndarray:
    """The number of the row after each episode."""
    return records["start"] + records["length"]


def _checksums(raw: bytes) -> np.ndarray:
    size = RECORD.itemsize
    last = RECORD.fields["checksum"][1]  # type: ignore[index]
    parts = (raw[begin : begin + last] for begin in range(0, len(raw), size))
    return np.fromiter((zlib.crc32(part) for part in parts), np.uint32, len(raw) // size)


def _read_runs(file: Path, runs: list[tuple[int, int]], row_bytes: int) -> bytes:
    """Runs of rows (the first, and how many), one after another."""
    descriptor = os.open(file, os.O_RDONLY)
    try:
        parts = [os.pread(descriptor, n * row_bytes, at * row_bytes) for at, n in runs]
    finally:
        os.close(descriptor)
    return b"".join(parts)


def _put(file: Path, offset: int, values: np.ndarray) -> None:
    """Writes values at an offset, where the file then ends, and waits until they are on disk."""
    with open(os.open(file, os.O_WRONLY | os.O_CREAT, 0o666), "wb") as opened:
        opened.truncate(offset)
        opened.seek(offset)
        opened.write(values.tobytes())
        opened.flush()
        os.fsync(opened.fileno())


def _lock(path: Path) -> int:
    """Makes a store's folder, and keeps other processes from writing there; gone with ours."""
    path.mkdir(parents=True, exist_ok=True)
    if not (path / "store.json").exists() and not {p.name for p in path.iterdir()} <= OWN_FILES:
        raise ValueError(f"{path} holds something else than a store of episodes: choose another")
    lock = os.open(path / "lock", os.O_RDWR | os.O_CREAT, 0o666)
    try:
        fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(lock)
        raise StoreInUseError(
            f"another process writes to {path}: wait for it, or open the store with writable=False"
        ) from error
    return lock


def _write_description(file: Path, like: Columns) -> None:
    """Writes store.json, whole or not at all."""
    names = nested.names(like)
    pairs = zip(nested.leaves(names), nested.leaves(like), strict=True)
    kinds = {name: [leaf.dtype.str, list(leaf.shape[1:])] for name, leaf in pairs}
    description = {"schema_version": SCHEMA_VERSION, "columns": names, "kinds": kinds}
    temporary = file.with_name(file.name + ".part")
    temporary.write_text(json.dumps(description, indent=1))
    sync(temporary)
    temporary.replace(file)
    sync(file.parent)


def _read_description(file: Path) -> Columns:
    """Columns of no rows, as store.json describes them."""
    try:
        description = json.loads(file.read_text())
        version = description["schema_version"]
        if version == SCHEMA_VERSION:
            kinds = description["kinds"]
            return nested.map(
                lambda name: np.empty((0, *kinds[name][1]), kinds[name][0]),
                nested.from_json(description["columns"]),
            )
    except Exception as error:
        raise ValueError(f"{file} is damaged: {error}") from error
    raise ValueError(
        f"{file} has schema version {version}, this program reads {SCHEMA_VERSION}; use the "
        "version of the package that wrote it"
    )
