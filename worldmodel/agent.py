"""Agents: recurrences from rows to thoughts, and policies that read thoughts."""

from abc import ABC, abstractmethod
from typing import Any

import torch
from gymnasium import spaces
from torch import Tensor
from torch.distributions import Distribution

from worldmodel import nested
from worldmodel.codecs import DistModule, Encoder, action_codec
from worldmodel.distributions import Certain
from worldmodel.model import ModelState, WorldModel
from worldmodel.sequences import Row


class Agent(ABC):
    """A mind that turns rows into thoughts, and a policy over actions given a thought."""

    thought_size: int

    @abstractmethod
    def initial_state(self, batch_size: int) -> Any:
        """The mind before any row."""

    @abstractmethod
    def step(self, row: Row, state: Any) -> tuple[Tensor, Any]:
        """Takes in a row [B, ...]: a thought [B, F] and the mind after it.

        The mind restarts where `row.first`.
        """

    @abstractmethod
    def policy(self, thought: Tensor) -> Distribution:
        """The distribution of the next action's code [*, A], given a thought [*, F]."""


class Believer(Agent):
    """An agent that acts from a world model's belief: a function of rows, and of nothing else."""

    def __init__(self, model: WorldModel, head: DistModule, reveal: bool = False):
        """head: thought [*, F] -> a distribution over the codes of actions.

        reveal: thinks the filter's features instead, for what was trained in a
        `Dream(reveal="features")`.
        """
        self.model = model
        self.head = head
        self.reveal = reveal
        self.thought_size = model.core.feature_size if reveal else model.belief_size

    def initial_state(self, batch_size: int) -> ModelState:
        return self.model.initial_state(batch_size)

    def step(self, row: Row, state: ModelState) -> tuple[Tensor, ModelState]:
        row = nested.map(lambda leaf: leaf.to(state.history.device), row)  # reality is on the CPU
        state = self.model.observe(row, state)
        return self.thought(state), state

    def thought(self, state: ModelState) -> Tensor:
        """What it thinks after rows that brought the model to `state`: [*, F]."""
        return self.model.core.features(state.core) if self.reveal else self.model.belief(state)

    def policy(self, thought: Tensor) -> Distribution:
        return self.head(thought)


class Memoryless(Agent):
    """An agent that acts from the last observation alone, encoded."""

    def __init__(self, encoder: Encoder, head: DistModule):
        """encoder: of observations; head: encoding [*, E] -> a distribution over action codes."""
        self.encoder = encoder
        self.head = head
        self.thought_size = encoder.size

    def initial_state(self, batch_size: int) -> tuple[()]:
        return ()

    def step(self, row: Row, state: tuple[()]) -> tuple[Tensor, tuple[()]]:
        return self.encoder(row.observation), ()

    def policy(self, thought: Tensor) -> Distribution:
        return self.head(thought)


class Onlooker(Agent):
    """Nobody: a recording is a world that is not steered, and its actions have size 0."""

    thought_size = 0

    def initial_state(self, batch_size: int) -> tuple[()]:
        return ()

    def step(self, row: Row, state: tuple[()]) -> tuple[Tensor, tuple[()]]:
        return row.action[..., :0], ()

    def policy(self, thought: Tensor) -> Distribution:
        return Certain(thought)


class Metronome(Agent):
    """Counts the rows of a piece: its actions say where in its bar the next row lies, and no row
    changes them. A first row is the first of a bar, which nobody has to be told.
    """

    def __init__(self, steps: int, beats: int):
        """steps: rows a beat; beats: of a bar."""
        self.steps = steps
        self.beats = beats
        self.action_space = spaces.MultiDiscrete([beats, steps])
        self.actions = action_codec(self.action_space)
        self.thought_size = self.actions.size

    def at(self, row: Any) -> Any:
        """The actions that lead to rows of the given numbers, counted from 0: int [*] -> [*, 2],
        the beat of the bar and the step of the beat, both counted from 0."""
        beat, step = row // self.steps % self.beats, row % self.steps
        return torch.stack([torch.as_tensor(beat), torch.as_tensor(step)], -1)

    def initial_state(self, batch_size: int) -> Tensor:
        return torch.zeros(batch_size, dtype=torch.int64)

    def step(self, row: Row, state: Tensor) -> tuple[Tensor, Tensor]:
        state = torch.where(row.first, 1, state + 1)  # rows so far
        return self.actions.encode(self.at(state)).to(row.action), state

    def policy(self, thought: Tensor) -> Distribution:
        return Certain(thought)


class Greedy(Agent):
    """The same agent, acting by the mode of its policy."""

    def __init__(self, agent: Agent):
        self.agent = agent
        self.thought_size = agent.thought_size

    def initial_state(self, batch_size: int) -> Any:
        return self.agent.initial_state(batch_size)

    def step(self, row: Row, state: Any) -> tuple[Tensor, Any]:
        return self.agent.step(row, state)

    def policy(self, thought: Tensor) -> Distribution:
        return Certain(self.agent.policy(thought).mode)
