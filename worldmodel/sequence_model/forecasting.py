"""Forecasts by models of series, draws of what is missing, and the likelihood of each value."""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from worldmodel import nested
from worldmodel.codecs import action_codec
from worldmodel.distributions import MISSING, PRESENT
from worldmodel.episodes import Episodes
from worldmodel.model import ModelState, WorldModel
from worldmodel.percepts import row_of
from worldmodel.sequence_model.modality import as_episodes
from worldmodel.sequence_model.scoring import has_latents
from worldmodel.sequence_model.series import Series
from worldmodel.sequence_model.tables import TableError
from worldmodel.sequences import Row, Sequences

PARTICLES = 64  # draws of latents, of models that have any
LAG = 64  # rows: what came so much later tells no more of a missing value
FEW = 0.5  # share of the particles that count, below which they are drawn anew


class Forecast(NamedTuple):
    """Draws of the steps ahead of a series."""

    channels: tuple[str, ...]
    times: np.ndarray  # [H], seconds or numbers, of the steps ahead
    draws: np.ndarray  # float64 [draws, H, C]; categories by their numbers

    def quantiles(self, shares: Sequence[float]) -> np.ndarray:
        """Quantiles of the draws, [shares, H, C]."""
        return np.quantile(self.draws, shares, axis=0)


def rows_of(modality: Series, observation: Any, actions: np.ndarray) -> Sequences:
    """Observations, leaves [T, ...], as the rows of one series, [T, 1, ...]."""
    episodes: Episodes = as_episodes(modality, [observation], [actions])
    return episodes.sequences(action_codec(modality.action_space))


@torch.no_grad()
def forecast(model: WorldModel, modality: Series, data: Any, horizon: int, draws: int) -> Forecast:
    """Draws of the steps after the last that shows anything."""
    if horizon < 1 or draws < 1:
        raise ValueError(f"expected a horizon and draws of 1 or more, got {horizon} and {draws}")
    block, length = modality.split(data)
    if not length:
        raise TableError("the series is empty: a forecast goes on from some values")
    beyond = max(0, length + horizon - block.length)
    actions = modality.steering(block, beyond)[: length + horizon]
    encoded = nested.index(modality.encode(block), slice(0, length))
    rows = rows_of(modality, encoded, actions[:length])
    (drawn,) = ahead(model, modality, rows, actions, [length], horizon, draws)
    begin = np.tile(modality.numbered(encoded)[-1], (draws, 1))
    names = tuple(channel.name for channel in modality.channels)
    times = modality.times(block, beyond)[length : length + horizon]
    return Forecast(names, times, modality.numbered(drawn, begin))


@torch.no_grad()
def ahead(
    model: WorldModel,
    modality: Series,
    rows: Sequences,
    actions: np.ndarray,
    origins: Sequence[int],
    horizon: int,
    draws: int,
) -> Iterator[Any]:
    """Draws of the `horizon` rows after each of the first `origins` rows of a series, which rise:
    observations, numpy leaves [draws, H, ...]. actions: [T, ...], also of the rows ahead."""
    codes = action_codec(modality.action_space).encode(torch.from_numpy(actions))
    particles = draws if has_latents(model) else 1
    state: ModelState | None = None
    done = 0
    for origin in origins:
        piece = nested.index(rows, slice(done, origin))
        _, state = model.infer(piece, state, particles)
        done = origin
        columns = nested.repeat(state, draws // particles)
        leading = codes[origin : origin + horizon, None].expand(-1, draws, -1)
        drawn = go_on(model, columns, leading)
        yield nested.map(lambda leaf: leaf.transpose(0, 1).cpu().numpy(), drawn)


def go_on(model: WorldModel, state: ModelState, codes: Tensor) -> Any:
    """Observations that the model draws from states [B, ...] on under the codes of actions,
    [H, B, A]: leaves [H, B, ...]."""
    first = torch.zeros(codes.shape[1], dtype=torch.bool, device=model.device)
    found = []
    for code in codes.to(model.device):
        row, state = model.step(first, code, state)
        found.append(row.observation)
    return nested.stack(found)


@torch.no_grad()
def value_nats(model: WorldModel, modality: Series, data: Any) -> np.ndarray:
    """The log likelihood of each value of a series given all rows before it, float64 [T, C], NaN
    where it is missing; of a model with latents that of `PARTICLES` draws of them."""
    return values_nats(model, modality, modality.encode(data), modality.steering(data))


@torch.no_grad()
def values_nats(
    model: WorldModel, modality: Series, observation: Any, actions: np.ndarray
) -> np.ndarray:
    """`value_nats` of a series as it is encoded, leaves [T, ...]."""
    rows = rows_of(modality, observation, actions)
    found = np.concatenate([each.double().cpu().numpy() for each in _one_ahead(model, rows)])
    found = found - modality.log_std
    return np.where(observation["state"] == PRESENT, found, np.nan)


def _one_ahead(model: WorldModel, rows: Sequences) -> Iterator[Tensor]:
    """The log probabilities of rows [T, 1, ...] by channel given all before, [n, C] nats."""
    if not has_latents(model):
        inference, _ = model.infer(rows)
        predicted: Any = model.percepts.predict(model.core.features(inference.states))
        seen = model.fill(rows).rows.observation
        yield predicted.observation.log_probs(seen)[:, 0]
        return
    state = model.initial_state(PARTICLES)
    filled = model.fill(rows).rows
    for row in _repeated(filled, PARTICLES):
        predicted, _ = model.predict(row.action.masked_fill(row.first[:, None], 0.0), state)
        each = predicted.observation.log_probs(row.observation)
        yield each.logsumexp(0, keepdim=True) - np.log(PARTICLES)
        state = model.observe(row, state)


class Completed(NamedTuple):
    """Draws of what is missing of a series, given all the rest."""

    draws: np.ndarray  # float64 [draws, T, C], in own units, nothing of which is missing
    log_prob: float  # an unbiased estimate's log of the likelihood of what is there, nats


@torch.no_grad()
def complete(
    model: WorldModel, modality: Series, observation: Any, actions: np.ndarray, draws: int
) -> Completed:
    """Draws of what is missing of a series by a particle filter, whose paths are kept.

    Missing values are drawn from the model's own prediction, and read as if they had been there;
    paths are weighted by the likelihood of what is there and drawn anew where few of them count:
    in the end they are draws of the missing given all rows before and `LAG` rows after.
    """
    rows = nested.map(lambda x: x.to(model.device), rows_of(modality, observation, actions).rows)
    state = model.initial_state(draws)
    like = state.history
    mean, std, by_changes = (
        torch.tensor([float(getattr(channel, name)) for channel in modality.channels]).to(like)
        for name in ("mean", "std", "changes")
    )
    since = torch.zeros(draws, modality.size).to(mean)  # changes that were drawn in a gap
    weights = torch.zeros(draws, dtype=torch.float64, device=model.device)
    paths: list[Tensor] = []
    total = 0.0
    for number, given in enumerate(_repeated(rows, draws)):
        action = given.action.masked_fill(given.first[:, None], 0.0)
        prediction, core = model.predict(action, state)
        guess: Any = prediction.observation.sample()
        there = given.observation["state"] != MISSING
        seen = given.observation | {"value": given.observation["value"] - since / std}
        value = torch.where(there, seen["value"], guess["value"])
        begins = (by_changes > 0) & (number == 0)  # where changes begin, nothing has changed
        value = torch.where(begins, -mean / std, value)
        since = torch.where(there, 0.0, since + value * std + mean) * by_changes
        weights = weights + prediction.observation.log_prob(seen).double()
        filled = {"value": value, "state": guess["state"].masked_fill(begins, MISSING)}
        row = row_of(given.first, action, {"observation": filled})
        state = model.advance(row, core, state)
        paths.append(value)
        normal = weights.softmax(0)
        last = number + 1 == len(rows.first)
        if last or 1 / normal.square().sum() < FEW * draws:
            total += float(weights.logsumexp(0)) - np.log(draws)
            chosen = _systematic(normal)
            state, since = nested.index((state, since), chosen)
            paths[-LAG:] = [path[chosen] for path in paths[-LAG:]]
            weights = torch.zeros_like(weights)
    drawn = torch.stack(paths, 1).cpu().numpy()  # [draws, T, C]
    everything = {"value": drawn, "state": np.full(drawn.shape, PRESENT, np.uint8)}
    whole = modality.numbered(everything, modality.numbered(observation)[0])
    correction = float(np.sum(modality.correction(observation)))
    return Completed(whole, total + correction)


def _repeated(rows: Row, number: int) -> Iterator[Row]:
    """The rows [B, ...] of one column, leaves [T, 1, ...], side by side `number` times."""
    wide = nested.map(lambda leaf: leaf.expand(-1, number, *leaf.shape[2:]), rows)
    yield from nested.steps(wide)


def _systematic(shares: Tensor) -> Tensor:
    """As many places as there are shares, float64 [K] that add up to one, each about in
    proportion to its share."""
    number = len(shares)
    points = (torch.arange(number) + torch.rand(())).to(shares) / number
    return torch.searchsorted(shares.cumsum(0), points).clamp(max=number - 1)
