"""Descriptions of the columns of series, by the rows that are learned from, and their codes."""

import math
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from scipy import stats

from worldmodel.sequence_model.autoregression import filled, lagged, ridge
from worldmodel.sequence_model.config import SeriesConfig
from worldmodel.sequence_model.modality import recordings_of
from worldmodel.sequence_model.tables import (
    MOST_COUNT,
    MOST_LEVELS,
    Block,
    TableError,
    blocks_of,
    columns_of,
    cycles_of,
    is_date,
    is_irregular,
    is_table,
    phases,
    seconds_of,
    step_of,
)

OFTEN = 0.1  # of the values of a number: then it recurs, as no rain does
MOST_ATOMS = 8
SHORT_LAGS = 12  # of the autoregressions by which columns are compared
TAILS = (3.0, 4.0, 6.0, 10.0)  # degrees of freedom that are compared with a Gaussian
TAIL_GAIN = 0.005  # nats a value, above which tails are heavy
WANDERS = 0.98  # the square error by changes, relative to that by values, below which it does
SHOWN = 1_000  # rows whose covariates samples without a beginning are dreamt under
LEAST_STD = 1e-3


class Channel(NamedTuple):
    """The description of a column that is predicted, by the rows that are learned from."""

    name: str
    kind: str  # number, count or category
    mean: float = 0.0  # of numbers, or of log(1 + count)
    std: float = 1.0
    levels: tuple[str, ...] = ()  # of a category
    words: bool = False  # levels are words, not numbers
    tails: bool = False  # heavier than a Gaussian's
    atoms: tuple[float, ...] = ()  # standardised numbers that recur exactly
    changes: bool = False  # it is its change since it was last there that is read and predicted
    start: float = 0.0  # of such a channel, the first value


class Known(NamedTuple):
    """The description of a column that is known ahead."""

    name: str
    low: float = -1.0
    high: float = 1.0
    levels: tuple[str, ...] = ()  # of words


class Description(NamedTuple):
    """All that encoding series needs; JSON, as a dictionary."""

    channels: tuple[Channel, ...]
    known: tuple[Known, ...] = ()
    columns: SeriesConfig = SeriesConfig()
    dates: bool = False
    step: float = 1.0  # the usual one, in seconds, or as times are numbered
    cycles: tuple[str, ...] = ()  # of the calendar
    steps: tuple[float, float] | None = None  # logs of the least and the greatest, if uneven
    form: str = "table"  # of samples: table, or array [T, C], or vector [T]
    typical: tuple[tuple[float, ...], ...] = ()  # covariates of some rows

    def to_json(self) -> dict[str, Any]:
        """The description as JSON."""
        return self._asdict() | {
            "channels": [channel._asdict() for channel in self.channels],
            "known": [known._asdict() for known in self.known],
            "columns": vars(self.columns),
        }

    @classmethod
    def from_json(cls, saved: dict[str, Any]) -> "Description":
        """The inverse of `to_json`."""
        lists = {"cycles": tuple(saved["cycles"])}
        lists["typical"] = tuple(map(tuple, saved["typical"]))
        columns: dict[str, Any] = {
            k: tuple(v) if isinstance(v, list) else v for k, v in saved["columns"].items()
        }
        return cls(**saved | lists)._replace(
            channels=tuple(_made(Channel, each) for each in saved["channels"]),
            known=tuple(_made(Known, each) for each in saved["known"]),
            columns=SeriesConfig(**columns),
            steps=None if saved["steps"] is None else tuple(saved["steps"]),
        )


def _made(kind: Any, saved: dict[str, Any]) -> Any:
    return kind(**{k: tuple(v) if isinstance(v, list) else v for k, v in saved.items()})


def separate(data: Any, config: SeriesConfig) -> Iterator[Block]:
    """The series of a table, of a list of tables or arrays, or of an array."""
    if isinstance(data, Block):
        yield data
    elif is_table(data):
        yield from blocks_of(columns_of(data), config)
    elif isinstance(data, list | tuple) and any(isinstance(d, Block) or is_table(d) for d in data):
        for each in data:
            yield from separate(each, config)
    else:
        for each in recordings_of(data):
            yield from blocks_of(columns_of(each), config)


def form_of(data: Any) -> str:
    first = data[0] if isinstance(data, list | tuple) and len(data) else data
    if isinstance(first, Block) or is_table(first) or is_table(data):
        return "table"
    return "vector" if np.ndim(recordings_of(data)[0]) == 1 else "array"


def describe(blocks: Sequence[Block], learned: Sequence[int], config: SeriesConfig) -> Description:
    """The description of series. learned: the first rows of each that are learned from: scales
    are theirs; names, kinds and words are those of all rows."""
    if not blocks:
        raise TableError("there is no series: a table has one row or more")
    names = list(blocks[0].columns)
    for block in blocks:
        if set(block.columns) != set(names):
            raise TableError(
                f"all tables have the same columns, but {', '.join(names)[:80]} and "
                f"{', '.join(block.columns)[:80]} came"
            )
    taken = {config.time, config.by, *config.known}
    channels = config.channels or tuple(name for name in names if name not in taken)
    if not channels:
        raise TableError("there is no column that could be predicted: all are known ahead")
    pairs = list(zip(blocks, learned, strict=True))

    def whole(name: str) -> np.ndarray:
        return np.concatenate([block.columns[name] for block in blocks])

    def shown(name: str) -> list[np.ndarray]:
        return [block.columns[name][:rows] for block, rows in pairs if rows]

    described = Description(
        tuple(_channel(name, whole(name), shown(name)) for name in channels),
        tuple(_known(name, whole(name), np.concatenate(shown(name))) for name in config.known),
        config,
    )
    if config.time is not None:
        name = config.time
        times = [seconds_of(column, name) for column in shown(name)]
        described = _timed(described, times, is_date(blocks[0].columns[name]))
    if not covariate_names(described):
        return described
    found = steering_of(blocks[0], described)[: min(SHOWN, max(1, learned[0]))]
    return described._replace(typical=tuple(map(tuple, found.tolist())))


def _timed(described: Description, times: list[np.ndarray], dates: bool) -> Description:
    """The description with what the times say."""
    step = step_of(times)
    steps = None
    if is_irregular(times):
        logs = np.log(np.concatenate([np.diff(each) for each in times]) / step)
        steps = float(logs.min()), float(logs.max())
    cycles = tuple(cycles_of(times, step)) if dates else ()
    return described._replace(dates=dates, step=step, cycles=cycles, steps=steps)


def _channel(name: str, whole: np.ndarray, learned: list[np.ndarray]) -> Channel:
    """The description of a column. whole: all its rows; learned: those that scales are of."""
    if whole.dtype.kind == "M":
        raise TableError(f"column {name!r} has dates: name it by --time, or leave it out")
    if whole.dtype.kind == "O":
        levels = tuple(sorted({word for word in whole.tolist() if word is not None}))
        return Channel(name, "category", levels=_checked(name, levels), words=True)
    there = whole[~np.isnan(whole)]
    if not len(there):
        raise TableError(f"column {name!r} is empty: leave it out by --channels")
    seen = np.concatenate(learned)
    seen = seen[~np.isnan(seen)]
    if set(np.unique(there)) == {0.0, 1.0}:
        return Channel(name, "category", levels=("0", "1"))
    if (there == np.rint(there)).all() and there.min() >= 0 and there.max() <= MOST_COUNT:
        logs = np.log1p(seen)
        return Channel(name, "count", *_scales(logs))
    mean, std = _scales(seen)
    values, often = np.unique(seen, return_counts=True)
    recur = values[often >= max(3, OFTEN * len(seen))][:MOST_ATOMS]
    atoms = tuple(float(np.float32((value - mean) / std)) for value in recur)
    series = [(column - mean) / std for column in learned]
    if not atoms and wanders(series):
        changes = [changes_of(column)[1:] for column in learned]
        mean, std = _scales(np.concatenate(changes)[~np.isnan(np.concatenate(changes))])
        start = float(seen[0])
        series = [(change - mean) / std for change in changes]
        tails = has_tails(series)
        return Channel(name, "number", mean, std, tails=tails, changes=True, start=start)
    return Channel(name, "number", mean, std, tails=not atoms and has_tails(series), atoms=atoms)


def _scales(values: np.ndarray) -> tuple[float, float]:
    if not len(values):
        return 0.0, 1.0
    mean, std = float(values.mean()), float(values.std())
    return mean, std if std > 1e-9 * max(1.0, abs(mean)) else 1.0


def _checked(name: str, levels: tuple[str, ...]) -> tuple[str, ...]:
    if 1 <= len(levels) <= MOST_LEVELS:
        return levels if len(levels) > 1 else (*levels, f"not {levels[0]}")
    raise TableError(
        f"column {name!r} has {len(levels)} different words, which are categories: 1 to "
        f"{MOST_LEVELS} can be learned; leave it out by --channels, or name it by --by or --time"
    )


def _known(name: str, whole: np.ndarray, seen: np.ndarray) -> Known:
    if whole.dtype.kind == "M":
        raise TableError(f"column {name!r} has dates: name it by --time")
    if whole.dtype.kind == "O":
        words = {word for word in whole.tolist() if word is not None}
        return Known(name, levels=_checked(name, tuple(sorted(words))))
    seen = seen[~np.isnan(seen)]
    low, high = (float(seen.min()), float(seen.max())) if len(seen) else (0.0, 1.0)
    return Known(name, low, high if high > low else low + 1.0)


def changes_of(column: np.ndarray) -> np.ndarray:
    """The changes of a column [T] since it was last there, NaN where it is missing, and until it
    is there for the first time."""
    there = ~np.isnan(column)
    before = filled(np.concatenate([[np.nan], column[:-1]])[:, None])[:, 0]
    begun = np.cumsum(there) - there > 0
    return np.where(there & begun, column - before, np.nan)


def standard_change(change: Any, channel: Channel) -> Any:
    return (change - channel.mean) / channel.std


def first_of(column: np.ndarray, channel: Channel) -> tuple[int, float]:
    """The row of the first value, and the value."""
    there = np.flatnonzero(~np.isnan(column))
    return (int(there[0]), float(column[there[0]])) if len(there) else (0, channel.start)


def wanders(series: Sequence[np.ndarray]) -> bool:
    """True if the last quarter of standardised series lies mostly where the rows before never
    were, and is predicted better by a short autoregression of their changes than by one of their
    values, both fitted to the rows before."""
    x, y, cut = _short(series)
    if not cut:
        return False
    least, greatest = y[:cut].min(), y[:cut].max()
    if np.mean((y[cut:] < least) | (y[cut:] > greatest)) < 0.5:
        return False
    last = x[:, 0]
    levels, changes = ridge(x[:cut], y[:cut]), ridge(x[:cut] - last[:cut, None], (y - last)[:cut])
    by_levels = y - x @ levels.weights - levels.bias
    by_changes = y - last - (x - last[:, None]) @ changes.weights - changes.bias
    return bool(np.square(by_changes[cut:]).mean() < WANDERS * np.square(by_levels[cut:]).mean())


def _short(series: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray, int]:
    """The inputs [N, I] and targets [N] of a short autoregression of series, and the rows that it
    is fitted to; 0 where these are too few."""
    inputs, targets = [], []
    for each in series:
        inputs.append(lagged(filled(each[:, None]), SHORT_LAGS)[SHORT_LAGS:])
        targets.append(each[SHORT_LAGS:])
    x, y = np.concatenate(inputs), np.concatenate(targets)
    x, y = x[~np.isnan(y)], y[~np.isnan(y)]
    cut = 3 * len(y) // 4
    return x, y, cut if cut >= 2 * SHORT_LAGS else 0


def has_tails(series: Sequence[np.ndarray]) -> bool:
    """True if what a short autoregression leaves of standardised series is more likely under
    Student's t than under a Gaussian, in the last quarter, both fitted to the rows before."""
    x, y, cut = _short(series)
    if not cut:
        return False
    fit = ridge(x[:cut], y[:cut])
    left = y - x @ fit.weights - fit.bias
    early, late = left[:cut], left[cut:]
    gaussian = stats.norm.logpdf(late, scale=max(early.std(), LEAST_STD)).mean()
    found = [(freedom, _spread(early, freedom)) for freedom in TAILS]
    freedom, spread = max(found, key=lambda f: stats.t.logpdf(early, f[0], scale=f[1]).sum())
    return bool(stats.t.logpdf(late, freedom, scale=spread).mean() > gaussian + TAIL_GAIN)


def _spread(values: np.ndarray, freedom: float) -> float:
    """The scale of Student's t that makes values the most likely, by a few steps of EM."""
    square = float(np.mean(values**2)) or 1.0
    for _ in range(30):
        weights = (freedom + 1) / (freedom + values**2 / square)
        square = max(float(np.mean(weights * values**2)), LEAST_STD**2)
    return math.sqrt(square)


def covariate_names(described: Description) -> list[str]:
    """The names of the covariates."""
    names = [f"{k.name} {level}" for k in described.known for level in (k.levels or ("",))]
    names += [f"{cycle} {n}" for cycle in described.cycles for n in range(2 * _harmonics(cycle))]
    return names + ["step"] * (described.steps is not None)


def _harmonics(cycle: str) -> int:
    return phases(np.zeros(1), [cycle]).shape[1] // 2


def _steered(block: Block, known: Known, length: int) -> np.ndarray:
    """A column that is known ahead, [T, n] within -1 and 1."""
    if known.name not in block.columns:
        raise TableError(f"there is no column {known.name!r}, which this model is to know ahead")
    column = block.columns[known.name]
    if len(column) < length:
        raise TableError(
            f"column {known.name!r} is known ahead: add the {length - len(column)} rows to come, "
            "with it given and what is predicted left empty"
        )
    column = column[:length]
    if known.levels:
        codes = _numbered(known.name, column, known.levels)
        _check_whole(known.name, codes)
        return 2.0 * (codes[:, None] == np.arange(len(known.levels))) - 1
    if column.dtype.kind != "f":
        raise TableError(f"column {known.name!r} had numbers where this model learned, now words")
    _check_whole(known.name, column)
    return _unit(column, known.low, known.high)[:, None]


def _check_whole(name: str, column: np.ndarray) -> None:
    if np.isnan(column).any():
        raise TableError(f"column {name!r} is known ahead, but is empty in some rows: fill them")


def _unit(column: np.ndarray, low: float, high: float) -> np.ndarray:
    return (2 * column - low - high) / ((high - low) or 1.0)


def _numbered(name: str, column: np.ndarray, levels: Sequence[str]) -> np.ndarray:
    """The numbers of words, NaN where there is none."""
    if column.dtype.kind == "f" and np.isnan(column).all():
        return column
    numbers: dict[Any, float] = {level: float(n) for n, level in enumerate(levels)}
    try:
        return np.array([np.nan if w is None else numbers[w] for w in column.tolist()])
    except KeyError as error:
        raise TableError(
            f"column {name!r} has {error.args[0]!r}, which this model never learned: "
            f"{', '.join(levels)[:100]} are known"
        ) from error


def coded(block: Block, channel: Channel) -> np.ndarray:
    """A channel as it is read and scored, float64 [T], NaN where it is missing."""
    if channel.name not in block.columns:
        raise TableError(f"there is no column {channel.name!r}, which this model predicts")
    column = block.columns[channel.name]
    if channel.words:
        return _numbered(channel.name, column, channel.levels)
    if column.dtype.kind != "f":
        missing = column.dtype.kind == "O" and all(word is None for word in column.tolist())
        if not missing:
            raise TableError(f"column {channel.name!r} had numbers where this model learned")
        return np.full(len(column), np.nan)
    there = column[~np.isnan(column)]
    if channel.kind == "number":
        return (column - channel.mean) / channel.std
    if (there < 0).any() or (there != np.rint(there)).any() or (there > 2**24).any():
        raise TableError(f"column {channel.name!r} counts: whole numbers from 0 on are expected")
    if channel.kind == "category" and (there > 1).any():
        raise TableError(f"column {channel.name!r} had 0 and 1 alone where this model learned")
    return column


def steering_of(block: Block, described: Description, beyond: int = 0) -> np.ndarray:
    """The covariates of a series and of the steps beyond it, float64 [T, K]."""
    length = block.length + beyond
    parts = [np.empty((length, 0))]
    parts += [_steered(block, known, length) for known in described.known]
    if described.cycles or described.steps:
        times = times_of(block, described, beyond)
        parts.append(phases(times, described.cycles))
        if described.steps:
            steps = np.diff(times, prepend=times[0] - described.step)
            parts.append(_unit(np.log(steps / described.step), *described.steps)[:, None])
    return np.concatenate(parts, 1)


def times_of(block: Block, described: Description, beyond: int = 0) -> np.ndarray:
    """The times of a series and of the steps beyond it, seconds or numbers, [T]."""
    name = described.columns.time
    if name is None:
        return np.arange(block.length + beyond, dtype=np.float64)
    if name not in block.columns:
        raise TableError(f"there is no column {name!r} of times: this model reads it")
    times = seconds_of(block.columns[name], name)
    return np.concatenate([times, later(times, described.step, beyond)])


def later(times: np.ndarray, step: float, number: int) -> np.ndarray:
    """Times that go on from others [T] by the usual step; dates on one day of the month stay on
    it.

    >>> days = np.array(["2024-01-01", "2024-02-01"], "datetime64[s]").astype(float)
    >>> later(days, 31 * 86_400.0, 2).astype("datetime64[s]").astype("datetime64[D]").tolist()[-1]
    datetime.date(2024, 4, 1)
    """
    if not number:
        return times[:0]
    months = round(step / (30.44 * 86_400))
    if months and abs(step / (months * 30.44 * 86_400) - 1) < 0.05 and len(times) > 1:
        days = times.astype("datetime64[s]")
        of_month = (days - days.astype("datetime64[M]")).astype(float)
        if (of_month == of_month[0]).all() and of_month[0] < 28 * 86_400:
            begin = days[-1].astype("datetime64[M]")
            ahead = begin + months * np.arange(1, number + 1)
            return ahead.astype("datetime64[s]").astype(float) + of_month[0]
    return times[-1] + step * np.arange(1, number + 1)
