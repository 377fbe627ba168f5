"""Autoregressive distributions: parts drawn one after another, all scored at once."""

from collections.abc import Callable

import torch
from torch import Tensor, distributions as td
from torch.nn import functional as F

NUMBERS_AT_ONCE = 8192  # what they unfold into stays in the cache: several times faster


def _in_chunks(score: Callable[..., Tensor], *parts: Tensor) -> Tensor:
    """score(rows [R, D_i] of each part) -> [R], for parts [*, D_i] that broadcast together."""
    shape = torch.broadcast_shapes(*(part.shape[:-1] for part in parts))
    rows = [part.expand(*shape, -1).reshape(-1, part.shape[-1]) for part in parts]
    rows_at_once = max(1, NUMBERS_AT_ONCE // rows[0].shape[-1])
    chunks = zip(*(part.split(rows_at_once) for part in rows), strict=True)
    return torch.cat([score(*chunk) for chunk in chunks]).reshape(shape)


class NADE(td.Distribution):
    """Truth values that depend on each other; value: bool (or 0 and 1) [*, n].

    The neural autoregressive distribution estimator of Larochelle & Murray, 2011
    (https://proceedings.mlr.press/v15/larochelle11a.html, eqs. 1-5):

        p(v) = prod_i p(v_i | v_<i),   p(v_i = 1 | v_<i) = sigmoid(b_i + V_i h_i),
        h_i = sigmoid(c + sum over j < i of W_j v_j)

    The biases c and b are those of each row, as in the RNN-NADE of Boulanger-Lewandowski et al.,
    2012 (https://arxiv.org/abs/1206.6392); W and V are shared by all.
    """

    arg_constraints = {}  # noqa: RUF012 (nothing is validated here)

    has_rsample = False

    def __init__(
        self, hidden_bias: Tensor, visible_bias: Tensor, from_visible: Tensor, to_visible: Tensor
    ):
        """hidden_bias [*, H], c; visible_bias [*, n], b; from_visible, W, and to_visible, V,
        [n, H]."""
        self.hidden_bias = hidden_bias
        self.visible_bias = visible_bias
        self.from_visible = from_visible
        self.to_visible = to_visible
        shape = visible_bias.shape
        super().__init__(shape[:-1], shape[-1:], validate_args=False)

    @property
    def mode(self) -> Tensor:
        """The more probable value of each given those before it: not always the likeliest row."""
        with torch.no_grad():
            return self._one_by_one(lambda logits: logits > 0, torch.Size())

    def sample(self, sample_shape: torch.Size = torch.Size()) -> Tensor:
        with torch.no_grad():
            return self._one_by_one(
                lambda logits: torch.rand_like(logits) < logits.sigmoid(), torch.Size(sample_shape)
            )

    def _one_by_one(self, choose: Callable[[Tensor], Tensor], sample_shape: torch.Size) -> Tensor:
        """Truth values [sample_shape, *, n], each chosen from its logits given those before."""
        activation = self.hidden_bias.expand(sample_shape + self.hidden_bias.shape)
        chosen = []
        parts = zip(self.visible_bias.unbind(-1), self.from_visible, self.to_visible, strict=True)
        for bias, weights_in, weights_out in parts:
            chosen.append(choose(bias + activation.sigmoid() @ weights_out))
            activation = activation + chosen[-1][..., None] * weights_in
        return torch.stack(chosen, -1)

    def log_prob(self, value: Tensor) -> Tensor:
        value = value.to(self.from_visible.dtype)
        return _in_chunks(self._score, value, self.hidden_bias, self.visible_bias)

    def _score(self, value: Tensor, hidden_bias: Tensor, visible_bias: Tensor) -> Tensor:
        """The log probability of rows, [R, n] given [R, H] and [R, n] -> [R]."""
        inputs = value[:, :-1, None] * self.from_visible[:-1]  # [R, n - 1, H]
        activations = torch.cat([hidden_bias[:, None], inputs], 1).cumsum(1)  # [R, n, H]
        logits = visible_bias + (activations.sigmoid() * self.to_visible).sum(-1)
        return F.logsigmoid(torch.where(value > 0, logits, -logits)).sum(-1)


class Autoregression(td.Distribution):
    """Numbers of which each has a density given those before it; value: float [*, n].

    p(x) = prod_i p(x_i | x_<i)
    """

    arg_constraints = {}  # noqa: RUF012 (nothing is validated here)

    has_rsample = False

    def __init__(
        self, given: Callable[[Tensor, Tensor, slice], td.Distribution], condition: Tensor, n: int
    ):
        """given(x [*, n], condition [*, D], which) -> the distributions [*, len(which)] of some of
        the numbers, each of which reads only the numbers before its own."""
        self.given = given
        self.condition = condition
        self.n = n
        super().__init__(condition.shape[:-1], torch.Size([n]), validate_args=False)

    def sample(self, sample_shape: torch.Size = torch.Size()) -> Tensor:
        with torch.no_grad():
            drawn = self.condition.new_zeros(self._extended_shape(sample_shape))
            for i in range(self.n):
                one = self.given(drawn, self.condition, slice(i, i + 1))
                drawn[..., i] = one.sample()[..., 0]
            return drawn

    def log_prob(self, value: Tensor) -> Tensor:
        return _in_chunks(self._score, value.to(self.condition.dtype), self.condition)

    def _score(self, value: Tensor, condition: Tensor) -> Tensor:
        return self.given(value, condition, slice(0, self.n)).log_prob(value).sum(-1)
