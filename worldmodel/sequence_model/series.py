"""Time series: channels of numbers, counts and categories some of which are missing, and what is
known of the time ahead."""

import math
from typing import Any

import numpy as np
import torch
from gymnasium import spaces

from worldmodel import nested
from worldmodel.agent import Agent, Script
from worldmodel.codecs import DistModule, Encoder, action_codec
from worldmodel.cores import RNN
from worldmodel.distributions import MISSING, PRESENT, READ
from worldmodel.episodes import EpisodeSource
from worldmodel.model import WorldModel
from worldmodel.recurrences import SkipGRU
from worldmodel.sequence_model.autoregression import Linear, ridge
from worldmodel.sequence_model.config import SeriesConfig
from worldmodel.sequence_model.modality import NOBODY, Modality
from worldmodel.sequence_model.series_columns import (
    SHOWN,
    Description,
    changes_of,
    coded,
    covariate_names,
    describe,
    first_of,
    form_of,
    separate,
    standard_change,
    steering_of,
    times_of,
)
from worldmodel.sequence_model.series_layers import SeriesEncoder, SeriesHead
from worldmodel.sequence_model.tables import Block, Columns, season_of

EXACT = 6  # decimals of standardised numbers that single precision keeps
MOST_ROWS = 20_000  # that least squares reads
MOST_INPUTS = 600  # of least squares; of more, each channel's own


class Series(Modality):
    """Time series: a row is a step, an observation its channels and which of them are there.

    An observation is {"value": float32 [C], "state": uint8 [C]}: numbers are standardised by the
    rows that are learned from, categories are numbered. Channels that wander are read and
    predicted by their `changes`, whose density is that of the values themselves; the first value
    of such a channel is not scored, and stands, over `std`, where nothing reads it. Actions are
    the covariates: columns that are known ahead, the calendar, the lengths of uneven steps. The
    first step of a series has none, as no row has that begins a recording.
    """

    frame = "step"
    skips = True
    default_recurrence = "skip-gru"

    def __init__(self, description: Description):
        self.description = description
        self.channels = description.channels
        self.size = len(self.channels)
        self.covariates = len(covariate_names(description))
        self.numbers = np.array([channel.kind == "number" for channel in self.channels])
        scales = [math.log(c.std) if c.kind == "number" else 0.0 for c in self.channels]
        self.log_std = np.array(scales)

    @classmethod
    def of(cls, data: Any, config: SeriesConfig | None = None) -> "Series":
        """The modality of a user's series, all of which are learned from."""
        config = config or SeriesConfig()
        blocks = list(separate(data, config))
        description = describe(blocks, [block.length for block in blocks], config)
        return cls(description._replace(form=form_of(data)))

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
        return list(separate(data, self.description.columns))

    def encode(self, recording: Any) -> Any:
        block = self._block(recording)
        values = [coded(block, channel) for channel in self.channels]
        value = np.stack(values, 1)  # [T, C]
        for place, channel in enumerate(self.channels):
            if channel.changes:
                value[:, place] = standard_change(changes_of(block.columns[channel.name]), channel)
        state = np.where(np.isnan(value), MISSING, PRESENT).astype(np.uint8)
        value = np.nan_to_num(value)
        for place, channel in enumerate(self.channels):
            if channel.changes:
                first, start = first_of(block.columns[channel.name], channel)
                value[0, place] = start / channel.std
                if first:  # a gap before: no change yet, and nothing to score
                    value[first, place], state[first, place] = standard_change(0.0, channel), READ
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
        found = steering_of(self._block(recording), self.description, beyond)
        return found.astype(np.float32)

    def times(self, block: Block, beyond: int = 0) -> np.ndarray:
        """The times of a series and of the steps beyond it, seconds or numbers, [T]."""
        return times_of(block, self.description, beyond)

    def split(self, recording: Any) -> tuple[Block, int]:
        """A series, and the number of its rows up to the last one that shows anything."""
        block = self._block(recording)
        shown = np.stack([~np.isnan(coded(block, each)) for each in self.channels], 1).any(1)
        return block, int(np.flatnonzero(shown)[-1]) + 1 if shown.any() else 0

    def _block(self, recording: Any) -> Block:
        if isinstance(recording, Block):
            return recording
        (block,) = separate(recording, self.description.columns)
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
                column = np.where(
                    there | (not channel.changes), column * channel.std + channel.mean, 0
                )
            if channel.atoms:  # which come back as they were, not as single precision has them
                column = np.round(column / channel.std, EXACT) * channel.std
            if channel.changes:
                level: Any = np.where(
                    there[..., 0], channel.start, value[..., 0, place] * channel.std
                )
                level = level if begin is None else begin[..., place]
                column = level[..., None] + column.cumsum(-1)
            found.append(column)
        return np.stack(found, -1)

    def merged(self, columns: Columns, given: Any) -> Columns:
        """The columns of a series, in which all that is given stays as it is."""
        block = self._block(given)
        for channel in self.channels:
            there = ~np.isnan(coded(block, channel))
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
        """The contexts of rows that are learned from, float64 [N, I], with the values that are
        to be predicted, standardised, and the states [N, C]."""
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
        inputs, value, state = (
            np.concatenate(part)[:MOST_ROWS] for part in zip(*parts, strict=True)
        )
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
