"""Dictionaries and tuples of parts: independent ones, and some that depend on others."""

from collections.abc import Callable, Mapping
from typing import Any, cast

import torch
from torch import Tensor, distributions as td


def draw(distribution: td.Distribution) -> Any:
    """A sample; with gradients where they are recorded, and where the distribution has them."""
    if torch.is_grad_enabled() and distribution.has_rsample:
        return distribution.rsample()
    return distribution.sample()


class Joint(td.Distribution):
    """Independent parts; value: a dictionary or a tuple, as the parts are given."""

    arg_constraints = {}  # noqa: RUF012 (nothing is validated here)

    def __init__(self, parts: Mapping[str, td.Distribution] | tuple[td.Distribution, ...]):
        self.is_tuple = isinstance(parts, tuple)
        named: Any = enumerate(parts) if isinstance(parts, tuple) else parts
        self.parts: dict[Any, td.Distribution] = dict(named)
        super().__init__(next(iter(self.parts.values())).batch_shape, validate_args=False)

    def _each(self, function: Callable[[td.Distribution], Any]) -> Any:
        values = {key: function(part) for key, part in self.parts.items()}
        return tuple(values.values()) if self.is_tuple else values

    @property
    def mode(self) -> Any:
        return self._each(lambda part: part.mode)

    @property
    def mean(self) -> Any:
        return self._each(lambda part: part.mean)

    @property
    def has_rsample(self) -> bool:  # type: ignore[override]
        """Whether any part has draws with gradients."""
        return any(part.has_rsample for part in self.parts.values())

    def sample(self, sample_shape: torch.Size = torch.Size()) -> Any:
        return self._each(lambda part: part.sample(sample_shape))

    def rsample(self, sample_shape: torch.Size = torch.Size()) -> Any:
        """With gradients, of those parts that have them."""

        def drawn(part: td.Distribution) -> Any:
            return part.rsample(sample_shape) if part.has_rsample else part.sample(sample_shape)

        return self._each(drawn)

    def log_probs(self, value: Any) -> dict[Any, Tensor]:
        """The log probability of each part by key, or by its place in the tuple, [*] nats."""
        return {key: part.log_prob(value[key]) for key, part in self.parts.items()}

    def log_prob(self, value: Any) -> Tensor:
        return cast(Tensor, sum(self.log_probs(value).values()))

    def entropy(self) -> Tensor:
        return cast(Tensor, sum(part.entropy() for part in self.parts.values()))


class Chain(td.Distribution):
    """p(a) p(b | a): a `Joint` of first parts, then one given their values.

    What an observation shows (the goal reached) and what the game says of it (the end) are one
    event; independent heads would give it the product of two probabilities.
    """

    arg_constraints = {}  # noqa: RUF012 (nothing is validated here)

    def __init__(self, first: Joint, then: Callable[[Mapping[str, Any]], Joint]):
        self.first = first
        self.then = then
        super().__init__(first.batch_shape, validate_args=False)

    @property
    def mode(self) -> dict[str, Any]:
        """The most probable first parts, and the most probable rest given those."""
        first = self.first.mode
        return first | self.then(first).mode

    has_rsample = True

    def sample(self, sample_shape: torch.Size = torch.Size()) -> dict[str, Any]:  # type: ignore[override]
        first = self.first.sample(sample_shape)
        return first | self.then(first).sample()

    def rsample(self, sample_shape: torch.Size = torch.Size()) -> dict[str, Any]:  # type: ignore[override]
        """With gradients, of those parts that have them."""
        first = self.first.rsample(sample_shape)
        return first | self.then(first).rsample()

    def log_probs(self, value: Mapping[str, Any]) -> dict[str, Tensor]:
        """The log probability of each part given those before it, [*] nats."""
        return self.first.log_probs(value) | self.then(value).log_probs(value)

    def log_prob(self, value: Mapping[str, Any]) -> Tensor:  # type: ignore[override]
        return cast(Tensor, sum(self.log_probs(value).values()))
