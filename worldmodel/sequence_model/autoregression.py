"""Linear autoregressions, fitted at once: what models of series begin with, and a baseline."""

from typing import NamedTuple

import numpy as np

PENALTIES = np.logspace(-6, 3, 19)  # of ridge regression, relative to the rows


class Linear(NamedTuple):
    """y ~ x @ weights + bias, with the standard deviation of what is left."""

    weights: np.ndarray  # [I]
    bias: float
    std: float
    score: float = 0.0  # mean square error of rows that were left out, by an estimate


def ridge(x: np.ndarray, y: np.ndarray) -> Linear:
    """Least squares of standardised columns, with the penalty whose generalised cross-validation
    (Golub et al. 1979, https://doi.org/10.1080/00401706.1979.10489751) is the least.

    x: [N, I]; y: [N].
    """
    rows = len(y)
    if not rows:
        return Linear(np.zeros(x.shape[1]), 0.0, 1.0)
    shift, scale = x.mean(0), x.std(0)
    scale = np.where(scale > 1e-8, scale, np.inf)  # constant columns have no weight
    centred, left = (x - shift) / scale, y - y.mean()
    values, vectors = np.linalg.eigh(centred.T @ centred / rows)
    values = values.clip(min=0)
    along = vectors.T @ (centred.T @ left) / rows
    penalties = PENALTIES[:, None]
    shrunk = along / (values + penalties)  # [penalties, I]
    freedom = (values / (values + penalties)).sum(1) + 1
    error = np.mean(left**2) - (shrunk * (2 * along - values * shrunk)).sum(1)
    error = error.clip(min=1e-12)
    free = (1 - freedom / rows).clip(min=1e-3)
    scores = error / free**2
    best = int(np.argmin(scores))
    weights = vectors @ shrunk[best] / scale
    std = float(np.sqrt(error[best] / free[best]))
    return Linear(weights, float(y.mean() - shift @ weights), std, float(scores[best]))


def filled(values: np.ndarray) -> np.ndarray:
    """Series [T, C] whose missing values (NaN) are the last ones before them; 0 at the
    beginning."""
    rows = np.where(np.isnan(values), 0, np.arange(1, len(values) + 1)[:, None])
    last = np.maximum.accumulate(rows, 0)
    padded = np.concatenate([np.zeros((1, values.shape[1])), values])
    return np.take_along_axis(padded, last, 0)


def lagged(values: np.ndarray, lags: int) -> np.ndarray:
    """The rows before each of [T, C], the latest first: [T, lags * C]; 0 before the first."""
    padded = np.concatenate([np.zeros((lags, values.shape[1])), values])
    return np.concatenate([padded[lags - n : len(padded) - n] for n in range(1, lags + 1)], 1)
