"""Laws of files: whole or absent, regular, never through a link, and read as they were written."""

import errno
import json
import os
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from episodes import episodes_of, rich, same
from PIL import Image

from worldmodel import Episodes, files
from worldmodel.experiments.data.readers.audio_out import write_wav
from worldmodel.experiments.data.readers.midi import write_midi
from worldmodel.experiments.data.readers.stroke_pictures import draw_sheet, write_svg
from worldmodel.experiments.images.grids import save_grid
from worldmodel.experiments.show.films import Film
from worldmodel.files import (
    DamagedError,
    append_line,
    check_inside,
    read_json,
    reading,
    write_json,
    write_text,
    writing,
)

DRAWING = {"offset": np.array([[1, 2], [3, 4]]), "pen": np.array([0, 2])}


def write_film(path):
    with Film(path, 10) as film:
        film.write(np.zeros((16, 16, 3), np.uint8))


WRITERS = {
    "a.txt": lambda path: write_text(path, "new"),
    "a.json": lambda path: write_json(path, {"new": 1}),
    "a.npz": lambda path: episodes_of([3]).save(path),
    "a.wav": lambda path: write_wav(path, np.zeros(9), 8_000),
    "a.mid": lambda path: write_midi(path, np.ones((4, 2), bool), 60, 2),
    "a.svg": lambda path: write_svg(path, [DRAWING], 1),
    "sheet.png": lambda path: draw_sheet(path, [DRAWING], 1),
    "grid.png": lambda path: save_grid(path, torch.zeros(1, 1, 4, 4, 3, dtype=torch.uint8)),
    "a.gif": write_film,
    "a.mp4": write_film,
}


@pytest.mark.parametrize("name", WRITERS)
def test_what_a_full_disk_refuses_is_not_written_and_leaves_nothing(tmp_path, monkeypatch, name):
    path = tmp_path / name
    path.write_text("old")

    def full(file):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(files, "sync", full)
        with pytest.raises((OSError, files.RunError), match="No space left on device") as refused:
            WRITERS[name](path)
    assert str(path) in str(refused.value)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]
    WRITERS[name](path)
    assert path.read_bytes() != b"old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("before", ["", "one\n", f"{'one' * 3_000}\n"])
@pytest.mark.parametrize("unfinished", ["t", "two" * 3_000])
def test_a_line_comes_after_whole_ones(tmp_path, before, unfinished):
    """Not after one that a kill or a full disk has left unfinished."""
    (tmp_path / "lines").write_text(before + unfinished)
    append_line(tmp_path / "lines", "two")
    assert (tmp_path / "lines").read_text() == f"{before}two\n"


@pytest.mark.parametrize("name", WRITERS)
def test_nothing_is_written_through_a_link(tmp_path, name):
    """Neither through one in the file's place nor through one in that of a temporary file."""
    precious, folder = tmp_path / "precious", tmp_path / "run"
    precious.write_text("mine")
    folder.mkdir()
    for link in (name, f"{name}.part", f".{name}.part"):
        (folder / link).symlink_to(precious)
    WRITERS[name](folder / name)
    assert precious.read_text() == "mine"
    assert not (folder / name).is_symlink()


def test_a_line_is_appended_to_files_only(tmp_path):
    append_line(tmp_path / "lines", "one")
    append_line(tmp_path / "lines", "two")
    assert (tmp_path / "lines").read_text() == "one\ntwo\n"
    (tmp_path / "link").symlink_to(tmp_path / "lines")
    os.mkfifo(tmp_path / "pipe")
    for name in ("link", "pipe"):
        with pytest.raises((OSError, DamagedError)):
            append_line(tmp_path / name, "three")
    assert (tmp_path / "lines").read_text() == "one\ntwo\n"


def test_what_is_no_file_is_not_read(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    (tmp_path / "zero").symlink_to("/dev/zero")
    for name in ("pipe", "folder", "zero"):
        with pytest.raises(DamagedError, match="is no regular file"), reading(tmp_path / name):
            pass
    (tmp_path / "large").write_bytes(b"12345")
    too_large = pytest.raises(DamagedError, match=r"large has 5 bytes, more than the 4")
    with too_large, reading(tmp_path / "large", 4):
        pass


def test_a_folder_of_a_run_holds_files_and_folders_only(tmp_path):
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "file").write_text("")
    check_inside(tmp_path)
    place = tmp_path / "a" / "b" / "odd"
    for make, said in (
        (lambda: place.symlink_to(tmp_path), "odd is a link"),
        (lambda: place.symlink_to("nowhere"), "odd is a link"),
        (lambda: os.mkfifo(place), "odd is neither a file nor a folder"),
    ):
        make()
        with pytest.raises(DamagedError, match=said):
            check_inside(tmp_path)
        place.unlink()


VALUE = {"a": [1, 2.5, None, True, {"b": "text"}], "c": float("inf"), "d": -0.0}


def test_json_is_read_as_it_was_written(tmp_path):
    file = tmp_path / "a.json"
    write_json(file, VALUE)
    assert read_json(file) == VALUE
    written = json.loads(file.read_text())
    file.write_text(json.dumps(written, indent=8, sort_keys=True))  # the same, otherwise laid out
    assert read_json(file) == VALUE
    del written["checksum"]
    file.write_text(json.dumps(written))  # by hand
    assert read_json(file) == VALUE


def test_any_changed_byte_of_json_changes_nothing_or_is_noticed(tmp_path):
    file = tmp_path / "a.json"
    write_json(file, VALUE)
    written = file.read_bytes()
    for place in range(len(written)):
        for other in (written[place] ^ 1, ord("7"), ord(" ")):
            file.write_bytes(written[:place] + bytes([other]) + written[place + 1 :])
            try:
                found = read_json(file)
            except DamagedError:
                continue
            assert {key: value for key, value in found.items() if key in VALUE} == VALUE
    for end in range(len(written) - 2):
        file.write_bytes(written[:end])
        with pytest.raises(DamagedError, match="is damaged"):
            read_json(file)


@pytest.mark.parametrize("content", [b"[1]", b"\xff", b"[" * 100_000, b'"text"', b""])
def test_other_json_is_refused(tmp_path, content):
    (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(DamagedError, match=r"a\.json is damaged"):
        read_json(tmp_path / "a.json")


def test_nothing_is_left_of_a_file_that_was_not_finished(tmp_path):
    def interrupted():
        with writing(tmp_path / "a.png") as part:
            Image.new("L", (3, 3)).save(part)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert list(tmp_path.iterdir()) == []


# Episodes in .npz.


def test_any_changed_byte_of_episodes_changes_nothing_or_is_noticed(tmp_path):
    file, whole = tmp_path / "a.npz", rich(episodes_of([4, 3]))
    whole.save(file)
    written = file.read_bytes()
    for place in range(0, len(written), 7):
        file.write_bytes(written[:place] + bytes([written[place] ^ 16]) + written[place + 1 :])
        try:
            found = Episodes.load(file)
        except DamagedError:
            continue
        assert same(found, whole)
    for end in (0, 10, len(written) // 2, len(written) - 1):
        file.write_bytes(written[:end])
        with pytest.raises(DamagedError, match=r"a\.npz is no file of episodes, or damaged"):
            Episodes.load(file)


def test_what_would_unpack_to_too_much_is_not_read(tmp_path, monkeypatch):
    file = tmp_path / "a.npz"
    np.savez_compressed(file, lengths=np.zeros(2**20, np.int64))
    monkeypatch.setattr("worldmodel.episodes.MOST_UNPACKED", 2**20)
    with pytest.raises(DamagedError, match=r"would unpack to 8,388,736, more than 400 times"):
        Episodes.load(file)


def test_headers_that_promise_more_than_there_is_are_refused(tmp_path):
    """Before so much memory is asked for."""
    file = tmp_path / "a.npz"
    header = str({"descr": "<f8", "fortran_order": False, "shape": (2**50,)}).encode()
    raw = b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("lengths.npy", raw)
    with pytest.raises(DamagedError, match="is cut off"):
        Episodes.load(file)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(DamagedError, match="is no regular file"):
        Episodes.load(Path(tmp_path / "pipe"))
