"""Wrappers around one Gymnasium game: action repeat, hidden entries, parts that are left out, and
images as models read them."""

from collections.abc import Callable, Sequence
from typing import Any, SupportsFloat, cast

import gymnasium
import numpy as np
from gymnasium import spaces
from PIL import Image

from worldmodel.codecs import by_path, is_image
from worldmodel.codecs.spaces import MANY_BYTES, UNSUPPORTED, learnable
from worldmodel.envs.observations import as_pixels, as_read

MOST_CHANNELS = 16  # of pictures: of colours, or of some frames
BRIGHTEST = 255
VELOCITIES = {
    "CartPole": (1, 3),
    "Pendulum": (2,),
    "Acrobot": (4, 5),
    "MountainCar": (1,),
    "MountainCarContinuous": (1,),
}
"""The indices of velocities in observations, by the name (without version) of the
environment's spec: Gymnasium's classic control, as its documentation lists them."""


def velocities_of(env: gymnasium.Env) -> tuple[int, ...]:
    """The indices of the velocities in the observations of `env`, where they are known.

    >>> velocities_of(gymnasium.make("CartPole-v1"))
    (1, 3)
    """
    name = None if env.spec is None else env.spec.name
    if name not in VELOCITIES:
        raise ValueError(
            f"which of {name_of(env)}'s numbers are velocities is not known (it is for "
            f"{', '.join(VELOCITIES)}); hide them by their indices instead"
        )
    return VELOCITIES[name]


class ActionRepeat(gymnasium.Wrapper):
    """Plays every action `times` times, or until the episode ends: the rewards are summed, only
    the last observation is returned."""

    def __init__(self, env: gymnasium.Env, times: int):
        super().__init__(env)
        if times < 1:
            raise ValueError(f"an action is played at least once, got {times} times")
        self.times = times

    def step(self, action: Any) -> tuple[Any, SupportsFloat, bool, bool, dict[str, Any]]:
        """Repeats an action, until the end at most; the rewards are summed."""
        total = 0.0
        for _ in range(self.times):
            observation, reward, terminated, truncated, info = self.env.step(action)
            total += float(reward)
            if terminated or truncated:
                break
        return observation, total, terminated, truncated, info


class HideEntries(gymnasium.ObservationWrapper):
    """Leaves out the numbers with the given indices from observations that are vectors."""

    def __init__(self, env: gymnasium.Env, indices: Sequence[int]):
        super().__init__(env)
        space = env.observation_space
        if not isinstance(space, spaces.Box) or len(space.shape) != 1:
            raise ValueError(
                "only numbers of a vector can be hidden (a Box of one dimension), but "
                f"{name_of(env)} shows {space}"
            )
        size = len(space.low)
        self.kept = np.setdiff1d(np.arange(size), indices)
        if not set(indices) <= set(range(size)) or not len(self.kept):
            raise ValueError(
                f"{name_of(env)} shows {size} numbers, 0 to {size - 1}, and one must remain: "
                f"{', '.join(map(str, indices))} cannot be hidden"
            )
        self.observation_space = spaces.Box(
            space.low[self.kept], space.high[self.kept], dtype=space.dtype.type
        )

    def observation(self, observation: np.ndarray) -> np.ndarray:
        """The vector without what is hidden."""
        return observation[self.kept]

    def restored(self, observation: np.ndarray) -> np.ndarray:
        """A full vector from an observation, with zeros where numbers are hidden."""
        space = cast(spaces.Box, self.env.observation_space)
        whole = np.zeros(space.shape, observation.dtype)
        whole[self.kept] = observation
        return whole


class LeaveOut(gymnasium.ObservationWrapper):
    """Leaves out the parts of observations that cannot be learned from, such as those of `Text`.

    What is left of a Tuple is a Dict, by the places as they were: {"0": ..., "2": ...}.
    """

    def __init__(self, env: gymnasium.Env):
        super().__init__(env)
        old, left = env.observation_space, learnable(env.observation_space)
        if left is None:
            raise ValueError(f"{name_of(env)} shows nothing that can be learned from, but {old}")
        self.observation_space = left
        kept = by_path(left)
        gone = {
            path: _kind_of(part)
            for path, part in by_path(old).items()
            if path not in kept and not isinstance(part, spaces.Dict | spaces.Tuple)
        }
        parts, are = ("part", "is") if len(gone) == 1 else ("parts", "are")
        self.note = (
            f"the {parts} {', '.join(map(repr, gone))} {are} left out: nothing is learned from "
            f"values of {', '.join(dict.fromkeys(gone.values()))}"
        )

    def observation(self, observation: Any) -> Any:
        return as_read(self.observation_space, observation)


def _kind_of(space: spaces.Space) -> str:
    """The name of what kind of space cannot be learned from."""
    kinds = (kind for kind in UNSUPPORTED if isinstance(space, kind))
    return next(kinds, type(space)).__name__


class Images(gymnasium.ObservationWrapper):
    """Resizes the images among the observations, wherever they are nested, or makes them gray.

    They become bytes with channels last: [H, W] is [H, W, 1], [C, H, W] is [H, W, C], frames
    [N, H, W, C] are [H, W, N C]; floats are brightness from 0 to 1. What came as a stack of frames
    is gray already. Neither resized nor made gray, only those change that models could not read.
    """

    def __init__(self, env: gymnasium.Env, size: int | None = None, grayscale: bool = False):
        """size: of both sides, in pixels; None: as they are."""
        super().__init__(env)
        if size is not None and size < 1:
            raise ValueError(f"an image has at least one pixel a side, got a size of {size}")
        self.size = size
        self.grayscale = grayscale
        old = env.observation_space
        self._chosen = is_misshapen if size is None and not grayscale else is_picture
        by_name = {path: part for path, part in by_path(old).items() if self._chosen(part)}
        if not by_name:
            raise ValueError(
                f"{name_of(env)} shows no images (uint8, height by width by channels), but {old}: "
                "nothing can be resized or made gray; pixels show it rendered instead"
            )
        misshapen = [
            f"{path!r} {part.dtype} {part.shape}".removeprefix("'' ")
            for path, part in by_name.items()
            if is_misshapen(part)
        ]
        self.note = ""
        if misshapen:
            self.note = f"read as images, uint8 (height, width, channels): {', '.join(misshapen)}"
        self.observation_space = _map_spaces(self._space, old)
        self._change = _for_values(self._changing, old)

    def observation(self, observation: Any) -> Any:
        """The observation with its images as they are read."""
        return self._change(observation)

    def _changing(self, space: spaces.Space) -> Callable[[Any], Any]:
        """The change of values of one space."""
        if not self._chosen(space):
            return _same
        shape, wanted = cast(Any, space.shape), cast(Any, picture_shape(space))
        is_stack = shape != wanted and wanted[2] not in (1, 3)
        gray = self.grayscale and not is_stack and wanted[2] in (1, 3, 4)

        def change(value: Any) -> np.ndarray:
            image = as_pixels(np.asarray(value), shape, wanted)
            return _resized(_grayed(image) if gray else image, self.size)

        return change

    def _space(self, space: Any) -> spaces.Space:
        if not self._chosen(space):
            return space
        brightest = self._changing(space)(space.high)
        return spaces.Box(0, brightest.max(), brightest.shape, np.uint8)


def picture_shape(space: spaces.Space) -> tuple[int, ...] | None:
    """The shape [H, W, C] of the images that values of a space are; None where they are none.

    Images are [H, W, C], [H, W], and, if these are many numbers, [C, H, W], or [N, H, W, C] of N
    frames; of bytes, of other integers from 0 to 255, or of floats from 0 to 1.

    >>> picture_shape(spaces.Box(0, 1, (4, 84, 84))), picture_shape(spaces.Box(0, 1, (84,)))
    ((84, 84, 4), None)
    """
    if not isinstance(space, spaces.Box) or not space.low.size or space.low.any():
        return None
    most = {"f": 1, "i": BRIGHTEST, "u": BRIGHTEST}.get(space.dtype.kind)
    is_many = space.low.size >= MANY_BYTES
    if space.dtype != np.uint8 and not (is_many and (space.high == most).all()):
        return None
    shape = space.shape
    if len(shape) == 2:
        shape = (*shape, 1)
    elif len(shape) == 3 and is_many and shape[0] < min(shape[1:]):
        shape = (*shape[1:], shape[0])
    elif len(shape) == 4 and shape[0] < min(shape[1:3]):
        shape = (*shape[1:3], shape[0] * shape[3])
    brightest = int(space.high.max()) if space.dtype == np.uint8 else BRIGHTEST
    if len(shape) != 3 or shape[2] > MOST_CHANNELS:
        return None
    is_one = (
        is_image(spaces.Box(0, brightest, shape, np.uint8))
        and (space.high == space.high.max()).all()
    )
    return shape if is_one else None


def readable_space(space: spaces.Space) -> spaces.Space:
    """The space as models can read it, as far as it can be made so by `LeaveOut` and `Images`."""

    def turned(part: Any) -> spaces.Space:
        shape = picture_shape(part) if is_misshapen(part) else None
        if shape is None:
            return cast(spaces.Space, part)
        brightest = part.high.max() if part.dtype == np.uint8 else BRIGHTEST
        return spaces.Box(0, brightest, shape, np.uint8)

    return _map_spaces(turned, learnable(space) or space)


def is_picture(space: spaces.Space) -> bool:
    """True if its values are images."""
    return picture_shape(space) is not None


def is_misshapen(space: spaces.Space) -> bool:
    """True of pictures that models read only as bytes with channels last."""
    if not is_picture(space) or int(np.prod(cast(Any, space.shape))) < MANY_BYTES:
        return False
    return space.dtype != np.uint8 or picture_shape(space) != space.shape


def _grayed(image: np.ndarray) -> np.ndarray:
    """[H, W, C] -> [H, W]; luma of ITU-R 601, transparency left out."""
    if image.shape[2] == 1:
        return image[..., 0]
    return np.asarray(Image.fromarray(np.ascontiguousarray(image[..., :3])).convert("L"))


def _resized(image: np.ndarray, size: int | None) -> np.ndarray:
    """[H, W, C] or [H, W] -> [size, size, C]; each pixel is the mean of what it covers."""
    image = image[..., None] if image.ndim == 2 else image
    if size is None or image.shape[:2] == (size, size):
        return np.ascontiguousarray(image)
    channels = image.shape[2]
    if channels not in (
        1,
        3,
    ):  # a fourth one Pillow takes for transparency, and weighs others by it
        return np.concatenate([_resized(part, size) for part in np.split(image, channels, 2)], 2)
    flat = image[..., 0] if image.shape[2] == 1 else image
    resized = Image.fromarray(np.ascontiguousarray(flat)).resize(
        (size, size), Image.Resampling.BOX
    )
    return np.asarray(resized).reshape(size, size, image.shape[2])


def _map_spaces(
    function: Callable[[spaces.Space], spaces.Space], space: spaces.Space
) -> spaces.Space:
    """Applies `function` to the leaves of a nested space."""
    if isinstance(space, spaces.Dict):
        return spaces.Dict({key: _map_spaces(function, part) for key, part in space.items()})
    if isinstance(space, spaces.Tuple):
        return spaces.Tuple([_map_spaces(function, part) for part in space])
    return function(space)


def _for_values(
    choose: Callable[[spaces.Space], Callable[[Any], Any]], space: spaces.Space
) -> Callable[[Any], Any]:
    """A function of values of a nested space, from those that `choose` gives for its leaves."""
    if isinstance(space, spaces.Dict):
        by_key = {key: _for_values(choose, part) for key, part in space.items()}
        return lambda value: {key: function(value[key]) for key, function in by_key.items()}
    if isinstance(space, spaces.Tuple):
        each = [_for_values(choose, part) for part in space]
        return lambda value: tuple(f(part) for f, part in zip(each, value, strict=True))
    return choose(space)


def _same(value: Any) -> Any:
    return value


def name_of(env: gymnasium.Env) -> str:
    """The name of an environment: its id, where it has one."""
    return str(env.unwrapped if env.spec is None else env.spec.id)
