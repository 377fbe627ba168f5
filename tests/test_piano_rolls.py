"""Laws of the reader of piano rolls."""

import itertools

import numpy as np
import pytest
import torch
from rolls import LENGTHS, made_up, write

from experiments.piano_rolls import FILES, PITCHES, SPLITS, Rolls, read
from experiments.run import RunError


def test_a_file_comes_back_recording_by_recording(tmp_path):
    arrays = made_up()
    splits = read(write(tmp_path), "JSB")
    assert tuple(splits) == SPLITS
    for split, rolls in splits.items():
        sequences = rolls.sequences()
        assert sequences.lengths.tolist() == LENGTHS[split]
        frames = sequences.rows.observation.transpose(0, 1)[sequences.mask.T]
        assert np.array_equal(frames.numpy(), arrays[f"{split}_roll"])


def test_rates_are_shares_of_frames_and_never_certain():
    frames = np.zeros((3, PITCHES), bool)
    frames[:2, 5], frames[:, 7] = True, True
    rates = Rolls(frames, np.array([3])).rates
    assert rates[[0, 5, 7]] == pytest.approx([0.5 / 4, 2.5 / 4, 3.5 / 4])


@pytest.mark.parametrize("name", FILES)
def test_every_set_has_a_file_of_its_own(tmp_path, name):
    assert len(read(write(tmp_path, FILES[name]), name)["train"]) == 6


def test_a_recording_is_a_world_that_nobody_steers(tmp_path):
    sequences = read(write(tmp_path), "JSB")["train"].sequences(np.array([1, 2]))
    rows = sequences.rows
    assert rows.action.shape == (9, 2, 0)
    assert rows.observation.shape == (9, 2, PITCHES)
    assert rows.observation.dtype == torch.bool
    assert rows.first.tolist() == [[True, True]] + [[False, False]] * 8
    assert not rows.reward.any()
    assert not rows.terminated.any()
    assert torch.equal(sequences.scored, sequences.mask)  # the first frame counts
    assert sequences.mask.sum(0).tolist() == [9, 3]


def test_an_epoch_holds_every_recording_once_and_no_two_are_alike(tmp_path):
    rolls = read(write(tmp_path), "JSB")["train"]
    batches = rolls.batches(2, np.random.default_rng(0))
    epochs = []
    for _ in range(6):
        lengths = [batch.lengths.tolist() for batch in itertools.islice(batches, 3)]
        assert sorted(itertools.chain(*lengths)) == sorted(LENGTHS["train"])
        epochs.append(lengths)
    assert any(epoch != epochs[0] for epoch in epochs)
    again = rolls.batches(2, np.random.default_rng(0))
    assert [batch.lengths.tolist() for batch in itertools.islice(again, 3)] == epochs[0]


def test_cutting_keeps_every_frame_in_its_place(tmp_path):
    rolls = read(write(tmp_path), "JSB")["train"]
    pieces = rolls.cut(4)
    assert pieces.lengths.tolist() == [4, 1, 4, 4, 1, 3, 4, 3, 4, 4, 2]
    assert np.array_equal(pieces.frames, rolls.frames)
    assert rolls.cut(9).lengths.tolist() == rolls.lengths.tolist()
    whole, halves = rolls.sequences(np.array([1])), pieces.sequences(np.array([2, 3]))
    frames = halves.rows.observation.transpose(0, 1).flatten(0, 1)
    assert torch.equal(frames, whole.rows.observation[:8, 0])


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"valid_len": None}, ["valid_len", "got only"]),
        ({"train_roll": np.zeros((34, 87), np.uint8)}, ["train_roll", "[frames, 88]", "[34, 87]"]),
        ({"train_roll": np.full((34, 88), 2)}, ["train_roll", "0 and 1"]),
        ({"test_len": np.array([3, 8, 3])}, ["test_len", "14 frames", "13"]),
        ({"test_len": np.array([3, 10, 0])}, ["test_len", "one or more"]),
        ({"test_len": np.array([6.5, 6.5])}, ["test_len", "float64"]),
        ({"test_len": np.array([], int)}, ["test_len", "[0]"]),
    ],
)
def test_a_wrong_file_gets_a_sentence(tmp_path, changes, words):
    write(tmp_path, **changes)
    with pytest.raises(RunError, match=r"JSB_Chorales\.npz") as error:
        read(tmp_path, "JSB")
    for word in words:
        assert word in str(error.value)


def test_missing_and_damaged_files_get_a_sentence(tmp_path):
    with pytest.raises(RunError, match="--data"):
        read(tmp_path / "nowhere", "JSB")
    (tmp_path / "JSB_Chorales.npz").write_bytes(b"PK\x03\x04 no more than a beginning")
    with pytest.raises(RunError, match="cannot be read"):
        read(tmp_path, "JSB")


def test_rolls_are_indexed_by_their_starts():
    rolls = Rolls(np.eye(6, PITCHES, dtype=bool), np.array([2, 1, 3]))
    assert rolls.starts.tolist() == [0, 2, 3]
    assert len(rolls) == 3
