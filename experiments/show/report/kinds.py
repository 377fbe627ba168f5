"""The figures of a run that the sections of a report show."""

from typing import NamedTuple


class Mean(NamedTuple):
    """Mean score of an agent in a world."""

    mean: float
    interval: tuple[float, float]  # 95 %
    iqm: float | None = None  # interquartile mean


class Reached(NamedTuple):
    """Scores of an agent in reality and in its dreams, and other figures to compare."""

    unit: str
    more_is_better: bool
    real: Mean | None  # None: there is no real environment
    dreamt: Mean
    marks: dict[str, float]
    episodes: int
    said: str = ""  # additional text on the figures


class Curve(NamedTuple):
    """Learning curve of an agent."""

    label: str  # of `values`
    steps: list[float]  # of the real environment
    values: list[float]
