"""Channels of a row some of which are missing, and counts."""

from collections.abc import Sequence

import torch
from torch import Tensor, distributions as td

MISSING, PRESENT, READ = 0, 1, 2
"""The states of a value: neither read nor scored; read and scored; read, but not scored."""
MOST_NATS = 20.0  # log of the largest mean of a count


class Counts(td.Distribution):
    """Independent negative binomials; value: whole numbers from 0 on, float or int [*].

    With mean m and `size` r the variance is m + m^2 / r: a Poisson's for large r.

        log p(x) = log G(x + r) - log G(r) - log x! + r log(r / (r + m)) + x log(m / (r + m))
    """

    arg_constraints = {}  # noqa: RUF012 (nothing is validated here)

    def __init__(self, log_mean: Tensor, log_size: Tensor):
        """log_mean, log_size: [*], or what broadcasts to it."""
        self.log_mean, self.log_size = log_mean.clamp(-MOST_NATS, MOST_NATS), log_size
        shape = torch.broadcast_shapes(log_mean.shape, log_size.shape)
        super().__init__(shape, validate_args=False)

    @property
    def mean(self) -> Tensor:
        return self.log_mean.exp().expand(self.batch_shape)

    @property
    def variance(self) -> Tensor:
        return self.mean + self.mean.square() * (-self.log_size).exp()

    @property
    def mode(self) -> Tensor:
        size = self.log_size.exp()
        return (self.mean * (size - 1) / size).clamp(min=0).floor()

    def sample(self, sample_shape: torch.Size = torch.Size()) -> Tensor:
        shape = self._extended_shape(sample_shape)
        with torch.no_grad():
            size = self.log_size.exp().expand(shape)
            rate = (self.log_size - self.log_mean).exp().expand(shape)
            return torch.poisson(td.Gamma(size, rate, validate_args=False).sample())

    def log_prob(self, value: Tensor) -> Tensor:
        value, size = value.to(self.log_mean.dtype), self.log_size.exp()
        ways = (value + size).lgamma() - size.lgamma() - (value + 1).lgamma()
        total = torch.logaddexp(self.log_size, self.log_mean)
        return ways + size * (self.log_size - total) + value * (self.log_mean - total)


class Channels(td.Distribution):
    """Independent channels some of which are missing; value: a dictionary of `value`, float
    [*, C], and `state`, uint8 [*, C], each `MISSING`, `PRESENT` or `READ`.

    Only what is `PRESENT` is scored, and whatever stands in the place of other values changes
    nothing. All that is drawn is present.
    """

    arg_constraints = {}  # noqa: RUF012 (nothing is validated here)

    def __init__(self, parts: Sequence[td.Distribution], places: Sequence[Tensor], order: Tensor):
        """parts: of batch shape [*, n] each; places: the channels of each, [n]; order: the place
        of each channel among all parts', side by side, [C]."""
        self.parts, self.places, self.order = list(parts), list(places), order
        super().__init__(parts[0].batch_shape[:-1], validate_args=False)

    def _whole(self, values: Sequence[Tensor]) -> dict[str, Tensor]:
        kind = next((v.dtype for v in values if v.is_floating_point()), torch.get_default_dtype())
        value = torch.cat([each.to(kind) for each in values], -1)[..., self.order]
        return {"value": value, "state": torch.full_like(value, PRESENT, dtype=torch.uint8)}

    @property
    def mode(self) -> dict[str, Tensor]:
        return self._whole([part.mode for part in self.parts])

    def sample(self, sample_shape: torch.Size = torch.Size()) -> dict[str, Tensor]:  # type: ignore[override]
        return self._whole([part.sample(sample_shape) for part in self.parts])

    def log_probs(self, value: dict[str, Tensor]) -> Tensor:
        """The log probability of each channel, [*, C] nats, zero where it is not scored."""
        scored = value["state"] == PRESENT
        shown = torch.where(scored, value["value"], 0.0)
        found = [
            part.log_prob(shown[..., place])
            for part, place in zip(self.parts, self.places, strict=True)
        ]
        return torch.where(scored, torch.cat(found, -1)[..., self.order], 0.0)

    def log_prob(self, value: dict[str, Tensor]) -> Tensor:  # type: ignore[override]
        return self.log_probs(value).sum(-1)
