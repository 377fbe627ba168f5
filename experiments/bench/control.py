"""Stable-baselines3 in real environments: the returns of model-free algorithms by real steps.

    worldmodel bench control --env CartPole-v1 --algorithm PPO --out RUN

Evaluated as `worldmodel train control` evaluates: greedily, on the same seeds, in the same lines
of metrics.jsonl, so that curves of both can be drawn into one picture. docs/results.md lists
expected results.
"""

import time
from collections.abc import Callable
from typing import Any, NamedTuple, cast

import gymnasium
import numpy as np
import torch
from gymnasium import spaces
from gymnasium.wrappers import FlattenObservation
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.logger import Logger
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv, VecNormalize
from torch import Tensor

from worldmodel import Agent, Encoder, Greedy, Memoryless, nested
from worldmodel.agents import sb3
from worldmodel.agents.world import World, evaluation_seeds
from worldmodel.experiments.bench.settings import ControlSettings
from worldmodel.experiments.rl.baseline_config import BaselineConfig
from worldmodel.experiments.rl.run import said, source_of
from worldmodel.experiments.runs.registry import config_of, new_run
from worldmodel.progress import Reporter
from worldmodel.run_folder import RunError, RunFolder


class Recipe(NamedTuple):
    """Hyperparameters; rates and clipping fall linearly to zero over `steps` if `falling`."""

    steps: int
    copies: int
    options: dict[str, Any]
    falling: bool = False
    normalise: bool = False  # observations and returns, by running means


MOST = 1_000  # numbers of an observation: images want networks of their own
SHORT = {"n_steps": 32, "batch_size": 256, "gae_lambda": 0.8, "gamma": 0.98, "n_epochs": 20}
SHORT |= {"ent_coef": 0.0, "learning_rate": 1e-3, "clip_range": 0.2}
LONG = {"n_steps": 256, "gae_lambda": 0.94, "gamma": 0.99, "n_epochs": 4, "ent_coef": 0.0}

ZOO = {
    ("PPO", "CartPole-v1"): Recipe(100_000, 8, SHORT, falling=True),
    ("RecurrentPPO", "CartPole-v1"): Recipe(100_000, 8, SHORT, falling=True),
    ("PPO", "Acrobot-v1"): Recipe(1_000_000, 16, LONG, normalise=True),
    ("RecurrentPPO", "Acrobot-v1"): Recipe(1_000_000, 16, LONG, normalise=True),
    ("SAC", "Pendulum-v1"): Recipe(20_000, 1, {"learning_rate": 1e-3}),
    ("PPO", "Pendulum-v1"): Recipe(
        100_000,
        4,
        {
            "n_steps": 1024,
            "gae_lambda": 0.95,
            "gamma": 0.9,
            "n_epochs": 10,
            "ent_coef": 0.0,
            "learning_rate": 1e-3,
            "clip_range": 0.2,
            "use_sde": True,
            "sde_sample_freq": 4,
        },
    ),
}
"""Recipes by algorithm and environment, from https://github.com/DLR-RM/rl-baselines3-zoo,
hyperparams/ppo.yml, ppo_lstm.yml and sac.yml (RecurrentPPO's CartPole is CartPoleNoVel-v1
there)."""


class Seen(Encoder):
    """Encodes observations [B, ...] as the algorithm reads them: as one row of numbers,
    normalised if it was trained so."""

    def __init__(self, games: VecEnv, shown: spaces.Space):
        """shown: the space of the real environment's observations."""
        super().__init__()
        self.games = games
        self.shown = shown
        self.size = spaces.flatdim(shown)

    def forward(self, x: Any) -> Tensor:
        number = len(nested.leaves(x)[0])
        rows = np.stack([self._row(nested.index(x, place)) for place in range(number)])  # [B, F]
        if isinstance(self.games, VecNormalize):
            rows = cast(np.ndarray, self.games.normalize_obs(rows))
        return torch.as_tensor(rows, dtype=torch.float32)

    def _row(self, one: Any) -> np.ndarray:
        return cast(
            np.ndarray, spaces.flatten(self.shown, nested.map(lambda leaf: leaf.numpy(), one))
        )


class Evaluations(BaseCallback):
    """Evaluates every `every` steps; stops training after `steps`."""

    def __init__(self, evaluate: Callable[[int], None], every: int, steps: int):
        super().__init__()
        self.evaluate = evaluate
        self.every = every
        self.steps = steps
        self.following = every

    def _on_step(self) -> bool:
        if self.num_timesteps >= self.following:
            self.evaluate(self.num_timesteps)
            self.following = self.every * (1 + self.num_timesteps // self.every)
        return self.num_timesteps < self.steps


def baseline(folder: RunFolder, reporter: Reporter) -> None:
    """Trains the baseline; writes evaluations to the folder's metrics.jsonl."""
    config: BaselineConfig = config_of(folder)
    torch.set_num_threads(config.threads)
    recipe = recipe_of(config)
    algorithm, games = learner(config, recipe)
    real = source_of(config.environment).one()
    real.close()
    agent = agent_of(algorithm, games, real.observation_space)
    begun, number = time.monotonic(), 0
    with reporter.stage("learning", config.steps, 0, "steps") as progress:

        def evaluate(steps: int) -> None:
            nonlocal number
            returns = real_returns(config, agent)
            folder.log(
                {
                    "stage": "evaluate",
                    "round": number,
                    "unit": 1,
                    "real_steps": steps,
                    "real_return_mean": float(returns.mean()),
                    "real_returns": returns.tolist(),
                    "seconds": round(time.monotonic() - begun, 3),
                }
            )
            number += 1
            progress.update(min(steps, config.steps), f"return {returns.mean():.1f}")

        algorithm.learn(recipe.steps, Evaluations(evaluate, config.every, config.steps))
    games.close()


def env_of(config: BaselineConfig) -> str:
    """The environment's id, which a baseline always has."""
    return cast(str, config.environment.env)


def check(config: BaselineConfig) -> None:
    """Raises RunError if the algorithm cannot learn from the environment, before anything is
    made."""
    source = source_of(config.environment)
    one = said(source.one)
    shown, actions = one.observation_space, one.action_space
    one.close()
    said(lambda: sb3.check(config.algorithm, actions, recipe_of(config).options))
    try:
        size = spaces.flatdim(shown)
    except (NotImplementedError, ValueError):
        size = 0
    if not 0 < size <= MOST:
        raise RunError(
            f"baselines learn from 1 to {MOST:,} numbers in a row, but {env_of(config)} shows "
            f"{shown}: `worldmodel bench dream` compares what learns from images"
        )


def recipe_of(config: BaselineConfig) -> Recipe:
    """The recipe of an algorithm for an environment, by default the algorithm's own."""
    return ZOO.get((config.algorithm, env_of(config)), Recipe(config.steps, 1, {}))


def learner(config: BaselineConfig, recipe: Recipe) -> tuple[BaseAlgorithm, VecEnv]:
    """A new algorithm and the real environments that it learns from."""
    source = source_of(config.environment)

    def make() -> gymnasium.Env:
        return FlattenObservation(source.one())

    check(config)
    settings = dict(recipe.options)
    if recipe.falling:
        for name in ("learning_rate", "clip_range"):
            settings[name] = _falling(settings[name])
    games: VecEnv = DummyVecEnv([make] * recipe.copies)
    constructor = sb3.constructor_of(config.algorithm)
    if recipe.normalise:
        games = VecNormalize(games, gamma=settings["gamma"])
    policy = sb3.ALGORITHMS[config.algorithm].policy
    algorithm = constructor(policy, games, seed=config.seed, device="cpu", **settings)
    algorithm.set_logger(Logger(None, []))
    return algorithm, games


def agent_of(algorithm: BaseAlgorithm, games: VecEnv, shown: spaces.Space) -> Agent:
    """A greedy agent of the algorithm's current policy, with the algorithm's own encoding.

    shown: the space of the real environment's observations."""
    head = sb3.Head(algorithm)
    sees = Memoryless(Seen(games, shown), head)
    return Greedy(sb3.Remembering(sees, head) if sb3.is_remembering(head) else sees)


def real_returns(config: BaselineConfig, agent: Agent) -> np.ndarray:
    """Returns of evaluation episodes, [episodes], played as those of `train control` are; the same
    seeds each time."""
    source = source_of(config.environment)
    one = source.one()
    world = World(one.observation_space, one.action_space, source)
    one.close()
    return world.watch(agent, config.episodes, evaluation_seeds(config.seed)[0]).returns


def _falling(value: float) -> Callable[[float], float]:
    """A schedule of stable-baselines3: linear in the remaining share of the steps."""
    return lambda remaining: remaining * value


def run(settings: ControlSettings, reporter: Reporter) -> None:
    """Makes a new run of a baseline and trains it to its end."""
    check(settings.config)
    folder = new_run(settings.out, settings.config)
    baseline(folder, reporter)
    reporter.say(f"written: {folder.metrics_file}")
