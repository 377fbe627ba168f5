"""Worlds that a function writes down, as world models: what follows from a point and an action."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor

import worldmodel
from worldmodel import Encoder, PerceptEncoder, Percepts, SequenceCore, WorldModel, action_codec
from worldmodel.codecs import Consequences, PerceptModule, Prediction
from worldmodel.distributions import Bernoulli, Deterministic

Follows = Callable[[Tensor, Tensor], tuple[Tensor, Tensor, Tensor]]
"""points [*, n] and codes [*, A] -> points [*, n], rewards [*] and ends, bool [*]"""


class WrittenState(NamedTuple):
    percept: Tensor  # [B, n + 2]: the point, the reward, the end
    latent: Tensor  # [B, 0]


class WrittenCore(SequenceCore):
    """A core that remembers nothing: the context holds the action and the point before."""

    filtering = belief_of_rows = True

    def __init__(self, follows: Follows, point_size: int, action_size: int):
        super().__init__()
        self.follows = follows
        self.point_size = self.evidence_size = point_size
        self.context_size = action_size + point_size
        self.feature_size = self.belief_size = point_size + 2

    def initial_state(self, batch_size):
        nothing = torch.zeros(batch_size, self.feature_size)
        return WrittenState(nothing, nothing[:, :0])

    def step(self, context, state=None):
        action, point = context[..., : -self.point_size], context[..., -self.point_size :]
        point, reward, ended = self.follows(point, action)
        return WrittenState(
            torch.cat([point, torch.stack([reward, ended.float()], -1)], -1), point[..., :0]
        )

    def prepare(self, contexts, evidence, mask, state):
        return self.step(contexts)

    def posterior_step(self, prepared, state):
        nothing = worldmodel.cores.Gaussian(prepared.latent, prepared.latent)
        return nothing, nothing, prepared

    def features(self, state):
        return state.percept

    def belief(self, state):
        return state.percept


class WrittenDecoder(PerceptModule):
    """Shows the percept that the core's state is."""

    @property
    def placeholder(self):
        zero = torch.tensor(0.0)
        return {"observation": zero, "reward": zero, "terminated": torch.tensor(False)}

    def forward(self, features):
        point, reward, ended = features[..., :-2], features[..., -2], features[..., -1]

        def consequences(observation):
            end = Bernoulli(torch.where(ended > 0, torch.inf, -torch.inf))
            return Consequences({"reward": Deterministic(reward), "terminated": end})

        return Prediction(lambda: Deterministic(point), consequences, features.shape[:-1])


class Identity(Encoder):
    def __init__(self, size: int):
        super().__init__()
        self.size = size

    def forward(self, x):
        return x


def written_model(follows: Follows, point_size: int, action_space: spaces.Space) -> WorldModel:
    """A world model whose beliefs end with the point where the game stands."""
    size = action_codec(action_space).size
    core = WrittenCore(follows, point_size, size)
    percepts = Percepts(PerceptEncoder(Identity(point_size), rewards=False), WrittenDecoder())
    return WorldModel(percepts, core, size)


def points(size: int) -> spaces.Box:
    return spaces.Box(-np.inf, np.inf, (size,), np.float32)
