"""Time series: channels of numbers, counts and categories some of which are missing, and what is
known of the time ahead."""

import math
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from gymnasium import spaces
from scipy import stats
from torch import Tensor, nn

from worldmodel import nested
from worldmodel.agent import Agent, Script
from worldmodel.codecs import (
    CategoricalHead,
    CountHead,
    DistModule,
    Encoder,
    LocationScaleHead,
    MixedHead,
    NormalHead,
    StudentHead,
    action_codec,
)
from worldmodel.cores import RNN
from worldmodel.distributions import MISSING, PRESENT, READ, Channels
from worldmodel.episodes import EpisodeSource
from worldmodel.model import WorldModel
from worldmodel.recurrences import SkipGRU
from worldmodel.sequence_model.autoregression import Linear, filled, lagged, ridge
from worldmodel.sequence_model.config import SeriesConfig
from worldmodel.sequence_model.modality import NOBODY, Modality, recordings_of
from worldmodel.sequence_model.tables import (
    MOST_COUNT,
    MOST_LEVELS,
    Block,
    Columns,
    TableError,
    blocks_of,
    columns_of,
    cycles_of,
    is_date,
    is_irregular,
    is_table,
    phases,
    season_of,
    seconds_of,
    step_of,
)

OFTEN = 0.1  # of the values of a number: then it recurs, as no rain does
MOST_ATOMS = 8
TAIL_LAGS, TAILS = 12, (3.0, 4.0, 6.0, 10.0)  # of the comparison of Student's t with a Gaussian
WANDERS = 0.98  # the square error by changes, relative to that by values, below which it does
TAIL_GAIN = 0.005  # nats a value, above which tails are heavy
MOST_ROWS = 20_000  # that least squares reads
MOST_INPUTS = 600  # of least squares; of more, each channel's own
QUIET = 0.1  # of other first weights beside those of least squares, relative to other layers
SHOWN = 1_000  # rows whose covariates samples without a beginning are dreamt under
LEAST_STD = 1e-3


class Channel(NamedTuple):
    """What is known of a column that is predicted, from the rows that are learned from."""

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
    """What is known of a column that is known ahead."""

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
        """What `to_json` has made."""
        lists = {"cycles": tuple(saved["cycles"])}
        lists["typical"] = tuple(map(tuple, saved["typical"]))
        columns = {k: tuple(v) if isinstance(v, list) else v for k, v in saved["columns"].items()}
        return cls(**saved | lists)._replace(
            channels=tuple(_made(Channel, each) for each in saved["channels"]),
            known=tuple(_made(Known, each) for each in saved["known"]),
            columns=SeriesConfig(**columns),
            steps=None if saved["steps"] is None else tuple(saved["steps"]),
        )


def _made(kind: Any, saved: dict[str, Any]) -> Any:
    return kind(**{k: tuple(v) if isinstance(v, list) else v for k, v in saved.items()})


class Series(Modality):
    """Time series: a row is a step, an observation its channels and which of them are there.

    An observation is {"value": float32 [C], "state": uint8 [C]}: numbers are standardised by the
    rows that are learned from, categories are numbered. Channels that wander are read and predicted
    by their `changes`, whose density is that of the values themselves; the first value of such a
    channel is missing, and stands, in its own units over `std`, where nothing reads it. Actions are the covariates: columns that
    are known ahead, the calendar, the lengths of uneven steps. The first step of a series has
    none, as no row has that begins a recording.
    """

    frame = "step"
    skips = True
    default_recurrence = "skip-gru"

    def __init__(self, description: Description):
        self.description = description
        self.channels = description.channels
        self.size = len(self.channels)
        self.covariates = len(_covariates(description))
        self.numbers = np.array([channel.kind == "number" for channel in self.channels])
        scales = [math.log(c.std) if c.kind == "number" else 0.0 for c in self.channels]
        self.log_std = np.array(scales)

    @classmethod
    def of(cls, data: Any, config: SeriesConfig | None = None) -> "Series":
        """The modality of a user's series, all of which are learned from."""
        config = config or SeriesConfig()
        blocks = list(_blocks(data, config))
        description = describe(blocks, [block.length for block in blocks], config)
        return cls(description._replace(form=_form(data)))

    @property
    def observation_space(self) -> spaces.Dict:
        numbers = spaces.Box(-np.inf, np.inf, (self.size,))
        return spaces.Dict(value=numbers, state=spaces.Box(0, READ, (self.size,), np.uint8))

    @property
    def action_space(self) -> spaces.Space:  # type: ignore[override]
        return spaces.Box(-1.0, 1.0, (self.covariates,)) if self.covariates else NOBODY

    @property
    def has_density(self) -> bool:
        return bool(self.numbers.any())

    @property
    def season(self) -> int:
        """The rows of a season; 1 where the calendar shows none."""
        return season_of(self.description.step, self.description.dates)

    def agent(self) -> Agent:
        return Script.of(self.actions(SHOWN), self.action_space)

    def actions(self, length: int) -> np.ndarray:
        typical = np.array(self.description.typical or [()], np.float32)
        return np.resize(typical, (length, self.covariates))

    def separated(self, data: Any) -> list[Any]:
        return list(_blocks(data, self.description.columns))

    def encode(self, recording: Any) -> Any:
        block = self._block(recording)
        values = [_coded(block, channel) for channel in self.channels]
        value = np.stack(values, 1)  # [T, C]
        for place, channel in enumerate(self.channels):
            if channel.changes:
                value[:, place] = _change(_since(block.columns[channel.name]), channel)
        state = np.where(np.isnan(value), MISSING, PRESENT).astype(np.uint8)
        value = np.nan_to_num(value)
        for place, channel in enumerate(self.channels):
            if channel.changes:
                first, start = _first(block.columns[channel.name], channel)
                value[0, place] = start / channel.std
                if first:  # a gap before: no change yet, and nothing to score
                    value[first, place], state[first, place] = _change(0.0, channel), READ
        return {"value": value.astype(np.float32), "state": state}

    def part(self, observation: Any, begin: int, first: int, end: int) -> Any:
        """Rows of a series; those before `first` are read alone."""
        value, state = (observation[key][begin:end].copy() for key in ("value", "state"))
        levels = self.numbered(nested.index(observation, slice(0, begin + 1)))[-1]  # [C]
        for place, channel in enumerate(self.channels):
            if channel.changes:
                value[0, place], state[0, place] = levels[place] / channel.std, MISSING
        before = state[: first - begin]
        before[before != MISSING] = READ
        return {"value": value, "state": state}

    def steering(self, recording: Any, beyond: int = 0) -> np.ndarray:
        block, described = self._block(recording), self.description
        length = block.length + beyond
        parts = [np.empty((length, 0))]
        parts += [_steered(block, known, length) for known in described.known]
        if described.cycles or described.steps:
            times = self.times(block, beyond)
            parts.append(phases(times, described.cycles))
            if described.steps:
                steps = np.diff(times, prepend=times[0] - described.step)
                parts.append(_unit(np.log(steps / described.step), *described.steps)[:, None])
        return np.concatenate(parts, 1).astype(np.float32)

    def times(self, block: Block, beyond: int = 0) -> np.ndarray:
        """The times of a series and of the steps beyond it, seconds or numbers, [T]."""
        name = self.description.columns.time
        if name is None:
            return np.arange(block.length + beyond, dtype=np.float64)
        if name not in block.columns:
            raise TableError(f"there is no column {name!r} of times: this model reads it")
        times = seconds_of(block.columns[name], name)
        return np.concatenate([times, later(times, self.description.step, beyond)])

    def split(self, recording: Any) -> tuple[Block, int]:
        """A series, and the number of its rows up to the last one that shows anything."""
        block = self._block(recording)
        shown = np.stack([~np.isnan(_coded(block, each)) for each in self.channels], 1).any(1)
        return block, int(np.flatnonzero(shown)[-1]) + 1 if shown.any() else 0

    def _block(self, recording: Any) -> Block:
        if isinstance(recording, Block):
            return recording
        (block,) = _blocks(recording, self.description.columns)
        return block

    def decode(self, observation: Any) -> Any:
        numbers = self.numbered(observation)
        missing = observation["state"] == MISSING
        missing[:1] &= [not channel.changes for channel in self.channels]  # where these begin
        return self.formed(self.named(np.where(missing, np.nan, numbers)))

    def named(self, numbers: np.ndarray) -> Columns:
        """The columns of values in their own units [T, C], NaN where missing, with words."""
        columns: Columns = {}
        for place, channel in enumerate(self.channels):
            column = numbers[:, place].copy()
            if channel.words:
                words = np.array([*channel.levels, None], object)
                column = words[np.where(np.isnan(column), -1, column).astype(int)]
            columns[channel.name] = column
        return columns

    def formed(self, columns: Columns) -> Any:
        """Columns as the user's own tables or arrays."""
        if self.description.form == "table":
            return columns
        whole = np.stack([*columns.values()], 1)
        return whole[:, 0] if self.description.form == "vector" else whole

    def numbered(self, observation: Any, begin: np.ndarray | None = None) -> np.ndarray:
        """Values in their own units, float64 [*, T, C]; categories as their numbers. begin: the
        values [*, C] before, of channels that are read by their changes: these add up."""
        value, state = observation["value"].astype(np.float64), observation["state"]
        found = []
        for place, channel in enumerate(self.channels):
            column, there = value[..., place], state[..., place] != MISSING
            if channel.kind == "number":
                column = np.where(there | (not channel.changes), column * channel.std + channel.mean, 0)
            if channel.changes:
                level: Any = np.where(there[..., 0], channel.start, value[..., 0, place] * channel.std)
                level = level if begin is None else begin[..., place]
                column = level[..., None] + column.cumsum(-1)
            found.append(column)
        return np.stack(found, -1)

    def merged(self, columns: Columns, given: Any) -> Columns:
        """The columns of a series, in which all that is given stays as it is."""
        block = self._block(given)
        for channel in self.channels:
            there = ~np.isnan(_coded(block, channel))
            columns[channel.name][there] = block.columns[channel.name][there]
        return columns

    def typical(self, draws: np.ndarray) -> np.ndarray:
        """The medians of draws [draws, T, C], [T, C], of categories the most frequent."""
        value = np.median(draws, 0)
        for place, channel in enumerate(self.channels):
            drawn = draws[..., place]
            if channel.levels:
                shares = [(drawn == level).mean(0) for level in range(len(channel.levels))]
                value[:, place] = np.argmax(shares, 0)
            elif channel.kind == "count":
                value[:, place] = np.rint(value[:, place])
        return value

    def counted(self, observation: Any) -> np.ndarray:
        return ~(observation["state"] == READ).any(-1)

    def correction(self, observation: Any) -> Any:
        return (observation["state"] == PRESENT) @ -self.log_std

    def encoder(self) -> Encoder:
        return SeriesEncoder(self.channels)

    def head(self, name: str, input_size: int, **options: Any) -> DistModule:
        if name not in ("default", "normal", "student-t"):
            raise ValueError(
                f"time series have the heads default, normal and student-t, got {name!r}"
            )
        tails = {"normal": False, "student-t": True}.get(name)
        channels = self.channels
        if tails is not None:
            channels = tuple(channel._replace(tails=tails) for channel in channels)
        return SeriesHead(input_size, channels, **options)

    @torch.no_grad()
    def begin(self, model: WorldModel, train: EpisodeSource) -> None:
        """Begins with the linear autoregression that least squares give, where the head reads
        the context itself (`SkipGRU`)."""
        recurrence = getattr(model.core, "recurrence", None)
        if not (isinstance(model.core, RNN) and isinstance(recurrence, SkipGRU)):
            return
        inputs, value, state = self._inputs(model, train)
        pasts = self._own(model)
        own = pasts if inputs.shape[1] > MOST_INPUTS else None
        last = [past[-2] for past in pasts]  # the columns of the values before
        fits = []
        for place in range(self.size):
            there = state[:, place] == PRESENT
            read = slice(None) if own is None else own[place]
            fits.append(self._fit(inputs[there], value[there, place], read, last[place]))
        head: Any = model.percepts.decoder.observation  # type: ignore[union-attr]
        head.begin(fits)

    def _fit(self, x: np.ndarray, y: np.ndarray, read: Any, last: int) -> Linear:
        """The regression of a value or, if that is better, of its difference to the one before."""
        levels, changes = ridge(x[:, read], y), ridge(x[:, read], y - x[:, last])
        fit = min(levels, changes, key=lambda linear: linear.score)
        weights = np.zeros(x.shape[1])
        weights[read] = fit.weights
        weights[last] += fit is changes
        return fit._replace(weights=weights)

    def _inputs(
        self, model: WorldModel, train: EpisodeSource
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """What the model reads before rows that are learned from, float64 [N, I], with what it
        is to predict, standardised, and the states [N, C]."""
        actions = action_codec(self.action_space)
        parts, rows = [], 0
        for group in train.side_by_side(MOST_ROWS):
            sequences = train.sequences(actions, group)
            contexts = model.read(sequences).contexts.cpu()
            kept = sequences.mask.clone()
            kept[: min(model.history, len(kept) // 2)] = False  # histories that are not full
            seen = sequences.rows.observation
            found = [contexts[kept], seen["value"][kept], seen["state"][kept]]
            parts.append([each.double().numpy() for each in found])
            rows += len(parts[-1][0])
            if rows >= MOST_ROWS:
                break
        inputs, value, state = (np.concatenate(part)[:MOST_ROWS] for part in zip(*parts, strict=True))
        for place, channel in enumerate(self.channels):
            if channel.kind == "count":
                value[:, place] = (np.log1p(value[:, place]) - channel.mean) / channel.std
        return inputs, value, state

    def _own(self, model: WorldModel) -> list[np.ndarray]:
        """The inputs of each channel's own past, and the covariates."""
        encoder: Any = model.percepts.encoder.observation  # type: ignore[union-attr]
        found = []
        for place in range(self.size):
            of_row = encoder.columns_of(place)
            past = [self.covariates + n * encoder.size + of_row for n in range(model.history)]
            found.append(np.concatenate([np.arange(self.covariates), *past]))
        return found


class SeriesEncoder(Encoder):
    """What is there of a row, and which: {"value", "state"} [*, C] -> float [*, E].

    Numbers as they are, the standardised logarithm of counts, one-hot codes of categories, zeros
    where they are missing; then 1 for each channel that is there. Contexts show what was there
    last instead of those zeros (`carried`).
    """

    has_missing = True
    shift: Tensor
    scale: Tensor
    masks: Tensor

    def __init__(self, channels: Sequence[Channel]):
        super().__init__()
        self.levels = [len(channel.levels) for channel in channels]
        self.counts = [channel.kind == "count" for channel in channels]
        self.size = sum(n or 1 for n in self.levels) + len(channels)
        widths = torch.tensor([n or 1 for n in self.levels])
        masks = (self.size - len(channels) + torch.arange(len(channels))).repeat_interleave(widths)
        self.register_buffer("masks", masks, persistent=False)
        for name, values in (("shift", "mean"), ("scale", "std")):
            numbers = [getattr(c, values) if c.kind == "count" else 0.0 for c in channels]
            self.register_buffer(name, torch.tensor(numbers), persistent=False)

    def carried(self, encodings: Tensor) -> Tensor:
        """What is missing stands as it last was, beside the 0 that says that it is missing."""
        shown = encodings[..., self.masks] > 0  # [T, B, V]
        times = torch.arange(len(encodings), device=encodings.device)[:, None, None]
        last = torch.where(shown, times, 0).cummax(0).values
        value = encodings[..., : shown.shape[-1]].gather(0, last)
        return torch.cat([value, encodings[..., shown.shape[-1] :]], -1)

    def columns_of(self, place: int) -> np.ndarray:
        """The columns that show a channel."""
        begins = np.cumsum([0, *(n or 1 for n in self.levels)])
        mask = self.size - len(self.levels) + place
        return np.append(np.arange(begins[place], begins[place + 1]), mask)

    def forward(self, x: Any) -> Tensor:
        there = x["state"] != MISSING
        value = torch.where(there, x["value"], 0.0).to(self.shift)
        parts = []
        for place, (levels, is_count) in enumerate(zip(self.levels, self.counts, strict=True)):
            column, shown = value[..., place], there[..., place]
            if levels:
                code = nn.functional.one_hot(column.long(), levels)
                parts.append(code * shown[..., None])
                continue
            if is_count:
                column = (column.log1p() - self.shift[place]) / self.scale[place] * shown
            parts.append(column[..., None])
        return torch.cat([*(part.to(value) for part in parts), there.to(value)], -1)


class SeriesHead(DistModule):
    """The likelihood of a row of `Channels`: Gaussian or Student's t of numbers, those that recur
    exactly with a mass (`MixedHead`), counts, and categories."""

    order: Tensor

    def __init__(self, input_size: int, channels: Sequence[Channel], **options: Any):
        """options: of the heads of numbers, such as minimum_std."""
        super().__init__()
        self.input_size = input_size
        self.channels = tuple(channels)
        found: dict[str, list[int]] = {}
        for place, channel in enumerate(channels):
            kind = channel.kind
            if kind == "number":
                kind = "mixed" if channel.atoms else "student" if channel.tails else "normal"
            found.setdefault(kind, []).append(place)
        self.kinds = tuple(found)
        self.heads = nn.ModuleList(self._head(kind, found[kind], options) for kind in found)
        for number, places in enumerate(found.values()):
            self.register_buffer(f"places_{number}", torch.tensor(places), persistent=False)
        side_by_side = torch.tensor([place for places in found.values() for place in places])
        self.register_buffer("order", side_by_side.argsort(), persistent=False)

    def _head(self, kind: str, places: list[int], options: dict[str, Any]) -> DistModule:
        chosen, shape = [self.channels[place] for place in places], (len(places),)
        if kind == "count":
            return CountHead(self.input_size, shape)
        if kind == "category":
            return CategoricalHead(self.input_size, [len(c.levels) for c in chosen])
        if kind == "mixed":
            head = MixedHead(self.input_size, shape, [list(c.atoms) for c in chosen])
            head.others.fill_(True)  # these are not all that come
            return head
        make = StudentHead if kind == "student" else NormalHead
        return make(self.input_size, shape, **options)

    @property
    def places(self) -> list[Tensor]:
        """The channels of each head."""
        return [getattr(self, f"places_{number}") for number in range(len(self.heads))]

    @property
    def placeholder(self) -> dict[str, Tensor]:
        like = self.order
        return {
            "value": torch.zeros(len(like), device=like.device),
            "state": torch.full_like(like, MISSING, dtype=torch.uint8),
        }

    def forward(self, features: Tensor) -> Channels:
        parts = [head(features).base_dist for head in self.heads]
        return Channels(parts, self.places, self.order)

    @torch.no_grad()
    def begin(self, fits: Sequence[Linear]) -> None:
        """Begins with regressions [C] of the last features, standardised."""
        for head, places in zip(self.heads, self.places, strict=True):
            chosen = [fits[place] for place in places.tolist()]
            body: Any = head.density if isinstance(head, MixedHead) else head
            if isinstance(body, LocationScaleHead):
                _begin(body.parameters_, chosen, [_raw(fit.std) for fit in chosen])
            elif isinstance(body, CountHead):
                scales = [self.channels[place] for place in places.tolist()]
                logs = [
                    Linear(c.std * fit.weights, c.mean + c.std * fit.bias, 1.0)
                    for c, fit in zip(scales, chosen, strict=True)
                ]
                spreads = [
                    -2 * math.log(max(c.std * fit.std, LEAST_STD))
                    for c, fit in zip(scales, chosen, strict=True)
                ]
                _begin(body.parameters_, logs, [min(spread, 3.0) for spread in spreads])


def _begin(layer: nn.Linear, fits: Sequence[Linear], spreads: Sequence[float]) -> None:
    """Sets the rows of means [n], and then those of spreads [n], of a layer."""
    layer.weight.mul_(QUIET)
    weights = torch.from_numpy(np.stack([fit.weights for fit in fits])).to(layer.weight)
    layer.weight[: len(fits), -weights.shape[1] :] = weights
    layer.bias.copy_(torch.tensor([*(fit.bias for fit in fits), *spreads]))


def _raw(std: float) -> float:
    """The number whose softplus is a standard deviation."""
    std = max(std, LEAST_STD)
    return std + math.log(-math.expm1(-std))


# What is known of columns.


def _blocks(data: Any, config: SeriesConfig) -> Iterator[Block]:
    """The series of a table, of a list of tables or arrays, or of an array."""
    if isinstance(data, Block):
        yield data
    elif is_table(data):
        yield from blocks_of(columns_of(data), config)
    elif isinstance(data, list | tuple) and any(isinstance(d, Block) or is_table(d) for d in data):
        for each in data:
            yield from _blocks(each, config)
    else:
        for each in recordings_of(data):
            yield from blocks_of(columns_of(each), config)


def _form(data: Any) -> str:
    first = data[0] if isinstance(data, list | tuple) and len(data) else data
    if isinstance(first, Block) or is_table(first) or is_table(data):
        return "table"
    return "vector" if np.ndim(recordings_of(data)[0]) == 1 else "array"


def describe(
    blocks: Sequence[Block], learned: Sequence[int], config: SeriesConfig
) -> Description:
    """What encoding series needs. learned: the first rows of each that are learned from: scales
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
    modality = Series(described)
    steered = modality.steering(blocks[0])[: min(SHOWN, max(1, learned[0]))]
    if not modality.covariates:
        return described
    return described._replace(typical=tuple(map(tuple, steered.astype(float).tolist())))


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
        changes = [_since(column)[1:] for column in learned]
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


def _since(column: np.ndarray) -> np.ndarray:
    """The changes of a column [T] since it was last there, NaN where it is missing, and until it
    is there for the first time."""
    there = ~np.isnan(column)
    before = filled(np.concatenate([[np.nan], column[:-1]])[:, None])[:, 0]
    begun = np.cumsum(there) - there > 0
    return np.where(there & begun, column - before, np.nan)


def _change(change: Any, channel: Channel) -> Any:
    return (change - channel.mean) / channel.std


def _first(column: np.ndarray, channel: Channel) -> tuple[int, float]:
    """The row of the first value, and the value."""
    there = np.flatnonzero(~np.isnan(column))
    return (int(there[0]), float(column[there[0]])) if len(there) else (0, channel.start)


def wanders(series: Sequence[np.ndarray]) -> bool:
    """True if the last quarter of standardised series is predicted better by a short
    autoregression of their changes than by one of their values, both fitted to the rows before;
    most are whose level goes on to where it never was."""
    x, y, cut = _short(series)
    if not cut:
        return False
    last = x[:, 0]
    levels, changes = ridge(x[:cut], y[:cut]), ridge(x[:cut] - last[:cut, None], (y - last)[:cut])
    by_levels = y - x @ levels.weights - levels.bias
    by_changes = y - last - (x - last[:, None]) @ changes.weights - changes.bias
    return bool(np.square(by_changes[cut:]).mean() < WANDERS * np.square(by_levels[cut:]).mean())


def _short(series: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray, int]:
    """What a short autoregression reads [N, I] and predicts [N] of series, and the rows that it
    is fitted to; 0 where these are too few."""
    inputs, targets = [], []
    for each in series:
        inputs.append(lagged(filled(each[:, None]), TAIL_LAGS)[TAIL_LAGS:])
        targets.append(each[TAIL_LAGS:])
    x, y = np.concatenate(inputs), np.concatenate(targets)
    x, y = x[~np.isnan(y)], y[~np.isnan(y)]
    cut = 3 * len(y) // 4
    return x, y, cut if cut >= 2 * TAIL_LAGS else 0


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


def _covariates(described: Description) -> list[str]:
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


def _coded(block: Block, channel: Channel) -> np.ndarray:
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
