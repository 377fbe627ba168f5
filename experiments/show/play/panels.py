"""Frames of films: panels side by side, each with a title, some words and a picture; or many small
pictures in a grid."""

from collections.abc import Sequence
from math import ceil, log
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw

from worldmodel.envs.toy_game import INK, PAPER, font
from worldmodel.experiments.show.films import Frame

RULE = (200, 200, 196)
HEAT = np.array((178, 24, 43))  # colour of differences
NOTED = (0, 100, 75)  # colour of the text on the right

MARGIN = 20  # pixels
GAP = 30  # at least, between the two texts of a headline
HEADLINE = 48  # the strip above the panels
NARROW = 800  # a page's width below which that strip has two lines
TITLE, LINE = 34, 24  # a panel's title, and each line of words below it
PANEL = 384  # a panel's least width: room for its words
SMALL, LARGE = 256, 480  # a picture's sides: smaller ones are enlarged, larger ones made smaller
FRAME = 6  # the width of a coloured border
GRID = 1280  # a grid's width, about
CELL = 190  # the least width of one of its cells: room for its words
FAINT = (255 - (765 - np.arange(766)) / 12).round().astype(np.uint8)  # by red + green + blue
FADED = 0.3  # share of the colours that the picture of an ended game keeps


class Panel(NamedTuple):
    """One world, or the difference of two."""

    title: str
    lines: list[str]
    picture: Frame
    border: tuple[int, int, int] | None = None  # a colour around the picture
    leads: bool = False  # the world that is controlled


class Cell(NamedTuple):
    """One of many worlds."""

    words: str
    picture: Frame
    faded: bool = False


def compose(headline: str, noted: str, panels: Sequence[Panel], lines: int = 1) -> Frame:
    """Panels below a headline, uint8 [H, W, 3] with even sides: the same size for pictures of the
    same sizes, whatever the words. lines: of words below each title."""
    drawn = [_panel(panel, lines) for panel in panels]
    width, height = sum(image.width for image in drawn), max(image.height for image in drawn)
    image, top = _page(headline, noted, width, height)
    pen, left = ImageDraw.Draw(image), 0
    for panel in drawn:
        image.paste(panel, (left, top))
        if left:
            pen.line((left, top, left, image.height), RULE)
        left += panel.width
    return np.asarray(image).copy()


def compose_grid(headline: str, noted: str, cells: Sequence[Cell]) -> Frame:
    """Cells row by row below a headline, uint8 [H, W, 3] with even sides, as `compose`."""
    height, width = cells[0].picture.shape[:2]
    columns = columns_for(len(cells), width, height)
    drawn = [_cell(cell, min(LARGE, GRID // columns - MARGIN)) for cell in cells]
    width, height = drawn[0].size
    rows = ceil(len(cells) / columns)
    image, top = _page(headline, noted, columns * width + MARGIN, rows * height + MARGIN)
    for number, cell in enumerate(drawn):
        row, column = divmod(number, columns)
        image.paste(cell, (MARGIN // 2 + column * width, top + row * height))
    return np.asarray(image).copy()


def columns_for(count: int, width: int, height: int) -> int:
    """Number of columns of a grid of `count` pictures: wider than high, with few empty cells.

    >>> columns_for(16, 64, 64), columns_for(16, 600, 400), columns_for(3, 64, 64)
    (4, 4, 3)
    """

    def badness(columns: int) -> float:
        rows = ceil(count / columns)
        shape = abs(log(columns * width / (rows * height) / 1.6))
        return shape + 3 * (columns * rows - count) / count

    return min(range(1, count + 1), key=badness)


def shortened(text: str, size: int, room: int) -> str:
    """A text cut short where it is wider than `room` pixels in a font of that size."""
    if font(size).getlength(text) <= room:
        return text
    kept = len(text)
    while kept and font(size).getlength(text[:kept].rstrip() + "…") > room:
        kept -= 1
    return text[:kept].rstrip() + "…"


def sized(picture: Frame, large: int = LARGE) -> Image.Image:
    """A picture at a readable size: small ones enlarged pixel by pixel, none above `large`."""
    height, width = picture.shape[:2]
    image = Image.fromarray(np.ascontiguousarray(picture))
    times = min(SMALL, large) // max(height, width)
    if times > 1:
        return image.resize((width * times, height * times), Image.Resampling.NEAREST)
    share = min(1.0, large / max(height, width))
    size = (max(1, round(width * share)), max(1, round(height * share)))
    return image if share == 1 else image.resize(size, Image.Resampling.BOX)


def fitted(picture: Frame, width: int, height: int) -> Frame:
    """A picture scaled to the available size: enlarged by a whole number, or averaged."""
    share = min(max(1, width) / picture.shape[1], max(1, height) / picture.shape[0])
    if share >= 1:
        return picture.repeat(int(share), 0).repeat(int(share), 1)
    size = [max(1, round(side * share)) for side in (picture.shape[1], picture.shape[0])]
    image = Image.fromarray(np.ascontiguousarray(picture))
    return np.asarray(image.resize((size[0], size[1]), Image.Resampling.BOX))


def difference_picture(one: Frame, other: Frame) -> Frame | None:
    """The difference of two pictures: the first, faint, with red for differences; None if their
    sizes differ. uint8 [H, W, 3] each."""
    if one.shape != other.shape:
        return None
    off = np.maximum(one, other) - np.minimum(one, other)
    apart = np.maximum(np.maximum(off[..., 0], off[..., 1]), off[..., 2])  # [H, W]
    total = one[..., 0].astype(np.uint16) + one[..., 1] + one[..., 2]
    faint = FAINT[total]
    picture = np.repeat(faint[..., None], 3, -1)
    where = apart > 0
    share = apart[where][:, None] / np.float32(255)
    picture[where] = ((1 - share) * faint[where][:, None] + share * HEAT).round()
    return picture


def _page(headline: str, noted: str, width: int, height: int) -> tuple[Image.Image, int]:
    """An empty page with a headline, and the vertical offset of its contents."""
    is_narrow = width < NARROW
    top, middle, room = HEADLINE + LINE * is_narrow, HEADLINE // 2, width - 2 * MARGIN
    image = Image.new("RGB", (width + width % 2, top + height + (top + height) % 2), PAPER)
    pen = ImageDraw.Draw(image)
    if is_narrow:
        place, anchor = (MARGIN, middle + LINE), "lm"
        noted = shortened(noted, 18, room)
    else:
        place, anchor = (width - MARGIN, middle), "rm"
        noted = shortened(
            noted, 18, max(room // 2, room - ceil(font(22).getlength(headline)) - GAP)
        )
        room -= ceil(font(18).getlength(noted)) + GAP
    pen.text(place, noted, NOTED, font(18), anchor=anchor)
    pen.text((MARGIN, middle), shortened(headline, 22, room), INK, font(22), anchor="lm")
    pen.line((0, top - 1, image.width, top - 1), INK)
    return image, top


def _panel(panel: Panel, lines: int) -> Image.Image:
    picture = sized(panel.picture)
    words = TITLE + LINE * lines + 8
    width = max(PANEL, picture.width + 2 * MARGIN)
    room = width - 2 * MARGIN
    image = Image.new("RGB", (width, words + picture.height + MARGIN), PAPER)
    pen = ImageDraw.Draw(image)
    pen.text((MARGIN, 28), shortened(panel.title, 22, room), INK, font(22), anchor="ls")
    for number, line in enumerate(panel.lines[:lines]):
        place = (MARGIN, TITLE + LINE * number + 18)
        pen.text(place, shortened(line, 16, room), INK, font(16), anchor="ls")
    left = (width - picture.width) // 2
    if panel.border is not None:
        box = (left - FRAME, words - FRAME)
        end = (left + picture.width + FRAME - 1, words + picture.height + FRAME - 1)
        pen.rectangle((*box, *end), fill=panel.border)
    image.paste(picture, (left, words))
    return image


def _cell(cell: Cell, large: int) -> Image.Image:
    """A picture above its words."""
    picture = sized(cell.picture, large)
    if cell.faded:
        picture = Image.blend(Image.new("RGB", picture.size, PAPER), picture, FADED)
    width = max(CELL, picture.width + MARGIN)
    image = Image.new("RGB", (width, MARGIN // 2 + picture.height + LINE), PAPER)
    left = (width - picture.width) // 2
    image.paste(picture, (left, MARGIN // 2))
    words = shortened(cell.words, 14, width - MARGIN)
    place = (width // 2, MARGIN // 2 + picture.height + LINE // 2)
    ImageDraw.Draw(image).text(place, words, INK, font(14), anchor="mm")
    return image
