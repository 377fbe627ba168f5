"""Measurements: other algorithms on the same games, models of music, importance weighting."""

from worldmodel.experiments.bench.toy_game import Algorithm, baseline

__all__ = ["Algorithm", "baseline"]
