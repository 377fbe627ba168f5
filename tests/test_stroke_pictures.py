"""Sheets of drawings: what is drawn is where the pen was."""

from itertools import pairwise
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
from PIL import Image

from worldmodel.experiments.data.readers.stroke_pictures import (
    MARGIN,
    SQUARE,
    draw_sheet,
    strokes_of,
    write_svg,
)

SVG = "{http://www.w3.org/2000/svg}"
BIG = {
    "offset": np.array([[5, 5], [40, 0], [0, 20], [-10, -10]], np.float32),
    "pen": np.array([0, 0, 1, 2]),
}
SMALL = {"offset": np.array([[9, 0], [4, 4]], np.float32), "pen": np.array([0, 2])}
DOT = {"offset": np.array([[3, 3]], np.float32), "pen": np.array([2])}


def points_of(path: Path) -> list[list[np.ndarray]]:
    """The strokes on a sheet, by drawing, as it stands on the sheet."""
    found = []
    for group in ElementTree.parse(path).iter(f"{SVG}g"):
        if "transform" in group.attrib:
            corner = group.attrib["transform"].removeprefix("translate(").removesuffix(")")
            paths = [path.attrib["d"] for path in group.iter(f"{SVG}path")]
            numbers = [[point.split() for point in d.removeprefix("M").split(" L")] for d in paths]
            found.append([np.array(n, float) + np.array(corner.split(), float) for n in numbers])
    return found


def test_strokes_end_where_the_pen_was_lifted() -> None:
    line, dot = strokes_of(BIG)
    np.testing.assert_array_equal(line, [[5, 5], [45, 5], [45, 25]])
    np.testing.assert_array_equal(dot, [[35, 15]])


def test_what_comes_after_the_end_is_not_drawn() -> None:
    longer = {"offset": np.tile(SMALL["offset"], (3, 1)), "pen": np.tile(SMALL["pen"], 3)}
    np.testing.assert_array_equal(strokes_of(longer), strokes_of(SMALL))


def test_a_drawing_without_an_end_is_drawn_to_its_last_row() -> None:
    (line,) = strokes_of(SMALL | {"pen": np.zeros(2, np.int64)})
    np.testing.assert_array_equal(line, strokes_of(SMALL)[0])


def test_an_svg_says_the_points_in_one_scale(tmp_path: Path) -> None:
    sheet = tmp_path / "sheet.svg"
    drawings = [BIG, SMALL, DOT]
    write_svg(sheet, drawings, columns=2)
    scale = (SQUARE - 2 * MARGIN) / 40  # the largest is 40 wide
    middles = [[25, 15], [11, 2], [3, 3]]
    corners = [[0, 0], [SQUARE, 0], [0, SQUARE]]
    for drawing, middle, corner, got in zip(
        drawings, middles, corners, points_of(sheet), strict=True
    ):
        expected = [(s - middle) * scale + SQUARE / 2 + corner for s in strokes_of(drawing)]
        assert len(got) == len(expected)
        for points, wanted in zip(got, expected, strict=True):
            shown = wanted if len(wanted) > 1 else np.repeat(wanted, 2, axis=0)
            np.testing.assert_allclose(points, shown, atol=0.0051)
    root = ElementTree.parse(sheet).getroot()
    assert root.attrib["viewBox"] == f"0 0 {2 * SQUARE} {2 * SQUARE}"


def test_a_png_is_black_on_the_lines_and_white_elsewhere(tmp_path: Path) -> None:
    sheet, svg = tmp_path / "sheet.png", tmp_path / "sheet.svg"
    drawings = [BIG, SMALL, DOT]
    draw_sheet(sheet, drawings, columns=2)
    write_svg(svg, drawings, columns=2)
    pixels = np.asarray(Image.open(sheet))
    assert pixels.shape == (2 * SQUARE, 2 * SQUARE)
    y, x = np.mgrid[: 2 * SQUARE, : 2 * SQUARE] + 0.5
    nearest = np.full(pixels.shape, np.inf)
    for points in (stroke for drawing in points_of(svg) for stroke in drawing):
        for start, stop in pairwise(points):
            for weight in np.linspace(0, 1, 200):
                px, py = (1 - weight) * start + weight * stop
                nearest = np.minimum(nearest, np.hypot(x - px, y - py))
    assert (pixels[nearest < 0.4] < 80).all()
    assert (pixels[nearest > 2.2] == 255).all()
    assert len(np.unique(pixels)) > 4  # its edges are smooth


def test_an_aisle_parts_the_left_half_from_the_right(tmp_path: Path) -> None:
    drawings = [SMALL, BIG, DOT, SMALL]
    plain, parted = tmp_path / "plain.svg", tmp_path / "parted.svg"
    write_svg(plain, drawings, columns=2)
    write_svg(parted, drawings, columns=2, aisle=30)
    moved = zip(points_of(plain), points_of(parted), [0, 30, 0, 30], strict=True)
    for before, after, right in moved:
        for points, wanted in zip(after, before, strict=True):
            np.testing.assert_allclose(points, wanted + np.array([right, 0]), atol=1e-9)
    draw_sheet(tmp_path / "parted.png", drawings, columns=2, aisle=30)
    assert Image.open(tmp_path / "parted.png").size == (2 * SQUARE + 30, 2 * SQUARE)
