"""Reads films back, frame by frame, as they are seen."""

from pathlib import Path

import imageio_ffmpeg
import numpy as np
from PIL import Image


def read(path: Path) -> tuple[list[np.ndarray], float]:
    """Frames, int [H, W, 3], and how many are shown a second. A picture that stands for several
    equal frames is given as many times."""
    return _read_mp4(path) if path.suffix == ".mp4" else _read_pictures(path)


def _read_mp4(path: Path) -> tuple[list[np.ndarray], float]:
    reader = imageio_ffmpeg.read_frames(str(path))
    meta = next(reader)
    width, height = meta["size"]
    frames = [np.frombuffer(data, np.uint8).reshape(height, width, 3) for data in reader]
    return [frame.astype(int) for frame in frames], meta["fps"]


def _read_pictures(path: Path) -> tuple[list[np.ndarray], float]:
    pictures, durations = [], []
    with Image.open(path) as image:
        assert image.info["loop"] == 0
        for number in range(image.n_frames):
            image.seek(number)
            image.load()
            pictures.append(np.asarray(image.convert("RGB")).astype(int))
            durations.append(image.info["duration"])
    one = min(durations)
    frames = []
    for picture, duration in zip(pictures, durations, strict=True):
        assert duration % one == 0
        frames += [picture] * (duration // one)
    return frames, 1_000 / one
