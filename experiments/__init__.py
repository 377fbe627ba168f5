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
    run = import_module("experiments.run")
    folder = run.RunFolder.open(Path(path))
    name = folder.experiment
    if name == "baseline":
        raise run.RunError(f"{path} is a baseline: of those only the curve is kept")
    return import_module(f"experiments.{name.replace('-', '_')}").load(path)


def __getattr__(name: str) -> Any:
    """Names are imported when they are asked for, so that `--help` need not wait for torch."""
    if name in __all__:
        return getattr(import_module("experiments.toy_game"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
