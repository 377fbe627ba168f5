"""Gated linear recurrences: state-space models whose gates read the inputs, never the state
(minGRU, https://arxiv.org/abs/2410.01201; Hawk, https://arxiv.org/abs/2402.19427; Mamba).

    x = E input_t                                       the residual stream; then, layer by layer,
    v, f, o = W norm(x) + b,   a = sigmoid(f)
    h_t = a h_{t-1} + (1 - a) v                         the memory
    x <- x + W_h (silu(o) h_t)
    x <- x + W_m (silu(p) q),   p, q = W_p norm(x)
    output_t = norm(x)

No gate waits for a memory, so layers are computed for all rows at once, as large products; what is
left of the loop over time is one multiplication a number and row.
"""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from worldmodel.nets import Dropout, init_input_weights
from worldmodel.recurrences.base import Recurrence

LONGEST = 256  # rows that memories last at first, at most
NARROW = 1024  # numbers a row, below which a loop over rows is slower than doubling


class GatedLinear(Recurrence):
    """Gated linear recurrences in residual layers, with a multilayer perceptron in each.

    Its state holds the output and each layer's memory, side by side. Dropout, in training mode,
    leaves out the same units of what a layer adds in all rows of a window.
    """

    def __init__(self, input_size: int, hidden: int, layers: int = 1, dropout: float = 0.0):
        super().__init__()
        self.output_size = self.projected_size = hidden
        self.state_size = (1 + layers) * hidden
        self.from_input = nn.Parameter(torch.empty(hidden, input_size))
        init_input_weights(self.from_input)
        self.input_bias = nn.Parameter(torch.zeros(hidden))
        self.layers: Any = nn.ModuleList(_Layer(hidden, dropout) for _ in range(layers))
        self.norm = nn.LayerNorm(hidden)

    def projected(self, inputs: Tensor) -> Tensor:
        return F.linear(inputs, self.from_input, self.input_bias).to(self.from_input)

    def cell(self, projected: Tensor, state: Tensor) -> Tensor:
        return self._run(projected, state, _one_step)

    def forward(self, inputs: Tensor, state: Tensor) -> Tensor:
        return self._run(self.projected(inputs), state, over_time)

    def _run(self, stream: Tensor, state: Tensor, remember: Callable[..., Tensor]) -> Tensor:
        """The states [*, B, S] of a projected input [*, B, D]; remember: of gates and writings
        [*, B, H], from a memory [B, H] on."""
        _, *befores = state.split(self.output_size, -1)
        memories = []
        for layer, before in zip(self.layers, befores, strict=True):
            kept, written, shown = layer.gates(stream)
            memories.append(remember(kept, written, before))
            stream = layer.read(stream, shown * memories[-1])
        return torch.cat([self.norm(stream), *memories], -1)


class _Layer(nn.Module):
    """A layer around its memory: what is kept and written, and what is read from it."""

    def __init__(self, hidden: int, dropout: float):
        super().__init__()
        self.norm = nn.LayerNorm(hidden)
        self.into = nn.Linear(hidden, 3 * hidden)
        self.out = nn.Linear(hidden, hidden, bias=False)
        self.mlp_norm = nn.LayerNorm(hidden)
        self.mlp_into = nn.Linear(hidden, 4 * hidden, bias=False)
        self.mlp_out = nn.Linear(2 * hidden, hidden, bias=False)
        self.dropout = Dropout(dropout)
        with torch.no_grad():  # memories of a unit last from two rows to LONGEST
            lasting = torch.linspace(math.log(2), math.log(LONGEST), hidden).exp()
            self.into.bias[hidden : 2 * hidden] = (lasting - 1).log()

    def gates(self, stream: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The share of memories that is kept, what is written, and what is shown, [*, H]."""
        value, keep, show = self.into(self.norm(stream)).to(stream).chunk(3, -1)
        return keep.sigmoid(), (-keep).sigmoid() * value, F.silu(show)

    def read(self, stream: Tensor, shown: Tensor) -> Tensor:
        """The stream [*, H] after the memories that are shown, [*, H], and the perceptron."""
        stream = stream + self._dropped(self.out(shown)).to(stream)
        gate, value = self.mlp_into(self.mlp_norm(stream)).chunk(2, -1)
        return stream + self._dropped(self.mlp_out(F.silu(gate) * value)).to(stream)

    def _dropped(self, x: Tensor) -> Tensor:
        """Without the units that are left out, in all rows the same: drawing random numbers for
        each row takes longer than a product."""
        if not self.training or not self.dropout.p:
            return x
        return x * self.dropout(x.new_ones(x.shape[-2:]))


def _one_step(kept: Tensor, written: Tensor, before: Tensor) -> Tensor:
    return torch.addcmul(written, kept, before)


def over_time(kept: Tensor, written: Tensor, before: Tensor) -> Tensor:
    """h_t = kept_t h_{t-1} + written_t, for all t: [T, B, H], [T, B, H], [B, H] -> [T, B, H]."""
    memories: Tensor = _OverTime.apply(kept, written, before)
    return memories


class _OverTime(torch.autograd.Function):
    """The way back is the same recurrence, from the last row to the first:

    dL/dwritten_t = dL/dh_t + kept_{t+1} dL/dwritten_{t+1}
    """

    @staticmethod
    def forward(ctx: Any, kept: Tensor, written: Tensor, before: Tensor) -> Tensor:
        memories = _scan(kept, written, before)
        ctx.save_for_backward(kept, memories, before)
        return memories

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Any:  # type: ignore[override]
        kept, memories, before = ctx.saved_tensors
        nothing = torch.zeros_like(before)
        later = torch.cat([kept[1:], nothing[None]]).flip(0)
        of_written = _scan(later, gradient.flip(0), nothing).flip(0)
        of_kept = of_written * torch.cat([before[None], memories[:-1]])
        return of_kept, of_written, kept[0] * of_written[0]


def _scan(kept: Tensor, written: Tensor, before: Tensor) -> Tensor:
    """A loop over rows, on a processor; or, where a row is too little work for that, doubling:
    memories of the last 1, 2, 4, ... rows."""
    if before.device.type == "cpu" and before.numel() >= NARROW:
        memories = torch.empty_like(written)
        for t in range(len(kept)):
            before = torch.addcmul(written[t], kept[t], before, out=memories[t])
        return memories
    memories = torch.cat([torch.addcmul(written[0], kept[0], before)[None], written[1:]])
    rows = 1
    while rows < len(kept):
        longer = torch.addcmul(memories[rows:], kept[rows:], memories[:-rows])
        memories = torch.cat([memories[:rows], longer])
        kept = torch.cat([kept[:rows], kept[rows:] * kept[:-rows]])
        rows *= 2
    return memories
