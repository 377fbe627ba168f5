"""Regression of numbers of any scale: a loss beside the likelihoods, and no likelihood itself.

DreamerV3, Hafner et al. 2023 (https://arxiv.org/abs/2301.04104): symlog, exponentially spaced
bins, and the cross-entropy to two-hot targets (eqs. 9-10). Nothing here has a `log_prob`, so that
none of it can enter a bound.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from worldmodel.distributions import symexp


class TwoHot(NamedTuple):
    """A regression of numbers [*]: a softmax over fixed bins."""

    logits: Tensor  # [*, n], of weights that add up to one
    bins: Tensor  # [n], n odd, rising, as far below zero as above

    @property
    def mean(self) -> Tensor:
        """The bins' weighted sum [*], opposite bins first: equal weights give zero exactly."""
        weights = self.logits.softmax(-1)
        half = len(self.bins) // 2
        surplus = weights[..., half + 1 :] - weights[..., :half].flip(-1)
        return surplus @ self.bins[half + 1 :]

    def loss(self, value: Tensor) -> Tensor:
        """The cross-entropy to the two bins around each value [*], weighted so that they average
        to it. Values beyond the bins count as the outermost."""
        value = value.to(self.bins.dtype).clamp(self.bins[0], self.bins[-1])
        above = torch.searchsorted(self.bins, value.contiguous(), right=True)
        above = above.clamp(max=len(self.bins) - 1)
        left, right = self.bins[above - 1], self.bins[above]
        share = (value - left) / (right - left)
        log_weights = self.logits.log_softmax(-1)
        shape = torch.broadcast_shapes(value.shape, log_weights.shape[:-1])
        log_weights = log_weights.expand(*shape, -1)
        at = torch.stack([above - 1, above], -1).expand(*shape, 2)
        targets = torch.stack([1 - share, share], -1)
        return -(targets * log_weights.gather(-1, at)).sum(-1)


class TwoHotRegression(nn.Module):
    """features [*, F] -> `TwoHot` over numbers [*]; its mean is zero at first."""

    bins: Tensor

    def __init__(self, input_size: int, bins: int = 255, limit: float = 20.0):
        """bins: how many, an odd number; limit: the symlog of the largest."""
        super().__init__()
        if bins < 3 or bins % 2 == 0:
            raise ValueError(f"TwoHotRegression expects an odd number of bins, got {bins}")
        self.logits = nn.Linear(input_size, bins)
        nn.init.zeros_(self.logits.weight)
        nn.init.zeros_(self.logits.bias)
        positive = symexp(torch.linspace(0, limit, bins // 2 + 1)[1:])
        symmetric = torch.cat([-positive.flip(0), torch.zeros(1), positive])
        self.register_buffer("bins", symmetric, persistent=False)

    def forward(self, features: Tensor) -> TwoHot:
        return TwoHot(self.logits(features), self.bins)
