"""A world whose rows a world model filters."""

from typing import Any, NamedTuple

from torch import Tensor

from worldmodel import Agent, Dream, DreamState, Environment, ModelState, Row


class WatchedState(NamedTuple):
    """The state of a world, and the model's belief of it."""

    world: Any  # state of the wrapped world
    belief: DreamState  # leaves [B, ...]; from which a dream of this world can continue


class Watched(Environment):
    """Wraps a world so that its state includes a model's belief given its rows.

    An agent that reads the same model shares the belief instead of computing it again; it is the
    filter's, also if the world is a dream.
    """

    def __init__(self, world: Environment, dream: Dream):
        """dream: of the filtering model."""
        self.world = world
        self.dream = dream
        self.observation_space = world.observation_space
        self.action_space = world.action_space

    def initial_state(self, batch_size: int) -> WatchedState:
        world = self.world.initial_state(batch_size)
        return WatchedState(world, self.dream.initial_state(batch_size))

    def step(self, action: Tensor, state: WatchedState) -> tuple[Row, WatchedState]:
        row, world = self.world.step(action, state.world)
        return row, WatchedState(world, self.dream.observe(row, state.belief))

    def observe(self, row: Row, state: WatchedState) -> WatchedState:
        world = self.world.observe(row, state.world)
        return WatchedState(world, self.dream.observe(row, state.belief))

    def shared(self, state: WatchedState, agent: Agent) -> ModelState | None:
        return state.belief.model if agent.reads_of(self.dream.model) else None
