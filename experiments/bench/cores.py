"""How fast the cores learn and dream, beside the obvious loop and the processor's limit.

    worldmodel bench cores [--json]

Models of vectors (16 numbers, diagonal Gaussian; a Gaussian reward; an end) under 4 discrete
actions: one hidden layer before the heads, as everywhere in the package. A training update is
everything that `Trainer.update` does; a dream step is `WorldModel.step`, the drawn percept and its
encoding included. The arithmetic is that of all matrix products (counted by PyTorch); the rate
that it is compared with is the best of large products and of the recurrence's own shapes, measured
in the same run.
"""

import time
from collections.abc import Callable, Iterator
from typing import Any

import torch
from gymnasium import spaces
from torch.utils.flop_counter import FlopCounterMode

from experiments.bench.obvious import ObviousELBO
from worldmodel import CORES, ELBO, Row, Sequences, Trainer, WorldModel, model_for

OBSERVATION = spaces.Box(-10.0, 10.0, (16,))
ACTIONS = spaces.Discrete(4)
SIZES = {64: 16, 256: 32}  # hidden units: size of the latents
TIME, BATCH = 64, 16
DREAM_STEPS = 15
DREAMS = (1, 16, 256, 1024)
GROWTH = {"time": (16, 64, 256), "batch": (4, 16, 64), "hidden": (64, 128, 256, 512)}
PARTICLES = (1, 4, 16)

Note = Callable[[str], None]


def bench_model(core: str, hidden: int, latent: int) -> WorldModel:
    """The model that is measured; every core of the package has one."""
    sizes: dict[str, Any] = {} if core == "rnn" else {"latent": latent, "latent_hidden": hidden}
    return model_for(OBSERVATION, ACTIONS, core, hidden, **sizes)


def bench_rows(time: int, batch_size: int, dtype: torch.dtype = torch.float32) -> Sequences:
    """Noise as rows [T, B, ...], one episode a column, all of them valid and scored."""
    first = torch.zeros(time, batch_size, dtype=torch.bool)
    first[0] = True
    action = torch.eye(4, dtype=dtype)[torch.randint(4, first.shape)]
    action = action.masked_fill(first[..., None], 0.0)
    observation = torch.randn(*first.shape, 16, dtype=dtype)
    reward = torch.randn(first.shape, dtype=dtype).masked_fill(first, 0.0)
    return Sequences.whole(Row(first, action, observation, reward, torch.zeros_like(first)))


def seconds(function: Callable[[], Any], least: float = 0.5) -> float:
    """The shortest time of a call: after a first one, for `least` seconds and three calls."""
    function()
    best, spent, calls = float("inf"), 0.0, 0
    while spent < least or calls < 3:
        begun = time.perf_counter()
        function()
        taken = time.perf_counter() - begun
        best, spent, calls = min(best, taken), spent + taken, calls + 1
    return best


def arithmetic(function: Callable[[], Any]) -> int:
    """Floating-point operations of all matrix products of a call."""
    with FlopCounterMode(display=False) as counter:
        function()
    return counter.get_total_flops()


@torch.no_grad()
def product_rate(rows: int, inputs: int, outputs: int) -> float:
    """Operations a second of [rows, inputs] x [inputs, outputs]."""
    x, weight = torch.randn(rows, inputs), torch.randn(outputs, inputs)
    taken = seconds(lambda: torch.nn.functional.linear(x, weight), 0.1)
    return 2 * rows * inputs * outputs / taken
