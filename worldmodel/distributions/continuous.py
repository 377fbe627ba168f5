"""Densities, and the noise that they are drawn with."""

import torch
from torch import Tensor
from torch import distributions as td

INSIDE = 1e-6  # how far within (0, 1) a beta is scored; single precision tells it from the edge


def standard_normal(like: Tensor) -> Tensor:
    """Standard normal noise of the shape of `like`; every latent of every core is drawn here."""
    return torch.randn_like(like)


def dequantise(value: Tensor, step: float = 1.0) -> Tensor:
    """value + step * u with u uniform in [0, 1): numbers on a grid, spread over their cells.

    A density on repeated values is unbounded; on spread ones it bounds their mass from below
    (Theis et al. 2016, https://arxiv.org/abs/1511.01844, sec. 3.1): for D numbers

        log P(value) >= E_u log p(value + step * u) + D log(step)    nats

    so that D log(step) makes log-densities comparable to the log-masses of discretised heads.
    """
    floats = value if value.is_floating_point() else value.to(torch.get_default_dtype())
    return floats + step * torch.rand_like(floats)


class ScaledBeta(td.TransformedDistribution):
    """Independent betas stretched over [low, high]; value: float [*].

    Values on the edges are scored as those just inside: a beta's density there is zero or
    infinite.
    """

    def __init__(self, alpha: Tensor, beta: Tensor, low: Tensor, high: Tensor):
        self.low, self.width = low, high - low
        super().__init__(
            td.Beta(alpha, beta, validate_args=False),
            td.AffineTransform(low, self.width),
            validate_args=False,
        )

    @property
    def mean(self) -> Tensor:
        return self.low + self.width * self.base_dist.mean

    def log_prob(self, value: Tensor) -> Tensor:
        share = (value - self.low) / self.width
        inside = share.clamp(INSIDE, 1 - INSIDE)
        return self.base_dist.log_prob(inside) - self.width.log()


def mixture(logits: Tensor, components: td.Distribution) -> td.MixtureSameFamily:
    """A mixture [*] of `components` [*, C] in proportion to softmax(logits [*, C])."""
    weights = td.Categorical(logits=logits, validate_args=False)
    return td.MixtureSameFamily(weights, components, validate_args=False)
