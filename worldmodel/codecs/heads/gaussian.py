"""Heads of Gaussian densities, of Student's t, and of mixtures of Gaussians."""

import math
from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, distributions as td, nn
from torch.nn import functional as F

from worldmodel.codecs.base import DistModule
from worldmodel.codecs.standardisation import Standardisation
from worldmodel.distributions import StudentT, SymlogNormal, mixture

MINIMUM_STD = 1e-3  # a density on a repeated value is unbounded without it
MAXIMUM_CORRELATION = 0.999
LEAST_FREEDOM, MOST_FREEDOM = 2.0, 16.0  # degrees of it: a finite variance; all but Gaussian
FREEDOM = 4.0  # at first
BEGIN = math.log((FREEDOM - LEAST_FREEDOM) / (MOST_FREEDOM - FREEDOM))
FASTER = 3.0  # than other parameters: one for each number, it has to change by much
QUIET = 0.1  # of first weights beside an identity, relative to those of other layers


class LocationScaleHead(DistModule):
    """Densities of independent numbers, each with a mean and a scale that are read from the
    features; value: float [*, *shape].

    Its network works on standardised values, its density is that of the values themselves: the
    mean is shift + scale * mean, the scale is scale * std.
    """

    def __init__(
        self,
        input_size: int,
        shape: Sequence[int] = (),
        shift: Any = 0.0,
        scale: Any = 1.0,
        minimum_std: float = MINIMUM_STD,
    ):
        """shift, scale: numbers or arrays [*shape], until `standardise` sets them from data;
        minimum_std: of standardised values."""
        super().__init__()
        self.minimum_std = minimum_std
        self.shape = torch.Size(shape)
        self.parameters_ = nn.Linear(input_size, 2 * self.shape.numel())
        self.standard = Standardisation(shape, shift, scale)

    @property
    def placeholder(self) -> Tensor:
        return torch.zeros(self.shape)

    def forward(self, features: Tensor) -> td.Distribution:
        mean, raw = self.parameters_(features).chunk(2, -1)
        shape = (*features.shape[:-1], *self.shape)
        std = F.softplus(raw.contiguous()) + self.minimum_std  # strided: ten times slower
        shift, scale = self.standard.shift, self.standard.scale
        mean = torch.addcmul(shift, scale, mean.reshape(shape))
        density = self.density(mean, scale * std.reshape(shape))
        return td.Independent(density, len(self.shape), validate_args=False)

    @abstractmethod
    def density(self, mean: Tensor, std: Tensor) -> td.Distribution:
        """The densities of numbers with these means and scales, [*, *shape] each."""

    @torch.no_grad()
    def begin_with(self, columns: slice) -> None:
        """Initialises the mean near the standardised features in `columns`: of a world that
        changes little from row to row, only the change is left to be learned."""
        size = self.shape.numel()
        means = self.parameters_.weight[:size]
        means.mul_(QUIET)
        means[:, columns] += torch.eye(size)

    def standardise(self, values: Any) -> None:
        self.standard.fit(values)


class NormalHead(LocationScaleHead):
    """A diagonal Gaussian density; value: float [*, *shape], standardised."""

    def density(self, mean: Tensor, std: Tensor) -> td.Normal:
        return td.Normal(mean, std, validate_args=False)


class StudentHead(LocationScaleHead):
    """Independent `StudentT`; value: float [*, *shape], standardised.

    Deterministic worlds are predicted ever better, and then something is hit that was not hit
    before: half a spread off, at a std of a hundredth, costs a Gaussian 1,250 nats, and this 15 to
    45. Each number's degrees of freedom are learned, so nothing has to choose between the two:
    where data have no tails it is within 0.01 nats of the Gaussian. They stay below 16, since a
    network knows the rows that it learned from better than others, and would give up its tails
    for a hundredth of a nat.
    """

    def __init__(self, input_size: int, shape: Sequence[int] = (), **options: Any):
        """options: of a `LocationScaleHead`."""
        super().__init__(input_size, shape, **options)
        self.freedom_ = nn.Parameter(torch.zeros(self.shape))

    @property
    def freedom(self) -> Tensor:
        """The degrees of freedom of each number, [*shape]."""
        share = (FASTER * self.freedom_ + BEGIN).sigmoid()
        return LEAST_FREEDOM + (MOST_FREEDOM - LEAST_FREEDOM) * share

    def density(self, mean: Tensor, std: Tensor) -> StudentT:
        return StudentT(self.freedom, mean, std)


class SymlogNormalHead(DistModule):
    """A Gaussian of the symlog of numbers, with a fixed std; value: float [*, *shape].

    Numbers of any scale are seen as they are, none is standardised (`SymlogNormal`).
    """

    def __init__(self, input_size: int, shape: Sequence[int] = (), std: float = 1.0):
        """std: of the symlogs."""
        super().__init__()
        self.std = std
        self.shape = torch.Size(shape)
        self.mean = nn.Linear(input_size, self.shape.numel())

    @property
    def placeholder(self) -> Tensor:
        return torch.zeros(self.shape)

    def forward(self, features: Tensor) -> td.Distribution:
        mean = self.mean(features).reshape((*features.shape[:-1], *self.shape))
        normal = td.Normal(mean, torch.full_like(mean, self.std), validate_args=False)
        return td.Independent(SymlogNormal(normal), len(self.shape), validate_args=False)


class FullNormalHead(DistModule):
    """A Gaussian density with any covariance; value: float [*, n], standardised as a
    `NormalHead`'s.

    Its Cholesky factor is read from the features: a positive diagonal, and below it numbers that
    begin the smaller the more there are, since the inverse of a random factor grows with n.
    """

    def __init__(self, input_size: int, n: int):
        super().__init__()
        self.sizes = [n, n, n * (n - 1) // 2]
        self.standard = Standardisation((n,))
        self.parameters_ = nn.Linear(input_size, sum(self.sizes))

    @property
    def placeholder(self) -> Tensor:
        return torch.zeros(self.sizes[0])

    def forward(self, features: Tensor) -> td.MultivariateNormal:
        mean, diagonal, below = self.parameters_(features).split(self.sizes, -1)
        n = self.sizes[0]
        rows, columns = torch.tril_indices(n, n, -1, device=features.device)
        factor = torch.diag_embed(F.softplus(diagonal) + MINIMUM_STD)  # [*, n, n]
        factor[..., rows, columns] = below * n**-0.5
        shift, scale = self.standard.shift, self.standard.scale
        mean, factor = torch.addcmul(shift, scale, mean), scale[:, None] * factor
        return td.MultivariateNormal(mean, scale_tril=factor, validate_args=False)

    def standardise(self, values: Any) -> None:
        self.standard.fit(values)


class LowRankNormalHead(DistModule):
    """A Gaussian density whose covariance is a diagonal and `rank` directions more;
    value: float [*, n], standardised as a `NormalHead`'s."""

    def __init__(self, input_size: int, n: int, rank: int = 4):
        super().__init__()
        self.n = n
        self.diagonal = nn.Linear(input_size, 2 * n)
        self.directions = nn.Linear(input_size, n * rank)
        self.standard = Standardisation((n,))

    @property
    def placeholder(self) -> Tensor:
        return torch.zeros(self.n)

    def forward(self, features: Tensor) -> td.LowRankMultivariateNormal:
        mean, raw = self.diagonal(features).chunk(2, -1)
        directions = self.directions(features).unflatten(-1, (self.n, -1))  # [*, n, rank]
        shift, scale = self.standard.shift, self.standard.scale
        variance = (scale * (F.softplus(raw) + MINIMUM_STD)).square()
        mean, directions = torch.addcmul(shift, scale, mean), scale[:, None] * directions
        return td.LowRankMultivariateNormal(mean, directions, variance, validate_args=False)

    def standardise(self, values: Any) -> None:
        self.standard.fit(values)


class MixtureHead(DistModule):
    """A mixture of diagonal Gaussians; value: float [*, *shape], standardised as a
    `NormalHead`'s."""

    def __init__(self, input_size: int, shape: Sequence[int] = (), components: int = 5):
        super().__init__()
        self.shape = torch.Size(shape)
        self.weights = nn.Linear(input_size, components)
        self.components = nn.Linear(input_size, components * 2 * self.shape.numel())
        self.standard = Standardisation(shape)

    @property
    def placeholder(self) -> Tensor:
        return torch.zeros(self.shape)

    def forward(self, features: Tensor) -> td.MixtureSameFamily:
        weights = self.weights(features)  # [*, C]
        raw = self.components(features).reshape(*weights.shape, 2, *self.shape)
        mean, std = raw.unbind(weights.dim())  # [*, C, *shape]
        shift, scale = self.standard.shift, self.standard.scale
        std = scale * (F.softplus(std) + MINIMUM_STD)
        normal = td.Normal(torch.addcmul(shift, scale, mean), std, validate_args=False)
        parts = td.Independent(normal, len(self.shape), validate_args=False)
        return mixture(weights, parts)

    def standardise(self, values: Any) -> None:
        self.standard.fit(values)


class BivariateMixtureHead(DistModule):
    """A mixture of correlated Gaussians over offsets of a pen; value: float [*, 2], standardised
    as a `NormalHead`'s.

    Graves, 2013 (https://arxiv.org/abs/1308.0850, eqs. 18-25), with softplus where the paper has
    exp, which overflows. With a `CategoricalHead` of what the pen does, in a `JointHead`, it
    describes strokes.
    """

    def __init__(self, input_size: int, components: int = 20):
        super().__init__()
        self.parameters_ = nn.Linear(input_size, 6 * components)
        self.standard = Standardisation((2,))

    @property
    def placeholder(self) -> Tensor:
        return torch.zeros(2)

    def forward(self, features: Tensor) -> td.MixtureSameFamily:
        raw = self.parameters_(features).unflatten(-1, (6, -1))  # [*, 6, C]
        weights, x, y, *spread = raw.unbind(-2)
        std_x, std_y = (F.softplus(part) + MINIMUM_STD for part in spread[:2])
        correlation = MAXIMUM_CORRELATION * spread[2].tanh()
        rest = (1 - correlation.square()).sqrt()
        rows = [std_x, torch.zeros_like(std_x), correlation * std_y, rest * std_y]
        factor = torch.stack(rows, -1).unflatten(-1, (2, 2))  # [*, C, 2, 2]
        shift, scale = self.standard.shift, self.standard.scale
        mean = torch.addcmul(shift, scale, torch.stack([x, y], -1))
        factor = scale[:, None] * factor
        parts = td.MultivariateNormal(mean, scale_tril=factor, validate_args=False)
        return mixture(weights, parts)

    def standardise(self, values: Any) -> None:
        self.standard.fit(values)
