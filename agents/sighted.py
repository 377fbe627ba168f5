"""An agent of codes, where a world shows images."""

from typing import Any

from torch import Tensor
from torch.distributions import Distribution

from worldmodel import Agent, Row, WorldModel, encode_images


class Sighted(Agent):
    """Another agent, that is told the codes of the images that a row shows."""

    def __init__(self, agent: Agent, eyes: WorldModel):
        """eyes: a VAE, of `autoencoder_for`."""
        self.agent = agent
        self.eyes = eyes
        self.thought_size = agent.thought_size

    def initial_state(self, batch_size: int) -> Any:
        return self.agent.initial_state(batch_size)

    def step(self, row: Row, state: Any) -> tuple[Tensor, Any]:
        codes = encode_images(self.eyes, row.observation)
        return self.agent.step(row._replace(observation=codes), state)

    def policy(self, thought: Tensor) -> Distribution:
        return self.agent.policy(thought)
