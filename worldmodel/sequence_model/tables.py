"""Tables of series: columns of numbers, words and times, and what is known of each.

A table is a data frame (of polars or pandas, or a dictionary of columns), or an array [T] or
[T, C]. Missing values are NaN, None or an empty word.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from worldmodel.sequence_model.config import SeriesConfig

MOST_COUNT = 100_000  # whole numbers beyond it are amounts rather than counts
MOST_LEVELS = 256  # different words of a column
MOST_CHANNELS = 512
ALIKE = 1.25  # steps that differ by less are one: months have 28 to 31 days
SECOND = np.timedelta64(1, "s")
DAY = 86_400.0
CYCLES = {"day": (DAY, 2), "week": (7 * DAY, 3), "year": (365.2425 * DAY, 2)}
"""The seconds of each cycle of the calendar, and how many harmonics describe a place in it."""

Columns = dict[str, np.ndarray]  # [N]: float64, words as object (None: missing), or datetime64


class TableError(ValueError):
    """A table that cannot be used: one sentence."""


class Block(NamedTuple):
    """The rows of one series, in the order of time."""

    columns: Columns  # [T] each
    name: str  # of the series, "" of the only one

    @property
    def length(self) -> int:
        return len(next(iter(self.columns.values())))


def is_table(data: Any) -> bool:
    """True for data frames and dictionaries of columns."""
    return isinstance(data, Mapping) or (hasattr(data, "columns") and hasattr(data, "shape"))


def columns_of(data: Any) -> Columns:
    """The columns of a table, by name; those of an array are named by their places."""
    if is_table(data):
        names = list(data.keys() if isinstance(data, Mapping) else data.columns)
        columns = {str(name): _column(str(name), np.asarray(data[name])) for name in names}
    else:
        array = np.asarray(data)
        if array.ndim not in (1, 2):
            raise TableError(f"a series is an array [T] or [T, C], got {list(array.shape)}")
        array = array.reshape(len(array), -1)
        columns = {str(n): _column(str(n), array[:, n]) for n in range(array.shape[1])}
    lengths = {len(column) for column in columns.values()}
    if len(columns) > MOST_CHANNELS:
        raise TableError(f"a table has at most {MOST_CHANNELS} columns, got {len(columns)}")
    if len(lengths) != 1 or lengths == {0}:
        raise TableError(
            f"a table has columns of one length, of one row or more, got {sorted(lengths)}"
        )
    return columns


def _column(name: str, column: np.ndarray) -> np.ndarray:
    """A column as numbers, words or times."""
    if column.ndim != 1:
        raise TableError(
            f"column {name!r} has the shape {list(column.shape)}: give one per number"
        )
    if column.dtype.kind in "iuf":
        column = column.astype(np.float64)
        if np.isinf(column).any():
            raise TableError(f"column {name!r} has an infinite number: leave it empty, or mend it")
        return column
    if column.dtype.kind == "M":
        return column
    words = [_word(value) for value in column.tolist()]
    if all(isinstance(word, float | None) for word in words) and any(
        word is not None for word in words
    ):
        return np.array([np.nan if word is None else word for word in words], np.float64)
    made = np.empty(len(words), object)
    made[:] = [word if word is None or isinstance(word, str) else repr(word) for word in words]
    return made


def _word(value: Any) -> str | float | None:
    """A value of a column of objects: a word, a number, or None where it is missing."""
    if isinstance(value, bool | np.bool_):
        return str(bool(value)).lower()
    if isinstance(value, int | float | np.number):
        return None if value != value else float(value)
    return (
        None if value is None or str(value) in ("", "nan", "NaT", "<NA>", "None") else str(value)
    )


def blocks_of(columns: Columns, config: SeriesConfig) -> Iterator[Block]:
    """The series of a table, each in the order of time. Raises TableError for columns that are
    not there, and for times that are missing or come twice."""
    asked = [config.by, config.time, *config.known, *config.channels]
    for name in filter(None, asked):
        if name not in columns:
            raise TableError(
                f"there is no column {name!r}, only {', '.join(columns)[:150]}: name another"
            )
    if config.by is None:
        yield _in_order(Block(columns, ""), config)
        return
    groups = columns[config.by]
    words = np.array(["" if g is None or g != g else _shown(g) for g in groups.tolist()], object)
    if (words == "").any():
        raise TableError(f"column {config.by!r} separates the series, but is empty in some rows")
    for name in dict.fromkeys(words.tolist()):
        chosen = words == name
        part = {key: column[chosen] for key, column in columns.items() if key != config.by}
        yield _in_order(Block(part, name), config)


def _shown(value: Any) -> str:
    return str(int(value)) if isinstance(value, float) and value == int(value) else str(value)


def _in_order(block: Block, config: SeriesConfig) -> Block:
    if config.time is None:
        return block
    times = seconds_of(block.columns[config.time], config.time)
    order = np.argsort(times, kind="stable")
    if (np.diff(times[order]) <= 0).any():
        raise TableError(
            f"column {config.time!r} has a time twice in one series: separate the series by the "
            "column that tells them apart, or leave a row out"
        )
    return block._replace(columns={key: column[order] for key, column in block.columns.items()})


def seconds_of(column: np.ndarray, name: str) -> np.ndarray:
    """Times as seconds, float64 [T]: dates, words that are dates, or numbers as they are."""
    if column.dtype.kind == "O":
        try:
            column = np.array([_iso(word) for word in column.tolist()], "datetime64[s]")
        except (ValueError, TypeError) as error:
            raise TableError(
                f"column {name!r} expects dates such as 2024-01-31 or 2024-01-31T12:30, or "
                f"numbers, got {next(iter(column.tolist()))!r}"
            ) from error
    if column.dtype.kind == "M":
        missing = np.isnat(column).any()
        column = column.astype("datetime64[ms]").astype(np.float64) / 1_000
    else:
        missing = np.isnan(column).any()
    if missing:
        raise TableError(f"column {name!r} has rows without a time: leave these rows out")
    return column


def is_date(column: np.ndarray) -> bool:
    """True if times are dates, not numbers."""
    return column.dtype.kind in "MO"


def _iso(word: str) -> str:
    """A date as numpy reads it: 2024/1/31 12:30 is 2024-01-31T12:30."""
    day, _, hour = str(word).strip().replace("/", "-").replace("T", " ").partition(" ")
    parts = day.split("-")
    if len(parts) == 1 and len(day) == 8 and day.isdecimal():
        parts = [day[:4], day[4:6], day[6:]]
    day = "-".join([parts[0], *(part.zfill(2) for part in parts[1:])])
    hour = hour.strip().removesuffix("Z")
    return f"{day}T{hour}" if hour else day


def step_of(times: Sequence[np.ndarray]) -> float:
    """The usual step between the times of some series, seconds."""
    steps = np.concatenate([np.diff(each) for each in times])
    return float(np.median(steps)) if len(steps) else 1.0


def is_irregular(times: Sequence[np.ndarray]) -> bool:
    """True if steps differ by more than those of months do."""
    steps = np.concatenate([np.diff(each) for each in times])
    return bool(len(steps)) and bool(steps.max() > ALIKE * steps.min())


def cycles_of(times: Sequence[np.ndarray], step: float) -> list[str]:
    """The cycles of the calendar that series of dates show: two or more rows and periods each."""
    longest = max(float(each[-1] - each[0]) for each in times)
    return [name for name, (period, _) in CYCLES.items() if 2 * step <= period <= longest / 2]


def phases(times: np.ndarray, cycles: Sequence[str]) -> np.ndarray:
    """The places of times in cycles, sines and cosines, float64 [T, P]."""
    found = [np.empty((len(times), 0))]
    for name in cycles:
        period, harmonics = CYCLES[name]
        angles = 2 * np.pi * times[:, None] / period * np.arange(1, harmonics + 1)
        found += [np.sin(angles), np.cos(angles)]
    return np.concatenate(found, 1)


def season_of(step: float, dates: bool) -> int:
    """The rows of a season, by the step between dates: 24 of hours, 7 of days, 52 of weeks, 12 of
    months, 4 of quarters; 1 where there is none.

    >>> season_of(3_600.0, True), season_of(30.5 * DAY, True), season_of(1.0, False)
    (24, 12, 1)
    """
    if not dates:
        return 1
    year = CYCLES["year"][0]
    for period in (DAY, 7 * DAY, year):
        rows = round(period / step)
        if 2 <= rows <= 60:
            return rows
    return 1
