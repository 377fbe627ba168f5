"""The encoder and the decoder of whole percepts: observation, reward, end."""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, distributions as td, nn
from torch.nn import functional as F

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
    """features [*, F] -> p(observation) p(reward | observation) p(end | observation).

    Reward and end read the observation too: the goal that it shows and the end that it brings are
    one event. Rewards that take few values have a categorical over `reward_support`, or with
    `open_rewards` a mass for each of these and a density for others; all others (`None`) have a
    density, Gaussian or with `open_rewards` Student's t. With `separate` they read the features
    alone, as Dreamer's do: the three are then independent. With `reward_regression` there is a
    `TwoHotRegression` of the reward besides, for rewards of any scale: dreams give its mean,
    and the reward's likelihood is learned from the features without moving them.
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
    ):
        """`observation` reads [*, hidden]; `encoder` encodes the observations it describes;
        dropout: of the features, in training mode; skip: there is one layer more, and
        `observation` reads the features beside it, [*, hidden + input_size]; open_rewards: other
        rewards than those of `reward_support`, or than those met, may come (`MixedHead`,
        `StudentHead`); reward_groups: of rewards without a support, if they lie far apart
        (`GroupedHead`)."""
        super().__init__()
        self.dropout = Dropout(dropout)
        self.skip = skip
        self.body = mlp([input_size, hidden, hidden]) if skip else nn.Linear(input_size, hidden)
        self.observation = observation
        self.encoder = encoder
        self.separate = separate
        if not separate:
            self.seen = nn.Linear(encoder.size, hidden, bias=False)
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
            both = unseen if self.separate else unseen + self.seen(self.encoder(observation))
            return self._consequences(F.silu(both))

        return Prediction(observe, consequences, features.shape[:-1], self.separate)

    def standardise(self, values: Mapping[str, Any]) -> None:
        """values: observations [N, ...] and rewards [M], those of first rows left out, by key."""
        self.observation.standardise(values["observation"])
        self.encoder.standardise(values["observation"])
        self.reward.standardise(values["reward"])

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

    def _consequences(self, both: Tensor) -> Consequences:
        """both: what reward and end are read from, [*, hidden]."""
        rewards = both.detach() if self.regressed else both
        parts = {"reward": self.reward(rewards), "terminated": self.terminated(both)}
        return Consequences(
            parts, lambda: {key: part(both) for key, part in self.regression.items()}
        )


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
