"""Figures of the public suite, from its runs: scores, steps to thresholds, tables, a picture.

A run's figure is its last evaluation. Its score is 0 at the return of random play and 1 at the
task's threshold; over runs and tasks it is aggregated by the interquartile mean, with a bootstrap
interval that is stratified by task (Agarwal et al. 2021, https://arxiv.org/abs/2108.13264).
"""

import gzip
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from rich.table import Table
from rich.text import Text

from worldmodel.agents.training import IN_A_ROW
from worldmodel.errors import printable
from worldmodel.experiments.bench.suite_tasks import SOURCES, TASKS, Task
from worldmodel.experiments.bench.table import table
from worldmodel.experiments.measure.intervals import interquartile_mean
from worldmodel.experiments.show.curves import Curve, curve_of
from worldmodel.files import writing

NO_POINTS = np.empty((0, 2))
OF_CURVE = 999  # resamples at each place of a curve
SHARES = np.linspace(0, 1, 51)  # of a task's real steps, at which scores are aggregated


class Outcome(NamedTuple):
    """A run of the suite, as far as it has come."""

    task: str
    method: str
    seed: int
    state: str  # finished, unfinished, failed or new
    sentence: str = ""  # on why it is not finished
    points: np.ndarray = NO_POINTS  # [n, 2], real steps and mean returns of its evaluations
    seconds: float | None = None
    final: tuple[float, float] | None = None  # mean returns of 100 episodes, real and dreamt

    @property
    def is_finished(self) -> bool:
        return self.state == "finished"


def held_from(task: Task, points: np.ndarray, times: int = IN_A_ROW) -> float | None:
    """Real steps after which the threshold is reached `times` evaluations in a row, at the first
    of these; None: never. points: [n, 2]."""
    reached = [task.is_reached(value) for _, value in points]
    for place in range(len(reached) - times + 1):
        if all(reached[place : place + times]):
            return float(points[place, 0])
    return None


def row_of(outcome: Outcome) -> dict[str, Any]:
    """The figures of a run; those that it has not got are None."""
    task, points = TASKS[outcome.task], outcome.points
    last = float(points[-1, 1]) if len(points) else None
    return {
        "task": outcome.task,
        "method": outcome.method,
        "seed": outcome.seed,
        "state": outcome.state,
        "sentence": outcome.sentence,
        "real_steps": int(points[-1, 0]) if len(points) else 0,
        "return": last,
        "final": outcome.final,
        "score": None if last is None else task.score(last),
        "first_at": held_from(task, points, 1),
        "held_from": held_from(task, points),
        "seconds": outcome.seconds,
    }


def result_of(outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """All figures of the suite."""
    rows = [row_of(outcome) for outcome in outcomes]
    finished = [row for row in rows if row["state"] == "finished"]
    return {
        "methods": overall(finished),
        "tasks": summaries(finished),
        "runs": rows,
        "published": [
            {"task": name, "threshold": TASKS[name].threshold, **figure._asdict()}
            for name in dict.fromkeys(row["task"] for row in rows)
            for figure in TASKS[name].published
        ],
    }


def summaries(finished: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """A row for each task and method that has finished runs."""
    groups: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for row in finished:
        groups.setdefault((row["task"], row["method"]), []).append(row)
    order = {name: number for number, name in enumerate(TASKS)}
    return [
        _summary(*names, group)
        for names, group in sorted(groups.items(), key=lambda item: order[item[0][0]])
    ]


def _summary(name: str, method: str, runs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    returns = np.array([run["return"] for run in runs])
    held = [np.inf if run["held_from"] is None else run["held_from"] for run in runs]
    median = float(np.median(held))
    final = [run["final"] for run in runs if run["final"] is not None]
    return {
        "task": name,
        "method": method,
        "threshold": TASKS[name].threshold,
        "steps": TASKS[name].steps,
        "runs": len(runs),
        "return_mean": float(returns.mean()),
        "return_range": [float(returns.min()), float(returns.max())],
        "final_mean": np.mean(final, 0).tolist() if final else None,
        "score": interquartile_mean([np.array([run["score"] for run in runs])])[0],
        "held": int(np.isfinite(held).sum()),
        "held_from_median": median if np.isfinite(median) else None,
    }


def overall(finished: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Aggregated scores by method: over all of its tasks, and over those of all methods."""
    scores: dict[str, dict[str, list[float]]] = {}
    for row in finished:
        scores.setdefault(row["method"], {}).setdefault(row["task"], []).append(row["score"])
    common = set.intersection(*map(set, scores.values())) if scores else set()
    figures = {}
    for method, by_task in scores.items():
        figures[method] = _aggregated(by_task)
        shared = {name: values for name, values in by_task.items() if name in common}
        figures[method]["common"] = _aggregated(shared) if shared else None
    return figures


def _aggregated(by_task: Mapping[str, Sequence[float]]) -> dict[str, Any]:
    mean, interval = interquartile_mean([np.array(values) for values in by_task.values()])
    runs = sum(map(len, by_task.values()))
    return {"iqm": mean, "ci95": interval, "tasks": len(by_task), "runs": runs}


def write_scores(outcomes: Iterable[Outcome], folder: Path) -> list[Path]:
    """Writes the evaluations of finished runs, a file for each method, as DreamerV3 publishes its
    scores: a gzipped JSON list of task, method, seed, xs (real steps), ys (returns)."""
    by_method: dict[str, list[dict[str, Any]]] = {}
    for outcome in outcomes:
        if outcome.is_finished:
            record = {"task": outcome.task, "method": outcome.method, "seed": str(outcome.seed)}
            record |= {"xs": outcome.points[:, 0].tolist(), "ys": outcome.points[:, 1].tolist()}
            by_method.setdefault(outcome.method, []).append(record)
    files = []
    for method, records in by_method.items():
        folder.mkdir(parents=True, exist_ok=True)
        files.append(folder / f"suite-{slug(method)}.json.gz")
        with writing(files[-1]) as part:
            part.write_bytes(gzip.compress(json.dumps(records).encode(), mtime=0))
    return files


def slug(name: str) -> str:
    """A name as that of a file or a folder.

    >>> slug("own --agent sb3:PPO"), slug("MinAtar/Breakout-v1")
    ('own-agent-sb3-PPO', 'MinAtar-Breakout-v1')
    """
    words = "".join(letter if letter.isalnum() or letter in "._" else " " for letter in name)
    return "-".join(words.split())


def named(method: str, task: Task) -> str:
    """The name of a method with the algorithm that fits the task, where it is `sb3`.

    >>> named("sb3", TASKS["Pendulum-v1"]), named("own", TASKS["Pendulum-v1"])
    ('sb3:SAC', 'own')
    """
    first, separator, options = method.partition(" ")
    return (f"sb3:{task.rival}" if first == "sb3" else first) + separator + options


Rows = list[tuple[str, ...]]
OF_METHODS = ("method", "IQM", "95 %", "tasks", "runs", "of common tasks", "95 %", "tasks")
OF_TASKS = (
    "task",
    "wanted",
    "within",
    "method",
    "runs",
    "return",
    "range",
    "at the end, real and dreamt",
    "score",
    "held",
    "from",
)
NARROW = (0, 3, 4, 5, 1, 7, 8, 9, 10)  # columns of OF_TASKS for a terminal, in this order
OF_PUBLISHED = ("task", "wanted", "published", "return", "steps", "source")


def rows_of_methods(result: Mapping[str, Any]) -> Rows:
    """Aggregated scores, as text."""
    rows = []
    for method, all_of_it in result["methods"].items():
        common = all_of_it["common"]
        cells = [method, f"{all_of_it['iqm']:.2f}", _interval(all_of_it["ci95"])]
        cells += [str(all_of_it["tasks"]), str(all_of_it["runs"])]
        if common is None:
            cells += ["none", "", "0"]
        else:
            cells += [f"{common['iqm']:.2f}", _interval(common["ci95"]), str(common["tasks"])]
        rows.append(tuple(cells))
    return rows


def rows_of_tasks(result: Mapping[str, Any]) -> Rows:
    """Figures by task and method, as text."""
    return [
        (
            row["task"],
            _wanted(TASKS[row["task"]]),
            f"{row['steps']:,}",
            named(row["method"], TASKS[row["task"]]),
            str(row["runs"]),
            _number(row["return_mean"]),
            " to ".join(map(_number, row["return_range"])),
            " ".join(map(_number, row["final_mean"] or ())),
            f"{row['score']:.2f}",
            f"{row['held']}",
            "never" if row["held_from_median"] is None else f"{row['held_from_median']:,.0f}",
        )
        for row in result["tasks"]
    ]


def rows_of_published(result: Mapping[str, Any]) -> Rows:
    """Published figures, as text."""
    return [
        (
            row["task"],
            _wanted(TASKS[row["task"]]),
            row["by"],
            _number(row["value"]),
            "not said" if row["steps"] is None else f"{row['steps']:,}",
            row["source"],
        )
        for row in result["published"]
    ]


def _interval(interval: Sequence[float] | None) -> str:
    return "one run" if interval is None else "{:.2f} to {:.2f}".format(*interval)


def _number(value: float) -> str:
    return f"{value:,.3f}" if abs(value) < 2 else f"{value:,.1f}"


def _wanted(task: Task) -> str:
    return f"{'> ' * task.is_above}{task.threshold:,g}"


def tables(result: Mapping[str, Any]) -> list[Table]:
    """The tables of `bench suite`."""
    made = []
    if result["tasks"]:
        made.append(table("normalised scores", OF_METHODS, rows_of_methods(result)))
        rows = [tuple(row[place] for place in NARROW) for row in rows_of_tasks(result)]
        made.append(_folding("tasks", [OF_TASKS[place] for place in NARROW], rows))
    if result["published"]:
        columns, rows = OF_PUBLISHED, rows_of_published(result)
        made.append(_folding("published, by protocols of their own", columns, rows))
    left = [run for run in result["runs"] if run["state"] != "finished"]
    if left:
        names = ("task", "method", "seed", "state", "sentence")
        made.append(Table(*names, title="not finished", box=None))
        for run in left:
            made[-1].add_row(*(Text(printable(str(run[name]))) for name in names))
    return made


def _folding(title: str, columns: Sequence[str], rows: Rows) -> Table:
    """A table whose first column is folded where the terminal is narrow."""
    made = table(title, columns, rows)
    made.columns[0].no_wrap, made.columns[0].overflow = False, "fold"
    return made


def markdown(result: Mapping[str, Any]) -> str:
    """The same tables for a page, of tasks that have finished runs."""
    there = {row["task"] for row in result["tasks"]}
    published = [row for row in result["published"] if row["task"] in there]
    result = {**result, "published": published}
    parts = [(OF_METHODS, rows_of_methods(result)), (OF_TASKS, rows_of_tasks(result))]
    parts.append((OF_PUBLISHED, rows_of_published(result)))
    pages = [_markdown(columns, rows) for columns, rows in parts if rows]
    used = [name for name in SOURCES if any(row["source"] == name for row in published)]
    pages += ["".join(f"- {name}: {SOURCES[name]}\n" for name in used)] * bool(used)
    return "\n".join(pages)


def _markdown(columns: Sequence[str], rows: Rows) -> str:
    lines = [columns, ["---"] * len(columns), *rows]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)


def plot(outcomes: Sequence[Outcome], path: Path) -> None:
    """Draws scores over the share of the real steps, aggregated over tasks, and each task's
    curves: means, and ranges of seeds as bands. Needs matplotlib."""
    from matplotlib.figure import Figure

    finished = [outcome for outcome in outcomes if outcome.is_finished]
    names = [name for name in TASKS if any(outcome.task == name for outcome in finished)]
    methods = list(dict.fromkeys(outcome.method for outcome in finished))
    colours = {method: f"C{number}" for number, method in enumerate(methods)}
    columns = min(5, len(names) + 1)
    height = -(-(len(names) + 1) // columns)
    figure = Figure(figsize=(3.1 * columns + 0.4, 2.5 * height + 0.6), layout="constrained")
    panels = figure.subplots(height, columns, squeeze=False).flatten()
    for panel in panels[len(names) + 1 :]:
        panel.set_axis_off()
    for method in methods:
        of_method = [outcome for outcome in finished if outcome.method == method]
        means, low, high = aggregated_curve(of_method)
        label = f"{method}, {len({outcome.task for outcome in of_method})} tasks"
        panels[0].plot(100 * SHARES, means, color=colours[method], label=label)
        panels[0].fill_between(100 * SHARES, low, high, color=colours[method], alpha=0.2, lw=0)
        for panel, name in zip(panels[1:], names, strict=False):
            runs = [outcome.points for outcome in of_method if outcome.task == name]
            if runs:
                _draw(panel, curve_of(method, runs), colours[method])
    panels[0].set_title("IQM of scores by % of the steps", fontsize=9)
    panels[0].axhline(1, color="0.4", linestyle="--", linewidth=1)
    for panel, name in zip(panels[1:], names, strict=False):
        panel.axhline(TASKS[name].threshold, color="0.4", linestyle="--", linewidth=1)
        panel.axhline(TASKS[name].random, color="0.7", linestyle=":", linewidth=1)
        panel.set_title(name, fontsize=9)
    for panel in panels[max(1, len(names) + 1 - columns) : len(names) + 1]:  # lowest of a column
        panel.set_xlabel("real steps", fontsize=8)
    for panel in panels:
        panel.tick_params(labelsize=8)
        panel.grid(alpha=0.3)
    figure.legend(loc="outside lower center", frameon=False, ncols=len(methods))
    with writing(path) as part:
        figure.savefig(part, dpi=120)


def _draw(panel: Any, curve: Curve, colour: str) -> None:
    marker = "o" if len(curve.steps) == 1 else ""
    panel.plot(curve.steps, curve.returns.mean(0), color=colour, marker=marker)
    if len(curve.returns) > 1:
        low, high = curve.returns.min(0), curve.returns.max(0)
        panel.fill_between(curve.steps, low, high, color=colour, alpha=0.2, lw=0)


def aggregated_curve(outcomes: Sequence[Outcome]) -> np.ndarray:
    """The interquartile mean of scores and its interval at `SHARES` of the real steps, [3, n].
    Before its first evaluation a run counts as random play, which it is."""
    by_task: dict[str, list[np.ndarray]] = {}
    for outcome in outcomes:
        task, (steps, returns) = TASKS[outcome.task], outcome.points.T
        known = np.concatenate([[0], steps]), np.concatenate([[0], list(map(task.score, returns))])
        by_task.setdefault(outcome.task, []).append(np.interp(SHARES * steps[-1], *known))
    found = []
    for place in range(len(SHARES)):
        samples = [np.array([run[place] for run in runs]) for runs in by_task.values()]
        mean, interval = interquartile_mean(samples, OF_CURVE)
        found.append([mean, *(interval or [mean, mean])])
    return np.array(found).T
