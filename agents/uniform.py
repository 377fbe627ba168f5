"""An agent that draws every action with the same probability."""

from typing import Any

import torch
from gymnasium import spaces
from torch import Tensor
from torch.distributions import Distribution

from worldmodel import Agent, Row, action_codec


class Uniform(Agent):
    """Knows nothing, thinks nothing (thoughts of size zero)."""

    thought_size = 0

    def __init__(self, action_space: spaces.Space):
        self.actions = action_codec(action_space)

    def initial_state(self, batch_size: int) -> Any:
        return ()

    def step(self, row: Row, state: Any) -> tuple[Tensor, Any]:
        return torch.zeros(len(row.first), 0), state

    def policy(self, thought: Tensor) -> Distribution:
        return self.actions.uniform(thought.shape[:-1])
