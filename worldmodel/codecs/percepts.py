"""The encoder and the decoder of whole percepts: observation, reward, end."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from worldmodel.codecs.base import DistModule, Encoder
from worldmodel.codecs.heads import FiniteHead, NormalHead, TruthHead
from worldmodel.distributions import Chain, Joint


class PerceptEncoder(Encoder):
    """A percept -> [*, E]: the encoded observation, then the reward and the end, if any.

    On first rows reward and end are void and encoded as zero.
    """

    def __init__(self, observation: Encoder, rewards: bool = True):
        super().__init__()
        self.observation = observation
        self.rewards = rewards
        self.size = observation.size + (2 if rewards else 0)

    def forward(self, x: tuple[Mapping[str, Any], Tensor]) -> Tensor:
        """x: a percept, its leaves [*, ...], and `first`, bool [*]."""
        percept, first = x
        encoding = self.observation(percept["observation"])
        if not self.rewards:
            return encoding
        consequences = torch.stack([percept["reward"], percept["terminated"]], -1)
        consequences = consequences.masked_fill(first[..., None], 0.0).to(encoding.dtype)
        return torch.cat([encoding, consequences], -1)  # [*, E]


class PerceptDecoder(DistModule):
    """features [*, F] -> p(observation) p(reward | observation) p(end | observation).

    Reward and end see the observation too: the goal that is seen and the end that it brings are
    one event. Rewards that take few values have a categorical over `reward_support`, others
    (`None`) a Gaussian density.
    """

    def __init__(
        self,
        input_size: int,
        hidden: int,
        observation: DistModule,
        encoder: Encoder,
        reward_support: Sequence[float] | None,
        dropout: float = 0.0,
    ):
        """`observation` reads [*, hidden]; `encoder` encodes the observations it describes;
        dropout: of the features, in training mode."""
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        self.body = nn.Linear(input_size, hidden)
        self.observation = observation
        self.encoder = encoder
        self.seen = nn.Linear(encoder.size, hidden, bias=False)
        self.unseen = nn.Linear(hidden, hidden)
        if reward_support is None:
            self.reward: DistModule = NormalHead(hidden)
        else:
            self.reward = FiniteHead(hidden, reward_support)
        self.terminated = TruthHead(hidden)

    @property
    def void(self) -> dict[str, Any]:
        return {
            "observation": self.observation.void,
            "reward": self.reward.void,
            "terminated": self.terminated.void,
        }

    def forward(self, features: Tensor) -> Chain:
        hidden = F.silu(self.body(self.dropout(features)))
        unseen = self.unseen(hidden)

        def consequences(value: Mapping[str, Any]) -> Joint:
            both = F.silu(unseen + self.seen(self.encoder(value["observation"])))
            return Joint({"reward": self.reward(both), "terminated": self.terminated(both)})

        return Chain(Joint({"observation": self.observation(hidden)}), consequences)


class ObservationDecoder(DistModule):
    """features [*, F] -> p(observation), for recordings that have neither rewards nor ends."""

    def __init__(self, input_size: int, hidden: int, observation: DistModule):
        super().__init__()
        self.body = nn.Linear(input_size, hidden)
        self.observation = observation

    @property
    def void(self) -> dict[str, Any]:
        return {"observation": self.observation.void}

    def forward(self, features: Tensor) -> Joint:
        return Joint({"observation": self.observation(F.silu(self.body(features)))})
