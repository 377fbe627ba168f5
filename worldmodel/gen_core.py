"""The rollout loop: a world and an agent, facing each other, take turns.

Living, dreaming, training in the dream, playing and filming are all this one loop; only the
world, or the one at the controls, differs.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

from torch import Tensor

from worldmodel import nested
from worldmodel.agent import Agent
from worldmodel.codecs import action_codec
from worldmodel.compiling import compiled
from worldmodel.distributions import draw
from worldmodel.environment import Environment
from worldmodel.sequences import Row, Sequences

Engine = Callable[[Any, Callable[[str], None]], Any]
"""A way to compute a function: (function, say) -> the same function."""


class GenState(NamedTuple):
    """The states of world and agent between rows. To try another action, replace `action`."""

    world: Any
    mind: Any
    thought: Tensor  # [B, F], zero before the first row
    action: Tensor  # [B, A], the code of the action that comes next, zero before the first row


class GenCore:
    """Lets an environment and an agent take turns.

    The action of row t was drawn from `policy(thoughts[t - 1])`, that of row 0 from
    `policy(state.thought)`.
    """

    def __init__(self, environment: Environment, agent: Agent):
        self.environment = environment
        self.agent = agent
        self.actions = action_codec(environment.action_space)

    def initial_state(self, batch_size: int) -> GenState:
        """The state before the first rows of B games."""
        world = self.environment.initial_state(batch_size)
        mind = self.agent.initial_state(batch_size)
        return self.start(world, mind, batch_size)

    def start(self, world: Any, mind: Any, batch_size: int) -> GenState:
        """Goes on from given states of world and mind, before their next row."""
        tensors = [x for x in nested.leaves((world, mind)) if isinstance(x, Tensor)]
        floats = [x for x in tensors if x.is_floating_point()]
        like = floats[0] if floats else self.actions.choices
        return GenState(
            world,
            mind,
            like.new_zeros(batch_size, self.agent.thought_size),
            like.new_zeros(batch_size, self.actions.size),
        )

    def start_acting(self, world: Any, mind: Any, thought: Tensor) -> GenState:
        """Goes on from given states of world and mind after a row, and the thought [B, F] that it
        caused: draws the action that comes next."""
        policy: Any = self.agent.policy(thought)
        allowed = self.environment.allowed(world)
        if allowed is not None:
            policy = policy.restricted(allowed.to(thought.device))
        return GenState(world, mind, thought, draw(policy))

    def step(self, state: GenState) -> tuple[tuple[Row, Tensor], GenState]:
        """Takes one step of B games: the row, the thought that it caused, and its action.

        Where gradients are recorded, draws have them as far as their distributions do.
        """
        row, world = self.environment.step(state.action, state.world)
        shared = self.environment.shared(world, self.agent)
        thought, mind = self.agent.step(row, state.mind, shared)
        return (row, thought), self.start_acting(world, mind, thought)

    def compile(
        self,
        say: Callable[[str], None] = lambda text: None,
        engine: Engine = compiled,
    ) -> None:
        """Has `step` computed by an engine: compiled when it is first called (`compiled`), or as a
        graph (`GraphFunction`); say: called with a sentence where that fails."""
        setattr(self, "step", engine(self.step, say))  # noqa: B010 (mypy)

    def generate(self, length: int, state: GenState) -> tuple[Sequences, Tensor, GenState]:
        """`length` rows [T, B, ...], the thoughts [T, B, F] that they caused, and the state."""

        def step(_: int, state: GenState) -> tuple[tuple[Row, Tensor], GenState]:
            return self.step(state)

        (rows, thoughts), state = nested.unroll(step, range(length), state)
        return Sequences.whole(rows), thoughts, state

    def observe(self, row: Row, state: GenState) -> GenState:
        """The state after world and mind have observed a row [B, ...] that happened elsewhere."""
        world = self.environment.observe(row, state.world)
        thought, mind = self.agent.step(row, state.mind)
        action = self.agent.policy(thought).sample()
        return GenState(world, mind, thought, action)
