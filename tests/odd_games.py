"""A small game that breaks Gymnasium's interface in the way that it is told to."""

import time

import gymnasium
import numpy as np
from gymnasium import spaces

SPACES = {
    "bools": spaces.Box(0, 1, (4,), bool),
    "channels first": spaces.Box(0, 255, (3, 32, 32), np.uint8),
    "stacked": spaces.Box(0, 255, (4, 84, 84), np.uint8),
    "grey": spaces.Box(0, 255, (40, 30), np.uint8),
    "text": spaces.Dict(note=spaces.Text(4), number=spaces.Discrete(2)),
}
ACTIONS = {
    "unbounded": spaces.Box(-np.inf, np.inf, (2,), np.float32),
    "dict": spaces.Dict(left=spaces.Discrete(2), right=spaces.Discrete(2)),
}


class Odd(gymnasium.Env):
    """Shows a constant, ends after five steps; `how` says what is wrong, from step `at` on."""

    metadata = {"render_modes": ["rgb_array"]}  # noqa: RUF012 (its constructor takes no render mode)

    def __init__(self, how: str = "", at: int = 3):
        self.how, self.at = how, at
        if how == "made":
            raise AssertionError("the licence has run out")
        self.observation_space = SPACES.get(how, spaces.Box(-1, 1, (3,), np.float32))
        self.action_space = ACTIONS.get(how, spaces.Discrete(2))
        self.count = self.steps = 0

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.count = 0
        if self.how == "reset":
            raise KeyError("level")
        if self.how == "no pair":
            return self.shown()
        return self.shown(), {}

    def shown(self):
        return self.observation_space.sample()

    def step(self, action):
        self.count += 1
        self.steps += 1
        is_over = self.count == 5 and self.how != "never"
        right = (self.shown(), 1.0, is_over, False, {})
        if self.steps < self.at or self.how not in WRONG:
            return right
        return WRONG[self.how](right)


def _raises(right):
    raise KeyError("level")


def _hangs(right):
    time.sleep(3600)


WRONG = {
    "raises": _raises,
    "hangs": _hangs,
    "none": lambda right: None,
    "four": lambda right: (*right[:3], {}),
    "shape": lambda right: (np.zeros(4, np.float32), *right[1:]),
    "scalar": lambda right: (0.0, *right[1:]),
    "nothing": lambda right: (None, *right[1:]),
    "objects": lambda right: (np.array([{}, 1, None], object), *right[1:]),
    "words": lambda right: (np.array(["a", "b", "c"]), *right[1:]),
    "nan": lambda right: (np.full(3, np.nan, np.float32), *right[1:]),
    "reward": lambda right: (right[0], np.ones(1), *right[2:]),
    "no reward": lambda right: (right[0], None, *right[2:]),
    "end": lambda right: (*right[:2], np.zeros(2, bool), *right[3:]),
    "info": lambda right: (*right[:4], None),
}
gymnasium.register("Odd-v0", Odd)
