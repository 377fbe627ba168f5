"""Densities, and the noise that they are drawn with."""

import math

import torch
from torch import Tensor, distributions as td
from torch.nn import functional as F

from worldmodel import ranks

INSIDE = 1e-6  # how far from its edges a density is scored; single precision tells the two apart
FAR = 40.0  # symlog of the largest number that is drawn; that of single precision is 88


def standard_normal(like: Tensor) -> Tensor:
    """Standard normal noise of the shape of `like`; every latent of every core is drawn here."""
    return ranks.drawn(torch.randn_like, like)


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


class ClippedNormal(td.Distribution):
    """Independent Gaussians whose draws are clipped to [-1, 1]: codes, float [*, n]. They can only
    be drawn."""

    arg_constraints = {}  # noqa: RUF012 (nothing is validated here)

    def __init__(self, mean: Tensor, std: Tensor):
        """mean, std: before clipping, [*, n]."""
        self.normal = td.Normal(mean, std, validate_args=False)
        super().__init__(mean.shape[:-1], mean.shape[-1:], validate_args=False)

    @property
    def mode(self) -> Tensor:
        """The clipped mean."""
        return self.normal.mean.clamp(-1, 1)

    def sample(self, sample_shape: torch.Size = torch.Size()) -> Tensor:
        return self.normal.sample(sample_shape).clamp(-1, 1)


class StudentT(td.Distribution):
    """Independent Student's t, Gaussians with tails; value: float [*]. With z = (x - loc) / scale,

        log p(x) = log G((df + 1) / 2) - log G(df / 2) - log(pi df) / 2 - log scale
                   - (df + 1) / 2 log(1 + z^2 / df)                               G: gamma function

    A number far out costs the logarithm of its distance, not the square; for large df it is the
    Gaussian. Draws are as cheap as a Gaussian's and have the gradient of all three (Bailey 1994,
    https://doi.org/10.1090/S0025-5718-1994-1219702-6), where torch's own draw a gamma variable.
    """

    arg_constraints = {}  # noqa: RUF012 (nothing is validated here)

    has_rsample = True

    def __init__(self, df: Tensor, loc: Tensor, scale: Tensor):
        """df: degrees of freedom, above 1, [*] or what broadcasts to it; loc, scale: [*]."""
        self.df, self.loc, self.scale = df, loc, scale
        super().__init__(torch.broadcast_shapes(loc.shape, df.shape), validate_args=False)

    @property
    def mean(self) -> Tensor:
        return self.loc.expand(self.batch_shape)

    @property
    def mode(self) -> Tensor:
        return self.mean

    @property
    def variance(self) -> Tensor:
        """Infinite for `df` up to 2."""
        finite = self.df / (self.df - 2).clamp(min=0.0)
        return (self.scale.square() * finite).expand(self.batch_shape)

    def rsample(self, sample_shape: torch.Size = torch.Size()) -> Tensor:
        """Bailey's polar method: sqrt(df (u^(-2 / df) - 1)) cos(2 pi v), with u, v uniform."""
        shape = self._extended_shape(sample_shape)
        nats = self.loc.new_empty(shape).exponential_().clamp(min=INSIDE)  # -log u
        radius = (self.df * torch.expm1(2 * nats / self.df)).sqrt()
        angle = 2 * math.pi * torch.rand_like(nats)
        return self.loc + self.scale * (radius * angle.cos())

    def log_prob(self, value: Tensor) -> Tensor:
        half = (self.df + 1) / 2
        volume = half.lgamma() - (self.df / 2).lgamma() - (math.pi * self.df).log() / 2
        z = (value - self.loc) / self.scale
        return volume - self.scale.log() - half * (z.square() / self.df).log1p()


class TanhNormal(td.Distribution):
    """tanh of independent Gaussians: densities over codes within (-1, 1); value: float [*, n].

    Of u = atanh(value), number by number (Haarnoja et al. 2018, https://arxiv.org/abs/1801.01290,
    app. C):  log p(value) = log N(u | mean, std) - log(1 - value^2)

    Codes on or near the edges, where single precision no longer tells u, are scored as if they
    were `INSIDE` of them.
    """

    arg_constraints = {}  # noqa: RUF012 (nothing is validated here)

    has_rsample = True

    def __init__(self, mean: Tensor, std: Tensor):
        """mean, std: of the Gaussians, [*, n]."""
        self.normal = td.Normal(mean, std, validate_args=False)
        super().__init__(mean.shape[:-1], mean.shape[-1:], validate_args=False)

    @property
    def mode(self) -> Tensor:
        """tanh(mean): the median of each number, which a greedy agent does. Where std is large
        the density is higher near the edges."""
        return self.normal.mean.tanh()

    def rsample(self, sample_shape: torch.Size = torch.Size()) -> Tensor:
        return self.normal.rsample(sample_shape).tanh()

    def log_prob(self, value: Tensor) -> Tensor:
        u = value.clamp(INSIDE - 1, 1 - INSIDE).atanh()
        return (self.normal.log_prob(u) - _log_slope_of_tanh(u)).sum(-1)

    def entropy(self) -> Tensor:
        """An unbiased estimate by one draw, [*], with the gradient of its reparametrisation: the
        Gaussians' entropy, which is exact, and the logarithm of tanh's slope where they fell."""
        return (self.normal.entropy() + _log_slope_of_tanh(self.normal.rsample())).sum(-1)


def symlog(x: Tensor) -> Tensor:
    """sign(x) log(1 + |x|): as x near zero, as its logarithm far from it."""
    return x.sign() * x.abs().log1p()


def symexp(x: Tensor) -> Tensor:
    """The inverse of `symlog`."""
    return x.sign() * x.abs().expm1()


class SymlogNormal(td.Distribution):
    """Numbers whose `symlog` is Gaussian; value: float [*].

        log p(value) = log N(symlog(value) | mean, std) - log(1 + |value|)

    The squared error of symlogs (Hafner et al. 2023, https://arxiv.org/abs/2301.04104, eq. 1) and
    what makes it a density: at std 1 the two have the same gradients.
    """

    arg_constraints = {}  # noqa: RUF012 (nothing is validated here)

    has_rsample = True

    def __init__(self, normal: td.Normal):
        """normal: of the symlogs, batch shape [*]."""
        self.normal = normal
        super().__init__(normal.batch_shape, validate_args=False)

    @property
    def mode(self) -> Tensor:
        """symexp(mean): the median. Where std is large the density is higher nearer to zero."""
        return symexp(self.normal.mean.clamp(-FAR, FAR))

    @property
    def mean(self) -> Tensor:
        m, s = self.normal.mean.clamp(-FAR, FAR), self.normal.stddev
        above, below = (
            (sign * m + s.square() / 2).exp() * torch.special.ndtr(s + sign * m / s)
            for sign in (1, -1)
        )
        return above - below - torch.erf(m / (s * math.sqrt(2)))

    def rsample(self, sample_shape: torch.Size = torch.Size()) -> Tensor:
        return symexp(self.normal.rsample(sample_shape).clamp(-FAR, FAR))

    def log_prob(self, value: Tensor) -> Tensor:
        return self.normal.log_prob(symlog(value)) - value.abs().log1p()


def _log_slope_of_tanh(u: Tensor) -> Tensor:
    """log(1 - tanh(u)^2), exact far out where tanh is 1."""
    return 2 * (math.log(2) - u - F.softplus(-2 * u))


def mixture(logits: Tensor, components: td.Distribution) -> td.MixtureSameFamily:
    """A mixture [*] of `components` [*, C] in proportion to softmax(logits [*, C])."""
    weights = td.Categorical(logits=logits, validate_args=False)
    return td.MixtureSameFamily(weights, components, validate_args=False)
