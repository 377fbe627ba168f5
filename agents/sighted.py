"""An agent of codes, where a world shows images."""

from typing import Any

from torch import Tensor

from worldmodel import Agent, AgentWrapper, ModelState, Row, WorldModel, encode_images


class Sighted(AgentWrapper):
    """Wraps an agent of image codes so that it acts on images: encodes `row.observation` first."""

    def __init__(self, agent: Agent, eyes: WorldModel):
        """eyes: a VAE, of `autoencoder_for`."""
        super().__init__(agent)
        self.eyes = eyes

    def step(self, row: Row, state: Any, shared: ModelState | None = None) -> tuple[Tensor, Any]:
        codes = encode_images(self.eyes, row.observation)
        return self.agent.step(row._replace(observation=codes), state, shared)
