"""Laws of replay: rows go in and come out as they were, whole windows, evenly, reproducibly."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from episodes import ACTIONS, Pairs, episodes_of, rich, same

from worldmodel import Episodes, MemoryStore, Priorities, Replay, Row, Sequences, nested


def replay_of(lengths, seed=0):
    replay = Replay(ACTIONS, seed)
    replay.add(episodes_of(lengths))
    return replay


def by_hand():
    """Five rows of two games, written down.

    Game 0: an episode of three rows that terminates, then one of two that is cut off.
    Game 1: a row of an episode that began earlier, then one of three rows, truncated, then a
    reset that nothing follows.
    """
    first = [[1, 0], [0, 1], [0, 0], [1, 0], [0, 1]]
    action = [[0, 3], [2, 0], [1, 1], [0, 2], [3, 0]]  # 0: void
    observation = [[10, 90], [11, 20], [12, 21], [30, 22], [31, 40]]
    reward = [[0, 9], [1, 0], [2, 3], [0, 4], [5, 0]]
    terminated = [[0, 0], [0, 0], [1, 0], [0, 0], [0, 0]]
    first = torch.tensor(first, dtype=torch.bool)
    code = ACTIONS.encode(torch.tensor(action).clamp(min=1)).masked_fill(first[..., None], 0.0)
    return Sequences.whole(
        Row(
            first,
            code,
            torch.tensor(observation),
            torch.tensor(reward, dtype=torch.float32),
            torch.tensor(terminated, dtype=torch.bool),
        )
    )


def test_hand_written_rows_are_cut_into_their_episodes():
    episodes = Episodes.cut(by_hand(), ACTIONS)
    assert episodes.lengths.tolist() == [3, 2, 3, 1]
    assert episodes.starts.tolist() == [0, 3, 5, 8]
    assert episodes.steps == 5
    assert episodes.columns["observation"].tolist() == [10, 11, 12, 30, 31, 20, 21, 22, 40]
    assert episodes.columns["reward"].tolist() == [0, 1, 2, 0, 5, 0, 3, 4, 0]
    assert episodes.columns["terminated"].tolist() == [0, 0, 1, 0, 0, 0, 0, 0, 0]
    taken = [episodes.columns["action"][row] for row in (1, 2, 4, 6, 7)]
    assert taken == [2, 1, 3, 1, 2]


def test_cut_and_back_gives_the_rows_that_were():
    config, episodes = by_hand(), Episodes.cut(by_hand(), ACTIONS)
    back = episodes.sequences(ACTIONS)
    assert back.mask.T.tolist() == [[True] * n + [False] * (3 - n) for n in (3, 2, 3, 1)]
    places = [(0, 0), (3, 0), (1, 1), (4, 1)]  # where each episode began
    for episode, (time, game) in enumerate(places):
        for row in range(int(episodes.lengths[episode])):
            for was, became in zip(config.rows, back.rows, strict=True):
                assert torch.equal(was[time + row, game], became[row, episode])
                assert was.dtype == became.dtype
    assert same(Episodes.cut(config, ACTIONS), episodes)


def test_nested_rows_are_cut_and_come_back():
    """Every leaf, whatever its shape, at every row; actions of more than one number, too."""
    episodes = rich(episodes_of([3, 1, 4]))
    whole = episodes.sequences(Pairs())
    for number, length in enumerate(episodes.lengths):
        own = nested.index(whole.rows, (slice(length), slice(number, number + 1)))
        back = Episodes.cut(Sequences.whole(own), Pairs())
        expected = episodes.select(np.array([number]))
        expected.columns["action"][0] = 0  # void
        assert same(back, expected)


def test_joined_episodes_are_selected_as_they_were():
    parts = [episodes_of([3, 1]), episodes_of([4, 2, 5])]
    whole = Episodes.join(parts)
    assert len(whole) == 5
    assert whole.steps == parts[0].steps + parts[1].steps
    assert same(whole.select(np.array([0, 1])), parts[0])
    assert same(whole.select(np.array([2, 3, 4])), parts[1])
    shuffled = whole.select(np.array([4, 2]))
    assert shuffled.columns["observation"].tolist() == [2000, 2001, 2002, 2003, 2004, 0, 1, 2, 3]


def test_columns_that_do_not_fit_are_refused():
    columns = episodes_of([3, 2]).columns
    with pytest.raises(ValueError, match="of 6 rows each"):
        Episodes(columns, np.array([3, 3]))
    with pytest.raises(ValueError, match="expect the columns"):
        Episodes({key: columns[key] for key in Episodes.KEYS[1:]}, np.array([3, 2]))
    with pytest.raises(ValueError, match=r"hold numbers, but .*object"):
        Episodes(columns | {"observation": np.array([None] * 5)}, np.array([3, 2]))


def check_window(sequences, episodes):
    """One column after another: inside one episode, in order, first only at row 0."""
    rows, mask = sequences.rows, sequences.mask
    lengths = mask.sum(0)
    assert torch.equal(mask, torch.arange(len(mask))[:, None] < lengths)  # a prefix
    assert lengths.min() >= 1
    assert not rows.first[1:].any()
    for column in range(mask.shape[1]):
        shown = rows.observation[: lengths[column], column].numpy()
        number, row = shown // 1000, shown % 1000
        assert (number == number[0]).all()
        assert np.array_equal(row, row[0] + np.arange(len(row)))
        assert rows.first[0, column] == (row[0] == 0)
        own = episodes.select(number[:1])
        taken = torch.as_tensor(own.columns["action"][row])
        expected = ACTIONS.encode(taken).masked_fill(torch.as_tensor(row == 0)[:, None], 0.0)
        assert torch.equal(rows.action[: lengths[column], column], expected)
        for key in ("reward", "terminated"):
            found = getattr(rows, key)[: lengths[column], column].numpy()
            assert np.array_equal(found, own.columns[key][row])


def test_windows_are_what_was_asked_for():
    episodes = episodes_of([6, 3, 4])
    chosen, starts = np.array([0, 1, 2, 0]), np.array([4, 0, 1, 0])
    windows = episodes.windows(ACTIONS, chosen, starts, length=4, burn_in=2)
    check_window(windows, episodes)
    assert windows.rows.observation[0].tolist() == [4, 1000, 2001, 0]
    assert windows.lengths.tolist() == [2, 3, 3, 4]
    assert windows.loss_mask.T.tolist() == [
        [False, False, False, False],  # begins within: two rows of burn-in, and it holds no more
        [True, True, True, False],
        [False, False, True, False],
        [True, True, True, True],
    ]


def test_padding_holds_legal_values():
    windows = episodes_of([6, 2]).sequences(ACTIONS)
    pad = ~windows.mask
    assert pad.any()
    assert set(windows.rows.observation[pad].tolist()) <= {1000, 1001}
    assert torch.equal(windows.rows.action[pad].sum(-1), torch.ones(int(pad.sum())))


@pytest.mark.parametrize("from_start", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("burn_in", [0, 3])
def test_every_sample_is_made_of_windows(from_start, burn_in):
    lengths = [1, 2, 5, 9, 30, 30, 64, 7]
    replay, episodes = replay_of(lengths), episodes_of(lengths)
    for _ in range(40):
        for block in replay.sample(12, 100, from_start, burn_in):
            check_window(block, episodes)
            assert len(block.mask) <= 12
            times = torch.arange(len(block.mask))[:, None]
            begun_before = ~block.rows.first[0]
            assert torch.equal(block.loss_mask, block.mask & ((times >= burn_in) | ~begun_before))
            if from_start == 1.0:
                assert block.rows.first[0].all()


def test_windows_begin_at_the_start_as_often_as_told():
    replay = replay_of([10])
    blocks = [block for _ in range(100) for block in replay.sample(4, 400, from_start=0.3)]
    firsts = torch.cat([block.rows.first[0] for block in blocks])
    expected = 0.3 + 0.7 / 10
    error = (expected * (1 - expected) / len(firsts)) ** 0.5
    assert abs(firsts.float().mean() - expected) < 4 * error


@pytest.mark.parametrize("from_start", [0.0, 0.4, 1.0])
def test_a_sample_has_as_many_rows_as_told_on_average(from_start):
    replay = replay_of([1, 3, 4, 17, 30, 64])
    replay.add(episodes_of([2, 40]), weight=3.0)
    totals = [
        sum(b.mask.sum().item() for b in replay.sample(16, 640, from_start)) for _ in range(300)
    ]
    error = np.std(totals) / len(totals) ** 0.5
    assert abs(np.mean(totals) - 640) < 4 * error + 16  # a whole number of windows


def row_counts(replay, batches, **options):
    """How often each row was drawn in each batch, [batches, rows]."""
    counts = np.zeros((batches, replay.episodes.lengths.sum()))
    for batch in range(batches):
        for block in replay.sample(**options):
            shown = block.rows.observation[block.mask].numpy()
            np.add.at(counts[batch], replay.episodes.starts[shown // 1000] + shown % 1000, 1)
    return counts


def check_equal(counts, weights):
    """Every row's mean count over its weight is that of all rows, within 4 standard errors."""
    counts = counts / weights
    error = counts.std(0, ddof=1) / len(counts) ** 0.5
    assert (np.abs(counts.mean(0) - counts.mean()) <= 4 * error).all()


@pytest.mark.parametrize("length", [8, 64])
def test_how_often_a_row_is_drawn_does_not_depend_on_what_comes_after_it(length):
    """The third rows of short and long episodes alike, wherever windows begin: else a model would
    learn that episodes end later, or sooner, than they do."""
    for from_start in (0.0, 0.5, 1.0):
        replay = replay_of([3, 4, 5, 9, 13, 16, 40])
        counts = row_counts(replay, 1_000, length=length, rows=64, from_start=from_start)
        for row in (0, 2):
            check_equal(counts[:, replay.episodes.starts + row], 1.0)


def test_rows_are_drawn_as_often_as_their_weights_say():
    replay = replay_of([5, 9, 3])
    replay.add(episodes_of([5, 9, 3, 8, 8]).select(np.array([3, 4])), weight=3.0)
    for from_start in (0.0, 1.0):
        counts = np.zeros((1_000, 5))
        for batch in range(len(counts)):
            for block in replay.sample(16, 64, from_start):
                first = block.rows.observation[0][block.rows.first[0]].numpy()
                np.add.at(counts[batch], first // 1000, 1)
        check_equal(counts, np.array([1, 1, 1, 3, 3]))


def test_blocks_hold_little_padding():
    replay = replay_of([3] * 30 + [60] * 3)
    short, long = replay.sample(64, 400, from_start=1.0)
    assert short.mask.shape[0] == 3
    assert long.mask.shape[0] == 60
    assert torch.cat([short.mask.flatten(), long.mask.flatten()]).all()
    assert len(replay_of([7] * 5).sample(7, 70, from_start=1.0)) == 1


def test_what_is_drawn_depends_on_what_is_kept_alone():
    """A long life beside a replay that begins where the other one is."""
    replay, whole = Replay(ACTIONS, 0, MemoryStore(5_000)), episodes_of([7, 12, 5] * 700)
    for number in range(0, 2_100, 100):
        replay.add(whole.select(np.arange(number, number + 100)), 1.0 + number)
        replay.sample(8, 64)
    store = MemoryStore(5_000)
    for number in range(0, 2_100, 100):
        store.add(whole.select(np.arange(number, number + 100)), 1.0 + number)
    fresh = Replay(ACTIONS, 1, store)
    fresh.load_state_dict(replay.state_dict())
    for _ in range(10):
        drawn = replay.draw(8, 500, 0.5)
        for one, two in zip(drawn, fresh.draw(8, 500, 0.5), strict=True):
            assert np.array_equal(one.episodes, two.episodes)
            assert one.episodes.min() >= store.dropped > 1_000


def test_an_empty_replay_says_so():
    with pytest.raises(ValueError, match="add episodes before sampling"):
        Replay(ACTIONS, 0).sample(4, 16)


def test_saved_episodes_come_back(tmp_path):
    episodes, file = episodes_of([3, 1, 7]), tmp_path / "episodes.npz"
    episodes.save(file)
    assert same(Episodes.load(file), episodes)
    assert [path.name for path in tmp_path.iterdir()] == ["episodes.npz"]


def test_saved_episodes_of_nested_observations_come_back(tmp_path):
    episodes, file = rich(episodes_of([3, 1, 7])), tmp_path / "episodes.npz"
    episodes.save(file)
    assert same(Episodes.load(file), episodes)
    with np.load(file) as arrays:
        assert arrays["observation.camera"].shape == (11, 2, 2, 3)


def test_episodes_saved_without_a_structure_are_read(tmp_path):
    episodes, file = episodes_of([3, 1, 7]), tmp_path / "episodes.npz"
    np.savez_compressed(file, lengths=episodes.lengths, **episodes.columns)
    assert same(Episodes.load(file), episodes)


def test_a_save_that_was_killed_leaves_the_file_before_it(tmp_path, monkeypatch):
    episodes, file = episodes_of([3, 1, 7]), tmp_path / "episodes.npz"
    episodes.save(file)

    def killed(file, **columns):
        file.write(b"PK half of a")
        raise KeyboardInterrupt

    monkeypatch.setattr(np, "savez_compressed", killed)
    with pytest.raises(KeyboardInterrupt):
        episodes_of([2]).save(file)
    assert same(Episodes.load(file), episodes)


def test_a_damaged_file_is_named(tmp_path):
    file = tmp_path / "episodes.npz"
    episodes_of([3, 1, 7]).save(file)
    whole = file.read_bytes()
    middle = len(whole) // 3
    flipped = whole[:middle] + bytes([whole[middle] ^ 0xFF]) + whole[middle + 1 :]
    cuts = [whole[:size] for size in range(0, len(whole), len(whole) // 10)]
    for damaged in [*cuts, flipped, b"no archive at all"]:
        file.write_bytes(damaged)
        with pytest.raises(ValueError, match=r"episodes\.npz is no file of episodes, or damaged"):
            Episodes.load(file)
    with pytest.raises(FileNotFoundError):
        Episodes.load(tmp_path / "nowhere.npz")


class Payload:
    """What unpickles by making a file."""

    def __init__(self, file):
        self.file = file

    def __reduce__(self):
        return Path.touch, (self.file,)


def test_a_file_with_code_is_refused(tmp_path):
    file, trace = tmp_path / "episodes.npz", tmp_path / "executed"
    columns = episodes_of([2]).columns
    columns["observation"] = np.array([Payload(trace), 0], dtype=object)
    np.savez(file, lengths=np.array([2]), **columns)
    with pytest.raises(ValueError, match=r"episodes\.npz is no file of episodes, or damaged"):
        Episodes.load(file)
    assert not trace.exists()


def observations(replay):
    """What a sample shows."""
    return torch.cat([block.rows.observation.flatten() for block in replay.sample(8, 64)])


def test_a_restored_replay_draws_the_same():
    lengths = [5, 9, 30, 3]
    replay = replay_of(lengths, seed=3)
    drawn = [observations(replay) for _ in range(5)]
    again = replay_of(lengths, seed=3)
    assert all(torch.equal(observations(again), x) for x in drawn)
    state = json.loads(json.dumps(replay.state_dict()))
    following = [observations(replay) for _ in range(5)]
    other = replay_of(lengths, seed=99)
    other.load_state_dict(state)
    assert all(torch.equal(observations(other), x) for x in following)
    assert not all(
        x.shape == y.shape and torch.equal(x, y) for x, y in zip(drawn, following, strict=True)
    )


def prioritised(lengths, priorities, seed=0, exponent=0.5):
    replay = Replay(ACTIONS, seed, priorities=Priorities(exponent))
    replay.add(episodes_of(lengths))
    replay.sample(8, 64)
    replay.prioritise(np.arange(len(lengths)), np.array(priorities, float))
    return replay


def windows_drawn(replay, batches, from_start):
    """Counts and sums of ratios of the windows that were drawn, by episode and first row."""
    shape = (batches, len(replay.episodes), int(replay.episodes.lengths.max()))
    counts, ratios = np.zeros(shape), np.zeros(shape)
    for batch in range(batches):
        for drawn in replay.draw(8, 64, from_start):
            shown = drawn.sequences.rows.observation[0].numpy()
            assert np.array_equal(shown // 1000, drawn.episodes)
            np.add.at(counts[batch], (drawn.episodes, shown % 1000), 1)
            np.add.at(ratios[batch], (drawn.episodes, shown % 1000), drawn.ratios)
    return counts, ratios


def test_episodes_are_drawn_in_proportion_to_their_priorities():
    priorities = np.array([4.0, 1.0, 9.0, 2.0, 0.25])
    replay = prioritised([5, 9, 3, 8, 8], priorities)
    counts, _ = windows_drawn(replay, 1_000, 1.0)
    check_equal(counts.sum(-1), priorities**0.5)


@pytest.mark.parametrize("from_start", [0.0, 0.4, 1.0])
def test_ratios_undo_what_priorities_do(from_start):
    """Windows weighed by their ratios are as likely as without priorities: in closed form, the
    expected weight of a window that begins at row s of an episode is from_start [s = 0] / episodes
    + (1 - from_start) / rows."""
    lengths = np.array([5, 9, 3, 8])
    replay = prioritised(lengths, [4.0, 1.0, 9.0, 0.25])
    counts, ratios = windows_drawn(replay, 2_000, from_start)
    share = ratios / counts.sum((1, 2), keepdims=True)
    first = np.arange(lengths.max()) == 0
    expected = from_start * first / len(lengths) + (1 - from_start) / lengths.sum()
    expected = np.where(np.arange(lengths.max()) < lengths[:, None], expected, 0.0)
    error = share.std(0, ddof=1) / len(share) ** 0.5
    assert (np.abs(share.mean(0) - expected) <= 4.5 * error + 1e-12).all()


def test_priorities_of_one_leave_everything_as_it_is():
    plain, other = replay_of([5, 9, 30]), prioritised([5, 9, 30], [1, 1, 1])
    plain.sample(8, 64)
    for one, two in zip(plain.draw(8, 64, 0.5), other.draw(8, 64, 0.5), strict=True):
        assert np.array_equal(one.episodes, two.episodes)
        assert np.allclose(two.ratios, one.ratios)


def test_new_episodes_have_the_highest_priority_and_dropped_ones_none():
    replay = Replay(ACTIONS, 0, MemoryStore(20), Priorities(1.0))
    replay.add(episodes_of([5, 5, 5]))
    replay.sample(8, 64)
    replay.prioritise(np.arange(3), np.array([7.0, 2.0, 3.0]))
    replay.add(episodes_of([5, 5], first=3))
    replay.prioritise(np.array([0, 1]), np.array([50.0, 1.0]))  # 0 has been dropped
    counts = np.zeros((500, 4))
    for batch in range(500):
        for drawn in replay.draw(8, 64, 1.0):
            np.add.at(counts[batch], drawn.episodes - 1, 1)
    check_equal(counts, np.array([1.0, 3.0, 7.0, 7.0]))


def test_a_restored_replay_has_its_priorities():
    replay = prioritised([5, 9, 30, 3], [1, 2, 3, 4], seed=3)
    state = json.loads(json.dumps(replay.state_dict()))
    following = [observations(replay) for _ in range(5)]
    other = prioritised([5, 9, 30, 3], [9, 9, 1, 9], seed=9)
    other.load_state_dict(state)
    assert all(torch.equal(observations(other), x) for x in following)


def test_priorities_that_make_no_sense_are_refused():
    with pytest.raises(ValueError, match="must be positive, got 0"):
        Priorities(0)
    with pytest.raises(ValueError, match="has no priorities"):
        replay_of([3]).prioritise(np.array([0]), np.array([1.0]))
    for wrong in (-1.0, 0.0, np.nan, np.inf):
        with pytest.raises(ValueError, match="positive numbers, got"):
            prioritised([3], [1.0]).prioritise(np.array([0]), np.array([wrong]))
