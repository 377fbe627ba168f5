"""Wrappers around one Gymnasium game: action repeat, hidden entries, resized images."""

from collections.abc import Callable, Sequence
from typing import Any, SupportsFloat, cast

import gymnasium
import numpy as np
from gymnasium import spaces
from PIL import Image

from worldmodel.codecs import by_path, is_image
from worldmodel.codecs.spaces import MANY_BYTES

CHANNELS = (1, 3, 4)  # of pictures: gray, colours, and colours with transparency or four frames
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
        return observation[self.kept]

    def restored(self, observation: np.ndarray) -> np.ndarray:
        """A full vector from an observation, with zeros where numbers are hidden."""
        space = cast(spaces.Box, self.env.observation_space)
        whole = np.zeros(space.shape, observation.dtype)
        whole[self.kept] = observation
        return whole


class Images(gymnasium.ObservationWrapper):
    """Resizes the images among the observations, wherever they are nested, or makes them gray.

    Channels become last: [H, W] is [H, W, 1], and [C, H, W] is [H, W, C]; C = 4 are a stack of
    frames, which are gray already. Neither resized nor made gray, only those change that models
    could not read.
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
        if not any(map(self._chosen, by_path(old).values())):
            raise ValueError(
                f"{name_of(env)} shows no images (uint8, height by width by channels), but {old}: "
                "nothing can be resized or made gray; pixels show it rendered instead"
            )
        self.observation_space = _map_spaces(self._space, old)
        self._change = _for_values(lambda s: self._image if self._chosen(s) else _same, old)

    def observation(self, observation: Any) -> Any:
        return self._change(observation)

    def _space(self, space: Any) -> spaces.Space:
        if not self._chosen(space):
            return space
        shape = self._image(space.high).shape
        return spaces.Box(0, space.high.max(), shape, np.uint8)

    def _image(self, value: np.ndarray) -> np.ndarray:
        image = _channels_last(value)
        stack = len(value) == 4 == image.shape[2]
        return _resized(_grayed(image) if self.grayscale and not stack else image, self.size)


def is_picture(space: spaces.Space) -> bool:
    """True if its values are images, [H, W, C] or [C, H, W] with 1, 3 or 4 channels, or [H, W]."""
    if not isinstance(space, spaces.Box) or space.dtype != np.uint8:
        return False
    image = spaces.Box(_channels_last(space.low), _channels_last(space.high), dtype=np.uint8)
    return is_image(image) and image.shape[2] in CHANNELS


def is_misshapen(space: spaces.Space) -> bool:
    """True of pictures that models read only with their channels last."""
    many = space.shape is not None and int(np.prod(space.shape)) >= MANY_BYTES
    return many and is_picture(space) and not is_image(space)


def _channels_last(image: np.ndarray) -> np.ndarray:
    """[H, W], [C, H, W], if these are many numbers, or [H, W, C] -> [H, W, C]."""
    if image.ndim == 2:
        return image[..., None]
    first = image.ndim == 3 and image.shape[0] in CHANNELS and image.shape[2] not in CHANNELS
    return np.moveaxis(image, 0, -1) if first and image.size >= MANY_BYTES else image


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
    if (
        image.shape[2] == 4
    ):  # whose last Pillow takes for transparency, and weighs the others by it
        return np.concatenate([_resized(part, size) for part in np.split(image, 4, 2)], 2)
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
