"""A film of a run: the real game, the dream of it under the same actions, and their difference.

The agent plays the real game. The dream takes in the real first row and gets the agent's actions
from then on, but sees nothing more: what comes to pass in it is the model's own. As soon as
either game ends both begin anew, so that they are always at the same step.
"""

from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from functools import cache
from itertools import chain, count, islice
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

import imageio_ffmpeg
import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from agents import Uniform
from envs import Action, draw_ring
from envs.toy_game import CAPTION, CELL, GAP, INK, MARGIN, PAPER
from experiments.run import RunError
from experiments.toy_game import Parts
from worldmodel import GenCore, Greedy, Row
from worldmodel.noise import OwnNoise

Actor = Literal["policy", "uniform"]
Frame = NDArray[np.uint8]  # [H, W, 3], even sides
Write = Callable[[Frame], None]

HEADLINE = 48  # pixels, the strip above the panels
TITLES = 62  # pixels, the two lines above a ring
PANEL = 384  # pixels, a panel's least width: room for its two lines
HEAT = (178, 24, 43)  # a cell to whose real value the dream gives no chance
ENDED = (0, 100, 75)
GRID = 12  # a gif's colours are multiples of it: few of them, the same in every frame
CRF = "18"  # x264's constant quality, visually lossless


def film(
    parts: Parts,
    path: Path | Sequence[Path],
    steps: int = 60,
    seed: int = 0,
    agent: Actor = "policy",
    fps: float = 2.0,
    note: Callable[[int, int], None] = lambda done, total: None,
) -> None:
    """Writes `steps` frames to a file, or the same to several: .mp4 or .gif, by the suffix.

    agent: "policy" plays the trained policy's best action, "uniform" any. note: told how many
    frames of how many are done.
    """
    paths = [path] if isinstance(path, Path) else list(path)
    _check(paths, steps, fps, seed, agent)
    with ExitStack() as stack:
        writers = [stack.enter_context(_file(path, fps)) for path in paths]
        for done, scene in enumerate(islice(scenes(parts, seed, agent), steps), start=1):
            frame = draw(scene)
            for write in writers:
                write(frame)
            note(done, steps)


def _check(paths: Sequence[Path], steps: int, fps: float, seed: int, agent: str) -> None:
    for path in paths:
        if path.suffix.lower() not in FORMATS:
            raise RunError(f"a film is a {' or a '.join(FORMATS)} file, but {path} is neither")
        if not path.parent.is_dir():
            raise RunError(f"there is no folder {path.parent} for the film {path.name}")
    if steps < 1 or fps <= 0:
        raise RunError(f"a film has steps and fps above 0, got {steps} steps and {fps} fps")
    if seed < 0:
        raise RunError(f"--seed must be 0 or more, got {seed}")
    if agent not in get_args(Actor):
        raise RunError(f"agent is one of {', '.join(get_args(Actor))}, got {agent}")


# What happens.


class Side(NamedTuple):
    """One of the two games at a step."""

    ring: NDArray[np.floating]  # [width, classes], each cell's probabilities
    observation: int
    reward: float
    total: float  # the rewards since the first row
    terminated: bool
    ended: bool  # terminated or truncated

    @classmethod
    def after(
        cls, row: Row, ended: torch.Tensor, ring: NDArray[np.floating], total: float
    ) -> "Side":
        """The side after one more row [1, ...]; total: the rewards before it."""
        reward = float(row.reward)
        observation, terminated = int(row.observation), bool(row.terminated)
        return cls(ring, observation, reward, total + reward, terminated, bool(ended))


class Scene(NamedTuple):
    """What a frame shows."""

    episode: int  # from 1
    step: int  # 0 on first rows
    action: str  # lower case, empty on first rows
    position: int  # the player's cell, 0..width-1
    real: Side
    dream: Side

    @property
    def ended(self) -> bool:
        return self.real.ended or self.dream.ended

    @property
    def difference(self) -> NDArray[np.floating]:
        """The total variation distance between each cell's two distributions, [width], 0..1."""
        return 0.5 * np.abs(self.real.ring - self.dream.ring).sum(-1)


def scenes(parts: Parts, seed: int, agent: Actor) -> Iterator[Scene]:
    """Scenes without end, the same for the same seed."""
    comparison = Comparison(parts, seed, agent)
    return chain.from_iterable(comparison.episode(number) for number in count(1))


class Comparison:
    """The real game and the dream of it, under the actions of an agent in the real game."""

    def __init__(self, parts: Parts, seed: int, agent: Actor):
        actor = Greedy(parts.agent) if agent == "policy" else Uniform(parts.action_space)
        self.environment = parts.environment(1, seed)
        self.real = GenCore(self.environment, actor)
        self.dream = GenCore(parts.dream(), actor)
        self.view = parts.view()
        self.classes = parts.config.game.classes
        self._noise = OwnNoise(int(np.random.SeedSequence(seed).generate_state(1)[0]))

    def episode(self, number: int) -> Iterator[Scene]:
        """The scenes from a first row to the first end."""
        real, dream = self.real.initial_state(1), self.dream.initial_state(1)
        believed = self.view.initial_state(1)
        totals = (0.0, 0.0)
        for step in count():
            action = real.action
            with torch.no_grad(), self._noise():
                (real_row, _), real = self.real.step(real)
                if step == 0:
                    dream_row, dream = real_row, self.dream.observe(real_row, dream)
                else:
                    (dream_row, _), dream = self.dream.step(dream._replace(action=action))
                believed = self.view.step(dream_row, believed)
                dream_ring = self.view.ring(believed)[0].numpy()
            real_ring = np.eye(self.classes)[self.environment.info["ring"][0]]
            scene = Scene(
                number,
                step,
                Action(int(self.real.actions.decode(action))).name.lower() if step else "",
                int(believed.position),
                Side.after(real_row, real.world.ended, real_ring, totals[0]),
                Side.after(dream_row, dream.world.ended, dream_ring, totals[1]),
            )
            yield scene
            if scene.ended:
                return
            totals = (scene.real.total, scene.dream.total)


# How it looks.


def draw(scene: Scene) -> Frame:
    """The frame of a scene: real game, dream and difference side by side."""
    difference = scene.difference
    panels = [
        _panel("real", _told(scene.real), draw_ring(scene.real.ring, scene.position)),
        _panel("dream", _told(scene.dream), draw_ring(scene.dream.ring, scene.position)),
        _panel(
            "difference",
            f"total variation, {difference.mean():.2f} a cell",
            _draw_difference(difference, scene.position),
        ),
    ]
    width, height = sum(panel.width for panel in panels), panels[0].height
    image = Image.new("RGB", (width, HEADLINE + height), PAPER)
    pen = ImageDraw.Draw(image)
    action = scene.action.replace("noop", "wait") or "the real first row, in both"
    headline = f"episode {scene.episode}    step {scene.step}    {action}"
    pen.text((MARGIN, HEADLINE // 2), headline, INK, _font(22), anchor="lm")
    pen.text((width - MARGIN, HEADLINE // 2), _ending(scene), ENDED, _font(20), anchor="rm")
    pen.line((0, HEADLINE - 1, width, HEADLINE - 1), INK)
    for left, panel in zip(_lefts(panels), panels, strict=True):
        image.paste(panel, (left, HEADLINE))
        if left:
            pen.line((left, HEADLINE, left, HEADLINE + height), (200, 200, 196))
    return np.asarray(image).copy()


def _lefts(panels: Sequence[Image.Image]) -> list[int]:
    return [sum(panel.width for panel in panels[:number]) for number in range(len(panels))]


def _told(side: Side) -> str:
    end = "solved" if side.terminated else "time is up" * side.ended
    return f"sees {side.observation}   reward {side.reward:g}   return {side.total:g}   {end}"


def _ending(scene: Scene) -> str:
    if not scene.ended:
        return ""
    if scene.real.ended and scene.dream.ended:
        return "both have ended, and begin anew"
    ended = "the real game" if scene.real.ended else "the dream"
    return f"{ended} has ended, both begin anew"


def _panel(title: str, told: str, ring: Frame) -> Image.Image:
    """A ring's picture below two lines, the strip for its own caption cut off."""
    picture = Image.fromarray(ring[CAPTION:])
    width = max(PANEL, picture.width)
    panel = Image.new("RGB", (width, TITLES + picture.height), PAPER)
    pen = ImageDraw.Draw(panel)
    pen.text((MARGIN, 28), title, INK, _font(22), anchor="ls")
    pen.text((MARGIN, 54), told, INK, _font(17), anchor="ls")
    panel.paste(picture, ((width - picture.width) // 2, TITLES))
    return panel


def _draw_difference(difference: NDArray[np.floating], position: int) -> Frame:
    """A ring whose cells are as red as the two worlds differ, [width] -> [H, W, 3]."""
    blank = np.tile([1.0, 0.0], (len(difference), 1))
    image = Image.fromarray(draw_ring(blank, position))
    pen = ImageDraw.Draw(image)
    top = MARGIN + CAPTION
    for cell, distance in enumerate(difference.tolist()):
        left = MARGIN + cell * (CELL + GAP)
        inset = 2 if cell == position else 0  # as far as the player's frame reaches in
        box = (left + inset, top + inset, left + CELL - 1 - inset, top + CELL - 1 - inset)
        red, green, blue = (1 - distance) * np.array((228, 228, 224)) + distance * np.array(HEAT)
        pen.rectangle(box, fill=(int(red), int(green), int(blue)))
        middle = (left + CELL // 2, top + CELL // 2)
        ink = INK if distance < 0.5 else PAPER
        pen.text(middle, f"{distance:.2f}", ink, _font(24), anchor="mm")
    return np.asarray(image).copy()


@cache
def _font(size: int) -> Any:
    return ImageFont.load_default(size)


# How it is kept.


@contextmanager
def _file(path: Path, fps: float) -> Iterator[Write]:
    """Writes frames to a file that appears whole or not at all."""
    temporary = path.with_name(path.name + ".part")
    try:
        with FORMATS[path.suffix.lower()](temporary, fps) as write:
            yield write
        temporary.replace(path)
    except OSError as error:
        raise RunError(f"the film {path} could not be written: {error}") from error
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def _mp4(path: Path, fps: float) -> Iterator[Write]:
    pipe: Generator[None, Frame | None, None] | None = None

    def write(frame: Frame) -> None:
        nonlocal pipe
        if pipe is None:
            size = (frame.shape[1], frame.shape[0])
            parameters = ["-crf", CRF, "-movflags", "+faststart", "-f", "mp4"]
            pipe = imageio_ffmpeg.write_frames(
                str(path), size, fps=fps, macro_block_size=1, output_params=parameters
            )
            pipe.send(None)
        pipe.send(np.ascontiguousarray(frame))

    try:
        yield write
    finally:
        if pipe is not None:
            pipe.close()


@contextmanager
def _gif(path: Path, fps: float) -> Iterator[Write]:
    images: list[Image.Image] = []

    def write(frame: Frame) -> None:
        rounded = np.rint(frame / GRID) * GRID
        image = Image.fromarray(rounded.astype(np.uint8))
        images.append(image.quantize(256, dither=Image.Dither.NONE))

    yield write
    milliseconds = max(20, round(100 / fps) * 10)  # a gif counts hundredths of a second
    images[0].save(
        path, "GIF", save_all=True, append_images=images[1:], duration=milliseconds, loop=0
    )


FORMATS: dict[str, Callable[[Path, float], AbstractContextManager[Write]]] = {
    ".mp4": _mp4,
    ".gif": _gif,
}
