"""Pen strokes as classes: exact probabilities of whole offsets, by one categorical a step.

Each offset with its pen has an exact probability. A class is a cell, some offsets with a pen, all
equally probable; the rare cells together are one class more, the escape. So any offset of the box
has a probability, and they all add up to one.
"""

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from worldmodel.experiments.data.readers.files import BadFileError, Recording
from worldmodel.run_folder import RunError

PENS = 3


class Grid(NamedTuple):
    """Cells of offsets and pens. The last class, `classes - 1`, is the escape."""

    edges: (
        np.ndarray
    )  # int64 [bins + 1]: bin b of either axis is edges[b] <= offset < edges[b + 1]
    cells: np.ndarray  # int64 [classes - 1], rising: (bin of dx * bins + bin of dy) * PENS + pen

    @property
    def classes(self) -> int:
        return len(self.cells) + 1

    @property
    def sizes(self) -> np.ndarray:
        """Numbers of pairs of an offset and a pen in each class, int64 [classes]."""
        widths = np.diff(self.edges)
        x, y, _ = self._bins(self.cells)
        known = widths[x] * widths[y]
        return np.append(known, PENS * widths.sum() ** 2 - known.sum())

    @property
    def steps(self) -> np.ndarray:
        """Bins of dx and dy, and the pen of each class, int64 [classes, 3]; of the escape, one
        more than there are."""
        bins = len(self.edges) - 1
        return np.vstack([np.column_stack(self._bins(self.cells)), [bins, bins, PENS]])

    def encode(self, drawing: Recording) -> np.ndarray:
        """The class of each row, int64 [T].

        The probability of a row is its class's, divided by `sizes` of that class.
        """
        cells = self._cells(drawing)
        places = np.searchsorted(self.cells, cells)
        known = self.cells[np.minimum(places, len(self.cells) - 1)] == cells
        return np.where(known, places, len(self.cells))

    def decode(self, codes: np.ndarray, random: np.random.Generator) -> dict[str, np.ndarray]:
        """Rows of the classes int64 [T], each drawn uniformly from its class."""
        cells = self.cells[np.minimum(codes, len(self.cells) - 1)]
        x, y, pen = self._bins(cells)
        escapes = np.flatnonzero(codes == len(self.cells))
        while len(escapes):  # most of the box is rare: its outer three quarters, for a start
            wide = random.integers(self.edges[0], self.edges[-1], (2, len(escapes)))
            pen[escapes] = random.integers(PENS, size=len(escapes))
            x[escapes], y[escapes] = np.searchsorted(self.edges, wide, side="right") - 1
            escapes = escapes[np.isin(self._numbers(x, y, pen)[escapes], self.cells)]
        low, high = self.edges[:-1], self.edges[1:]
        offset = np.stack([random.integers(low[bins], high[bins]) for bins in (x, y)], axis=-1)
        return {"offset": offset.astype(np.float32), "pen": pen}

    def _numbers(self, x: np.ndarray, y: np.ndarray, pen: np.ndarray) -> np.ndarray:
        """Indices of the cells of bins and pens, all [T]."""
        return (x * (len(self.edges) - 1) + y) * PENS + pen

    def _bins(self, cells: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Bins of both axes and the pen of cells, all [T]. cells: indices."""
        rest, pen = np.divmod(cells, PENS)
        return *np.divmod(rest, len(self.edges) - 1), pen

    def _cells(self, drawing: Recording) -> np.ndarray:
        """Indices of the cells of a drawing's rows, int64 [T]."""
        offset = whole(drawing)
        low, high = self.edges[0], self.edges[-1] - 1
        if offset.min() < low or offset.max() > high:
            worst = offset.flat[np.abs(offset).argmax()]
            raise BadFileError(
                f"{drawing.name} expects offsets between {low} and {high}, twice as far as those "
                f"that were learned from, got {worst}; bring it to the same scale or leave it out"
            )
        x, y = np.searchsorted(self.edges, offset.T, side="right") - 1
        return self._numbers(x, y, drawing.observation["pen"])


def grid_of(drawings: Iterable[Recording], growth: float = 0.0, least: int = 2) -> Grid:
    """The grid of training drawings.

    growth: the width of a bin, as part of its distance from 0; 0 gives each offset its own bin.
    least: occurrences that make a cell a class of its own. With 2 the escape is as frequent in
        training as unseen cells will be later (Good 1953), and is learned. If no cell is so
        frequent, all are classes.

    The box reaches twice as far as any of their offsets, and one further.
    """
    rows = [np.column_stack([whole(d), d.observation["pen"]]) for d in drawings]
    if not rows:
        raise RunError("there is no drawing to learn from: give some outside of the test split")
    steps = np.concatenate(rows)
    edges = _edges(2 * int(np.abs(steps[:, :2]).max()) + 1, growth)
    empty = Grid(edges, np.zeros(0, np.int64))
    x, y = np.searchsorted(edges, steps[:, :2].T, side="right") - 1
    cells, counts = np.unique(empty._numbers(x, y, steps[:, 2]), return_counts=True)
    frequent = cells[counts >= least]
    return Grid(edges, frequent if len(frequent) else cells)


def _edges(reach: int, growth: float) -> np.ndarray:
    """Edges of bins up to `reach` or beyond, growing with the distance from 0, which has its own.

    >>> _edges(3, 0.0)
    array([-3, -2, -1,  0,  1,  2,  3,  4])
    >>> _edges(5, 0.5)
    array([-5, -3, -2, -1,  0,  1,  2,  3,  4,  6])
    """
    right = [1]
    while right[-1] <= reach:
        right.append(right[-1] + max(1, int(growth * right[-1])))
    return np.array([1 - edge for edge in reversed(right)] + right)


def whole(drawing: Recording) -> np.ndarray:
    """The offsets of a drawing as whole numbers, int64 [T, 2].

    Raises BadFileError where they are none.
    """
    offset = drawing.observation["offset"]
    whole = np.rint(offset).astype(np.int64)
    if (whole != offset).any():
        odd = offset[(whole != offset).any(1)][0].tolist()
        raise BadFileError(
            f"{drawing.name} expects whole offsets, which have probabilities, got {odd}; round "
            f"them, or learn with densities"
        )
    return whole
