"""Laws of films as files: what is read is what was written, whole or not at all."""

import imageio_ffmpeg
import numpy as np
import pytest
from films import read

from worldmodel.experiments.show.films import FORMATS, GRID, Film
from worldmodel.run_folder import RunError


def drawing(number: int) -> np.ndarray:
    """Few colours, flat and with edges, uint8 [64, 96, 3]."""
    frame = np.full((64, 96, 3), (250, 250, 247), np.uint8)
    frame[10:40, 8 * number : 8 * number + 16] = (178, 24 * number, 43)
    frame[50:] = (0, 114, 178)
    return frame


def painting(number: int) -> np.ndarray:
    """Thousands of colours, uint8 [64, 96, 3]."""
    down, across = np.mgrid[0:64, 0:96]
    blue = np.full_like(down, 20 * number)
    return np.stack([4 * down, 2.5 * across, blue], -1).astype(np.uint8)


DRAWINGS = [drawing(number) for number in (0, 1, 1, 1, 2, 3, 0)]


def write(path, frames, fps=4.0):
    with Film(path, fps) as film:
        for number, frame in enumerate(frames, start=1):
            film.write(frame)
            assert film.frames == number


@pytest.mark.parametrize("suffix", FORMATS)
@pytest.mark.parametrize("fps", [2.0, 25.0])
def test_what_is_read_is_what_was_written(tmp_path, suffix, fps):
    path = tmp_path / f"film{suffix}"
    write(path, DRAWINGS, fps)
    assert list(tmp_path.iterdir()) == [path]
    frames, fps_read = read(path)
    assert fps_read == pytest.approx(fps)
    assert len(frames) == len(DRAWINGS)
    for frame, written in zip(frames, DRAWINGS, strict=True):
        off = np.abs(frame - written.astype(int))
        if suffix == ".mp4":
            assert off.mean() < 3
        else:
            assert off.max() <= {".gif": GRID / 2, ".webp": 0}[suffix]


@pytest.mark.parametrize(("suffix", "most"), [(".mp4", 3), (".gif", 6), (".webp", 0)])
def test_pictures_of_many_colours_look_alike(tmp_path, suffix, most):
    path = tmp_path / f"film{suffix}"
    written = [painting(number) for number in range(4)]
    write(path, written)
    for frame, picture in zip(read(path)[0], written, strict=True):
        assert np.abs(frame - picture.astype(int)).mean() <= most


@pytest.mark.parametrize("suffix", FORMATS)
def test_all_frames_get_the_size_of_the_first(tmp_path, suffix):
    path = tmp_path / f"film{suffix}"
    write(path, [drawing(0), drawing(0)[:40, :80], np.tile(drawing(0), (2, 2, 1))])
    first, small, large = read(path)[0]
    assert first.shape == small.shape == large.shape == (64, 96, 3)
    assert np.abs(small[:40, :80] - first[:40, :80]).mean() < 3
    assert np.abs(small[44:] - drawing(0)[0, 0]).mean() <= GRID / 2
    assert np.abs(large - first).mean() < 3


@pytest.mark.parametrize("suffix", FORMATS)
def test_a_film_that_fails_leaves_what_was_there(tmp_path, suffix):
    path = tmp_path / f"film{suffix}"
    path.write_text("an older film")

    def interrupted():
        yield drawing(0)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write(path, interrupted())
    assert path.read_text() == "an older film"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("suffix", FORMATS)
def test_without_frames_there_is_no_film(tmp_path, suffix):
    write(tmp_path / f"film{suffix}", [])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("suffix", FORMATS)
def test_what_the_disk_refuses_is_told(tmp_path, suffix):
    path = tmp_path / f"film{suffix}"
    path.mkdir()
    with pytest.raises(RunError, match="could not be written"):
        write(path, DRAWINGS)
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("reads", [True, False], ids=["at the end", "at once"])
def test_a_film_that_the_encoder_could_not_write_is_not_there(tmp_path, monkeypatch, reads):
    """As on a full disk, which some encoders notice at the end only."""
    encoder = tmp_path / "encoder"
    encoder.write_text(
        f"#!/bin/sh\n{'cat > /dev/null' * reads}\necho 'error: No space left' >&2; exit 228\n"
    )
    encoder.chmod(0o755)
    monkeypatch.setattr(imageio_ffmpeg, "get_ffmpeg_exe", lambda: str(encoder))
    path = tmp_path / "films" / "film.mp4"
    path.parent.mkdir()
    with pytest.raises(RunError, match=r"film\.mp4 could not be written: error: No space left"):
        write(path, DRAWINGS * 50)
    assert list(path.parent.iterdir()) == []


def test_the_folder_of_a_film_is_made_if_it_can_be(tmp_path):
    write(tmp_path / "films x" / "today" / "film.gif", DRAWINGS[:2])
    assert (tmp_path / "films x" / "today" / "film.gif").stat().st_size
    (tmp_path / "file").touch()
    with pytest.raises(RunError, match=r"the folder .* cannot be made"):
        write(tmp_path / "file" / "film.gif", DRAWINGS[:2])


@pytest.mark.parametrize(
    ("name", "fps", "message"),
    [
        ("film.avi", 4, r"a film is a \.mp4, \.gif, \.webp file"),
        ("film", 4, r"a film is a \.mp4, \.gif, \.webp file"),
        ("film.gif", 0.01, r"0\.1 to 100 frames a second"),
        ("film.gif", 1000, r"0\.1 to 100 frames a second"),
    ],
)
def test_mistakes_are_told_before_anything_is_written(tmp_path, name, fps, message):
    with pytest.raises(RunError, match=message):
        Film(tmp_path / name, fps)
    assert list(tmp_path.iterdir()) == []
