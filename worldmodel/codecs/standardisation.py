"""Standardisation of numbers of any scale: (x - shift) / scale, set once from data."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from worldmodel.files import DamagedError

CONSTANT = 1e-6  # a std below that, relative to the numbers, is rounding


class Standardisation(nn.Module):
    """x [*, *shape] -> (x - shift) / scale; the two are set from data by `fit`, not by
    gradients, and are stored with the weights. It begins as given."""

    shift: Tensor
    scale: Tensor

    def __init__(self, shape: Sequence[int] = (), shift: Any = 0.0, scale: Any = 1.0):
        """shift, scale: numbers, or arrays [*shape]."""
        super().__init__()
        for name, value in (("shift", shift), ("scale", scale)):
            value = torch.as_tensor(value, dtype=torch.get_default_dtype())
            self.register_buffer(name, value.expand(torch.Size(shape)).clone())
        self.register_load_state_dict_post_hook(_check_scale)

    def fit(self, values: Any) -> None:
        """Sets shift and scale so that `values` [N, *shape] have mean 0 and std 1, each number.

        A number that is the same in all values is shifted to 0 and keeps its own scale, since
        its range is unknown.
        """
        values = torch.as_tensor(values).double()
        if values.shape[1:] != self.shift.shape or not len(values):
            raise ValueError(
                f"standardise expects one or more values of shape {tuple(self.shift.shape)}, got "
                f"an array of shape {tuple(values.shape)}"
            )
        mean, std = values.mean(0), values.std(0, correction=0)
        constant = std <= CONSTANT * mean.abs().clamp(min=1.0)
        self.shift.copy_(mean)
        self.scale.copy_(std.masked_fill(constant, 1.0))

    def forward(self, x: Tensor) -> Tensor:
        return (x.to(self.shift.dtype) - self.shift) / self.scale


def _check_scale(module: Standardisation, incompatible_keys: Any) -> None:
    """Refuses weights by whose scales nothing can be divided."""
    if not (module.scale.isfinite() & (module.scale > 0)).all():
        raise DamagedError(
            "the weights are damaged: a scale of numbers is not positive; take them from a copy"
        )
