"""Heads: the last layers of decoders, from features [*, F] to the distribution of a value."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, distributions as td, nn
from torch.nn import functional as F

from worldmodel.codecs.base import DistModule, Parts
from worldmodel.codecs.standardisation import Standardisation
from worldmodel.distributions import (
    IMPOSSIBLE,
    NADE,
    Autoregression,
    Bernoulli,
    Bits,
    Categorical,
    ConcatLayout,
    DiscretisedLogistics,
    FiniteSupport,
    HierarchicalCategorical,
    Joint,
    OneHot,
    OneHots,
    ScaledBeta,
    Subset,
    TanhNormal,
    mixture,
)

MINIMUM_STD = 1e-3  # a density on a repeated value is unbounded without it
MINIMUM_SCALE = 1e-3  # levels; a logistic narrower than that is a step
MAXIMUM_CORRELATION = 0.999
MAXIMUM_SCORE = 7.0  # nats, of a value in a subset: `SAFE` there
IMPROBABLE = -30.0  # nats, of a number of true values that is next to impossible
QUIET = 0.1  # of first weights beside an identity, relative to those of other layers


def _begin_with(linear: nn.Linear, bias: Tensor | None) -> None:
    """Gives a layer a bias [*shape], if there is one."""
    if bias is not None:
        with torch.no_grad():
            linear.bias.copy_(bias.flatten())


class CategoricalHead(DistModule):
    """Categoricals over start..start+n-1, one or several of different n; value: int64
    [*, *shape]."""

    starts: Tensor

    def __init__(self, input_size: int, n: Any, start: Any = 0):
        """n, start: numbers, or arrays of the shape of a value."""
        super().__init__()
        n, start = np.broadcast_arrays(n, start)
        self.shape = torch.Size(n.shape)
        self.layout = ConcatLayout(n.flatten().tolist())
        self.logits = nn.Linear(input_size, self.layout.size)
        self.register_buffer("starts", torch.tensor(start.tolist()), persistent=False)

    @property
    def placeholder(self) -> Tensor:
        return self.starts.clone()

    def forward(self, features: Tensor) -> td.Distribution:
        logits = self.logits(features)
        if not self.shape:
            return Categorical(logits, self.starts)
        apart = self.layout.apart(logits, IMPOSSIBLE).unflatten(-2, self.shape)
        parts = Categorical(apart, self.starts)
        return td.Independent(parts, len(self.shape), validate_args=False)


class HierarchicalHead(DistModule):
    """Very many classes, each of which is a pair of two values, such as an offset's x and y (see
    `HierarchicalCategorical`); value: int64 [*]. Pairs that are no class have no probability."""

    pairs: Tensor
    of: Tensor

    def __init__(self, input_size: int, first: Any, second: Any, hidden: int = 128):
        """first, second: the values of each class, int [n], counted from 0."""
        super().__init__()
        pairs = torch.tensor(np.stack([first, second], -1), dtype=torch.int64)
        sizes = (pairs.max(0).values + 1).tolist()
        of = torch.full(sizes, -1)
        of[pairs[:, 0], pairs[:, 1]] = torch.arange(len(pairs))
        if (of >= 0).sum() < len(pairs):
            raise ValueError("classes are different pairs, but two of them are the same")
        self.register_buffer("pairs", pairs, persistent=False)
        self.register_buffer("of", of, persistent=False)
        self.first = nn.Linear(input_size, sizes[0])
        self.hidden = nn.Linear(input_size, hidden)
        self.heard = nn.Parameter(torch.randn(sizes[0], hidden) * hidden**-0.5)
        self.said = nn.Linear(hidden, sizes[1])

    @property
    def placeholder(self) -> Tensor:
        return torch.zeros_like(self.pairs[0, 0])

    def forward(self, features: Tensor) -> HierarchicalCategorical:
        to_second = self.heard, self.said.weight, self.said.bias
        return HierarchicalCategorical(
            self.first(features), self.hidden(features), *to_second, self.pairs, self.of
        )


class OneHotHead(DistModule):
    """A categorical over one-hot codes [*, n], or several over codes side by side [*, n_1 + n_2 +
    ...]: a policy over discrete actions."""

    def __init__(self, input_size: int, *n: int):
        super().__init__()
        self.layout = ConcatLayout(n)
        self.logits = nn.Linear(input_size, self.layout.size)

    @property
    def placeholder(self) -> Tensor:
        rows = self.layout.rows
        codes = F.one_hot(torch.zeros_like(rows[:, 0]), rows.shape[-1])
        return self.layout.beside(codes).to(self.logits.weight)

    def forward(self, features: Tensor) -> OneHot:
        logits = self.logits(features)
        return OneHot(logits) if len(self.layout.rows) == 1 else OneHots(logits, self.layout)


class BitsHead(DistModule):
    """Independent truth values as codes, floats 0 and 1, [*, n]: a policy over buttons."""

    def __init__(self, input_size: int, n: int):
        super().__init__()
        self.logits = nn.Linear(input_size, n)

    @property
    def placeholder(self) -> Tensor:
        return torch.zeros(self.logits.out_features).to(self.logits.weight)

    def forward(self, features: Tensor) -> Bits:
        return Bits(self.logits(features))


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


class BernoulliHead(DistModule):
    """Independent truth values; value: bool (or 0 and 1) [*, *shape]."""

    def __init__(self, input_size: int, shape: Sequence[int] = (), bias: Tensor | None = None):
        """bias: the logits [*shape] that each value begins with."""
        super().__init__()
        self.shape = torch.Size(shape)
        self.logits = nn.Linear(input_size, self.shape.numel())
        _begin_with(self.logits, bias)

    @property
    def placeholder(self) -> Tensor:
        return torch.zeros(self.shape, dtype=torch.bool)

    def forward(self, features: Tensor) -> td.Distribution:
        logits = self.logits(features).unflatten(-1, self.shape or (1,))
        if not self.shape:
            return Bernoulli(logits[..., 0])
        return td.Independent(Bernoulli(logits), len(self.shape), validate_args=False)


class NormalHead(DistModule):
    """A diagonal Gaussian density; value: float [*, *shape].

    Its network works on standardised values, its density is that of the values themselves:
    Normal(shift + scale * mean, scale * std).
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
        normal = td.Normal(mean, scale * std.reshape(shape), validate_args=False)
        return td.Independent(normal, len(self.shape), validate_args=False)

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


class FiniteHead(DistModule):
    """A categorical over given numbers, for rewards that take few values; value: float [*]."""

    support: Tensor

    def __init__(self, input_size: int, support: Sequence[float], spare: int = 0):
        """spare: how many values more `extend` can add."""
        super().__init__()
        if not support:
            raise ValueError("FiniteHead expects at least one value in its support, got none")
        values = [*sorted(set(support)), *[float("nan")] * spare]
        self.logits = nn.Linear(input_size, len(values))
        self.register_buffer("support", torch.tensor(values))

    @property
    def placeholder(self) -> Tensor:
        return self.support[0]

    def forward(self, features: Tensor) -> FiniteSupport:
        logits = self.logits(features).masked_fill(self.support.isnan(), -torch.inf)
        return FiniteSupport(logits, self.support.nan_to_num())

    def extend(self, values: Tensor) -> None:
        """Adds the new numbers among `values` [N] to the support."""
        values = values.to(self.support).unique()
        new = values[~torch.isin(values, self.support)]
        spare = self.support.isnan().nonzero().flatten()
        if len(new) > len(spare):
            raise ValueError(
                f"rewards had few values at first, and now {len(new)} new ones have come, with "
                f"room for {len(spare)}; let rewards have a density"
            )
        self.support[spare[: len(new)]] = new


class NADEHead(DistModule):
    """Truth values that depend on each other (pitches of a chord); value: bool [*, n].

    An RNN-NADE (see `NADE`): its two biases are read from the features. At first V = 0, so that
    the values are independent, and with features zero have the logits `bias`.
    """

    def __init__(self, input_size: int, n: int, hidden: int = 64, bias: Tensor | None = None):
        """bias: the logits [n] that each value begins with, such as those of its marginal in the
        training set."""
        super().__init__()
        self.hidden_bias = nn.Linear(input_size, hidden)
        self.visible_bias = nn.Linear(input_size, n)
        self.heard = nn.Parameter(torch.randn(n, hidden) * hidden**-0.5)
        self.said = nn.Parameter(torch.zeros(n, hidden))
        _begin_with(self.visible_bias, bias)

    @property
    def placeholder(self) -> Tensor:
        return torch.zeros(self.visible_bias.out_features, dtype=torch.bool)

    def forward(self, features: Tensor) -> NADE:
        biases = self.hidden_bias(features), self.visible_bias(features)
        return NADE(*biases, self.heard, self.said)


class SubsetHead(DistModule):
    """The number of true values, and which given their number (notes of a chord); value: bool
    [*, n] (see `Subset`). With features zero, values are independent, with the logits
    `bias`."""

    def __init__(self, input_size: int, n: int, bias: Tensor | None = None):
        """bias: the logits [n] that each value begins with, such as those of its marginal in the
        training set."""
        super().__init__()
        self.scores = nn.Linear(input_size, n)
        self.counts = nn.Linear(input_size, n + 1)
        bias = torch.zeros(n) if bias is None else bias
        middle = (bias.min() + bias.max()) / 2  # whatever is added to all scores changes nothing
        share = ((bias - middle) / MAXIMUM_SCORE).clamp(-0.99, 0.99)
        _begin_with(self.scores, MAXIMUM_SCORE * share.atanh())
        counts = F.one_hot(torch.tensor(0), n + 1).double()
        for prob in bias.double().sigmoid():
            counts = (1 - prob) * counts + prob * counts.roll(1)
        _begin_with(self.counts, counts.log().clamp(min=IMPROBABLE))

    @property
    def placeholder(self) -> Tensor:
        return torch.zeros(self.scores.out_features, dtype=torch.bool)

    def forward(self, features: Tensor) -> Subset:
        scores = MAXIMUM_SCORE * torch.tanh(self.scores(features) / MAXIMUM_SCORE)
        return Subset(self.counts(features), scores)


class FrameHead(DistModule):
    """A density of frames of sound, sample by sample; value: float [*, n].

    Each sample has a mixture of `components` Gaussians whose parameters are read from the samples
    before it in its frame, in two ways: linearly from all of them, and by gated causal
    convolutions (WaveNet, van den Oord et al. 2016, https://arxiv.org/abs/1609.03499, eq. 2) that
    the features steer. One component without convolutions is a Gaussian of full covariance. All of
    this is about standardised samples; the density is that of the samples themselves.
    Autoregression within the frame and recurrence between frames: Lai et al. 2019,
    https://arxiv.org/abs/1902.01388.
    """

    def __init__(
        self,
        input_size: int,
        n: int,
        components: int = 1,
        channels: int = 16,
        dilations: Sequence[int] = (1, 2, 4, 8),
    ):
        """dilations: of the convolutions, whose kernels have two taps; together they reach as
        many samples back as the dilations add up to, and one."""
        super().__init__()
        self.n = n
        self.dilations = tuple(dilations)
        self.sizes = [n, n, 2 * channels * len(self.dilations)]  # mean, raw std, steering
        self.condition = nn.Linear(input_size, sum(self.sizes))
        self.before = nn.Parameter(torch.zeros(n, n))
        self.heard = nn.Linear(1, channels)
        self.position = nn.Parameter(0.1 * torch.randn(n, channels))
        self.taps = nn.ModuleList(nn.Linear(2 * channels, 2 * channels) for _ in dilations)
        self.out = nn.Linear(channels, 3 * components)
        self.standard = Standardisation((n,))

    @property
    def placeholder(self) -> Tensor:
        return torch.zeros(self.n)

    def forward(self, features: Tensor) -> Autoregression:
        return Autoregression(self._given, self.condition(features), self.n)

    def _given(self, x: Tensor, condition: Tensor, which: slice) -> td.MixtureSameFamily:
        """The distributions of some samples of x [*, n], each of which reads those before it."""
        mean, raw, steering = condition.split(self.sizes, -1)
        x = self.standard(x)
        first = max(0, which.start - sum(self.dilations))
        hidden = self._convolve(x, steering, first, which.stop)[..., which.start - first :, :]
        logits, means, raws = self.out(hidden).chunk(3, -1)  # [*, len(which), components]
        mean = mean[..., which] + F.linear(x, self.before.tril(-1)[which])
        std = F.softplus(raw[..., which, None] + raws) + MINIMUM_STD
        shift, scale = self.standard.shift[which, None], self.standard.scale[which, None]
        mean = torch.addcmul(shift, scale, mean[..., None] + means)
        return mixture(logits, td.Normal(mean, scale * std, validate_args=False))

    def standardise(self, values: Any) -> None:
        self.standard.fit(values)

    def _convolve(self, x: Tensor, steering: Tensor, first: int, stop: int) -> Tensor:
        """Context of the samples first..stop-1 by convolutions, [*, stop - first, channels]."""
        last = F.pad(x, (1, 0))[..., first:stop, None]  # at every position, the sample before it
        hidden = self.heard(last) + self.position[first:stop]
        layers = zip(self.taps, self.dilations, steering.chunk(len(self.taps), -1), strict=True)
        for taps, dilation, steer in layers:
            earlier = F.pad(hidden, (0, 0, dilation, 0))[..., : hidden.shape[-2], :]
            both = taps(torch.cat([hidden, earlier], -1)) + steer[..., None, :]
            signal, gate = both.chunk(2, -1)
            hidden = hidden + signal.tanh() * gate.sigmoid()
        return hidden


class JointHead(DistModule):
    """Independent parts that read the same features; value: a dictionary with the parts' keys, or
    a tuple, as the parts are given."""

    def __init__(self, parts: Mapping[str, DistModule] | tuple[DistModule, ...]):
        super().__init__()
        self.parts = Parts(parts)

    @property
    def placeholder(self) -> Any:
        return self.parts.each(lambda part: part.placeholder)

    def forward(self, features: Tensor) -> Joint:
        return Joint(self.parts.each(lambda part: part(features)))

    def standardise(self, values: Any) -> None:
        for key, part in self.parts.items():
            part.standardise(values[key])
