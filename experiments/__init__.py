"""Experiments: runs, the command line, playing, filming, evaluating."""

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from experiments.toy_game import Parts

__all__ = ["Parts", "load"]


def load(path: str | Path) -> Any:
    """A run as its newest checkpoint left it, for scripts; what it holds is up to its experiment.

    run = experiments.load("runs/demo"); run.model, run.agent, run.environment(), run.dream()
    """
    folder = import_module("experiments.run").RunFolder.open(Path(path))
    return import_module(f"experiments.{folder.experiment.replace('-', '_')}").load(path)


def __getattr__(name: str) -> Any:
    """Names are imported when they are asked for, so that `--help` need not wait for torch."""
    if name in __all__:
        return getattr(import_module("experiments.toy_game"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
