"""A window's contents as one picture: worlds side by side, the model's predictions below."""

from collections.abc import Sequence
from typing import NamedTuple

from gymnasium import spaces
from PIL import Image, ImageDraw

from worldmodel.envs.toy_game import INK, PALETTE, PAPER, font
from worldmodel.experiments.show.play.faces import (
    HELP,
    QUIT,
    REMEMBERED,
    Chance,
    Key,
    Surprises,
    chances,
    explained,
    keys_of,
    state,
    status,
    thoughts,
)
from worldmodel.experiments.show.play.panels import NOTED, RULE, Panel, fitted, shortened
from worldmodel.experiments.show.play.player import Player

LEAST = (320, 240)  # pixels, of a window that is drawn
MARGIN = 20
HEAD, TITLE, LINE, FOOT = 48, 34, 24, 60  # heights, of a strip above, a title, words, and keys
KEY_LINES = 2
LABEL = 130  # width of a prediction's name
BARS = 6  # values with a bar, besides the observed one
BAR = 260  # the width of one for probability 1
THOUGHTS = 3  # lines
PLOT = (320, 72)  # surprise over time, at most
FADED = (110, 112, 118)
IDLE = (178, 180, 184)  # keys that do nothing now
LEADS = (0, 114, 178)

Pen = ImageDraw.ImageDraw


class Box(NamedTuple):
    """A rectangle in a window, pixels."""

    left: int
    top: int
    width: int
    height: int

    @property
    def right(self) -> int:
        return self.left + self.width

    @property
    def bottom(self) -> int:
        return self.top + self.height

    def holds(self, x: float, y: float) -> bool:
        """True if a point lies in the box."""
        return self.left <= x < self.right and self.top <= y < self.bottom

    def share(self, x: float, y: float) -> tuple[float, float]:
        """Coordinates of a point in the box, from -1 to 1 each, y upwards.

        >>> Box(10, 10, 100, 50).share(60, 10)
        (0.0, 1.0)
        """
        return 2 * (x - self.left) / self.width - 1, 1 - 2 * (y - self.top) / self.height


def drawn(
    player: Player, surprises: Surprises, size: tuple[int, int], help_is_open: bool
) -> tuple[Image.Image, list[Box]]:
    """The picture, of the given size or the least one, and the boxes of the worlds in it."""
    image = Image.new("RGB", (max(size[0], LEAST[0]), max(size[1], LEAST[1])), PAPER)
    pen = ImageDraw.Draw(image)
    whole = Box(0, 0, *image.size)
    expected = chances(player, BARS)
    mind = LINE * (THOUGHTS + len(expected) + 2)
    below = Box(0, whole.height - FOOT - mind, whole.width, mind)
    top = _draw_head(pen, whole, player)
    boxes = _draw_panels(image, pen, Box(0, top, whole.width, below.top - top), player.panels())
    _draw_mind(pen, below, player, expected, surprises)
    _draw_foot(pen, Box(0, below.bottom, whole.width, FOOT), player)
    if help_is_open:
        _draw_help(pen, whole, player)
    return image, boxes


def _draw_head(pen: Pen, whole: Box, player: Player) -> int:
    """Draws the headline, and what the game is about; returns where they end."""
    pen.text((MARGIN, HEAD // 2), player.headline, INK, font(22), anchor="lm")
    pen.text((whole.right - MARGIN, HEAD // 2), state(player), NOTED, font(18), anchor="rm")
    pen.line((0, HEAD - 1, whole.right, HEAD - 1), INK)
    lines = wrapped(pen, "  ".join(explained(player)), whole.width - 2 * MARGIN)
    for number, line in enumerate(filter(None, lines)):
        pen.text((MARGIN, HEAD + LINE * number + 16), line, FADED, font(16), anchor="lm")
    return HEAD + LINE * sum(map(bool, lines)) + 4


def _draw_panels(image: Image.Image, pen: Pen, box: Box, panels: Sequence[Panel]) -> list[Box]:
    """Draws the worlds side by side, the leading one underlined; returns the pictures' boxes."""
    width = box.width // len(panels)
    boxes = []
    for number, panel in enumerate(panels):
        left = box.left + number * width
        if number:
            pen.line((left, box.top, left, box.bottom), RULE)
        title = shortened(panel.title, 22, width - 2 * MARGIN)
        pen.text((left + MARGIN, box.top + 28), title, INK, font(22), anchor="ls")
        if panel.leads:
            end = left + MARGIN + pen.textlength(title, font(22))
            pen.line((left + MARGIN, box.top + 33, end, box.top + 33), LEADS, 2)
        words = [
            line for text in panel.lines for line in wrapped(pen, text, width - 2 * MARGIN) if line
        ][:2]
        for line, text in enumerate(words):
            bottom = box.top + TITLE + LINE * (line + 1) - 6
            pen.text((left + MARGIN, bottom), text, INK, font(16), anchor="ls")
        top = box.top + TITLE + 2 * LINE + 4
        room = Box(left + MARGIN, top, width - 2 * MARGIN, box.bottom - top - MARGIN // 2)
        boxes.append(_draw_picture(image, room, panel))
    return boxes


def _draw_picture(image: Image.Image, room: Box, panel: Panel) -> Box:
    picture = fitted(panel.picture, room.width, room.height)
    height, width = picture.shape[:2]
    left = room.left + (room.width - width) // 2
    top = room.top + max(0, room.height - height) // 2
    image.paste(Image.fromarray(picture), (left, top))
    return Box(left, top, width, height)


def _draw_mind(
    pen: Pen, box: Box, player: Player, expected: Sequence[Chance], surprises: Surprises
) -> None:
    """Draws the predicted observation, then the model's predictions in words, then the status."""
    pen.line((0, box.top, box.right, box.top), RULE)
    top = box.top + LINE // 2
    if expected:
        pen.text((MARGIN, top + LINE // 2), "expected to see", FADED, font(16), anchor="lm")
    for number, chance in enumerate(expected):
        _draw_chance(pen, MARGIN + LABEL, top + number * LINE, chance)
    top += LINE * len(expected)
    width = min(PLOT[0], box.width // 4)
    plot = Box(box.right - MARGIN - width, box.top + LINE + 4, width, PLOT[1])
    for number, (name, words) in enumerate(thoughts(player)):
        middle = top + number * LINE + LINE // 2
        left = MARGIN + max(LABEL, round(pen.textlength(name, font(16))) + MARGIN)
        room = (plot.left if middle < plot.bottom + LINE // 2 else box.right) - MARGIN - left
        pen.text((MARGIN, middle), name, FADED, font(16), anchor="lm")
        text, *more = wrapped(pen, words, room)
        text += " …" * bool(more)
        pen.text((left, middle), text, INK, font(16), anchor="lm")
    _draw_surprises(pen, plot, surprises)
    middle = box.bottom - LINE // 2 - 4
    pen.text((MARGIN, middle), status(player), NOTED, font(18), anchor="lm")


def _draw_chance(pen: Pen, left: int, top: int, chance: Chance) -> None:
    """Draws a bar in the value's colour; the observed value is framed."""
    middle = top + LINE // 2
    colour = tuple(PALETTE[chance.value % len(PALETTE)].tolist())
    end = left + 30 + round(BAR * chance.probability)
    pen.text((left, middle), str(chance.value), INK, font(16), anchor="lm")
    pen.rectangle((left + 30, top + 3, end, top + LINE - 4), colour)
    words = f"{chance.probability:.1%}".replace("%", " %") + "   seen" * chance.seen
    pen.text((left + 40 + BAR, middle), words, INK, font(16), anchor="lm")


def _draw_surprises(pen: Pen, box: Box, surprises: Surprises) -> None:
    """Draws the surprise of the last rows as bars, below the line if negative (densities)."""
    pen.text((box.left, box.top - 6), "surprise (loss) over time", FADED, font(14), anchor="ls")
    zero, *shares = (box.bottom - round(s * box.height) for s in surprises.shares_with_zero)
    pen.line((box.left, zero, box.right, zero), RULE)
    step = box.width / REMEMBERED
    for number, end in enumerate(shares):
        left = box.left + number * step
        pen.rectangle((left, min(zero, end), left + max(0, step - 2), max(zero, end)), LEADS)


def _draw_foot(pen: Pen, box: Box, player: Player) -> None:
    """Draws the keys that fit; faint, those that do nothing now."""
    pen.line((0, box.top, box.right, box.top), RULE)
    last = f"{HELP} or F1: all keys     {QUIT}: quit"
    height = box.height // KEY_LINES
    left, line, end = MARGIN, 0, box.right - MARGIN
    for key in keys_of(player):
        text = f"{key.keys}: {key.words}"
        width = round(pen.textlength(text, font(15)))
        taken = round(pen.textlength(last, font(15))) + MARGIN if line == KEY_LINES - 1 else 0
        if left + width > end - taken:
            left, line = MARGIN, line + 1
            if line == KEY_LINES:
                break
        middle = box.top + height * line + height // 2
        pen.text((left, middle), text, IDLE if key.is_idle else FADED, font(15), anchor="lm")
        left += width + MARGIN
    pen.text((end, box.bottom - height // 2), last, FADED, font(15), anchor="rm")


def _draw_help(pen: Pen, whole: Box, player: Player) -> None:
    """Draws all keys, in the middle, over everything else."""
    others = [Key(f"{HELP} F1", "these keys"), Key(f"{QUIT} escape", "quit")]
    if isinstance(player.controls.space, spaces.Box):
        others.insert(0, Key("pointer", "pressed on a picture: from least to most"))
    keys = [*keys_of(player), *others]
    width, height = 460, LINE * (len(keys) + 3)
    box = Box((whole.width - width) // 2, max(0, (whole.height - height) // 2), width, height)
    pen.rectangle((box.left, box.top, box.right, box.bottom), PAPER, LEADS, 2)
    title = "keys; any of them closes this"
    pen.text((box.left + MARGIN, box.top + LINE), title, INK, font(18), anchor="lm")
    for number, key in enumerate(keys):
        middle = box.top + LINE * (number + 2) + LINE // 2
        named, said = (IDLE, IDLE) if key.is_idle else (LEADS, INK)
        pen.text((box.left + MARGIN, middle), key.keys, named, font(16), anchor="lm")
        pen.text((box.left + LABEL, middle), key.words, said, font(16), anchor="lm")


def wrapped(pen: Pen, text: str, width: int) -> list[str]:
    """Lines of at most that many pixels, broken where there are three spaces, if there are, and
    otherwise between words, but not before a percent sign; one of them at least."""
    space = "   " if "   " in text else " "
    lines = [""]
    for word in text.replace(" %", "\0%").split(space):
        longer = f"{lines[-1]}{space}{word}" if lines[-1] else word
        if lines[-1] and pen.textlength(longer, font(16)) > width:
            lines.append(word)
        else:
            lines[-1] = longer
    return [line.replace("\0", " ") for line in lines]
