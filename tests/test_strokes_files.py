"""Files of pen strokes: one form for every layout, one sentence for every damage."""

import io
import os
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from mutants import mutant, put

from worldmodel.experiments.data.readers.files import BadFileError, Recording
from worldmodel.experiments.data.readers.strokes import read_strokes

# the letter i, started 3 to the right of the origin and 4 below
OFFSET = np.array([[3, 4], [0, 5], [1, 3], [-1, -12], [2, 0]])
ENDS = np.array([0, 0, 1, 0, 1])
DOT = (np.array([[2, 2]]), np.array([1]))


def stroke3(offset: np.ndarray = OFFSET, ends: np.ndarray = ENDS) -> np.ndarray:
    return np.column_stack([offset, ends]).astype(np.int16)


def stroke5(offset: np.ndarray = OFFSET, ends: np.ndarray = ENDS, rows: int = 0) -> np.ndarray:
    """With a row for the end, padded to `rows`."""
    drawn = np.column_stack([offset, 1 - ends, ends, 0 * ends])
    end = np.tile([0, 0, 0, 0, 1], (max(1, rows - len(drawn)), 1))
    return np.concatenate([drawn, end]).astype(np.float32)


def digit(offset: np.ndarray = OFFSET, ends: np.ndarray = ENDS) -> np.ndarray:
    last = np.arange(len(ends)) == len(ends) - 1
    return np.column_stack([offset, ends, last]).astype(np.int8)


def objects(*arrays: np.ndarray) -> np.ndarray:
    found = np.empty(len(arrays), object)
    found[:] = arrays
    return found


def npz(**arrays: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.savez(file, **arrays)  # type: ignore[arg-type]
    return file.getvalue()


def packed(**members: bytes) -> bytes:
    """An .npz whose members are these .npy files, whatever they are."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, member in members.items():
            archive.writestr(f"{name}.npy", member)
    return file.getvalue()


def pickled(data: bytes) -> bytes:
    """An .npy of an array of arrays, whose pickle is `data`."""
    file = io.BytesIO()
    header = {"descr": "|O", "fortran_order": False, "shape": (2,)}
    np.lib.format.write_array_header_1_0(file, header)
    return file.getvalue() + data


def python2() -> bytes:
    """Two drawings pickled as by Python 2: bytes are strings, numbers of the memo are bytes."""
    array = b"cnumpy.core.multiarray\n_reconstruct\nq%c(cnumpy\nndarray\nK\x00\x85U\x01btR"
    sizes = b"J\xff\xff\xff\xff" * 2
    kind = b"cnumpy\ndtype\nU\x02%sK\x00K\x01\x87R(K\x03U\x01%sNNN" + sizes + b"K\x00tb"
    made = b"\x80\x02" + array % 1 + b"(K\x01K\x02\x85" + kind % (b"O8", b"|") + b"\x89]("
    for number, rows in enumerate([stroke3(), stroke3(*DOT)]):
        data = rows.tobytes()
        size = b"(K\x01K%cK\x03\x86" % len(rows)
        made += array % (2 + number) + size + kind % (b"i2", b"<")
        made += b"\x89U%c%stb" % (len(data), data)
    return packed(train=pickled(made + b"etb."))


def whiteboard(strokes: str = "", before: str = "", description: bool = True) -> bytes:
    about = '<WhiteboardDescription><SensorLocation corner="top_left"/></WhiteboardDescription>'
    return (
        f'<?xml version="1.0" encoding="ISO-8859-1"?>{before}<WhiteboardCaptureSession>'
        f"{about * description}<StrokeSet>{strokes}</StrokeSet></WhiteboardCaptureSession>"
    ).encode()


def handwriting(description: bool = True) -> bytes:
    """The letter i on a whiteboard, far from its corner."""
    points = np.cumsum(OFFSET, axis=0) + 1000
    said = [f'<Point x="{x}" y="{y}" time="{n / 8}"/>' for n, (x, y) in enumerate(points)]
    first, second = "".join(said[:3]), "".join(said[3:])
    stroke = '<Stroke colour="black" start_time="0.0" end_time="1.0">{}</Stroke>'
    return whiteboard(stroke.format(first) + stroke.format(second), description=description)


def read(folder: Path, data: bytes, suffix: str = ".npz") -> list[Recording]:
    path = folder / f"drawings{suffix}"
    path.write_bytes(data)
    return list(read_strokes(path))


def says(folder: Path, data: bytes, *words: str, suffix: str = ".npz") -> None:
    """The file is refused in one sentence that names it and has these words in it."""
    with pytest.raises(BadFileError) as refused:
        read(folder, data, suffix)
    sentence = str(refused.value)
    assert sentence.startswith(str(folder / f"drawings{suffix}"))
    assert "\n" not in sentence
    assert len(sentence) < 600
    for word in words:
        assert word in sentence.replace(str(folder), ""), sentence


LAYOUTS: dict[str, Callable[[], bytes]] = {
    "flat stroke-3": lambda: npz(
        train_stroke3=np.concatenate([stroke3(), stroke3(*DOT)]), train_len=np.array([5, 1])
    ),
    "flat digits": lambda: npz(
        train_xy=np.concatenate([digit(), digit(*DOT)]),
        train_len=np.array([5, 1], np.int32),
        train_label=np.array([1, 7]),
    ),
    "flat stroke-5": lambda: npz(
        train_stroke5=np.concatenate([stroke5(), stroke5(*DOT)]), train_len=np.array([6, 2])
    ),
    "sketch-rnn's": lambda: npz(train=objects(stroke3(), stroke3(*DOT))),
    "sketch-rnn's, floats": lambda: npz(train=objects(stroke3() * 1.0, stroke3(*DOT) * 1.0)),
    "sketch-rnn's, Python 2": python2,
    "sketch-rnn's, protocol 2": lambda: packed(
        train=pickled(pickle.dumps(objects(stroke3(), stroke3(*DOT)), protocol=2))
    ),
    "padded stroke-5": lambda: npz(train=np.stack([stroke5(rows=8), stroke5(*DOT, rows=8)])),
    "stroke-5 objects": lambda: npz(train=objects(stroke5(), stroke5(*DOT))),
}
XML = {"with a description": True, "without a description": False}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_drawing_is_the_same_in_every_layout(layout: str, tmp_path: Path) -> None:
    letter, dot = read(tmp_path, LAYOUTS[layout]())
    assert letter.split == dot.split == "train"
    assert letter.name != dot.name
    np.testing.assert_array_equal(letter.observation["offset"], OFFSET)
    np.testing.assert_array_equal(letter.observation["pen"], [0, 0, 1, 0, 2])
    np.testing.assert_array_equal(dot.observation["offset"], DOT[0])
    np.testing.assert_array_equal(dot.observation["pen"], [2])
    for leaf, dtype in (("offset", np.float32), ("pen", np.int64)):
        assert letter.observation[leaf].dtype == dtype


@pytest.mark.parametrize("kind", XML)
def test_handwriting_begins_at_its_first_point(kind: str, tmp_path: Path) -> None:
    (letter,) = read(tmp_path, handwriting(XML[kind]), ".xml")
    np.testing.assert_array_equal(letter.observation["offset"], [[0, 0], *OFFSET[1:]])
    np.testing.assert_array_equal(letter.observation["pen"], [0, 0, 1, 0, 2])
    assert letter.split is None


def test_each_split_is_told_apart(tmp_path: Path) -> None:
    splits = {s: objects(stroke3()) for s in ("train", "valid", "test")}
    found = read(tmp_path, npz(**splits, more=stroke3()))
    assert [drawing.split for drawing in found] == ["train", "valid", "test", None]


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({}, ["got nothing"]),
        ({"labels": np.arange(3)}, ["labels", "3 or 4 or 5"]),
        ({"train": np.zeros((4, 2))}, ["train[0]", "3 or 4 or 5", "[4, 2]"]),
        ({"train": np.zeros((0, 3))}, ["train[0]", "[0, 3]"]),
        ({"train": np.zeros((0, 5, 3))}, ["train", "none"]),
        ({"train": stroke3() * np.nan}, ["train[0]", "0 or 1", "nan"]),
        ({"train": np.array([[0, np.nan, 1.0]])}, ["train[0]", "offsets", "nan"]),
        ({"train": np.array([[-np.inf, 0, 1.0]])}, ["train[0]", "offsets", "-inf"]),
        ({"train": np.array([[1e300, 0, 1.0]])}, ["train[0]", "offsets", "1e+300"]),
        ({"train": objects(stroke3(), stroke3() * 2)}, ["train[1]", "0 or 1", "2"]),
        ({"train": stroke5()[-1:]}, ["train[0]", "an end only"]),
        ({"train": stroke5() * [1, 1, 1, 0, 1]}, ["train[0]", "one 1", "[0, 0, 0]"]),
        ({"train": digit()[:-1]}, ["train[0]", "end of the drawing", "none", "lengths"]),
        ({"train_xy": digit(), "train_len": np.array([2, 3])}, ["train_xy[0]", "lengths"]),
        ({"train_xy": digit(), "train_len": np.array([2, 2])}, ["train_xy", "4 of its 5"]),
        ({"train_xy": digit(), "train_len": np.array([6, -1])}, ["train_xy", "-1"]),
        ({"train_xy": digit(), "train_len": np.array([2**63, 5], np.uint64)}, ["of its 5"]),
        ({"train_xy": digit(), "train_len": np.array([2.0, 3.0])}, ["float64", "whole numbers"]),
        ({"train_xy": digit(), "train_len": np.array([[5]])}, ["[1, 1]", "whole numbers"]),
        ({"train_xy": digit(), "train_len": objects(stroke3())}, ["a list", "whole numbers"]),
        ({"train": stroke3().astype("S4")}, ["array of numbers", "|S4"]),
        ({"train": stroke3().astype(complex)}, ["array of numbers", "complex128"]),
        ({"train": np.array({"a": 1})}, ["pickle"]),
        ({"train": objects(objects(stroke3()))}, ["deeper"]),
        ({"train": objects(stroke3(), None)}, ["something else"]),  # type: ignore[arg-type]
    ],
)
def test_bad_arrays_are_refused_in_a_sentence(
    arrays: dict[str, np.ndarray], words: list[str], tmp_path: Path
) -> None:
    says(tmp_path, npz(**arrays), *words)


def test_damaged_files_are_refused_in_a_sentence(tmp_path: Path) -> None:
    whole = LAYOUTS["flat digits"]()
    for data in (b"", b"RIFF....WAVE", whole[: len(whole) // 2], whole[100:]):
        says(tmp_path, data, "damaged")
    says(tmp_path, b"", "no element found", suffix=".xml")
    says(tmp_path, handwriting()[:-40], "damaged", suffix=".xml")
    says(tmp_path, whole, "not well-formed", suffix=".xml")
    with pytest.raises(BadFileError, match="cannot be read"):
        list(read_strokes(tmp_path))
    with pytest.raises(BadFileError, match="cannot be read"):
        list(read_strokes(tmp_path / "absent.xml"))


@pytest.mark.parametrize(
    ("strokes", "words"),
    [
        ("", ["0 points in 0 strokes"]),
        ('<Point x="1" y="1"/>', ["1 points in 0 strokes"]),
        ('<Stroke><Point x="1"/></Stroke>', ["without 'y'", "line 1"]),
        ('<Stroke><Point x="1" y="here"/></Stroke>', ["'here'", "line 1"]),
        ('<Stroke><Point x="1" y="nan"/></Stroke>', ["offsets", "nan"]),
        ('<Stroke><Point x="inf" y="1"/></Stroke>', ["offsets", "nan"]),
        ('<Stroke><Point x="0" y="0"/><Point x="1e9" y="1"/></Stroke>', ["offsets", "1e+09"]),
    ],
)
def test_bad_handwriting_is_refused_in_a_sentence(
    strokes: str, words: list[str], tmp_path: Path
) -> None:
    says(tmp_path, whiteboard(strokes), *words, suffix=".xml")


def test_entities_are_refused_before_they_multiply(tmp_path: Path) -> None:
    ten = "".join(f'<!ENTITY l{n} "{f"&l{n - 1};" * 10}">' for n in range(1, 12))
    laughs = f'<!DOCTYPE lol [<!ENTITY l0 "lol">{ten}]>'
    says(tmp_path, whiteboard("&l11;", laughs), "it defines entities", suffix=".xml")
    (tmp_path / "secret").write_text('<Stroke><Point x="1" y="1"/></Stroke>')
    outside = f'<!DOCTYPE s [<!ENTITY out SYSTEM "file://{tmp_path}/secret">]>'
    says(tmp_path, whiteboard("&out;", outside), "it defines entities", suffix=".xml")
    nowhere = f'<!DOCTYPE s SYSTEM "file://{tmp_path}/secret">'
    says(tmp_path, whiteboard("&out;", nowhere), "0 points", suffix=".xml")


class Program:
    """A pickle that leaves a folder behind when it is run."""

    def __init__(self, folder: Path):
        self.folder = folder

    def __reduce__(self) -> tuple:
        return os.mkdir, (str(self.folder),)


@pytest.mark.parametrize("protocol", range(6))
def test_a_pickle_is_never_run(protocol: int, tmp_path: Path) -> None:
    program = Program(tmp_path / "ran")
    for trap in (program, objects(program), objects(stroke3(), program)):  # type: ignore[arg-type]
        data = pickle.dumps(trap, protocol=protocol)
        says(tmp_path, packed(train=pickled(data)), "damaged or no .npz")
        assert not (tmp_path / "ran").exists()
        pickle.loads(data)  # it would have
        (tmp_path / "ran").rmdir()


def test_nothing_is_believed_that_a_file_claims(tmp_path: Path) -> None:
    """Each of these would take gigabytes, hours or the process, if it were."""
    file = io.BytesIO()
    header = {"descr": "<i2", "fortran_order": False, "shape": (10**13, 3)}
    np.lib.format.write_array_header_1_0(file, header)
    says(tmp_path, packed(train=file.getvalue()), "does not fit")
    bomb = io.BytesIO()
    np.savez_compressed(bomb, train=np.zeros((10**7, 3), np.int8))
    says(tmp_path, bomb.getvalue(), "unpack to 30,000,128")
    data = pickle.dumps(objects(stroke3(), stroke3(*DOT)), protocol=4)
    shape = data.replace(b"K\x05K\x03\x86", b"J\xff\xff\xff\x7fK\x03\x86")
    assert shape != data
    says(tmp_path, packed(train=pickled(shape)), "does not fit")
    again = pickle.dumps(objects(*[stroke3()] * 3, *[np.tile(stroke3(), (99, 1))] * 3), protocol=4)
    says(tmp_path, packed(train=pickled(again)), "again and again")
    for opcodes in (
        b"]q\xffh\xff" + b"h\xff\x81" * 9,  # makes objects of what it likes
        b"r\xff\xff\xff\x7f.",  # a memo of 2^31
        b"\x96" + b"\xff" * 7 + b"\x7f.",  # a bytearray of 2^63
        b"(" * 10**5 + b"t" * 10**5 + b".",  # tuples within tuples
        b"]\x94h\x00h\x00a0.",  # a list within itself
    ):
        says(tmp_path, packed(train=pickled(b"\x80\x04" + opcodes)), "damaged or no .npz")


def inner_mutant(data: bytes, random: np.random.Generator) -> bytes:
    """An .npz whose sums are right, of damaged arrays."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        members = {name[:-4]: archive.read(name) for name in archive.namelist()}
    name = str(random.choice(list(members)))
    return packed(**(members | {name: mutant(members[name], random)}))


SEEDS: dict[str, tuple[bytes, str]] = {
    **{name: (make(), ".npz") for name, make in LAYOUTS.items()},
    **{name: (handwriting(about), ".xml") for name, about in XML.items()},
}


def fuzz(path: Path, name: str, count: int) -> tuple[int, int]:
    """Reads `count` mutants of a seed; how many were read to their end, and refused."""
    data, suffix = SEEDS[name]
    path = path.with_suffix(suffix)
    random = np.random.default_rng(sum(name.encode()))
    refusals = []
    for _ in range(count):
        damage = inner_mutant if suffix == ".npz" and random.random() < 0.7 else mutant
        damaged = damage(data, random)
        put(path, damaged)
        try:
            rows = sum(len(drawing.observation["pen"]) for drawing in read_strokes(path))
        except BadFileError as error:
            refusals.append(str(error))
        else:
            assert 0 < rows <= len(damaged)
    assert all(str(path) in refusal and "\n" not in refusal for refusal in refusals)
    return count - len(refusals), len(refusals)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("name", SEEDS)
def test_a_damaged_file_is_read_or_refused(
    name: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    read, refused = fuzz(tmp_path / "mutant", name, 1000)
    assert read > 10
    assert refused > 100
    assert tuple(capfd.readouterr()) == ("", "")
