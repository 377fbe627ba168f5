"""One encoder and one decoder for each kind of Gymnasium space."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import torch
from gymnasium import spaces
from torch import Tensor, nn
from torch.nn import functional as F

from worldmodel.codecs.base import DistModule, Encoder
from worldmodel.codecs.convolutional import (
    ConvolutionalEncoder,
    brightest,
    image_head,
    is_image,
)
from worldmodel.codecs.heads import CategoricalHead, JointHead, NormalHead, TruthHead
from worldmodel.codecs.standardisation import Standardisation


class OneHotEncoder(Encoder):
    """start..start+n-1 -> one-hot, int [*] -> float [*, n]."""

    like: Tensor

    def __init__(self, n: int, start: int = 0):
        super().__init__()
        self.size = n
        self.start = start
        self.register_buffer("like", torch.zeros(()), persistent=False)  # knows dtype and device

    def forward(self, x: Tensor) -> Tensor:
        return F.one_hot(x.long() - self.start, self.size).to(self.like.dtype)


class FlatEncoder(Encoder):
    """A vector or array, standardised, [*, *shape] -> float [*, size]."""

    def __init__(self, shape: Sequence[int], shift: Any = 0.0, scale: Any = 1.0):
        """shift, scale: numbers or arrays [*shape], until `standardise` sets them from data."""
        super().__init__()
        self.dimensions = len(shape)
        self.size = int(torch.Size(shape).numel())
        self.standard = Standardisation(shape, shift, scale)

    def forward(self, x: Tensor) -> Tensor:
        return self.standard(x).reshape(*x.shape[: x.dim() - self.dimensions], self.size)

    def standardise(self, values: Any) -> None:
        self.standard.fit(values)


class BitsEncoder(Encoder):
    """Truth values as 0 and 1, [*, *shape] -> float [*, size]."""

    like: Tensor

    def __init__(self, shape: Sequence[int]):
        super().__init__()
        self.dimensions = len(shape)
        self.size = int(torch.Size(shape).numel())
        self.register_buffer("like", torch.zeros(()), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        return x.to(self.like.dtype).reshape(*x.shape[: x.dim() - self.dimensions], self.size)


class DictEncoder(Encoder):
    """A dictionary's parts, encoded side by side, in the order of the encoders."""

    def __init__(self, parts: Mapping[str, Encoder]):
        super().__init__()
        self.parts = nn.ModuleDict(parts)
        self.size = sum(part.size for part in parts.values())

    def forward(self, x: Mapping[str, Any]) -> Tensor:
        return torch.cat([part(x[key]) for key, part in self.parts.items()], -1)

    def standardise(self, values: Mapping[str, Any]) -> None:
        for key, part in self.parts.items():
            cast(Encoder, part).standardise(values[key])


def _by_space(space: spaces.Space, makers: dict[type, Callable[[Any], Any]], what: str) -> Any:
    for kind, make in makers.items():
        if isinstance(space, kind):
            return make(space)
    known = ", ".join(kind.__name__ for kind in makers)
    raise ValueError(f"no {what} for the space {space}: known are {known}; pass one of your own")


def encoder_for(space: spaces.Space) -> Encoder:
    """The encoder of values of `space`: images (`is_image`; convolutional), Discrete, Box and
    MultiBinary (flattened), Dict of them."""
    if is_image(space):
        return ConvolutionalEncoder(cast(Any, space.shape), high=brightest(space))
    makers: dict[type, Callable[[Any], Encoder]] = {
        spaces.Discrete: lambda s: OneHotEncoder(int(s.n), int(s.start)),
        spaces.Box: lambda s: FlatEncoder(s.shape),
        spaces.MultiBinary: lambda s: BitsEncoder(s.shape),
        spaces.Dict: lambda s: DictEncoder({key: encoder_for(s[key]) for key in s}),
    }
    return _by_space(space, makers, "encoder")


def decoder_for(space: spaces.Space, input_size: int) -> DistModule:
    """The likelihood of values of `space`, from features [*, input_size].

    Images (`is_image`): a mass of every pixel value (discretised logistic, or Bernoulli);
    Discrete: a mass (categorical); MultiBinary: a mass (Bernoulli); Box: a density (Gaussian);
    Dict: the product of its parts'. `head_for` has others, by name.
    """
    if is_image(space):
        return image_head(space, input_size)
    makers: dict[type, Callable[[Any], DistModule]] = {
        spaces.Discrete: lambda s: CategoricalHead(input_size, int(s.n), int(s.start)),
        spaces.Box: lambda s: NormalHead(input_size, s.shape),
        spaces.MultiBinary: lambda s: TruthHead(input_size, s.shape),
        spaces.Dict: lambda s: JointHead({key: decoder_for(s[key], input_size) for key in s}),
    }
    return _by_space(space, makers, "decoder")
