"""Actions as float codes: what cores read, policies sample and rows hold."""

from abc import ABC, abstractmethod

import torch
from gymnasium import spaces
from torch import Tensor
from torch.nn import functional as F

from worldmodel.codecs.base import DistModule
from worldmodel.codecs.heads import OneHotHead


class ActionCodec(ABC):
    """Translates between an action space and codes, float [*, size]."""

    size: int

    @abstractmethod
    def encode(self, action: Tensor) -> Tensor:
        """Actions of the space [*, ...] -> codes [*, size]."""

    @abstractmethod
    def decode(self, code: Tensor) -> Tensor:
        """Codes [*, size] -> actions of the space [*, ...]."""

    @abstractmethod
    def head(self, input_size: int) -> DistModule:
        """A policy's last layer: features [*, input_size] -> a distribution over codes."""

    @property
    @abstractmethod
    def choices(self) -> Tensor:
        """Every action's code [n, size]; n = 0 where they cannot be listed."""


class DiscreteActions(ActionCodec):
    """Discrete actions as one-hot codes."""

    def __init__(self, space: spaces.Discrete):
        self.size = int(space.n)
        self.start = int(space.start)

    def encode(self, action: Tensor) -> Tensor:
        return F.one_hot(action.long() - self.start, self.size).float()

    def decode(self, code: Tensor) -> Tensor:
        return code.argmax(-1) + self.start

    def head(self, input_size: int) -> DistModule:
        return OneHotHead(input_size, self.size)

    @property
    def choices(self) -> Tensor:
        return torch.eye(self.size)


def action_codec(space: spaces.Space) -> ActionCodec:
    """The codec of an action space.

    >>> action_codec(spaces.Discrete(3)).encode(torch.tensor([2, 0]))
    tensor([[0., 0., 1.],
            [1., 0., 0.]])
    """
    if isinstance(space, spaces.Discrete):
        return DiscreteActions(space)
    raise ValueError(f"no action codec for the space {space}: known are Discrete spaces")
