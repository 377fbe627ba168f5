"""A world that a world model watches, row by row."""

from typing import Any, NamedTuple

from torch import Tensor

from worldmodel import Agent, Dream, DreamState, Environment, ModelState, Row


class WatchedState(NamedTuple):
    """Where a world stands, and where the model believes that it stands."""

    world: Any  # a state of the world that is watched
    belief: DreamState  # leaves [B, ...]; what a dream of this very world would go on from


class Watched(Environment):
    """A world whose state tells what a model has come to believe of its rows.

    An agent that reads the same model shares the belief, which it would come to by itself: it is
    the filter's, also where the world is a dream.
    """

    def __init__(self, world: Environment, dream: Dream):
        """dream: of the model that watches."""
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
