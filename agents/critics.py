"""Critics: what return is to be expected after a thought, and how that is learned."""

import copy
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from worldmodel import mlp
from worldmodel.codecs import TwoHot, TwoHotRegression


class Estimate(NamedTuple):
    """Returns that are expected, [*], learned by Huber's loss."""

    mean: Tensor  # [*]
    unit: float = 1.0  # errors below it count by their square: they are learned from as a mean is

    def loss(self, value: Tensor) -> Tensor:
        """The loss [*] of estimating returns `value` [*], which has no unit."""
        return F.smooth_l1_loss(self.mean / self.unit, value / self.unit, reduction="none")


class Critic(nn.Module):
    """thought [*, F] -> the expected discounted return from there on, [*]."""

    def __init__(self, thought_size: int, hidden: int = 128, scale: float = 1.0):
        """scale: the unit of returns, so that the network's own numbers stay near one, and so do
        errors: the critic of errors that are all large would learn the median of returns, in
        which a crash that is rare does not count."""
        super().__init__()
        self.body = mlp([thought_size, hidden, hidden, 1], norm=True)
        self.scale = scale

    def forward(self, thought: Tensor) -> Tensor:
        """The value [*] of thoughts [*, F]."""
        return self.scale * self.body(thought)[..., 0]

    def estimate(self, thought: Tensor) -> Estimate:
        """The returns [*] that are expected after thoughts [*, F], in units of the scale."""
        return Estimate(self(thought), self.scale)


class TwoHotCritic(nn.Module):
    """thought [*, F] -> the mean of a distribution of returns of any scale, [*]: a softmax over
    exponentially spaced bins, learned by its cross-entropy to two-hot targets, and zero at first
    (Hafner et al. 2023, https://arxiv.org/abs/2301.04104, eqs. 9-10)."""

    def __init__(self, thought_size: int, hidden: int = 128):
        super().__init__()
        self.body = nn.Sequential(mlp([thought_size, hidden, hidden], norm=True), nn.SiLU())
        self.returns = TwoHotRegression(hidden)

    def forward(self, thought: Tensor) -> Tensor:
        """The value [*] of thoughts [*, F], a mean of returns."""
        return self.estimate(thought).mean

    def estimate(self, thought: Tensor) -> TwoHot:
        """The distribution of returns [*] after thoughts [*, F]."""
        return self.returns(self.body(thought))


class Held(NamedTuple):
    """An estimate that is held to another one: by the same loss, of the same weight."""

    estimate: Any  # an `Estimate` or `TwoHot`
    other: Tensor  # [*]

    @property
    def mean(self) -> Tensor:
        """The returns that are expected, [*]."""
        return self.estimate.mean

    def loss(self, value: Tensor) -> Tensor:
        """The loss [*] of estimating returns `value` [*]."""
        return self.estimate.loss(value) + self.estimate.loss(self.other)


class SlowCritic(nn.Module):
    """A critic that is held to an average of itself over updates (Hafner et al. 2023)."""

    def __init__(self, critic: nn.Module, decay: float):
        """decay: of the average, which `follow` updates."""
        super().__init__()
        self.critic = critic
        self.slow = copy.deepcopy(critic).requires_grad_(False)
        self.decay = decay

    def forward(self, thought: Tensor) -> Tensor:
        """The value [*] of thoughts [*, F]."""
        return self.critic(thought)

    def estimate(self, thought: Tensor) -> Held:
        """The critic's own estimate, and the mean of the slow one's."""
        return Held(estimate(self.critic, thought), self.slow(thought))

    @torch.no_grad()
    def follow(self) -> None:
        """Updates the average by the critic's present weights."""
        for slow, fast in zip(self.slow.parameters(), self.critic.parameters(), strict=True):
            slow.lerp_(fast, 1 - self.decay)


def estimate(critic: nn.Module, thought: Tensor) -> Any:
    """The estimate [*] of a critic, which any module thought [*, F] -> value [*] is."""
    own = getattr(critic, "estimate", None)
    return Estimate(critic(thought)) if own is None else own(thought)
