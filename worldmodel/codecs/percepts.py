"""The encoder and the decoder of whole percepts: observation, reward, end."""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, distributions as td, nn
from torch.nn import functional as F

from worldmodel import nested
from worldmodel.codecs.base import DistModule, Encoder
from worldmodel.codecs.heads import (
    BernoulliHead,
    FiniteHead,
    GroupedHead,
    MixedHead,
    NormalHead,
    StudentHead,
)
from worldmodel.codecs.prediction import Consequences, Prediction, nothing
from worldmodel.codecs.regression import TwoHotRegression
from worldmodel.codecs.standardisation import Standardisation
from worldmodel.nets import Dropout, mlp


class PerceptEncoder(Encoder):
    """A percept -> [*, E]: the encoded observation, then the reward and the end, if any.

    On first rows reward and end are placeholders, encoded as zero.
    """

    def __init__(self, observation: Encoder, rewards: bool = True):
        super().__init__()
        self.observation = observation
        self.rewards = rewards
        self.size = observation.size + (2 if rewards else 0)
        self.has_missing = observation.has_missing
        if rewards:
            self.reward = Standardisation()

    def forward(self, x: tuple[Mapping[str, Any], Tensor]) -> Tensor:
        """x: a percept, its leaves [*, ...], and `first`, bool [*]."""
        percept, first = x
        encoding = self.observation(percept["observation"])
        if not self.rewards:
            return encoding
        consequences = torch.stack([self.reward(percept["reward"]), percept["terminated"]], -1)
        consequences = consequences.masked_fill(first[..., None], 0.0).to(encoding.dtype)
        return torch.cat([encoding, consequences], -1)  # [*, E]

    def carried(self, encodings: Tensor) -> Tensor:
        observation = self.observation.carried(encodings[..., : self.observation.size])
        return torch.cat([observation, encodings[..., self.observation.size :]], -1)

    def standardise(self, values: Mapping[str, Any]) -> None:
        """values: observations [N, ...] and rewards [M], those of first rows left out, by key."""
        self.observation.standardise(values["observation"])
        if self.rewards:
            self.reward.fit(values["reward"])


class PerceptModule(DistModule):
    """features [*, F] -> a `Prediction` of percepts [*]."""

    regressed: tuple[str, ...] = ()  # parts of a percept that are regressed besides
    separate: bool = False  # reward and end do not depend on the observation, given the features

    @abstractmethod
    def forward(self, features: Tensor) -> Prediction: ...


class PerceptDecoder(PerceptModule):
    """features [*, F] -> p(observation) p(reward | observation) p(end | observation, reward).

    Reward and end read the observation too, and the end the reward: the goal that is seen, the
    prize and the end that it brings are one event. Where the features hold the observation before,
    the reward reads how far it has changed, too, in units of the usual change, also times gates
    (what a change is worth depends on where it happens), and where near zero it is, in the same
    units (many rewards have a kink there: distances, speeds); all through a layer more. It is
    often the difference of what two observations are worth that are nearly the same (LunarLander).
    Ends are rare, and learned by heart with these (CartPole).

    Rewards that take few values have a categorical over `reward_support`, or with `open_rewards`
    a mass for each of these and a density for others; all others (`None`) have a density, Gaussian
    or with `open_rewards` Student's t. With `separate` reward and end read the features alone, as
    Dreamer's do: the three are then independent. With `reward_regression` there is a
    `TwoHotRegression` of the reward besides, for rewards of any scale: dreams give its mean, the
    reward's likelihood is learned from the features without moving them, and the end does not read
    the reward.
    """

    def __init__(
        self,
        input_size: int,
        hidden: int,
        observation: DistModule,
        encoder: Encoder,
        reward_support: Sequence[float] | None,
        dropout: float = 0.0,
        reward_regression: bool = False,
        separate: bool = False,
        skip: bool = False,
        open_rewards: bool = False,
        reward_groups: Sequence[Sequence[float]] = (),
        before: int | None = None,
    ):
        """`observation` reads [*, hidden]; `encoder` encodes the observations it describes;
        dropout: of the features, in training mode; skip: there is one layer more, and
        `observation` reads the features beside it, [*, hidden + input_size]; open_rewards: other
        rewards than those of `reward_support`, or than those met, may come (`MixedHead`,
        `StudentHead`); reward_groups: of rewards without a support, if they lie far apart
        (`GroupedHead`); before: the column of the features where the encoding of the observation
        before begins, if they hold it."""
        super().__init__()
        self.dropout = Dropout(dropout)
        self.skip = skip
        self.body = mlp([input_size, hidden, hidden]) if skip else nn.Linear(input_size, hidden)
        self.observation = observation
        self.encoder = encoder
        self.separate = separate
        self.before = None if separate else before
        if not separate:
            self.seen = nn.Linear(encoder.size, hidden, bias=False)
        if self.before is not None:
            self.further = nn.Linear(hidden, hidden)
            self.change = Standardisation((encoder.size,))
            self.near = Standardisation((encoder.size,))  # from zero, in the same units
            self.fine = nn.Linear(2 * encoder.size, hidden, bias=False)
            self.changed = nn.Linear(encoder.size, hidden, bias=False)
            self.gate = nn.Linear(hidden, hidden)
            self.gated = nn.Linear(encoder.size, hidden, bias=False)
        self.unseen = nn.Linear(hidden, hidden)
        if reward_support is None and reward_groups:
            self.reward: DistModule = GroupedHead(hidden, reward_groups)
        elif reward_support is None:
            self.reward = StudentHead(hidden) if open_rewards else NormalHead(hidden)
        elif open_rewards:
            self.reward = MixedHead(hidden, atoms=reward_support)
        else:
            self.reward = FiniteHead(hidden, reward_support)
        self.terminated = BernoulliHead(hidden)
        self.regressed = ("reward",) if reward_regression else ()
        self.reads_reward = not separate and not reward_regression
        if self.reads_reward:
            self.paid = Standardisation()
            self.after = nn.Parameter(torch.zeros(hidden))  # nothing is known at first
        self.register_load_state_dict_pre_hook(_begin)
        self.regression = nn.ModuleDict({key: TwoHotRegression(hidden) for key in self.regressed})

    @property
    def placeholder(self) -> dict[str, Any]:
        return {
            "observation": self.observation.placeholder,
            "reward": self.reward.placeholder,
            "terminated": self.terminated.placeholder,
        }

    def forward(self, features: Tensor) -> Prediction:
        hidden = F.silu(self.body(self.dropout(features)))
        unseen = self.unseen(hidden)

        def observe() -> td.Distribution:
            return self.observation(torch.cat([hidden, features], -1) if self.skip else hidden)

        def consequences(observation: Any) -> Consequences:
            if self.separate:
                return self._consequences(unseen, unseen)
            encoding = self.encoder(observation)
            both = unseen + self.seen(encoding)
            if self.before is None:
                return self._consequences(both, both)
            before = features[..., self.before :][..., : self.encoder.size]
            both_near = torch.broadcast_tensors(self.near(before), self.near(encoding))
            change = self.change(encoding - before).asinh()
            moved = both + self.fine(torch.cat(both_near, -1).asinh())
            moved = moved + self.changed(change) + self.gate(F.silu(moved)) * self.gated(change)
            return self._consequences(both, moved + self.further(F.silu(moved)))

        return Prediction(observe, consequences, features.shape[:-1], self.separate)

    def standardise(self, values: Mapping[str, Any]) -> None:
        """values: observations [N, ...], rewards [M], those of first rows left out, and which rows
        are first ones, bool [N], by key."""
        self.observation.standardise(values["observation"])
        self.encoder.standardise(values["observation"])
        if self.before is not None:
            self._fit_change(values["observation"], values["first"])
        self.reward.standardise(values["reward"])
        if self.reads_reward:
            self.paid.fit(values["reward"])

    def meet(self, values: Mapping[str, Any]) -> None:
        """values: as those of `standardise`, and the ends [M] beside the rewards."""
        self.observation.meet(values["observation"])
        self.reward.meet(values["reward"])
        self.terminated.meet(values["terminated"])

    def group_rewards(self, groups: Sequence[Sequence[float]]) -> None:
        """Gives rewards, which had a density, another head, which has learned nothing yet: of
        these groups, or where there are none of one density again."""
        size, device = self.unseen.out_features, self.unseen.weight.device
        known = next(part for part in self.reward.modules() if isinstance(part, StudentHead))
        self.reward = GroupedHead(size, groups) if groups else StudentHead(size)
        for part in self.reward.modules():
            if isinstance(part, StudentHead):
                part.minimum_std = known.minimum_std
        self.reward.to(device)

    @torch.no_grad()
    def _fit_change(self, observations: Any, first: np.ndarray) -> None:
        """Sets the unit of changes; observations [N, ...], of episodes that begin at `first`."""
        device = self.unseen.weight.device
        numbers = nested.map(lambda x: torch.as_tensor(x, device=device), observations)
        encodings = self.encoder(numbers)
        changes = (encodings[1:] - encodings[:-1])[torch.as_tensor(~first[1:], device=device)]
        if len(changes):
            self.change.fit(changes)
            self.near.scale.copy_(self.change.scale)
            self.near.shift.copy_(self.encoder(nested.map(_nearest_zero, numbers)))

    def _consequences(self, both: Tensor, moved: Tensor) -> Consequences:
        """Reward and end from hidden units before their nonlinearity, [*, hidden]: the end reads
        `both`, the reward `moved`."""
        seen, paying = F.silu(both), F.silu(moved)
        rewards = self.reward(paying.detach() if self.regressed else paying)
        if self.reads_reward:
            return Consequences({"reward": rewards}, end=lambda reward: self._end(both, reward))
        return Consequences(
            {"reward": rewards, "terminated": self.terminated(seen)},
            lambda: {key: part(paying) for key, part in self.regression.items()},
        )

    def _end(self, both: Tensor, reward: Tensor) -> td.Distribution:
        """p(end | reward) for rewards [*]: rare prizes are many standard deviations high."""
        paid = self.paid(reward).asinh().to(both.dtype)
        return self.terminated(F.silu(both + paid[..., None] * self.after))


def _nearest_zero(values: Tensor) -> Tensor:
    """The nearest to zero between the least and the greatest of values [N, *], each number
    by itself: [*]."""
    least, most, zero = values.amin(0), values.amax(0), torch.zeros_like(values[0])
    return torch.where(least > 0, least, torch.where(most < 0, most, zero))


def _begin(module: PerceptDecoder, state: dict[str, Any], prefix: str, *_: Any) -> None:
    """Lets weights be loaded that were saved when ends did not depend on rewards, nor rewards on
    changes, and these had a layer less."""
    for part in ("further", "changed", "gate", "gated", "fine"):
        for name, value in getattr(module, part, nn.Module()).named_parameters():
            begun = value.detach() if part == "gate" else torch.zeros_like(value)
            state.setdefault(f"{prefix}{part}.{name}", begun)
    if module.reads_reward:
        state.setdefault(prefix + "after", torch.zeros_like(module.after))
    for part in ("change", "near", "paid"):
        for name, buffer in getattr(module, part, nn.Module()).named_buffers():
            state.setdefault(f"{prefix}{part}.{name}", buffer)


class ObservationDecoder(PerceptModule):
    """features [*, F] -> p(observation), for recordings that have neither rewards nor ends."""

    def __init__(
        self,
        input_size: int,
        hidden: int,
        observation: DistModule,
        dropout: float = 0.0,
        skip: bool = False,
    ):
        """dropout: of the features, in training mode; skip: `observation` reads the features
        beside the hidden units, [*, hidden + input_size]."""
        super().__init__()
        self.skip = skip
        self.dropout = Dropout(dropout)
        self.body = nn.Linear(input_size, hidden)
        self.observation = observation

    @property
    def placeholder(self) -> dict[str, Any]:
        return {"observation": self.observation.placeholder}

    def forward(self, features: Tensor) -> Prediction:
        hidden = F.silu(self.body(self.dropout(features)))
        shown = torch.cat([hidden, features], -1) if self.skip else hidden
        return Prediction(lambda: self.observation(shown), nothing, features.shape[:-1])

    def standardise(self, values: Mapping[str, Any]) -> None:
        """values: observations [N, ...], under their key."""
        self.observation.standardise(values["observation"])

    def meet(self, values: Mapping[str, Any]) -> None:
        """values: as those of `standardise`."""
        self.observation.meet(values["observation"])
