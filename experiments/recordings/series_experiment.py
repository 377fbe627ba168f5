"""Time series as an experiment: the functions of recordings, and `forecast`, `score`, `impute`."""

import shlex

from worldmodel.experiments.recordings.config import (
    RecordingsConfig,
    SeriesScoreConfig,
    quick_recordings as quick,
)
from worldmodel.experiments.recordings.experiment import (
    absolute,
    check,
    generate,
    load,
    packed,
    repaired,
    shown,
    training,
)
from worldmodel.experiments.recordings.forecasting import forecast, impute, score
from worldmodel.experiments.recordings.series_figures import evaluate, tables
from worldmodel.progress import Reporter
from worldmodel.run_folder import RunFolder

__all__ = [
    "absolute",
    "check",
    "evaluate",
    "finish",
    "forecast",
    "generate",
    "impute",
    "load",
    "packed",
    "quick",
    "repaired",
    "score",
    "settings",
    "shown",
    "tables",
    "training",
]


def settings(config: RecordingsConfig) -> SeriesScoreConfig:
    """The default options of a run's evaluation."""
    return SeriesScoreConfig()


def finish(folder: RunFolder, reporter: Reporter) -> None:
    """Reports the command to run next."""
    reporter.say(f"what comes next: worldmodel forecast {shlex.quote(str(folder.path))}")
