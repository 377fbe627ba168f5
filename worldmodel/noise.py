"""Noise of one's own: random states that are swapped in for torch's global ones."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor


class OwnNoise:
    """Keeps random states apart from torch's global generators: the CPU's, and those of the
    GPUs in use (CUDA, MPS, XPU and whatever else PyTorch counts as an accelerator).

    What is drawn inside `with noise():` depends on the seed and on what was drawn there before,
    and leaves the global generators as they were; `state` is all of it. The same seed gives the
    same draws on the same kind of device: a GPU draws other numbers than a CPU does. CUDA counts
    as in use once something is on it (`torch.cuda.is_initialized`), which should be so before the
    block begins.
    """

    def __init__(self, seed: int):
        self.seed = seed
        self.state: list[Tensor] = [fresh_state("cpu", seed)]  # of the CPU, then of its GPUs

    @contextmanager
    def __call__(self) -> Iterator[None]:
        outside = get_states()
        for place, state in enumerate(outside):
            fits = place < len(self.state) and self.state[place].shape == state.shape
            if not fits:  # a state of no GPU, or of one of another kind
                fresh = fresh_state(f"{_in_use()[0]}:{place - 1}", self.seed)
                self.state = [*self.state[:place], fresh, *self.state[place + 1 :]]
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
    """The states of the global generators in use: the CPU's, then those of the GPUs."""
    _, module, devices = _in_use()
    return [torch.get_rng_state(), *map(module.get_rng_state, devices)]


def set_states(states: Sequence[Tensor]) -> None:
    """Sets the states that `get_states` gives."""
    torch.set_rng_state(states[0])
    _, module, devices = _in_use()
    for device, state in zip(devices, states[1:], strict=False):
        module.set_rng_state(state, device)


def _in_use() -> tuple[str, Any, list[Any]]:
    """The kind of GPU in use, its module of torch, and what that calls them; of no GPU, none."""
    accelerator = None if torch.cuda.is_initialized() else torch.accelerator.current_accelerator()
    kind = "cuda" if accelerator is None else accelerator.type
    module = torch.get_device_module(kind)
    if kind == "mps":  # one, which is in use wherever it is
        return kind, module, ["mps"] if torch.accelerator.is_available() else []
    return kind, module, list(range(module.device_count())) if module.is_initialized() else []
