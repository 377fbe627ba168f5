"""Learning curves of runs: the real return over the steps of the real environment."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import cattrs
import numpy as np

from worldmodel.errors import naming_damage, printable
from worldmodel.experiments.runs.registry import config_of
from worldmodel.files import writing
from worldmodel.run_folder import RunError, RunFolder

# Settings in which runs of one curve may differ: they do not change the experiment.
LEAVES_ALONE = {
    "seed",
    "agent.seed",
    "threads",
    "checkpoint_seconds",
    "environment.workers",
    "environment.env_path",
}

SHOWN = 3  # settings in a curve's label


class Curve(NamedTuple):
    """Runs that differ only in their seeds."""

    label: str
    steps: np.ndarray  # [n], of the real environment
    returns: np.ndarray  # [runs, n], at these steps, as far as all runs have come


def curves_of(folders: Sequence[RunFolder]) -> list[Curve]:
    """The curves of runs; runs that differ only in their seeds are one curve."""
    groups: dict[str, list[RunFolder]] = {}
    config: dict[str, dict[str, Any]] = {}
    for folder in folders:
        kind = getattr(config_of(folder), "algorithm", folder.experiment)  # a baseline's algorithm
        settings = dict(_flat({"experiment": kind} | _unstructured(folder)))
        settings = {key: value for key, value in settings.items() if key not in LEAVES_ALONE}
        groups.setdefault(str(settings), []).append(folder)
        config[str(settings)] = settings
    names = _labels(list(config.values()))
    return [
        curve_of(label, [points_of(folder) for folder in runs])
        for label, runs in zip(names, groups.values(), strict=True)
    ]


def curve_of(label: str, points: Sequence[np.ndarray]) -> Curve:
    """The curve of runs, each of [n, 2] as `points_of` reads them: as far as all have come."""
    steps = np.unique(np.concatenate([of_run[:, 0] for of_run in points]))
    begin, end = max(p[0, 0] for p in points), min(p[-1, 0] for p in points)
    steps = steps[(begin <= steps) & (steps <= end)]
    if len(points) > 1:
        label = f"{label} ({len(points)} runs)"
    return Curve(label, steps, np.stack([np.interp(steps, *of_run.T) for of_run in points]))


def points_of(folder: RunFolder) -> np.ndarray:
    """Real steps and the mean real return after them, [n, 2]."""
    with naming_damage(folder.metrics_file):
        found = {
            float(line["real_steps"]): float(line["real_return_mean"])
            for line in folder.metrics()
            if line["stage"] == "evaluate"
        }
    if not found:
        raise RunError(f"{folder.path} has no learning curve: it was never evaluated in training")
    return np.array(sorted(found.items()), float)


def _labels(settings: Sequence[Mapping[str, Any]]) -> list[str]:
    """A label for each, of the settings in which it differs from others of its experiment.

    >>> _labels([{"experiment": "x", "a.b": 1, "c": 2}, {"experiment": "x", "a.b": 3, "c": 2}])
    ['b=1', 'b=3']
    """
    kinds = {config["experiment"] for config in settings}
    names = []
    for config in settings:
        rivals = [other for other in settings if other["experiment"] == config["experiment"]]
        differing = [key for key in config if len({str(r[key]) for r in rivals}) > 1]
        parts = [f"{key.rpartition('.')[2]}={config[key]}" for key in differing[:SHOWN]]
        parts += [f"{len(differing) - SHOWN} more"] * (len(differing) > SHOWN)
        own_kind = [config["experiment"]] if len(kinds) > 1 or not parts else []
        names.append(", ".join(own_kind + parts))
    return names


def _unstructured(folder: RunFolder) -> dict[str, Any]:
    return dict(cattrs.unstructure(config_of(folder)))


def _flat(tree: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in tree.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{path}{key}.")
        else:
            yield f"{path}{key}", value


def plot(folders: Sequence[RunFolder], path: Path, thresholds: Sequence[float] = ()) -> None:
    """Draws each curve's mean, and the range of its runs as a band; thresholds are dashed lines.
    Needs matplotlib."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    with rc_context({"text.parse_math": False}):  # names are shown as they are
        _plot(Figure(figsize=(7, 4.5), layout="constrained"), folders, path, thresholds)


def _plot(
    figure: Any, folders: Sequence[RunFolder], path: Path, thresholds: Sequence[float]
) -> None:
    axes = figure.subplots()
    for curve in curves_of(folders):
        (line,) = axes.plot(curve.steps, curve.returns.mean(0), label=printable(curve.label))
        if len(curve.returns) > 1:
            low, high = curve.returns.min(0), curve.returns.max(0)
            axes.fill_between(curve.steps, low, high, color=line.get_color(), alpha=0.2, lw=0)
    for threshold in thresholds:
        axes.axhline(threshold, color="0.4", linestyle="--", linewidth=1)
    axes.set(xlabel="real steps", ylabel="real return of the greedy agent")
    environments = {_environment(folder) for folder in folders}
    if len(environments) == 1:
        axes.set_title(printable(environments.pop()))
    axes.grid(alpha=0.3)
    figure.legend(loc="outside lower center", frameon=False)
    with writing(path) as part:
        figure.savefig(part, dpi=120)


def _environment(folder: RunFolder) -> str:
    config = dict(_flat(_unstructured(folder)))
    return str(config.get("environment.env") or config.get("env") or folder.experiment)
