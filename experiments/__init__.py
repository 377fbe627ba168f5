"""Experiments: runs, the command line, playing, filming, evaluating."""

from importlib import import_module
from pathlib import Path
from typing import Any

__all__ = ["load"]

# Modules that load the runs of an experiment, by its name.
LOADERS = {
    "toy-game": "rl.toy_game",
    "control": "rl.training",
    "vae": "images.training",
    "text": "recordings.dreaming",
    "audio": "recordings.dreaming",
    "midi": "recordings.dreaming",
    "strokes": "recordings.dreaming",
}


def load(path: str | Path) -> Any:
    """A run as its newest checkpoint left it, for scripts; what it holds is up to its experiment.

    run = experiments.load("runs/demo"); run.model, run.agent, run.environment(), run.dream()
    """
    from worldmodel.experiments.runs.folder import RunError, RunFolder

    name = RunFolder.open(Path(path)).experiment
    if name not in LOADERS:
        raise RunError(f"{path} is a {name}: of those only the curve is kept")
    return import_module(f"worldmodel.experiments.{LOADERS[name]}").load(path)
