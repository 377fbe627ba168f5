"""Heads whose values are drawn one after another, each given those before it."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, distributions as td, nn
from torch.nn import functional as F

from worldmodel.codecs.base import DistModule, begin_with
from worldmodel.codecs.heads.gaussian import MINIMUM_STD
from worldmodel.codecs.standardisation import Standardisation
from worldmodel.distributions import NADE, Autoregression, mixture


class NADEHead(DistModule):
    """Truth values that depend on each other (pitches of a chord); value: bool [*, n].

    An RNN-NADE (see `NADE`): its two biases are read from the features. At first V = 0, so that
    the values are independent, and with features zero have the logits `bias`.
    """

    def __init__(self, input_size: int, n: int, hidden: int = 64, bias: Tensor | None = None):
        """bias: the logits [n] that each value begins with, such as those of its marginal in the
        training set."""
        super().__init__()
        self.hidden_bias = nn.Linear(input_size, hidden)
        self.visible_bias = nn.Linear(input_size, n)
        self.from_visible = nn.Parameter(torch.randn(n, hidden) * hidden**-0.5)
        self.to_visible = nn.Parameter(torch.zeros(n, hidden))
        begin_with(self.visible_bias, bias)

    @property
    def placeholder(self) -> Tensor:
        return torch.zeros(self.visible_bias.out_features, dtype=torch.bool)

    def forward(self, features: Tensor) -> NADE:
        biases = self.hidden_bias(features), self.visible_bias(features)
        return NADE(*biases, self.from_visible, self.to_visible)


class FrameHead(DistModule):
    """A density of frames of sound, sample by sample; value: float [*, n].

    Each sample has a mixture of `components` Gaussians whose parameters are read from the samples
    before it in its frame, in two ways: linearly from all of them, and by gated causal
    convolutions (WaveNet, van den Oord et al. 2016, https://arxiv.org/abs/1609.03499, eq. 2) that
    the features steer. One component without convolutions is a Gaussian of full covariance. All of
    this is about standardised samples; the density is that of the samples themselves.
    Autoregression within the frame and recurrence between frames: Lai et al. 2019,
    https://arxiv.org/abs/1902.01388.
    """

    def __init__(
        self,
        input_size: int,
        n: int,
        components: int = 1,
        channels: int = 16,
        dilations: Sequence[int] = (1, 2, 4, 8),
    ):
        """dilations: of the convolutions, whose kernels have two taps; together they reach as
        many samples back as the dilations add up to, and one."""
        super().__init__()
        self.n = n
        self.dilations = tuple(dilations)
        self.sizes = [n, n, 2 * channels * len(self.dilations)]  # mean, raw std, steering
        self.condition = nn.Linear(input_size, sum(self.sizes))
        self.before = nn.Parameter(torch.zeros(n, n))
        self.input = nn.Linear(1, channels)
        self.position = nn.Parameter(0.1 * torch.randn(n, channels))
        self.taps = nn.ModuleList(nn.Linear(2 * channels, 2 * channels) for _ in dilations)
        self.out = nn.Linear(channels, 3 * components)
        self.standard = Standardisation((n,))

    @property
    def placeholder(self) -> Tensor:
        return torch.zeros(self.n)

    def forward(self, features: Tensor) -> Autoregression:
        return Autoregression(self._given, self.condition(features), self.n)

    def _given(self, x: Tensor, condition: Tensor, which: slice) -> td.MixtureSameFamily:
        """The distributions of some samples of x [*, n], each of which reads those before it."""
        mean, raw, steering = condition.split(self.sizes, -1)
        x = self.standard(x)
        first = max(0, which.start - sum(self.dilations))
        hidden = self._convolve(x, steering, first, which.stop)[..., which.start - first :, :]
        logits, means, raws = self.out(hidden).chunk(3, -1)  # [*, len(which), components]
        mean = mean[..., which] + F.linear(x, self.before.tril(-1)[which])
        std = F.softplus(raw[..., which, None] + raws) + MINIMUM_STD
        shift, scale = self.standard.shift[which, None], self.standard.scale[which, None]
        mean = torch.addcmul(shift, scale, mean[..., None] + means)
        return mixture(logits, td.Normal(mean, scale * std, validate_args=False))

    def standardise(self, values: Any) -> None:
        self.standard.fit(values)

    def _convolve(self, x: Tensor, steering: Tensor, first: int, stop: int) -> Tensor:
        """Context of the samples first..stop-1 by convolutions, [*, stop - first, channels]."""
        last = F.pad(x, (1, 0))[..., first:stop, None]  # at every position, the sample before it
        hidden = self.input(last) + self.position[first:stop]
        layers = zip(self.taps, self.dilations, steering.chunk(len(self.taps), -1), strict=True)
        for taps, dilation, steer in layers:
            earlier = F.pad(hidden, (0, 0, dilation, 0))[..., : hidden.shape[-2], :]
            both = taps(torch.cat([hidden, earlier], -1)) + steer[..., None, :]
            signal, gate = both.chunk(2, -1)
            hidden = hidden + signal.tanh() * gate.sigmoid()
        return hidden
