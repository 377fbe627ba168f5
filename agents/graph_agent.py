"""Agents whose steps an engine computes."""

from collections.abc import Callable
from typing import Any, cast

from torch import Tensor

from worldmodel import Agent, AgentWrapper, ModelState, Row
from worldmodel.gen_core import Engine


class GraphAgent(AgentWrapper):
    """The same agent, which takes in rows by an engine: what it thinks of one row takes torch a
    millisecond, most of which is Python."""

    def __init__(self, agent: Agent, say: Callable[[str], None], engine: Engine):
        """say: called with a sentence where torch has to do it."""
        super().__init__(agent)
        self._taken_in = engine(agent.step, say)

    def step(self, row: Row, state: Any, shared: ModelState | None = None) -> tuple[Tensor, Any]:
        if shared is not None:
            return super().step(row, state, shared)
        return cast("tuple[Tensor, Any]", self._taken_in(row, state))
