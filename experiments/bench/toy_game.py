"""Stable-baselines3 on the real toy game: the success of model-free algorithms by real steps.

    worldmodel bench toy-game --algorithm recurrent-ppo --steps 60000

PPO is memoryless and observes one number; RecurrentPPO has an LSTM, which can also observe the
last action (`last_action`), as the world model does. docs/results.md lists expected results.
"""

import time
from typing import Any

import gymnasium
import numpy as np
import torch
from gymnasium import spaces
from rich.table import Table
from torch import Tensor
from torch.distributions import Distribution

from worldmodel import Agent, ModelState, Row, action_codec, play_episodes
from worldmodel.agents.world import evaluation_seeds
from worldmodel.distributions import Deterministic
from worldmodel.envs import GymEnvironment, ToyGame
from worldmodel.experiments.bench.settings import ToyGameSettings
from worldmodel.experiments.bench.table import table
from worldmodel.experiments.measure.scores import returns_of
from worldmodel.progress import Reporter
from worldmodel.run_folder import RunError

COPIES = 16  # parallel games
GAMES = 2_000  # fresh ones, in the final evaluation
ROLLOUT = 125  # steps of each between updates: 2,000 together, so round numbers come out even


class LastAction(gymnasium.ObservationWrapper):
    """The observation of a Discrete space as one-hot, and the last action's one-hot beside it.

    After a reset there was no action, and its part is zero.
    """

    def __init__(self, env: gymnasium.Env):
        super().__init__(env)
        self.sizes = _size(env.observation_space), _size(env.action_space)
        self.observation_space = spaces.Box(0.0, 1.0, (sum(self.sizes),), np.float32)
        self.action: int | None = None

    def reset(self, **kwargs: Any) -> tuple[Any, dict[str, Any]]:
        self.action = None
        return super().reset(**kwargs)

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        self.action = int(action)
        return super().step(action)

    def observation(self, observation: Any) -> np.ndarray:
        code = np.zeros(sum(self.sizes), np.float32)
        code[int(observation)] = 1.0
        if self.action is not None:
            code[self.sizes[0] + self.action] = 1.0
        return code


class GreedyBaseline(Agent):
    """A trained algorithm of stable-baselines3, acting by its mode; a thought is the action."""

    def __init__(self, algorithm: Any, game: ToyGame, last_action: bool):
        """algorithm: an object with stable-baselines3's `predict`."""
        self.algorithm = algorithm
        self.actions = action_codec(game.action_space)
        self.values = _size(game.observation_space)
        self.last_action = last_action
        self.thought_size = self.actions.size

    def initial_state(self, batch_size: int) -> Any:
        """The recurrent state; None initially, as in stable-baselines3."""
        return None

    def step(self, row: Row, state: Any, shared: ModelState | None = None) -> tuple[Tensor, Any]:
        action, state = self.algorithm.predict(
            self._observation(row), state, row.first.numpy(), deterministic=True
        )
        return self.actions.encode(torch.as_tensor(action)), state

    def policy(self, thought: Tensor) -> Distribution:
        return Deterministic(thought)

    def _observation(self, row: Row) -> np.ndarray:
        """Observations as `LastAction` encodes them, or unchanged."""
        if not self.last_action:
            return row.observation.numpy()
        seen = torch.eye(self.values)[row.observation]
        return torch.cat([seen, row.action], -1).numpy()


def run(settings: ToyGameSettings, reporter: Reporter, games: int = GAMES) -> dict[str, Any]:
    """Trains an algorithm on the real game; plays `games` fresh ones greedily.

    Counts as `worldmodel evaluate` does: an episode that is not solved within the time limit
    counts as that limit. Seeds torch, numpy and random, as stable-baselines3 does. RecurrentPPO
    needs the package sb3-contrib.
    """
    steps, seed = settings.steps, settings.seed
    if steps < 2 * COPIES:
        raise RunError(f"--steps must be {2 * COPIES} or more, got {steps}")
    from stable_baselines3.common.logger import Logger

    begun = time.monotonic()
    config: dict[str, Any] = {
        "width": settings.width,
        "classes": settings.classes,
        "task": settings.task,
    }
    game = ToyGame(**config)
    assert isinstance(game.time_limit, int)
    model = _algorithm(settings, game)
    with reporter.stage(f"training {settings.algorithm}", steps, 0, "steps") as stage:

        def tell(local: dict[str, Any], _: dict[str, Any]) -> bool:
            stage.update(min(local["self"].num_timesteps, steps))
            return True

        model.set_logger(Logger(None, []))  # its default leaves a folder behind
        model.learn(steps, callback=tell)
    seconds = time.monotonic() - begun
    world = GymEnvironment(
        gymnasium.make_vec("worldmodel/ToyGame-v0", games, **config), evaluation_seeds(seed)[1]
    )
    reporter.note("playing real games", 0, games)
    agent = GreedyBaseline(model, game, settings.last_action)
    played = play_episodes(world, agent, games, limit=game.time_limit)
    returns = returns_of(played.returns, seed)
    return {
        "algorithm": settings.algorithm,
        "last_action": settings.last_action,
        "real_steps": int(model.num_timesteps),
        **{f"real_return_{key}": value for key, value in returns.items()},
        "terminated": float(played.terminated.mean()),
        "seconds": seconds,
        "seed": seed,
        "games": games,
        **config,
    }


def tables(result: dict[str, Any]) -> list[Table]:
    """The table of `bench toy-game`."""
    return [table("", ("", ""), ((key, str(value)) for key, value in result.items()))]


def _algorithm(settings: ToyGameSettings, game: ToyGame) -> Any:
    """A new PPO or RecurrentPPO on `COPIES` copies of the game."""
    from stable_baselines3.common.vec_env import DummyVecEnv

    def make() -> gymnasium.Env:
        copy = ToyGame(game.width, game.classes, game.task)
        return LastAction(copy) if settings.last_action else copy

    rollout = min(ROLLOUT, settings.steps // COPIES)
    options: dict[str, Any] = {
        "env": DummyVecEnv([make] * COPIES),
        "seed": settings.seed,
        "device": "cpu",
        "n_steps": rollout,
        "batch_size": rollout * COPIES // 8,
        "ent_coef": 0.01,  # without it PPO keeps the first way of walking in circles
    }
    if settings.algorithm == "ppo":
        from stable_baselines3 import PPO

        return PPO("MlpPolicy", learning_rate=3e-4, **options)
    try:
        from sb3_contrib import RecurrentPPO
    except ImportError as error:
        raise RunError(
            f"{error}; install it with: pip install 'worldmodel-gym[contrib]'"
        ) from error

    policy = {"lstm_hidden_size": 128, "n_lstm_layers": 1}
    return RecurrentPPO("MlpLstmPolicy", learning_rate=1e-3, policy_kwargs=policy, **options)


def _size(space: spaces.Space) -> int:
    """Number of values of a Discrete space."""
    assert isinstance(space, spaces.Discrete)
    return int(space.n)
