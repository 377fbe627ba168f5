"""The terminal's face of a game: text, or pictures in half blocks, and predictions."""

import sys
from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np
from rich.segment import Segment
from rich.style import Style
from rich.table import Table
from rich.text import Text
from textual import events
from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical, VerticalScroll
from textual.strip import Strip
from textual.timer import Timer
from textual.widget import Widget
from textual.widgets import Static

from worldmodel.envs.toy_game import PALETTE
from worldmodel.experiments.show.config import PlayConfig
from worldmodel.experiments.show.films import Frame
from worldmodel.experiments.show.play.faces import (
    HELP,
    QUIT,
    Chance,
    Key,
    Surprises,
    chances,
    closed,
    explained,
    key_name,
    keys_of,
    opened,
    state,
    status,
    thoughts,
)
from worldmodel.experiments.show.play.panels import fitted
from worldmodel.experiments.show.play.player import Player, Side
from worldmodel.run_folder import RunError

SYMBOLS = {"left": "←", "right": "→", "up": "↑", "down": "↓"}
BAR = 28  # characters of a bar for probability 1
BARS, FEW_BARS = 7, 3  # values with a bar, besides the observed one; on a low terminal
LOW = 32  # lines, below which a terminal is
EIGHTHS = " ▏▎▍▌▋▊▉█"
HEIGHTS = "▁▂▃▄▅▆▇█"
PANE = 40  # columns of a world, at least: two of them on a terminal of 80
EDGES = 4  # columns of a pane's border and padding
FOOT = 2  # lines of keys
LABEL = 10  # columns
IDLE = "dim"  # style of keys that do nothing now


def play(parts: Any, config: PlayConfig, videos: Path) -> None:
    """Lets a person play at the terminal until they quit."""
    if not all(stream.isatty() for stream in (sys.stdin, sys.stdout, sys.stderr)):
        raise RunError(
            "playing in a terminal needs one, but standard input, output or error is redirected; "
            "use --view browser"
        )
    player = opened(parts, config, videos)
    try:
        run(PlayApp(player))
    finally:
        closed(player)


def run(app: "PlayApp", headless: bool = False) -> None:
    """Runs until the person quits; an error ends the game, and is raised when the screen is the
    terminal's again. headless: without a terminal."""
    app.run(headless=headless)
    if app._exception is not None:
        raise app._exception


class PlayApp(App[None]):
    """The worlds side by side, and the model's predictions below."""

    ENABLE_COMMAND_PALETTE = False
    CSS = """
    Screen { layers: below above; }
    #head { height: 1; background: $primary-darken-2; color: $text; padding: 0 1; }
    #purpose { height: auto; max-height: 4; padding: 0 1; color: $text-muted; }
    #worlds { height: 1fr; }
    .pane { width: 1fr; height: 1fr; border: round $primary; padding: 0 1; }
    .pane.leads { border: round $accent; }
    .pane .lines { height: auto; }
    .pane .scroll { height: 1fr; padding: 1 0 0 0; }
    .pane .text { width: auto; height: auto; }
    .pane Picture { height: 1fr; }
    #bars { height: auto; border: round $primary; padding: 0 1; }
    #thoughts { height: auto; padding: 0 1; }
    #status { height: auto; min-height: 1; max-height: 3; padding: 0 1;
              text-style: bold; color: $text-success; }
    #keys { height: auto; padding: 0 1; background: $panel; }
    #help { layer: above; width: 100%; height: 100%; align: center middle;
            background: $background 60%; display: none; }
    #help Static { width: auto; height: auto; padding: 0 2; border: round $accent;
                   background: $surface; border-title-color: $text; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("tab", "turn", show=False, priority=True),
        Binding("ctrl+c,ctrl+q", "quit", show=False, priority=True),
    ]

    def __init__(self, player: Player):
        super().__init__()
        self.player = player
        self.surprises = Surprises()
        self.turned = 0  # panes before the first visible one
        self.clock: Timer | None = None
        self.beat = (False, 0.0)  # (time runs, speed) of the clock
        self.head, self.purpose = Static(id="head"), Static(id="purpose")
        self.worlds = Horizontal(id="worlds")
        self.panes = [Pane(), Pane(), Pane()]
        self.bars, self.thoughts = Static(id="bars"), Static(id="thoughts")
        self.status, self.keys = Static(id="status"), Static(id="keys")
        self.help = Vertical(Static(), id="help")

    def _fatal_error(self) -> None:
        """Ends without Textual's own page on an error."""
        self._close_messages_no_wait()

    def compose(self) -> ComposeResult:
        yield from (self.head, self.purpose)
        with self.worlds:
            yield from self.panes
        yield from (self.bars, self.thoughts, self.status, self.keys, self.help)

    def on_mount(self) -> None:
        self.bars.border_title = "what the model had expected to see"
        said = explained(self.player)
        self.purpose.update(Text("\n".join(said)))
        self.purpose.display = bool(said)
        self._show()

    def on_resize(self) -> None:
        self._show()

    def on_key(self, event: events.Key) -> None:
        """Handles keys of the player first: the user may have assigned them to actions."""
        event.stop()
        key = key_name(event.key, event.character)
        if self.help.display:
            self.help.display = False
        elif self.player.press(key):
            if not self.player.running:
                self.player.release()
            self._keep_time()
            self._show()
        elif key == HELP:
            self._show_help()
        elif key == QUIT:
            self.exit()

    def action_turn(self) -> None:
        """Moves the next world to the front."""
        self.turned += 1
        self._show()

    def _keep_time(self) -> None:
        beat = (self.player.running, self.player.speed)
        if beat == self.beat:
            return
        if self.clock is not None:
            self.clock.stop()
        self.beat = beat
        self.clock = self.set_interval(1 / beat[1], self._tick) if beat[0] else None

    def _tick(self) -> None:
        self.player.tick()
        self.player.release()
        self._show()

    def _show(self) -> None:
        player = self.player
        self.surprises.note(player.moment)
        self.head.update(headline(player))
        hidden = self._show_worlds(views(player))
        expected = chances(player, BARS if self.size.height >= LOW else FEW_BARS)
        self.bars.display = bool(expected)
        self.bars.update(bars(expected))
        self.thoughts.update(config(player, self.surprises))
        self.status.update(status(player))
        self.keys.update(foot(player, max(self.size.width - 2, 1), hidden))

    def _show_worlds(self, shown: "list[View]") -> bool:
        """Shows as many panes as fit; True if there are others."""
        widest = max(view.width for view in shown)
        room = max(1, self.size.width // max(PANE, widest + EDGES))
        turn = self.turned % len(shown)
        first = (shown[turn:] + shown[:turn])[:room]
        for number, pane in enumerate(self.panes):
            pane.display = number < len(first)
            if pane.display:
                pane.show(first[number])
        return len(first) < len(shown)

    def _show_help(self) -> None:
        self.help.query_one(Static).update(all_keys(self.player))
        self.help.query_one(Static).border_title = "keys; any of them closes this"
        self.help.display = True


class View(NamedTuple):
    """The contents of a world's pane, or of the difference of the two."""

    title: str
    leads: bool  # the leading world
    lines: list[str]
    text: str = ""
    frame: Frame | None = None  # instead of a text

    @property
    def width(self) -> int:
        """Width of its text, columns."""
        return max(map(len, self.text.splitlines()), default=0)


class Pane(Vertical):
    """A world in a border."""

    def __init__(self) -> None:
        self.lines, self.text = Static(classes="lines"), Static(classes="text")
        self.scroll = VerticalScroll(self.text, classes="scroll", can_focus=False)
        self.picture = Picture()
        super().__init__(self.lines, self.scroll, self.picture, classes="pane")

    def show(self, view: View) -> None:
        self.border_title = view.title
        self.set_class(view.leads, "leads")
        self.lines.update(Text("\n".join(view.lines)))
        self.scroll.display = view.frame is None
        self.picture.display = view.frame is not None
        self.text.update(Text(view.text, no_wrap=True))
        if view.frame is not None:
            self.picture.show(view.frame)


class Picture(Widget):
    """A picture in half blocks, scaled to the available size."""

    def __init__(self) -> None:
        super().__init__()
        self.frame: Frame = np.zeros((2, 1, 3), np.uint8)

    def show(self, frame: Frame) -> None:
        self.frame = frame
        self.refresh()

    def render_lines(self, crop: Any) -> list[Strip]:
        self.pixels = fitted(self.frame, self.size.width, 2 * self.size.height)
        return super().render_lines(crop)

    def render_line(self, y: int) -> Strip:
        pair = self.pixels[2 * y : 2 * y + 2]
        if not len(pair):
            return Strip.blank(self.size.width)
        left = Segment(" " * ((self.size.width - pair.shape[1]) // 2))
        return Strip([left, *half_blocks(pair)]).adjust_cell_length(self.size.width)


def half_blocks(pair: Frame) -> Iterator[Segment]:
    """One row of characters for two rows of pixels, or for the last one, [2 or 1, W, 3]."""
    colours = [tuple(map(hexadecimal, column)) for column in pair.swapaxes(0, 1)]
    for (upper, *lower), alike in groupby(colours):
        yield Segment(
            "▀" * len(list(alike)), Style(color=upper, bgcolor=lower[0] if lower else None)
        )


def hexadecimal(colour: Sequence[int]) -> str:
    """
    >>> hexadecimal((255, 0, 16))
    '#ff0010'
    """
    return "#" + "".join(f"{part:02x}" for part in colour)


def views(player: Player) -> list[View]:
    """A pane for each world, in text if there is one, and for the difference of pictures."""
    texts = {side: text_of(player, side) for side in player.states}
    if any(text is None for text in texts.values()):
        return [
            View(panel.title, panel.leads, panel.lines, frame=panel.picture)
            for panel in player.panels()
        ]
    return [
        View(player.title(side), side == player.leader, player.lines(side), text or "")
        for side, text in texts.items()
    ]


def text_of(player: Player, side: Side) -> str | None:
    """The text of a world; a revealed truth above the model's belief."""
    text = player.text(side)
    if side == "dream" or not player.truth_is_told or text is None:
        return text
    believed = player.believed(side) or ""
    wide = max(len(text), len(believed))
    return f"{text:{wide}}   the truth\n\n{believed:{wide}}   believed"


def headline(player: Player) -> Table:
    """The headline: the latest step, and the player's state."""
    table = Table.grid(expand=True)
    table.add_column(no_wrap=True)
    table.add_column(justify="right", no_wrap=True)
    table.add_row(Text(player.headline, "bold"), Text(state(player)))
    return table


def bars(expected: Sequence[Chance]) -> Text:
    """A bar for each value."""
    return Text("\n").join(
        Text.assemble(
            (f"{chance.value:3} ", "bold" if chance.seen else ""),
            (bar(chance.probability), colour(chance.value)),
            f" {chance.probability:6.1%}",
            ("  seen" if chance.seen else "", "bold"),
        )
        for chance in expected
    )


def bar(probability: float) -> str:
    """A horizontal bar, to an eighth of a character.

    >>> bar(0.5).rstrip()
    '██████████████'
    """
    whole, part = divmod(round(8 * BAR * probability), 8)
    return ("█" * whole + EIGHTHS[part] * (whole < BAR)).ljust(BAR)


def colour(value: int) -> str:
    """The colour of a value, as in the toy game's pictures."""
    return hexadecimal(PALETTE[value % len(PALETTE)].tolist())


def config(player: Player, surprises: Surprises) -> Text:
    """The model's predictions, one a line, and its surprise over the last rows."""
    lines = [*thoughts(player), ("over time", sparkline(surprises.shares))]
    text = Text("\n", no_wrap=True)
    return text.join(Text.assemble((f"{name:{LABEL}}  ", "dim"), words) for name, words in lines)


def sparkline(shares: Sequence[float]) -> str:
    """
    >>> sparkline([0, 0.5, 1])
    '▁▅█'
    """
    return "".join(HEIGHTS[round(7 * share)] for share in shares)


def foot(player: Player, width: int, hidden: bool) -> Text:
    """The keys that fit, and the key that shows the others."""
    last = [Key("tab", "next view")] * hidden + [Key(HELP, "all keys"), Key(QUIT, "quit")]
    lines: list[list[Key]] = [[]]
    for pair in keys_of(player):
        kept = last if len(lines) == FOOT else []
        if columns([*lines[-1], pair, *kept]) <= width:
            lines[-1].append(pair)
        elif len(lines) < FOOT:
            lines.append([pair])
        else:
            break
    lines[-1] += last
    return Text("\n", no_wrap=True).join(map(written, lines))


def columns(keys: Sequence[Key]) -> int:
    return len(written(keys))


def written(keys: Sequence[Key]) -> Text:
    """Keys with their effects; faint, if they have none now."""
    return Text("  ").join(
        Text.assemble((symbols(key.keys), style(key, "bold")), " ", (key.words, style(key)))
        for key in keys
    )


def style(key: Key, usual: str = "") -> str:
    return IDLE if key.is_idle else usual


def symbols(keys: str) -> str:
    """
    >>> symbols("left 1")
    '← 1'
    """
    return " ".join(SYMBOLS.get(key, key) for key in keys.split())


def all_keys(player: Player) -> Table:
    """Every key, in two columns."""
    others = [Key("tab", "next view"), Key(HELP, "these keys"), Key(QUIT, "quit")]
    keys = [*keys_of(player), *others]
    half = -(-len(keys) // 2)
    table = Table.grid(padding=(0, 3, 0, 0))
    for number in range(half):
        table.add_row(
            *(
                Text(part, style(key, usual))
                for key in keys[number::half]
                for part, usual in ((symbols(key.keys), "bold"), (key.words, ""))
            )
        )
    return table
