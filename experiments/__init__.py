"""Experiments: runs, the command line, playing, filming, evaluating."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from experiments.toy_game import Parts, load

__all__ = ["Parts", "load"]


def __getattr__(name: str) -> Any:
    """Names are imported when they are asked for, so that `--help` need not wait for torch."""
    if name in __all__:
        return getattr(import_module("experiments.toy_game"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
