"""Dictionaries and tuples of independent parts."""

from collections.abc import Callable, Mapping
from typing import Any, cast

import torch
from torch import Tensor, distributions as td


def draw(distribution: td.Distribution) -> Any:
    """Draws a sample; with gradients where they are recorded and the distribution has them."""
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
        shapes = [part.batch_shape for part in self.parts.values()] or [torch.Size()]
        super().__init__(shapes[0], validate_args=False)

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
        """True if any part has draws with gradients."""
        return any(part.has_rsample for part in self.parts.values())

    def sample(self, sample_shape: torch.Size = torch.Size()) -> Any:
        return self._each(lambda part: part.sample(sample_shape))

    def rsample(self, sample_shape: torch.Size = torch.Size()) -> Any:
        """Draws with gradients, of those parts that have them."""

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
