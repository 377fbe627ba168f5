"""Yardsticks: exact answers for environments where they are known, by the environments' ids."""

from collections.abc import Callable
from typing import Protocol

import gymnasium
import torch
from torch import Tensor

from worldmodel import Registry, Sequences, action_codec
from worldmodel.envs import ToyGame, ToyGameFilter, random_policy_steps, solve_toy_game


class Yardstick(Protocol):
    """What can be computed exactly of an environment."""

    def log_probs(self, sequences: Sequences) -> dict[str, Tensor]:
        """The exact log likelihood by key, [T, B] nats."""

    def returns(self) -> dict[str, float]:
        """Expected returns by name: "optimal", "random"."""


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
        assert limit is not None
        return {
            "optimal": -float(solve_toy_game(*game).expected_steps),
            "random": -random_policy_steps(*game, limit),
        }


def _of_toy_game(env: gymnasium.Env) -> Yardstick | None:
    game = env.unwrapped
    assert isinstance(game, ToyGame)
    return ToyGameYardstick(game) if game.time_limit is not None else None


YARDSTICKS: Registry[Callable[[gymnasium.Env], Yardstick | None]] = Registry(
    "yardstick", {"worldmodel/ToyGame-v0": _of_toy_game}
)
"""By the id of an environment; None where a particular one has no exact answers."""


def register_yardstick(id: str, make: Callable[[gymnasium.Env], Yardstick | None]) -> None:
    """Adds exact answers of an environment: from now on `evaluate` prints them beside what was
    learned."""
    YARDSTICKS.register(id, make)


def yardstick_for(env: gymnasium.Env) -> Yardstick | None:
    """The exact answers of an environment as it is registered; None where none are known."""
    is_plain = all(
        type(layer).__module__.startswith("gymnasium.wrappers") for layer in _wrappers(env)
    )
    id = "" if env.spec is None else env.spec.id
    return YARDSTICKS[id](env) if is_plain and id in YARDSTICKS else None


def _wrappers(env: gymnasium.Env) -> list[gymnasium.Env]:
    layers: list[gymnasium.Env] = []
    while isinstance(env, gymnasium.Wrapper):
        layers.append(env)
        env = env.env
    return layers
