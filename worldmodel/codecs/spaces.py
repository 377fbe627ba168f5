"""One encoder and one decoder for each kind of Gymnasium space."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from gymnasium import spaces
from torch import Tensor, nn
from torch import distributions as td
from torch.nn import functional as F

from worldmodel.codecs.base import DistModule, Encoder
from worldmodel.distributions import Categorical, FiniteSupport, OneHot, Truth

MINIMUM_STD = 1e-3  # a density on a repeated value is unbounded without it


class OneHotEncoder(Encoder):
    """start..start+n-1 -> one-hot, int [*] -> float [*, n]."""

    like: Tensor

    def __init__(self, n: int, start: int = 0):
        super().__init__()
        self.size = n
        self.start = start
        self.register_buffer("like", torch.zeros(()), persistent=False)  # knows dtype and device

    def forward(self, x: Tensor) -> Tensor:
        return F.one_hot(x.long() - self.start, self.size).to(self.like.dtype)


class FlatEncoder(Encoder):
    """A vector or array as it is, [*, *shape] -> float [*, size]."""

    like: Tensor

    def __init__(self, shape: Sequence[int]):
        super().__init__()
        self.dimensions = len(shape)
        self.size = int(torch.Size(shape).numel())
        self.register_buffer("like", torch.zeros(()), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        return x.to(self.like.dtype).reshape(*x.shape[: x.dim() - self.dimensions], self.size)


class CategoricalHead(DistModule):
    """A categorical over start..start+n-1; value: int64 [*]."""

    def __init__(self, input_size: int, n: int, start: int = 0):
        super().__init__()
        self.logits = nn.Linear(input_size, n)
        self.start = start

    @property
    def void(self) -> Tensor:
        return torch.tensor(self.start)

    def forward(self, features: Tensor) -> td.Distribution:
        return Categorical(self.logits(features), self.start)


class OneHotHead(DistModule):
    """A categorical over one-hot codes [*, n]: a policy over discrete actions."""

    def __init__(self, input_size: int, n: int):
        super().__init__()
        self.logits = nn.Linear(input_size, n)

    @property
    def void(self) -> Tensor:
        return F.one_hot(torch.tensor(0), self.logits.out_features).to(self.logits.weight)

    def forward(self, features: Tensor) -> OneHot:
        return OneHot(self.logits(features))


class TruthHead(DistModule):
    """Independent truth values; value: bool (or 0 and 1) [*, *shape]."""

    def __init__(self, input_size: int, shape: Sequence[int] = ()):
        super().__init__()
        self.shape = torch.Size(shape)
        self.logits = nn.Linear(input_size, self.shape.numel())

    @property
    def void(self) -> Tensor:
        return torch.zeros(self.shape, dtype=torch.bool)

    def forward(self, features: Tensor) -> td.Distribution:
        logits = self.logits(features).unflatten(-1, self.shape or (1,))
        if not self.shape:
            return Truth(logits[..., 0])
        return td.Independent(Truth(logits), len(self.shape), validate_args=False)


class NormalHead(DistModule):
    """A diagonal Gaussian density; value: float [*, *shape]."""

    def __init__(self, input_size: int, shape: Sequence[int] = ()):
        super().__init__()
        self.shape = torch.Size(shape)
        self.parameters_ = nn.Linear(input_size, 2 * self.shape.numel())

    @property
    def void(self) -> Tensor:
        return torch.zeros(self.shape)

    def forward(self, features: Tensor) -> td.Distribution:
        mean, raw = self.parameters_(features).chunk(2, -1)
        shape = (*features.shape[:-1], *self.shape)
        std = F.softplus(raw.contiguous()) + MINIMUM_STD  # strided: ten times slower
        normal = td.Normal(mean.reshape(shape), std.reshape(shape), validate_args=False)
        return td.Independent(normal, len(self.shape), validate_args=False)


class FiniteHead(DistModule):
    """A categorical over given numbers, for rewards that take few values; value: float [*]."""

    support: Tensor

    def __init__(self, input_size: int, support: Sequence[float]):
        super().__init__()
        if not support:
            raise ValueError("FiniteHead expects at least one value in its support, got none")
        values = sorted(set(support))
        self.logits = nn.Linear(input_size, len(values))
        self.register_buffer("support", torch.tensor(values))

    @property
    def void(self) -> Tensor:
        return self.support[0]

    def forward(self, features: Tensor) -> FiniteSupport:
        return FiniteSupport(self.logits(features), self.support)


def _by_space(space: spaces.Space, makers: dict[type, Callable[[Any], Any]], what: str) -> Any:
    for kind, make in makers.items():
        if isinstance(space, kind):
            return make(space)
    known = ", ".join(kind.__name__ for kind in makers)
    raise ValueError(f"no {what} for the space {space}: known are {known}; pass one of your own")


def encoder_for(space: spaces.Space) -> Encoder:
    """The encoder of values of `space`: Discrete, Box (flattened) or MultiBinary."""
    makers: dict[type, Callable[[Any], Encoder]] = {
        spaces.Discrete: lambda s: OneHotEncoder(int(s.n), int(s.start)),
        spaces.Box: lambda s: FlatEncoder(s.shape),
        spaces.MultiBinary: lambda s: FlatEncoder(s.shape),
    }
    return _by_space(space, makers, "encoder")


def decoder_for(space: spaces.Space, input_size: int) -> DistModule:
    """The likelihood of values of `space`, from features [*, input_size].

    Discrete: a mass (categorical); MultiBinary: a mass (Bernoulli); Box: a density (Gaussian).
    """
    makers: dict[type, Callable[[Any], DistModule]] = {
        spaces.Discrete: lambda s: CategoricalHead(input_size, int(s.n), int(s.start)),
        spaces.Box: lambda s: NormalHead(input_size, s.shape),
        spaces.MultiBinary: lambda s: TruthHead(input_size, s.shape),
    }
    return _by_space(space, makers, "decoder")
