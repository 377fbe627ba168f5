"""Text, audio, midi and strokes as experiments: the functions that the registry expects.

A modality of your own is two files: a `RecordingsConfig` that names it (`modality`) and is
registered with this module, and a `FileModality`. See docs/recordings.md.
"""

import shlex
from dataclasses import replace
from pathlib import Path

import torch

from worldmodel.experiments.recordings.config import (
    RecordingsConfig,
    ScoreConfig,
    quick_recordings as quick,
)
from worldmodel.experiments.recordings.generation import generate
from worldmodel.experiments.recordings.model import RecordingsModel
from worldmodel.experiments.recordings.scoring import evaluate, tables
from worldmodel.experiments.recordings.storage import packed, repaired, shown
from worldmodel.experiments.recordings.training import Samples, check, training_in
from worldmodel.experiments.runs.registry import config_of
from worldmodel.experiments.runs.training import Training
from worldmodel.progress import Reporter
from worldmodel.run_folder import RunFolder

__all__ = [
    "absolute",
    "check",
    "evaluate",
    "finish",
    "generate",
    "load",
    "packed",
    "quick",
    "repaired",
    "settings",
    "shown",
    "tables",
    "training",
]


def training(folder: RunFolder, reporter: Reporter) -> Training:
    """A run in progress."""
    config: RecordingsConfig = config_of(folder)
    torch.set_num_threads(config.threads)
    job = training_in(folder, reporter)
    samples = Samples(folder.path / "samples", reporter)
    return Training(folder, reporter, job, config.checkpoint_seconds, [samples])


def load(folder: RunFolder) -> RecordingsModel:
    """A run's model, as its newest checkpoint left it, for scripts."""
    return RecordingsModel.of_run(folder)


def absolute(config: RecordingsConfig) -> RecordingsConfig:
    """The options with absolute paths of the recordings."""
    paths = tuple(str(Path(path).resolve()) for path in config.data.data)
    return replace(config, data=replace(config.data, data=paths))


def settings(config: RecordingsConfig) -> ScoreConfig:
    """The default options of a run's evaluation."""
    return ScoreConfig()


def finish(folder: RunFolder, reporter: Reporter) -> None:
    """Reports the command to run next."""
    reporter.say(f"go on dreaming: worldmodel generate {shlex.quote(str(folder.path))}")
