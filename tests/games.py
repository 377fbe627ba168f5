"""Small games for tests: they count, end when told, and die when told."""

import os
import signal
import time
from pathlib import Path

import gymnasium
import numpy as np
from gymnasium import spaces


class Counting(gymnasium.Env):
    """Shows how many steps it has made, what it was told, and a number of its own.

    Episode e (from 0) lasts `lengths[e % len(lengths)]` steps, or as long as its generator says
    where there are none; those with an even length are truncated, the others terminate. The reward
    is what it was told plus a hundredth of the count.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 10}  # noqa: RUF012
    observation_space = spaces.Box(-np.inf, np.inf, (3,), np.float64)
    action_space = spaces.Discrete(4)

    def __init__(self, lengths=(), render_mode=None):
        self.lengths = lengths
        self.render_mode = render_mode
        self.episode = -1

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.episode += 1
        self.count, self.config = 0, -1
        self.length = int(self.np_random.integers(1, 9))
        if self.lengths:
            self.length = self.lengths[self.episode % len(self.lengths)]
        return self.observe(), {"episode": self.episode}

    def step(self, action):
        self.count += 1
        self.config = int(action)
        ended, whole = self.count == self.length, self.length % 2 == 1
        info = {"count": self.count}
        reward = self.config + self.count / 100
        return self.observe(), reward, ended and whole, ended and not whole, info

    def observe(self):
        return np.array([self.count, self.config, self.np_random.random()])

    def render(self):
        frame = np.zeros((40, 60, 3), np.uint8)
        frame[:, : 6 * self.count] = (255, 128, 0)
        return frame


class Nested(Counting):
    """The same, told by a dictionary of an image, a vector, a number and a pair."""

    observation_space = spaces.Dict(
        {
            "image": spaces.Box(0, 255, (12, 16, 3), np.uint8),
            "vector": Counting.observation_space,
            "number": spaces.Discrete(10),
            "pair": spaces.Tuple([spaces.MultiBinary(2), spaces.Box(0, 9, (8, 8), np.uint8)]),
        }
    )
    action_space = spaces.MultiDiscrete([2, 4])

    def step(self, action):
        return super().step(action[1] + 0 * action[0])

    def observe(self):
        bits = np.array([self.count % 2, self.count // 2 % 2], np.int8)
        return {
            "image": np.full((12, 16, 3), (10 * self.count, 0, 255), np.uint8),
            "vector": super().observe(),
            "number": np.int64(self.count % 10),
            "pair": (bits, np.full((8, 8), self.count % 10, np.uint8)),
        }


class Mortal(Counting):
    """Dies in the way `how` at count `at` of its episode `episode`, as long as the folder `lives`
    holds a file, of which each death takes one."""

    def __init__(self, how, lives, at=2, episode=0, lengths=()):
        super().__init__(lengths)
        self.how, self.lives, self.at, self.fatal = how, Path(lives), at, episode

    def reset(self, *, seed=None, options=None):
        observation, info = super().reset(seed=seed)
        if self.at == 0:
            self.die()
        return observation, info

    def step(self, action):
        if (self.count + 1, self.episode) == (self.at, self.fatal):
            self.die()
        return super().step(action)

    def die(self):
        lives = sorted(self.lives.iterdir())
        if not lives:
            return
        lives[0].unlink()
        if self.how == "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        elif self.how == "exits":
            os._exit(3)
        elif self.how == "hangs":
            time.sleep(60)
        raise ValueError("out of luck")


class Panel(gymnasium.Env):
    """Lamps and a meter, in a dictionary; a reward of 1 a step, and ends by chance."""

    observation_space = spaces.Dict(
        lamps=spaces.MultiBinary(3), meter=spaces.Box(-np.inf, np.inf, (2,), np.float32)
    )
    action_space = spaces.Discrete(3)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return self.observe(), {}

    def step(self, action):
        return self.observe(), 1.0, self.np_random.random() < 0.2, False, {}

    def observe(self):
        lamps = self.np_random.integers(2, size=3, dtype=np.int8)
        return {"lamps": lamps, "meter": self.np_random.normal(size=2).astype(np.float32)}


class Echo(gymnasium.Env):
    """Shows one of four symbols a step, eight times; naming the last but one is worth 1."""

    observation_space = action_space = spaces.Discrete(4)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.shown = [self.np_random.integers(4) for _ in range(9)]
        self.count = 0
        return self.shown[0], {}

    def step(self, action):
        reward = float(self.count > 0 and action == self.shown[self.count - 1])
        self.count += 1
        return self.shown[self.count], reward, self.count == 8, False, {}


gymnasium.register("Panel-v0", Panel)
gymnasium.register("Echo-v0", Echo)
gymnasium.register("Counting-v0", Counting)
gymnasium.register("Nested-v0", Nested)
gymnasium.register("Limited-v0", Counting, kwargs={"lengths": (50,)}, max_episode_steps=5)


class Lock(gymnasium.Env):
    """Opens after the right action was chosen `length` times in a row, which is another at each
    turn; a wrong one begins anew. Shows how far it is; opening gives the only reward."""

    action_space = spaces.Discrete(2)

    def __init__(self, length=8, limit=50):
        self.length, self.limit = length, limit
        self.observation_space = spaces.Discrete(length + 1)
        self.right = np.random.default_rng(0).integers(0, 2, length)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.place = self.count = 0
        return 0, {}

    def step(self, action):
        self.count += 1
        self.place = self.place + 1 if action == self.right[self.place] else 0
        is_open = self.place == self.length
        return self.place, float(is_open), is_open, self.count >= self.limit and not is_open, {}
