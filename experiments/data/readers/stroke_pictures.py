"""Sheets of drawings side by side, as SVG or as PNG, black on white.

All drawings of a sheet have the same scale, in which the largest fills its square.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple
from xml.etree import ElementTree

import numpy as np
from PIL import Image, ImageDraw

from worldmodel.files import writing

SQUARE = 100  # units of a drawing's place, pixels in a PNG
MARGIN = 8
WIDTH = 2.0  # of the pen
FINER = 4  # times, drawn before pixels are averaged

Drawing = Mapping[str, Any]  # "offset" [T, 2] and "pen" [T], a recording's observation


class Placed(NamedTuple):
    """A drawing on its square."""

    corner: tuple[int, int]  # x, y of the square's
    strokes: list[np.ndarray]  # float64 [points, 2] each, x and y from that corner


def strokes_of(drawing: Drawing) -> list[np.ndarray]:
    """The strokes of a drawing, float64 [points, 2] each, where the pen was.

    Rows after the drawing's end are left out; a last stroke may lack its end.
    """
    pen = np.asarray(drawing["pen"])
    ends = np.flatnonzero(pen == 2)
    length = ends[0] + 1 if len(ends) else len(pen)
    points = np.cumsum(np.asarray(drawing["offset"], np.float64)[:length], axis=0)
    strokes = np.split(points, np.flatnonzero(pen[:length]) + 1)
    return [stroke for stroke in strokes if len(stroke)]


def place(drawings: Sequence[Drawing], columns: int, aisle: int = 0) -> Iterator[Placed]:
    """The drawings on squares, row after row, each in the middle of its own; aisle: the
    gap between the left half of the columns and the right one, units."""
    all_strokes = [strokes_of(drawing) for drawing in drawings]
    bounds = [(np.min(p, axis=0), np.max(p, axis=0)) for p in map(np.concatenate, all_strokes)]
    extent = max(float((high - low).max()) for low, high in bounds)
    scale = (SQUARE - 2 * MARGIN) / extent if extent else 1.0
    for number, (strokes, (low, high)) in enumerate(zip(all_strokes, bounds, strict=True)):
        row, column = divmod(number, columns)
        middle = (low + high) / 2
        placed = [(stroke - middle) * scale + SQUARE / 2 for stroke in strokes]
        left = column * SQUARE + aisle * (2 * column >= columns)
        yield Placed((left, row * SQUARE), placed)


def size_of(drawings: Sequence[Drawing], columns: int, aisle: int = 0) -> tuple[int, int]:
    """Width and height of their sheet."""
    return columns * SQUARE + aisle, -(-len(drawings) // columns) * SQUARE


def write_svg(path: Path, drawings: Sequence[Drawing], columns: int, aisle: int = 0) -> None:
    """A sheet as SVG: a group for each drawing, a path for each stroke."""
    width, height = map(str, size_of(drawings, columns, aisle))
    sheet = ElementTree.Element(
        "svg",
        xmlns="http://www.w3.org/2000/svg",
        width=width,
        height=height,
        viewBox=f"0 0 {width} {height}",
    )
    ElementTree.SubElement(sheet, "rect", width=width, height=height, fill="white")
    pen = {"stroke": "black", "stroke-width": str(WIDTH), "fill": "none"}
    ends = {"stroke-linecap": "round", "stroke-linejoin": "round"}
    everything = ElementTree.SubElement(sheet, "g", pen | ends)
    for (x, y), strokes in place(drawings, columns, aisle):
        group = ElementTree.SubElement(everything, "g", transform=f"translate({x} {y})")
        for stroke in strokes:
            ElementTree.SubElement(group, "path", d=_path(stroke))
    with writing(path) as part:
        ElementTree.ElementTree(sheet).write(part, encoding="utf-8", xml_declaration=True)


def _path(stroke: np.ndarray) -> str:
    """A stroke [points, 2] as the path of an SVG. A single point is a line to itself: a dot.

    >>> _path(np.array([[1.0, 2.0], [3.5, 4.0]]))
    'M1.00 2.00 L3.50 4.00'
    """
    points = stroke if len(stroke) > 1 else np.repeat(stroke, 2, axis=0)
    return "M" + " L".join(f"{x:.2f} {y:.2f}" for x, y in points)


def draw_sheet(path: Path, drawings: Sequence[Drawing], columns: int, aisle: int = 0) -> None:
    """A sheet as PNG, with smooth edges."""
    sheet = Image.new("L", size_of(drawings, columns, aisle), "white")
    for corner, strokes in place(drawings, columns, aisle):
        square = Image.new("L", (SQUARE * FINER, SQUARE * FINER), "white")
        ink = ImageDraw.Draw(square)
        for stroke in strokes:
            points = [(x, y) for x, y in (stroke * FINER).tolist()]
            ink.line(points, "black", round(WIDTH * FINER), joint="curve")
            for point in (points[0], points[-1]):
                ink.circle(point, WIDTH * FINER / 2, "black")
        sheet.paste(square.resize((SQUARE, SQUARE), Image.Resampling.BOX), corner)
    with writing(path) as part:
        sheet.save(part)
