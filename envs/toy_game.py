"""A ring of numbers and a player who observes one at a time: a small game that rewards memory.

The player stands on one cell of a ring of `width` numbers in 0..classes-1, starts on cell 0, and
observes only the number on its cell. It stays, moves right or left around the ring, or turns the
number up or down, modulo `classes`.

    free     a world without reward or end, for predicting only
    copy     cell 0 is home and never changes; the game ends when every cell equals home
    equal    the game ends when all cells are equal, whatever they are equal to

In copy and equal every step costs 1, no game starts solved, and 100 steps are the limit.
Rings are numbered 0..classes**width-1 by reading them as numbers, cell 0 the leading digit.
"""

from collections.abc import Mapping, Sequence
from enum import IntEnum
from functools import cache, lru_cache
from itertools import pairwise
from typing import Any, Literal, get_args

import gymnasium
import numpy as np
from gymnasium.utils import seeding
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from numpy.typing import ArrayLike, NDArray
from PIL import Image, ImageDraw, ImageFont

Task = Literal["free", "copy", "equal"]
TimeLimit = int | Literal["default"] | None
Frame = NDArray[np.uint8] | str

TASKS: tuple[str, ...] = get_args(Task)
RENDER_MODES = ("ansi", "rgb_array")


class Action(IntEnum):
    """The actions of a player, in the order of the action space."""

    NOOP = 0
    RIGHT = 1
    LEFT = 2
    UP = 3
    DOWN = 4


PURPOSES: dict[str, str] = {
    "free": "Walk and turn cells as you like: there is no end. You see your own cell only.",
    "copy": "Turn every cell to equal home, the first one. You see your own cell only.",
    "equal": "Turn the cells until all are equal. You see your own cell only.",
}
"""The purpose of the game, by the task."""

MOVES = np.array([0, 1, -1, 0, 0])  # what each action adds to the position
TURNS = np.array([0, 0, 0, 1, -1])  # what each action adds to the cell


# The rules, for many games at once.


def ring_from_number(number: ArrayLike, width: int, classes: int) -> NDArray[np.int64]:
    """Rings [..., width] of the given numbers [...], cell 0 being the leading digit.

    >>> ring_from_number([0, 5, 80], width=4, classes=3)
    array([[0, 0, 0, 0],
           [0, 0, 1, 2],
           [2, 2, 2, 2]])
    """
    weights = classes ** np.arange(width - 1, -1, -1)
    return np.asarray(number)[..., None] // weights % classes


def number_from_ring(ring: NDArray[np.int64], classes: int) -> NDArray[np.int64]:
    """Numbers [...] of the given rings [..., width], the inverse of `ring_from_number`."""
    return ring @ classes ** np.arange(ring.shape[-1] - 1, -1, -1)


def is_solved(ring: NDArray[np.int64]) -> NDArray[np.bool_]:
    """True where all cells of a ring [..., width] are equal, [...]."""
    return (ring == ring[..., :1]).all(-1)


def fewest_steps(ring: NDArray[np.int64], classes: int, task: str) -> int:
    """The least number of actions that solve a ring [width], by one who sees all of it.

    >>> fewest_steps(np.array([0, 0, 1, 2]), classes=3, task="copy")
    4
    """
    targets = ring[:1] if task == "copy" else np.arange(classes)
    return min(_turns(ring, target, classes) + _walk(ring != target) for target in targets)


def _turns(ring: NDArray[np.int64], target: int, classes: int) -> int:
    """The number of turns, up or down, after which all cells equal the target."""
    return int(np.minimum((ring - target) % classes, (target - ring) % classes).sum())


def _walk(wrong: NDArray[np.bool_]) -> int:
    """The length of the shortest walk from cell 0 through all cells of the mask [width]: around,
    or to one side and back and to the other."""
    width = len(wrong)
    places = [0, *(place for place in np.flatnonzero(wrong).tolist() if place), width]
    walks = ((right, width - left) for right, left in pairwise(places))
    return min(right + left + min(right, left) for right, left in walks)


def play(
    ring: NDArray[np.int64],
    position: NDArray[np.int64],
    action: NDArray[np.int64],
    classes: int,
    task: str,
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rings [B, width] and positions [B] after the actions [B]; nothing is changed in place."""
    turn = TURNS[action]
    if task == "copy":
        turn = turn * (position != 0)
    rows = np.arange(len(ring))
    after = ring.copy()
    after[rows, position] = (ring[rows, position] + turn) % classes
    return after, (position + MOVES[action]) % ring.shape[1]


def check_game(width: int, classes: int, task: str) -> None:
    """Raise a ValueError if a game's parameters are invalid."""
    if width < 2:
        raise ValueError(f"a ring has at least 2 cells, but width={width}")
    if classes < 2:
        raise ValueError(f"a cell has at least 2 values, but classes={classes}")
    if task not in TASKS:
        raise ValueError(f"task is one of {', '.join(TASKS)}, but task={task!r}")
    if classes**width >= 2**62:
        raise ValueError(
            f"rings are numbered in 64 bits, but there are {classes}**{width} of them; "
            "choose a smaller width or fewer classes"
        )


def _check_render_mode(render_mode: str | None) -> None:
    if render_mode is not None and render_mode not in RENDER_MODES:
        raise ValueError(
            f"render_mode is None or one of {', '.join(RENDER_MODES)}, "
            f"but render_mode={render_mode!r}"
        )


def _steps_allowed(time_limit: TimeLimit, task: str) -> int | None:
    if time_limit == "default":
        return None if task == "free" else 100
    if time_limit is not None and (isinstance(time_limit, str) or time_limit < 1):
        raise ValueError(
            'time_limit is a positive number of steps, None (no limit) or "default", '
            f"but time_limit={time_limit!r}"
        )
    return time_limit


def _draw_start(generator: np.random.Generator, width: int, classes: int, task: str) -> int:
    """Number of a ring drawn uniformly from those that a game may start with."""
    rings = classes**width
    if task == "free":
        return int(generator.integers(rings))
    # Solved rings are v * stride, v in 0..classes-1, so the others lie in gaps of stride - 1.
    stride = (rings - 1) // (classes - 1)
    gap, place = divmod(int(generator.integers(rings - classes)), stride - 1)
    return gap * stride + place + 1


# The environments.


class ToyGame(gymnasium.Env[np.int64, np.int64]):
    """The game: one player, one ring, one visible cell.

    `observation` is the value of the player's cell, Discrete(classes); `action` is an `Action`,
    Discrete(5). Rewards are -1 a step (0 in task "free"). `info` holds the full state, for
    drawing and for tests: "ring", [width], and "position". The environment counts its own steps
    and truncates after `time_limit` of them: by default 100, and never in task "free". A game
    solved by its last step is terminated and not truncated.

    >>> game = ToyGame(width=4, classes=3)
    >>> observation, info = game.reset(seed=0)
    >>> game.step(Action.RIGHT)[1:4]
    (-1.0, False, False)
    """

    metadata = {"render_modes": list(RENDER_MODES), "render_fps": 4}  # noqa: RUF012

    def __init__(
        self,
        width: int = 4,
        classes: int = 3,
        task: str = "copy",
        time_limit: TimeLimit = "default",
        render_mode: str | None = None,
    ) -> None:
        check_game(width, classes, task)
        _check_render_mode(render_mode)
        self.width = width
        self.classes = classes
        self.task = task
        self.time_limit = _steps_allowed(time_limit, task)
        self.render_mode = render_mode
        self.observation_space = gymnasium.spaces.Discrete(classes)
        self.action_space = gymnasium.spaces.Discrete(len(Action))
        self._ring: NDArray[np.int64] | None = None  # [1, width]
        self._position = np.zeros(1, np.int64)
        self._steps = 0

    def get_action_meanings(self) -> list[str]:
        """The names of the actions, in their order."""
        return [action.name for action in Action]

    def get_purpose(self) -> str:
        """The purpose of the game, in words."""
        return PURPOSES[self.task]

    def get_end_meanings(self) -> dict[str, str]:
        """The meaning of an end, in words."""
        return {"terminated": "solved"}

    def get_best_return(self, info: Mapping[str, Any]) -> float | None:
        """The return of one who sees the whole ring. info: of `reset`."""
        if self.task == "free":
            return None
        return -float(fewest_steps(np.asarray(info["ring"]), self.classes, self.task))

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.int64, dict[str, Any]]:
        """Begin a new game; observation and info."""
        super().reset(seed=seed)
        number = _draw_start(self.np_random, self.width, self.classes, self.task)
        self._ring = ring_from_number([number], self.width, self.classes)
        self._position = np.zeros(1, np.int64)
        self._steps = 0
        return self._observation(), self._info()

    def step(self, action: int | np.int64) -> tuple[np.int64, float, bool, bool, dict[str, Any]]:
        """Play one action; observation, reward, terminated, truncated, info."""
        if self._ring is None:
            raise RuntimeError("the game has not begun; call reset() before step()")
        if not self.action_space.contains(action):
            raise ValueError(f"an action is an integer in 0..4, but got {action!r}")
        self._ring, self._position = play(
            self._ring, self._position, np.array([action]), self.classes, self.task
        )
        self._steps += 1
        terminated = self.task != "free" and bool(is_solved(self._ring[0]))
        truncated = not terminated and self._steps == self.time_limit
        reward = 0.0 if self.task == "free" else -1.0
        return self._observation(), reward, terminated, truncated, self._info()

    def render(self) -> Frame | None:  # type: ignore[override]
        """The whole ring with the player's cell set apart: an image [H, W, 3] or a text."""
        if self._ring is None:
            raise RuntimeError("the game has not begun; call reset() before render()")
        return _render(
            self.render_mode, self._ring[0], int(self._position[0]), self._steps, self.classes
        )

    def _observation(self) -> np.int64:
        assert self._ring is not None
        return self._ring[0, self._position[0]]

    def _info(self) -> dict[str, Any]:
        assert self._ring is not None
        return {"ring": self._ring[0].copy(), "position": int(self._position[0])}


class ToyGameVector(VectorEnv[NDArray[np.int64], NDArray[np.int64], NDArray[Any]]):
    """Many games in one batch: equal to a SyncVectorEnv of single games, bit for bit, but fast.

    Every copy owns its generator; `reset(seed=7)` seeds copy i with 7 + i. Copies that ended
    begin anew at the next step, which ignores their action and gives reward 0 (gymnasium's
    NEXT_STEP). Arguments are those of `ToyGame`; the arrays of `info` are ring [B, width],
    position [B] and their masks "_ring", "_position".
    """

    metadata = {  # noqa: RUF012
        "render_modes": list(RENDER_MODES),
        "render_fps": 4,
        "autoreset_mode": AutoresetMode.NEXT_STEP,
    }

    def __init__(
        self,
        num_envs: int,
        width: int = 4,
        classes: int = 3,
        task: str = "copy",
        time_limit: TimeLimit = "default",
        render_mode: str | None = None,
    ) -> None:
        if num_envs < 1:
            raise ValueError(f"a vector holds at least 1 game, but num_envs={num_envs}")
        check_game(width, classes, task)
        _check_render_mode(render_mode)
        self.num_envs = num_envs
        self.width = width
        self.classes = classes
        self.task = task
        self.time_limit = _steps_allowed(time_limit, task)
        self.render_mode = render_mode
        self.single_observation_space = gymnasium.spaces.Discrete(classes)
        self.single_action_space = gymnasium.spaces.Discrete(len(Action))
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self._generators: list[np.random.Generator | None] = [None] * num_envs
        self._seeds = [-1] * num_envs
        self._ring: NDArray[np.int64] | None = None  # [B, width]
        self._position = np.zeros(num_envs, np.int64)
        self._steps = np.zeros(num_envs, np.int64)
        self._ended = np.zeros(num_envs, np.bool_)

    @property  # type: ignore[misc]
    def np_random(self) -> tuple[np.random.Generator, ...]:  # type: ignore[override]
        """The generator of each copy."""
        return tuple(self._generator(copy) for copy in range(self.num_envs))

    @property
    def np_random_seed(self) -> tuple[int, ...]:  # type: ignore[override]
        """The seed of each copy's generator."""
        return tuple(self._seeds[copy] for copy, _ in enumerate(self.np_random))

    def reset(  # type: ignore[override]
        self,
        *,
        seed: int | Sequence[int | None] | None = None,
        options: dict[str, Any] | None = None,
    ) -> tuple[NDArray[np.int64], dict[str, Any]]:
        """Begin new games in all copies, or in those of `options["reset_mask"]`, bool [B].

        Returns observations [B] and infos.
        """
        mask = self._reset_mask(options)
        for copy, value in enumerate(self._copy_seeds(seed)):
            if value is not None and mask[copy]:
                self._generators[copy], self._seeds[copy] = seeding.np_random(value)
        self._begin(mask)
        return self._observations(), self._infos(mask)

    def step(
        self, actions: NDArray[np.int64]
    ) -> tuple[
        NDArray[np.int64],
        NDArray[np.float64],
        NDArray[np.bool_],
        NDArray[np.bool_],
        dict[str, Any],
    ]:
        """Play actions [B]; observations, rewards, terminated, truncated (all [B]) and infos."""
        if self._ring is None:
            raise RuntimeError("the games have not begun; call reset() before step()")
        reborn = self._ended
        actions = self._checked(actions)
        self._ring, self._position = play(
            self._ring, self._position, actions, self.classes, self.task
        )
        self._steps += 1
        if reborn.any():
            self._begin(reborn)
        terminated, truncated = self._endings(reborn)
        self._ended = terminated | truncated
        rewards = np.where(reborn | (self.task == "free"), 0.0, -1.0)
        infos = self._infos(np.ones(self.num_envs, np.bool_))
        return self._observations(), rewards, terminated, truncated, infos

    def render(self) -> tuple[Frame | None, ...]:  # type: ignore[override]
        """Draws one frame for each copy, as `ToyGame.render` gives it."""
        if self._ring is None:
            raise RuntimeError("the games have not begun; call reset() before render()")
        truth = zip(self._ring, self._position.tolist(), self._steps.tolist(), strict=True)
        return tuple(_render(self.render_mode, *one, self.classes) for one in truth)

    def _generator(self, copy: int) -> np.random.Generator:
        generator = self._generators[copy]
        if generator is None:
            generator, self._seeds[copy] = seeding.np_random()
            self._generators[copy] = generator
        return generator

    def _begin(self, mask: NDArray[np.bool_]) -> None:
        """Begins games in the copies of the mask [B]; the only loop, one draw for each of them."""
        numbers = [
            _draw_start(self._generator(copy), self.width, self.classes, self.task)
            for copy in np.flatnonzero(mask).tolist()
        ]
        if self._ring is None:
            self._ring = np.zeros((self.num_envs, self.width), np.int64)
        self._ring = self._ring.copy()  # the old array may live on in an info
        self._ring[mask] = ring_from_number(numbers, self.width, self.classes)
        self._position = np.where(mask, 0, self._position)
        self._steps = np.where(mask, 0, self._steps)
        self._ended = self._ended & ~mask

    def _endings(self, reborn: NDArray[np.bool_]) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        assert self._ring is not None
        terminated = np.zeros(self.num_envs, np.bool_)
        if self.task != "free":
            terminated = is_solved(self._ring) & ~reborn
        truncated = np.zeros(self.num_envs, np.bool_)
        if self.time_limit is not None:
            truncated = (self._steps == self.time_limit) & ~terminated
        return terminated, truncated

    def _observations(self) -> NDArray[np.int64]:
        assert self._ring is not None
        return self._ring[np.arange(self.num_envs), self._position]

    def _infos(self, mask: NDArray[np.bool_]) -> dict[str, Any]:
        """Infos of the copies of the mask; the others are zero, as in SyncVectorEnv."""
        assert self._ring is not None
        return {
            "ring": self._ring * mask[:, None],
            "_ring": mask,
            "position": self._position * mask,
            "_position": mask.copy(),
        }

    def _checked(self, actions: NDArray[np.int64]) -> NDArray[np.int64]:
        actions = np.asarray(actions)
        if actions.shape != (self.num_envs,) or not np.issubdtype(actions.dtype, np.integer):
            raise ValueError(
                f"expected {self.num_envs} integer actions, one for each copy, "
                f"but got shape {actions.shape} of {actions.dtype}"
            )
        if actions.min() < 0 or actions.max() >= len(Action):
            raise ValueError(f"an action is an integer in 0..4, but got {actions}")
        return actions

    def _copy_seeds(self, seed: int | Sequence[int | None] | None) -> Sequence[int | None]:
        if seed is None:
            return [None] * self.num_envs
        if isinstance(seed, int):
            return range(seed, seed + self.num_envs)
        if len(seed) != self.num_envs:
            raise ValueError(
                f"a list of seeds has one for each of the {self.num_envs} copies, "
                f"but got {len(seed)}"
            )
        return seed

    def _reset_mask(self, options: dict[str, Any] | None) -> NDArray[np.bool_]:
        everyone = np.ones(self.num_envs, np.bool_)
        mask = np.asarray((options or {}).get("reset_mask", everyone))
        if mask.shape != everyone.shape or mask.dtype != np.bool_ or not mask.any():
            raise ValueError(
                f"reset_mask is a bool array of shape ({self.num_envs},) with at least one True, "
                f"but got {mask!r}"
            )
        return mask if self._ring is not None else everyone


# Drawing, for real games and for dreamt ones.

# Okabe and Ito's palette, made to be told apart by colour-blind eyes; later rounds are paler.
PALETTE = np.array(
    [
        (230, 159, 0),
        (86, 180, 233),
        (0, 158, 115),
        (204, 121, 167),
        (240, 228, 66),
        (0, 114, 178),
        (213, 94, 0),
        (153, 153, 153),
    ]
)
PAPER = (250, 250, 247)
INK = (24, 26, 32)
CELL = 80  # pixels, the side of a cell
GAP = 8
MARGIN = 20
CAPTION = 28  # pixels, the strip for the caption; kept when empty so that frames agree in size
MARKER = 20  # pixels, the strip for the player's mark


def draw_ring(
    probabilities: NDArray[np.floating],
    position: int,
    dim_unseen: bool = False,
    caption: str = "",
) -> NDArray[np.uint8]:
    """Picture of a ring that may be uncertain, uint8 [H, W, 3] with even sides.

    `probabilities`: [width, classes], one row for each cell. A certain cell (one-hot row) has one
    colour and its digit; an uncertain one is cut into bands as high as the values are probable.
    The player's cell, `position`, has a thick frame; `dim_unseen` fades all the others.
    """
    probabilities = _checked_cells(probabilities, position)
    width = len(probabilities)
    size = (2 * MARGIN + width * CELL + (width - 1) * GAP, 2 * MARGIN + CAPTION + CELL + MARKER)
    top = MARGIN + CAPTION
    image = _loop(top, size).copy()
    draw = ImageDraw.Draw(image)
    if caption:
        draw.text((MARGIN, MARGIN - 6), caption, INK, font(17), anchor="lt")
    for cell, edges in enumerate(_edges(probabilities)):
        left = MARGIN + cell * (CELL + GAP)
        image.paste(_cell(edges, faded=dim_unseen and cell != position), (left, top))
        if cell == position:
            _draw_player(draw, left, top)
    return np.asarray(image).copy()


def ring_text(probabilities: NDArray[np.floating], position: int, caption: str = "") -> str:
    """A ring that may be uncertain, for a terminal; the player's cell stands in brackets.

    `probabilities`: [width, classes]. A certain cell has its digit, an uncertain one a little
    bar for each value.

    >>> print(ring_text(np.array([[0, 0, 1], [1, 0, 0], [0.5, 0.5, 0]]), position=1))
      2  [ 0 ] ▅▅▁
    """
    probabilities = _checked_cells(probabilities, position)
    cells = []
    for cell, row in enumerate(probabilities):
        text = _cell_text(row).center(max(3, len(row)))
        cells.append(f"[{text}]" if cell == position else f" {text} ")
    line = "".join(cells).rstrip()
    return f"{caption}\n{line}" if caption else line


def _render(
    mode: str | None, ring: NDArray[np.int64], position: int, steps: int, classes: int
) -> Frame | None:
    """The true ring [width] as a frame: a picture, a text, or nothing."""
    certain = np.eye(classes)[ring]  # [width, classes]
    caption = f"step {steps}   sees {ring[position]}"
    if mode == "rgb_array":
        return draw_ring(certain, position, dim_unseen=True, caption=caption)
    return ring_text(certain, position, caption) if mode == "ansi" else None


def _checked_cells(probabilities: NDArray[np.floating], position: int) -> NDArray[np.float64]:
    cells = np.asarray(probabilities, np.float64)
    if cells.ndim != 2 or (cells < 0).any() or not np.allclose(cells.sum(1), 1, atol=1e-3):
        raise ValueError(
            "probabilities are [width, classes] with rows that sum to 1, "
            f"but got shape {cells.shape} and rows that sum to {cells.sum(-1)}"
        )
    if not 0 <= position < len(cells):
        raise ValueError(f"position is in 0..{len(cells) - 1}, but position={position}")
    return cells


def _cell_text(row: NDArray[np.float64]) -> str:
    if row.max() > 0.995:
        return str(int(row.argmax()))
    return "".join("▁▂▃▄▅▆▇█"[round(7 * p)] for p in row)


@cache
def _loop(top: int, size: tuple[int, int]) -> Image.Image:
    """A thin line around the back: the last cell is the first one's neighbour."""
    image = Image.new("RGB", size, PAPER)
    box = (MARGIN // 2, top + CELL // 2, size[0] - MARGIN // 2 - 1, top + CELL + MARKER + 8)
    pen = ImageDraw.Draw(image)
    pen.rounded_rectangle(box, radius=10, outline=_mix(INK, 0.7), width=2)
    return image


def _edges(probabilities: NDArray[np.float64]) -> list[tuple[int, ...]]:
    """The ends of the bands of cells [width, classes], in pixels from the top, which are the
    beginnings of the next; heights in proportion to the probabilities."""
    below = np.cumsum(probabilities / probabilities.sum(1, keepdims=True), 1)
    return [tuple(row) for row in np.rint(below * CELL).astype(int).tolist()]


@lru_cache(256)
def _cell(edges: tuple[int, ...], faded: bool) -> Image.Image:
    """Bands of colour with their digits."""
    image = Image.new("RGB", (CELL, CELL), PAPER)
    draw, fade = ImageDraw.Draw(image), 0.72 if faded else 0.0
    for value, (start, end) in enumerate(pairwise((0, *edges))):
        if end <= start:
            continue
        colour = _mix(_colour(value), fade)
        draw.rectangle((0, start, CELL - 1, end - 1), fill=colour)
        size = min(44, int(0.8 * (end - start)))
        if size >= 9:
            centre = (CELL // 2, (start + end) // 2)
            draw.text(centre, str(value), _mix(_ink(value), fade * 0.75), font(size), anchor="mm")
    return image


def _draw_player(draw: ImageDraw.ImageDraw, left: int, top: int) -> None:
    """A thick frame around the player's cell and a mark below it."""
    box = (left - 4, top - 4, left + CELL + 3, top + CELL + 3)
    draw.rounded_rectangle(box, radius=6, outline=INK, width=6)
    tip, base, middle = top + CELL + 7, top + CELL + 19, left + CELL // 2
    draw.polygon([(middle, tip), (middle - 9, base), (middle + 9, base)], fill=INK)


def _colour(value: int) -> tuple[int, int, int]:
    paler = 0.45 * (value // len(PALETTE)) / (1 + value // len(PALETTE))
    return _mix(PALETTE[value % len(PALETTE)], paler)


def _ink(value: int) -> tuple[int, int, int]:
    """Dark digits on light colours, light digits on dark ones."""
    return INK if np.dot(_colour(value), (0.3, 0.59, 0.11)) > 110 else PAPER


def _mix(colour: ArrayLike, paper: float) -> tuple[int, int, int]:
    """The colour with a share of `paper`, 0..1, mixed in."""
    red, green, blue = (1 - paper) * np.asarray(colour) + paper * np.asarray(PAPER)
    return int(red), int(green), int(blue)


@cache
def font(size: int) -> Any:
    """The font of pictures, in pixels."""
    return ImageFont.load_default(size)
