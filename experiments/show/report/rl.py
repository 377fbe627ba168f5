"""Reports of reinforcement learning."""

from collections.abc import Mapping
from typing import Any, cast

from worldmodel import Sequences, nested
from worldmodel.experiments.measure.calibration import Calibration, calibration, particles_for
from worldmodel.experiments.measure.scores import densities_of
from worldmodel.experiments.rl.config import RLConfig
from worldmodel.experiments.rl.evaluation import as_read, held_out_episodes, scored_on
from worldmodel.experiments.rl.run import HELD_OUT, Run
from worldmodel.experiments.runs.registry import config_of
from worldmodel.experiments.show.curves import curves_of
from worldmodel.experiments.show.report import films, sections
from worldmodel.experiments.show.report.films import Shown
from worldmodel.experiments.show.report.kinds import Curve, Mean, Reached
from worldmodel.experiments.show.report.page import Html, number
from worldmodel.experiments.show.report.writing import ReportSpec
from worldmodel.progress import Reporter
from worldmodel.run_folder import RunError, RunFolder

EPISODES = 200  # at most, for the calibration


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


def _facts(config: RLConfig, values: Mapping[str, Any]) -> list[tuple[str, Html]]:
    return [("seed", number(config.agent.seed)), ("real steps", number(values["real_steps"]))]


def _sections(
    folder: RunFolder, parts: Any, result: Mapping[str, Any], reporter: Reporter
) -> list[Html]:
    config = config_of(folder)
    reporter.say("dreaming on without looking")
    off = result["open_loop"]
    judged = _calibration(folder, parts, reporter)
    shown = _films(parts, reporter)
    densities = densities_of(parts.model, parts.observation_space)
    return [
        sections.learning(_curve(folder), list(folder.metrics()), densities),
        sections.returns(_reached(result)),
        sections.foresight(off),
        sections.calibration(judged, _whose(config), parts.refusal),
        sections.dreams(shown, parts.absence, _explained(parts)),
        sections.configuration(config),
    ]


def _explained(parts: Any) -> tuple[str, str]:
    """The purpose of the game, and how to read its pictures."""
    return parts.purpose.told, str(getattr(parts.view(), "legend", ""))


def _calibration(folder: RunFolder, parts: Any, reporter: Reporter) -> Calibration | None:
    """None where its episodes would be played in an environment that may not be made."""
    if parts.refusal and not (folder.path / HELD_OUT).exists():
        return None
    sequences = nested.index(held_out(folder, parts), (slice(None), slice(EPISODES)))
    episodes = sequences.mask.shape[1]
    particles = particles_for(parts.model, parts.observation_space, episodes)
    with reporter.stage("asking for probabilities", len(sequences.mask), 0, "rows") as stage:
        return calibration(
            parts.model,
            sequences,
            particles,
            parts.config.agent.seed,
            lambda done, total: stage.update(done),
        )


def _films(parts: Any, reporter: Reporter) -> list[Shown]:
    shown: list[Shown] = []
    total = films.DREAMS + parts.has_environment
    with reporter.stage("filming", total, 0, "films") as stage:
        for film in films.filmed(parts):
            shown.append(film)
            stage.update(len(shown))
    return shown


RL = ReportSpec(_what, _facts, sections.TITLES, _sections)
