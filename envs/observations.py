"""Observations and actions between Gymnasium's arrays and the tensors of rows, nested or not."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor

from worldmodel import nested
from worldmodel.codecs import is_binary, is_image
from worldmodel.codecs.spaces import parts_of

LARGEST = float(np.finfo(np.float32).max)


class InvalidValueError(ValueError):
    """A value from an environment that is invalid, and that no model can read; one sentence."""


def check_values(space: spaces.Space, values: Any, path: str = "") -> None:
    """Refuses observations [n, ...] that are not numbers, or are none of those of `space`.

    Floats may leave the bounds of their Box, as those of many environments do.
    """
    for key, part in parts_of(space).items():
        check_values(part, values[key], f"{path}.{key}" if path else str(key))
    if parts_of(space):
        return
    array = np.asarray(values)
    if array.dtype.kind == "f":
        invalid = ~np.isfinite(array)
    else:
        low, high = _bounds(space)
        invalid = (array < low) | (array > high)
    if invalid.any():
        where = f" under the key {path!r}" if path else ""
        raise InvalidValueError(
            f"the environment showed {array[invalid][0]}{where}, which is no value of its "
            f"observation space {space}: fix the environment, or its space"
        )


def check_rewards(rewards: np.ndarray) -> None:
    """Refuses rewards [n] that are no numbers, or none that models could hold."""
    fits = np.abs(rewards) <= LARGEST  # False of NaN, too
    if not fits.all():
        raise InvalidValueError(
            f"the environment gave the reward {rewards[~fits][0]}: fix it, or "
            "wrap it in gymnasium.wrappers.TransformReward"
        )


def checked_actions(space: spaces.Space, actions: Any) -> Tensor:
    """Actions [n, ...] as a tensor, once they are values of the batched `space`; floats may leave
    the bounds of their Box, and may stand for whole numbers.

    >>> checked_actions(spaces.MultiDiscrete([5, 5]), [4, 0])
    tensor([4, 0])
    """
    array = np.asarray(actions)
    fits = array.shape == space.shape and array.dtype.kind in "biuf"
    fits = fits and bool(np.isfinite(array).all())
    if fits and np.issubdtype(space.dtype, np.integer):  # type: ignore[arg-type]
        low, high = _bounds(space)
        fits = bool(((array >= low) & (array <= high) & (array % 1 == 0)).all())
    if not fits:
        raise ValueError(
            f"actions are values of {space}, got {array.tolist()} ({array.dtype}, shape "
            f"{array.shape}); pass what action_space.sample() gives"
        )
    return torch.as_tensor(array)


def _bounds(space: spaces.Space) -> tuple[Any, Any]:
    """The lowest and the highest value of a space of integers."""
    if isinstance(space, spaces.Discrete):
        return space.start, space.start + space.n - 1
    if isinstance(space, spaces.MultiDiscrete):
        return space.start, space.start + space.nvec - 1
    return (space.low, space.high) if isinstance(space, spaces.Box) else (0, 1)


def as_read(space: spaces.Space, values: Any, is_one: bool = True) -> Any:
    """An observation, or several side by side, as `space` has them: without parts that it lacks
    (of a tuple, it names those that it has by their places), and with images as bytes [H, W, C].
    Values of any other structure stay as they are.

    >>> as_read(spaces.Dict(asked=spaces.Discrete(3)), {"asked": 2, "why": "it was there"})
    {'asked': 2}
    """
    parts = parts_of(space)
    found = _parts_in(space, values)
    if parts and found is not None:
        read = {key: as_read(part, found[key], is_one) for key, part in parts.items()}
        return tuple(read.values()) if isinstance(space, spaces.Tuple) else read
    if not parts and _is_of_bytes(space):
        array = np.asarray(values)
        wanted: Any = space.shape
        shape = _shape_of_images(array.shape, wanted, is_one)
        return values if shape is None else as_pixels(array, shape, wanted)
    return values


def is_one(space: spaces.Space, values: Any) -> bool:
    """True if an observation is one, and not several side by side, of `space`, as `as_read` reads
    them. An array (1, H, W) alone is grey images [H, W], of one game.

    >>> is_one(spaces.Box(0, 1, (3,)), np.zeros((5, 3)))
    False
    """
    return not _is_of(space, values, False) and _is_of(space, values, True)


def _is_of(space: spaces.Space, values: Any, is_one: bool) -> bool:
    """True if values have as many dimensions as one of `space`, or one more, wherever they are."""
    if parts := parts_of(space):
        found = _parts_in(space, values)
        return found is not None and all(_is_of(p, found[key], is_one) for key, p in parts.items())
    if _is_of_bytes(space):
        return _shape_of_images(np.shape(values), space.shape, is_one) is not None  # type: ignore[arg-type]
    return np.ndim(values) == len(space.shape or ()) + (not is_one)


def _is_of_bytes(space: spaces.Space) -> bool:
    return is_image(space) and not is_binary(space)


def _parts_in(space: spaces.Space, values: Any) -> Mapping[Any, Any] | None:
    """The values of the parts of a space, among others; None where they are not there."""
    parts = parts_of(space)
    if isinstance(values, tuple | list):
        named = isinstance(space, spaces.Dict)
        values = {str(place) if named else place: value for place, value in enumerate(values)}
        if not named and len(values) != len(parts):
            return None
    return values if isinstance(values, Mapping) and parts.keys() <= values.keys() else None


def _shape_of_images(
    found: tuple[int, ...], shape: tuple[int, ...], is_one: bool
) -> tuple[int, ...] | None:
    """The dimensions of one image of `shape` [H, W, C] in an array of one or of several, in this
    order or in another that `as_pixels` knows; None where there is none."""
    height, width, channels = shape
    one = found if is_one else found[1:]
    orders = [shape, (channels, height, width)] + [(height, width)] * (channels == 1)
    is_stack = len(one) == 4 and one[1:3] == (height, width) and one[0] * one[3] == channels
    return one if one in orders or is_stack else None


def as_pixels(images: np.ndarray, shape: tuple[int, ...], wanted: tuple[int, ...]) -> np.ndarray:
    """Images [*, *shape] as bytes [*, *wanted], which is [*, H, W, C].

    shape: [H, W, C], [C, H, W], [H, W], or [N, H, W, c], of N frames, C = N c. Floats are
    brightness from 0 to 1. What is no image, such as NaN, is not turned into bytes.
    """
    if shape != wanted and len(shape) == 2:
        images = images[..., None]
    elif shape != wanted and len(shape) == 3:
        images = np.moveaxis(images, -3, -1)
    elif shape != wanted:
        images = np.moveaxis(images, -4, -2).reshape(*images.shape[:-4], *wanted)
    kind = images.dtype.kind
    if kind == "f" and np.isfinite(images).all():
        return np.rint(255 * images.clip(0, 1)).astype(np.uint8)
    is_wide = kind in "iu" and images.dtype != np.uint8
    if is_wide and ((images >= 0) & (images <= 255)).all():
        return images.astype(np.uint8)
    return images


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
    """Member `game` of n members of `space`: arrays even of a single number, where a Box."""
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
    array = values.detach().cpu().numpy()
    if isinstance(space, spaces.Box):
        if np.issubdtype(space.dtype, np.integer) and array.dtype.kind == "f":
            array = np.rint(array)
        array = array.clip(space.low, space.high)
    return array.astype(space.dtype)
