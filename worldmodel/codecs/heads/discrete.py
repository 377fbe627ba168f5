"""Heads of classes, truth values and numbers of a list."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, distributions as td, nn
from torch.nn import functional as F

from worldmodel.codecs.base import DistModule, begin_with
from worldmodel.distributions import (
    IMPOSSIBLE,
    Bernoulli,
    Bits,
    Categorical,
    ConcatLayout,
    Counts,
    FiniteSupport,
    HierarchicalCategorical,
    OneHot,
    OneHots,
    Subset,
)

MAXIMUM_SCORE = 7.0  # nats, of a value in a subset: `SAFE` there
MOST_SIZE = 7.0  # log: beyond e^7 a count is a Poisson's, and single precision ends
IMPROBABLE = -30.0  # nats, of a number of true values that is next to impossible


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
        self.from_first = nn.Parameter(torch.randn(sizes[0], hidden) * hidden**-0.5)
        self.to_second = nn.Linear(hidden, sizes[1])

    @property
    def placeholder(self) -> Tensor:
        return torch.zeros_like(self.pairs[0, 0])

    def forward(self, features: Tensor) -> HierarchicalCategorical:
        to_second = self.from_first, self.to_second.weight, self.to_second.bias
        return HierarchicalCategorical(
            self.first(features), self.hidden(features), *to_second, self.pairs, self.of
        )


class OneHotHead(DistModule):
    """A categorical over one-hot codes [*, n], or several over codes side by side [*, n_1 + n_2 +
    ...]: a policy over discrete actions."""

    uniform: Tensor

    def __init__(self, input_size: int, *n: int, unimix: float = 0.0):
        """unimix: the share of each categorical that is uniform."""
        super().__init__()
        self.unimix = unimix
        self.layout = ConcatLayout(n)
        self.logits = nn.Linear(input_size, self.layout.size)
        uniform = torch.cat([torch.full((each,), 1 / each) for each in n])
        self.register_buffer("uniform", uniform, persistent=False)

    @property
    def placeholder(self) -> Tensor:
        rows = self.layout.rows
        codes = F.one_hot(torch.zeros_like(rows[:, 0]), rows.shape[-1])
        return self.layout.beside(codes).to(self.logits.weight)

    def forward(self, features: Tensor) -> OneHot:
        found = self._of(self.logits(features))
        if not self.unimix:
            return found
        mixed = (1 - self.unimix) * found.logits.exp() + self.unimix * self.uniform
        return self._of(mixed.log())

    def _of(self, logits: Tensor) -> OneHot:
        return OneHot(logits) if len(self.layout.rows) == 1 else OneHots(logits, self.layout)


class BitsHead(DistModule):
    """Independent truth values as codes, floats 0 and 1, [*, n]: a policy over buttons."""

    def __init__(self, input_size: int, n: int, unimix: float = 0.0):
        """unimix: the share of each that is uniform."""
        super().__init__()
        self.unimix = unimix
        self.logits = nn.Linear(input_size, n)

    @property
    def placeholder(self) -> Tensor:
        return torch.zeros(self.logits.out_features).to(self.logits.weight)

    def forward(self, features: Tensor) -> Bits:
        logits = self.logits(features)
        if not self.unimix:
            return Bits(logits)
        return Bits(((1 - self.unimix) * logits.sigmoid() + self.unimix / 2).logit())


class BernoulliHead(DistModule):
    """Independent truth values; value: bool (or 0 and 1) [*, *shape].

    As long as `meet` was shown one of the two alone, in n rows, the other has the probability that
    Laplace's rule gives to what never came, 1 / (2 n + 2), and nothing is learned of it (as in
    `MixedHead`). From then on probabilities are learned, and where `meet` is never called.
    """

    met: Tensor
    rows: Tensor

    def __init__(self, input_size: int, shape: Sequence[int] = (), bias: Tensor | None = None):
        """bias: the logits [*shape] that each value begins with."""
        super().__init__()
        self.shape = torch.Size(shape)
        self.logits = nn.Linear(input_size, self.shape.numel())
        begin_with(self.logits, bias)
        self.register_buffer("met", torch.zeros(2, *self.shape, dtype=torch.bool))  # false, true
        self.register_buffer("rows", torch.zeros((), dtype=torch.int64))

    @property
    def placeholder(self) -> Tensor:
        return torch.zeros(self.shape, dtype=torch.bool)

    def forward(self, features: Tensor) -> td.Distribution:
        logits = self.logits(features).reshape(features.shape[:-1] + self.shape)
        false, true = self.met
        never = torch.where(true, 1, -1) * (2 * self.rows + 1).to(logits).log()
        truths = Bernoulli(torch.where(false ^ true, never, logits))
        if not self.shape:
            return truths
        return td.Independent(truths, len(self.shape), validate_args=False)

    @torch.no_grad()
    def meet(self, values: Any) -> None:
        values = torch.as_tensor(values, device=self.met.device).bool()
        self.met |= torch.stack([(~values).any(0), values.any(0)])
        self.rows += len(values)


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
    def placeholder(self) -> Tensor:
        return self.support[0]

    def forward(self, features: Tensor) -> FiniteSupport:
        return FiniteSupport(self.logits(features), self.support)


class CountHead(DistModule):
    """Independent `Counts`, whose means and dispersions are read from the features; value: whole
    numbers from 0 on, [*, *shape]."""

    def __init__(self, input_size: int, shape: Sequence[int] = ()):
        super().__init__()
        self.shape = torch.Size(shape)
        self.parameters_ = nn.Linear(input_size, 2 * self.shape.numel())

    @property
    def placeholder(self) -> Tensor:
        return torch.zeros(self.shape)

    def forward(self, features: Tensor) -> td.Distribution:
        parameters = self.parameters_(features).reshape(*features.shape[:-1], 2, *self.shape)
        log_mean, log_size = parameters.unbind(features.dim() - 1)
        log_size = MOST_SIZE * (log_size / MOST_SIZE).tanh()
        counts = Counts(log_mean, log_size)
        return td.Independent(counts, len(self.shape), validate_args=False)


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
        begin_with(self.scores, MAXIMUM_SCORE * share.atanh())
        counts = F.one_hot(torch.tensor(0), n + 1).double()
        for prob in bias.double().sigmoid():
            counts = (1 - prob) * counts + prob * counts.roll(1)
        begin_with(self.counts, counts.log().clamp(min=IMPROBABLE))

    @property
    def placeholder(self) -> Tensor:
        return torch.zeros(self.scores.out_features, dtype=torch.bool)

    def forward(self, features: Tensor) -> Subset:
        scores = MAXIMUM_SCORE * torch.tanh(self.scores(features) / MAXIMUM_SCORE)
        return Subset(self.counts(features), scores)
