"""Heads of numbers within bounds."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, distributions as td, nn
from torch.nn import functional as F

from worldmodel.codecs.base import DistModule
from worldmodel.distributions import DiscretisedLogistics, ScaledBeta, TanhNormal

MINIMUM_SCALE = 1e-3  # levels; a logistic narrower than that is a step


class TanhNormalHead(DistModule):
    """A density over codes within (-1, 1), [*, n] (see `TanhNormal`): a policy over numbers.

    Means and deviations are bounded, so that neither noise nor gradients vanish for good. With
    the std it begins with, the density is about as flat as it can be.
    """

    def __init__(
        self,
        input_size: int,
        n: int,
        minimum_std: float = 0.01,
        maximum_std: float = 1.74,
        maximum_mean: float = 5.0,
    ):
        super().__init__()
        self.std_bounds = minimum_std, maximum_std
        self.maximum_mean = maximum_mean
        self.parameters_ = nn.Linear(input_size, 2 * n)

    @property
    def placeholder(self) -> Tensor:
        return torch.zeros(self.parameters_.out_features // 2).to(self.parameters_.weight)

    def forward(self, features: Tensor) -> TanhNormal:
        mean, raw = self.parameters_(features).chunk(2, -1)
        low, high = self.std_bounds
        mean = self.maximum_mean * torch.tanh(mean / self.maximum_mean)
        return TanhNormal(mean, low + (high - low) * raw.sigmoid())


class DiscretisedLogisticHead(DistModule):
    """A mass over equally spaced levels (see `DiscretisedLogistics`), for pixels and samples of
    sound; each number has a mixture of its own. value: [*, *shape]."""

    low: Tensor
    step: Tensor

    def __init__(
        self,
        input_size: int,
        shape: Sequence[int] = (),
        low: float = 0,
        high: float = 255,
        levels: int | None = None,
        components: int = 5,
    ):
        """levels: how many from low to high, both included, values being floats; None: the
        integers from low to high."""
        super().__init__()
        self.shape = torch.Size(shape)
        self.levels = int(high - low) + 1 if levels is None else levels
        if self.levels < 2:
            raise ValueError(
                f"DiscretisedLogisticHead expects two levels or more, got {self.levels} "
                f"from {low} to {high}"
            )
        kind = torch.int64 if levels is None else torch.get_default_dtype()
        self.register_buffer("low", torch.tensor(low, dtype=kind))
        self.register_buffer("step", torch.tensor((high - low) / (self.levels - 1), dtype=kind))
        self.parameters_ = nn.Linear(input_size, self.shape.numel() * 3 * components)

    @property
    def placeholder(self) -> Tensor:
        return self.low.expand(self.shape)

    def forward(self, features: Tensor) -> td.Distribution:
        raw = self.parameters_(features).reshape(*features.shape[:-1], *self.shape, 3, -1)
        logits, mean, scale = raw.unbind(-2)  # [*, *shape, C]
        half = (self.levels - 1) / 2
        mean = half * (1 + mean)
        scale = half * F.softplus(scale) + MINIMUM_SCALE
        parts = DiscretisedLogistics(logits, mean, scale, self.levels, self.low, self.step)
        return td.Independent(parts, len(self.shape), validate_args=False)


class BetaHead(DistModule):
    """A density over [low, high], of one mode or flat (see `ScaledBeta`); value: float
    [*, *shape]."""

    low: Tensor
    high: Tensor

    def __init__(self, input_size: int, low: Any = 0.0, high: Any = 1.0):
        """low, high: numbers or arrays; the shape of a value is theirs."""
        super().__init__()
        dtype = torch.get_default_dtype()
        ends = (torch.as_tensor(end, dtype=dtype) for end in (low, high))
        low, high = torch.broadcast_tensors(*ends)
        if not (low < high).all() or low.isinf().any() or high.isinf().any():
            raise ValueError(f"BetaHead expects finite low < high, got {low} and {high}")
        self.register_buffer("low", low.clone())
        self.register_buffer("high", high.clone())
        self.parameters_ = nn.Linear(input_size, 2 * low.numel())

    @property
    def placeholder(self) -> Tensor:
        return (self.low + self.high) / 2

    def forward(self, features: Tensor) -> td.Distribution:
        raw = 1 + F.softplus(self.parameters_(features))
        alpha, beta = raw.reshape(*features.shape[:-1], 2, -1).unbind(-2)
        shape = (*features.shape[:-1], *self.low.shape)
        parts = ScaledBeta(alpha.reshape(shape), beta.reshape(shape), self.low, self.high)
        return td.Independent(parts, self.low.dim(), validate_args=False)
