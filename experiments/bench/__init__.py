"""Other algorithms on the same games, to stand beside."""

from experiments.bench.toy_game import Algorithm, baseline

__all__ = ["Algorithm", "baseline"]
