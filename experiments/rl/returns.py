"""What a policy is worth: the returns of whole episodes."""

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import torch

from worldmodel import Agent, Environment, GenCore, Greedy
from worldmodel.experiments.rl.baseline_config import BaselineConfig
from worldmodel.experiments.rl.config import ControlConfig
from worldmodel.experiments.rl.toy_game_config import ToyGameConfig
from worldmodel.noise import OwnNoise

if TYPE_CHECKING:
    from worldmodel.experiments.rl.parts import Parts

EVALUATION_SEED = 2**32  # apart from the seeds of training, which are drawn from smaller ones
CURVE_COPIES = 20  # real episodes that are played side by side
LONGEST = 27_000  # steps; no game of Atari is longer


@torch.no_grad()
def play_episodes(
    environment: Environment,
    agent: Agent,
    copies: int,
    episodes: int,
    limit: int = 100_000,
    note: Callable[[int], None] = lambda done: None,
) -> np.ndarray:
    """The returns of whole episodes, float64 [episodes]: the first of each copy, then the second
    of each, and so on. (Those that finish first are the short ones.)

    limit: steps after which an episode is cut off, for worlds that never end; note: told of how
        many episodes are over, at each step.
    """
    core = GenCore(environment, agent)
    state = core.initial_state(copies)
    each = -(-episodes // copies)
    returns = torch.full((each, copies), torch.nan, dtype=torch.float64)
    number = torch.full((copies,), -1)  # of each copy's episode
    steps = torch.zeros(copies, dtype=torch.int64)
    going_on = torch.ones(copies, dtype=torch.bool)
    while going_on.any():
        (row, _), state = core.step(state)
        first = row.first.cpu()
        number += first.long()
        note(min(episodes, int(number.clamp(0, each).sum())))
        steps = torch.where(first, 0, steps + 1)
        going_on = (number < each) & (steps <= limit)
        place = number.clamp(max=each - 1), torch.arange(copies)
        before = torch.where(first, 0.0, returns[place])
        returns[place] = torch.where(going_on, before + row.reward.cpu(), returns[place])
    note(episodes)
    found = returns.flatten()[:episodes].numpy()
    missing = int(np.isnan(found).sum())
    if missing:
        raise ValueError(
            f"{missing} of {episodes} episodes never began: those before them were cut off after "
            f"{limit} steps; give the environment a time limit, or play one episode a copy"
        )
    return found


def play_greedily(
    parts: "Parts",
    episodes: int,
    seed: int,
    note: Callable[[int], None] = lambda done: None,
) -> tuple[np.ndarray, int | None]:
    """The returns [episodes] of the greedy agent in the real environment, and the steps after
    which that truncates. Episodes of one that does not are cut after `LONGEST` steps. note: see
    `play_episodes`."""
    limit = parts.time_limit
    copies = min(episodes, CURVE_COPIES) if limit else episodes
    environment = parts.environment(copies, seed)
    with OwnNoise(seed)():
        returns = play_episodes(environment, Greedy(parts.agent), copies, episodes, LONGEST, note)
    environment.close()
    return returns, limit


def evaluation_seeds(config: ControlConfig | BaselineConfig | ToyGameConfig) -> list[int]:
    """Of the evaluation while training; after it, of real and of dreamt episodes, and of those
    that the model is scored on."""
    sequence = np.random.SeedSequence([config.seed, EVALUATION_SEED])
    return [int(seed) for seed in sequence.generate_state(4)]
