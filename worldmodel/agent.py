"""Agents: recurrences from rows to thoughts, and policies that read thoughts."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, Literal, get_args

import torch
from gymnasium import spaces
from torch import Tensor
from torch.distributions import Distribution

from worldmodel import nested
from worldmodel.codecs import DistModule, Encoder, action_codec
from worldmodel.devices import device_of
from worldmodel.distributions import Deterministic, Mode
from worldmodel.model import ModelState, WorldModel
from worldmodel.sequences import Row

Reads = Literal["belief", "features"]


class Agent(ABC):
    """A mind that turns rows into thoughts, and a policy over actions given a thought.

    In the field's words: a recurrent agent, whose state is the mind and whose features, which
    the policy reads, are the thought.
    """

    thought_size: int

    @abstractmethod
    def initial_state(self, batch_size: int) -> Any:
        """The mind before any row."""

    @abstractmethod
    def step(self, row: Row, state: Any, shared: ModelState | None = None) -> tuple[Tensor, Any]:
        """Takes in a row [B, ...]: a thought [B, F] and the mind after it.

        The mind restarts where `row.first`. shared: the state [B, ...] of the model that
        `reads_of` names, after this row, where the world has one to share; agents that read no
        model never get one.
        """

    @abstractmethod
    def policy(self, thought: Tensor) -> Distribution:
        """The distribution of the next action's code [*, A], given a thought [*, F]."""

    def reads_of(self, model: WorldModel) -> Reads | None:
        """The part of this model's states that the agent reads; None: it reads no state."""
        return None

    def expected_reward(self, row: Row, state: Any) -> Tensor:
        """The expected reward [B] of a row whose reward is not given; the mind is that before
        the row. Agents without a model expect none."""
        return torch.zeros(len(row.first))


class AgentWrapper(Agent):
    """A wrapper of another agent; methods that a subclass does not override are the other's."""

    def __init__(self, agent: Agent):
        self.agent = agent
        self.thought_size = agent.thought_size

    def initial_state(self, batch_size: int) -> Any:
        return self.agent.initial_state(batch_size)

    def step(self, row: Row, state: Any, shared: ModelState | None = None) -> tuple[Tensor, Any]:
        return self.agent.step(row, state, shared)

    def policy(self, thought: Tensor) -> Distribution:
        return self.agent.policy(thought)

    def reads_of(self, model: WorldModel) -> Reads | None:
        return self.agent.reads_of(model)

    def expected_reward(self, row: Row, state: Any) -> Tensor:
        return self.agent.expected_reward(row, state)


class BeliefAgent(Agent):
    """An agent that acts from the state of a world model that has taken in all rows so far.

    It reads the model's "belief", which is a function of rows and of nothing else, or the
    "features" of its state, as Dreamer's actor does. In a dream those are the generator's own.
    They are privileged: they hold the latent that was drawn, which is no function of rows, so the
    agent has more information in the dream than in reality, where the filter's features stand in.
    """

    def __init__(
        self,
        model: WorldModel,
        head: Callable[[Tensor], Distribution],
        reads: Reads = "belief",
    ):
        """head: thought [*, F] -> a distribution over the codes of actions."""
        if reads not in get_args(Reads):
            raise ValueError(f"an agent reads one of {get_args(Reads)}, got reads={reads!r}")
        self.model = model
        self.head = head
        self.reads = reads
        self.thought_size = model.belief_size if reads == "belief" else model.core.feature_size

    def initial_state(self, batch_size: int) -> ModelState:
        return self.model.initial_state(batch_size)

    def step(
        self, row: Row, state: ModelState, shared: ModelState | None = None
    ) -> tuple[Tensor, ModelState]:
        state = self.model.observe(row, state) if shared is None else shared
        return self.thought(state), state

    def thought(self, state: ModelState) -> Tensor:
        """The thought [*, F] after rows that brought the model to `state`."""
        if self.reads == "belief":
            return self.model.belief(state)
        return self.model.core.features(state.core)

    def expected_reward(self, row: Row, state: ModelState) -> Tensor:
        """The most probable reward [B], given the action and the observation, or the mean of a
        regression."""
        action, observation = nested.to((row.action, row.observation), self.model.device)
        prediction, _ = self.model.predict(action, state)
        consequences = prediction.consequences(observation)
        if "reward" in consequences.regressions:
            return consequences.regressions["reward"].mean
        reward = consequences.parts.get("reward")
        return super().expected_reward(row, state) if reward is None else reward.mode

    def policy(self, thought: Tensor) -> Distribution:
        return self.head(thought)

    def reads_of(self, model: WorldModel) -> Reads | None:
        return self.reads if model is self.model else None


def no_action(thought: Tensor) -> Distribution:
    """The policy of an agent without actions: their size is 0, [*, 0], for any thought."""
    return Deterministic(thought[..., :0])


class Memoryless(Agent):
    """An agent that acts from the last observation alone, encoded."""

    def __init__(self, encoder: Encoder, head: DistModule):
        """encoder: of observations; head: encoding [*, E] -> a distribution over action codes."""
        self.encoder = encoder
        self.head = head
        self.thought_size = encoder.size

    def initial_state(self, batch_size: int) -> tuple[()]:
        return ()

    def step(
        self, row: Row, state: tuple[()], shared: ModelState | None = None
    ) -> tuple[Tensor, tuple[()]]:
        return self.encoder(nested.to(row.observation, device_of(self.encoder))), ()

    def policy(self, thought: Tensor) -> Distribution:
        return self.head(thought)


class NullAgent(Agent):
    """Does nothing: its actions have size 0, as in a recording, a world that is not steered."""

    thought_size = 0

    def initial_state(self, batch_size: int) -> tuple[()]:
        return ()

    def step(
        self, row: Row, state: tuple[()], shared: ModelState | None = None
    ) -> tuple[Tensor, tuple[()]]:
        return row.action[..., :0], ()

    def policy(self, thought: Tensor) -> Distribution:
        return no_action(thought)


class Steering(Agent):
    """An agent whose actions depend on the number of the row alone, whatever rows come."""

    @abstractmethod
    def codes_at(self, row: Tensor) -> Tensor:
        """The codes of the actions that lead to rows of the given numbers, counted from 0 at a
        first row: int64 [B] -> [B, A]."""

    def initial_state(self, batch_size: int) -> Tensor:
        return torch.zeros(batch_size, dtype=torch.int64)

    def step(
        self, row: Row, state: Tensor, shared: ModelState | None = None
    ) -> tuple[Tensor, Tensor]:
        state = torch.where(row.first.to(state.device), 1, state + 1)  # rows so far
        return self.codes_at(state).to(row.action), state

    def policy(self, thought: Tensor) -> Distribution:
        return Deterministic(thought)


class Metronome(Steering):
    """Counts the rows of a piece: its actions give the place of the next row in its bar, and no
    row changes them. A first row is the first of a bar.
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

    def codes_at(self, row: Tensor) -> Tensor:
        return self.actions.encode(self.at(row))


class Script(Steering):
    """Goes through given actions, whatever rows come; after the last, it stays with that."""

    def __init__(self, codes: Tensor):
        """codes: of the actions that lead to each row, the first of them a placeholder, [T, A]."""
        self.codes = codes
        self.thought_size = codes.shape[-1]

    @classmethod
    def of(cls, actions: Any, space: spaces.Space) -> "Script":
        """A script of actions of a space, [T, ...]."""
        return cls(action_codec(space).encode(torch.as_tensor(actions)))

    def codes_at(self, row: Tensor) -> Tensor:
        return self.codes[row.clamp(max=len(self.codes) - 1)]


class Greedy(AgentWrapper):
    """The same agent, acting by the mode of its policy."""

    def policy(self, thought: Tensor) -> Distribution:
        return Mode(self.agent.policy(thought))
