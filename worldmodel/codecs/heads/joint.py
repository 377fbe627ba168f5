"""The head of values with several parts."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from worldmodel.codecs.base import DistModule, Parts
from worldmodel.distributions import Joint


class JointHead(DistModule):
    """Independent parts that read the same features; value: a dictionary with the parts' keys, or
    a tuple, as the parts are given."""

    def __init__(self, parts: Mapping[str, DistModule] | tuple[DistModule, ...]):
        super().__init__()
        self.parts = Parts(parts)

    @property
    def placeholder(self) -> Any:
        return self.parts.each(lambda part: part.placeholder)

    def forward(self, features: Tensor) -> Joint:
        return Joint(self.parts.each(lambda part: part(features)))

    def standardise(self, values: Any) -> None:
        for key, part in self.parts.items():
            part.standardise(values[key])

    def meet(self, values: Any) -> None:
        for key, part in self.parts.items():
            part.meet(values[key])
