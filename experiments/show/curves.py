"""Learning curves of runs: real returns over real steps, or losses over updates."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, cast

import cattrs
import numpy as np

from worldmodel.errors import naming_damage, printable
from worldmodel.experiments.runs.registry import config_of, experiment_named, named
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


class CurveSpec(NamedTuple):
    """The metrics that make an experiment's learning curve, and the figures of its runs."""

    stage: str  # of the lines that have a point each
    over: str  # the key of what the curve is over
    value: str  # the key of its values
    labels: Callable[[Any], tuple[str, str]]  # of a configuration: the axes in words
    less_is_better: bool
    figures: Callable[[Any], Mapping[str, str]]
    """Of a configuration: keys of evaluation.json by figure, the most telling first."""


def _frame(config: Any) -> str:
    return str(named(config.modality).frame)


RETURNS = CurveSpec(
    "evaluate",
    "real_steps",
    "real_return_mean",
    lambda config: ("real steps", "real return of the greedy agent"),
    False,
    lambda config: {
        "real return": "real_return_mean",
        "dreamt return": "dream_return_mean",
        "loss, nats per step": "nats_per_step",
    },
)
LOSSES = CurveSpec(
    "validate",
    "updates",
    "valid_nats",
    lambda config: ("updates", f"validation loss, nats per {_frame(config)}"),
    True,
    lambda config: {f"loss, nats per {_frame(config)}": f"nats_per_{_frame(config)}"},
)


def spec_named(experiment: str) -> CurveSpec:
    """The curve of an experiment."""
    return cast(CurveSpec, named(experiment_named(experiment).curve))


def spec_of(folder: RunFolder) -> CurveSpec:
    """The curve of a run's experiment."""
    return spec_named(folder.experiment)


class Group(NamedTuple):
    """Runs that differ only in their seeds."""

    label: str
    settings: Mapping[str, Any]  # those in which it differs from other groups
    runs: list[RunFolder]


class Curve(NamedTuple):
    """Runs that differ only in their seeds."""

    label: str
    steps: np.ndarray  # [n], what it is over: steps of the real environment, or updates
    returns: np.ndarray  # [runs, n], at these steps, as far as all runs have come


def curves_of(folders: Sequence[RunFolder]) -> list[Curve]:
    """The curves of runs; runs that differ only in their seeds are one curve."""
    axes_of(folders)
    return [
        curve_of(group.label, [points_of(folder) for folder in group.runs])
        for group in groups_of(folders)
    ]


def axes_of(folders: Sequence[RunFolder]) -> tuple[str, str]:
    """The axes of the curves, in words. Raises RunError for runs whose curves are of different
    things, which have no place in one picture."""
    first: dict[tuple[str, str], RunFolder] = {}
    for folder in folders:
        first.setdefault(spec_of(folder).labels(config_of(folder)), folder)
    if len(first) > 1:
        (one, of_one), (other, of_other) = list(first.items())[:2]
        raise RunError(
            f"{of_one.path} ({of_one.experiment}) has a {one[1]}, {of_other.path} "
            f"({of_other.experiment}) a {other[1]}: compare runs of one kind"
        )
    return next(iter(first))


def groups_of(folders: Sequence[RunFolder]) -> list[Group]:
    """Runs by all settings but their seeds."""
    groups: dict[str, list[RunFolder]] = {}
    config: dict[str, dict[str, Any]] = {}
    for folder in folders:
        kind = getattr(config_of(folder), "algorithm", folder.experiment)  # a baseline's algorithm
        settings = dict(flat({"experiment": kind} | _unstructured(folder)))
        settings = {key: value for key, value in settings.items() if key not in LEAVES_ALONE}
        groups.setdefault(str(settings), []).append(folder)
        config[str(settings)] = settings
    all_of_them = list(config.values())
    keys = dict.fromkeys(key for settings in all_of_them for key in settings)
    differing = [key for key in keys if len({str(s.get(key)) for s in all_of_them}) > 1]
    return [
        Group(label, {key: settings.get(key) for key in differing}, runs)
        for label, settings, runs in zip(
            _labels(all_of_them), all_of_them, groups.values(), strict=True
        )
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
    """The points of a run's curve, [n, 2]: what it is over, and its values there."""
    spec = spec_of(folder)
    with naming_damage(folder.metrics_file):
        found = {
            float(line[spec.over]): float(line[spec.value])
            for line in folder.metrics()
            if line["stage"] == spec.stage
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


def flat(tree: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, Any]]:
    """The leaves of nested settings, each with its path."""
    for key, value in tree.items():
        if isinstance(value, Mapping):
            yield from flat(value, f"{path}{key}.")
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
    over, value = axes_of(folders)
    axes.set(xlabel=over, ylabel=value)
    environments = {environment_of(folder) for folder in folders}
    if len(environments) == 1:
        axes.set_title(printable(environments.pop()))
    axes.grid(alpha=0.3)
    figure.legend(loc="outside lower center", frameon=False)
    with writing(path) as part:
        figure.savefig(part, dpi=120)


def environment_of(folder: RunFolder) -> str:
    """The environment of a run; its experiment, where there is none."""
    config = dict(flat(_unstructured(folder)))
    return str(config.get("environment.env") or config.get("env") or folder.experiment)
