"""Noise of one's own: random states that are swapped in for torch's global ones, or numbers that
draws are made from."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

SMALLEST = 2.0**-25  # in place of a uniform number that is zero, whose logarithm is infinite


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


class Noise(NamedTuple):
    """Numbers that draws are made from, one after another."""

    normal: Tensor  # [N], standard normal
    uniform: Tensor  # [U], within [0, 1)


class NoiseStream(TorchFunctionMode):
    """Makes draws functions of noise: inside `with NoiseStream(noise):` whatever is drawn at
    random, by torch or by its distributions, is computed from the given numbers, in their order.

    The same noise gives the same draws, whatever computes them: torch, or a graph that was
    exported. Without noise it is drawn as it is needed, and `taken` has it: it can be given again.
    """

    def __init__(self, given: Noise | None = None):
        super().__init__()
        self.given = given
        self._taken: tuple[list[Tensor], list[Tensor]] = ([], [])
        self._place = [0, 0]

    @property
    def taken(self) -> Noise:
        """The numbers that were used so far."""
        return Noise(*(torch.cat([torch.zeros(0), *parts]) for parts in self._taken))

    def normal(self, shape: Sequence[int]) -> Tensor:
        """The next standard normal numbers."""
        return self._next(0, shape)

    def uniform(self, shape: Sequence[int]) -> Tensor:
        """The next uniform numbers, in (0, 1)."""
        return self._next(1, shape).clamp(min=SMALLEST)

    def _next(self, kind: int, shape: Sequence[int]) -> Tensor:
        size = torch.Size(shape)
        begin = self._place[kind]
        self._place[kind] = begin + size.numel()
        if self.given is None:
            with torch._C.DisableTorchFunction():
                made = (torch.randn, torch.rand)[kind](size.numel())
            self._taken[kind].append(made)
            return made.reshape(size)
        numbers = self.given[kind]
        if self._place[kind] > len(numbers):
            raise ValueError(
                f"there are {len(numbers)} {Noise._fields[kind]} numbers of noise given, and more "
                "are drawn: give as many as a NoiseStream without noise has `taken`"
            )
        return numbers[begin : self._place[kind]].reshape(size)

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        name = getattr(func, "__name__", "")
        if name in UNKNOWN:
            raise ValueError(
                f"torch.{name} draws at random, but not from noise that is given: take another "
                "distribution, or draw from torch's own generator"
            )
        draw = DRAWS.get(name)
        return func(*args, **kwargs) if draw is None else draw(self, *args, **kwargs)


def _like(kind: str) -> Callable[..., Tensor]:
    return lambda noise, like, **_: getattr(noise, kind)(like.shape).to(like)


def _new(kind: str) -> Callable[..., Tensor]:
    def draw(noise: NoiseStream, *size: Any, dtype: Any = None, **_: Any) -> Tensor:
        shape = size[0] if len(size) == 1 and not isinstance(size[0], int) else size
        return cast(Tensor, getattr(noise, kind)(shape).to(dtype or torch.get_default_dtype()))

    return draw


def _exponential(noise: NoiseStream, like: Tensor, lambd: float = 1.0, **_: Any) -> Tensor:
    return -noise.uniform(like.shape).log().to(like) / lambd


def _normal(noise: NoiseStream, mean: Any, std: Any = 1.0, size: Any = None, **_: Any) -> Tensor:
    parts = (part for part in (mean, std) if isinstance(part, Tensor))
    shape = torch.broadcast_shapes(*(part.shape for part in parts)) if size is None else size
    return mean + std * noise.normal(shape)


def _multinomial(noise: NoiseStream, weights: Tensor, count: int, *_: Any, **__: Any) -> Tensor:
    """Places of uniform numbers among the sums of weights [*, n]: int64 [*, count]."""
    sums = weights.cumsum(-1)
    places = noise.uniform((*weights.shape[:-1], count)).to(sums) * sums[..., -1:]
    return (sums[..., None, :] <= places[..., None]).sum(-1)


# By the name of a function of torch, what it computes from noise. In-place draws give new tensors:
# who draws reads what a draw returns.
DRAWS: dict[str, Callable[..., Tensor]] = {
    "randn_like": _like("normal"),
    "rand_like": _like("uniform"),
    "randn": _new("normal"),
    "rand": _new("uniform"),
    "normal_": lambda noise, like, mean=0.0, std=1.0, **_: (
        mean + std * noise.normal(like.shape).to(like)
    ),
    "uniform_": lambda noise, like, low=0.0, high=1.0, **_: (
        low + (high - low) * noise.uniform(like.shape).to(like)
    ),
    "exponential_": _exponential,
    "normal": _normal,
    "multinomial": _multinomial,
    "bernoulli": lambda noise, probs, **_: (noise.uniform(probs.shape).to(probs) < probs).to(
        probs
    ),
}
UNKNOWN = frozenset(
    {"randint", "randint_like", "randperm", "poisson", "binomial", "bernoulli_", "random_"}
    | {"cauchy_", "geometric_", "log_normal_", "_standard_gamma", "_sample_dirichlet"}
)
