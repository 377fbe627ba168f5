"""What reports show of the experiments: where they differ."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, cast

from worldmodel import Episodes, Sequences
from worldmodel.experiments.data.datasets import HELD_OUT, open_data
from worldmodel.experiments.measure.open_loop import open_loop
from worldmodel.experiments.rl.evaluation import as_seen
from worldmodel.experiments.show.curves import curves_of
from worldmodel.noise import OwnNoise
from worldmodel.run_folder import RunError, RunFolder


class Mean(NamedTuple):
    """What an agent reaches in a world."""

    mean: float
    interval: tuple[float, float]  # 95 %
    iqm: float | None = None  # interquartile mean


class Reached(NamedTuple):
    """What an agent reaches in reality and in its dreams, and what else may be compared."""

    unit: str
    more_is_better: bool
    real: Mean | None  # None: there is no real environment
    dreamt: Mean
    marks: dict[str, float]
    episodes: int
    said: str = ""  # of the figures, besides


class Curve(NamedTuple):
    """How an agent became better."""

    label: str  # of `values`
    steps: list[float]  # of the real environment
    values: list[float]


class Kind(NamedTuple):
    """An experiment whose runs have reports."""

    what: Callable[[Any], str]  # of a configuration: what the run is, in a sentence
    curve: Callable[[RunFolder], Curve | None]
    reached: Callable[[Mapping[str, Any]], Reached]  # of what `evaluate` found
    whose: Callable[[Any], str]  # of a configuration: what was held out, in words
    open_loop: Callable[[RunFolder, Any, Mapping[str, Any]], dict[str, Any]]


def held_out(folder: RunFolder, parts: Any) -> Sequences:
    """The episodes that a run is evaluated on, as its model sees them, [T, B, ...]."""
    episodes = Episodes.load(folder.episodes / HELD_OUT)
    if getattr(parts, "eyes", None) is not None:
        episodes = as_seen(parts, episodes)
    return episodes.sequences(parts.actions)


# Control.


def _what_of_control(config: Any) -> str:
    env = config.environment.env
    if env is None:
        return (
            "A world model learned from recorded episodes, and an agent that learned in its dream."
        )
    played = "recorded episodes of " if config.data is not None else ""
    return f"A world model learned from {played}{env}, and an agent that learned in its dream."


def _curve_of_control(folder: RunFolder) -> Curve | None:
    try:
        (curve,) = curves_of([folder])
    except RunError:  # never evaluated in training
        return None
    return Curve(
        "real return of the greedy agent", curve.steps.tolist(), curve.returns[0].tolist()
    )


def _reached_in_control(result: Mapping[str, Any]) -> Reached:
    def mean(world: str) -> Mean | None:
        values = [result[f"{world}_return_{key}"] for key in ("mean", "ci95", "iqm")]
        return None if values[0] is None else Mean(values[0], tuple(values[1]), values[2])

    dreamt = cast(Mean, mean("dream"))
    return Reached("return", True, mean("real"), dreamt, {}, result["episodes"])


def _whose_in_control(config: Any) -> str:
    if config.environment.env is None:
        return "recorded episodes that nothing was learned from"
    return "real episodes of the agent as it explores, which nothing was learned from"


CONTROL = Kind(
    _what_of_control,
    _curve_of_control,
    _reached_in_control,
    _whose_in_control,
    lambda folder, parts, result: cast(dict[str, Any], result["open_loop"]),
)


# The toy game.


def _what_of_toy_game(config: Any) -> str:
    told = config.game
    return (
        f"A world model learned from the toy game ({told.task}, a ring of {told.width} cells with "
        f"{told.classes} values each), and an agent that learned in its dream."
    )


def _curve_of_toy_game(folder: RunFolder) -> Curve | None:
    steps, solved = [0.0], []
    for line in folder.metrics():
        if line["stage"] == "collect":
            steps.append(steps[-1] + line["steps"])
            solved.append(line["solved"])
    return Curve("share of games solved", steps[1:], solved) if solved else None


def _reached_in_toy_game(result: Mapping[str, Any]) -> Reached:
    def mean(world: str) -> Mean:
        return Mean(result[f"{world}_mean_steps"], tuple(result[f"{world}_mean_steps_ci95"]))

    marks = {"optimal": result["optimal_mean_steps"], "at random": result["random_mean_steps"]}
    said = (
        f"In reality it solves {100 * result['policy_solved_fraction']:.2f} % of its games, in "
        f"the dream {100 * result['dream_solved_fraction']:.2f} %. Each step costs 1, so that "
        "the return is minus their number."
    )
    return Reached(
        "steps to solve", False, mean("policy"), mean("dream"), marks, result["games"], said
    )


def _open_loop_of_toy_game(
    folder: RunFolder, parts: Any, result: Mapping[str, Any]
) -> dict[str, Any]:
    if "open_loop" in result:
        return cast(dict[str, Any], result["open_loop"])
    played = open_data(folder.path).episodes.typical()
    values = {"observation": played.columns["observation"], "reward": played.rewards}
    with OwnNoise(parts.config.seed)():
        return open_loop(parts.model, held_out(folder, parts), parts.observation_space, values)


TOY_GAME = Kind(
    _what_of_toy_game,
    _curve_of_toy_game,
    _reached_in_toy_game,
    lambda config: "real games of an agent that acts at random, which nothing was learned from",
    _open_loop_of_toy_game,
)
