"""Laws of piano rolls in files of others: what is in them comes back, or a sentence says why."""

import io
import json
import struct
import zipfile
import zlib

import numpy as np
import pytest
import scipy.io
from mutants import mutant, put

from worldmodel.experiments.data.readers import roll_files
from worldmodel.experiments.data.readers.files import BadFileError
from worldmodel.experiments.data.readers.roll_files import read_rolls

LENGTHS = {"train": [5, 9, 3], "valid": [4, 6], "test": [1, 8]}


def made_up(dtype=np.uint8, pitches=88):
    """Rolls by split."""
    random = np.random.default_rng(0)
    return {
        split: [(random.random((length, pitches)) < 0.1).astype(dtype) for length in lengths]
        for split, lengths in LENGTHS.items()
    }


def as_npz(rolls, packed=True, **changes):
    arrays = {f"{split}_roll": np.concatenate(of_split) for split, of_split in rolls.items()}
    arrays |= {f"{split}_len": np.array([*map(len, of)]) for split, of in rolls.items()}
    arrays = {name: array for name, array in (arrays | changes).items() if array is not None}
    file = io.BytesIO()
    (np.savez_compressed if packed else np.savez)(file, **arrays)
    return file.getvalue()


def as_mat(rolls, packed=False):
    variables = {}
    for split, of_split in rolls.items():
        variables[f"{split}data"] = np.empty((1, len(of_split)), object)
        variables[f"{split}data"][0, :] = of_split
    file = io.BytesIO()
    scipy.io.savemat(file, variables, do_compression=packed)
    return file.getvalue()


def listed(roll, first=21):
    return [(frame.nonzero()[0] + first).tolist() for frame in roll]


def as_json(rolls):
    songs = {split: [listed(roll) for roll in of_split] for split, of_split in rolls.items()}
    return json.dumps(songs).encode()


def read(folder, data, suffix, low=21, high=108):
    path = folder / f"a{suffix}"
    put(path, data)
    return list(read_rolls(path, low, high))


def says(folder, data, suffix, *words):
    """The file is refused, in a sentence with these words."""
    with pytest.raises(BadFileError, match=rf"a\{suffix}") as error:
        read(folder, data, suffix)
    for word in words:
        assert word in str(error.value)
    assert "\n" not in str(error.value)


FORMATS = {
    "npz": (as_npz(made_up()), ".npz"),
    "npz, stored": (as_npz(made_up(bool), packed=False), ".npz"),
    "mat": (as_mat(made_up()), ".mat"),
    "mat, packed": (as_mat(made_up(float), packed=True), ".mat"),
    "json": (as_json(made_up()), ".json"),
}


@pytest.mark.parametrize("name", FORMATS)
def test_rolls_come_back_in_order_with_their_splits(tmp_path, name):
    found = read(tmp_path, *FORMATS[name])
    expected = [(split, roll) for split, rolls in made_up().items() for roll in rolls]
    assert [recording.split for recording in found] == [split for split, _ in expected]
    for recording, (_, roll) in zip(found, expected, strict=True):
        assert recording.observation.dtype == bool
        assert np.array_equal(recording.observation, roll)
    assert len({recording.name for recording in found}) == len(found)


@pytest.mark.parametrize("dtype", [bool, "i1", "u2", ">i8", "f2", ">f4", "f8"])
@pytest.mark.parametrize("packed", [False, True])
def test_0_and_1_are_read_from_any_numbers(tmp_path, dtype, packed):
    rolls = made_up(dtype)
    expected = [roll for of_split in rolls.values() for roll in of_split]
    files = {".npz": as_npz(rolls, packed)}
    if dtype not in ("f2", ">f4", ">i8"):  # which scipy does not write
        files[".mat"] = as_mat(rolls, packed)
    for suffix, data in files.items():
        found = read(tmp_path, data, suffix)
        assert all(np.array_equal(r.observation, e) for r, e in zip(found, expected, strict=True))


def test_arrays_of_any_names_are_recordings(tmp_path):
    random = np.random.default_rng(0)
    piano, midi = random.random((7, 88)) < 0.1, random.random((5, 128)) < 0.1
    several = np.empty(2, object)
    several[:] = piano[:3].astype(int), piano[3:].astype(int)
    found = read(tmp_path, as_npz({}, roll=piano, other=midi, test=several), ".npz")
    assert [(r.name.split()[-1], r.split) for r in found] == [
        ("roll", None),
        ("other", None),
        ("test[0]", "test"),
        ("test[1]", "test"),
    ]
    assert np.array_equal(found[0].observation, piano)
    assert np.array_equal(found[1].observation, midi[:, 21:109])
    assert np.array_equal(np.concatenate([r.observation for r in found[2:]]), piano)


@pytest.mark.parametrize(("low", "high"), [(21, 108), (0, 127), (30, 40), (100, 120), (5, 25)])
@pytest.mark.parametrize(("pitches", "first"), [(88, 21), (128, 0)])
def test_a_column_is_the_pitch_that_it_was(tmp_path, low, high, pitches, first):
    roll = np.random.default_rng(0).random((50, pitches)) < 0.3
    (recording,) = read(tmp_path, as_npz({}, roll=roll), ".npz", low, high)
    assert recording.observation.shape == (50, high - low + 1)
    expected = {(t, j + first) for t, j in np.argwhere(roll).tolist()}
    found = {(t, j + low) for t, j in np.argwhere(recording.observation).tolist()}
    assert found == {(t, pitch) for t, pitch in expected if low <= pitch <= high}


def test_json_may_hold_voices_that_rest_and_songs_alone(tmp_path):
    songs = [[[74, 70, 65, 58], [-1, 70, 70, -1], []], [[0, 127]]]
    for data in (songs, {"valid": songs}):
        found = read(tmp_path, json.dumps(data).encode(), ".json", 0, 127)
        assert [listed(r.observation, 0) for r in found] == [
            [[58, 65, 70, 74], [70], []],
            songs[1],
        ]
        assert {r.split for r in found} == {"valid" if isinstance(data, dict) else None}


ROLL = made_up()["train"][0]
HEADER = b"MATLAB 5.0 MAT-file".ljust(124)


def claims(cells_):
    """A .mat whose cell array claims to be of so many cells."""
    data = as_mat({"train": [ROLL]})
    shape = struct.pack("<ii", 1, 1)
    assert data.index(shape) < 200
    return data.replace(shape, struct.pack("<ii", 1, cells_), 1)


def pickled():
    array = np.empty(1, object)
    array[0] = {"a": 1}
    file = io.BytesIO()
    np.savez(file, roll=array)
    return file.getvalue()


def one_array():
    file = io.BytesIO()
    np.save(file, ROLL)
    return file.getvalue()


def mat_of(**variables):
    file = io.BytesIO()
    scipy.io.savemat(file, variables)
    return file.getvalue()


@pytest.mark.parametrize(
    ("data", "suffix", "words"),
    [
        (b"", ".npz", ["damaged or no .npz"]),
        (b"", ".mat", ["empty"]),
        (b"", ".json", ["empty"]),
        (b"PK\x03\x04 no more than a beginning", ".npz", ["damaged or no .npz"]),
        (one_array(), ".npz", ["damaged or no .npz"]),
        (pickled(), ".npz", ["pickle"]),
        (as_npz({}), ".npz", ["got none"]),
        (as_npz(made_up(), train_len=None), ".npz", ["train_len", "got only"]),
        (
            as_npz(made_up(), test_len=np.array([3, 8])),
            ".npz",
            ["test_len", "add up to 11", "9 rows"],
        ),
        (as_npz(made_up(), test_len=np.array([9, 0])), ".npz", ["got 0", "leave empty"]),
        (as_npz(made_up(), test_len=np.array([9.0])), ".npz", ["float64", "whole numbers"]),
        (as_npz(made_up(), test_roll=np.zeros(9)), ".npz", ["test_roll", "another shape"]),
        (as_npz({}, x=np.zeros((9, 87))), ".npz", [".npz x", "[T, 88]", "[9, 87]"]),
        (as_npz({}, x=np.zeros((9, 88, 1))), ".npz", ["[9, 88, 1]"]),
        (as_npz({}, x=np.zeros((0, 88))), ".npz", ["1 to 262144 steps, got 0"]),
        (as_npz({}, x=np.zeros((262145, 88), bool)), ".npz", ["got 262145"]),
        (as_npz({}, x=np.full((9, 88), 2)), ".npz", ["0 and 1, got other numbers"]),
        (as_npz({}, x=np.full((9, 88), np.nan)), ".npz", ["0 and 1, got other numbers"]),
        (as_npz({}, x=np.full((9, 88), "x")), ".npz", ["array of numbers"]),
        (HEADER + b"\x00\x02IM" + bytes(400), ".mat", ["v7.3", "savemat"]),
        (b"\x89HDF\r\n\x1a\n" + bytes(400), ".mat", ["MAT-file", "savemat"]),
        (bytes(10), ".mat", ["MAT-file", "damaged"]),
        (as_mat(made_up())[:-100], ".mat", ["MAT-file", "damaged"]),
        (as_mat(made_up(), packed=True)[:-100], ".mat", ["MAT-file", "damaged"]),
        (mat_of(x=ROLL), ".mat", ["traindata", "'x'"]),
        (mat_of(traindata=ROLL), ".mat", ["cell array"]),
        (as_mat({"train": [ROLL * 1j]}), ".mat", ["traindata[0]", "complex128"]),
        (as_mat({"train": ["text"]}), ".mat", ["traindata[0]", "<U4"]),
        (as_mat({"train": [np.zeros((3, 87))]}), ".mat", ["traindata[0]", "[3, 87]"]),
        (claims(2**31 - 1), ".mat", ["MAT-file", "16.0 GiB"]),
        (b'{"train": [[[60]]', ".json", ["no JSON"]),
        (b"\xff\xfe\xff", ".json", ["no JSON"]),
        (b"[" * 10**6, ".json", ["no JSON"]),
        (b"[[[" + b"6" * 10**5 + b"]]]", ".json", ["no JSON"]),
        (b"{}", ".json", ["songs"]),
        (b'{"train": []}', ".json", ["songs"]),
        (b'{"train": [[[60]]], "more": 5}', ".json", ["more"]),
        (b'{"train": 5, "test": [[[60]]]}', ".json", ["list of songs, got 5"]),
        (b'[[[60], "x"]]', ".json", ["songs[0]", "list of pitches, got 'x'"]),
        (b"[[[60]], 7]", ".json", ["list of frames, got 7"]),
        (b"[[]]", ".json", ["got 0"]),
        (b"[[[60], [128]]]", ".json", ["songs[0][1]", "128"]),
        (b"[[[-2]]]", ".json", ["-2"]),
        (b"[[[60.5]]]", ".json", ["60.5"]),
        (b"[[[true]]]", ".json", ["True"]),
        (b"[[[NaN]]]", ".json", ["nan"]),
        (b"[[" + b"[]," * 262145 + b"[]]]", ".json", ["at most 262144"]),
        (b"what is this", ".txt", [".npz, .mat, .json"]),
    ],
)
def test_a_wrong_file_gets_a_sentence(tmp_path, data, suffix, words):
    says(tmp_path, data, suffix, *words)


def test_what_unpacks_to_too_much_gets_a_sentence(tmp_path, monkeypatch):
    monkeypatch.setattr(roll_files, "MAX_BYTES", 10**6)
    zeros = np.zeros((50_000, 88), np.uint8)
    says(tmp_path, as_npz({}, x=zeros), ".npz", "or 1,000,000 bytes", "unpack to 4,400,128")
    says(tmp_path, as_mat({"train": [zeros]}), ".mat", "at most 1,000,000 bytes")
    monkeypatch.setattr(roll_files, "MAX_JSON_BYTES", 10)
    says(tmp_path, b"[[[60, 61]]]", ".json", "at most 10 bytes, got 12")


def test_tightly_packed_rolls_are_read(tmp_path):
    zeros = np.zeros((50_000, 88), bool)
    data = as_npz({}, x=zeros)
    assert len(data) * 500 < zeros.size
    assert len(read(tmp_path, data, ".npz")) == 1


def repacked_npz(random):
    """An .npz whose sums are right, of a damaged array."""
    with zipfile.ZipFile(io.BytesIO(FORMATS["npz"][0])) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    name = str(random.choice(list(members)))
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for member, data in (members | {name: mutant(members[name], random)}).items():
            archive.writestr(member, data)
    return file.getvalue()


def repacked_mat(random):
    """A .mat whose packed variable is damaged, and packed without a flaw."""
    data = FORMATS["mat"][0]
    packed = zlib.compress(mutant(data[128:], random))
    return data[:128] + struct.pack("<II", 15, len(packed)) + packed


REPACKED = {"npz": repacked_npz, "mat, packed": repacked_mat}


def fuzz(folder, name, count):
    """Reads `count` mutants; how many were read to their end, and refused."""
    data, suffix = FORMATS[name]
    path = folder / f"mutant{suffix}"
    random = np.random.default_rng(sum(name.encode()))
    refusals = []
    for turn in range(count):
        make = REPACKED.get(name) if turn % 3 else None
        damaged = make(random) if make else mutant(data, random)
        put(path, damaged)
        try:
            found = list(read_rolls(path, 0, 127))
        except BadFileError as error:
            refusals.append(str(error))
        else:
            assert all(r.observation.shape[1] == 128 and len(r.observation) for r in found)
            assert 0 < sum(len(r.observation) for r in found) <= len(damaged)
    assert all(str(path) in refusal and "\n" not in refusal for refusal in refusals)
    return count - len(refusals), len(refusals)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("name", FORMATS)
def test_a_damaged_file_is_read_or_refused(tmp_path, capfd, name):
    # a few of them end the process that scipy reads them in, and to start another takes a second
    read_, refused = fuzz(tmp_path, name, 300 if name.startswith("mat") else 1000)
    assert read_ > 0
    assert refused > 200
    assert tuple(capfd.readouterr()) == ("", "")
