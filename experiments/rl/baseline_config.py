"""The options of a baseline: an algorithm of stable-baselines3 in the real environment."""

from dataclasses import dataclass, field
from typing import Annotated

from worldmodel.experiments.rl.config import EnvironmentConfig
from worldmodel.names import AlgorithmName
from worldmodel.options import ADVANCED, check_threads, not_negative, positive, wished_threads


@dataclass(frozen=True)
class BaselineConfig:
    """An algorithm of stable-baselines3 that learns from the real environment, without a model.

    With the hyperparameters of rl-baselines3-zoo where it has some for the environment, else with
    the algorithm's own defaults. The run folder holds config.json and metrics.jsonl, whose lines
    of evaluations are those of `worldmodel train control`.
    """

    environment: Annotated[EnvironmentConfig, ADVANCED]
    algorithm: AlgorithmName = "PPO"
    """PPO, A2C, DQN, SAC or RecurrentPPO (of sb3-contrib)."""
    steps: int = 20_000
    """Steps of the real environment."""
    every: int = 500
    """Steps between evaluations."""
    episodes: int = 20
    """Episodes of an evaluation: real ones, played greedily, under seeds of their own; up to five
    times as many where they have less than 250 steps on average."""
    seed: int = 0
    """Seed of everything that is random."""
    threads: int = field(default_factory=wished_threads)
    """Threads of the processor; by default OMP_NUM_THREADS, or 1."""

    def __post_init__(self) -> None:
        check_threads(self)
        positive(self, "steps", "every", "episodes")
        not_negative(self, "seed")
        if self.environment.env is None:
            raise ValueError("a baseline learns from a real environment: give --env ID")
        if (self.environment.num_envs, self.environment.workers) != (1, 0):
            raise ValueError(
                "how many copies a baseline plays is one of its hyperparameters: leave out "
                "--num-envs and --workers"
            )
