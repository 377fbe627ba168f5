"""Laws of agents: recurrences from rows to thoughts, and policies that read thoughts alone."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor

from worldmodel import nested
from worldmodel.agent import Agent
from worldmodel.codecs import action_codec
from worldmodel.sequences import Row
from worldmodel.testing.law import Laws, alike, demand, finite, same
from worldmodel.testing.material import random_rows

TIME, BATCH = 6, 3


@dataclass(frozen=True, eq=False)
class AgentCase:
    """An agent to be checked, and the spaces of the world that it lives in."""

    agent: Agent
    observation_space: spaces.Space
    action_space: spaces.Space
    dtype: torch.dtype = torch.float32
    """Type of actions and rewards."""
    name: str = ""

    def __str__(self) -> str:
        return self.name or type(self.agent).__name__

    def rows(self, seed: int = 0) -> Row:
        """Rows [T, B, ...], drawn from the spaces; the second game begins anew at row 3."""
        count = TIME * BATCH
        rows = random_rows(TIME, BATCH, spaces.Discrete(2), 2, None, seed)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            action = action_codec(self.action_space).uniform((TIME, BATCH)).sample()
        first = rows.first.clone()
        first[3, 1] = True
        drawn = _values(self.observation_space, np.random.default_rng(seed), count)
        return Row(
            first,
            action.masked_fill(first[..., None], 0.0).to(self.dtype),
            nested.map(lambda x: self._tensor(x).unflatten(0, (TIME, BATCH)), drawn),
            rows.reward.masked_fill(first, 0.0).to(self.dtype),
            rows.terminated & ~first,
        )

    def _tensor(self, values: np.ndarray) -> Tensor:
        tensor = torch.as_tensor(values)
        return tensor.to(self.dtype) if tensor.is_floating_point() else tensor

    @torch.no_grad()
    def thoughts(self, rows: Row, state: Any = None, seed: int = 0) -> tuple[Tensor, Any]:
        """The thoughts [T, B, F] that rows cause, one after another, and the mind after them."""
        torch.manual_seed(seed)
        state = self.agent.initial_state(rows.first.shape[1]) if state is None else state
        return nested.unroll(self.agent.step, nested.steps(rows), state)


def _values(space: spaces.Space, random: np.random.Generator, count: int) -> Any:
    """Values of a space, leaves [N, ...]."""
    if isinstance(space, spaces.Dict):
        return {key: _values(part, random, count) for key, part in space.items()}
    if isinstance(space, spaces.Tuple):
        return tuple(_values(part, random, count) for part in space)
    space.seed(int(random.integers(2**31)))
    return np.stack([space.sample() for _ in range(count)])


AGENT_LAWS = Laws()
"""Laws of agents."""


@AGENT_LAWS.add()
def an_agent_gives_back_the_structure_of_its_mind(case: AgentCase) -> None:
    """The mind keeps its structure, and thoughts [B, thought_size] are finite."""
    state, rows = case.agent.initial_state(BATCH), case.rows()
    with torch.no_grad():
        thought, after = case.agent.step(nested.index(rows, 0), state)
        _, last = case.agent.step(nested.index(rows, 1), after)
    alike(after, state, "the mind after a row")
    alike(last, state, "the mind after two rows")
    expected = (BATCH, case.agent.thought_size)
    demand(thought.shape == expected, f"a thought of {tuple(thought.shape)}, expected {expected}")
    finite(thought, "a thought")


@AGENT_LAWS.add()
def what_it_thinks_follows_from_rows_and_mind_alone(case: AgentCase) -> None:
    """No state is kept on the agent: the same rows, from the same mind and under the same noise,
    cause the same thoughts, after any other thoughts in between."""
    rows = case.rows()
    thoughts, mind = case.thoughts(rows)
    case.thoughts(case.rows(seed=7))
    again, same_mind = case.thoughts(rows)
    same(again, thoughts, "thoughts about the same rows")
    same(same_mind, mind, "the mind after the same rows")
    begin, rest = nested.index(rows, slice(2)), nested.index(rows, slice(2, None))
    early, middle = case.thoughts(begin)
    noise = torch.get_rng_state()
    case.thoughts(case.rows(seed=8))
    torch.set_rng_state(noise)
    with torch.no_grad():
        late, end = nested.unroll(case.agent.step, nested.steps(rest), middle)
    same(torch.cat([early, late]), thoughts, "thoughts with a pause in between")
    same(end, mind, "the mind after a pause")


@AGENT_LAWS.add()
def a_mind_restarts_on_first_rows(case: AgentCase) -> None:
    """After a first row nothing of what was thought before is left."""
    used = case.thoughts(case.rows(seed=5))[1]
    rows = case.rows()
    same(case.thoughts(rows, used), case.thoughts(rows), "thoughts from a used and a fresh mind")


@AGENT_LAWS.add()
def thoughts_of_a_batch_are_strangers(case: AgentCase) -> None:
    """No game's rows change another game's thoughts."""
    rows, others = case.rows(), case.rows(seed=2)
    mine = torch.tensor([True, False, False])

    def mixed(own: Tensor, other: Tensor) -> Tensor:
        chosen = mine.reshape(1, BATCH, *[1] * (own.dim() - 2))
        return torch.where(chosen, own, other)

    found, expected = case.thoughts(nested.map(mixed, rows, others))[0], case.thoughts(rows)[0]
    off = float((found[:, 0] - expected[:, 0]).abs().max()) if found.numel() else 0.0
    size = float(expected.abs().max()) if found.numel() else 0.0
    demand(off <= 1e-5 * (1 + size), f"other games change a thought by {off:.3g}")


@AGENT_LAWS.add()
def thoughts_do_not_peek(case: AgentCase) -> None:
    """The thought about row t does not depend on later rows."""
    rows, others = case.rows(), case.rows(seed=2)
    for t in range(1, TIME):
        begun = nested.concatenate(
            [nested.index(rows, slice(t)), nested.index(others, slice(t, None))]
        )
        same(case.thoughts(begun)[0][:t], case.thoughts(rows)[0][:t], f"thoughts before row {t}")


@AGENT_LAWS.add()
def a_mind_expects_the_reward_of_a_row(case: AgentCase) -> None:
    """Whatever mind its own steps lead to, `expected_reward` [B] of the next row is finite."""
    rows = case.rows()
    state = case.agent.initial_state(BATCH)
    with torch.no_grad():
        for row in nested.steps(rows):
            expected = case.agent.expected_reward(row, state)
            demand(
                expected.shape == (BATCH,),
                f"expected rewards of {tuple(expected.shape)}, and there are {BATCH} games",
            )
            finite(expected, "an expected reward")
            _, state = case.agent.step(row, state)


@AGENT_LAWS.add([{"leading": ()}, {"leading": (5,)}, {"leading": (3, 5)}])
def a_policy_draws_actions_of_the_space(case: AgentCase, leading: tuple[int, ...]) -> None:
    """Given thoughts [*, F], zero as before the first row as well, it draws codes [*, A] that
    stand for actions of the space."""
    codec = action_codec(case.action_space)
    thoughts = case.thoughts(case.rows())[0].flatten(0, 1)
    number = int(np.prod(leading))
    chosen = thoughts[:number].reshape(*leading, case.agent.thought_size)
    for thought in (chosen, torch.zeros_like(chosen)):
        with torch.no_grad():
            policy = case.agent.policy(thought)
            action = policy.sample()
        expected = (*leading, codec.size)
        demand(action.shape == expected, f"actions of {tuple(action.shape)}, expected {expected}")
        for value in codec.decode(action).reshape(number, *case.action_space.shape or ()):
            array = np.asarray(value).astype(case.action_space.dtype)[()]
            demand(case.action_space.contains(array), f"{array} is not in {case.action_space}")


@AGENT_LAWS.add()
def a_policy_reads_the_thought_alone(case: AgentCase) -> None:
    """The same thought gives the same distribution, after any other thoughts in between, and each
    thought of a batch its own."""
    thoughts = case.thoughts(case.rows())[0][-1]
    draws = []
    with torch.no_grad():
        for way in range(3):
            if way == 1:
                case.thoughts(case.rows(seed=9))
            torch.manual_seed(3)
            draws.append(case.agent.policy(thoughts).sample((50,)))
    same(draws[1], draws[0], "draws after thinking of something else")
    same(draws[2], draws[0], "draws from the same thought")
