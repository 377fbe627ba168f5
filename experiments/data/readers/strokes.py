"""Pen strokes: readers of drawings and handwriting, whatever the layout, into one form.

A recording is `{"offset": float32 [T, 2], "pen": int64 [T]}`, a row per point of the pen. The
offset leads from the point before (that of the first row from the origin), y grows downward; the
pen is what comes after the point: the line goes on (0), the stroke ends here (1), the drawing
ends here (2, in the last row and only there).

    stroke-3    dx, dy, end of stroke (Ha and Eck 2017, https://arxiv.org/abs/1704.03477)
    stroke-5    dx, dy, one-hot: on, end of stroke, end of drawing (a row of its own, not drawn)
    digits      dx, dy, end of stroke, end of digit (de Jong's strokes of MNIST)
    IAM-OnDB    XML: <StrokeSet><Stroke><Point x="" y=""/> (Liwicki and Bunke 2005)
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.parsers import expat

import numpy as np

from worldmodel.experiments.data.readers.files import BadFileError, Recording, Split, reason_of
from worldmodel.experiments.data.readers.npz import Arrays, cut, read_arrays

SUFFIXES = (".npz", ".xml")
SPLITS: tuple[Split, ...] = ("train", "valid", "test")
LINE, STROKE_END, DRAWING_END = 0, 1, 2
LAYOUTS = {3: "stroke-3", 4: "dx, dy, end of stroke, end of drawing", 5: "stroke-5"}
FARTHEST = 2.0**24  # float32 has every whole number up to here


def read_strokes(path: Path) -> Iterator[Recording]:
    """The drawings of a file, .npz or .xml, one after another.

    Arrays `{split}_...` [points, 3 to 5] with `{split}_len` [drawings] hold drawings one behind
    the other, arrays [N, T, 3 to 5] or of arrays hold N, any other array [T, 3 to 5] holds one.
    """
    if path.suffix.lower() == ".xml":
        yield Recording(_handwriting(path), str(path))
        return
    arrays = read_arrays(path)
    for name in _strokes_in(path, arrays):
        split = next((s for s in SPLITS if name.split("_")[0] == s), None)
        for number, rows in enumerate(_drawings(path, name, arrays)):
            place = f"{path} {name}[{number}]"
            yield Recording(_drawing(place, rows), place, split)


def _strokes_in(path: Path, arrays: Arrays) -> list[str]:
    """The names of arrays with strokes. Those of one dimension are lengths or labels."""
    names = [name for name, array in arrays.items() if isinstance(array, list) or array.ndim > 1]
    if not names:
        raise BadFileError(
            f"{path} expects strokes, arrays [points, {_any_of(LAYOUTS)}], got "
            f"{', '.join(sorted(arrays))[:200] or 'nothing'}; name a file of drawings"
        )
    return names


def _drawings(path: Path, name: str, arrays: Arrays) -> list[np.ndarray]:
    """The drawings [T, C] of the array `name`, T and C unchecked."""
    array = arrays[name]
    lengths = f"{name.split('_')[0]}_len"
    if isinstance(array, np.ndarray) and array.ndim == 2 and lengths in arrays:
        return cut(path, arrays, name, lengths)
    drawings = list(array) if isinstance(array, list) or array.ndim > 2 else [array]
    if not drawings:
        raise BadFileError(f"{path} expects drawings in {name}, got none; leave that array out")
    return drawings


def _drawing(place: str, rows: np.ndarray) -> dict[str, np.ndarray]:
    """A drawing of any layout [T, C] as a recording's observation, checked."""
    if rows.ndim != 2 or not len(rows) or rows.shape[1] not in LAYOUTS:
        raise BadFileError(
            f"{place} expects a point or more of {_any_of(LAYOUTS)} numbers, got "
            f"{list(rows.shape)}; fix it or leave it out"
        )
    with np.errstate(all="ignore"):
        rows = rows.astype(np.float64)
    offset, flags = rows[:, :2], rows[:, 2:]
    odd = flags[(flags != 0) & (flags != 1)]
    if len(odd):
        raise BadFileError(
            f"{place} expects 0 or 1 in the columns of the pen ({LAYOUTS[rows.shape[1]]}), got "
            f"{odd[0]:g}; fix it or leave it out"
        )
    return _observation(place, *READ[rows.shape[1]](place, offset, flags.astype(np.int64)))


def _stroke3(place: str, offset: np.ndarray, flags: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return offset, flags[:, 0]


def _both_ends(place: str, offset: np.ndarray, flags: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    ends = np.flatnonzero(flags[:, 1])
    if ends.tolist() != [len(flags) - 1]:
        raise BadFileError(
            f"{place} expects the end of the drawing in its last row, {len(flags) - 1}, got it in "
            f"{ends[:5].tolist() or 'none'}; check the lengths of the drawings"
        )
    return offset, flags[:, 0]


def _stroke5(place: str, offset: np.ndarray, flags: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Drops the row of the drawing's end and the padding after it, which are not drawn."""
    if not (flags.sum(1) == 1).all():
        raise BadFileError(
            f"{place} expects one 1 among the three columns of the pen, got "
            f"{flags[flags.sum(1) != 1][0].tolist()}; fix it or leave it out"
        )
    ends = np.flatnonzero(flags[:, 2])
    drawn = ends[0] if len(ends) else len(flags)
    if not drawn:
        raise BadFileError(f"{place} expects a point, got an end only; leave it out")
    return offset[:drawn], flags[:drawn, 1]


READ = {3: _stroke3, 4: _both_ends, 5: _stroke5}


def _observation(place: str, offset: np.ndarray, ends: np.ndarray) -> dict[str, np.ndarray]:
    """A recording's observation. offset: [T, 2]; ends: int [T], 1 where a stroke ends."""
    odd = offset[~(np.abs(offset) <= FARTHEST)]  # a NaN is odd
    if len(odd):
        raise BadFileError(
            f"{place} expects offsets between ±{FARTHEST:.0f}, got {odd[0]:g}; "
            f"fix it or leave it out"
        )
    pen = ends.astype(np.int64)
    pen[-1] = DRAWING_END
    return {"offset": offset.astype(np.float32), "pen": pen}


def _any_of(numbers: Any) -> str:
    return " or ".join(map(str, numbers))


class _Whiteboard:
    """Collects the points of IAM-OnDB's XML while it is read; nothing else of it is kept.

    Its parser fetches nothing and refuses to define entities, which could multiply without end.
    """

    def __init__(self) -> None:
        self.points: list[tuple[float, float]] = []
        self.ends: list[int] = []  # numbers of points up to the end of each stroke
        self.in_strokes = False
        self.parser = expat.ParserCreate()
        self.parser.StartElementHandler = self.start
        self.parser.EndElementHandler = self.end
        self.parser.EntityDeclHandler = self.refuse

    def start(self, name: str, attributes: dict[str, str]) -> None:
        if name == "StrokeSet":
            self.in_strokes = True
        elif name == "Point" and self.in_strokes:
            self.points.append((float(attributes["x"]), float(attributes["y"])))

    def end(self, name: str) -> None:
        if name == "StrokeSet":
            self.in_strokes = False
        elif name == "Stroke" and len(self.points) > sum(self.ends[-1:]):
            self.ends.append(len(self.points))

    def refuse(self, *_: Any) -> None:
        raise ValueError("it defines entities, which no file of strokes needs")


def _handwriting(path: Path) -> dict[str, np.ndarray]:
    """The handwriting of an XML file of IAM-OnDB, in steps of the whiteboard.

    Its place on the whiteboard is left out: the first point is the origin.
    """
    board = _Whiteboard()
    try:
        with open(path, "rb") as file:
            board.parser.ParseFile(file)
    except Exception as error:  # of expat, of encodings, of our own handlers
        reason = f"a Point without {error}" if isinstance(error, KeyError) else reason_of(error)
        raise BadFileError(
            f"{path} expects IAM-OnDB's XML and cannot be read: {reason} (line "
            f"{board.parser.CurrentLineNumber}); it is damaged or something else"
        ) from error
    if not board.points or board.ends[-1:] != [len(board.points)]:
        raise BadFileError(
            f"{path} expects IAM-OnDB's XML, <StrokeSet> of <Stroke> of <Point x= y=>, got "
            f"{len(board.points)} points in {len(board.ends)} strokes; name a file of strokes"
        )
    points = np.array(board.points)
    ends = np.zeros(len(points), np.int64)
    ends[np.array(board.ends) - 1] = 1
    with np.errstate(all="ignore"):
        offset = np.diff(points, axis=0, prepend=points[:1])
    return _observation(str(path), offset, ends)
