"""Heads: the last layers of decoders, from features [*, F] to the distribution of a value."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch import distributions as td
from torch.nn import functional as F

from worldmodel.codecs.base import DistModule
from worldmodel.distributions import NADE, Categorical, FiniteSupport, OneHot, Truth

MINIMUM_STD = 1e-3  # a density on a repeated value is unbounded without it


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

    def __init__(self, input_size: int, shape: Sequence[int] = (), bias: Tensor | None = None):
        """bias: the logits [*shape] that each value begins with, such as those of its marginal in
        the training set."""
        super().__init__()
        self.shape = torch.Size(shape)
        self.logits = nn.Linear(input_size, self.shape.numel())
        if bias is not None:
            with torch.no_grad():
                self.logits.bias.copy_(bias.flatten())

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
        std = F.softplus(raw) + MINIMUM_STD
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


class NADEHead(DistModule):
    """Truth values that depend on each other (pitches of a chord); value: bool [*, n].

    An RNN-NADE (see `NADE`): its two biases are read from the features. At first V = 0, so that
    the values are independent, and with features zero as probable as `bias` says.
    """

    def __init__(self, input_size: int, n: int, hidden: int = 64, bias: Tensor | None = None):
        """bias: the logits [n] that each value begins with, such as those of its marginal in the
        training set."""
        super().__init__()
        self.hidden_bias = nn.Linear(input_size, hidden)
        self.visible_bias = nn.Linear(input_size, n)
        self.heard = nn.Parameter(torch.randn(n, hidden) * hidden**-0.5)
        self.said = nn.Parameter(torch.zeros(n, hidden))
        if bias is not None:
            with torch.no_grad():
                self.visible_bias.bias.copy_(bias)

    @property
    def void(self) -> Tensor:
        return torch.zeros(self.visible_bias.out_features, dtype=torch.bool)

    def forward(self, features: Tensor) -> NADE:
        biases = self.hidden_bias(features), self.visible_bias(features)
        return NADE(*biases, self.heard, self.said)
