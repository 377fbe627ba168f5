"""What a policy is worth: the returns of whole episodes."""

import numpy as np
import torch

from worldmodel import Agent, Environment, GenCore


@torch.no_grad()
def play_episodes(
    environment: Environment, agent: Agent, copies: int, episodes: int, limit: int = 100_000
) -> np.ndarray:
    """The returns of whole episodes, float64 [episodes]: the first of each copy, then the second
    of each, and so on. (Those that finish first are the short ones.)

    limit: steps after which an episode is cut off, for worlds that never end.
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
        steps = torch.where(first, 0, steps + 1)
        going_on = (number < each) & (steps <= limit)
        place = number.clamp(max=each - 1), torch.arange(copies)
        before = torch.where(first, 0.0, returns[place])
        returns[place] = torch.where(going_on, before + row.reward.cpu(), returns[place])
    found = returns.flatten()[:episodes].numpy()
    missing = int(np.isnan(found).sum())
    if missing:
        raise ValueError(
            f"{missing} of {episodes} episodes never began: those before them were cut off after "
            f"{limit} steps; give the environment a time limit, or play one episode a copy"
        )
    return found
