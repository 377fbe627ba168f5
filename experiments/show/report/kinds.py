"""Reports of reinforcement learning: the texts and figures of a run."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, cast

from worldmodel import Sequences
from worldmodel.experiments.rl.config import RLConfig
from worldmodel.experiments.rl.evaluation import as_read, held_out_episodes, scored_on
from worldmodel.experiments.rl.run import Run
from worldmodel.experiments.show.curves import curves_of
from worldmodel.run_folder import RunError, RunFolder


class Mean(NamedTuple):
    """Mean score of an agent in a world."""

    mean: float
    interval: tuple[float, float]  # 95 %
    iqm: float | None = None  # interquartile mean


class Reached(NamedTuple):
    """Scores of an agent in reality and in its dreams, and other figures to compare."""

    unit: str
    more_is_better: bool
    real: Mean | None  # None: there is no real environment
    dreamt: Mean
    marks: dict[str, float]
    episodes: int
    said: str = ""  # additional text on the figures


class Curve(NamedTuple):
    """Learning curve of an agent."""

    label: str  # of `values`
    steps: list[float]  # of the real environment
    values: list[float]


class ReportSpec(NamedTuple):
    """Report functions of an experiment."""

    what: Callable[[Any], str]  # of a configuration: a sentence on the run
    curve: Callable[[RunFolder], Curve | None]
    reached: Callable[[Mapping[str, Any]], Reached]  # of the result of `evaluate`
    whose: Callable[[Any], str]  # of a configuration: the held-out episodes in words


def held_out(folder: RunFolder, run: Run) -> Sequences:
    """The episodes that a run is evaluated on, as its model reads them, [T, B, ...]."""
    found = held_out_episodes(folder, run, run.config.evaluation)
    episodes = as_read(run, found)
    return episodes.sequences(run.components.actions)


def _what(config: RLConfig) -> str:
    env = config.environment.env
    if env is None:
        return (
            "A world model learned from recorded episodes, and an agent that learned in its dream."
        )
    played = "recorded episodes of " if config.data is not None else ""
    return f"A world model learned from {played}{env}, and an agent that learned in its dream."


def _curve(folder: RunFolder) -> Curve | None:
    try:
        (curve,) = curves_of([folder])
    except RunError:  # never evaluated in training
        return None
    return Curve(
        "real return of the greedy agent", curve.steps.tolist(), curve.returns[0].tolist()
    )


def _reached(result: Mapping[str, Any]) -> Reached:
    def mean(world: str) -> Mean | None:
        values = [result[f"{world}_return_{key}"] for key in ("mean", "ci95", "iqm")]
        return None if values[0] is None else Mean(values[0], tuple(values[1]), values[2])

    names = {"optimal": "optimal", "random": "at random"}
    marks = {
        words: result[f"{name}_return"]
        for name, words in names.items()
        if f"{name}_return" in result
    }
    dreamt = cast(Mean, mean("dream"))
    return Reached("return", True, mean("real"), dreamt, marks, result["episodes"])


def _whose(config: RLConfig) -> str:
    return scored_on(config, config.evaluation)


RL = ReportSpec(_what, _curve, _reached, _whose)
