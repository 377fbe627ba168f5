"""Experiments: runs, the command line, playing, filming, evaluating."""

from pathlib import Path
from typing import Any

__all__ = ["load"]


def load(path: str | Path) -> Any:
    """A run as its newest checkpoint left it, for scripts; what it holds is up to its experiment.

    run = experiments.load("runs/demo"); run.model, run.agent, run.environment(), run.dream()
    run = experiments.load("runs/songs"); run.model, run.kind
    """
    from worldmodel.experiments.runs.registry import offered
    from worldmodel.run_folder import RunFolder

    folder = RunFolder.open(Path(path))
    return offered(folder, "load")(folder)
