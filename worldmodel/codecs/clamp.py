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
SLACK = 1e-3  # of the range that was met, within which a number is not beyond it
ROUND = 1e-4  # of a sum of two squares, by which it may vary on a circle
MOVED = 0.01  # of such a sum, by which each of the squares varies, and which their product reaches
NOWHERE = 1e-12  # of such a sum: a point in the centre has no place on the circle, and stays
SURE = 20  # rows, from which on a circle is believed
MANY = 32  # numbers, among more of which no circles are looked for


class Clamp(nn.Module):
    """The identity: values that are not numbers need no clamp."""

    def forward(self, value: Any) -> Any:
        """Values [*, ...], those out of clamp set on its edge."""
        return value

    def widen(self, values: Any) -> None:
        """Lets the clamp contain `values` [N, ...], and somewhat more."""

    def unmet(self, values: Any) -> Tensor:
        """True where values [N, ...] have a number well out of the range that was met: bool [N],
        or [] if none can."""
        return torch.tensor(False)


class Circles(nn.Module):
    """Numbers [*, n], pairs of which are moved along the radius to the circle that all such pairs
    were met on, as the cosine and the sine of an angle are.

    The two are drawn independently and the next draw begins with them, so that without it errors
    add up: a dreamt pendulum that stands leaves its circle within a hundred steps.
    """

    sums: Tensor
    products: Tensor
    rows: Tensor
    partner: Tensor
    squared: Tensor

    def __init__(self, size: int):
        super().__init__()
        pairs = size, size
        # the least and the greatest sum of two squares, and the greatest product of two numbers
        ends = torch.stack([torch.full(pairs, sign * torch.inf) for sign in (1, -1)])
        self.register_buffer("sums", ends)
        self.register_buffer("products", torch.zeros(pairs))
        self.register_buffer("rows", torch.zeros((), dtype=torch.int64))
        self.register_buffer("partner", torch.arange(size))  # of each number; itself: none
        self.register_buffer("squared", torch.ones(size))  # radius
        self.are_there = False  # any
        self.register_load_state_dict_pre_hook(_begin)
        self.register_load_state_dict_post_hook(_look)

    def _look(self) -> None:
        places = torch.arange(len(self.partner), device=self.partner.device)
        self.are_there = bool((self.partner != places).any())

    def forward(self, value: Tensor) -> Tensor:
        if not self.are_there:
            return value
        other = value[..., self.partner]
        norm = torch.maximum(value.square() + other.square(), NOWHERE * self.squared)
        own = torch.arange(len(self.partner), device=value.device)
        return torch.where(self.partner == own, value, value * (self.squared / norm).sqrt())

    def widen(self, values: Tensor) -> None:
        """Finds the circles that all `values` [N, n] so far lie on."""
        self.rows += len(values)
        for place, number in enumerate(values.unbind(1)):
            sums = number.square()[:, None] + values.square()  # [N, n]
            least, greatest = self.sums[:, place]
            torch.minimum(least, sums.amin(0), out=least)
            torch.maximum(greatest, sums.amax(0), out=greatest)
            products = (number[:, None] * values).abs().amax(0)
            self.products[place] = torch.maximum(self.products[place], products)
        least, greatest = self.sums
        twice = (greatest - least).diagonal()  # the range of each square, two times
        moves = twice > MOVED * greatest
        is_circle = (greatest - least <= ROUND * greatest) & moves & moves.t()
        is_circle &= (self.products > MOVED * greatest) & (self.rows >= SURE)
        own = torch.arange(len(is_circle), device=values.device)
        partner = torch.where(is_circle.any(1), is_circle.int().argmax(1), own)
        self.partner.copy_(torch.where(partner[partner] == own, partner, own))
        self.squared.copy_((least + greatest)[own, self.partner] / 2)
        self._look()


def _look(module: Circles, _: Any) -> None:
    module._look()


def _begin(module: Circles, state: dict[str, Any], prefix: str, *_: Any) -> None:
    """Lets weights be loaded that were saved when circles were not looked for."""
    for name, buffer in module.named_buffers():
        state.setdefault(prefix + name, buffer)


class BoxClamp(Clamp):
    """Floats [*, *shape] between `low` and `high`, at first the bounds of their space, and on the
    circles that were met (`Circles`).

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
        has_pairs = len(space.shape) == 1 and 2 <= space.shape[0] <= MANY
        self.circles = Circles(space.shape[0]) if has_pairs else None

    def forward(self, value: Tensor) -> Tensor:
        value = value.clamp(self.low, self.high)
        return value if self.circles is None else self.circles(value)

    def widen(self, values: Any) -> None:
        values = torch.as_tensor(values).to(self.seen)
        if self.circles is not None:
            self.circles.widen(values)
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
        least, greatest = self.seen
        slack = SLACK * (greatest - least)
        is_out = (values < least - slack) | (values > greatest + slack)
        return is_out.flatten(1).any(1) if is_out.dim() > 1 else is_out


class TruthClamp(Clamp):
    """Truth values, bool [*]: as long as one of the two alone was met, all are that.

    What never came in n rows has a probability of 1 / (2 n + 2) a row, and hundreds of rows make a
    long dream.
    """

    met: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("met", torch.zeros(2, dtype=torch.bool))  # false, true
        self.register_load_state_dict_pre_hook(_both)

    def forward(self, value: Tensor) -> Tensor:
        false, true = self.met
        return torch.where(false ^ true, true, value)

    def widen(self, values: Any) -> None:
        values = torch.as_tensor(values, device=self.met.device).bool()
        self.met |= torch.stack([(~values).any(), values.any()])


def _both(module: TruthClamp, state: dict[str, Any], prefix: str, *_: Any) -> None:
    """Takes it that both were met before weights were saved that do not say so."""
    state.setdefault(prefix + "met", torch.ones_like(module.met))


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
