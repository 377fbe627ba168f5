"""Yardsticks: exact answers for environments where they are known, by the environments' ids."""

from collections.abc import Callable
from typing import Protocol

import gymnasium
import torch
from gymnasium.wrappers import OrderEnforcing, PassiveEnvChecker, TimeLimit
from torch import Tensor

from worldmodel import Registry, Sequences, action_codec
from worldmodel.envs import ToyGame, ToyGameFilter, random_policy_steps, solve_toy_game


class Yardstick(Protocol):
    """Exact answers about an environment."""

    def log_probs(self, sequences: Sequences) -> dict[str, Tensor]:
        """The exact log likelihood by key, [T, B] nats."""

    def returns(self) -> dict[str, float]:
        """Expected returns by name: "optimal", "random"; those that are known."""


class ToyGameYardstick:
    """The exact Bayes filter of the toy game, and its optimal policy."""

    def __init__(self, game: ToyGame):
        self.game = game
        self.actions = action_codec(game.action_space)

    def log_probs(self, sequences: Sequences) -> dict[str, Tensor]:
        rows = sequences.rows
        action = self.actions.decode(rows.action)
        arrays = (rows.first, action, rows.observation, rows.reward, rows.terminated)
        exact = ToyGameFilter(self.game.width, self.game.classes, self.game.task)
        log_probs = exact.log_prob(*(leaf.numpy() for leaf in arrays))
        return {key: torch.as_tensor(value) for key, value in log_probs.items()}

    def returns(self) -> dict[str, float]:
        game = self.game.width, self.game.classes, self.game.task
        limit = self.game.time_limit
        if limit is None:
            return {}  # it never ends
        return {
            "optimal": -float(solve_toy_game(*game).expected_steps),
            "random": -random_policy_steps(*game, limit),
        }


def _of_toy_game(env: gymnasium.Env) -> Yardstick:
    game = env.unwrapped
    assert isinstance(game, ToyGame)
    return ToyGameYardstick(game)


YARDSTICKS: Registry[Callable[[gymnasium.Env], Yardstick | None]] = Registry(
    "yardstick", {"worldmodel/ToyGame-v0": _of_toy_game}
)
"""Functions that make a yardstick, by the id of an environment; None: it has no exact answers."""


def register_yardstick(id: str, make: Callable[[gymnasium.Env], Yardstick | None]) -> None:
    """Adds exact answers of an environment: from now on `evaluate` prints them beside what was
    learned."""
    YARDSTICKS.register(id, make)


def yardstick_for(env: gymnasium.Env) -> Yardstick | None:
    """The exact answers of an environment as it is registered; None where none are known."""
    id = "" if env.spec is None else env.spec.id
    return YARDSTICKS[id](env) if id in YARDSTICKS and _is_plain(env, id) else None


def _is_plain(env: gymnasium.Env, id: str) -> bool:
    """True if an environment has no wrappers but those that it is registered with."""
    while isinstance(env, gymnasium.Wrapper):
        if isinstance(env, TimeLimit):
            is_its_own = env._max_episode_steps == gymnasium.spec(id).max_episode_steps
        else:
            is_its_own = isinstance(env, OrderEnforcing | PassiveEnvChecker)
        if not is_its_own:
            return False
        env = env.env
    return True
