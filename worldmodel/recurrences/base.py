"""The contract of recurrences: what a core's hidden state becomes, row by row."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn


class Recurrence(nn.Module, ABC):
    """x_t, s_{t-1} -> s_t, over inputs [*, I] and states [*, S]; what reads it reads `output`.

    The gates read the input through `projected`, which no state enters: it is computed for all
    rows at once, and whatever else is linear in the gates may be added to it.
    """

    state_size: int  # S
    output_size: int  # H
    projected_size: int  # D
    skip_size: int = (
        0  # the last numbers of a projected input, which skip the gates (see `SkipGRU`)
    )

    @abstractmethod
    def projected(self, inputs: Tensor) -> Tensor:
        """The input projection of the gates, [*, I] -> [*, D]."""

    @abstractmethod
    def cell(self, projected: Tensor, state: Tensor) -> Tensor:
        """Computes one step, [B, D], [B, S] -> [B, S]."""

    def step(self, inputs: Tensor, state: Tensor) -> Tensor:
        """Computes one step from the inputs themselves, [B, I], [B, S] -> [B, S]."""
        return self.cell(self.projected(inputs), state)

    def output(self, state: Tensor) -> Tensor:
        """The part of a state that others read, [*, S] -> [*, H]: the first H numbers."""
        return state[..., : self.output_size]

    def forward(self, inputs: Tensor, state: Tensor) -> Tensor:
        """Computes all steps, [T, B, I], [B, S] -> states [T, B, S]."""
        states = []
        for projected in self.projected(inputs).unbind(0):
            state = self.cell(projected, state)
            states.append(state)
        return torch.stack(states)


class Layers(Recurrence):
    """Recurrences on top of one another; the state holds theirs side by side, the top one first,
    and the output is the top one's."""

    def __init__(self, layers: Sequence[Recurrence]):
        super().__init__()
        self.layers: Any = nn.ModuleList(layers)
        self.sizes = [layer.state_size for layer in reversed(layers)]
        self.state_size = sum(self.sizes)
        self.output_size = layers[-1].output_size
        self.projected_size, self.skip_size = layers[0].projected_size, layers[0].skip_size

    def projected(self, inputs: Tensor) -> Tensor:
        return self.layers[0].projected(inputs)

    def cell(self, projected: Tensor, state: Tensor) -> Tensor:
        lowest, *befores = self._parts(state)
        states = [self.layers[0].cell(projected, lowest)]
        for below, layer, before in zip(self.layers, self.layers[1:], befores, strict=False):
            states.append(layer.cell(layer.projected(below.output(states[-1])), before))
        return torch.cat(states[::-1], -1)

    def forward(self, inputs: Tensor, state: Tensor) -> Tensor:
        states: list[Tensor] = []
        for layer, before in zip(self.layers, self._parts(state), strict=True):
            states.append(layer(inputs, before))
            inputs = layer.output(states[-1])
        return torch.cat(states[::-1], -1)

    def _parts(self, state: Tensor) -> list[Tensor]:
        """The layers' states, the lowest first."""
        return list(state.split(self.sizes, -1))[::-1]
