"""Forecasts, completed tables and scores of a run of series, written to files."""

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch

from worldmodel import Forecast
from worldmodel.distributions import MISSING
from worldmodel.experiments.recordings.config import ForecastConfig, ImputeConfig, TableConfig
from worldmodel.experiments.recordings.model import RecordingsModel
from worldmodel.experiments.recordings.series import (
    DRAWN,
    SeriesFiles,
    write_table,
)
from worldmodel.experiments.runs.registry import config_of
from worldmodel.noise import OwnNoise
from worldmodel.progress import Reporter
from worldmodel.run_folder import RunError, RunFolder
from worldmodel.sequence_model.forecasting import (
    complete,
    forecast as forecast_of,
    value_nats,
)
from worldmodel.sequence_model.tables import Block, TableError

QUANTILES = (0.025, 0.1, 0.25, 0.5, 0.75, 0.9, 0.975)
CHARTS = 4  # series that are drawn, at most
BEFORE = 3  # horizons of the past that a fan chart shows
LOWEST = 10  # values that are named


def forecast(folder: RunFolder, config: ForecastConfig, reporter: Reporter) -> list[Path]:
    """Writes quantiles of what comes after each series, and fan charts; returns the files."""
    run, modality = _opened(folder)
    stem, rows, files = _stem(folder, config, "forecast"), [], []
    with OwnNoise(config.seed)():
        for number, (name, block) in enumerate(_blocks(modality, config)):
            with _named(name):
                sizes = config.horizon, config.samples
                found = forecast_of(run.model, modality, block, *sizes)
            rows += list(_forecast_rows(modality, block.name, found))
            if number < CHARTS and _can_draw(reporter, number):
                files.append(_picture(stem, number))
                _fan(files[-1], modality, block, found)
    header = ["series", "time", "channel", "mean", *(f"q{share:g}" for share in QUANTILES)]
    table = stem.with_name(f"{stem.name}.csv")
    write_table(table, header, rows)
    return [table, *files]


def score(folder: RunFolder, config: TableConfig, reporter: Reporter) -> list[Path]:
    """Writes the log likelihood of every value given all before, and a picture of it; names the
    least likely; returns the files."""
    run, modality = _opened(folder)
    stem, rows, files = _stem(folder, config, "score"), [], []
    channels = [channel.name for channel in modality.channels]
    least: list[tuple[float, str]] = []
    for number, (name, block) in enumerate(_blocks(modality, config)):
        with _named(name), OwnNoise(run.config.seed)():
            nats = value_nats(run.model, modality, block)  # [T, C]
        shown = _times(modality, modality.times(block))
        total = np.nansum(nats, 1)
        for step, time in enumerate(shown):
            rows.append([block.name, time, _number(total[step]), *map(_number, nats[step])])
        for step, place in zip(*np.nonzero(~np.isnan(nats)), strict=True):
            label = f"{block.name} {shown[step]} {channels[place]}".strip()
            least.append((float(nats[step, place]), label))
        if number < CHARTS and _can_draw(reporter, number):
            files.append(_picture(stem, number))
            _draw_nats(files[-1], modality, block, nats)
    table = stem.with_name(f"{stem.name}.csv")
    write_table(table, ["series", "time", "nats", *channels], rows)
    reporter.say(
        "the least likely, nats: "
        + "; ".join(f"{label} {nats:.1f}" for nats, label in sorted(least)[:LOWEST])
    )
    return [table, *files]


def impute(folder: RunFolder, config: ImputeConfig, reporter: Reporter) -> list[Path]:
    """Writes each series with every missing value in place; returns the file."""
    run, modality = _opened(folder)
    stem, rows = _stem(folder, config, "imputed"), []
    names = [channel.name for channel in modality.channels]
    for name, block in _blocks(modality, config):
        with _named(name), OwnNoise(config.seed)():
            observation, actions = modality.encode(block), modality.steering(block)
            drawn = complete(run.model, modality, observation, actions, config.draws).draws
        whole = modality.merged(modality.named(modality.typical(drawn)), block)
        shown = _times(modality, modality.times(block))
        for step, time in enumerate(shown):
            rows.append([block.name, time, *(_number(whole[each][step]) for each in names)])
    table = stem.with_name(f"{stem.name}.csv")
    write_table(table, ["series", "time", *names], rows)
    return [table]


def _opened(folder: RunFolder) -> tuple[RecordingsModel, SeriesFiles]:
    torch.set_num_threads(config_of(folder).threads)
    run = RecordingsModel.of_run(folder)
    if not isinstance(run.modality, SeriesFiles):
        raise RunError(f"{folder.said} is no run of time series")
    return run, run.modality


def _blocks(modality: SeriesFiles, config: TableConfig) -> list[tuple[str, Block]]:
    """The series of the given table, or of the run's own."""
    paths = modality.data.data if config.table is None else [str(config.table)]
    return list(modality.blocks(paths, "stop", lambda line: None))


def _stem(folder: RunFolder, config: TableConfig, name: str) -> Path:
    stem = config.out.with_suffix("") if config.out else folder.place("series") / name
    stem.parent.mkdir(parents=True, exist_ok=True)
    return stem


def _picture(stem: Path, number: int) -> Path:
    """The file of a series' picture; the number is left out of the first one's name."""
    return stem.with_name(f"{stem.name}{f'-{number + 1}' * bool(number)}.png")


@contextmanager
def _named(name: str) -> Iterator[None]:
    """Context in which what is wrong with a table is said of the series."""
    try:
        yield
    except TableError as error:
        raise RunError(f"{name}: {error}") from error


def _can_draw(reporter: Reporter, number: int) -> bool:
    if find_spec("matplotlib") is not None:
        return True
    if not number:
        reporter.say("no picture without matplotlib: pip install 'worldmodel-gym[plots]'")
    return False


def _times(modality: SeriesFiles, times: np.ndarray) -> list[str]:
    """Times as they are written: dates, or numbers."""
    if not modality.description.dates:
        return [f"{time:g}" for time in times]
    dates = times.astype("datetime64[s]")
    is_day = bool((times % 86_400 == 0).all())
    return np.datetime_as_string(dates, unit="D" if is_day else "s").tolist()


def _number(value: Any) -> Any:
    if isinstance(value, float):
        return "" if np.isnan(value) else f"{value:.8g}"
    return "" if value is None else value


def _forecast_rows(modality: SeriesFiles, name: str, found: Forecast) -> Iterator[list[Any]]:
    """A row for each step and channel; of categories the share of draws of each word."""
    quantiles, times = found.quantiles(QUANTILES), _times(modality, found.times)
    for place, channel in enumerate(modality.channels):
        drawn = found.draws[..., place]
        for step, time in enumerate(times):
            if channel.levels:
                for level, word in enumerate(channel.levels):
                    share = float((drawn[:, step] == level).mean())
                    yield [name, time, f"{channel.name}={word}", _number(share)]
                continue
            numbers = [drawn[:, step].mean(), *quantiles[:, step, place]]
            yield [name, time, channel.name, *(_number(float(each)) for each in numbers)]


def _axis(modality: SeriesFiles, times: np.ndarray) -> Any:
    return times.astype("datetime64[s]") if modality.description.dates else times


def _observed(modality: SeriesFiles, block: Block) -> np.ndarray:
    """The values of a series in their own units, [T, C], NaN where they are missing."""
    encoded = modality.encode(block)
    return np.where(encoded["state"] == MISSING, np.nan, modality.numbered(encoded))


def _panels(modality: SeriesFiles) -> tuple[Any, list[tuple[int, Any]]]:
    """A figure, and the place and panel of each channel that it shows: no categories, if there
    are others."""
    from matplotlib.figure import Figure

    chosen = [n for n, c in enumerate(modality.channels) if not c.levels] or [0]
    chosen = chosen[:DRAWN]
    figure = Figure(figsize=(9, 1 + 2.2 * len(chosen)), layout="constrained")
    panels = figure.subplots(len(chosen), 1, sharex=True, squeeze=False)[:, 0]
    return figure, list(zip(chosen, panels, strict=True))


def _fan(path: Path, modality: SeriesFiles, block: Block, found: Forecast) -> None:
    """Draws the end of a series and the fan of what comes: intervals of 50, 80 and 95 %."""
    figure, panels = _panels(modality)
    observed = _observed(modality, block)
    _, length = modality.split(block)
    shown = slice(max(0, length - BEFORE * len(found.times)), length)
    times = modality.times(block)
    fan = found.quantiles(QUANTILES)
    for place, panel in panels:
        past = observed[shown, place]
        panel.plot(_axis(modality, times[shown]), past, color="black", linewidth=1)
        ahead = _axis(modality, found.times)
        for low, high, alpha in ((0, 6, 0.15), (1, 5, 0.25), (2, 4, 0.35)):
            low_line, high_line = fan[low, :, place], fan[high, :, place]
            panel.fill_between(ahead, low_line, high_line, color="C0", alpha=alpha, linewidth=0)
        panel.plot(ahead, fan[3, :, place], color="C0", linewidth=1.2)
        panel.set_ylabel(modality.channels[place].name)
    figure.savefig(path, dpi=120)


def _draw_nats(path: Path, modality: SeriesFiles, block: Block, nats: np.ndarray) -> None:
    """Draws a series, and how unlikely each value was, given all before."""
    figure, panels = _panels(modality)
    observed = _observed(modality, block)
    axis = _axis(modality, modality.times(block))
    for place, panel in panels:
        panel.plot(axis, observed[:, place], color="black", linewidth=0.8)
        panel.set_ylabel(modality.channels[place].name)
        beside = panel.twinx()
        beside.plot(axis, -nats[:, place], color="C3", linewidth=0.8, alpha=0.7)
        beside.set_ylabel("nats", color="C3")
    figure.savefig(path, dpi=120)
