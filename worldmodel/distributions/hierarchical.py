"""Classes that are pairs: a categorical in two steps, for very many of them."""

import torch
from torch import Tensor, distributions as td
from torch.nn import functional as F

from worldmodel.distributions.discrete import IMPOSSIBLE, Categorical


class HierarchicalCategorical(td.Distribution):
    """Classes c = (a, b), of which not every pair need be one; value: int64 [*].

        p(c) = p(a) p(b | a),   p(b | a) ~ exp(V_b tanh(h + E_a) + v_b) where (a, b) is a class

    It costs what a + b classes cost, not a times b, and the parameters of a value are shared by
    all pairs that it is part of.
    """

    arg_constraints = {}  # noqa: RUF012 (nothing is validated here)

    has_rsample = False

    def __init__(
        self,
        first: Tensor,
        hidden: Tensor,
        from_first: Tensor,
        to_second: Tensor,
        bias: Tensor,
        pairs: Tensor,
        of: Tensor,
    ):
        """first [*, A], logits; hidden [*, H], h; from_first [A, H], E; to_second [B, H], V;
        bias [B], v; pairs int64 [n, 2], a and b of each class; of int64 [A, B], the class of
        each pair, -1 where there is none."""
        self.first = Categorical(first)
        self.hidden = hidden
        self.from_first = from_first
        self.to_second = to_second
        self.bias = bias
        self.pairs = pairs
        self.of = of
        super().__init__(first.shape[:-1], validate_args=False)

    def second(self, first: Tensor) -> Categorical:
        """b given a, int64 [*]."""
        logits = F.linear(
            torch.tanh(self.hidden + self.from_first[first]), self.to_second, self.bias
        )
        return Categorical(torch.where(self.of[first] >= 0, logits, IMPOSSIBLE))

    @property
    def mode(self) -> Tensor:
        """The more probable a, then the more probable b: not always the likeliest class."""
        first = self.first.mode
        return self.of[first, self.second(first).mode]

    def sample(self, sample_shape: torch.Size = torch.Size()) -> Tensor:
        with torch.no_grad():
            first = self.first.sample(sample_shape)
            return self.of[first, self.second(first).sample()]

    def log_prob(self, value: Tensor) -> Tensor:
        value = value.long().expand(torch.broadcast_shapes(value.shape, self.batch_shape))
        first, second = self.pairs[value].unbind(-1)
        return self.first.log_prob(first) + self.second(first).log_prob(second)
