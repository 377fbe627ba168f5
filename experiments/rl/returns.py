"""What a policy is worth: the returns of whole episodes."""

from typing import TYPE_CHECKING

import numpy as np

from worldmodel import Greedy, play_episodes
from worldmodel.experiments.rl.baseline_config import BaselineConfig
from worldmodel.experiments.rl.config import ControlConfig
from worldmodel.experiments.rl.toy_game_config import ToyGameConfig
from worldmodel.noise import OwnNoise

if TYPE_CHECKING:
    from worldmodel.experiments.rl.parts import Parts

EVALUATION_SEED = 2**32  # apart from the seeds of training, which are drawn from smaller ones
CURVE_COPIES = 20  # real episodes that are played side by side
LONGEST = 27_000  # steps; no game of Atari is longer


def play_greedily(parts: "Parts", episodes: int, seed: int) -> tuple[np.ndarray, int | None]:
    """The returns [episodes] of the greedy agent in the real environment, and the steps after
    which that truncates. Episodes of one that does not are cut after `LONGEST` steps."""
    limit = parts.time_limit
    copies = min(episodes, CURVE_COPIES) if limit else episodes
    environment = parts.environment(copies, seed)
    with OwnNoise(seed)():
        played = play_episodes(environment, Greedy(parts.agent), episodes, copies, LONGEST)
    environment.close()
    return played.returns, limit


def evaluation_seeds(config: ControlConfig | BaselineConfig | ToyGameConfig) -> list[int]:
    """Of the evaluation while training; after it, of real and of dreamt episodes, and of those
    that the model is scored on."""
    sequence = np.random.SeedSequence([config.seed, EVALUATION_SEED])
    return [int(seed) for seed in sequence.generate_state(4)]
