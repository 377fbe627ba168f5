"""Observations on their way between Gymnasium's arrays and the tensors of rows, nested or not."""

from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor

from worldmodel import nested


def as_tensors(observation: Any, dtype: torch.dtype) -> Any:
    """Copies of arrays as tensors, floats in one `dtype`."""

    def tensor(leaf: Any) -> Tensor:
        array = np.asarray(leaf)
        if array.dtype.kind == "u" and array.itemsize > 1:  # torch hardly computes with these
            array = array.astype(np.int64)
        copied = torch.tensor(array)
        return copied.to(dtype) if copied.is_floating_point() else copied

    return nested.map(tensor, observation)


def pick(space: spaces.Space, arrays: Any, game: int) -> Any:
    """One of n members of `space`: arrays even of a single number, where they are a Box."""
    if isinstance(space, spaces.Dict):
        return {key: pick(part, arrays[key], game) for key, part in space.items()}
    if isinstance(space, spaces.Tuple):
        return tuple(pick(*both, game) for both in zip(space, arrays, strict=True))
    return arrays[game, ...] if isinstance(space, spaces.Box) else arrays[game]


def as_arrays(space: spaces.Space, values: Any) -> Any:
    """Tensors [n, ...] as n members of `space`: of its types, rounded to integers, and clipped to
    its bounds."""
    if isinstance(space, spaces.Dict):
        return {key: as_arrays(part, values[key]) for key, part in space.items()}
    if isinstance(space, spaces.Tuple):
        return tuple(as_arrays(*both) for both in zip(space, values, strict=True))
    array = values.detach().numpy()
    if isinstance(space, spaces.Box):
        if np.issubdtype(space.dtype, np.integer) and array.dtype.kind == "f":
            array = np.rint(array)
        array = array.clip(space.low, space.high)
    return array.astype(space.dtype)
