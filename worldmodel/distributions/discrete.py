"""Masses: categoricals, finite supports, Bernoullis, deterministic values."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, distributions as td, nn
from torch.nn import functional as F

NUMBERS_AT_ONCE = 16384  # what is computed for each level stays in the cache
IMPOSSIBLE = -1e9  # a logit whose probability is zero, and whose gradients are finite
FEW_CLASSES = 16  # of which PyTorch's log_softmax takes one number at a time


def log_softmax(logits: Tensor) -> Tensor:
    """Logarithms of the probabilities of classes, [*, n] as the logits; of few classes several
    times faster than PyTorch's, as sums run along memory's rows."""
    if logits.dim() == 1 or logits.shape[-1] > FEW_CLASSES:
        return F.log_softmax(logits, -1)
    # contiguous, so that noise that is drawn like it is drawn row by row
    return F.log_softmax(logits.transpose(-1, -2), -2).transpose(-1, -2).contiguous()


def _entropy(log_probs: Tensor) -> Tensor:
    """-p log p, [*], where p may be zero: so far down that its logarithm's gradient is lost."""
    finite = log_probs.clamp(min=torch.finfo(log_probs.dtype).min)
    return -log_probs.exp() * finite


def _straight_through(code: Tensor, probs: Tensor) -> Tensor:
    """A drawn code that has the gradient of its probabilities, which is biased but of little
    variance (Bengio et al. 2013, https://arxiv.org/abs/1308.3432, sec. 4)."""
    return code + (probs - probs.detach())


class Categorical(td.Distribution):
    """Categorical over start..start+n-1 from logits [*, n]; value: int64 [*].

    Draws by the Gumbel-max trick, which on a CPU takes two thirds of the time of `multinomial`.
    """

    arg_constraints = {}  # noqa: RUF012 (nothing is validated here)

    has_rsample = False

    def __init__(self, logits: Tensor, start: int | Tensor = 0):
        """start: one for all, or int64 [*]."""
        self.logits = log_softmax(logits)
        self.start = start
        super().__init__(logits.shape[:-1], validate_args=False)

    @property
    def probs(self) -> Tensor:
        return self.logits.exp()

    @property
    def mode(self) -> Tensor:
        return self.logits.argmax(-1) + self.start

    def sample(self, sample_shape: torch.Size = torch.Size()) -> Tensor:
        with torch.no_grad():
            logits = self.logits.expand(*sample_shape, *self.logits.shape)
            gumbel = -torch.empty_like(logits).exponential_().log()
            return (logits + gumbel).argmax(-1) + self.start

    def log_prob(self, value: Tensor) -> Tensor:
        shape = torch.broadcast_shapes(value.shape, self.logits.shape[:-1])
        logits = self.logits.expand(*shape, self.logits.shape[-1])
        indices = value.long().expand(shape) - self.start
        return logits.gather(-1, indices[..., None])[..., 0]

    def entropy(self) -> Tensor:
        return _entropy(self.logits).sum(-1)


class OneHot(Categorical):
    """Categorical whose values are one-hot floats [*, n]: the code of a discrete action.

    `rsample` is straight-through.
    """

    has_rsample = True

    def sample(self, sample_shape: torch.Size = torch.Size()) -> Tensor:
        return self._code(super().sample(sample_shape))

    def rsample(self, sample_shape: torch.Size = torch.Size()) -> Tensor:
        return _straight_through(self.sample(sample_shape), self.probs)

    @property
    def mean(self) -> Tensor:
        return self.probs

    @property
    def mode(self) -> Tensor:
        return self._code(super().mode)

    def log_prob(self, value: Tensor) -> Tensor:
        return torch.where(value > 0, self.logits, 0.0).sum(-1)

    def kl_from_uniform(self) -> Tensor:
        """The KL divergence of the uniform distribution from this one, KL(uniform || this), [*]
        nats: the rarer any value, the larger."""
        return -math.log(self.logits.shape[-1]) - self.logits.mean(-1)

    def restricted(self, allowed: Tensor) -> "OneHot":
        """The same, given that the value is one of those that are allowed, bool [*, n]."""
        return OneHot(self.logits.masked_fill(~allowed, IMPOSSIBLE))

    def _code(self, indices: Tensor) -> Tensor:
        return F.one_hot(indices, self.logits.shape[-1]).to(self.logits.dtype)


class ConcatLayout(nn.Module):
    """The layout of V variables of n_1, n_2, ... values each in S = n_1 + n_2 + ... numbers."""

    rows: Tensor
    places: Tensor

    def __init__(self, sizes: Sequence[int]):
        super().__init__()
        self.size = sum(sizes)
        ends = torch.tensor([0, *sizes]).cumsum(0)
        value = torch.arange(max(sizes))
        is_there = value < torch.tensor(sizes)[:, None]  # [V, m]
        rows = torch.where(is_there, ends[:-1, None] + value, self.size)
        self.register_buffer("rows", rows, persistent=False)
        self.register_buffer("places", is_there.flatten().nonzero()[:, 0], persistent=False)

    def apart(self, numbers: Tensor, fill: float) -> Tensor:
        """[*, S] -> [*, V, m], m the most values; variables with fewer are filled up."""
        return F.pad(numbers, (0, 1), value=fill)[..., self.rows.to(numbers.device)]

    def beside(self, rows: Tensor) -> Tensor:
        """[*, V, m] -> [*, S]: the inverse of `apart`."""
        return rows.flatten(-2)[..., self.places.to(rows.device)]


class OneHots(OneHot):
    """V independent categoricals from logits [*, S], side by side; value: their one-hot codes side
    by side, float [*, S]."""

    def __init__(self, logits: Tensor, layout: ConcatLayout):
        self.layout = layout
        self.apart = Categorical(layout.apart(logits, IMPOSSIBLE))
        td.Distribution.__init__(self, logits.shape[:-1], validate_args=False)
        self.logits = layout.beside(self.apart.logits)

    def kl_from_uniform(self) -> Tensor:
        logits = self.layout.apart(self.logits, 0.0)  # [*, V, m]
        sizes = self.layout.apart(torch.ones_like(self.logits), 0.0).sum(-1)
        return -(sizes.log() + logits.sum(-1) / sizes).sum(-1)

    def restricted(self, allowed: Tensor) -> "OneHots":
        return OneHots(self.logits.masked_fill(~allowed, IMPOSSIBLE), self.layout)

    def sample(self, sample_shape: torch.Size = torch.Size()) -> Tensor:
        return self._code(self.apart.sample(sample_shape))

    @property
    def mode(self) -> Tensor:
        return self._code(self.apart.mode)

    def _code(self, indices: Tensor) -> Tensor:
        codes = F.one_hot(indices, self.apart.logits.shape[-1])  # [*, V, m]
        return self.layout.beside(codes).to(self.logits.dtype)


class OneHotVectors(td.Distribution):
    """V independent categoricals of C values, from log probabilities [*, C, V]; value: a code,
    float [*, C * V], in which each categorical's value is one of C numbers V apart."""

    arg_constraints = {}  # noqa: RUF012 (nothing is validated here)

    def __init__(self, logits: Tensor):
        self.logits = logits
        size = logits.shape[-2] * logits.shape[-1]
        super().__init__(logits.shape[:-2], torch.Size([size]), validate_args=False)

    @staticmethod
    def code(indices: Tensor, classes: int) -> Tensor:
        """The code of the values int [*, V], bool [*, C * V]."""
        values = torch.arange(classes, device=indices.device)[:, None]
        return (indices[..., None, :] == values).flatten(-2)

    def sample(self, sample_shape: torch.Size = torch.Size()) -> Tensor:
        return self._code(Categorical(self.logits.mT).sample(sample_shape))

    @property
    def mode(self) -> Tensor:
        return self._code(self.logits.argmax(-2))

    @property
    def mean(self) -> Tensor:
        return self.logits.exp().flatten(-2)

    def log_prob(self, value: Tensor) -> Tensor:
        return (value.unflatten(-1, self.logits.shape[-2:]) * self.logits).sum((-1, -2))

    def entropy(self) -> Tensor:
        return torch.special.entr(self.logits.exp()).sum((-1, -2))

    def _code(self, indices: Tensor) -> Tensor:
        return self.code(indices, self.logits.shape[-2]).to(self.logits.dtype)


@td.register_kl(OneHotVectors, OneHotVectors)
def _kl_one_hot_vectors(p: OneHotVectors, q: OneHotVectors) -> Tensor:
    return (p.logits.exp() * (p.logits - q.logits)).sum((-1, -2))


class FiniteSupport(Categorical):
    """A categorical over given numbers `support` [n]; a value outside has probability zero."""

    def __init__(self, logits: Tensor, support: Tensor):
        super().__init__(logits)
        self.support_values = support

    @property
    def mean(self) -> Tensor:
        return self.probs @ self.support_values.to(self.logits.dtype)

    @property
    def mode(self) -> Tensor:
        return self.support_values[super().mode]

    def sample(self, sample_shape: torch.Size = torch.Size()) -> Tensor:
        return self.support_values[super().sample(sample_shape)]

    def log_prob(self, value: Tensor) -> Tensor:
        hits = value[..., None].float() == self.support_values.float()
        log_probs = super().log_prob(hits.long().argmax(-1))
        return torch.where(hits.any(-1), log_probs, -torch.inf)


class Bernoulli(td.Distribution):
    """Bernoulli over truth values from logits [*]; value: bool [*]."""

    arg_constraints = {}  # noqa: RUF012 (nothing is validated here)

    has_rsample = False

    def __init__(self, logits: Tensor):
        self.logits = logits
        super().__init__(logits.shape, validate_args=False)

    @property
    def probs(self) -> Tensor:
        return self.logits.sigmoid()

    @property
    def mean(self) -> Tensor:
        return self.probs

    @property
    def mode(self) -> Tensor:
        return self.logits > 0

    def sample(self, sample_shape: torch.Size = torch.Size()) -> Tensor:
        with torch.no_grad():
            probs = self.probs.expand(torch.Size(sample_shape) + self.logits.shape)
            return torch.rand_like(probs) < probs

    def log_prob(self, value: Tensor) -> Tensor:
        return F.logsigmoid(torch.where(value.bool(), self.logits, -self.logits))

    def entropy(self) -> Tensor:
        return _entropy(F.logsigmoid(self.logits)) + _entropy(F.logsigmoid(-self.logits))


class Bits(td.Distribution):
    """Independent truth values from logits [*, n]; value: their code, floats 0 and 1, [*, n].

    `rsample` is straight-through.
    """

    arg_constraints = {}  # noqa: RUF012 (nothing is validated here)

    has_rsample = True

    def __init__(self, logits: Tensor):
        self.truths = Bernoulli(logits)
        super().__init__(logits.shape[:-1], logits.shape[-1:], validate_args=False)

    @property
    def logits(self) -> Tensor:
        return self.truths.logits

    @property
    def mean(self) -> Tensor:
        return self.truths.probs

    @property
    def mode(self) -> Tensor:
        return self.truths.mode.to(self.logits.dtype)

    def sample(self, sample_shape: torch.Size = torch.Size()) -> Tensor:
        return self.truths.sample(sample_shape).to(self.logits.dtype)

    def rsample(self, sample_shape: torch.Size = torch.Size()) -> Tensor:
        return _straight_through(self.sample(sample_shape), self.truths.probs)

    def log_prob(self, value: Tensor) -> Tensor:
        return self.truths.log_prob(value).sum(-1)

    def kl_from_uniform(self) -> Tensor:
        """KL(uniform || this), [*] nats, as that of `OneHot`."""
        both = F.logsigmoid(self.logits) + F.logsigmoid(-self.logits)
        return (-math.log(2) - both / 2).sum(-1)

    def entropy(self) -> Tensor:
        return self.truths.entropy().sum(-1)


class Deterministic(td.Distribution):
    """A distribution of one value [*, ...], of probability one."""

    arg_constraints = {}  # noqa: RUF012 (nothing is validated here)

    def __init__(self, value: Tensor):
        self.value = value
        super().__init__(value.shape, validate_args=False)

    @property
    def mode(self) -> Tensor:
        return self.value

    def sample(self, sample_shape: torch.Size = torch.Size()) -> Tensor:
        return self.value.expand(*sample_shape, *self.value.shape)


class Mode(Deterministic):
    """The most probable value of another distribution, of probability one."""

    def __init__(self, other: td.Distribution):
        super().__init__(other.mode)
        self.other = other

    def restricted(self, allowed: Tensor) -> "Mode":
        """The most probable one of those that are allowed."""
        return Mode(self.other.restricted(allowed))  # type: ignore[attr-defined]


class DiscretisedLogistics(td.Distribution):
    """A mixture of logistics whose mass is that of cells around equally spaced levels
    (PixelCNN++, Salimans et al. 2017, https://arxiv.org/abs/1701.05517, eq. 2); value [*].

    The level x of 0..n-1 has, of a component with mean m and scale s,

        sigmoid((x + 1/2 - m) / s) - sigmoid((x - 1/2 - m) / s)

    and the outermost levels have the tails as well, so that masses add up to one.
    """

    arg_constraints = {}  # noqa: RUF012 (nothing is validated here)

    has_rsample = False

    def __init__(
        self, logits: Tensor, mean: Tensor, scale: Tensor, levels: int, low: Tensor, step: Tensor
    ):
        """logits, mean, scale [*, C], the last two in levels; low, step: the value of level 0 and
        the distance between levels; values have their type."""
        self.weights = Categorical(logits)
        self.component_mean = mean
        self.scale = scale
        self.last = levels - 1
        self.low = low
        self.step = step
        super().__init__(logits.shape[:-1], validate_args=False)

    @property
    def mean(self) -> Tensor:
        """The sum over levels k > 0 of the probability that the level is k or more."""
        numbers = torch.broadcast_tensors(self.weights.probs, self.component_mean, self.scale)
        some = (x.reshape(-1, x.shape[-1]).split(NUMBERS_AT_ONCE) for x in numbers)
        level = torch.cat([self._mean_level(*few) for few in zip(*some, strict=True)])
        return self.low + self.step * level.reshape(numbers[0].shape[:-1])

    def _mean_level(self, probs: Tensor, mean: Tensor, scale: Tensor) -> Tensor:
        """The mean level [N] of components [N, C]."""
        level = torch.zeros_like(mean)
        for k in range(self.last):
            level = level + torch.sigmoid((mean - (k + 0.5)) / scale)
        return (probs * level).sum(-1)

    def sample(self, sample_shape: torch.Size = torch.Size()) -> Tensor:
        with torch.no_grad():
            component = self.weights.sample(sample_shape)[..., None]
            mean, scale = (
                x.expand(*component.shape[:-1], -1).gather(-1, component)[..., 0]
                for x in (self.component_mean, self.scale)
            )
            drawn = mean + scale * torch.rand_like(mean).logit(eps=1e-7)
            return self.low + self.step * drawn.round().clamp(0, self.last).to(self.low.dtype)

    def log_prob(self, value: Tensor) -> Tensor:
        """The log mass of the levels nearest to the values.

        sigmoid(b) - sigmoid(a) = sigmoid(b) sigmoid(-a) (1 - exp(a - b)), which is exact far
        out in the tails, where the difference would be zero.
        """
        level = ((value - self.low) / self.step).round().to(self.scale.dtype)[..., None]
        below, above = level > 0, level < self.last
        left = F.logsigmoid((self.component_mean - level + 0.5) / self.scale)
        right = F.logsigmoid((level + 0.5 - self.component_mean) / self.scale)
        between = torch.log(-torch.expm1(-1 / self.scale))
        mass = torch.where(below, left, 0.0) + torch.where(above, right, 0.0)
        mass = mass + torch.where(below & above, between, 0.0)
        return torch.logsumexp(self.weights.logits + mass, -1)
