"""Images: convolutional encoders, and heads whose likelihood is that of every real pixel.

Images are [*, H, W, C], uint8 (or truth values) everywhere outside of this module, and brightness
is scaled here, once. The networks work on n x n pixels, n a power of two: smaller images are
padded with black in the middle of n x n, and the head cuts the padding off again before anything
is scored or drawn. `explain_size` describes in words the padding of images of a given shape.

Layers halve (or double) the sides by 4 x 4 kernels of stride two, between n x n and 4 x 4 pixels,
as in DCGAN (Radford et al. 2016, https://arxiv.org/abs/1511.06434), without its batch
normalisation. On processors, channels last in memory are up to twice as fast.
"""

import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any, Literal, cast, get_args

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor, distributions as td, nn
from torch.nn import functional as F

from worldmodel.codecs.base import DistModule, Encoder, is_binary
from worldmodel.codecs.heads.bounded import MINIMUM_SCALE
from worldmodel.distributions import Bernoulli, DiscretisedLogistics

Likelihood = Literal["mse", "bernoulli", "discretised-logistic"]
LIKELIHOODS: tuple[Likelihood, ...] = get_args(Likelihood)

SMALLEST, LARGEST = 16, 256  # n, in pixels
LAST = 4  # pixels a side, where convolutions end
FEWEST = 8  # pixels a side of what `is_image` calls an image


def is_image(space: spaces.Space) -> bool:
    """True if values of `space` are images [H, W, C], 8 or more pixels a side: integers of 8 bits
    from 0 to one brightness, or truth values.

    >>> is_image(spaces.Box(0, 255, (84, 84, 3), np.uint8)), is_image(spaces.Box(0, 1, (9, 9, 3)))
    (True, False)
    """
    if space.shape is None or len(space.shape) != 3 or min(space.shape[:2]) < FEWEST:
        return False
    if is_binary(space):
        return True
    if not isinstance(space, spaces.Box) or space.dtype != np.uint8:
        return False
    return not space.low.any() and bool((space.high == space.high.max()).all())


def brightest(space: spaces.Space) -> int:
    """The largest brightness of images of `space`."""
    return 1 if is_binary(space) else int(space.high.max())  # type: ignore[attr-defined]


def network_size(shape: Sequence[int]) -> int:
    """n, the side of the square that networks for images of `shape` [H, W, C] work on.

    >>> network_size((28, 28, 1))
    32
    """
    if len(shape) != 3 or min(shape) < 1:
        raise ValueError(f"images are [H, W, C], each 1 or more, got the shape {tuple(shape)}")
    height, width, _ = shape
    if max(height, width) > LARGEST:
        raise ValueError(
            f"images have {LARGEST} x {LARGEST} pixels at most, got {height} x {width}; "
            "resize them first"
        )
    return max(SMALLEST, 2 ** math.ceil(math.log2(max(height, width))))


def explain_size(shape: Sequence[int]) -> str:
    """Describes in words the padding of images of `shape` [H, W, C].

    >>> explain_size((28, 28, 1))
    '28 x 28 images are padded with black to 32 x 32; only their own pixels are scored'
    """
    n = network_size(shape)
    height, width, _ = shape
    if (height, width) == (n, n):
        return f"{n} x {n} images are taken as they are"
    return (
        f"{height} x {width} images are padded with black to {n} x {n}; only their own pixels "
        "are scored"
    )


def _frame(shape: Sequence[int]) -> tuple[int, int, int, int]:
    """The black pixels left of, right of, above and below an image of `shape`."""
    n = network_size(shape)
    above, left = (n - shape[0]) // 2, (n - shape[1]) // 2
    return left, n - shape[1] - left, above, n - shape[0] - above


def _channels(n: int, width: int) -> list[int]:
    """Channels at n / 2, n / 4, ... 4 pixels a side: they double, up to 4 times `width`."""
    layers = round(math.log2(n // LAST))
    return [width * min(2**layer, 4) for layer in range(layers)]


def _halve(before: int, after: int) -> nn.Conv2d:
    """A layer [N, before, s, s] -> [N, after, s / 2, s / 2]."""
    return nn.Conv2d(before, after, 4, 2, 1)


def _channels_last(layers: list[nn.Module]) -> nn.Sequential:
    """The layers one after another, their weights as they lie fastest in memory."""
    return nn.Sequential(*layers).to(memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]


class _Last(nn.Module):
    """A layer that doubles the sides, [N, before, s, s] -> [N, after, 2 s, 2 s].

    What a transposed convolution of 4 x 4 and stride two computes, as a convolution of 2 x 2 whose
    channels are the four pixels of a square: with few channels `after` it is twice as fast.
    """

    def __init__(self, before: int, after: int):
        super().__init__()
        self.squares = nn.Conv2d(before, 4 * after, 2, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        return F.pixel_shuffle(self.squares(x), 2)[..., 1:-1, 1:-1]


class ConvolutionalEncoder(Encoder):
    """Images [*, H, W, C], uint8 or truth values, of 8 to 256 pixels a side -> float [*, size].

    They are scaled from 0..high to 0..1 here, and padded with black to the next n x n,
    n a power of two from 16 to 256.
    """

    def __init__(
        self,
        shape: Sequence[int],
        size: int = 256,
        high: float = 255.0,
        width: int = 32,
        first_activation: bool = True,
    ):
        """high: the largest brightness; width: channels of the first layer; first_activation:
        whether the first layer is followed by a nonlinearity."""
        super().__init__()
        self.shape = torch.Size(shape)
        self.size = size
        self.high = high
        self.frame = _frame(shape)
        channels = _channels(network_size(shape), width)
        layers: list[nn.Module] = []
        for number, (before, after) in enumerate(pairwise([shape[-1], *channels])):
            layers += [_halve(before, after)]
            layers += [nn.SiLU()] if number or first_activation else []
        self.layers = _channels_last(layers)
        self.out = nn.Linear(channels[-1] * LAST**2, size)

    def forward(self, x: Tensor) -> Tensor:
        leading = x.shape[: x.dim() - 3]
        images = x.reshape(leading.numel(), *self.shape)
        padded = F.pad(images, (0, 0, *self.frame)).permute(0, 3, 1, 2)  # [N, C, n, n]
        pixels = padded.to(self.out.weight.dtype) / self.high
        encoding = F.silu(self.out(self.layers(pixels).flatten(1)))
        return encoding.reshape(*leading, self.size)


class ImageHead(DistModule):
    """features [*, F] -> a distribution of images [*, H, W, C], all of whose pixel values are
    independent given the features. Padding is cut off: only real pixels are scored.

    - mse: a Gaussian density over brightness 0..high with a fixed standard deviation, so that the
      squared error is what is learned; its log-density is exact, the constant included;
    - bernoulli: truth values, for images of 0 and 1;
    - discretised-logistic: a mass over the levels 0..high, with a mean and a scale for each value.
    """

    def __init__(
        self,
        input_size: int,
        shape: Sequence[int],
        likelihood: Likelihood = "discretised-logistic",
        high: int = 255,
        width: int = 32,
        std: float = 0.1,
    ):
        """width: channels of the last layer but one; std: of "mse", as a share of `high`."""
        super().__init__()
        if likelihood not in LIKELIHOODS:
            raise ValueError(
                f"there is no likelihood {likelihood!r} of images; there are "
                f"{', '.join(LIKELIHOODS)}"
            )
        self.shape = torch.Size(shape)
        self.likelihood = likelihood
        self.high = high
        self.std = std
        self.frame = _frame(shape)
        self.numbers = 2 if likelihood == "discretised-logistic" else 1  # of each pixel value
        channels = _channels(network_size(shape), width)[::-1]
        self.begin = nn.Linear(input_size, channels[0] * LAST**2)
        layers: list[nn.Module] = []
        for before, after in pairwise(channels):
            layers += [nn.SiLU(), nn.ConvTranspose2d(before, after, 4, 2, 1)]
        layers += [nn.SiLU(), _Last(channels[-1], self.numbers * shape[-1])]
        self.layers = _channels_last(layers)

    @property
    def placeholder(self) -> Tensor:
        kind = torch.bool if self.likelihood == "bernoulli" else torch.uint8
        return torch.zeros(self.shape, dtype=kind)

    def forward(self, features: Tensor) -> td.Independent:
        make: dict[Likelihood, Callable[[Tensor], td.Distribution]] = {
            "mse": self._normal,
            "bernoulli": lambda raw: Bernoulli(raw[..., 0]),
            "discretised-logistic": self._logistic,
        }
        pixels = make[self.likelihood](self._raw(features))
        return td.Independent(pixels, 3, validate_args=False)

    def _raw(self, features: Tensor) -> Tensor:
        """The network's outputs for every real pixel value, [*, H, W, C, numbers]."""
        begin = self.begin(features.reshape(-1, features.shape[-1])).unflatten(
            -1, (LAST, LAST, -1)
        )
        square = self.layers(begin.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)  # [N, n, n, ...]
        left, _, above, _ = self.frame
        height, width, channels = self.shape
        real = square[:, above : above + height, left : left + width]
        return real.reshape(*features.shape[:-1], height, width, channels, self.numbers)

    def _normal(self, raw: Tensor) -> td.Normal:
        mean = self.high * (0.5 + raw[..., 0])
        std = mean.new_tensor(self.high * self.std)
        return td.Normal(mean, std.expand_as(mean), validate_args=False)

    def _logistic(self, raw: Tensor) -> DiscretisedLogistics:
        mean, scale = (x[..., None].contiguous() for x in raw.unbind(-1))  # one component
        half = self.high / 2
        mean = half * (1 + mean)
        scale = half * F.softplus(scale) + MINIMUM_SCALE
        low, step = (torch.tensor(x, dtype=torch.uint8, device=raw.device) for x in (0, 1))
        weights = torch.zeros_like(mean)
        return DiscretisedLogistics(weights, mean, scale, self.high + 1, low, step)


def image_head(
    space: spaces.Space, input_size: int, likelihood: Likelihood | None = None, **options: Any
) -> ImageHead:
    """The head of images of `space`: by default a mass, Bernoulli or discretised-logistic."""
    if likelihood is None:
        likelihood = "bernoulli" if is_binary(space) else "discretised-logistic"
    return ImageHead(input_size, cast(Any, space.shape), likelihood, brightest(space), **options)
