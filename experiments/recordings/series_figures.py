"""The evaluation of runs of time series: likelihood, and forecasts beside two baselines."""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from rich.table import Table

from worldmodel import EpisodeSource
from worldmodel.experiments.measure.forecasts import (
    INTERVALS,
    Autoregression,
    SeasonalNaive,
    covered,
    crps,
)
from worldmodel.experiments.recordings import scoring
from worldmodel.experiments.recordings.config import SeriesScoreConfig
from worldmodel.experiments.recordings.model import RecordingsModel
from worldmodel.experiments.recordings.scoring import Note
from worldmodel.experiments.recordings.series import Part, SeriesFiles, part_of
from worldmodel.experiments.recordings.storage import for_scoring
from worldmodel.noise import OwnNoise
from worldmodel.run_folder import RunFolder
from worldmodel.sequence_model.forecasting import ahead, rows_of, values_nats

LEAST_HORIZON, LEAST_LAGS = 12, 24
WARMED = 256  # rows of other files after which forecasts begin, at most half of them
NAMES = {"model": "the model", "naive": "seasonal-naive", "linear": "linear autoregression"}


class Figures(NamedTuple):
    """The figures of one kind of forecast."""

    nats: float | None  # loss per value of a number, one step ahead
    crps: float  # a value, relative to the standard deviation of its channel while learning
    coverage: dict[str, float]  # of the central intervals
    channels: dict[str, float]  # crps of each channel, in its own units


def evaluate(
    folder: RunFolder, settings: SeriesScoreConfig, note: Note = lambda what, done, total: None
) -> dict[str, Any]:
    """The model's loss, and its forecasts of the series that the run held out, or of others."""

    def forecasts(run: RecordingsModel, store: EpisodeSource) -> dict[str, Any]:
        return {"forecasts": figures(run, store, settings, note)}

    result = scoring.evaluate(folder, settings, note, forecasts)
    if not settings.data:
        result["scored"] = "the ends of all series, given what was before"
    return result


def figures(
    run: RecordingsModel,
    store: EpisodeSource | None = None,
    settings: SeriesScoreConfig = SeriesScoreConfig(),
    note: Note = lambda what, done, total: None,
) -> dict[str, Any]:
    """Forecasts of series, by the model and by the baselines, which are fitted to the same rows
    that it learned from. Channels are numbers and counts; each in units of its own spread."""
    modality = run.modality
    assert isinstance(modality, SeriesFiles)
    store = for_scoring(run.stores) if store is None else store
    parts = [part_of(store.select(np.array([n])).columns) for n in range(len(store))]
    chosen = np.array([not channel.levels for channel in modality.channels])
    horizon = settings.horizon or max(modality.season, LEAST_HORIZON)
    if not chosen.any():
        return {}
    train = run.stores["train"]
    learned = [part_of(train.select(np.array([n])).columns) for n in range(len(train))]
    scale = _scale(modality, learned)[chosen]
    rows = [_scaled(modality, part, chosen, scale) for part in learned]
    naive = SeasonalNaive.fit(_long(rows, modality.season), modality.season)
    lags = max(LEAST_LAGS, modality.season + 1)
    linear = Autoregression.fit(rows, [part.actions for part in learned], lags)
    kinds: dict[str, list[tuple[np.ndarray, np.ndarray]]] = {name: [] for name in NAMES}
    nats: dict[str, list[np.ndarray]] = {name: [] for name in NAMES}
    numbers = modality.numbers[chosen]
    random = np.random.default_rng(run.config.seed)
    per_series = max(1, settings.origins // max(1, len(parts)))
    with OwnNoise(run.config.seed)():
        for done, part in enumerate(parts[: settings.origins]):
            note("forecasting series", done, min(len(parts), settings.origins))
            value = _scaled(modality, part, chosen, scale)
            own = values_nats(run.model, modality, part.observation, part.actions)[:, chosen]
            one = {
                "model": own,
                "naive": naive.log_prob(value) - np.log(scale),
                "linear": linear.log_prob(value, part.actions) - np.log(scale),
            }
            is_scored = ~np.isnan(value) & numbers
            is_scored[: part.first] = False
            for name, found in one.items():
                nats[name].append(found[is_scored])
            first = part.first or min(WARMED, len(value) // 2)
            reach = min(horizon, len(value) - first)
            if reach < 1 or first < 1:
                continue
            origins = np.linspace(first, len(value) - reach, per_series).round().astype(int)
            for origin, drawn in _drawn(
                run, modality, part, np.unique(origins), reach, settings.draws
            ):
                before, known = value[:origin], part.actions[origin : origin + reach]
                truth = value[origin : origin + reach]
                sizes = reach, settings.draws, random
                kinds["model"].append((drawn[..., chosen] / scale, truth))
                kinds["naive"].append((naive.draw(before, *sizes), truth))
                kinds["linear"].append((linear.draw(before, known, *sizes), truth))
    names = [c.name for c, is_in in zip(modality.channels, chosen, strict=True) if is_in]
    return {
        "horizon": horizon,
        "season": modality.season,
        "lags": linear.lags,
        "draws": settings.draws,
        "origins": len(kinds["model"]),
        **{
            name: _figures(kinds[name], nats[name], names, scale)._asdict()
            for name in NAMES
            if kinds[name]
        },
    }


def _long(rows: Sequence[np.ndarray], season: int) -> list[np.ndarray]:
    return [each for each in rows if len(each) > season] or [
        np.zeros((season + 1, rows[0].shape[1]))
    ]


def _scale(modality: SeriesFiles, learned: Sequence[Part]) -> np.ndarray:
    """The standard deviation of each channel while learning, [C]."""
    whole = np.concatenate([_valued(modality, part) for part in learned])
    std = np.nanstd(whole, 0)
    return np.where(std > 0, std, 1.0)


def _valued(modality: SeriesFiles, part: Part) -> np.ndarray:
    """Values in their own units, [T, C], NaN where missing."""
    values = modality.numbered(part.observation)
    return np.where(part.observation["state"] > 0, values, np.nan)


def _scaled(
    modality: SeriesFiles, part: Part, chosen: np.ndarray, scale: np.ndarray
) -> np.ndarray:
    """Values [T, n] that baselines read: about the mean of numbers, in units of their spread."""
    return (_valued(modality, part) - _centres(modality))[:, chosen] / scale


def _centres(modality: SeriesFiles) -> np.ndarray:
    """The values that others are taken about, [C]."""
    centres = [c.start if c.changes else c.mean for c in modality.channels]
    return np.where(modality.numbers, centres, 0.0)


def _drawn(
    run: RecordingsModel,
    modality: SeriesFiles,
    part: Part,
    origins: np.ndarray,
    horizon: int,
    draws: int,
) -> Iterator[tuple[int, np.ndarray]]:
    """Places, and the model's draws of the rows after each, [draws, H, C], about the mean of
    numbers."""
    levels = modality.numbered(part.observation)
    rows = rows_of(modality, part.observation, part.actions)
    with torch.no_grad():
        found = ahead(run.model, modality, rows, part.actions, origins.tolist(), horizon, draws)
        for origin, drawn in zip(origins.tolist(), found, strict=True):
            begin = np.tile(levels[origin - 1], (draws, 1))
            yield origin, modality.numbered(drawn, begin) - _centres(modality)


def _figures(
    forecasts: Sequence[tuple[np.ndarray, np.ndarray]],
    nats: Sequence[np.ndarray],
    names: Sequence[str],
    scale: np.ndarray,
) -> Figures:
    """The figures of draws [draws, H, C] beside what came [H, C]."""
    scores = np.concatenate([crps(drawn, truth) for drawn, truth in forecasts])  # [N, C]
    there = ~np.isnan(np.concatenate([truth for _, truth in forecasts]))
    coverage = {}
    for share in INTERVALS:
        inside = np.concatenate([covered(drawn, truth, share) for drawn, truth in forecasts])
        coverage[f"{share:.0%}"] = float(inside[there].mean())
    each = np.array(
        [
            scores[there[:, place], place].mean() if there[:, place].any() else np.nan
            for place in range(len(names))
        ]
    )
    values = np.concatenate(nats)
    return Figures(
        float(-values.mean()) if len(values) else None,
        float(np.nanmean(each)),
        coverage,
        dict(zip(names, (each * scale).tolist(), strict=True)),
    )


def tables(result: dict[str, Any]) -> list[Table]:
    """The results of `evaluate`, as tables."""
    others = {key: value for key, value in result.items() if key != "forecasts"}
    found = scoring.tables(others)
    given = result.get("forecasts") or {}
    if "model" not in given:
        return found
    table = Table(
        "forecasts",
        "nats a value",
        "CRPS",
        *(f"in {s:.0%}" for s in INTERVALS),
        caption=(
            f"{given['origins']} forecasts of up to {given['horizon']} steps, {given['draws']} "
            "draws each. Nats: loss one step ahead, of numbers. CRPS: in units of a channel's "
            "spread while learning. In: the share of values in the central interval of that share."
        ),
    )
    for name, words in NAMES.items():
        each = given[name]
        loss = "" if each["nats"] is None else f"{each['nats']:.4f}"
        shares = (f"{share:.3f}" for share in each["coverage"].values())
        table.add_row(words, loss, f"{each['crps']:.4f}", *shares)
    return [*found, table]
