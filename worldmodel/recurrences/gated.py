"""Recurrences whose gates read the state: GRU, LSTM and their like."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.amp import custom_bwd, custom_fwd
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from worldmodel.nets import init_input_weights, init_recurrent_weights, tanh
from worldmodel.recurrences.base import Recurrence

ONE_LAYER = (True, 1, 0.0, False, False, False)  # with biases; no dropout; one way; time first

# Without these instructions there is no kernel of an LSTM in bfloat16, and it stays float32.
HAS_BFLOAT16 = torch.ops.mkldnn._is_mkldnn_bf16_supported()


class FusedRecurrence(Recurrence):
    """A recurrence of PyTorch: a fused kernel, orthogonal weights, larger input weights."""

    def __init__(self, kind: Callable[[int, int], nn.RNNBase], input_size: int, hidden: int):
        super().__init__()
        self.output_size = hidden
        made = kind(max(1, input_size), hidden)  # PyTorch's refuses inputs of size zero
        parts = [nn.Parameter(part.data) for part in made.parameters()]
        self.from_input, self.from_hidden, self.input_bias, self.hidden_bias = parts
        self.from_input = nn.Parameter(self.from_input.data[:, :input_size].clone())
        self.projected_size = len(self.from_input)
        init_input_weights(self.from_input)
        init_recurrent_weights(self.from_hidden)
        nn.init.zeros_(self.input_bias)
        nn.init.zeros_(self.hidden_bias)

    @property
    def weights(self) -> list[Tensor]:
        """The weights in the order of PyTorch's kernels."""
        return [self.from_input, self.from_hidden, self.input_bias, self.hidden_bias]


class GRU(FusedRecurrence):
    """PyTorch's GRU, with a faster way back on processors. Its state is its output."""

    def __init__(self, input_size: int, hidden: int):
        super().__init__(nn.GRU, input_size, hidden)
        self.state_size = hidden

    def projected(self, inputs: Tensor) -> Tensor:
        return F.linear(inputs, self.from_input, self.input_bias).to(self.from_input)

    def cell(self, projected: Tensor, state: Tensor) -> Tensor:
        recalled = F.linear(state, self.from_hidden, self.hidden_bias).to(state)
        size = 2 * self.output_size
        reset, update = (projected[:, :size] + recalled[:, :size]).sigmoid().chunk(2, -1)
        new = tanh(torch.addcmul(projected[:, size:], reset, recalled[:, size:]))
        return torch.lerp(new, state, update)

    def forward(self, inputs: Tensor, state: Tensor) -> Tensor:
        if inputs.device.type == "cpu" and torch.is_grad_enabled():
            return _GRUOverTime.apply(inputs, state[None], *self.weights)
        return torch.gru(inputs, state[None], self.weights, *ONE_LAYER)[0]


class _GRUOverTime(torch.autograd.Function):
    """PyTorch's own GRU forward; backward, all that does not wait for the step after is done for
    all steps at once, and the weights' gradients are one product each.

        h = (1 - z) n + z h',  n = tanh(i_n + r g_n),  r, z = sigmoid(i + g),  g = W_hh h' + b_hh
    """

    @staticmethod
    @custom_fwd(device_type="cpu", cast_inputs=torch.float32)
    def forward(ctx: Any, inputs: Tensor, hidden: Tensor, *weights: Tensor) -> Tensor:
        output = torch.gru(inputs, hidden, weights, *ONE_LAYER)[0]
        ctx.save_for_backward(inputs, torch.cat([hidden, output]), *weights)
        return output

    @staticmethod
    @custom_bwd(device_type="cpu")
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Any:  # type: ignore[override]
        inputs, hiddens, from_input, from_hidden, input_bias, hidden_bias = ctx.saved_tensors
        before = hiddens[:-1]
        projected = torch.addmm(input_bias, inputs.flatten(0, 1), from_input.t())
        recalled = torch.addmm(hidden_bias, before.flatten(0, 1), from_hidden.t())
        size = from_hidden.shape[1]
        gates = (projected[:, : 2 * size] + recalled[:, : 2 * size]).sigmoid_()
        reset, update = gates.split(size, -1)
        new = tanh(torch.addcmul(projected[:, 2 * size :], reset, recalled[:, 2 * size :]))
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
        of_projected = torch.cat([of_recalled[:, : 2 * size], totals * to_new], 1)
        return (
            (of_projected @ from_input).unflatten(0, shape) if ctx.needs_input_grad[0] else None,
            carried[None],
            of_projected.t() @ inputs.flatten(0, 1),
            of_recalled.t() @ before.flatten(0, 1),
            of_projected.sum(0),
            of_recalled.sum(0),
        )


class LSTM(FusedRecurrence):
    """PyTorch's LSTM, whose forget gates are open at first.

    Its state is (h, c), of which h is the output. The fused kernel gives h of all steps but c of
    the last one only; c is what the gates, all known then, make of it.
    """

    def __init__(self, input_size: int, hidden: int):
        super().__init__(nn.LSTM, input_size, hidden)
        self.state_size = 2 * hidden
        nn.init.ones_(self.input_bias.data[hidden : 2 * hidden])

    def projected(self, inputs: Tensor) -> Tensor:
        bias = self.input_bias + self.hidden_bias
        return F.linear(inputs, self.from_input, bias).to(self.from_input)

    def cell(self, projected: Tensor, state: Tensor) -> Tensor:
        hidden, memory = state.chunk(2, -1)
        written, forget, output = self._gates(torch.addmm(projected, hidden, self.from_hidden.t()))
        memory = torch.addcmul(written, forget, memory)
        return torch.cat([output * tanh(memory), memory], -1)

    def forward(self, inputs: Tensor, state: Tensor) -> Tensor:
        hidden, memory = (part.contiguous() for part in state.chunk(2, -1))
        begin = [hidden[None], memory[None]]
        with torch.autocast("cpu", enabled=torch.is_autocast_enabled("cpu") and HAS_BFLOAT16):
            outputs = torch.lstm(inputs, begin, self.weights, *ONE_LAYER)[0]
        before = torch.cat([hidden[None], outputs[:-1]])
        written, forget, _ = self._gates(
            self.projected(inputs) + F.linear(before, self.from_hidden)
        )
        memories = []
        for t in range(len(inputs)):
            memory = torch.addcmul(written[t], forget[t], memory)
            memories.append(memory)
        return torch.cat([outputs, torch.stack(memories)], -1)

    def _gates(self, gates: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The values to write, [*, H], and the forget and output gates, [*, H]."""
        written, forget, new, output = gates.chunk(4, -1)
        return written.sigmoid() * tanh(new), forget.sigmoid(), output.sigmoid()


class NormalisedGRU(Recurrence):
    """The layer-normalised GRU of DreamerV3 (https://arxiv.org/abs/2301.04104). The normalisation
    stands inside the recurrence, so no fused kernel computes it over time: it is a loop."""

    def __init__(self, input_size: int, hidden: int):
        super().__init__()
        self.state_size = self.output_size = hidden
        self.projected_size = 3 * hidden
        self.gates = nn.Linear(input_size + hidden, 3 * hidden, bias=False)
        self.norm = nn.LayerNorm(3 * hidden)
        init_input_weights(self.gates.weight.data[:, :input_size])
        init_recurrent_weights(self.gates.weight.data[:, input_size:])
        nn.init.constant_(self.norm.bias[2 * hidden :], -1.0)  # at first it keeps what it has

    def projected(self, inputs: Tensor) -> Tensor:
        return F.linear(inputs, self.gates.weight[:, : -self.output_size])

    def cell(self, projected: Tensor, state: Tensor) -> Tensor:
        recall = self.gates.weight[:, -self.output_size :]
        return self._remember(torch.addmm(projected, state, recall.t()), state)

    def step(self, inputs: Tensor, state: Tensor) -> Tensor:
        return self._remember(self.gates(torch.cat([inputs, state], -1)), state)

    def _remember(self, gates: Tensor, state: Tensor) -> Tensor:
        reset, new, update = self.norm(gates.to(state)).chunk(3, -1)
        return torch.lerp(state, tanh(reset.sigmoid() * new), update.sigmoid())


class SkipGRU(Recurrence):
    """A GRU with a skip connection of its input: state and output are [memory, input].

    What reads it need not fetch the present out of a memory that was made to keep the past.
    """

    def __init__(self, input_size: int, hidden: int):
        super().__init__()
        self.memory = GRU(input_size, hidden)
        self.skip_size = input_size
        self.state_size = self.output_size = hidden + input_size
        self.projected_size = self.memory.projected_size + input_size

    def projected(self, inputs: Tensor) -> Tensor:
        return torch.cat([self.memory.projected(inputs), inputs], -1)

    def cell(self, projected: Tensor, state: Tensor) -> Tensor:
        gates, inputs = projected.split([self.memory.projected_size, self.skip_size], -1)
        return torch.cat([self.memory.cell(gates, self.memory.output(state)), inputs], -1)

    def forward(self, inputs: Tensor, state: Tensor) -> Tensor:
        remembered = self.memory(inputs, self.memory.output(state).contiguous())
        return torch.cat([remembered, inputs], -1)
