"""An environment whose steps take time and no processor, as those of a simulator elsewhere do."""

import time
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

ID = "worldmodel/Sleeping-v0"
LENGTH = 40  # steps of an episode


class Sleeping(gymnasium.Env):
    """Sleeps in each step, and shows a number that is drawn."""

    observation_space = spaces.Box(0.0, 1.0, (1,), np.float32)
    action_space = spaces.Discrete(2)

    def __init__(self, milliseconds: float = 5.0):
        self.seconds = milliseconds / 1_000
        self.count = 0

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        super().reset(seed=seed)
        self.count = 0
        return self._shown(), {}

    def step(self, action: Any) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        time.sleep(self.seconds)
        self.count += 1
        return self._shown(), 1.0, self.count == LENGTH, False, {}

    def _shown(self) -> np.ndarray:
        return self.np_random.random(1, np.float32)


gymnasium.register(ID, f"{__name__}:{Sleeping.__name__}", max_episode_steps=LENGTH)
