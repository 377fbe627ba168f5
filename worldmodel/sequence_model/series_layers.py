"""The first and the last layer of models of series."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from worldmodel.codecs import (
    CategoricalHead,
    CountHead,
    DistModule,
    Encoder,
    LocationScaleHead,
    MixedHead,
    NormalHead,
    StudentHead,
)
from worldmodel.distributions import MISSING, Channels
from worldmodel.sequence_model.autoregression import Linear
from worldmodel.sequence_model.series_columns import LEAST_STD, Channel


class SeriesEncoder(Encoder):
    """The values of a row that are there, and which they are: {"value", "state"} [*, C] ->
    float [*, E].

    Numbers as they are, the standardised logarithm of counts, one-hot codes of categories, zeros
    where they are missing; then 1 for each channel that is there. Contexts show what was there
    last instead of those zeros (`carried`).
    """

    has_missing = True
    shift: Tensor
    scale: Tensor
    masks: Tensor

    def __init__(self, channels: Sequence[Channel]):
        super().__init__()
        self.levels = [len(channel.levels) for channel in channels]
        self.counts = [channel.kind == "count" for channel in channels]
        self.size = sum(n or 1 for n in self.levels) + len(channels)
        widths = torch.tensor([n or 1 for n in self.levels])
        masks = (self.size - len(channels) + torch.arange(len(channels))).repeat_interleave(widths)
        self.register_buffer("masks", masks, persistent=False)
        for name, values in (("shift", "mean"), ("scale", "std")):
            numbers = [getattr(c, values) if c.kind == "count" else 0.0 for c in channels]
            self.register_buffer(name, torch.tensor(numbers), persistent=False)

    def carried(self, encodings: Tensor) -> Tensor:
        """Encodings in which what is missing is as it last was, beside the 0 that says so."""
        shown = encodings[..., self.masks] > 0  # [T, B, V]
        times = torch.arange(len(encodings), device=encodings.device)[:, None, None]
        last = torch.where(shown, times, 0).cummax(0).values
        value = encodings[..., : shown.shape[-1]].gather(0, last)
        return torch.cat([value, encodings[..., shown.shape[-1] :]], -1)

    def columns_of(self, place: int) -> np.ndarray:
        """The columns that show a channel."""
        begins = np.cumsum([0, *(n or 1 for n in self.levels)])
        mask = self.size - len(self.levels) + place
        return np.append(np.arange(begins[place], begins[place + 1]), mask)

    def forward(self, x: Any) -> Tensor:
        there = x["state"] != MISSING
        value = torch.where(there, x["value"], 0.0).to(self.shift)
        parts = []
        for place, (levels, is_count) in enumerate(zip(self.levels, self.counts, strict=True)):
            column, shown = value[..., place], there[..., place]
            if levels:
                code = nn.functional.one_hot(column.long(), levels)
                parts.append(code * shown[..., None])
                continue
            if is_count:
                column = (column.log1p() - self.shift[place]) / self.scale[place] * shown
            parts.append(column[..., None])
        return torch.cat([*(part.to(value) for part in parts), there.to(value)], -1)


class SeriesHead(DistModule):
    """The likelihood of a row of `Channels`: Gaussian or Student's t of numbers, those that recur
    exactly with a mass (`MixedHead`), counts, and categories."""

    order: Tensor

    def __init__(self, input_size: int, channels: Sequence[Channel], **options: Any):
        """options: of the heads of numbers, such as minimum_std."""
        super().__init__()
        self.input_size = input_size
        self.channels = tuple(channels)
        found: dict[str, list[int]] = {}
        for place, channel in enumerate(channels):
            kind = channel.kind
            if kind == "number":
                kind = "mixed" if channel.atoms else "student" if channel.tails else "normal"
            found.setdefault(kind, []).append(place)
        self.kinds = tuple(found)
        self.heads = nn.ModuleList(self._head(kind, found[kind], options) for kind in found)
        for number, places in enumerate(found.values()):
            self.register_buffer(f"places_{number}", torch.tensor(places), persistent=False)
        side_by_side = torch.tensor([place for places in found.values() for place in places])
        self.register_buffer("order", side_by_side.argsort(), persistent=False)

    def _head(self, kind: str, places: list[int], options: dict[str, Any]) -> DistModule:
        chosen, shape = [self.channels[place] for place in places], (len(places),)
        if kind == "count":
            return CountHead(self.input_size, shape)
        if kind == "category":
            return CategoricalHead(self.input_size, [len(c.levels) for c in chosen])
        if kind == "mixed":
            head = MixedHead(self.input_size, shape, [list(c.atoms) for c in chosen])
            head.others.fill_(True)  # these are not all that come
            return head
        make = StudentHead if kind == "student" else NormalHead
        return make(self.input_size, shape, **options)

    @property
    def places(self) -> list[Tensor]:
        """The channels of each head."""
        return [getattr(self, f"places_{number}") for number in range(len(self.heads))]

    @property
    def placeholder(self) -> dict[str, Tensor]:
        like = self.order
        return {
            "value": torch.zeros(len(like), device=like.device),
            "state": torch.full_like(like, MISSING, dtype=torch.uint8),
        }

    def forward(self, features: Tensor) -> Channels:
        parts = [head(features).base_dist for head in self.heads]
        return Channels(parts, self.places, self.order)

    @torch.no_grad()
    def begin(self, fits: Sequence[Linear]) -> None:
        """Begins with regressions [C] of the last features, standardised."""
        for head, places in zip(self.heads, self.places, strict=True):
            chosen = [fits[place] for place in places.tolist()]
            body: Any = head.density if isinstance(head, MixedHead) else head
            if isinstance(body, LocationScaleHead):
                _begin(body.parameters_, chosen, [_raw(fit.std) for fit in chosen])
            elif isinstance(body, CountHead):
                scales = [self.channels[place] for place in places.tolist()]
                logs = [
                    Linear(c.std * fit.weights, c.mean + c.std * fit.bias, 1.0)
                    for c, fit in zip(scales, chosen, strict=True)
                ]
                spreads = [
                    -2 * math.log(max(c.std * fit.std, LEAST_STD))
                    for c, fit in zip(scales, chosen, strict=True)
                ]
                _begin(body.parameters_, logs, [min(spread, 3.0) for spread in spreads])


def _begin(layer: nn.Linear, fits: Sequence[Linear], spreads: Sequence[float]) -> None:
    """Sets the rows of means [n], and then those of spreads [n], of a layer; other features tell
    nothing yet."""
    layer.weight.zero_()
    weights = torch.from_numpy(np.stack([fit.weights for fit in fits])).to(layer.weight)
    layer.weight[: len(fits), -weights.shape[1] :] = weights
    layer.bias.copy_(torch.tensor([*(fit.bias for fit in fits), *spreads]))


def _raw(std: float) -> float:
    """The number whose softplus is a standard deviation."""
    std = max(std, LEAST_STD)
    return std + math.log(-math.expm1(-std))
