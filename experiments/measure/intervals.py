"""Means of few runs, and bootstrap intervals of them."""

from collections.abc import Callable, Sequence

import numpy as np
from scipy import stats

QUARTER = 0.25  # that an interquartile mean leaves out at either end
RESAMPLES = 9_999


def interquartile_mean(
    samples: Sequence[np.ndarray], resamples: int = RESAMPLES
) -> tuple[float, list[float] | None]:
    """The interquartile mean of all scores, and its 95 % bootstrap interval, for which runs are
    drawn within each task; None where no task has two.

    samples: [runs] of each task.
    """
    return _bootstrapped(samples, _trimmed, resamples)


def mean_of(samples: Sequence[np.ndarray]) -> tuple[float, list[float] | None]:
    """As `interquartile_mean`, of all that is given."""
    return _bootstrapped(samples, np.mean, RESAMPLES)


def _trimmed(values: np.ndarray, axis: int = -1) -> np.ndarray:
    return np.asarray(stats.trim_mean(values, QUARTER, axis=axis))


def _bootstrapped(
    samples: Sequence[np.ndarray], statistic: Callable[..., np.ndarray], resamples: int
) -> tuple[float, list[float] | None]:
    value = float(statistic(np.concatenate(samples), axis=-1))
    drawn = [sample for sample in samples if len(sample) > 1]
    if not drawn:
        return value, None
    alone = np.concatenate([[], *(sample for sample in samples if len(sample) == 1)])

    def whole(*parts: np.ndarray, axis: int = -1) -> np.ndarray:
        given = np.broadcast_to(alone, (*parts[0].shape[:-1], len(alone)))
        return statistic(np.concatenate([*parts, given], axis), axis=axis)

    interval = stats.bootstrap(
        drawn,
        whole,
        n_resamples=resamples,
        batch=1_000,
        vectorized=True,
        method="percentile",
        random_state=0,
    ).confidence_interval
    return value, [float(interval.low), float(interval.high)]
