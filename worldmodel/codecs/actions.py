"""Actions as float codes: what cores read, policies sample and rows hold."""

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor, distributions as td

from worldmodel.codecs.base import DistModule, is_binary
from worldmodel.codecs.heads import BitsHead, OneHotHead, TanhNormalHead
from worldmodel.codecs.spaces import OneHotEncoder
from worldmodel.distributions import Bits, ClippedNormal, OneHot, OneHots

MOST_CHOICES = 64  # joint actions that are listed; every Discrete action is


class ActionCodec(ABC):
    """Translates between an action space and codes, float [*, size], both on the processor."""

    size: int

    @abstractmethod
    def encode(self, action: Tensor) -> Tensor:
        """Actions of the space [*, ...] -> codes [*, size]."""

    @abstractmethod
    def decode(self, code: Tensor) -> Tensor:
        """Codes [*, size] -> actions of the space [*, ...]."""

    @abstractmethod
    def head(self, input_size: int, unimix: float = 0.0) -> DistModule:
        """A policy's last layer: features [*, input_size] -> a distribution over codes.

        unimix: the share of it that is uniform; numbers have none.
        """

    @abstractmethod
    def uniform(
        self, batch_shape: Sequence[int], device: torch.device | None = None
    ) -> td.Distribution:
        """The uniform distribution over codes, with batch shape [*]; device: by default the
        processor."""

    @abstractmethod
    def around(self, mean: Tensor, std: Tensor) -> td.Distribution:
        """The distribution over codes [*, size] that has a mean and, where they are numbers, a
        standard deviation, number by number; codes beyond their bounds are clipped."""

    def low_entropy(self, share: float) -> float:
        """A share of the entropy of uniform actions, in nats; of numbers the entropy of actions
        that are uniform within a share of their range."""
        return share * float(self.uniform(()).entropy())

    @property
    @abstractmethod
    def choices(self) -> Tensor:
        """The code of every action, [n, size]; n = 0 where they cannot be listed."""


class DiscreteActions(ActionCodec):
    """Discrete and MultiDiscrete actions as one-hot codes, side by side."""

    def __init__(self, space: spaces.Discrete | spaces.MultiDiscrete):
        n = np.asarray(space.n if isinstance(space, spaces.Discrete) else space.nvec)
        self.shape = n.shape
        self.n = n.flatten().tolist()
        self.start = torch.as_tensor(np.asarray(space.start))
        self.encoder = OneHotEncoder(n, space.start)
        self.size = self.encoder.size

    def encode(self, action: Tensor) -> Tensor:
        return self.encoder(action)

    def decode(self, code: Tensor) -> Tensor:
        if not self.shape:
            return code.argmax(-1) + self.start
        apart = self.encoder.layout.apart(code, fill=-1.0)  # [*, V, m]
        return apart.argmax(-1).reshape((*code.shape[:-1], *self.shape)) + self.start

    def head(self, input_size: int, unimix: float = 0.0) -> DistModule:
        return OneHotHead(input_size, *self.n, unimix=unimix)

    def uniform(
        self, batch_shape: Sequence[int], device: torch.device | None = None
    ) -> td.Distribution:
        logits = torch.zeros(*batch_shape, self.size, device=device)
        return OneHots(logits, self.encoder.layout) if self.shape else OneHot(logits)

    def around(self, mean: Tensor, std: Tensor) -> td.Distribution:
        logits = mean.clamp(min=torch.finfo(mean.dtype).tiny).log()
        return OneHots(logits, self.encoder.layout) if self.shape else OneHot(logits)

    @property
    def choices(self) -> Tensor:
        if self.shape and math.prod(self.n) > MOST_CHOICES:
            return torch.zeros(0, self.size)
        actions = torch.tensor(list(np.ndindex(*self.n)))  # [n, V]
        return self.encode(actions.reshape((-1, *self.shape)) + self.start)


class BinaryActions(ActionCodec):
    """MultiBinary actions as the numbers 0 and 1."""

    def __init__(self, space: spaces.MultiBinary):
        self.shape = space.shape
        self.size = int(np.prod(self.shape))

    def encode(self, action: Tensor) -> Tensor:
        return action.reshape(*action.shape[: action.dim() - len(self.shape)], self.size).float()

    def decode(self, code: Tensor) -> Tensor:
        return (code > 0.5).to(torch.int8).reshape((*code.shape[:-1], *self.shape))

    def head(self, input_size: int, unimix: float = 0.0) -> DistModule:
        return BitsHead(input_size, self.size, unimix)

    def uniform(
        self, batch_shape: Sequence[int], device: torch.device | None = None
    ) -> td.Distribution:
        return Bits(torch.zeros(*batch_shape, self.size, device=device))

    def around(self, mean: Tensor, std: Tensor) -> td.Distribution:
        return Bits(mean.logit(eps=torch.finfo(mean.dtype).eps))

    @property
    def choices(self) -> Tensor:
        if 2**self.size > MOST_CHOICES:
            return torch.zeros(0, self.size)
        return torch.tensor(list(np.ndindex(*(2,) * self.size))).float()


class BoxActions(ActionCodec):
    """Bounded numbers, scaled to [-1, 1]; codes are rounded to integers where actions are."""

    def __init__(self, space: spaces.Box):
        if not space.is_bounded():
            raise ValueError(
                f"no action codec for the space {space}, whose numbers have no bounds: wrap the "
                "environment in gymnasium.wrappers.TransformAction(env, lambda action: action, "
                "Box(low, high, shape)) with bounds that you choose"
            )
        self.shape = space.shape
        self.size = int(np.prod(self.shape))
        dtype = np.int64 if np.issubdtype(space.dtype, np.integer) else space.dtype
        self.low, self.high = (torch.tensor(end.astype(dtype)) for end in (space.low, space.high))
        low, high = self.low.double(), self.high.double()
        self.middle = (low + high) / 2
        self.half = (high - low) / 2
        if not self.low.is_floating_point():
            self.half += 0.5  # every integer is the middle of a cell, and all cells are alike

    def encode(self, action: Tensor) -> Tensor:
        unit = torch.where(self.half > 0, self.half, 1.0)
        code = (action.double() - self.middle) / unit
        return code.reshape(*action.shape[: action.dim() - len(self.shape)], self.size).float()

    def decode(self, code: Tensor) -> Tensor:
        action = self.middle + self.half * code.reshape((*code.shape[:-1], *self.shape)).double()
        if not self.low.is_floating_point():
            action = action.round()
        return action.to(self.low.dtype).clamp(self.low, self.high)

    def head(self, input_size: int, unimix: float = 0.0) -> DistModule:
        return TanhNormalHead(input_size, self.size)

    def uniform(
        self, batch_shape: Sequence[int], device: torch.device | None = None
    ) -> td.Distribution:
        ones = torch.ones(*batch_shape, self.size, device=device)
        return td.Independent(td.Uniform(-ones, ones, validate_args=False), 1, validate_args=False)

    def around(self, mean: Tensor, std: Tensor) -> td.Distribution:
        return ClippedNormal(mean, std)

    def low_entropy(self, share: float) -> float:
        return self.size * math.log(2 * share) if share else -math.inf

    @property
    def choices(self) -> Tensor:
        return torch.zeros(0, self.size)


def action_codec(space: spaces.Space) -> ActionCodec:
    """The codec of an action space: Box (bounded), Discrete, MultiDiscrete or MultiBinary.

    >>> action_codec(spaces.Discrete(3)).encode(torch.tensor([2, 0]))
    tensor([[0., 0., 1.],
            [1., 0., 0.]])
    >>> action_codec(spaces.Box(0, 10, (2,))).decode(torch.tensor([-1.0, 0.5]))
    tensor([0.0000, 7.5000])
    """
    if isinstance(space, spaces.Discrete | spaces.MultiDiscrete):
        return DiscreteActions(space)
    if isinstance(space, spaces.MultiBinary):
        return BinaryActions(space)
    if isinstance(space, spaces.Box) and not is_binary(space):
        return BoxActions(space)
    raise ValueError(
        f"no action codec for the space {space}: known are Box of numbers, Discrete, "
        "MultiDiscrete and MultiBinary; wrap the environment in one whose actions are one of these"
    )
