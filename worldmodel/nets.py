"""Feed-forward networks that models are built from."""

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from worldmodel import ranks

MANY = 2**14  # numbers, from which on a processor's time for them is worth a few calls


def mlp(sizes: list[int], norm: bool = False) -> nn.Sequential:
    """A multilayer perceptron, [*, sizes[0]] -> [*, sizes[-1]], SiLU between its layers.

    With `norm`, every hidden layer is normalised (layer normalisation: batch normalisation would
    couple the rows of a batch).
    """
    if len(sizes) < 2:
        raise ValueError(f"mlp expects an input and an output size at least, got {sizes}")
    layers: list[nn.Module] = []
    for before, after in pairwise(sizes[:-1]):
        layers += [nn.Linear(before, after)]
        layers += [nn.LayerNorm(after)] if norm else []
        layers += [nn.SiLU()]
    return nn.Sequential(*layers, nn.Linear(sizes[-2], sizes[-1]))


class Dropout(nn.Dropout):
    """Dropout of features [*, B, n], in training mode."""

    def forward(self, input: Tensor) -> Tensor:
        if not self.training or not self.p:
            return input
        return input * ranks.drawn(self._mask, torch.ones_like(input))

    def _mask(self, like: Tensor) -> Tensor:
        """Zeros and numbers that make up for them, in place of ones."""
        return F.dropout(like, self.p)


def tanh(x: Tensor) -> Tensor:
    """The hyperbolic tangent. Where nothing is recorded, as 2 sigmoid(2 x) - 1 (to the rounding
    error of one): on processors PyTorch's own takes ten times as long as its sigmoid."""
    if x.numel() < MANY or torch.is_grad_enabled() or x.device.type != "cpu":
        return x.tanh()
    return (2 * x).sigmoid_().mul_(2).sub_(1)


def init_input_weights(weight: Tensor, others: int = 0) -> None:
    """Initialises input weights [D, I] from N(0, s^2), s = min(0.5, 2 / sqrt(I + others)).

    PyTorch's default draws all weights of a recurrence within 1 / sqrt(hidden): inputs of which
    few are not zero (one-hot codes) then hardly move the state, and what must be remembered is
    learned ten times slower.
    """
    nn.init.normal_(weight, std=min(0.5, 2 * max(1, weight.shape[1] + others) ** -0.5))


def init_recurrent_weights(weight: Tensor) -> None:
    """Initialises recurrent weights [G * H, H]: an orthogonal matrix for each of G gates."""
    for gate in weight.data.split(weight.shape[1]):
        nn.init.orthogonal_(gate)
