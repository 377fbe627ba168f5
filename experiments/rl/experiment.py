"""Reinforcement learning as an experiment: the functions that the registry expects of it."""

import shlex
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from worldmodel.agents.training import check_fit
from worldmodel.envs.make import folder_of
from worldmodel.errors import naming_damage
from worldmodel.experiments.rl.config import CollectorsConfig, EvaluationConfig, RLConfig, quick
from worldmodel.experiments.rl.diagnosis import diagnosis
from worldmodel.experiments.rl.evaluation import evaluate, tables
from worldmodel.experiments.rl.run import (
    Run,
    load_run,
    packed,
    recorded,
    repaired,
    said,
    spaces_of,
    training_of,
)
from worldmodel.experiments.runs.cluster import imported
from worldmodel.experiments.runs.registry import config_of
from worldmodel.experiments.runs.training import Training
from worldmodel.progress import Reporter
from worldmodel.run_folder import RunError, RunFolder

if TYPE_CHECKING:
    from worldmodel.experiments.export.graphs import Exported

__all__ = [
    "absolute",
    "anywhere",
    "check",
    "evaluate",
    "exported",
    "finish",
    "load",
    "packed",
    "playable",
    "quick",
    "remember",
    "repaired",
    "settings",
    "tables",
    "training",
]


def training(folder: RunFolder, reporter: Reporter) -> Training:
    """A run in progress."""
    config: RLConfig = config_of(folder)
    torch.set_num_threads(config.threads)
    job = said(lambda: training_of(folder, reporter.say))
    return Training(folder, reporter, job, config.checkpoint_seconds)


def absolute(config: RLConfig) -> RLConfig:
    """The options with an absolute path of recorded episodes."""
    return (
        config if config.data is None else replace(config, data=str(Path(config.data).resolve()))
    )


def remember(config: RLConfig) -> RLConfig:
    """The options with the folder of the environment's module, so that a run works from
    anywhere."""
    env = config.environment.env
    found = None if env is None else folder_of(env)
    return replace(config, environment=replace(config.environment, env_path=found))


def anywhere(config: RLConfig) -> RLConfig:
    """The options without the cluster that the run has played in."""
    return replace(config, collecting=CollectorsConfig())


def check(config: RLConfig) -> None:
    """Raises RunError if the environment, the data or the algorithm cannot be used, before a run's
    folder is made."""
    if config.environment.env is None and config.data is None:
        raise RunError("there is nothing to learn from: give --env ID, --data PATH, or both")
    prefill = config.agent.collect.prefill
    if prefill > config.steps:
        raise RunError(f"--prefill is a part of --steps, got {prefill} of {config.steps} steps")
    if config.collecting.collectors:
        imported("--collectors")
    if config.data is not None:
        spaces = recorded(config)[1:]
    else:
        spaces = spaces_of(config.environment, collecting=config.collecting)
    said(lambda: check_fit(config.agent, *spaces))


def load(folder: RunFolder) -> Run:
    """A run's model, agent, real environment and dream, as its newest checkpoint left them."""
    return load_run(folder)[0]


def playable(folder: RunFolder, picture: str = "auto") -> Run:
    """A run whose dreams are drawn by the view of this name."""
    run = load(folder)
    run.picture_name = picture
    return run


def exported(folder: RunFolder) -> "Exported":
    """The graphs of a run's agent and dream."""
    from worldmodel.experiments.rl.exporting import exported

    return exported(load(folder))


def settings(config: RLConfig) -> EvaluationConfig:
    """The default options of a run's evaluation."""
    return config.evaluation


def finish(folder: RunFolder, reporter: Reporter) -> None:
    """Reports what the run's figures show, and the commands to run next."""
    path = shlex.quote(str(folder.path))
    with naming_damage(folder.metrics_file):
        findings = diagnosis(folder.metrics(), config_of(folder).keep == "best")
    for finding in findings:
        reporter.say(str(finding).replace("RUN", path))
    reporter.say(f"step inside: worldmodel play {path}; all on one page: worldmodel report {path}")
