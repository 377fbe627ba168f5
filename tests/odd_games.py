"""A small game that breaks Gymnasium's interface in the way that it is told to."""

import fractions
import os
import random
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Callable
from typing import Any

import gymnasium
import numpy as np
import torch
from gymnasium import spaces

BOX = spaces.Box(-1, 1, (3,), np.float32)
SPACES: dict[str, Any] = {
    "bools": spaces.Box(0, 1, (4,), bool),
    "channels first": spaces.Box(0, 255, (3, 32, 32), np.uint8),
    "stacked": spaces.Box(0, 255, (4, 84, 84), np.uint8),
    "grey": spaces.Box(0, 255, (40, 30), np.uint8),
    "text": spaces.Dict(note=spaces.Text(4), number=spaces.Discrete(2)),
    "colours": spaces.Box(0, 255, (32, 32, 3), np.uint8),
    "bright": spaces.Box(0, 1, (16, 16, 3), np.float32),
    "many channels": spaces.Box(0, 255, (16, 16, 12), np.uint8),
    "one pixel": spaces.Box(0, 255, (1, 1, 3), np.uint8),
    "two words": spaces.Text(9),
    "graph": spaces.Graph(spaces.Box(0, 1, (2,)), spaces.Discrete(3)),
    "sequence": spaces.Sequence(spaces.Discrete(3)),
    "one of": spaces.OneOf([spaces.Discrete(3), spaces.Box(0, 1, (2,))]),
    "empty dict": spaces.Dict(),
    "empty tuple": spaces.Tuple([]),
    "no numbers": spaces.Box(0, 1, (0,), np.float32),
    "partly none": spaces.Dict(a=spaces.Box(0, 1, (0, 2), np.float32), b=spaces.Discrete(2)),
    "number": spaces.Box(0, 1, (), np.float32),
    "doubles": spaces.Box(-1, 1, (2,), np.float64),
    "halves": spaces.Box(-1, 1, (2,), np.float16),
    "unbounded view": spaces.Box(-np.inf, np.inf, (2,), np.float32),
    "half bounded": spaces.Box(0, np.inf, (2,), np.float32),
    "huge": spaces.Box(-3e38, 3e38, (2,), np.float32),
    "no width": spaces.Box(1, 1, (2,), np.float32),
    "whole": spaces.Box(-(2**62), 2**62, (2,), np.int64),
    "unsigned": spaces.Box(0, 2**64 - 1, (2,), np.uint64),
    "from minus three": spaces.Discrete(4, start=-3),
    "one value": spaces.Discrete(1),
    "many values": spaces.Discrete(100_000),
    "far": spaces.Discrete(3, start=2**40),
    "table": spaces.MultiDiscrete([[2, 3], [4, 5]]),
    "from": spaces.MultiDiscrete([2, 3], start=[5, -5]),
    "bits": spaces.MultiBinary(5),
    "bit table": spaces.MultiBinary([3, 2]),
    "cube": spaces.Box(-1, 1, (2, 2, 2, 2), np.float32),
    "nested": spaces.Dict(
        a=spaces.Tuple([spaces.Discrete(2), spaces.Dict(b=spaces.MultiBinary(2))]),
        image=spaces.Box(0, 255, (16, 16, 3), np.uint8),
    ),
    "odd keys": spaces.Dict({"a.b": spaces.Discrete(2), "": spaces.Discrete(2), "ä/": BOX}),
    "none at all": None,
    "a word": "Box",
}
ACTIONS: dict[str, Any] = {
    "truths": spaces.Box(0, 1, (2,), bool),
    "unbounded": spaces.Box(-np.inf, np.inf, (2,), np.float32),
    "dict": spaces.Dict(left=spaces.Discrete(2), right=spaces.Discrete(2)),
    "typed": spaces.Text(3),
    "switches": spaces.MultiBinary(3),
    "table of switches": spaces.MultiBinary([2, 2]),
    "tuples": spaces.Tuple([spaces.Discrete(2), spaces.Tuple([spaces.Box(0, 1, (2,))])]),
    "sequences": spaces.Sequence(spaces.Discrete(2)),
    "either": spaces.OneOf([spaces.Discrete(2), spaces.Discrete(3)]),
    "graphs": spaces.Graph(spaces.Discrete(2), None),
    "below zero": spaces.Discrete(3, start=-1),
    "no choice": spaces.Discrete(1),
    "dials": spaces.MultiDiscrete([3, 2]),
    "table of dials": spaces.MultiDiscrete([[2, 3], [4, 5]]),
    "lever": spaces.Box(-1, 1, (), np.float32),
    "levers": spaces.Box(-1, 1, (2, 2), np.float64),
    "no lever": spaces.Box(-1, 1, (0,), np.float32),
    "stuck lever": spaces.Box(1, 1, (2,), np.float32),
    "half lever": spaces.Box(0, np.inf, (2,), np.float32),
    "steps": spaces.Box(0, 9, (2,), np.int64),
    "wide": spaces.Box(-3e38, 3e38, (2,), np.float32),
    "no actions": None,
}


class Odd(gymnasium.Env):
    """Shows a constant, ends after five steps; `how` says what is wrong, from step `at` on.

    "$NAME": what the variable says, of the process's environment; "" if it says nothing.
    """

    metadata = {"render_modes": ["rgb_array"]}  # noqa: RUF012 (its constructor takes no render mode)

    def __init__(self, how: str = "", at: int = 3):
        self.how = how = os.environ.get(how[1:], "") if how.startswith("$") else how
        self.at = at
        if how in MADE:
            MADE[how](self)
        self.observation_space = SPACES.get(how, BOX)
        self.action_space = ACTIONS.get(how, spaces.Discrete(2))
        if how == "grows":
            self.observation_space = spaces.Box(-1, 1, (os.getpid() % 7 + id(self) % 5 + 1,))
        self.count = self.steps = 0

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        if seed is not None and isinstance(self.observation_space, spaces.Space):
            self.observation_space.seed(seed)
        self.count = 0
        if self.how in RESET:
            return RESET[self.how](self)
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

    def render(self):
        if self.how == "drawn":
            raise KeyError("canvas")
        return {"not drawn": None, "flat": np.zeros(3)}.get(
            self.how, np.zeros((8, 8, 3), np.uint8)
        )

    def close(self):
        if self.how == "closed":
            raise KeyError("door")

    def __reduce__(self):
        if self.how == "pickled":
            raise TypeError("cannot pickle a licence")
        return super().__reduce__()

    def __deepcopy__(self, memo):
        raise TypeError("there is one of me")


class Unspoken(Exception):  # noqa: N818
    """An error that cannot be told."""

    def __str__(self):
        raise RuntimeError("no words")


def _raising(error: Any) -> Callable[[Any], Any]:
    def wrong(right):
        raise error

    return wrong


def _hangs(right):
    time.sleep(3600)


def _spins(right):
    while True:
        pass


def _recurses(right):
    return _recurses(right)


def _changed(env):
    env.observation_space = spaces.Box(-1, 1, (4,), np.float32)
    return env.shown(), {}


def _with(env, doing):
    """A reset that does something besides, and is right."""
    doing(env)
    return env.shown(), {}


def _seeded(env):
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)


def _threaded(env):
    threading.Thread(target=time.sleep, args=(0.1,)).start()


def _started(env):
    subprocess.run([sys.executable, "-c", ""], check=True)


def _moved(env):
    os.makedirs("elsewhere", exist_ok=True)
    os.chdir("elsewhere")


def _warned(env):
    warnings.warn("this environment is old\n" * 20, stacklevel=2)


MADE: dict[str, Callable[[Any], Any]] = {
    "made": _raising(AssertionError("the licence has run out")),
    "made, hangs": _hangs,
    "made, exits": lambda env: sys.exit(5),
    "without modes": lambda env: setattr(env, "metadata", {}),
    "modes of None": lambda env: setattr(env, "metadata", {"render_modes": None}),
    "metadata of None": lambda env: setattr(env, "metadata", None),
}
RESET: dict[str, Callable[[Any], Any]] = {
    "reset": _raising(KeyError("level")),
    "reset, hangs": _hangs,
    "reset, exits": lambda env: sys.exit(5),
    "no pair": lambda env: env.shown(),
    "three": lambda env: (env.shown(), {}, {}),
    "reset, none": lambda env: None,
    "reset, no info": lambda env: (env.shown(), None),
    "reset, shape": lambda env: (np.zeros((3, 1), np.float32), {}),
    "reset, nan": lambda env: (np.full(3, np.nan, np.float32), {}),
    "changes": _changed,
    "prints": lambda env: _with(env, lambda env: print("hello from", env)),
    "writes to 1": lambda env: _with(env, lambda env: os.write(1, b"hello\n")),
    "threads": lambda env: _with(env, _threaded),
    "processes": lambda env: _with(env, _started),
    "seeds": lambda env: _with(env, _seeded),
    "moves": lambda env: _with(env, _moved),
    "doubles by default": lambda env: _with(env, lambda _: torch.set_default_dtype(torch.float64)),
    "warns": lambda env: _with(env, _warned),
    "strict": lambda env: _with(env, lambda env: np.seterr(all="raise")),
    "no gradients": lambda env: _with(env, lambda env: torch.set_grad_enabled(False)),
}
WRONG: dict[str, Callable[[Any], Any]] = {
    "raises": _raising(KeyError("level")),
    "raises much": _raising(ValueError("too much " * 9_999)),
    "raises lines": _raising(ValueError("one\n\n\ttwo\r\x1b[31mthree\x00")),
    "raises unspoken": _raising(Unspoken()),
    "raises groups": _raising(ExceptionGroup("all", [ValueError("a"), KeyError("b")])),
    "raises memory": _raising(MemoryError()),
    "raises files": _raising(FileNotFoundError(2, "No such file", "/level/1")),
    "raises the end": _raising(StopIteration()),
    "raises asserted": _raising(AssertionError()),
    "reward complex array": lambda right: (right[0], np.complex64(1), *right[2:]),
    "generates": _raising(GeneratorExit()),
    "recurses": _recurses,
    "exits": lambda right: sys.exit(3),
    "exits well": lambda right: sys.exit(0),
    "exits at once": lambda right: os._exit(3),
    "dies": lambda right: os.kill(os.getpid(), 9),
    "hangs": _hangs,
    "spins": _spins,
    "at once": lambda right: (*right[:2], True, *right[3:]),
    "cut at once": lambda right: (*right[:3], True, *right[4:]),
    "none": lambda right: None,
    "four": lambda right: (*right[:3], {}),
    "six": lambda right: (*right, {}),
    "list": list,
    "shape": lambda right: (np.zeros(4, np.float32), *right[1:]),
    "scalar": lambda right: (0.0, *right[1:]),
    "nothing": lambda right: (None, *right[1:]),
    "objects": lambda right: (np.array([{}, 1, None], object), *right[1:]),
    "words": lambda right: (np.array(["a", "b", "c"]), *right[1:]),
    "ragged": lambda right: ([[1.0], [1.0, 2.0], 3.0], *right[1:]),
    "numbers": lambda right: ([0.0, 0.5, 1.0], *right[1:]),
    "tensor": lambda right: (torch.zeros(3), *right[1:]),
    "learned tensor": lambda right: (torch.zeros(3, requires_grad=True), *right[1:]),
    "complex": lambda right: (np.zeros(3, np.complex64), *right[1:]),
    "double": lambda right: (np.zeros(3), *right[1:]),
    "masked": lambda right: (np.ma.masked_all(3, np.float32), *right[1:]),
    "beyond": lambda right: (np.full(3, 1e30, np.float32), *right[1:]),
    "nan": lambda right: (np.full(3, np.nan, np.float32), *right[1:]),
    "infinite": lambda right: (np.full(3, np.inf, np.float32), *right[1:]),
    "dict of it": lambda right: ({"a": right[0]}, *right[1:]),
    "reward": lambda right: (right[0], np.ones(1), *right[2:]),
    "no reward": lambda right: (right[0], None, *right[2:]),
    "reward nan": lambda right: (right[0], float("nan"), *right[2:]),
    "reward infinite": lambda right: (right[0], -np.inf, *right[2:]),
    "reward word": lambda right: (right[0], "1", *right[2:]),
    "reward true": lambda right: (right[0], True, *right[2:]),
    "reward whole": lambda right: (right[0], 1, *right[2:]),
    "reward half": lambda right: (right[0], np.float16(0.5), *right[2:]),
    "reward point": lambda right: (right[0], np.array(1.0), *right[2:]),
    "reward tensor": lambda right: (right[0], torch.ones(()), *right[2:]),
    "reward learned": lambda right: (right[0], torch.ones((), requires_grad=True), *right[2:]),
    "reward complex": lambda right: (right[0], 1j, *right[2:]),
    "reward fraction": lambda right: (right[0], fractions.Fraction(1, 3), *right[2:]),
    "reward huge": lambda right: (right[0], 1e308, *right[2:]),
    "reward longer": lambda right: (right[0], 10**400, *right[2:]),
    "reward dict": lambda right: (right[0], {"a": 1.0}, *right[2:]),
    "end": lambda right: (*right[:2], np.zeros(2, bool), *right[3:]),
    "end of one": lambda right: (*right[:2], np.zeros(1, bool), *right[3:]),
    "end none": lambda right: (*right[:2], None, *right[3:]),
    "end word": lambda right: (*right[:2], "no", *right[3:]),
    "end number": lambda right: (*right[:2], 0.5, *right[3:]),
    "cut none": lambda right: (*right[:3], None, *right[4:]),
    "info": lambda right: (*right[:4], None),
    "info list": lambda right: (*right[:4], []),
    "info odd": lambda right: (*right[:4], {3: object(), "_a": right[0], "final_info": {}}),
    "info shapes": lambda right: (*right[:4], {"a": np.zeros(int(1e9 * right[0][0]) % 3 + 1)}),
}
OTHERS = ("never", "grows", "drawn", "not drawn", "flat", "closed", "pickled")
HOW = ("", *SPACES, *ACTIONS, *MADE, *RESET, *WRONG, *OTHERS)
"""All ways to be odd; "": none."""
gymnasium.register("Odd-v0", Odd)
