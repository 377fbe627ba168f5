"""What a frame of a film shows: panels side by side, each with a title, some words, a picture."""

from collections.abc import Sequence
from functools import cache
from typing import Any, NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from experiments.films import Frame

PAPER = (250, 250, 247)
INK = (24, 26, 32)
RULE = (200, 200, 196)
HEAT = np.array((178, 24, 43))  # where two pictures differ
NOTED = (0, 100, 75)  # what is said on the right

MARGIN = 20  # pixels
HEADLINE = 48  # the strip above the panels
TITLE, LINE = 34, 24  # a panel's title, and each line of words below it
PANEL = 384  # a panel's least width: room for its words
SMALL, LARGE = 256, 480  # a picture's sides: smaller ones are enlarged, larger ones made smaller
FRAME = 6  # the width of a coloured border


class Panel(NamedTuple):
    """One world, or the difference of two."""

    title: str
    lines: list[str]
    picture: Frame
    border: tuple[int, int, int] | None = None  # a colour around the picture


def compose(headline: str, noted: str, panels: Sequence[Panel], lines: int = 1) -> Frame:
    """Panels below a headline, uint8 [H, W, 3] with even sides: the same size for pictures of the
    same sizes, whatever is said. lines: for which there is room below each title."""
    drawn = [_panel(panel, lines) for panel in panels]
    width = sum(image.width for image in drawn)
    height = HEADLINE + max(image.height for image in drawn)
    image = Image.new("RGB", (width + width % 2, height + height % 2), PAPER)
    pen = ImageDraw.Draw(image)
    pen.text((MARGIN, HEADLINE // 2), headline, INK, font(22), anchor="lm")
    pen.text((width - MARGIN, HEADLINE // 2), noted, NOTED, font(18), anchor="rm")
    pen.line((0, HEADLINE - 1, image.width, HEADLINE - 1), INK)
    left = 0
    for panel in drawn:
        image.paste(panel, (left, HEADLINE))
        if left:
            pen.line((left, HEADLINE, left, image.height), RULE)
        left += panel.width
    return np.asarray(image).copy()


def sized(picture: Frame) -> Image.Image:
    """A picture at a readable size: small ones enlarged pixel by pixel."""
    height, width = picture.shape[:2]
    image = Image.fromarray(np.ascontiguousarray(picture))
    if max(height, width) <= SMALL // 2:
        times = SMALL // max(height, width)
        return image.resize((width * times, height * times), Image.Resampling.NEAREST)
    share = min(1.0, LARGE / max(height, width))
    size = (max(1, round(width * share)), max(1, round(height * share)))
    return image if share == 1 else image.resize(size, Image.Resampling.BOX)


def fitted(picture: Frame, width: int, height: int) -> Frame:
    """A picture as large as there is room for: larger by whole numbers, pixel by pixel, or
    smaller, each pixel a mean."""
    share = min(max(1, width) / picture.shape[1], max(1, height) / picture.shape[0])
    if share >= 1:
        return picture.repeat(int(share), 0).repeat(int(share), 1)
    size = [max(1, round(side * share)) for side in (picture.shape[1], picture.shape[0])]
    image = Image.fromarray(np.ascontiguousarray(picture))
    return np.asarray(image.resize((size[0], size[1]), Image.Resampling.BOX))


def difference_picture(one: Frame, other: Frame) -> Frame | None:
    """Where two pictures differ: the first, faint, and red as far as the other is off; None where
    their sizes differ. uint8 [H, W, 3] each."""
    if one.shape != other.shape:
        return None
    apart = np.abs(one.astype(np.float32) - other).max(-1, keepdims=True) / 255  # [H, W, 1]
    faint = 255 - (255 - one.mean(-1, keepdims=True)) * 0.25
    return ((1 - apart) * faint + apart * HEAT).round().astype(np.uint8)


def _panel(panel: Panel, lines: int) -> Image.Image:
    picture = sized(panel.picture)
    words = TITLE + LINE * lines + 8
    width = max(PANEL, picture.width + 2 * MARGIN)
    image = Image.new("RGB", (width, words + picture.height + MARGIN), PAPER)
    pen = ImageDraw.Draw(image)
    pen.text((MARGIN, 28), panel.title, INK, font(22), anchor="ls")
    for number, line in enumerate(panel.lines[:lines]):
        pen.text((MARGIN, TITLE + LINE * number + 18), line, INK, font(16), anchor="ls")
    left = (width - picture.width) // 2
    if panel.border is not None:
        box = (left - FRAME, words - FRAME)
        end = (left + picture.width + FRAME - 1, words + picture.height + FRAME - 1)
        pen.rectangle((*box, *end), fill=panel.border)
    image.paste(picture, (left, words))
    return image


@cache
def font(size: int) -> Any:
    return ImageFont.load_default(size)
