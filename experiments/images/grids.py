"""Grids of images, as PNG."""

from pathlib import Path

import numpy as np
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from worldmodel.files import writing

GAP = 2  # pixels between images
READABLE = 64  # pixels a side, below which images are enlarged


def grid(images: Tensor) -> np.ndarray:
    """Images uint8 [rows, columns, H, W, C] side by side, uint8 [height, width, 1 or 3].

    Two channels are drawn as the first, more than three as the first three; small images are
    enlarged, pixel by pixel.
    """
    channels = 3 if images.shape[-1] >= 3 else 1
    images = images[..., :channels]
    times = max(1, READABLE // max(images.shape[2:4]))
    images = images.repeat_interleave(times, 2).repeat_interleave(times, 3)
    framed = F.pad(images, (0, 0, 0, GAP, 0, GAP), value=128)
    whole = framed.transpose(1, 2).flatten(2, 3).flatten(0, 1)
    return whole[:-GAP, :-GAP].numpy()


def save_grid(path: Path, images: Tensor) -> Path:
    """Writes images uint8 [rows, columns, H, W, C] as a grid; returns the path."""
    pixels = grid(images)
    with writing(path) as part:
        Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels).save(part)
    return path
