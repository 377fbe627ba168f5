"""An agent that draws every action with the same probability."""

from typing import Any

import torch
from gymnasium import spaces
from torch import Tensor, distributions as td

from worldmodel import Agent, ModelState, Row, action_codec


class Uniform(Agent):
    """Acts at random; with `persistence` it remembers its last action (else thoughts have size 0).

    A world that has to be swung or steered for a while before its observations change much is
    hardly explored by actions that cancel each other out: a pendulum hanging down, for one.
    """

    def __init__(self, action_space: spaces.Space, persistence: float = 0.0):
        """persistence: the probability that the last action is repeated."""
        if not 0 <= persistence < 1:
            raise ValueError(f"persistence is 0 or more and below 1, got {persistence}")
        self.actions = action_codec(action_space)
        self.persistence = persistence
        self.thought_size = self.actions.size + 1 if persistence else 0

    def initial_state(self, batch_size: int) -> Any:
        return ()

    def step(self, row: Row, state: Any, shared: ModelState | None = None) -> tuple[Tensor, Any]:
        """Takes in a row; the thought is the action that led to it, and whether there was one."""
        acted = (~row.first).to(row.action.dtype)[:, None]
        return torch.cat([row.action, acted], -1)[:, : self.thought_size], state

    def policy(self, thought: Tensor) -> td.Distribution:
        uniform = self.actions.uniform(thought.shape[:-1], thought.device)
        return Persistent(uniform, thought, self.persistence) if self.persistence else uniform


class Persistent(td.Distribution):
    """The last action with some probability, else another distribution's; it can only be drawn."""

    arg_constraints = {}  # noqa: RUF012 (nothing is validated here)

    def __init__(self, other: td.Distribution, thought: Tensor, persistence: float):
        """thought: [*, A + 1], the last action and whether there was one."""
        super().__init__(thought.shape[:-1], other.event_shape, validate_args=False)
        self.other = other
        self.last, self.acted = thought[..., :-1], thought[..., -1]
        self.persistence = persistence

    def restricted(self, allowed: Tensor) -> "Persistent":
        """The same among actions that are allowed, bool [*, A]; others are not repeated."""
        may_repeat = (self.last * ~allowed).sum(-1) == 0
        thought = torch.cat([self.last, (self.acted * may_repeat)[..., None]], -1)
        other = self.other.restricted(allowed)  # type: ignore[attr-defined]
        return Persistent(other, thought, self.persistence)

    def sample(self, sample_shape: torch.Size = torch.Size()) -> Tensor:
        fresh = self.other.sample(sample_shape)
        chance = self.persistence * self.acted.expand(fresh.shape[:-1])
        return torch.where(
            torch.rand_like(chance)[..., None] < chance[..., None], self.last, fresh
        )
