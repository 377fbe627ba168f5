"""Clamps of generated percepts to the bounds of their space and to the range that was met.

A Gaussian draws any number, and a model extrapolates from a number outside its training data to
one farther out. A policy learned in such a dream is worth nothing: it seeks out the rewards that
are only dreamt.
"""

import functools
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor, nn

from worldmodel.codecs.base import Parts

BEYOND = 0.5  # of the observed range, on either side of it
REWARDS_BEYOND = 0.1  # of the range of rewards


class Clamp(nn.Module):
    """The identity: values that are not numbers need no clamp."""

    def forward(self, value: Any) -> Any:
        """Values [*, ...], those out of clamp set on its edge."""
        return value

    def widen(self, values: Any) -> None:
        """Lets the clamp contain `values` [N, ...], and somewhat more."""

    def unmet(self, values: Any) -> Tensor:
        """True where values [N, ...] have a number out of the range that was met: bool [N], or []
        if none can."""
        return torch.tensor(False)


class BoxClamp(Clamp):
    """Floats [*, *shape] between `low` and `high`; at first the bounds of their space.

    A number that was constant so far has no other bounds, since its range is unknown.
    """

    low: Tensor
    high: Tensor
    seen: Tensor

    def __init__(self, space: spaces.Box, beyond: float = BEYOND):
        """beyond: how far it is wider than what was met, as a share of that."""
        super().__init__()
        self.space = space
        self.beyond = beyond
        for name in ("low", "high"):
            self.register_buffer(name, torch.tensor(getattr(space, name)).float())  # a copy
        # the least and the greatest of each number that was observed, [2, *shape]
        nothing = torch.stack([torch.full_like(self.low, s * torch.inf) for s in (1, -1)])
        self.register_buffer("seen", nothing)

    def forward(self, value: Tensor) -> Tensor:
        return value.clamp(self.low, self.high)

    def widen(self, values: Any) -> None:
        values = torch.as_tensor(values).to(self.seen)
        least, greatest = torch.minimum(self.seen[0], values.amin(0)), values.amax(0)
        greatest = torch.maximum(self.seen[1], greatest)
        self.seen.copy_(torch.stack([least, greatest]))
        beyond = self.beyond * (greatest - least)
        beyond = torch.where(beyond > 0, beyond, torch.inf)
        ends = self.space.low, self.space.high
        lowest, highest = (torch.as_tensor(end).to(self.low.device) for end in ends)
        self.low.copy_((least - beyond).clamp(min=lowest))
        self.high.copy_((greatest + beyond).clamp(max=highest))

    def unmet(self, values: Tensor) -> Tensor:
        is_out = (values < self.seen[0]) | (values > self.seen[1])
        return is_out.flatten(1).any(1) if is_out.dim() > 1 else is_out


class JointClamp(Clamp):
    """The parts of a dictionary or a tuple, each in its own clamp."""

    def __init__(self, parts: dict[str, Clamp] | tuple[Clamp, ...]):
        super().__init__()
        self.parts = Parts(parts)

    def forward(self, value: Any) -> Any:
        reached = {key: part(value[key]) for key, part in self.parts.items()}
        return tuple(reached.values()) if self.parts.is_tuple else reached

    def widen(self, values: Any) -> None:
        for key, part in self.parts.items():
            part.widen(values[key])

    def unmet(self, values: Any) -> Tensor:
        found = [part.unmet(values[key]) for key, part in self.parts.items()]
        return functools.reduce(torch.logical_or, found)


def reward_clamp() -> BoxClamp:
    """The clamp of rewards. One reward that is far too high outweighs all others."""
    return BoxClamp(spaces.Box(-np.inf, np.inf, (), np.float32), REWARDS_BEYOND)


def clamp_for(space: spaces.Space) -> Clamp:
    """The clamp of values of `space`, nested as it is."""
    if isinstance(space, spaces.Dict):
        return JointClamp({key: clamp_for(part) for key, part in space.items()})
    if isinstance(space, spaces.Tuple):
        return JointClamp(tuple(clamp_for(part) for part in space))
    if isinstance(space, spaces.Box) and np.issubdtype(space.dtype, np.floating):
        return BoxClamp(space)
    return Clamp()
