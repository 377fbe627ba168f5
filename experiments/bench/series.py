"""Time series of a known law, and of public sets, beside baselines fitted to the same rows.

    worldmodel bench series --on elnino --seeds 1 [--json]

chain         an oscillation with noise, linear-Gaussian, a third of whose values is missing: its
              Kalman filter skips them. The gap is in nats a value; anomalies are `SHIFT` standard
              deviations that are added to some values.
public sets   the last tenth of each series is scored once, the tenth before it validates; figures
              are those of `worldmodel evaluate`. docs/results.md lists expected results.
"""

import csv
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import datetime
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.table import Table

from worldmodel.experiments.bench.settings import SeriesSettings
from worldmodel.experiments.bench.table import table
from worldmodel.experiments.data.readers.tables import read_table
from worldmodel.experiments.measure.forecasts import area_under_roc
from worldmodel.experiments.recordings.config import SeriesScoreConfig
from worldmodel.experiments.recordings.model import RecordingsModel, sequence_model
from worldmodel.experiments.recordings.series import SeriesFiles, part_of
from worldmodel.experiments.recordings.series_figures import NAMES, figures
from worldmodel.experiments.runs.interruption import stoppable
from worldmodel.progress import Reporter
from worldmodel.run_folder import RunError
from worldmodel.sequence_model.forecasting import values_nats
from worldmodel.sequence_model.tables import Block
from worldmodel.testing.exact import Chain

CHAIN_ROWS, CHAIN_SERIES = 500, 200  # rows of each series of the chain, and their number
MISSING = 1 / 3
SHIFT, SHIFTED = 4.0, 0.01  # standard deviations that are added, to a share of values
UPDATES = 600
PERIOD, DAMPING, NOISE = 12, 0.95, 0.3  # of the oscillation: rows, a row's factor, a variance
EXTRA = "pip install 'worldmodel-gym[bench-series]'"

Recipe = dict[str, Any]
RECIPES: dict[str, Recipe] = {
    "chain": {
        **{"by": "series", "history": 8, "hidden_size": 48, "decoder_hidden": 48, "dropout": 0.0},
        **{"learning_rate": 0.004, "weight_decay": 0.0, "piece": 250, "batch_size": 64},
        "updates": 3_000,
    },
    "elnino": {"time": "time"},
    "equipment": {"time": "time", "learning_rate": 0.0003},
    "co2": {"time": "date", "history": 54},
    "weather": {"time": "date"},
    "sunspots": {"learning_rate": 0.0003},
}
"""Options of each set, found on the parts that validate."""


def run(settings: SeriesSettings, reporter: Reporter) -> dict[str, Any]:
    """Trains and scores a model of each set with each of the seeds."""
    torch.set_num_threads(settings.threads)
    rows: list[dict[str, Any]] = []
    with stoppable(reporter), tempfile.TemporaryDirectory() as place:
        for name in settings.on:
            for seed in range(1 if settings.quick else settings.seeds):
                for row in measured(name, seed, settings, Path(place)):
                    rows.append(row)
                    reporter.say(", ".join(f"{k} {_shown(v)}" for k, v in row.items()))
    return {"rows": rows, "scored": "valid" if settings.valid else "test"}


def measured(
    name: str, seed: int, settings: SeriesSettings, place: Path
) -> Iterator[dict[str, Any]]:
    """The rows of a set: the model's, and the baselines'."""
    file = SETS[name](place, seed, settings.quick)
    options = {"updates": UPDATES, "seed": seed} | RECIPES[name]
    options |= {"updates": settings.updates} if settings.updates else {}
    if settings.quick:
        options |= {"updates": 2, "hidden_size": 4, "decoder_hidden": 4, "validations": 1}
    model = sequence_model("series", file, **options)
    begun = time.process_time()
    model.fit()
    busy = time.process_time() - begun
    scored = model.stores["valid" if settings.valid else "test"]
    score = SeriesScoreConfig(origins=10 if settings.quick else 40)
    found = figures(model, scored, score)
    common = {"set": name, "seed": seed}
    for kind in NAMES:
        each = found[kind]
        row = common | {"of": NAMES[kind], "nats": each["nats"], "crps": each["crps"]}
        row |= {f"in {share}": value for share, value in each["coverage"].items()}
        if kind == "model":
            row |= {"updates": model.updates, "processor_seconds": busy}
            row |= chain_figures(model, scored, seed) if name == "chain" else {}
        yield row


# The law that is known.


def law() -> Chain:
    """A damped oscillation of unit variance, of which one of two latents is seen, with noise."""
    angle = torch.tensor(2 * torch.pi / PERIOD, dtype=torch.float64)
    rotation = torch.stack([angle.cos(), -angle.sin(), angle.sin(), angle.cos()]).reshape(2, 2)
    one = torch.ones(2, dtype=torch.float64)
    return Chain(
        DAMPING * rotation,
        torch.eye(2, dtype=torch.float64)[:1],
        one,
        (1 - DAMPING**2) * one,
        NOISE * one[:1],
    )


def chain_file(place: Path, seed: int, quick: bool) -> Path:
    """Series of the chain, some values missing, in one table."""
    path, number = place / f"chain-{seed}.npz", 4 if quick else CHAIN_SERIES
    with torch.random.fork_rng():
        torch.manual_seed(1_000 + seed)
        _, values = law().sample(CHAIN_ROWS, number)
    random = np.random.default_rng(seed)
    whole = values.transpose(0, 1).flatten(0, 1).numpy().copy()
    whole[random.random(whole.shape) < MISSING] = np.nan
    names = np.repeat(np.arange(number), CHAIN_ROWS)
    np.savez(path, series=names, value=whole[:, 0])
    return path


def chain_figures(model: RecordingsModel, store: Any, seed: int) -> dict[str, float]:
    """The gap to the Kalman filter, nats a value, and how both rank anomalies that are added."""
    modality, random = model.modality, np.random.default_rng(100 + seed)
    assert isinstance(modality, SeriesFiles)
    gaps: list[np.ndarray] = []
    ranked: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
    for number in range(len(store)):
        part = part_of(store.select(np.array([number])).columns)
        there = part.observation["state"] > 0
        values = np.where(there, modality.numbered(part.observation), np.nan)
        own = values_nats(model.model, modality, part.observation, part.actions)
        gap = _filtered(values) - own
        gaps.append(gap[part.first :][there[part.first :]])
        shifted = there & (random.random(there.shape) < SHIFTED)
        shifted[: part.first] = False
        sign = random.choice([-1.0, 1.0], there.shape)
        changed = values + np.where(shifted, SHIFT * sign * np.sqrt(1 + NOISE), 0.0)
        encoded = modality.encode(Block({"value": changed[:, 0]}, ""))
        after = values_nats(model.model, modality, encoded, part.actions)
        exact = _filtered(changed)
        chosen = ~np.isnan(changed)
        chosen[: part.first] = False
        ranked.append((-after[chosen], -exact[chosen], shifted[chosen]))
    own_scores, exact_scores, positive = map(np.concatenate, zip(*ranked, strict=True))
    return {
        "gap": float(np.concatenate(gaps).mean()),
        "roc": area_under_roc(own_scores, positive),
        "roc_kalman": area_under_roc(exact_scores, positive),
        "anomalies": int(positive.sum()),
    }


def _filtered(values: np.ndarray) -> np.ndarray:
    """The Kalman filter's log density of each value [T, 1], NaN where missing."""
    return law().value_log_prob(torch.from_numpy(values)[:, None])[1][:, 0].numpy()


# Public sets.


def _inside(package: str, *parts: str) -> Path:
    """A file of a package, which is not imported."""
    spec = find_spec(package)
    path = (
        None if spec is None or spec.origin is None else Path(spec.origin).parent.joinpath(*parts)
    )
    if path is None or not path.is_file():
        raise RunError(f"this set comes with {package}, which is missing: {EXTRA}")
    return path


def elnino_file(place: Path, seed: int, quick: bool) -> Path:
    """Sea surface temperatures, a month a row."""
    years = read_table(_inside("statsmodels", "datasets", "elnino", "elnino.csv"))
    months = [name for name in years if name != "YEAR"]
    rows = [
        [f"{int(year)}-{month:02d}-01", years[name][n]]
        for n, year in enumerate(years["YEAR"])
        for month, name in enumerate(months, 1)
    ]
    return _written(place / "elnino.csv", ["time", "temperature"], rows)


def equipment_file(place: Path, seed: int, quick: bool) -> Path:
    """Production of electrical equipment in the euro area, a month a row."""
    with open(_inside("statsmodels", "datasets", "elec_equip", "elec_equip.csv")) as file:
        _, *rows = csv.reader(file)
    dated = [[datetime.strptime(day, "%b-%d-%Y").date(), value] for day, value in rows]
    return _written(place / "equipment.csv", ["time", "production"], dated)


def co2_file(place: Path, seed: int, quick: bool) -> Path:
    """Carbon dioxide at Mauna Loa, a week a row, some of them missing."""
    with open(_inside("statsmodels", "datasets", "co2", "co2.csv"), newline="") as file:
        header, *rows = csv.reader(file)
    return _written(place / "co2.csv", header, [[f"{d[:4]}-{d[4:6]}-{d[6:]}", v] for d, v in rows])


def weather_file(place: Path, seed: int, quick: bool) -> Path:
    """The weather of Seattle, a day a row: four numbers and a word."""
    return _inside("vega_datasets", "_data", "seattle-weather.csv")


def sunspots_file(place: Path, seed: int, quick: bool) -> Path:
    """Sunspots, a year a row."""
    years = read_table(_inside("statsmodels", "datasets", "sunspots", "sunspots.csv"))
    rows = [[value] for value in years["SUNACTIVITY"]]
    return _written(place / "sunspots.csv", ["sunspots"], rows)


def _written(path: Path, header: list[str], rows: list[list[Any]]) -> Path:
    with open(path, "w", newline="") as file:
        csv.writer(file).writerows([header, *rows])
    return path


SETS: dict[str, Callable[[Path, int, bool], Path]] = {
    "chain": chain_file,
    "elnino": elnino_file,
    "equipment": equipment_file,
    "co2": co2_file,
    "weather": weather_file,
    "sunspots": sunspots_file,
}


def _shown(value: Any) -> str:
    return f"{value:.4f}" if isinstance(value, float) else str(value)


def tables(result: dict[str, Any]) -> list[Table]:
    """The results as tables."""
    rows = [
        [
            f"{row['set']}, seed {row['seed']}, {row['of']}",
            "" if row["nats"] is None else f"{row['nats']:.4f}",
            f"{row['crps']:.4f}",
            *(f"{value:.3f}" for key, value in row.items() if key.startswith("in ")),
        ]
        for row in result["rows"]
    ]
    columns = ["series", "nats a value", "CRPS", "in 50%", "in 80%", "in 95%"]
    found = [table(f"forecasts ({result['scored']} part)", columns, rows)]
    chains = [row for row in result["rows"] if "gap" in row]
    if chains:
        found.append(
            table(
                "beside the Kalman filter that skips what is missing",
                ["chain", "gap, nats a value", "ROC", "the filter's"],
                [
                    [
                        f"seed {r['seed']}",
                        f"{r['gap']:.4f}",
                        f"{r['roc']:.4f}",
                        f"{r['roc_kalman']:.4f}",
                    ]
                    for r in chains
                ],
            )
        )
    return found
