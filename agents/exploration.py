"""Agents that act at random: always, or now and then."""

from typing import Any

import torch
from gymnasium import spaces
from torch import Tensor, distributions as td

from worldmodel import Agent, AgentWrapper, ModelState, Row, action_codec
from worldmodel.distributions import Deterministic


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


class Exploring(AgentWrapper):
    """The same agent, but for a share of actions at random.

    A policy that has become sure of itself tries nothing else, so that the model never learns
    what else there is, and a wrong opinion of it stays.
    """

    def __init__(self, agent: Agent, action_space: spaces.Space, share: float):
        """share: of actions at random, all of which are equally likely."""
        super().__init__(agent)
        self.actions = action_codec(action_space)
        self.share = share

    def policy(self, thought: Tensor) -> td.Distribution:
        shape = thought.shape[:-1]
        uniform = self.actions.uniform(shape, thought.device)
        return Either(self.agent.policy(thought), uniform, thought.new_full(shape, self.share))


def exploring(agent: Agent, action_space: spaces.Space, share: float) -> Agent:
    """The agent with a share of random actions; itself where that is 0."""
    return Exploring(agent, action_space, share) if share else agent


class Either(td.Distribution):
    """One distribution, or with some probability another; it can only be drawn."""

    arg_constraints = {}  # noqa: RUF012 (nothing is validated here)

    def __init__(self, one: td.Distribution, other: td.Distribution, chance: Tensor):
        """chance: of the other, [*]."""
        super().__init__(chance.shape, one.event_shape, validate_args=False)
        self.one, self.other, self.chance = one, other, chance

    def restricted(self, allowed: Tensor) -> "Either":
        """The same among actions that are allowed, bool [*, A]."""
        one, other = (part.restricted(allowed) for part in (self.one, self.other))  # type: ignore[attr-defined]
        return Either(one, other, self.chance)

    def sample(self, sample_shape: torch.Size = torch.Size()) -> Tensor:
        one, other = self.one.sample(sample_shape), self.other.sample(sample_shape)
        chance = self.chance.expand((*sample_shape, *self.chance.shape))[..., None]
        return torch.where(torch.rand_like(chance) < chance, other, one)


class Persistent(Either):
    """The last action with some probability, else another distribution's."""

    def __init__(self, other: td.Distribution, thought: Tensor, persistence: float):
        """thought: [*, A + 1], the last action and whether there was one."""
        self.last, self.acted = thought[..., :-1], thought[..., -1]
        super().__init__(other, Deterministic(self.last), persistence * self.acted)
        self.persistence = persistence

    def restricted(self, allowed: Tensor) -> "Persistent":
        """The same among actions that are allowed, bool [*, A]; others are not repeated."""
        may_repeat = (self.last * ~allowed).sum(-1) == 0
        thought = torch.cat([self.last, (self.acted * may_repeat)[..., None]], -1)
        fresh = self.one.restricted(allowed)  # type: ignore[attr-defined]
        return Persistent(fresh, thought, self.persistence)
