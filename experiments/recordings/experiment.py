"""Text, audio, midi and strokes as experiments: the functions that the registry promises.

A modality of your own is a `Kind`, a configuration that names it (`modality`), and one line that
registers that configuration with this module.
"""

import shlex
from dataclasses import replace
from pathlib import Path

from worldmodel.experiments.recordings.config import (
    RecordingsConfig,
    ScoreConfig,
    quick_recordings as quick,
)
from worldmodel.experiments.recordings.dreaming import generate, load
from worldmodel.experiments.recordings.scoring import evaluate, tables
from worldmodel.experiments.recordings.training import Training, check
from worldmodel.progress import Reporter
from worldmodel.run_folder import RunFolder

__all__ = [
    "absolute",
    "check",
    "evaluate",
    "finish",
    "generate",
    "load",
    "quick",
    "settings",
    "tables",
    "training",
]


def training(folder: RunFolder, reporter: Reporter) -> Training:
    """A run in progress."""
    return Training(folder, reporter)


def absolute(config: RecordingsConfig) -> RecordingsConfig:
    """The same with absolute paths of its recordings."""
    paths = tuple(str(Path(path).resolve()) for path in config.data.data)
    return replace(config, data=replace(config.data, data=paths))


def settings(config: RecordingsConfig) -> ScoreConfig:
    """How a run is evaluated unless something else is asked for."""
    return ScoreConfig()


def finish(folder: RunFolder, reporter: Reporter) -> None:
    """Says how to go on."""
    reporter.say(f"go on dreaming: worldmodel generate {shlex.quote(str(folder.path))}")
