"""An encoder turns percepts into numbers; a DistModule turns features into a distribution.

Both are modules that work over any leading dimensions [*].
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor, nn
from torch.distributions import Distribution


def is_binary(space: spaces.Space) -> bool:
    """True if values of `space` are truth values: of MultiBinary, or of a Box of dtype bool."""
    is_bool = isinstance(space, spaces.Box) and space.dtype == np.bool_
    return is_bool or isinstance(space, spaces.MultiBinary)


class Parts(nn.Module):
    """The modules of a dictionary's parts, by key, or of a tuple's, by place.

    The keys may be any strings, which those of `nn.ModuleDict` may not ("type", "a.b").
    """

    def __init__(self, parts: Mapping[str, nn.Module] | tuple[nn.Module, ...]):
        super().__init__()
        self.is_tuple = isinstance(parts, tuple)
        named = dict(enumerate(parts)) if isinstance(parts, tuple) else dict(parts)
        self.places = {key: place for place, key in enumerate(named)}
        self.in_order = nn.ModuleList(named.values())

    def __getitem__(self, key: Any) -> Any:
        return self.in_order[self.places[key]]

    def items(self) -> Iterable[tuple[Any, Any]]:
        return zip(self.places, self.in_order, strict=True)

    def each(self, function: Callable[[Any], Any]) -> Any:
        """`function` of every part: a dictionary, or a tuple."""
        values = {key: function(part) for key, part in self.items()}
        return tuple(values.values()) if self.is_tuple else values


class Encoder(nn.Module, ABC):
    """x [*, ...] -> float [*, size]."""

    size: int
    has_missing: bool = False  # values may be missing (see `carried`)

    @abstractmethod
    def forward(self, x: Any) -> Tensor:
        """The encoding, float [*, size]."""

    def carried(self, encodings: Tensor) -> Tensor:
        """Encodings of successive rows [T, B, size] in which what a row lacks is as it last was;
        asked for where `has_missing`."""
        return encodings

    def standardise(self, values: Any) -> None:
        """Sets the scales of numbers from values, leaves [N, ...]: many encoders have none."""


class DistModule(nn.Module, ABC):
    """features [*, F] -> a distribution with batch shape [*]."""

    @property
    @abstractmethod
    def placeholder(self) -> Any:
        """A value of the support, put where there is nothing to read (padding, first rows)."""

    @abstractmethod
    def forward(self, features: Tensor) -> Distribution:
        """The distribution of one value, given `features` [*, F]."""

    def standardise(self, values: Any) -> None:
        """Sets the scales of numbers from values, leaves [N, ...]: many heads have none.

        The likelihood stays one of the values themselves.
        """

    def meet(self, values: Any) -> None:
        """Makes values likely that came for the first time, leaves [N, ...]: few heads need to."""


def begin_with(linear: nn.Linear, bias: Tensor | None) -> None:
    """Gives a layer a bias [*shape], if there is one."""
    if bias is not None:
        with torch.no_grad():
            linear.bias.copy_(bias.flatten())
