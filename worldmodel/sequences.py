"""Rows (time steps) and sequences of rows: the two structures that the package exchanges."""

from typing import Any, NamedTuple

import torch
from torch import Tensor

PERCEPT_KEYS = ("observation", "reward", "terminated")


class Row(NamedTuple):
    """An action and what it led to, for a batch of B games.

    On a first row there was no action: action, reward and terminated are placeholders (zero), and
    the observation is the one that a reset gives. An end without `terminated` is a truncation.
    """

    first: Tensor  # bool [B]
    action: Tensor  # float [B, A], the code of `action_codec`
    observation: Any  # [B, ...]
    reward: Tensor  # float [B]
    terminated: Tensor  # bool [B]

    @property
    def percept(self) -> dict[str, Any]:
        """The percept: observation, reward, terminated."""
        return {key: getattr(self, key) for key in PERCEPT_KEYS}


class Sequences(NamedTuple):
    """Rows over time, with masks of those that are valid and of those that are scored."""

    rows: Row  # [T, B, ...]
    mask: Tensor  # bool [T, B]; the valid rows, a prefix of each column
    loss_mask: Tensor  # bool [T, B]; the rows whose likelihood counts, all of them valid

    @classmethod
    def whole(cls, rows: Row) -> "Sequences":
        """Sequences of rows [T, B, ...] that are all valid and scored."""
        everything = torch.ones_like(rows.first)
        return cls(rows, everything, everything)

    @property
    def lengths(self) -> Tensor:
        """The number of valid rows of each column, int64 [B]."""
        return self.mask.sum(0)
