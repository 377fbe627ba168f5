"""Episodes that go on after an interruption: each has a seed of its own, and is played again.

An environment cannot be saved in general. One that follows from its seeds and its actions need not
be: whoever knows the seed of an episode and its actions so far plays it again, and compares row by
row. This costs its steps, once.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import gymnasium
import numpy as np
from gymnasium import spaces

from worldmodel.codecs.spaces import parts_of
from worldmodel.episodes import Columns

EPISODE = "worldmodel/episode"  # of the info of a reset: int64 [2], the copy's seed and a count
GOES_ON = (
    "worldmodel/goes_on"  # of that of a reset with `RUNNING`: whether the episode is the same
)
RUNNING = "worldmodel/running"  # of the options of a reset: `Running`s by the copies' seeds


class Running(NamedTuple):
    """An episode that is to be gone on with."""

    number: int  # among those of its copy
    rows: Columns | None  # [rows, ...]; None: it is over, and the next one is to begin


class Resumable(gymnasium.Wrapper):
    """Seeds every episode, by its copy's seed and a count; one that is given rows of is gone on
    with.

    A reset with `RUNNING` plays rows again and shows the last one. If they come out otherwise, or
    there are none, the next step, whatever its action, shows the first row of a new episode.
    """

    def __init__(self, env: gymnasium.Env, limit: int | None = None):
        """limit: steps after which episodes are truncated."""
        super().__init__(env)
        self.limit = limit
        self._seed = 0  # of the copy
        self._number = self._steps = -1
        self._begun: tuple[Any, dict[str, Any]] | None = None  # what the next step shows

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        options = dict(options or {})
        running: Mapping[int, Running] | None = options.pop(RUNNING, None)
        self._begun = None
        if seed is not None:
            self._seed, self._number = seed, -1
        elif self._number < 0:
            self._seed = int(np.random.SeedSequence().generate_state(1)[0])
        if running is None:
            return self._begin(options)
        found = running.get(self._seed, Running(-1, None))
        self._number = found.number
        if found.rows is not None and (shown := self._again(found.rows)) is not None:
            return shown
        self._begun = self._begin(options)
        return self._begun[0], self._begun[1] | {GOES_ON: False}

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        if self._begun is not None:
            (observation, info), self._begun = self._begun, None
            return observation, 0.0, False, False, info
        observation, reward, terminated, truncated, info = self.env.step(action)
        self._steps += 1
        is_over = self.limit is not None and self._steps >= self.limit
        return observation, reward, bool(terminated), bool(truncated) or is_over, info

    def _begin(self, options: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        self._number, self._steps = self._number + 1, 0
        observation, info = self.env.reset(seed=self._episode_seed, options=options or None)
        return observation, info | {EPISODE: np.array([self._seed, self._number])}

    @property
    def _episode_seed(self) -> int:
        return int(np.random.SeedSequence((self._seed, self._number)).generate_state(1)[0])

    def _again(self, rows: Columns) -> tuple[Any, dict[str, Any]] | None:
        """The last of the rows, played again; None if they come out otherwise."""
        space, shown = self.env.action_space, self.env.observation_space
        observation, info = self.env.reset(seed=self._episode_seed)
        if not _is_same(shown, observation, rows["observation"], 0):
            return None
        for time in range(1, len(rows["reward"])):
            action = rows["action"][time].astype(space.dtype)
            observation, reward, terminated, truncated, info = self.env.step(action)
            is_same = rows["reward"].dtype.type(reward) == rows["reward"][time]
            is_same &= _is_same(shown, observation, rows["observation"], time)
            if not is_same or terminated or truncated:
                return None
        self._steps = len(rows["reward"]) - 1
        return observation, info | {EPISODE: np.array([self._seed, self._number]), GOES_ON: True}


def _is_same(space: spaces.Space, observation: Any, rows: Any, time: int) -> bool:
    """True if an observation is the one that was stored, [rows, ...]."""
    if parts := parts_of(space):
        return all(
            _is_same(part, observation[key], rows[key], time) for key, part in parts.items()
        )
    stored = rows[time]
    return np.array_equal(np.asarray(observation).astype(space.dtype).astype(stored.dtype), stored)
