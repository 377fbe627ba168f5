"""Laws of environments: recurrences from actions to rows that restart themselves."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor

from worldmodel import nested
from worldmodel.codecs import action_codec
from worldmodel.environment import Environment
from worldmodel.sequences import Row
from worldmodel.testing.law import Laws, alike, close, demand, finite, same

ROWS = 40  # rows of a run


@dataclass(frozen=True, eq=False)
class EnvironmentCase:
    """An environment to be checked."""

    make: Callable[[], Environment]
    """Makes an environment that begins as each other one does."""
    batch_size: int = 4
    """Games side by side."""
    dtype: torch.dtype = torch.float32
    """Type of the codes of actions."""
    name: str = ""

    def __str__(self) -> str:
        return self.name or type(self.make()).__name__

    def actions(self, environment: Environment, seed: int = 0) -> Callable[[], Tensor]:
        """Draws codes of actions [B, A] at random, the same for the same seed."""
        codec = action_codec(environment.action_space)
        generator = torch.Generator().manual_seed(seed)

        def draw() -> Tensor:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(int(torch.randint(2**31, (), generator=generator)))
                return codec.uniform((self.batch_size,)).sample().to(self.dtype)

        return draw

    @torch.no_grad()
    def lived(self, environment: Environment, rows: int = ROWS, seed: int = 0) -> Row:
        """Rows [T, B, ...] under random actions."""
        draw, state = self.actions(environment, seed), environment.initial_state(self.batch_size)
        lived = []
        torch.manual_seed(seed)
        for _ in range(rows):
            row, state = environment.step(draw(), state)
            lived.append(row)
        return nested.stack(lived)


ENVIRONMENT_LAWS = Laws()
"""Laws of environments."""


@ENVIRONMENT_LAWS.add()
def an_environment_gives_back_the_structure_of_its_state(case: EnvironmentCase) -> None:
    """Rows of B games have observations of the space's structure, and numbers that are finite."""
    environment = case.make()
    draw, state = case.actions(environment), environment.initial_state(case.batch_size)
    first_row, after = environment.step(draw(), state)
    second_row, last = environment.step(draw(), after)
    alike(last, after, "the state after two steps")
    alike(second_row, first_row, "the second row")
    for key, part in first_row._asdict().items():
        for leaf in nested.leaves(part):
            demand(
                len(leaf) == case.batch_size,
                f"{key} of {len(leaf)} games, expected {case.batch_size}",
            )
    for key in ("first", "terminated"):
        kind = getattr(second_row, key).dtype
        demand(kind == torch.bool, f"`{key}` is {kind}, expected truth values")
    finite(second_row.reward, "rewards")


@ENVIRONMENT_LAWS.add()
def observations_lie_in_their_space(case: EnvironmentCase) -> None:
    """Each observation is a value of `observation_space` (floats may leave the bounds of
    their Box, as in many environments they do)."""
    environment = case.make()
    observation = case.lived(environment, 10).observation
    for t in range(10):
        for game in range(case.batch_size):
            _lies_in(environment.observation_space, nested.index(observation, (t, game)), "")


def _lies_in(space: spaces.Space, value: Any, path: str) -> None:
    if isinstance(space, spaces.Dict | spaces.Tuple):
        parts = space.items() if isinstance(space, spaces.Dict) else enumerate(space)
        for key, part in parts:
            _lies_in(part, value[key], f"{path}.{key}" if path else str(key))
        return
    where = f" at {path!r}" if path else ""
    array = np.asarray(value)
    if isinstance(space, spaces.Box) and np.issubdtype(space.dtype, np.floating):
        alike_shapes = array.shape == space.shape and np.isfinite(array).all()
        demand(alike_shapes, f"an observation{where} of shape {array.shape} in {space}: {array}")
        return
    inside = space.contains(array.astype(space.dtype)[()])
    demand(inside, f"an observation{where} that is not in {space}: {array}")


@ENVIRONMENT_LAWS.add()
def a_game_begins_with_a_first_row(case: EnvironmentCase) -> None:
    """The first `step` after `initial_state` resets every game, for any action."""
    rows = case.lived(case.make(), 2)
    demand(rows.first[0].all(), f"first rows are {rows.first[0].tolist()} in the beginning")


@ENVIRONMENT_LAWS.add()
def after_an_end_comes_a_first_row(case: EnvironmentCase) -> None:
    """An environment restarts itself, each game by itself, and a first row is no end."""
    rows = case.lived(case.make())
    missed = rows.terminated[:-1] & ~rows.first[1:]
    demand(not missed.any(), f"{int(missed.sum())} ends that no first row follows")
    both = rows.terminated & rows.first
    demand(not both.any(), f"{int(both.sum())} first rows that are ends")


@ENVIRONMENT_LAWS.add()
def on_a_first_row_action_and_reward_are_void(case: EnvironmentCase) -> None:
    """On a first row the code of the action, and the reward, are zero. Every other row holds
    the action that it was given."""
    environment = case.make()
    draw, state = case.actions(environment), environment.initial_state(case.batch_size)
    for t in range(ROWS):
        action = draw()
        row, state = environment.step(action, state)
        wrong = row.first & (row.action.any(-1) | (row.reward != 0))
        demand(not wrong.any(), f"row {t} is a first row with an action or a reward")
        given = action.masked_fill(row.first[:, None], 0.0).to(row.action)
        demand(torch.equal(row.action, given), f"row {t} holds another action than was given")


@ENVIRONMENT_LAWS.add()
def living_twice_is_living_once(case: EnvironmentCase) -> None:
    """Environments that are made alike, under the same actions and noise, give the same rows; and
    keep no state of another one's games."""
    one = case.lived(case.make())
    environment = case.make()
    same(case.lived(environment), one, "two lives under the same actions")
    case.lived(environment, 5, seed=3)
    same(case.lived(case.make()), one, "a third life, after others")


@ENVIRONMENT_LAWS.add()
def a_game_can_be_cut_anywhere(case: EnvironmentCase) -> None:
    """The state is all that `step` needs besides the action: another game, begun in between in an
    environment of its own, changes nothing."""
    expected = case.lived(case.make(), 10)
    environment, other = case.make(), case.make()
    draw, state = case.actions(environment), environment.initial_state(case.batch_size)
    torch.manual_seed(0)
    rows = []
    for t in range(10):
        if t == 5:
            with torch.random.fork_rng(devices=[]):
                case.lived(other, 3, seed=9)
        with torch.no_grad():
            row, state = environment.step(draw(), state)
        rows.append(row)
    same(nested.stack(rows), expected, "a life that another one interrupted")


@ENVIRONMENT_LAWS.add()
def games_are_strangers(case: EnvironmentCase) -> None:
    """Actions in one game change no other, as long as none draws more noise for it: the
    rows of the others are the same until then."""
    environment, other = case.make(), case.make()
    draw = case.actions(environment)
    states = [one.initial_state(case.batch_size) for one in (environment, other)]
    choices = action_codec(environment.action_space)
    action, second = draw(), draw()
    changed = second.clone()
    changed[0] = choices.encode(choices.decode(-second[0])) if len(second[0]) else second[0]
    found = []
    for one, state, last in zip((environment, other), states, (second, changed), strict=True):
        torch.manual_seed(0)
        with torch.no_grad():
            _, state = one.step(action, state)
            found.append(one.step(last, state)[0])
    for before, after in zip(*map(nested.leaves, found), strict=True):
        what = "the rows of other games, after another action in the first"
        close(after[1:], before[1:], what, 1e-5)


def is_rewound(case: EnvironmentCase) -> bool:
    """True if it can be stepped twice from one state, as a dream can."""
    environment = case.make()
    draw, state = case.actions(environment), environment.initial_state(case.batch_size)
    with torch.random.fork_rng(devices=[]):
        try:
            for _ in range(2):
                environment.step(draw(), state)
        except ValueError:
            return False
    return True


@ENVIRONMENT_LAWS.add(concerns=is_rewound)
def a_fork_leaves_no_trace(case: EnvironmentCase) -> None:
    """A second step from one state gives the same row, under the same noise; an environment that
    cannot be rewound refuses an old state by a ValueError."""
    environment = case.make()
    draw, state = case.actions(environment), environment.initial_state(case.batch_size)
    with torch.no_grad():
        for _ in range(3):
            _, state = environment.step(draw(), state)
        action, found = draw(), []
        for fork in range(2):
            torch.manual_seed(0)
            found.append(environment.step(action, state))
            if fork == 0:
                environment.step(draw(), found[0][1])  # and goes on from there
    same(found[1], found[0], "two steps from one state")
