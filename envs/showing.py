"""Rendering of games from rows, real or dreamt.

A dream has no state that an environment could render, but it has observations. From these come
pictures: the images among them, a renderer that is set to the state that they describe, or
their numbers as bars over time.
"""

import colorsys
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple, cast

import gymnasium
import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from torch import Tensor

from worldmodel import Row, nested
from worldmodel.codecs import by_path, is_image
from worldmodel.codecs.clamp import BoxClamp, Clamp, JointClamp
from worldmodel.envs.toy_game import INK, PAPER, font
from worldmodel.envs.wrappers import HideEntries, name_of

Frame = NDArray[np.uint8]  # [H, W, 3]


def _pendulum(env: Any, observation: NDArray[np.floating]) -> None:
    env.state = np.array([np.arctan2(observation[1], observation[0]), observation[2]])
    env.last_u = None


def _acrobot(env: Any, observation: NDArray[np.floating]) -> None:
    angles = np.arctan2(observation[[1, 3]], observation[[0, 2]])
    env.state = np.concatenate([angles, observation[4:]])


def _as_it_is(env: Any, observation: NDArray[np.floating]) -> None:
    env.state = np.asarray(observation, np.float64)


POSES: dict[str, Callable[[Any, NDArray[np.floating]], None]] = {
    "CartPole": _as_it_is,
    "Pendulum": _pendulum,
    "Acrobot": _acrobot,
    "MountainCar": _as_it_is,
    "MountainCarContinuous": _as_it_is,
}
"""The setters of an environment's state from an observation, by the name (without
version) of its spec: Gymnasium's classic control, as its sources read `state` when they render."""

ACTION_NAMES: dict[str, tuple[str, ...]] = {
    "CartPole": ("left", "right"),
    "Acrobot": ("left", "noop", "right"),
    "MountainCar": ("left", "noop", "right"),
    "LunarLander": ("noop", "left", "up", "right"),
    "FrozenLake": ("left", "down", "right", "up"),
    "CliffWalking": ("up", "right", "down", "left"),
    "Taxi": ("down", "up", "right", "left", "pick up", "drop"),
    "Blackjack": ("stick", "hit"),
    "Pendulum": ("torque",),
    "MountainCarContinuous": ("push",),
}
"""The names of discrete actions, or of the numbers of others, by the name of an environment's
spec, as their documentation lists them. An environment of one's own names them by a method
`get_action_meanings`, as those of Atari do."""


def action_names(env: gymnasium.Env) -> tuple[str, ...]:
    """The names of an environment's discrete actions, or of the numbers of others, in lower case
    and in their order; () where they are unknown.

    >>> action_names(gymnasium.make("CartPole-v1"))
    ('left', 'right')
    """
    meanings = getattr(env.unwrapped, "get_action_meanings", None)
    if meanings is not None:
        return tuple(str(name).lower() for name in meanings())
    return ACTION_NAMES.get("" if env.spec is None else env.spec.name, ())


OBSERVATION_NAMES: dict[str, tuple[str, ...]] = {
    "CartPole": ("position", "velocity", "angle [rad]", "angular velocity [rad/s]"),
    "Pendulum": ("cos(angle)", "sin(angle)", "angular velocity [rad/s]"),
    "Acrobot": (
        *("cos(first angle)", "sin(first angle)", "cos(second angle)", "sin(second angle)"),
        *("first velocity [rad/s]", "second velocity [rad/s]"),
    ),
    "MountainCar": ("position", "velocity"),
    "MountainCarContinuous": ("position", "velocity"),
    "LunarLander": (
        *("x", "y", "velocity in x", "velocity in y", "angle [rad]", "angular velocity"),
        *("left leg touches", "right leg touches"),
    ),
}
"""The names of the numbers of observations, as `ACTION_NAMES`. An environment of one's own names
them by a method `get_observation_meanings`: names in their order, with units if it likes, or, for
a Dict or a Tuple, such a sequence by key path ("arm.0")."""


def number_names(env: gymnasium.Env) -> dict[str, tuple[str, ...]]:
    """The names of the numbers of observations by key path ("" where these have no parts), as far
    as they are known.

    >>> number_names(gymnasium.make("MountainCar-v0"))
    {'': ('position', 'velocity')}
    """
    meanings = getattr(env.unwrapped, "get_observation_meanings", None)
    found = OBSERVATION_NAMES.get(_spec_name(env), ()) if meanings is None else meanings()
    by_part = found if isinstance(found, Mapping) else {"": found} if found else {}
    names = {str(path): tuple(map(str, those)) for path, those in by_part.items()}
    hidden = _hidden(env)
    if hidden is not None and len(names.get("", ())) > hidden.kept.max():
        names[""] = tuple(names[""][place] for place in hidden.kept)
    return names


class PoseView:
    """Draws vectors by the environment's own renderer, set to the state that they describe.

    A `View` of rows (see `View`), whose state is the last observation, [B, n];
    before the first row it is zero.
    """

    modes: tuple[str, ...] = ("rgb_array",)

    def __init__(self, env: gymnasium.Env):
        """env: of one's own, with the render mode rgb_array; `can_pose` checks whether it fits."""
        if not can_pose(env):
            raise ValueError(
                f"how {name_of(env)} is drawn from what it shows is not known (it is for "
                f"{', '.join(POSES)}, unless other wrappers change the observation)"
            )
        env.reset(seed=0)
        self.env = env
        self.pose = POSES[_spec_name(env)]
        self.hidden = _hidden(env)

    def initial_state(self, batch_size: int) -> Tensor:
        """The state before the first rows of B games."""
        return torch.zeros(batch_size, *cast(spaces.Box, self.env.observation_space).shape)

    def step(self, row: Row, state: Tensor) -> Tensor:
        """The observations after a row [B, ...]."""
        return cast(Tensor, row.observation)

    def draw(self, state: Tensor, mode: str) -> list[Frame]:
        """Draws every game, uint8 [H, W, 3]."""
        _check_mode(self, mode)
        return [self._drawn(observation) for observation in state.double().numpy()]

    def _drawn(self, observation: NDArray[np.floating]) -> Frame:
        if self.hidden is not None:
            observation = self.hidden.restored(observation)
        self.pose(self.env.unwrapped, observation)
        return np.asarray(self.env.render(), np.uint8)


def can_pose(env: gymnasium.Env) -> bool:
    """True if `env` can be set to the state that one of its observations describes: it is
    registered here, and no wrapper but `HideEntries` changes its observations."""
    if _spec_name(env) not in POSES or env.render_mode != "rgb_array":
        return False
    hidden = _hidden(env)
    shown = env if hidden is None else hidden.env
    return bool(shown.observation_space == env.unwrapped.observation_space)


def _spec_name(env: gymnasium.Env) -> str:
    return "" if env.spec is None else env.spec.name


def _hidden(env: gymnasium.Env) -> HideEntries | None:
    while isinstance(env, gymnasium.Wrapper):
        if isinstance(env, HideEntries):
            return env
        env = env.env
    return None


# Observations as they are: images side by side, numbers as bars over time.

FAINT = (226, 226, 221)
BAR = (0, 114, 178)
REMEMBERED = 64  # rows over which bars are drawn
LABELS, STRIP, VALUES = 176, 256, 70  # pixels: the three columns
LINE = 26  # pixels, the height of a number's strip
MOST = 24  # numbers that are drawn
SIDE = 128  # pixels, at least, of an image beside bars


class Number(NamedTuple):
    """A number of an observation, with its label and range."""

    label: str
    low: float  # of its strip
    high: float


class Shown(NamedTuple):
    """The state of an `ObservationView`."""

    images: tuple[Tensor, ...]  # [B, H, W, C] each
    numbers: Tensor  # [B, REMEMBERED, N], the newest last


class ObservationView:
    """Draws observations of any space: the images among them side by side, and below, labelled,
    each number as a strip of bars over the last rows. One image alone is drawn as it is.

    A `View` of rows, whose state holds the images of the last row and the numbers of the last
    `REMEMBERED` rows; those that are not there are NaN.
    """

    def __init__(
        self,
        space: spaces.Space,
        clamp: Clamp | None = None,
        names: Mapping[str, Sequence[str]] = MappingProxyType({}),
    ):
        """clamp: of the model (`Percepts.clamp`): the range of numbers in real data, which strips
        span; without it, or where it has none, the bounds of the space; names: of numbers, by key
        path (`number_names`)."""
        self.space = space
        self.images = {path: part for path, part in _ends(space) if is_image(part)}
        self.numbers = tuple(_numbers(space, clamp, names))
        self.is_picture = set(self.images) == {""}
        self.modes: tuple[str, ...] = ("rgb_array",) if self.images else ("rgb_array", "ansi")

    def initial_state(self, batch_size: int) -> Shown:
        """The state before the first rows of B games."""
        images = tuple(
            torch.zeros(batch_size, *cast(Any, part.shape), dtype=torch.uint8)
            for part in self.images.values()
        )
        nothing = torch.full((batch_size, REMEMBERED, len(self.numbers)), torch.nan)
        return Shown(images, nothing)

    def step(self, row: Row, state: Shown) -> Shown:
        """The observations after a row [B, ...]."""
        leaves = dict(_leaves(self.space, row.observation))
        images = tuple(leaves.pop(path) for path in self.images)
        parts = [
            leaf.float().flatten(1) if leaf.dim() > 1 else leaf.float()[:, None]
            for leaf in leaves.values()
        ]
        now = torch.cat([state.numbers[:, 0, :0], *parts], 1)[:, None]  # [B, 1, N]
        before = state.numbers.masked_fill(row.first[:, None, None], torch.nan)[:, 1:]
        return Shown(images, torch.cat([before, now], 1))

    def draw(self, state: Shown, mode: str) -> list[Any]:
        """Draws every game."""
        _check_mode(self, mode)
        games = range(len(state.numbers))
        if mode == "ansi":
            return [self._text(state.numbers[game, -1].tolist()) for game in games]
        return [self._drawn(nested.index(state, game)) for game in games]

    def _drawn(self, game: Shown) -> Frame:
        pictures = [as_picture(image) for image in game.images]
        if self.is_picture:
            return pictures[0]
        parts = [_side_by_side(pictures)] if pictures else []
        if self.numbers:
            parts.append(_bars(self.numbers, game.numbers.numpy()))
        return _stacked(parts)

    def _text(self, values: list[float]) -> str:
        width = max((len(number.label) for number in self.numbers), default=0)
        lines = [
            f"{number.label:{width}} {meter(value, number)} {value:9.4g}"
            for number, value in zip(self.numbers[:MOST], values, strict=False)
        ]
        more = len(self.numbers) - MOST
        return "\n".join(lines + [f"and {more} numbers more"] * (more > 0))


def meter(value: float, number: Number, width: int = 12) -> str:
    """A value between the ends of its number's strip, as text.

    >>> meter(0.5, Number("x", 0.0, 1.0), width=9)
    '────●────'
    """
    share = (value - number.low) / (number.high - number.low)
    place = round((width - 1) * min(1.0, max(0.0, share))) if np.isfinite(share) else 0
    return "─" * place + "●" + "─" * (width - 1 - place)


def as_picture(image: Any) -> Frame:
    """An image of the kinds of `is_image`, [H, W, C], as uint8 [H, W, 3]."""
    array = np.asarray(image)
    if array.dtype == bool or (array.dtype == np.int8):
        if array.shape[-1] > 3:
            return _planes(array > 0)
        array = array.astype(np.uint8) * 255
    array = array.clip(0, 255).astype(np.uint8)
    return array[..., :3] if array.shape[-1] >= 3 else array[..., :1].repeat(3, -1)


def _planes(image: NDArray[np.bool_]) -> Frame:
    """Planes of truth values [H, W, C], each of a colour of its own, the last one on top."""
    count = image.shape[-1]
    colours = [colorsys.hsv_to_rgb(plane / count, 0.7, 1.0) for plane in range(count)]
    top = count - 1 - image[..., ::-1].argmax(-1)
    picture = np.rint(255 * np.array(colours))[top]
    return np.where(image.any(-1, keepdims=True), picture, 0).astype(np.uint8)


def _check_mode(view: Any, mode: str) -> None:
    if mode not in view.modes:
        raise ValueError(f"this is drawn as {' or '.join(view.modes)}, not as {mode!r}")


def _ends(space: spaces.Space) -> Iterator[tuple[str, spaces.Space]]:
    """The spaces without parts, by key path."""
    return (
        (path, part)
        for path, part in by_path(space).items()
        if not isinstance(part, spaces.Dict | spaces.Tuple)
    )


def _leaves(space: spaces.Space, value: Any, path: str = "") -> Iterator[tuple[str, Tensor]]:
    """The leaves [B, ...] of observations by key path, in the order of `by_path`."""
    if isinstance(space, spaces.Dict | spaces.Tuple):
        parts = space.items() if isinstance(space, spaces.Dict) else enumerate(space)
        for key, part in parts:
            yield from _leaves(part, value[key], f"{path}.{key}" if path else str(key))
    else:
        yield path, value


def _numbers(
    space: spaces.Space, clamp: Clamp | None, names: Mapping[str, Sequence[str]], path: str = ""
) -> Iterator[Number]:
    if isinstance(space, spaces.Dict | spaces.Tuple):
        parts = space.items() if isinstance(space, spaces.Dict) else enumerate(space)
        inner = dict(clamp.parts.items()) if isinstance(clamp, JointClamp) else {}
        for key, part in parts:
            below = f"{path}.{key}" if path else str(key)
            yield from _numbers(part, inner.get(key), names, below)
        return
    if is_image(space):
        return
    low, high = (np.asarray(end, float).ravel() for end in _ends_of(space, clamp))
    given = names.get(path, ())
    for place, (least, most) in enumerate(zip(low.tolist(), high.tolist(), strict=True)):
        label = path or "observation"
        label = f"{label} {place}" if len(low) > 1 else label
        label = given[place] if len(given) == len(low) else label
        span = (least, most) if np.isfinite([least, most]).all() and most > least else (-1.0, 1.0)
        yield Number(label, *span)


def _ends_of(space: Any, clamp: Clamp | None) -> tuple[Any, Any]:
    """The least and the greatest of each number of a space that is made of no others."""
    if isinstance(space, spaces.Discrete):
        return space.start, space.start + space.n - 1
    if isinstance(space, spaces.MultiDiscrete):
        return space.start, space.start + space.nvec - 1
    if isinstance(space, spaces.MultiBinary):
        return np.zeros(space.shape), np.ones(space.shape)
    if isinstance(clamp, BoxClamp) and bool((clamp.seen[1] > clamp.seen[0]).any()):
        return clamp.seen[0].cpu().numpy(), clamp.seen[1].cpu().numpy()
    return space.low, space.high


def _bars(numbers: Sequence[Number], values: NDArray[np.floating]) -> Image.Image:
    """A line for each number, values [t, n]: label, strip of bars over time, value."""
    shown = numbers[:MOST]
    more = len(numbers) - len(shown)
    height = LINE * (len(shown) + (more > 0))
    image = Image.new("RGB", (LABELS + STRIP + VALUES, height), PAPER)
    pen = ImageDraw.Draw(image)
    for place, number in enumerate(shown):
        _draw_strip(pen, place * LINE, number, values[:, place])
    if more > 0:
        text = f"and {more} numbers more"
        pen.text((LABELS, height - LINE // 2), text, INK, font(13), anchor="lm")
    return image


def _draw_strip(
    pen: ImageDraw.ImageDraw, above: int, number: Number, values: NDArray[np.floating]
) -> None:
    """Draws one number's line: values [t] from zero, or from the end that is nearer to it."""
    top, bottom = above + 3, above + LINE - 4
    middle, width = (top + bottom) // 2, STRIP // REMEMBERED
    pen.text((LABELS - 8, middle), _shortened(number.label), INK, font(13), anchor="rm")
    pen.rectangle((LABELS, top, LABELS + STRIP - 1, bottom), fill=FAINT)
    zero, *shares = ((np.array([0.0, *values]) - number.low) / (number.high - number.low)).tolist()
    zero = min(1.0, max(0.0, zero))
    for time, share in enumerate(shares):
        if np.isfinite(share):
            left = LABELS + time * width
            ends = sorted(
                bottom - part * (bottom - top) for part in (zero, min(1.0, max(0.0, share)))
            )
            pen.rectangle((left, ends[0], left + width - 1, ends[1]), fill=BAR)
    if np.isfinite(values[-1]):
        right = (LABELS + STRIP + 6, middle)
        pen.text(right, f"{values[-1]:.4g}", INK, font(13), anchor="lm")


def _shortened(label: str, most: int = 25) -> str:
    return label if len(label) <= most else "…" + label[1 - most :]


def _side_by_side(pictures: Sequence[Frame]) -> Image.Image:
    """Images, enlarged to a readable size pixel by pixel, in a row."""
    enlarged = [_enlarged(picture) for picture in pictures]
    width = sum(part.width + 8 for part in enlarged) - 8
    image = Image.new("RGB", (width, max(part.height for part in enlarged)), PAPER)
    left = 0
    for part in enlarged:
        image.paste(part, (left, 0))
        left += part.width + 8
    return image


def _enlarged(picture: Frame) -> Image.Image:
    times = max(1, SIDE // max(picture.shape[:2]))
    image = Image.fromarray(np.ascontiguousarray(picture))
    return image.resize((image.width * times, image.height * times), Image.Resampling.NEAREST)


def _stacked(parts: Sequence[Image.Image]) -> Frame:
    """Pictures one below another; an empty one if there are none."""
    if not parts:
        return np.full((LINE, LABELS + STRIP + VALUES, 3), PAPER, np.uint8)
    width = max(part.width for part in parts)
    image = Image.new("RGB", (width, sum(part.height + 8 for part in parts) - 8), PAPER)
    top = 0
    for part in parts:
        image.paste(part, (0, top))
        top += part.height + 8
    return np.asarray(image).copy()
