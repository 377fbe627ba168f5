"""Evaluation of an agent in a world: returns and lengths of whole episodes."""

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch

from worldmodel.agent import Agent
from worldmodel.environment import Environment
from worldmodel.gen_core import Engine, GenCore


class EpisodeStats(NamedTuple):
    """Returns, lengths and ends of n episodes."""

    returns: np.ndarray  # float64 [n], sums of rewards
    lengths: np.ndarray  # int64 [n], steps
    terminated: np.ndarray  # bool [n]; the others were truncated, or cut off

    def and_those_of(self, others: "EpisodeStats") -> "EpisodeStats":
        """These episodes and others."""
        return EpisodeStats(*(np.concatenate(pair) for pair in zip(self, others, strict=True)))


@torch.no_grad()
def play_episodes(
    environment: Environment,
    agent: Agent,
    episodes: int,
    copies: int | None = None,
    limit: int = 100_000,
    note: Callable[[int], None] = lambda done: None,
    endless: float = math.inf,
    engine: Engine | None = None,
) -> EpisodeStats:
    """Plays whole episodes: the first of each copy, then the second of each, and so on. (Those
    that finish first are the short ones.)

    copies: games side by side, by default one an episode; limit: steps after which an episode is
    cut off, for worlds that never end; note: called with the number of episodes that are over;
    endless: steps after which all are cut off if not one has ended by then; engine: that computes
    the steps of a dream (`GenCore.compile`).
    """
    copies = episodes if copies is None else copies
    each = -(-episodes // copies)
    core = GenCore(environment, agent)
    if engine is not None:
        core.compile(engine=engine)
    state = core.initial_state(copies)
    returns = torch.zeros(each, copies, dtype=torch.float64)
    lengths = torch.full((each, copies), -1)
    terminated = torch.zeros(each, copies, dtype=torch.bool)
    number = torch.full((copies,), -1)  # of each copy's episode
    columns = torch.arange(copies)
    going_on = columns < episodes  # the copies whose rows still count
    rows = 0
    while going_on.any() and (rows <= endless or number.any() or terminated.any()):
        (row, _), state = core.step(state)
        rows += 1
        if row.first.any():
            number += row.first.cpu().long()
            note(min(int(number.clamp(max=each).sum()), episodes))
        going_on &= number * copies + columns < episodes
        games = columns[going_on]
        place = number[games], games
        returns[place] += row.reward.cpu()[games]
        lengths[place] += 1
        terminated[place] = row.terminated.cpu()[games]
        is_last = (number[games] + 1) * copies + games >= episodes
        over = terminated[place] | (lengths[place] >= limit)
        going_on[games] = ~(over & is_last) & (lengths[place] <= limit)
    note(episodes)
    found = [part.flatten()[:episodes].numpy() for part in (returns, lengths, terminated)]
    missing = int((found[1] < 0).sum())
    if missing:
        raise ValueError(
            f"{missing} of {episodes} episodes never began: those before them were cut off after "
            f"{found[1].max()} steps; give the environment a time limit, or play one episode a "
            "copy"
        )
    return EpisodeStats(*found)
