"""The world that an agent faces: real, or dreamt by a world model."""

from abc import ABC, abstractmethod
from typing import Any, Literal, NamedTuple, get_args

import torch
from gymnasium import spaces
from torch import Tensor

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


Reveal = Literal["nothing", "belief", "features"]


class DreamState(NamedTuple):
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
        reveal: Reveal = "nothing",
        temperature: float = 1.0,
    ):
        """horizon: steps after which a dreamt episode is truncated.

        reveal: what rows show instead of observations. "features": the generator's, as Dreamer's
        actor sees them. They hold what no row can tell (the latent that was drawn): an agent that
        acts on them knows more than it will in reality, where the filter's features stand for
        them. "belief": what a `Believer` would think, at no cost; only with a core whose belief
        no latent enters.

        temperature: that observations, rewards and ends are drawn at (see `tempered`); only
        without a `reveal`.
        """
        if temperature != 1 and reveal != "nothing":
            raise ValueError(f"a dream that reveals its {reveal} has no temperature but 1")
        if horizon < 1:
            raise ValueError(f"a dream's horizon is at least one step, got {horizon}")
        if reveal not in get_args(Reveal):
            raise ValueError(f"reveal is one of {get_args(Reveal)}, got {reveal!r}")
        if reveal == "belief" and not model.core.belief_of_rows:
            raise ValueError(
                f"the belief of {type(model.core).__name__} holds latents, which the generator "
                "and the mind draw apart: let a Believer think about a dream that reveals nothing"
            )
        self.model = model
        self.horizon = horizon
        self.observation_space = observation_space
        if reveal != "nothing":
            size = model.belief_size if reveal == "belief" else model.core.feature_size
            self.observation_space = spaces.Box(-float("inf"), float("inf"), (size,))
        self.action_space = action_space
        self.reveal = reveal
        self.temperature = temperature

    def initial_state(self, batch_size: int) -> DreamState:
        """All B games begin with the model's own first row."""
        model = self.model.initial_state(batch_size)
        ended = torch.ones(batch_size, dtype=torch.bool, device=model.history.device)
        return self.start(model, ended)

    def start(self, states: ModelState, ended: Tensor) -> DreamState:
        """Dreams that go on from inferred states [B, ...]; `ended` games restart."""
        return DreamState(states, torch.zeros_like(ended, dtype=torch.int64), ended)

    def step(self, action: Tensor, state: DreamState) -> tuple[Row, DreamState]:
        if self.reveal == "features":
            row, model = self.model.step_revealed(state.ended, action, state.model)
        else:
            row, model = self.model.step(state.ended, action, state.model, self.temperature)
        if self.reveal == "belief":
            row = row._replace(observation=self.model.belief(model))
        return row, self._tick(row, model, state.clock)

    def observe(self, row: Row, state: DreamState) -> DreamState:
        if self.reveal != "nothing":
            raise ValueError(
                f"a dream that reveals its {self.reveal} shows no observations, so it cannot take "
                'one in; observe with a Dream(reveal="nothing"), and start this one from its state'
            )
        return self.follow(row, self.model.observe(row, state.model), state)

    def follow(self, row: Row, believed: ModelState, state: DreamState) -> DreamState:
        """The state after `row` [B, ...] has happened, of which the model has been told already:
        it came to believe `believed`."""
        return self._tick(row, believed, state.clock)

    def _tick(self, row: Row, model: ModelState, clock: Tensor) -> DreamState:
        clock = torch.where(row.first, 0, clock + 1)
        return DreamState(model, clock, row.terminated | (clock >= self.horizon))
