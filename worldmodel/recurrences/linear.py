"""Gated linear recurrences: state-space models whose gates read the inputs, never the state
(minGRU, https://arxiv.org/abs/2410.01201; Hawk, https://arxiv.org/abs/2402.19427; Mamba).

    x = E input_t                                       the residual stream; then, layer by layer,
    u = sum_k w_k norm(x_{t-k}),   k = 0 ... 3
    v, f, o = W u + b,   a = sigmoid(f)
    h_t = a h_{t-1} + (1 - a) v                         the memory
    x <- x + W_h (silu(o) h_t)
    x <- x + W_m (silu(p) q),   p, q = W_p norm(x)
    output_t = norm(x)

No gate waits for a memory, so layers are computed for all rows at once, as large products; what is
left of the loop over time is one multiplication a number and row.
"""

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from worldmodel.nets import Dropout, init_input_weights
from worldmodel.recurrences.base import Recurrence

LONGEST = 256  # rows that memories last at first, at most
WIDTH = 4  # rows that are mixed
NARROW = 1024  # numbers a row, below which a loop over rows is slower than doubling


class GatedLinear(Recurrence):
    """Gated linear recurrences in residual layers, with a multilayer perceptron in each.

    Its state holds the output and each layer's memory and latest readings, side by side. Dropout,
    in training mode, leaves out the same units of what a layer adds in all rows of a window.
    """

    def __init__(self, input_size: int, hidden: int, layers: int = 1, dropout: float = 0.0):
        super().__init__()
        self.output_size = self.projected_size = hidden
        self.state_size = (1 + layers * WIDTH) * hidden
        self.from_input = nn.Parameter(torch.empty(hidden, input_size))
        init_input_weights(self.from_input)
        self.input_bias = nn.Parameter(torch.zeros(hidden))
        self.layers: Any = nn.ModuleList(_Layer(hidden, dropout) for _ in range(layers))
        self.norm = nn.LayerNorm(hidden)

    def projected(self, inputs: Tensor) -> Tensor:
        return F.linear(inputs, self.from_input, self.input_bias).to(self.from_input)

    def cell(self, projected: Tensor, state: Tensor) -> Tensor:
        return self._run(projected[None], state)[0]

    def forward(self, inputs: Tensor, state: Tensor) -> Tensor:
        return self._run(self.projected(inputs), state)

    def _run(self, stream: Tensor, state: Tensor) -> Tensor:
        """The states [T, B, S] of projected inputs [T, B, D], from a state [B, S] on."""
        size = self.output_size
        states = []
        for layer, before in zip(
            self.layers, state[:, size:].split(WIDTH * size, -1), strict=True
        ):
            stream, after = layer(stream, before)
            states.append(after)
        return torch.cat([self.norm(stream), *states], -1)


class _Layer(nn.Module):
    """A layer of the residual stream: it mixes the latest rows, remembers, and computes."""

    def __init__(self, hidden: int, dropout: float):
        super().__init__()
        self.norm = nn.LayerNorm(hidden)
        self.mix = nn.Parameter(torch.empty(WIDTH, hidden).uniform_(-1, 1) * WIDTH**-0.5)
        self.into = nn.Linear(hidden, 3 * hidden)
        self.out = nn.Linear(hidden, hidden, bias=False)
        self.mlp_norm = nn.LayerNorm(hidden)
        self.mlp_into = nn.Linear(hidden, 4 * hidden, bias=False)
        self.mlp_out = nn.Linear(2 * hidden, hidden, bias=False)
        self.dropout = Dropout(dropout)
        with torch.no_grad():  # memories of a unit last from two rows to LONGEST
            lasting = torch.linspace(math.log(2), math.log(LONGEST), hidden).exp()
            self.into.bias[hidden : 2 * hidden] = (lasting - 1).log()

    def forward(self, stream: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """The stream [T, B, H] after this layer, and its states [T, B, WIDTH * H]; state: before,
        [B, WIDTH * H], the memory and what was read in the rows before, the latest first."""
        memory, *latest = state.chunk(WIDTH, -1)
        rows = torch.cat([torch.stack(latest[::-1]), self.norm(stream)])  # [WIDTH - 1 + T, B, H]
        read = [rows[WIDTH - 1 - ago :][: len(stream)] for ago in range(WIDTH)]
        mixed = self.mix[0] * read[0]
        for weight, row in zip(self.mix[1:], read[1:], strict=True):
            mixed = torch.addcmul(mixed, weight, row)
        value, keep, show = self.into(mixed).to(stream).chunk(3, -1)
        memories = over_time(keep.sigmoid(), (-keep).sigmoid() * value, memory)
        stream = stream + self._dropped(self.out(F.silu(show) * memories)).to(stream)
        gate, value = self.mlp_into(self.mlp_norm(stream)).chunk(2, -1)
        stream = stream + self._dropped(self.mlp_out(F.silu(gate) * value)).to(stream)
        return stream, torch.cat([memories, *read[:-1]], -1)

    def _dropped(self, x: Tensor) -> Tensor:
        """Without the units that are left out, in all rows the same: drawing random numbers for
        each row takes longer than a product."""
        if not self.training or not self.dropout.p:
            return x
        return x * self.dropout(x.new_ones(x.shape[-2:]))


def over_time(kept: Tensor, written: Tensor, before: Tensor) -> Tensor:
    """h_t = kept_t h_{t-1} + written_t, for all t: [T, B, H], [T, B, H], [B, H] -> [T, B, H]."""
    if len(kept) == 1:
        return torch.addcmul(written, kept, before)
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
