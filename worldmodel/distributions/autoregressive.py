"""Parts that depend on each other: each is drawn given those before it, all are scored at once."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch import distributions as td
from torch.nn import functional as F

ROWS_AT_ONCE = 64  # what is in the cache is summed and squashed five times faster


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

    def __init__(self, hidden_bias: Tensor, visible_bias: Tensor, heard: Tensor, said: Tensor):
        """hidden_bias [*, H], c; visible_bias [*, n], b; heard [n, H], W; said [n, H], V."""
        self.hidden_bias = hidden_bias
        self.visible_bias = visible_bias
        self.heard = heard
        self.said = said
        shape = visible_bias.shape
        super().__init__(shape[:-1], shape[-1:], validate_args=False)

    @property
    def mode(self) -> Tensor:
        """Each at its more probable value given those before it: not always the likeliest row."""
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
        parts = zip(self.visible_bias.unbind(-1), self.heard, self.said, strict=True)
        for bias, heard, said in parts:
            chosen.append(choose(bias + activation.sigmoid() @ said))
            activation = activation + chosen[-1][..., None] * heard
        return torch.stack(chosen, -1)

    def log_prob(self, value: Tensor) -> Tensor:
        value = value.to(self.heard.dtype)
        shape = torch.broadcast_shapes(value.shape, self.visible_bias.shape)
        parts = (value, self.hidden_bias, self.visible_bias)
        rows = [x.expand(*shape[:-1], -1).reshape(-1, x.shape[-1]) for x in parts]
        chunks = zip(*(x.split(ROWS_AT_ONCE) for x in rows), strict=True)
        return torch.cat([self._score(*chunk) for chunk in chunks]).reshape(shape[:-1])

    def _score(self, value: Tensor, hidden_bias: Tensor, visible_bias: Tensor) -> Tensor:
        """The log probability of rows, [R, n] given [R, H] and [R, n] -> [R]."""
        heard = value[:, :-1, None] * self.heard[:-1]  # [R, n - 1, H]
        activations = torch.cat([hidden_bias[:, None], heard], 1).cumsum(1)  # [R, n, H]
        logits = visible_bias + (activations.sigmoid() * self.said).sum(-1)
        return F.logsigmoid(torch.where(value > 0, logits, -logits)).sum(-1)
