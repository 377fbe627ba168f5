"""Comparison of runs: what their settings differ in, and what came of it.

Runs that differ in their seeds alone are one group, whose figures are means with intervals.
"""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from rich.table import Table
from rich.text import Text

from worldmodel.errors import naming_damage, printable
from worldmodel.experiments.measure.intervals import interquartile_mean, mean_of
from worldmodel.experiments.runs.registry import config_of
from worldmodel.experiments.runs.trained import run_at
from worldmodel.experiments.show.curves import (
    Curve,
    axes_of,
    curve_of,
    environment_of,
    groups_of,
    points_of,
    spec_of,
)
from worldmodel.run_folder import RunError, RunFolder

IQM_FROM = 3  # runs


class Estimate(NamedTuple):
    """A figure of a group."""

    values: list[float | None]  # of each run; None: it has no such figure
    mean: float
    ci95: list[float] | None  # a bootstrap interval of the mean; None: of one run
    iqm: float | None  # interquartile mean; None: of fewer than `IQM_FROM` runs
    iqm_ci95: list[float] | None


class Group(NamedTuple):
    """Runs that differ in their seeds alone."""

    label: str
    settings: Mapping[str, Any]  # in which it differs from other groups
    runs: list[RunFolder]
    seeds: list[int]
    curve: Curve | None  # None: they were not evaluated in training
    figures: dict[str, Estimate]


class Compared(NamedTuple):
    """All that is known of several runs."""

    axes: tuple[str, str]  # of the curves
    about: str  # the environment, or the kind of recordings
    figures: list[str]  # the most telling first
    groups: list[Group]
    less_is_better: bool  # of the curves


def folders_in(paths: Sequence[Path]) -> list[RunFolder]:
    """The runs that paths name: a run, its packed file or name, or a folder of runs."""
    found: dict[Path, RunFolder] = {}
    for path in map(run_at, paths):
        for place in _runs_below(path) or [path]:
            found.setdefault(place.resolve(), RunFolder.open(place))
    return list(found.values())


def _runs_below(path: Path) -> list[Path]:
    """The runs in a folder that is none itself, or in its folders."""
    if (path / "config.json").exists():
        return []
    return sorted(
        file.parent for depth in (1, 2) for file in path.glob("*/" * depth + "config.json")
    )


def compared(folders: Sequence[RunFolder]) -> Compared:
    """All figures of runs; RunError for runs of different kinds."""
    axes = axes_of(folders)
    spec = spec_of(folders[0])
    groups = []
    for group in groups_of(folders):
        of_runs = [figures_of(folder) for folder in group.runs]
        points = []
        for folder in group.runs:
            with suppress(RunError):
                points.append(points_of(folder))
        curve = curve_of(group.label, points) if points else None
        keys = dict.fromkeys(name for of_run in of_runs for name in of_run)
        figures = {name: estimated([of_run.get(name) for of_run in of_runs]) for name in keys}
        seeds = [_seed(folder) for folder in group.runs]
        groups.append(Group(group.label, group.settings, group.runs, seeds, curve, figures))
    names = list(dict.fromkeys(name for group in groups for name in group.figures))
    if not names:
        raise RunError(
            f"there is nothing to compare yet: {folders[0].path} was neither evaluated in "
            "training nor at its end"
        )
    environments = dict.fromkeys(map(environment_of, folders))
    return Compared(axes, ", ".join(environments), names, groups, spec.less_is_better)


def figures_of(folder: RunFolder) -> dict[str, float]:
    """The figures of a run by name: of its evaluation, where there is one, and of its curve."""
    spec, config = spec_of(folder), config_of(folder)
    found: dict[str, float] = {}
    with naming_damage(folder.evaluation_file):
        if result := folder.evaluation():
            known = {name: result.get(key) for name, key in spec.figures(config).items()}
            found = {name: float(value) for name, value in known.items() if value is not None}
    with suppress(RunError):
        values = points_of(folder)[:, 1]
        found["last of the curve"] = float(values[-1])
        found["best of the curve"] = float(values.min() if spec.less_is_better else values.max())
    return found


def estimated(values: Sequence[float | None]) -> Estimate:
    """Mean and interquartile mean of a figure over the runs that have it, with their intervals."""
    sample = [np.array([value for value in values if value is not None], float)]
    mean, interval = mean_of(sample)
    if len(sample[0]) < IQM_FROM:
        return Estimate(list(values), mean, interval, None, None)
    return Estimate(list(values), mean, interval, *interquartile_mean(sample))


def _seed(folder: RunFolder) -> int:
    config = config_of(folder)
    return int(getattr(config, "agent", config).seed)


def as_json(found: Compared) -> dict[str, Any]:
    """The same for JSON."""
    return {
        "over": found.axes[0],
        "value": found.axes[1],
        "of": found.about,
        "groups": [
            {
                "label": group.label,
                "settings": dict(group.settings),
                "runs": [str(folder.path) for folder in group.runs],
                "seeds": group.seeds,
                "figures": {name: e._asdict() for name, e in group.figures.items()},
                "curve": None
                if group.curve is None
                else {"over": group.curve.steps.tolist(), "values": group.curve.returns.tolist()},
            }
            for group in found.groups
        ],
    }


def tables(found: Mapping[str, Any]) -> list[Table]:
    """The figures of `as_json` for a terminal."""
    groups = found["groups"]
    names = list(dict.fromkeys(name for group in groups for name in group["figures"]))
    table = Table(title=printable(found["of"]), box=None)
    table.add_column("", overflow="fold")
    for name in ("runs", *names):
        table.add_column(name, justify="right")
    for group in groups:
        label = Text(printable(group["label"]))
        table.add_row(
            label, str(len(group["runs"])), *(_told(group["figures"].get(name)) for name in names)
        )
    table.caption = "mean, [95 % interval over seeds], interquartile mean of three runs or more"
    return [table]


def _told(figure: Mapping[str, Any] | None) -> str:
    if figure is None:
        return ""
    words = f"{figure['mean']:.4g}"
    if figure["ci95"] is not None:
        words += "\n[{:.4g}, {:.4g}]".format(*figure["ci95"])
    return words + (f"\nIQM {figure['iqm']:.4g}" if figure["iqm"] is not None else "")
