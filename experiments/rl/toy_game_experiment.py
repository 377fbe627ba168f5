"""The toy game as an experiment: the functions that the registry promises of it."""

import shlex
from typing import TYPE_CHECKING, Any

from worldmodel.experiments.rl.toy_game import Parts, Training, load_run
from worldmodel.experiments.rl.toy_game_config import EvaluationConfig, ToyGameConfig, quick
from worldmodel.experiments.rl.toy_game_evaluation import evaluate, tables
from worldmodel.experiments.runs.progress import Reporter
from worldmodel.experiments.show.config import VideoConfig
from worldmodel.run_folder import RunFolder

if TYPE_CHECKING:
    from worldmodel.experiments.show.report.kinds import Kind

__all__ = [
    "evaluate",
    "finish",
    "load",
    "playable",
    "quick",
    "report",
    "settings",
    "tables",
    "training",
]


def training(folder: RunFolder, reporter: Reporter) -> Training:
    """A run in progress."""
    return Training(folder, reporter)


def load(folder: RunFolder) -> Parts:
    """A run's model, agent, real environment and dream, as its newest checkpoint left them."""
    return load_run(folder)[0]


playable = load


def settings(config: ToyGameConfig) -> EvaluationConfig:
    """How a run is evaluated unless something else is asked for."""
    return config.evaluation


def finish(folder: RunFolder, reporter: Reporter) -> None:
    """Films the game and the dream of it."""
    from worldmodel.experiments.show.video import write_film

    files = [folder.videos / f"film{suffix}" for suffix in (".mp4", ".gif")]
    parts: Any = load(folder)
    write_film(parts, VideoConfig(), files, folder.videos, reporter)
    reporter.say(f"step inside: worldmodel play {shlex.quote(str(folder.path))}")


def report() -> "Kind":
    """What sets reports of the toy game apart."""
    from worldmodel.experiments.show.report.kinds import TOY_GAME

    return TOY_GAME
