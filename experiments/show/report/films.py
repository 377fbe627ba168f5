"""Films embedded in a page."""

import io
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

from PIL import Image

from worldmodel.experiments.show.films import Film, Frame
from worldmodel.experiments.show.play.panels import compose
from worldmodel.experiments.show.play.player import Playable, Player, World

FRAMES, FPS = 36, 4.0  # small: all are embedded in one file
DREAMS = 3


class Shown(NamedTuple):
    """A film and its description."""

    words: str
    mp4: bytes
    poster: bytes  # .png, the first frame
    size: tuple[int, int]  # width and height, pixels


def filmed(parts: Playable) -> Iterator[Shown]:
    """Reality beside the dream and their difference, where there is a real environment; then some
    dreams. The trained agent plays them all, greedily."""
    if parts.has_environment:
        yield film(parts, "both", 0, "reality, the dream of it, and where they differ")
    for number in range(DREAMS):
        yield film(parts, "dream", number, f"dream {number + 1} of {DREAMS}")


def film(parts: Playable, world: World, seed: int, words: str) -> Shown:
    """A film of one player."""
    player = Player(parts, world, seed, "agent")
    try:
        first = _frame(player)
        with TemporaryDirectory() as folder:
            path = Path(folder) / "film.mp4"
            with Film(path, FPS) as file:
                file.write(first)
                for _ in range(FRAMES - 1):
                    player.step()
                    file.write(_frame(player))
            return Shown(words, path.read_bytes(), _png(first), (first.shape[1], first.shape[0]))
    finally:
        player.close()


def _frame(player: Player) -> Frame:
    """A frame; above a single, narrow panel without the agent, which is named beside the film."""
    if player.world == "both":
        return player.frame()
    return compose(player.headline, "", player.panels(), lines=2)


def _png(frame: Frame) -> bytes:
    file = io.BytesIO()
    Image.fromarray(frame).quantize(128).save(file, "PNG", optimize=True)
    return file.getvalue()
