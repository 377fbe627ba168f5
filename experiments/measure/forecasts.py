"""Figures of forecasts, and the baselines beside them: seasonal-naive, and an autoregression."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import stats

from worldmodel.sequence_model.autoregression import Linear, filled, lagged, ridge

INTERVALS = (0.5, 0.8, 0.95)  # whose coverage is measured
LEAST_STD = 1e-6


def crps(draws: np.ndarray, value: np.ndarray) -> np.ndarray:
    """The continuous ranked probability score, by draws of the forecast: [draws, *], [*] -> [*].

    E|X - y| - E|X - X'| / 2, both without bias (Gneiting & Raftery 2007,
    https://doi.org/10.1198/016214506000001437, eq. 21); in the units of the values, the less the
    better.
    """
    number = len(draws)
    ordered = np.sort(draws, 0)
    weights = 2 * np.arange(1, number + 1) - number - 1
    apart = np.tensordot(weights, ordered, (0, 0)) / (number * (number - 1))
    return np.abs(draws - value).mean(0) - apart


def covered(draws: np.ndarray, value: np.ndarray, share: float) -> np.ndarray:
    """True where a value lies in the central interval of a share of the draws, bool [*]."""
    low, high = np.quantile(draws, [(1 - share) / 2, (1 + share) / 2], axis=0)
    return (low <= value) & (value <= high)


class SeasonalNaive(NamedTuple):
    """The value a season before, give or take what seasons differed by: the variance grows with
    every season ahead."""

    season: int
    std: np.ndarray  # [C], of a season's differences

    @classmethod
    def fit(cls, series: Sequence[np.ndarray], season: int) -> "SeasonalNaive":
        """series: [T, C] each, NaN where missing."""
        apart = np.concatenate([each[season:] - each[:-season] for each in series])
        std = np.sqrt(np.nanmean(apart**2, 0))
        return cls(season, np.maximum(np.nan_to_num(std, nan=1.0), LEAST_STD))

    def _filled(self, values: np.ndarray) -> np.ndarray:
        """Values whose missing ones are those of the seasons before."""
        whole = np.empty_like(values)
        for place in range(self.season):
            whole[place :: self.season] = filled(values[place :: self.season])
        return whole

    def log_prob(self, values: np.ndarray) -> np.ndarray:
        """The log density of each value [T, C] given the rows before, NaN where missing."""
        before = lagged(self._filled(values), self.season)[:, -values.shape[1] :]
        return stats.norm.logpdf(values, before, self.std)

    def draw(
        self, values: np.ndarray, horizon: int, draws: int, random: np.random.Generator
    ) -> np.ndarray:
        """Draws of the rows after values [T, C]: [draws, H, C]."""
        ahead = np.arange(horizon)
        seasons = ahead // self.season + 1
        padded = np.concatenate([np.zeros((self.season, values.shape[1])), self._filled(values)])
        mean = padded[len(padded) - self.season + ahead % self.season]
        noise = random.normal(size=(draws, horizon, values.shape[1]))
        return mean + noise * self.std * np.sqrt(seasons)[:, None]


class Autoregression(NamedTuple):
    """Every channel by ridge regression on the last rows of all of them, and what is known ahead;
    what is left is Gaussian. Missing values are read as the last ones before them."""

    lags: int
    fits: list[Linear]
    factor: np.ndarray  # [C, C], of the covariance of what is left

    @classmethod
    def fit(
        cls, series: Sequence[np.ndarray], known: Sequence[np.ndarray], lags: int
    ) -> "Autoregression":
        """series: [T, C] each, NaN where missing; known: [T, K] each."""
        lags = min(lags, max(1, min(map(len, series)) // 2))
        inputs = np.concatenate(
            [_inputs(x, k, lags)[lags:] for x, k in zip(series, known, strict=True)]
        )
        target = np.concatenate([x[lags:] for x in series])
        fits = []
        for channel in target.T:
            there = ~np.isnan(channel)
            fits.append(ridge(inputs[there], channel[there]))
        std = np.array([max(fit.std, LEAST_STD) for fit in fits])
        left = (target - _means(fits, inputs)) / std
        whole = left[~np.isnan(left).any(1)]
        correlation = np.eye(len(fits))
        if len(whole) > 2 * len(fits):
            correlation = 0.99 * np.corrcoef(whole.T).reshape(correlation.shape)
            np.fill_diagonal(correlation, 1.0)
        return cls(lags, fits, std[:, None] * np.linalg.cholesky(correlation))

    @property
    def std(self) -> np.ndarray:
        """[C], of one step."""
        return np.array([max(fit.std, LEAST_STD) for fit in self.fits])

    def log_prob(self, values: np.ndarray, known: np.ndarray) -> np.ndarray:
        """The log density of each value [T, C] given the rows before, NaN where missing."""
        mean = _means(self.fits, _inputs(values, known, self.lags))
        return stats.norm.logpdf(values, mean, self.std)

    def draw(
        self,
        values: np.ndarray,
        known: np.ndarray,
        horizon: int,
        draws: int,
        random: np.random.Generator,
    ) -> np.ndarray:
        """Draws of the rows after values [T, C]: [draws, H, C]. known: [H, K], of these rows."""
        channels = values.shape[1]
        padded = np.concatenate([np.zeros((self.lags, channels)), filled(values)])
        past = np.repeat(padded[-self.lags :][::-1].reshape(1, -1), draws, 0)  # latest first
        found = []
        for ahead in known[:horizon]:
            inputs = np.concatenate([past, np.tile(ahead, (draws, 1))], 1)
            noise = random.normal(size=(draws, channels)) @ self.factor.T
            found.append(_means(self.fits, inputs) + noise)
            past = np.concatenate([found[-1], past[:, :-channels]], 1)
        return np.stack(found, 1)


def _inputs(values: np.ndarray, known: np.ndarray, lags: int) -> np.ndarray:
    return np.concatenate([lagged(filled(values), lags), known], 1)


def _means(fits: Sequence[Linear], inputs: np.ndarray) -> np.ndarray:
    return np.stack([inputs @ fit.weights + fit.bias for fit in fits], 1)


def area_under_roc(scores: np.ndarray, positive: np.ndarray) -> float:
    """The probability that a positive's score is above another's, ties counted as a half.

    >>> area_under_roc(np.array([3.0, 1.0, 2.0]), np.array([True, False, False]))
    1.0
    """
    ranks = stats.rankdata(scores)[positive]
    number, others = len(ranks), len(scores) - len(ranks)
    return float((ranks.sum() - number * (number + 1) / 2) / (number * others))
