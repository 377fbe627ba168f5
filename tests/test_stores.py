"""Laws of stores of episodes: in memory and on disk alike; on disk, whatever is killed."""

import contextlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from episodes import ACTIONS, episodes_of, everything, rich, same

from worldmodel import DiskStore, Episodes, Joined, MemoryStore, Replay, disk_store, nested
from worldmodel.experiments.bench.replay import resident
from worldmodel.files import DamagedError, read_json, write_json

SMALL = 300  # bytes of a shard, so that there are many


@pytest.fixture(autouse=True)
def unsynced(monkeypatch):
    """Waiting for the disk shows in no test, and takes most of their time."""
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)


@pytest.fixture(params=["memory", "disk"])
def make(request, tmp_path):
    """Makes a store of the given capacity."""
    if request.param == "memory":
        return MemoryStore
    return lambda capacity=None: DiskStore(tmp_path / "store", capacity, shard_bytes=SMALL)


def test_a_store_holds_what_was_added(make):
    parts = [rich(episodes_of(lengths)) for lengths in ([3, 1], [4], [2, 5, 1])]
    store = make()
    for number, part in enumerate(parts):
        store.add(part, weight=1.0 + number)
    assert same(everything(store), Episodes.join(parts))
    assert store.weights.tolist() == [1, 1, 2, 3, 3, 3]
    assert (store.rows, store.steps, store.dropped) == (16, 10, 0)


@pytest.mark.parametrize("capacity", [1, 5, 9, 30])
def test_a_store_keeps_the_newest_episodes(make, capacity):
    lengths = [3, 1, 4, 2, 5, 1, 1, 12, 2, 2, 2]
    store, whole = make(capacity), episodes_of(lengths)
    for number in range(len(lengths)):
        store.add(whole.select(np.array([number])))
        kept = range(store.dropped, number + 1)
        assert same(everything(store), whole.select(np.array(kept)))
        assert store.rows <= capacity or len(store) == 1
        if store.dropped:  # one more would be too many
            assert store.rows + lengths[store.dropped - 1] > capacity


def test_what_adding_costs_does_not_depend_on_what_is_there():
    """Memory is moved seldom: in all, 2000 additions copy each row two times on average."""
    store, one, copied, memory = MemoryStore(capacity=5_000), episodes_of([10]), 0, None
    for _ in range(2_000):
        store.add(one)
        column = store._columns["observation"]
        if column._memory is not memory:
            memory, copied = column._memory, copied + len(column.array)
    assert copied <= 2 * 2_000 * 10


def test_rows_of_another_kind_are_refused(make):
    store = make()
    store.add(episodes_of([3]))
    with pytest.raises(ValueError, match="rows of one kind"):
        store.add(rich(episodes_of([3])))
    for weight in (0.0, -1.0, float("nan")):
        with pytest.raises(ValueError, match="positive number"):
            store.add(episodes_of([3]), weight)
    assert len(store) == 1


def test_the_same_is_drawn_from_memory_and_from_disk(tmp_path):
    """So the laws of sampling, tested in memory, hold for episodes on disk."""
    stores = [MemoryStore(60), DiskStore(tmp_path, 60, shard_bytes=SMALL)]
    memory, disk = (Replay(ACTIONS, 5, store) for store in stores)
    for lengths, weight in [([5, 9, 30], 1.0), ([3, 20, 1, 1], 2.5), ([12, 8], 0.3)]:
        for replay in (memory, disk):
            replay.add(episodes_of(lengths), weight)
        for _ in range(5):
            blocks = zip(memory.sample(8, 100, 0.3, 2), disk.sample(8, 100, 0.3, 2), strict=True)
            for one, other in blocks:
                pairs = zip(nested.leaves(one), nested.leaves(other), strict=True)
                assert all(torch.equal(x, y) for x, y in pairs)


def test_a_store_on_disk_is_opened_as_it_was(tmp_path):
    store, whole = DiskStore(tmp_path, 30, shard_bytes=SMALL), rich(episodes_of([4] * 40))
    for number in range(40):
        store.add(whole.select(np.array([number])), 1.0 + number)
        reader = DiskStore(tmp_path, 30, writable=False)
        for attribute in ("starts", "lengths", "weights"):
            assert np.array_equal(getattr(reader, attribute), getattr(store, attribute))
        assert same(everything(reader), everything(store))
        assert reader.dropped == store.dropped
    assert same(everything(store), whole.select(np.arange(33, 40)))
    store.close()
    assert same(everything(DiskStore(tmp_path, 30)), everything(reader))


def test_dropped_episodes_leave_the_disk(tmp_path):
    store, sizes = DiskStore(tmp_path, 50, shard_bytes=SMALL), []
    for number in range(100):
        store.add(episodes_of([5], number))
        sizes.append(sum(file.stat().st_size for file in tmp_path.rglob("*")))
    assert max(sizes[50:]) < 1.3 * sizes[25]  # 26 episodes are 130 rows: more than twice 50


def test_a_store_goes_back_to_what_it_was(tmp_path):
    """To every number of episodes within a capacity of rows, however they lie in shards."""
    for back in range(10):
        store = DiskStore(tmp_path / str(back), 50, shard_bytes=SMALL)
        before = []
        for number in range(30):
            before.append(everything(store) if number else None)
            store.add(episodes_of([5], number))
        store.rewind(30 - back)
        assert store.added == 30 - back
        if back:
            assert same(everything(store), before[30 - back])
        for number in range(30 - back, 32):
            store.add(episodes_of([5], number))
        assert same(everything(store), episodes_of([5] * 10, 22))
        with pytest.raises(ValueError, match="cannot go back to 5 episodes"):
            store.rewind(5)
        with pytest.raises(ValueError, match="older than the checkpoint"):
            store.rewind(33)


def test_a_store_is_read_as_it_was(tmp_path):
    store = DiskStore(tmp_path / "store", shard_bytes=SMALL)
    for number in range(9):
        store.add(rich(episodes_of([2 + number], number)))
    for number in range(10):
        read = DiskStore(tmp_path / "store", writable=False, as_of=number)
        lengths = [2 + n for n in range(number)]
        assert read.lengths.tolist() == lengths
        if number:
            assert same(everything(read), rich(episodes_of(lengths)))
    with pytest.raises(DamagedError, match="has had 9 episodes instead of 10"):
        DiskStore(tmp_path / "store", writable=False, as_of=10)


@pytest.mark.parametrize("sizes", [([3, 1], [4, 2]), ([], [4, 2]), ([3, 1], [])])
def test_joined_sources_are_one(sizes):
    """Also where the rows of the first do not begin with number 0."""
    parts = [MemoryStore(max(1, sum(lengths))) for lengths in sizes]
    for store, lengths, first in zip(parts, sizes, (0, len(sizes[0])), strict=True):
        if lengths:
            store.add(rich(episodes_of([9])))
            store.add(rich(episodes_of(lengths, first)))
            assert store.dropped == 1
    whole, joined = rich(episodes_of(sizes[0] + sizes[1])), Joined(*parts)
    assert joined.lengths.tolist() == whole.lengths.tolist()
    assert same(everything(joined), whole)
    rows = joined.starts[-1] + np.arange(joined.lengths[-1])
    last = whole.gather(whole.starts[-1] + np.arange(whole.lengths[-1]))
    assert all(nested.leaves(nested.map(np.array_equal, joined.gather(rows), last)))
    assert len(joined.select(np.arange(0))) == 0


def test_a_store_goes_back_to_nothing(tmp_path):
    store = DiskStore(tmp_path, shard_bytes=SMALL)
    for number in range(9):
        store.add(episodes_of([5], number))
    store.rewind(0)
    assert (len(store), store.rows, store.steps) == (0, 0, 0)
    store.add(episodes_of([2, 3]))
    assert same(everything(store), episodes_of([2, 3]))


def test_a_restored_replay_forgets_what_came_after(tmp_path):
    replay = Replay(ACTIONS, 3, DiskStore(tmp_path, shard_bytes=SMALL))
    replay.add(episodes_of([5, 9]))
    replay.sample(4, 20)
    state = replay.state_dict()
    expected = [block.rows.observation for block in replay.sample(4, 20)]
    replay.add(episodes_of([30], first=2))
    replay.load_state_dict(state)
    found = [block.rows.observation for block in replay.sample(4, 20)]
    assert all(torch.equal(x, y) for x, y in zip(found, expected, strict=True))
    with pytest.raises(ValueError, match="add the same episodes first"):
        Replay(ACTIONS, 3).load_state_dict(state)


class KilledError(Exception):
    """Stands for the end of the process."""


def fill(path, until):
    """Adds what `test_killed_at_any_write` expects, going on from what is there."""
    store = DiskStore(path, 10, shard_bytes=SMALL // 2)
    try:
        while store.added < until:
            number = store.added
            count = min(1 + number % 3, until - number)
            store.add(episodes_of([3] * count, number))
    finally:
        store.close()


def test_killed_at_any_write_a_store_opens_and_lost_only_what_was_being_added(
    tmp_path, monkeypatch
):
    """Every file operation of a store's life is, in turn, the last, and half done."""
    until, put, remove = 16, disk_store._put, shutil.rmtree
    whole = episodes_of([3] * until)
    countdown = [0]

    def last() -> bool:
        countdown[0] -= 1
        return countdown[0] == 0

    def killed_put(file, offset, values):
        if last():
            raw = np.frombuffer(values.tobytes(), np.uint8).copy()
            raw[len(raw) // 2 :] = deaths % 2  # a file can have grown before it was filled
            put(file, offset, raw)
            raise KilledError
        put(file, offset, values)

    def killed_remove(folder, ignore_errors=False):
        if Path(folder).is_dir() and last():
            next(Path(folder).iterdir()).unlink()
            raise KilledError
        remove(folder, ignore_errors)

    def killed_sync(path):
        if last():
            raise KilledError

    monkeypatch.setattr(disk_store, "_put", killed_put)
    monkeypatch.setattr(disk_store.shutil, "rmtree", killed_remove)
    monkeypatch.setattr(disk_store, "sync", killed_sync)
    deaths = 0
    while True:
        path, deaths = tmp_path / str(deaths), deaths + 1
        countdown[0] = deaths
        try:
            fill(path, until)
            break
        except KilledError:
            countdown[0] = -1
        if (path / "store.json").exists():
            reader = DiskStore(path, 10, writable=False)
            kept = np.arange(reader.dropped, reader.added)
            assert same(everything(reader), whole.select(kept)) or not len(kept)
        fill(path, until)
        store = DiskStore(path, 10, writable=False)
        assert same(everything(store), whole.select(np.arange(store.dropped, until)))
        assert store.rows == 9
    assert deaths > 50


KILLED_AT_RANDOM = """
import os, random, signal, sys, time
from pathlib import Path
import numpy as np
from worldmodel.experiments.bench.replay import resident
from episodes import episodes_of, everything, same
from worldmodel import DiskStore

path, kills = Path(sys.argv[1]), int(sys.argv[2])
chance = random.Random(0)

def write(said):
    store = DiskStore(path, 400, shard_bytes=2_000)
    while True:
        count = 1 + store.added % 3
        store.add(episodes_of([4] * count, store.added))
        os.write(said, store.added.to_bytes(8, "little"))

total = 0
for _ in range(kills):
    heard, said = os.pipe()
    writer = os.fork()
    if not writer:
        write(said)
    os.close(said)
    first = os.read(heard, 8)
    time.sleep(chance.uniform(0, 0.04))
    os.kill(writer, signal.SIGKILL)
    os.waitpid(writer, 0)
    told = first
    while more := os.read(heard, 1 << 16):
        told = more
    os.close(heard)
    told = int.from_bytes(told[-8:], "little")
    store = DiskStore(path, 400)
    assert told <= store.added <= told + 3, (told, store.added)
    expected = episodes_of([4] * len(store), store.dropped)
    assert same(everything(store), expected)
    assert store.rows <= 400
    total = store.added
    store.close()
print(kills, "kills", total, "episodes")
"""


def test_killed_fifty_times_at_random_a_store_opens_and_holds_all_that_was_added(tmp_path):
    """A process of its own forks the writers, so that the package is imported once."""
    done = subprocess.run(
        [sys.executable, "-c", KILLED_AT_RANDOM, str(tmp_path / "store"), "50"],
        cwd=Path(__file__).parent,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    kills, _, episodes, _ = done.stdout.split()
    assert int(kills) == 50
    assert int(episodes) > 50


def test_what_is_read_does_not_stay_in_memory(tmp_path):
    """Of 64 MiB, read bit by bit, hardly any may be resident afterwards (as mapped pages are)."""
    rows = 1_024
    columns = {
        "action": np.zeros(rows, np.int64),
        "observation": np.ones((rows, 2**16), np.uint8),
        "reward": np.zeros(rows, np.float32),
        "terminated": np.zeros(rows, bool),
    }
    store = DiskStore(tmp_path)
    store.add(Episodes(columns, np.full(64, 16)))
    before = resident()
    for start in range(0, rows, 16):
        assert store.gather(np.arange(start, start + 16))["observation"].all()
    assert resident() - before < 2**23


def test_damage_is_named(tmp_path):
    store = DiskStore(tmp_path, shard_bytes=SMALL)
    for number in range(20):
        store.add(episodes_of([5], number))
    store.close()
    shards = sorted(path for path in tmp_path.iterdir() if path.is_dir())
    os.truncate(shards[0] / "reward", 4)
    with pytest.raises(ValueError, match="reward is damaged: it is shorter"):
        DiskStore(tmp_path)
    raw = bytearray((shards[2] / "index").read_bytes())
    raw[40] ^= 1
    (shards[2] / "index").write_bytes(raw)
    os.truncate(shards[0] / "reward", 4 * 5 * 3)
    sizes = [file.stat().st_size for file in sorted(tmp_path.rglob("*"))]
    with pytest.raises(DamagedError, match="index is damaged: the record of episode 7 is broken"):
        DiskStore(tmp_path)
    os.truncate(shards[2] / "index", 2**40)
    with pytest.raises(DamagedError, match="index has 1,099,511,627,776 bytes"):
        DiskStore(tmp_path)
    (shards[2] / "index").write_bytes(raw)
    assert [file.stat().st_size for file in sorted(tmp_path.rglob("*"))] == sizes
    shutil.rmtree(shards[2])
    shutil.rmtree(shards[1])
    shutil.rmtree(shards[0])
    assert DiskStore(tmp_path, writable=False).dropped > 0  # as if dropped
    shutil.rmtree(shards[4])
    with pytest.raises(ValueError, match="is damaged: after episode"):
        DiskStore(tmp_path)
    (tmp_path / "store.json").write_text("{")
    with pytest.raises(ValueError, match=r"store\.json is damaged"):
        DiskStore(tmp_path)


def flip(file, place):
    """Changes one bit of a file."""
    raw = bytearray(file.read_bytes())
    raw[place] ^= 1
    file.write_bytes(raw)


def test_a_flipped_bit_of_any_column_is_noticed_when_its_episode_is_read(tmp_path):
    """Not before, and not where others are read."""
    whole = rich(episodes_of([4, 3, 5]))
    for number, name in enumerate(nested.leaves(nested.names(whole.columns))):
        path = tmp_path / str(number)
        with contextlib.closing(DiskStore(path)) as store:
            store.add(whole)
        file = path / "000000000000" / name
        if not file.stat().st_size:
            continue
        flip(file, file.stat().st_size * 5 // 12)  # in the second episode
        store = DiskStore(path, writable=False)
        assert same(store.select(np.array([0, 2])), whole.select(np.array([0, 2])))
        assert store.damaged().tolist() == [1]
        for _ in range(2):
            with pytest.raises(DamagedError, match="the rows of episode 1 are not as they were"):
                store.gather(np.array([5]))
    assert number > 3


def test_what_was_read_once_is_not_compared_again(tmp_path):
    """So drawing windows from an episode costs one pass over it, however often."""
    store, sums = DiskStore(tmp_path), []
    store.add(episodes_of([4, 3]))
    (shard,) = store._shards
    sums_of = shard.sums
    shard.sums = lambda starts, lengths: sums.append(len(starts)) or sums_of(starts, lengths)
    for _ in range(3):
        store.gather(np.array([[0, 1], [5, 2]]))
    assert sums == [2]


@pytest.mark.parametrize("spoil", [Path.unlink, lambda file: file.write_bytes(b"")])
def test_rows_without_an_index_are_not_removed(tmp_path, spoil):
    with contextlib.closing(DiskStore(tmp_path)) as store:
        store.add(episodes_of([4, 3]))
    shard = tmp_path / "000000000000"
    spoil(shard / "index")
    for writable in (False, True):
        with pytest.raises(DamagedError, match="is damaged"):
            DiskStore(tmp_path, writable=writable)
    assert (shard / "reward").stat().st_size == 7 * 4


@pytest.mark.parametrize("lost", [40, 41, 79, 80])
@pytest.mark.parametrize("is_zeroed", [False, True])
def test_an_index_that_lost_its_end_is_damaged_unless_more_was_never_written(
    tmp_path, lost, is_zeroed
):
    with contextlib.closing(DiskStore(tmp_path)) as store:
        store.add(episodes_of([4, 3]))
        store.add(episodes_of([2]))
    index, description = tmp_path / "000000000000" / "index", tmp_path / "store.json"
    size = index.stat().st_size
    os.truncate(index, size - lost)
    if is_zeroed:
        os.truncate(index, size)
    left, lacks = (size - lost) // 40, r"is damaged: it has had \d episodes instead of 3"
    with pytest.raises(DamagedError, match=lacks):
        DiskStore(tmp_path, writable=False)
    with (
        contextlib.closing(DiskStore(tmp_path)) as store,
        pytest.raises(DamagedError, match=lacks),
    ):
        store.add(episodes_of([2]))
    whole = read_json(description)
    write_json(description, whole | {"episodes": 1})  # killed before the rest
    assert len(DiskStore(tmp_path, writable=False)) == left
    write_json(description, whole)
    with contextlib.closing(DiskStore(tmp_path)) as store:
        store.rewind(left)  # to what a checkpoint counts
        store.add(episodes_of([2]))
    assert len(DiskStore(tmp_path, writable=False)) == left + 1


def test_a_store_of_another_kind_is_refused(tmp_path):
    with contextlib.closing(DiskStore(tmp_path)) as store:
        store.add(episodes_of([4, 3]))
    file = tmp_path / "store.json"
    described = read_json(file)
    for change, said in (
        ({"schema_version": 1}, "schema version 1, this program reads 2"),
        ({"kinds": described["kinds"] | {"reward": ["|O", []]}}, "Python objects"),
        ({"kinds": described["kinds"] | {"reward": ["<f4", [2**40]]}}, "a row has more than"),
    ):
        write_json(file, described | change)
        with pytest.raises(DamagedError, match=said):
            DiskStore(tmp_path, writable=False)


def test_a_store_is_not_made_of_something_else(tmp_path):
    (tmp_path / "thesis.tex").write_text("precious")
    with pytest.raises(ValueError, match="something else than a store"):
        DiskStore(tmp_path)
    with pytest.raises(FileNotFoundError, match="no store of episodes"):
        DiskStore(tmp_path, writable=False)


def test_one_process_writes(tmp_path):
    store = DiskStore(tmp_path)
    store.add(episodes_of([3]))
    program = "import sys; from worldmodel import DiskStore; from pathlib import Path; "
    program += "DiskStore(Path(sys.argv[1]))"
    command = [sys.executable, "-c", program, str(tmp_path)]
    root = Path(__file__).parents[1]
    second = subprocess.run(command, cwd=root, capture_output=True, text=True)
    assert "another process writes to" in second.stderr
    store.close()
    DiskStore(tmp_path).close()
    with pytest.raises(ValueError, match="open it with writable=True"):
        store.add(episodes_of([3]))
