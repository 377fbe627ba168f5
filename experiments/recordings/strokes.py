"""Drawings, stroke by stroke: offsets of a pen, and what it does."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor, nn

from worldmodel import DistModule, Encoder
from worldmodel.codecs import HierarchicalHead
from worldmodel.experiments.data.readers.files import OnError, Recording, files_of, readable
from worldmodel.experiments.data.readers.stroke_grid import PENS, Grid, grid_of, whole
from worldmodel.experiments.data.readers.stroke_pictures import draw_sheet, write_svg
from worldmodel.experiments.data.readers.strokes import (
    DRAWING_END,
    STROKE_END,
    SUFFIXES,
    read_strokes,
)
from worldmodel.experiments.recordings.modality import FileModality, Report

MOST_CLASSES = 4_096  # of one categorical; more are pairs of x and the rest
EMBEDDED = 64  # size of the embedding of a step of so many classes
COLUMNS = 8  # of a sheet
AISLE = 50  # pixels between samples and real drawings
NOISE = 0  # seed of the dequantisation noise of whole offsets


class Strokes(FileModality):
    """Offsets have a density, or, with `--exact`, whole offsets a probability each.

    A density of whole numbers that repeat has no bound: to offsets of a drawing that are whole,
    noise is added that fills their cells, [k - 1/2, k + 1/2). So both figures compare: the density
    of a cell, integrated, is the probability of its number, or less (Theis et al. 2016,
    https://arxiv.org/abs/1511.01844, section 3.1).

    Of more than `MOST_CLASSES` whole offsets, as of Omniglot's, x is drawn first and then the rest
    (`HierarchicalHead`), and a step's encoding is the sum of embeddings of its x, y and pen.

    statistics: {"edges", "cells"} of the grid, if there is one.
    """

    frame = "step"
    suffixes = SUFFIXES

    def __init__(self, data: Any, statistics: dict[str, Any]):
        super().__init__(data, statistics)
        self.grid: Grid | None = None
        if data.exact:
            self.grid = Grid(*(np.array(statistics[name], np.int64) for name in Grid._fields))
        self.default_head = "strokes" if self.grid is None else "categorical"
        if self.grid is not None and self.grid.classes > MOST_CLASSES:
            self.default_head = "pairs"

    @classmethod
    def first_statistics(cls, data: Any, report: Report) -> dict[str, Any]:
        statistics = super().first_statistics(data, report)
        if not data.exact:
            return statistics
        drawings = _drawings(data.data, _of_whole_offsets, data.on_error, report)
        learned = (drawing for drawing in drawings if drawing.split in (None, "train"))
        grid = grid_of(learned, data.growth)
        return {"edges": grid.edges.tolist(), "cells": grid.cells.tolist()}

    @property
    def observation_space(self) -> spaces.Space:
        if self.grid is not None:
            return spaces.Discrete(self.grid.classes)
        return spaces.Dict(offset=spaces.Box(-np.inf, np.inf, (2,)), pen=spaces.Discrete(3))

    def recordings(
        self, paths: Sequence[str], on_error: OnError, report: Report
    ) -> Iterator[Recording]:
        return _drawings(paths, self._read, on_error, report)

    def _read(self, file: Path) -> Iterator[Recording]:
        noise = np.random.default_rng(NOISE)
        for drawing in read_strokes(file):
            yield drawing._replace(observation=self._coded(drawing, noise))

    def _coded(self, drawing: Recording, noise: np.random.Generator) -> Any:
        if self.grid is not None:
            return self.grid.encode(drawing)
        return _dequantised(drawing.observation, noise)

    def prompt(self, given: str, length: int, report: Report) -> Any:
        """The first steps of a drawing; its end becomes the end of a stroke, to be continued."""
        drawing = next(_drawings([given], read_strokes, "stop", report))
        offset, pen = (drawing.observation[key][:length] for key in ("offset", "pen"))
        begun = {"offset": offset, "pen": np.minimum(pen, STROKE_END)}
        noise = np.random.default_rng(NOISE)
        return self._coded(drawing._replace(observation=begun), noise)

    def encoder(self) -> Encoder:
        if self.grid is None or self.grid.classes <= MOST_CLASSES:
            return super().encoder()
        return StepEncoder(self.grid.steps)

    def head(self, name: str, input_size: int, **options: Any) -> DistModule:
        if (self.default_head if name == "default" else name) != "pairs" or self.grid is None:
            return super().head(name, input_size, **options)
        x, y, pen = self.grid.steps.T
        first, second = (np.unique(v, return_inverse=True)[1] for v in (x, (PENS + 1) * y + pen))
        return HierarchicalHead(input_size, first, second, **options)

    @property
    def orders(self) -> int:
        return 0 if self.grid is None else 3

    def correction(self, observation: Any) -> Any:
        return 0.0 if self.grid is None else -np.log(self.grid.sizes)[observation]

    def write(self, samples: list[Any], stem: Path, report: Report) -> list[Path]:
        return self._sheets(samples, stem, min(COLUMNS, len(samples)), 0)

    def write_beside(
        self, samples: list[Any], real: list[Any], stem: Path, report: Report
    ) -> list[Path]:
        """One sheet: samples on the left, real drawings on the right."""
        columns = max(n for n in range(1, COLUMNS + 1) if len(samples) % n == 0)
        ordered = [
            drawing
            for at in range(0, len(samples), columns)
            for drawing in samples[at : at + columns] + real[at : at + columns]
        ]
        return self._sheets(ordered, stem, 2 * columns, AISLE)

    def _sheets(self, samples: list[Any], stem: Path, columns: int, aisle: int) -> list[Path]:
        drawings = [self.drawing(sample) for sample in samples]
        files = [stem.with_name(f"{stem.name}{suffix}") for suffix in (".svg", ".png")]
        for file, write in zip(files, (write_svg, draw_sheet), strict=True):
            write(file, drawings, columns, aisle)
        return files

    def drawing(self, sample: Any) -> dict[str, np.ndarray]:
        """A sample up to its end, as offsets and pens."""
        if self.grid is not None:
            sample = self.grid.decode(sample, np.random.default_rng(0))  # the same each time
        ends = np.flatnonzero(sample["pen"] == DRAWING_END)
        length = ends[0] + 1 if len(ends) else len(sample["pen"])
        return {key: value[:length] for key, value in sample.items()}


class StepEncoder(Encoder):
    """Sum of embeddings of a step's dx, dy and pen: class int64 [*] -> float [*, E]."""

    steps: Tensor

    def __init__(self, steps: np.ndarray):
        """steps: int64 [classes, 3], bins of dx and dy, and the pen, of each class."""
        super().__init__()
        self.size = EMBEDDED
        self.register_buffer("steps", torch.from_numpy(steps), persistent=False)
        self.parts = nn.ModuleList(nn.Embedding(int(n), EMBEDDED) for n in steps.max(0) + 1)

    def forward(self, x: Tensor) -> Tensor:
        places = self.steps[x.long()].unbind(-1)
        return torch.stack([part(at) for part, at in zip(self.parts, places, strict=True)]).sum(0)


def _dequantised(drawing: dict[str, np.ndarray], noise: np.random.Generator) -> dict[str, Any]:
    offset = drawing["offset"]
    if (offset != np.rint(offset)).any():
        return drawing
    spread = noise.random(offset.shape, np.float32) - 0.5
    return drawing | {"offset": offset + spread}


def _drawings(
    paths: Sequence[str],
    read: Callable[[Path], Iterator[Recording]],
    on_error: OnError,
    report: Report,
) -> Iterator[Recording]:
    return readable(files_of([Path(path) for path in paths], SUFFIXES), read, on_error, report)


def _of_whole_offsets(file: Path) -> Iterator[Recording]:
    for drawing in read_strokes(file):
        whole(drawing)
        yield drawing
