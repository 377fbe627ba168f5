"""The world that an agent faces: real, or dreamt by a world model."""

from abc import ABC, abstractmethod
from typing import Any, NamedTuple

import torch
from gymnasium import spaces
from torch import Tensor

from worldmodel import nested
from worldmodel.agent import Agent
from worldmodel.model import ModelState, WorldModel
from worldmodel.sequences import Row


class Environment(ABC):
    """A recurrence from actions to rows that restarts itself: after an end comes a first row."""

    observation_space: spaces.Space
    action_space: spaces.Space

    @abstractmethod
    def initial_state(self, batch_size: int) -> Any:
        """The state before the first rows of B games."""

    @abstractmethod
    def step(self, action: Tensor, state: Any) -> tuple[Row, Any]:
        """Turns the codes of actions [B, A] into rows [B, ...]."""

    @abstractmethod
    def observe(self, row: Row, state: Any) -> Any:
        """The state after `row` [B, ...] has happened: re-sync, or a prompt."""

    def shared(self, state: Any, agent: Agent) -> ModelState | None:
        """The state of the agent's own model [B, ...] after the latest row, if the environment
        holds one that the agent may read instead of inferring it. None: there is none."""
        return None

    def allowed(self, state: Any) -> Tensor | None:
        """The values, of those that a code of discrete actions lists, that the next action may
        have, bool [B, A]; None: all."""
        return None


class DreamState(NamedTuple):
    """The state of B dreams: data, which can be copied, saved and gone on with."""

    model: ModelState  # leaves [B, ...]
    clock: Tensor  # int64 [B], steps since the first row
    ended: Tensor  # bool [B]; the next row is a first row


class Dream(Environment):
    """A world model as an environment: it draws rows, rewards and ends, and restarts itself."""

    def __init__(
        self,
        model: WorldModel,
        horizon: int,
        observation_space: spaces.Space,
        action_space: spaces.Space,
        temperature: float = 1.0,
        draw_observations: bool = True,
    ):
        """horizon: steps after which a dreamt episode is truncated; temperature: that
        observations, rewards and ends are drawn at (see `tempered`).

        draw_observations: False saves the work where observations are not read, neither by an
        agent (one that reads features does not) nor by the model itself
        (`WorldModel.reads_observations`): observations then have size 0.
        """
        if horizon < 1:
            raise ValueError(f"a dream's horizon is at least one step, got {horizon}")
        if not draw_observations and model.reads_observations:
            raise ValueError(
                "this model's rows depend on the observations that it draws: pass "
                "draw_observations=True, or build it with feedback=False and separate=True"
            )
        self.model = model
        self.horizon = horizon
        self.observation_space = observation_space
        if not draw_observations:
            self.observation_space = spaces.Box(-float("inf"), float("inf"), (0,))
        self.action_space = action_space
        self.temperature = temperature
        self.draw_observations = draw_observations

    def initial_state(self, batch_size: int) -> DreamState:
        """The state before the model's own first row, in all B games."""
        model = self.model.initial_state(batch_size)
        ended = torch.ones(batch_size, dtype=torch.bool, device=model.history.device)
        return self.start(model, ended)

    def start(self, states: ModelState, ended: Tensor) -> DreamState:
        """Dreams that go on from inferred states [B, ...]; `ended` games restart."""
        return DreamState(states, torch.zeros_like(ended, dtype=torch.int64), ended)

    def step(self, action: Tensor, state: DreamState) -> tuple[Row, DreamState]:
        action = action.to(state.ended.device)
        row, model = self.model.step(
            state.ended, action, state.model, self.temperature, self.draw_observations
        )
        return row, self._tick(row, model, state.clock)

    def expected(self, rows: Row, cores: Any) -> tuple[Tensor, Tensor]:
        """The mean rewards of rows [*], given their observations, and log P(no end), [*] nats;
        cores: the core's states of these rows, from which they were drawn, leaves [*, ...]."""
        return self.model.expected(rows, cores, self.temperature)

    def observe(self, row: Row, state: DreamState) -> DreamState:
        row = nested.to(row, state.clock.device)
        return self._tick(row, self.model.observe(row, state.model), state.clock)

    def shared(self, state: DreamState, agent: Agent) -> ModelState | None:
        """Its model's state, for an agent of this model that reads features (see
        `BeliefAgent`), or a belief that no latent enters: that of the generator is then the one
        that rows alone give."""
        reads = agent.reads_of(self.model)
        of_rows = reads == "belief" and self.model.core.belief_of_rows
        return state.model if of_rows or reads == "features" else None

    def _tick(self, row: Row, model: ModelState, clock: Tensor) -> DreamState:
        clock = torch.where(row.first, 0, clock + 1)
        return DreamState(model, clock, row.terminated | (clock >= self.horizon))
