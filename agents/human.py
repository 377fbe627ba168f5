"""A person at the controls: a keyboard as an agent."""

from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor
from torch.distributions import Distribution

from worldmodel import Agent, AgentWrapper, action_codec
from worldmodel.distributions import Deterministic


class Human(AgentWrapper):
    """The mind of another agent, with the policy of a keyboard: the key that was pressed last.

    The mind has no influence on actions; its beliefs can be drawn for the person who plays.
    """

    def __init__(self, agent: Agent, action_space: spaces.Space):
        super().__init__(agent)
        self.actions = action_codec(action_space)
        nothing = torch.zeros(self.actions.size)
        self.key = self.actions.encode(self.actions.decode(nothing))  # [A], until one is pressed

    def press(self, action: Any) -> None:
        """Sets the policy's action, a value of the action space, until the next call."""
        self.key = self.actions.encode(torch.as_tensor(np.asarray(action)))

    def policy(self, thought: Tensor) -> Distribution:
        return Deterministic(self.key.expand(*thought.shape[:-1], -1))
