"""The networks that everything is made of."""

from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable


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


class GRU(nn.GRU):
    """One layer of PyTorch's GRU, [T, B, I] -> [T, B, H], with a faster way back on processors."""

    weight_ih_l0: Tensor  # [3 H, I]
    weight_hh_l0: Tensor  # [3 H, H]
    bias_ih_l0: Tensor  # [3 H]
    bias_hh_l0: Tensor  # [3 H]

    def forward(  # type: ignore[override]
        self, inputs: Tensor, hidden: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """inputs [T, B, I], hidden [1, B, H] (zeros by default) -> ([T, B, H], [1, B, H])"""
        weights = (self.weight_ih_l0, self.weight_hh_l0, self.bias_ih_l0, self.bias_hh_l0)
        if hidden is None:
            hidden = inputs.new_zeros(1, inputs.shape[1], self.hidden_size)
        if inputs.device.type != "cpu" or not torch.is_grad_enabled():
            return super().forward(inputs, hidden)
        output = _GRUOverTime.apply(inputs, hidden, *weights)
        return output, output[-1:]


class _GRUOverTime(torch.autograd.Function):
    """PyTorch's own GRU forward; backward, all that does not wait for the step after is done for
    all steps at once, and the weights' gradients are one product each.

        h = (1 - z) n + z h',  n = tanh(i_n + r g_n),  r, z = sigmoid(i + g),  g = W_hh h' + b_hh
    """

    @staticmethod
    def forward(ctx: Any, inputs: Tensor, hidden: Tensor, *weights: Tensor) -> Tensor:
        output = torch.gru(inputs, hidden, weights, True, 1, 0.0, False, False, False)[0]
        ctx.save_for_backward(inputs, torch.cat([hidden, output]), *weights)
        return output

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Any:  # type: ignore[override]
        inputs, hiddens, from_input, from_hidden, input_bias, hidden_bias = ctx.saved_tensors
        before = hiddens[:-1]
        heard = torch.addmm(input_bias, inputs.flatten(0, 1), from_input.t())
        recalled = torch.addmm(hidden_bias, before.flatten(0, 1), from_hidden.t())
        size = from_hidden.shape[1]
        gates = (heard[:, : 2 * size] + recalled[:, : 2 * size]).sigmoid_()
        reset, update = gates.split(size, -1)
        new = torch.addcmul(heard[:, 2 * size :], reset, recalled[:, 2 * size :]).tanh_()
        # what a change of h does to r, z and n before their nonlinearities, and to g_n
        to_new = (1 - update) * (1 - new.square())
        to_update = (before.flatten(0, 1) - new) * update * (1 - update)
        to_reset = to_new * recalled[:, 2 * size :] * reset * (1 - reset)
        to_recalled = torch.stack([to_reset, to_update, to_new * reset], 1)
        shape = gradient.shape[:2]
        slopes = to_recalled.unflatten(0, shape)  # [T, B, 3, H]
        kept = update.unflatten(0, shape)
        of_hidden = []
        carried = torch.zeros_like(gradient[0])
        for t in reversed(range(len(gradient))):
            total = gradient[t] + carried
            of_hidden.append(total)
            of_gates = (total[:, None] * slopes[t]).flatten(1)
            carried = torch.addmm(total * kept[t], of_gates, from_hidden)
        totals = torch.stack(of_hidden[::-1]).flatten(0, 1)
        of_recalled = (totals[:, None] * to_recalled).flatten(1)  # [T * B, 3 H]
        of_heard = torch.cat([of_recalled[:, : 2 * size], totals * to_new], 1)
        return (
            (of_heard @ from_input).unflatten(0, shape) if ctx.needs_input_grad[0] else None,
            carried[None],
            of_heard.t() @ inputs.flatten(0, 1),
            of_recalled.t() @ before.flatten(0, 1),
            of_heard.sum(0),
            of_recalled.sum(0),
        )


def gru(input_size: int, hidden_size: int) -> GRU:
    """A GRU with orthogonal recurrences, whose inputs are heard.

    PyTorch's default draws all weights within 1 / sqrt(hidden): inputs of which few are not zero
    (one-hot codes) then hardly move the state, and what must be remembered is learned ten times
    slower.
    """
    recurrence = GRU(input_size, hidden_size)
    from_input, from_hidden, *biases = recurrence.parameters()
    nn.init.normal_(from_input, std=min(0.5, 2 * input_size**-0.5))
    for gate in from_hidden.data.split(hidden_size):
        nn.init.orthogonal_(gate)
    for bias in biases:
        nn.init.zeros_(bias)
    return recurrence


class NormalisedGRUCell(nn.Module):
    """One step of the layer-normalised GRU of DreamerV3 (https://arxiv.org/abs/2301.04104):
    ([B, I], [B, H]) -> [B, H]. The normalisation stands inside the recurrence, so no fused kernel
    computes it over time."""

    def __init__(self, input_size: int, hidden_size: int):
        super().__init__()
        self.gates = nn.Linear(input_size + hidden_size, 3 * hidden_size, bias=False)
        self.norm = nn.LayerNorm(3 * hidden_size)

    def forward(self, x: Tensor, hidden: Tensor) -> Tensor:
        reset, new, update = self.norm(self.gates(torch.cat([x, hidden], -1))).chunk(3, -1)
        new = torch.tanh(reset.sigmoid() * new)
        return torch.lerp(hidden, new, torch.sigmoid(update - 1))  # at first it keeps what it has
