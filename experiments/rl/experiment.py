"""Control as an experiment: the functions that the registry promises of it."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from worldmodel.experiments.rl.config import ControlConfig, ProtocolConfig
from worldmodel.experiments.rl.config import quick_control as quick
from worldmodel.experiments.rl.environments import remembered
from worldmodel.experiments.rl.evaluation import evaluate, tables
from worldmodel.experiments.rl.parts import Parts, load_run
from worldmodel.experiments.rl.training import Training, check
from worldmodel.experiments.runs.progress import Reporter
from worldmodel.run_folder import RunFolder

if TYPE_CHECKING:
    from worldmodel.experiments.show.report.kinds import Kind

__all__ = [
    "absolute",
    "check",
    "evaluate",
    "load",
    "playable",
    "quick",
    "remember",
    "report",
    "settings",
    "tables",
    "training",
]


def training(folder: RunFolder, reporter: Reporter) -> Training:
    """A run in progress."""
    return Training(folder, reporter)


def absolute(config: ControlConfig) -> ControlConfig:
    """The same with an absolute path of its recorded episodes."""
    return (
        config if config.data is None else replace(config, data=str(Path(config.data).resolve()))
    )


def remember(config: ControlConfig) -> ControlConfig:
    """The same with the folder that its environment's module was found in."""
    return replace(config, environment=remembered(config.environment))


def load(folder: RunFolder) -> Parts:
    """A run's model, agent, real environment and dream, as its newest checkpoint left them."""
    return load_run(folder)[0]


playable = load


def settings(config: ControlConfig) -> ProtocolConfig:
    """How a run is evaluated unless something else is asked for."""
    return config.returns.protocol


def report() -> "Kind":
    """What sets reports of control apart."""
    from worldmodel.experiments.show.report.kinds import CONTROL

    return CONTROL
