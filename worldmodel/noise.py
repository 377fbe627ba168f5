"""Noise of one's own: random states that are swapped in for torch's global ones."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor


class OwnNoise:
    """Keeps random states apart from torch's global generators: the CPU's, and those of CUDA
    devices where CUDA is in use.

    What is drawn inside `with noise():` depends on the seed and on what was drawn there before,
    and leaves the global generators as they were; `state` is all of it. The same seed gives the
    same draws on the same kind of device: a GPU draws other numbers than a CPU does. CUDA counts
    as in use once something is on it (`torch.cuda.is_initialized`), which should be so before the
    block begins. Other devices (MPS, XPU) keep their global noise.
    """

    def __init__(self, seed: int):
        self.seed = seed
        self.state: list[Tensor] = [fresh_state("cpu", seed)]  # of the CPU, then of CUDA devices

    @contextmanager
    def __call__(self) -> Iterator[None]:
        outside = get_states()
        places = range(len(self.state), len(outside))
        self.state = self.state + [fresh_state(f"cuda:{p - 1}", self.seed) for p in places]
        set_states(self.state[: len(outside)])
        try:
            yield
        finally:
            self.state = get_states()[: len(outside)] + self.state[len(outside) :]
            set_states(outside)


def fresh_state(device: str, seed: int) -> Tensor:
    """The state of a generator of a device that was just seeded, uint8."""
    return torch.Generator(device).manual_seed(seed).get_state()


def get_states() -> list[Tensor]:
    """The states of the global generators in use: the CPU's, then those of CUDA's devices."""
    devices = torch.cuda.device_count() if torch.cuda.is_initialized() else 0
    return [torch.get_rng_state(), *map(torch.cuda.get_rng_state, range(devices))]


def set_states(states: Sequence[Tensor]) -> None:
    """Sets the states that `get_states` gives."""
    torch.set_rng_state(states[0])
    for device, state in enumerate(states[1:]):
        torch.cuda.set_rng_state(state, device)
