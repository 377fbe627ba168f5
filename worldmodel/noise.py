"""Noise of one's own: a random state that is swapped in for torch's global one."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch


class OwnNoise:
    """Keeps a random state apart from torch's global generator.

    What is drawn inside `with noise():` depends on the seed and on what was drawn there before,
    and leaves the global generator as it was. `state` is all of it.
    """

    def __init__(self, seed: int):
        self.state = torch.Generator().manual_seed(seed).get_state()

    @contextmanager
    def __call__(self) -> Iterator[None]:
        outside = torch.get_rng_state()
        torch.set_rng_state(self.state)
        try:
            yield
        finally:
            self.state = torch.get_rng_state()
            torch.set_rng_state(outside)
