"""Whole episodes on disk: as many as fit there, in bounded memory, safe against a kill.

    STORE/
        store.json          types and shapes of the columns, the nesting of structures, and the
                            number of episodes that were added at least
        lock                held by the process that writes
        000000000000/       a shard, named after the number of its first episode
            index           a record for each episode: number, start, length, weight, checksums
            action, observation.camera, reward, ...       rows, one after another, bare

Rows are written and synced before the records that refer to them. So a record that is whole
refers to rows that are whole, whenever the process (or the machine) dies: what lies behind the
last such record is overwritten, and no episode that `add` has returned from is lost. A shard gets
its name with its first episodes.

Damage is another matter: a record that was whole once, or rows whose CRC-32 is not that in their
record, raise a DamagedError, and nothing is removed. The index is compared when a store is opened,
an episode when a row of it is read for the first time. store.json counts episodes when their
records are there, and again before some are removed: an index that has fewer has lost its end.
Who writes may still go back to those that are left (`rewind`), as a run does that counts its own.

Rows are read with `pread`, run by run, and nothing of a file stays in the process. Mapping the
columns would be shorter to write, but the pages of a mapping count as resident, so that a replay
seems to grow to the size of its files, and mapping anew for each batch costs five times as much
as reading (a page fault for every window and column). What is read often stays in the system's
cache, which gives way where memory is wanted.
"""

import os
import shutil
import zlib
from pathlib import Path

import numpy as np

from worldmodel import nested
from worldmodel.arrays import GrowingArray
from worldmodel.episodes import Columns, Episodes, EpisodeStore
from worldmodel.files import PIECE, DamagedError, lock, read_json, reading, sync, write_json

SCHEMA_VERSION = 2
OWN_FILES = {"lock", "spaces.json"}  # of a store that was never added to
PART, GONE = ".part", ".gone"  # shards that are being made, and removed
MOST_ROW = MOST_INDEX = 2**28  # bytes
RECORD = np.dtype(
    [
        ("number", "<i8"),  # of the episode; the first ever added is 0
        ("start", "<i8"),  # the number of its first row
        ("length", "<i8"),  # rows
        ("weight", "<f8"),
        ("rows", "<u4"),  # CRC-32 of its rows, column after column
        ("checksum", "<u4"),  # CRC-32 of all before
    ]
)
LAST = RECORD.itemsize - 4  # the place of the checksum in it


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
        as_of: int | None = None,
    ):
        """Opens the store at `path`, or makes one; not `writable`, it is read as it is now, or as
        it was when it had had `as_of` episodes.

        capacity: rows that are kept at most; shard_bytes: the size at which a shard is full.
        """
        super().__init__(capacity)
        self.path = path
        self.shard_bytes = shard_bytes
        self._description = path / "store.json"
        self._as_of = as_of
        self._lock: int | None = None
        if writable:
            self._lock = _lock(path)
            for left in (PART, GONE):
                shutil.rmtree(path / left, ignore_errors=True)
        else:
            self._check_there()
        self._read()

    def _check_there(self) -> None:
        """Refuses a folder without a store, which is not written."""
        if not self._description.exists():
            raise FileNotFoundError(f"there is no store of episodes at {self.path}")

    def close(self) -> None:
        """Lets another process write; from now on this store is only read."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def gather(self, rows: np.ndarray) -> Columns:
        self._verify(rows)
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
            raise DamagedError(
                f"{self.path} has had {self.added} episodes, but is to go back to {added}: it is "
                "older than the checkpoint"
            )
        if added == self.added and not self._lacks:
            return
        self._check_writable()
        if added < self.added:
            self._check_held(added)
        _write_description(self._description, self._like, added)
        for shard in reversed(self._shards):
            shard.truncate(added)
        dropped, verified = self.dropped, self._verified.array.copy()
        self._read()
        if self.dropped == dropped:
            self._verified.array[:] = verified[: len(self)]

    def _check_held(self, added: int) -> None:
        """Refuses to go back to a number of episodes, of which some are no longer on disk."""
        oldest = self._shards[0]
        end = max([shard.end_of(added) for shard in self._shards if shard.number < added] or [0])
        if oldest.number and end - (self.capacity or end) < oldest.start:
            raise DamagedError(
                f"{self.path} cannot go back to {added} episodes: some of those that it held then "
                "have left the disk; give it more capacity, or write checkpoints more often"
            )

    def damaged(self) -> np.ndarray:
        """The numbers of the episodes whose rows are not as they were written, int64 [n]."""
        return self.dropped + self._differing(np.arange(len(self)))

    def _verify(self, rows: np.ndarray) -> None:
        """Compares the episodes of rows with their CRC-32, unless that was done before."""
        episodes = np.searchsorted(self.starts, rows, side="right") - 1
        new = np.unique(episodes[~self._verified.array[episodes]])
        bad = self._differing(new)
        if len(bad):
            raise DamagedError(
                f"{self.path} is damaged: the rows of episode {self.dropped + bad[0]} are not as "
                "they were written (their CRC-32 differs); `worldmodel repair RUN` leaves it out"
            )
        self._verified.array[new] = True

    def _differing(self, episodes: np.ndarray) -> np.ndarray:
        """Those of some episodes, indices int64 [n], rising, whose CRC-32 differs."""
        begins = [shard.start for shard in self._shards]
        of_shard = np.searchsorted(begins, self.starts[episodes], side="right") - 1
        found = [np.arange(0)]
        for number in np.unique(of_shard):
            here = episodes[of_shard == number]
            sums = self._shards[number].sums(self.starts[here], self.lengths[here])
            found.append(here[sums != self._sums.array[here]])
        return np.concatenate(found)

    def _clear(self) -> None:
        super()._clear()
        self._sums = GrowingArray(np.empty(0, np.uint32))  # CRC-32 of the rows of each episode
        self._verified = GrowingArray(np.empty(0, bool))

    def _enter_sums(self, records: np.ndarray) -> None:
        self._sums.append(records["rows"])
        self._verified.append(np.zeros(len(records), bool))

    def _write(self, episodes: Episodes, weight: float) -> None:
        self._check_writable()
        if self._lacks:
            raise DamagedError(self._lacks)
        if not self._description.exists():
            _write_description(self._description, self._like, 0)
        if not self._shards or self._shards[-1].bytes >= self.shard_bytes:
            start = self._shards[-1].end if self._shards else 0
            self._shards.append(_Shard(self.path, self._like, self.added, start))
        shard = self._shards[-1]
        records = np.zeros(len(episodes), RECORD)
        records["number"] = self.added + np.arange(len(episodes))
        records["start"] = shard.end + episodes.starts
        records["length"] = episodes.lengths
        records["weight"] = weight
        records["rows"] = _sums(episodes)
        shard.append(episodes.columns, records)
        self._enter_sums(records)
        _write_description(self._description, self._like, self.added + len(episodes))

    def _drop(self, number: int) -> None:
        super()._drop(number)
        self._sums.drop(number)
        self._verified.drop(number)
        if self.capacity is not None and self._lock is not None:
            while self._shards[0].end + self.capacity < self.starts[0]:
                self._shards.pop(0).delete()

    def _read(self) -> None:
        """Reads the records of the store."""
        self._clear()
        self._lacks = ""  # a sentence on episodes that are counted and not there
        self._shards: list[_Shard] = []
        if not self._description.exists():
            return
        self._like, counted = _read_description(self._description)
        for folder in sorted(path for path in self.path.iterdir() if path.name.isdigit()):
            shard = _Shard(self.path, self._like, int(folder.name), 0)
            records = shard.open()
            if self._as_of is not None:
                records = records[: max(self._as_of - shard.number, 0)]
            if len(records):
                self._enter_shard(shard, records)
        expected = counted if self._as_of is None else self._as_of
        if self.added < expected:
            self._lacks = (
                f"{self.path} is damaged: it has had {self.added} episodes instead of {expected}"
            )
            self._check_whole()
        self._trim()

    def _check_whole(self) -> None:
        """Refuses a store that lacks episodes, unless it is to be written: that begins by going
        back to what there is, or is refused."""
        if self._lock is None:
            raise DamagedError(self._lacks)

    def _enter_shard(self, shard: "_Shard", records: np.ndarray) -> None:
        if not self._shards:
            self.dropped = shard.number
        elif (shard.number, shard.start) != (self.added, self._shards[-1].end):
            raise DamagedError(
                f"{self.path} is damaged: after episode {self.added - 1} comes {shard.number}"
            )
        self._shards.append(shard)
        self._enter(records["start"], records["length"], records["weight"])
        self._enter_sums(records)

    def _check_writable(self) -> None:
        if self._lock is None:
            raise ValueError(f"{self.path} is open for reading: open it with writable=True")


class FollowedStore(DiskStore):
    """A store that another process writes, as it was when this one last caught up with it: adding
    and rewinding are the other's."""

    def __init__(self, path: Path):
        super().__init__(path, writable=False)

    def _check_there(self) -> None:
        """Nothing may have been added yet."""

    def _check_whole(self) -> None:
        """The other may be about to go back."""

    def add(self, episodes: Episodes, weight: float = 1.0) -> None:
        """Does nothing."""

    def rewind(self, added: int) -> None:
        """Does nothing."""

    def catch_up(self) -> None:
        """Reads what the other process has changed meanwhile."""
        sums, verified = self._sums.array.copy(), self._verified.array.copy()
        self._read()
        kept = min(len(sums), len(self))
        is_same = sums[:kept] == self._sums.array[:kept]
        self._verified.array[:kept] = verified[:kept] & is_same


class _Shard:
    """Episodes that lie in files of their own."""

    def __init__(self, store: Path, like: Columns, number: int, start: int):
        """number: of its first episode; start: the number of that one's first row."""
        self.folder = store / f"{number:012d}"
        self.index = self.folder / "index"
        self.number = number
        self.start = self.end = start
        self.episodes = 0
        self._names = nested.leaves(nested.names(like))
        self._files = [self.folder / name for name in self._names]
        self._like = nested.leaves(like)
        self._row_bytes = _row_bytes(self._like)

    @property
    def bytes(self) -> int:
        return (self.end - self.start) * sum(self._row_bytes)

    def open(self) -> np.ndarray:
        """The records of the episodes; raises DamagedError where any of it is damaged or missing,
        but for what a kill may have left behind the last record."""
        records = _read_records(self.index, self.number)
        self.start, self.end = int(records["start"][0]), int(_ends(records)[-1])
        self.episodes = len(records)
        for file, row_bytes in zip(self._files, self._row_bytes, strict=True):
            if not file.exists() or file.stat().st_size < (self.end - self.start) * row_bytes:
                raise DamagedError(f"{file} is damaged: it is shorter than its index says")
        return records

    def sums(self, starts: np.ndarray, lengths: np.ndarray) -> np.ndarray:
        """The CRC-32 of the rows of episodes, uint32 [episodes].

        starts: the numbers of their first rows, lengths: in rows, int64 [episodes].
        """
        sums = [0] * len(starts)
        spans = list(zip((starts - self.start).tolist(), lengths.tolist(), strict=True))
        for file, row_bytes in zip(self._files, self._row_bytes, strict=True):
            with reading(file) as opened:
                for place, (start, length) in enumerate(spans):
                    at, end = start * row_bytes, (start + length) * row_bytes
                    while piece := os.pread(opened.fileno(), min(end - at, PIECE), at):
                        sums[place] = zlib.crc32(piece, sums[place])
                        at += len(piece)
        return np.array(sums, np.uint32)

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
        records["checksum"] = _checksums(records.tobytes())
        if self.episodes:
            self._cut_index()
            self._put(self.folder, columns, records)
        else:
            part = self.folder.with_name(PART)
            shutil.rmtree(part, ignore_errors=True)
            part.mkdir()
            self._put(part, columns, records)
            sync(part)
            part.rename(self.folder)
            sync(self.folder.parent)
        self.episodes += len(records)
        self.end = int(_ends(records)[-1])

    def _put(self, folder: Path, columns: Columns, records: np.ndarray) -> None:
        rows = self.end - self.start
        leaves = nested.leaves(columns)
        for leaf, name, row_bytes in zip(leaves, self._names, self._row_bytes, strict=True):
            _put(folder / name, rows * row_bytes, np.ascontiguousarray(leaf))
        _put(folder / self.index.name, self.episodes * RECORD.itemsize, records)

    def end_of(self, added: int) -> int:
        """The number of the row after the last one of the store's first `added` episodes."""
        records = _read_records(self.index, self.number)
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
        """Removes the shard: its name first."""
        gone = self.folder.with_name(GONE)
        shutil.rmtree(gone, ignore_errors=True)
        self.folder.rename(gone)
        shutil.rmtree(gone)

    def _cut_index(self) -> None:
        """Removes records that are no longer, or were never, valid."""
        os.truncate(self.index, self.episodes * RECORD.itemsize)
        sync(self.index)


def _read_records(index: Path, number: int) -> np.ndarray:
    """The records of an index, of one episode or more, the first of which has this number.

    Raises DamagedError where a record is broken, unless it is behind all whole ones: there it may
    be one that was not written to its end, because the process was killed, and is left out.
    """
    try:
        with reading(index, MOST_INDEX) as file:
            raw = file.read()
    except FileNotFoundError as error:
        raise DamagedError(f"{index.parent} is damaged: it has no index") from error
    records = np.frombuffer(raw, RECORD, len(raw) // RECORD.itemsize)
    intact = _checksums(raw[: records.nbytes]) == records["checksum"]
    whole = intact & (records["number"] == number + np.arange(len(records)))
    whole &= records["length"] > 0
    whole[1:] &= records["start"][1:] == _ends(records)[:-1]
    count = int(np.logical_and.accumulate(whole).sum())
    if not count or intact[count:].any():
        raise DamagedError(f"{index} is damaged: the record of episode {number + count} is broken")
    return records[:count]


def _ends(records: np.ndarray) -> np.ndarray:
    """The number of the row after each episode."""
    return records["start"] + records["length"]


def _checksums(raw: bytes) -> np.ndarray:
    size = RECORD.itemsize
    parts = (raw[begin : begin + LAST] for begin in range(0, len(raw), size))
    return np.fromiter((zlib.crc32(part) for part in parts), np.uint32, len(raw) // size)


def _sums(episodes: Episodes) -> np.ndarray:
    """The CRC-32 of the rows of each episode, column after column, uint32 [episodes]."""
    sums = [0] * len(episodes)
    for leaf in nested.leaves(episodes.columns):
        if not leaf.nbytes:
            continue
        rows = np.ascontiguousarray(leaf).view(np.uint8).reshape(len(leaf), -1)
        spans = zip(episodes.starts.tolist(), episodes.lengths.tolist(), strict=True)
        for place, (start, length) in enumerate(spans):
            sums[place] = zlib.crc32(rows[start : start + length].data, sums[place])
    return np.array(sums, np.uint32)


def _row_bytes(leaves: list[np.ndarray]) -> list[int]:
    """Bytes of a row of each column."""
    return [leaf.dtype.itemsize * int(np.prod(leaf.shape[1:], dtype=object)) for leaf in leaves]


def _read_runs(file: Path, runs: list[tuple[int, int]], row_bytes: int) -> bytes:
    """Runs of rows (the first, and how many), one after another."""
    descriptor = os.open(file, os.O_RDONLY)
    try:
        parts = [os.pread(descriptor, n * row_bytes, at * row_bytes) for at, n in runs]
    finally:
        os.close(descriptor)
    read = b"".join(parts)
    if len(read) != sum(n for _, n in runs) * row_bytes:
        raise DamagedError(f"{file} is damaged: it is shorter than its index says")
    return read


def _put(file: Path, offset: int, values: np.ndarray) -> None:
    """Writes values at an offset, where the file then ends, and waits until they are on disk."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW
    with open(os.open(file, flags, 0o666), "wb") as opened:
        opened.truncate(offset)
        opened.seek(offset)
        opened.write(values.tobytes())
        opened.flush()
        os.fsync(opened.fileno())


def _lock(path: Path) -> int:
    """Makes a store's folder, and keeps other processes from writing there; gone with ours."""
    path.mkdir(parents=True, exist_ok=True)
    others = {p.name for p in path.iterdir() if not p.name.startswith(PART)} - OWN_FILES
    if others and not (path / "store.json").exists():
        raise ValueError(f"{path} holds something else than a store of episodes: choose another")
    said = f"another process writes to {path}: wait for it, or open the store with writable=False"
    return lock(path / "lock", said)


def _write_description(file: Path, like: Columns, episodes: int) -> None:
    """Writes store.json, whole or not at all. episodes: that were ever added, at least: it is
    written after they are there, and before some of them go."""
    names = nested.names(like)
    pairs = zip(nested.leaves(names), nested.leaves(like), strict=True)
    kinds = {name: [leaf.dtype.str, list(leaf.shape[1:])] for name, leaf in pairs}
    described = {"schema_version": SCHEMA_VERSION, "columns": names, "kinds": kinds}
    write_json(file, described | {"episodes": episodes})
    sync(file.parent)


def _read_description(file: Path) -> tuple[Columns, int]:
    """Columns of no rows, as store.json describes them, and the number of episodes that were added
    at least; 0 in stores from before it was written."""
    description = read_json(file)
    version = description.get("schema_version")
    if version != SCHEMA_VERSION:
        raise DamagedError(
            f"{file} has schema version {version}, this program reads {SCHEMA_VERSION}; use the "
            "version of the package that wrote it"
        )
    try:
        kinds = description["kinds"]
        like = nested.map(
            lambda name: np.empty((0, *kinds[name][1]), kinds[name][0]),
            nested.from_json(description["columns"]),
        )
        _check_description(like)
        episodes = int(description.get("episodes", 0))
    except Exception as error:
        raise DamagedError(f"{file} is damaged: {error}") from error
    return like, episodes


def _check_description(like: Columns) -> None:
    """Raises ValueError for columns that no store has written."""
    if any(leaf.dtype.hasobject for leaf in nested.leaves(like)):
        raise ValueError("a column holds Python objects")
    if max(_row_bytes(nested.leaves(like))) > MOST_ROW:
        raise ValueError(f"a row has more than {MOST_ROW:,} bytes")
