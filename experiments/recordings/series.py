"""Time series, step by step: tables of channels, of which some values may be missing."""

import csv
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from worldmodel import Series, nested
from worldmodel.distributions import READ
from worldmodel.experiments.data.readers.files import (
    BadFileError,
    OnError,
    Recording,
    Report,
    Split,
    files_of,
    readable,
)
from worldmodel.experiments.data.readers.tables import TABLE_SUFFIXES, read_table
from worldmodel.experiments.recordings.modality import FileModality
from worldmodel.files import writing
from worldmodel.run_folder import RunError
from worldmodel.sequence_model.series_columns import Description, describe
from worldmodel.sequence_model.tables import Block, TableError, blocks_of

SPLITS: tuple[Split, ...] = ("train", "valid", "test")
WARM_UP = 256  # rows before a part of a series that are read with it, and not scored
LEAST_ROWS = 2  # of each part
DRAWN = 6  # channels of a picture
GENERATED = 4  # samples of a picture


class SeriesFiles(Series, FileModality):
    """Series in tables; each is cut in time: its last parts validate and test.

    statistics: {"series"}, the `Description`, whose scales are of the rows that are learned from
    alone; names, kinds and words are those of the whole files.
    """

    suffixes = TABLE_SUFFIXES

    def __init__(self, data: Any, statistics: dict[str, Any]):
        FileModality.__init__(self, data, statistics)
        Series.__init__(self, Description.from_json(statistics["series"]))

    @classmethod
    def first_statistics(cls, data: Any, report: Report) -> dict[str, Any]:
        files = files_of([Path(path) for path in data.data], cls.suffixes)
        blocks = [block for _, block in readable(files, _reader(data), data.on_error, report)]
        learned = [_cuts(block.length, data)[0] for block in blocks]
        try:
            description = describe(blocks, learned, columns_in(data))
        except TableError as error:
            raise RunError(f"{', '.join(data.data)[:100]}: {error}") from error
        kinds = [channel.kind for channel in description.channels]
        parts = [
            f"{kinds.count(kind)} {kind}{'s' * (kind != 'category')}"
            for kind in dict.fromkeys(kinds)
        ]
        read = Series(description)
        report(
            f"{len(blocks)} series of {', '.join(parts)}"
            f"{f', {read.covariates} covariates' * bool(read.covariates)}"
        )
        return {"series": description.to_json()}

    def blocks(
        self, paths: Sequence[str], on_error: OnError, report: Report
    ) -> Iterator[tuple[str, Block]]:
        """The name and the rows of each series in files and folders."""
        files = files_of([Path(path) for path in paths], self.suffixes)
        yield from readable(files, _reader(self.data), on_error, report)

    def recordings(
        self, paths: Sequence[str], on_error: OnError, report: Report
    ) -> Iterator[Recording]:
        for name, block in self.blocks(paths, on_error, report):
            yield self._recording(name, block)

    def learned(self, report: Report) -> Iterator[Recording]:
        for name, block in self.blocks(self.data.data, self.data.on_error, report):
            whole = self._recording(name, block)
            learned, valid = _cuts(block.length, self.data)
            cuts = (0, learned, valid, block.length)
            for split, first, end in zip(SPLITS, cuts, cuts[1:], strict=False):
                if end > first:
                    begin = max(0, first - WARM_UP) if first else 0
                    part = self.part(whole.observation, begin, first, end)
                    yield Recording(part, name, split, whole.action[begin:end])

    def _recording(self, name: str, block: Block) -> Recording:
        try:
            return Recording(self.encode(block), name, action=self.steering(block))
        except TableError as error:
            raise BadFileError(f"{name}: {error}") from error

    def first(self, given: str) -> Block:
        """The only series of a file, or the first."""
        return next(self.blocks([given], "stop", lambda line: None))[1]

    def prompt(self, given: str, length: int, report: Report) -> Any:
        return nested.index(self.encode(self.first(given)), slice(0, length))

    def steering_of(self, given: str, length: int, beyond: int) -> np.ndarray:
        block = self.first(given)
        wanted = min(length, block.length) + beyond
        return self.steering(block, max(0, wanted - block.length))[:wanted]

    def write(self, samples: list[Any], stem: Path, report: Report) -> list[Path]:
        table = stem.with_name(f"{stem.name}.csv")
        columns = [self.named(self.numbered(sample)) for sample in samples]
        rows = [
            [number, step, *(_shown(column[step]) for column in sample.values())]
            for number, sample in enumerate(columns, 1)
            for step in range(len(next(iter(sample.values()))))
        ]
        write_table(table, ["sample", "step", *columns[0]], rows)
        if find_spec("matplotlib") is None:
            report("no picture without matplotlib: pip install 'worldmodel-gym[plots]'")
            return [table]
        picture = stem.with_name(f"{stem.name}.png")
        draw_lines(picture, self, [self.numbered(sample) for sample in samples[:GENERATED]])
        return [table, picture]


class Part(NamedTuple):
    """A series that is scored from a row on, encoded."""

    observation: Any  # leaves [T, ...]
    actions: np.ndarray  # [T, ...]
    first: int  # the rows before it are read alone


def part_of(columns: dict[str, Any]) -> Part:
    """The part that a recording in a store is, by its columns."""
    observation = columns["observation"]
    read = (observation["state"] == READ).any(-1)
    first = int(np.flatnonzero(read)[-1]) + 1 if read.any() else 0
    return Part(observation, columns["action"], first)


def columns_in(data: Any) -> Any:
    """The `SeriesConfig` among the options of the recordings."""
    from worldmodel import SeriesConfig

    return SeriesConfig(data.time, data.by, tuple(data.known), tuple(data.channels))


def _reader(data: Any) -> Any:
    def read(file: Path) -> Iterator[tuple[str, Block]]:
        columns = read_table(file)
        try:
            found = list(blocks_of(columns, columns_in(data)))
        except TableError as error:
            raise BadFileError(f"{file}: {error}") from error
        yield from ((f"{file}{f', {block.name}' * bool(block.name)}", block) for block in found)

    return read


def _cuts(length: int, data: Any) -> tuple[int, int]:
    """The rows of a series where what is learned from ends, and what validates."""
    learned = int(length * (1 - data.held_out - data.tested))
    valid = int(length * (1 - data.tested))
    if min(learned, valid - learned, length - valid) < LEAST_ROWS:
        return length, length
    return learned, valid


def _shown(value: Any) -> Any:
    return f"{value:.6g}" if isinstance(value, float) else value


def write_table(path: Path, header: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """Writes a .csv, under a temporary name first."""
    with writing(path) as part, open(part, "w", newline="") as file:
        csv.writer(file).writerows(chain([header], rows))


def draw_lines(path: Path, modality: Series, samples: Sequence[np.ndarray]) -> None:
    """Draws samples [T, C], a panel for each of the first channels."""
    from matplotlib.figure import Figure

    names = [channel.name for channel in modality.channels][:DRAWN]
    figure = Figure(figsize=(9, 1 + 1.8 * len(names)), layout="constrained")
    panels = figure.subplots(len(names), 1, sharex=True, squeeze=False)[:, 0]
    for place, (panel, name) in enumerate(zip(panels, names, strict=True)):
        for sample in samples:
            panel.plot(sample[:, place], linewidth=1)
        panel.set_ylabel(name)
    panels[-1].set_xlabel("step")
    figure.savefig(path, dpi=120)
