"""The terminal's face of a game: arrow keys, and what the model thinks meanwhile."""

import sys
from typing import ClassVar

from rich.table import Table
from rich.text import Text
from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, ScrollableContainer
from textual.widgets import Digits, Footer, Static

from envs.toy_game import PALETTE
from experiments.play.core import Moment, Player, World
from experiments.run import RunError
from experiments.toy_game import Parts

BAR = 28  # characters of a bar for probability 1
CERTAIN = 0.95  # a value this probable is shown as a digit
CELL = 7  # characters inside a cell, at least
EIGHTHS = " ▏▎▍▌▋▊▉█"
HEIGHTS = "▁▂▃▄▅▆▇█"


def play(parts: Parts, world: World, seed: int) -> None:
    """Lets the person at the terminal play, until they quit."""
    if not all(stream.isatty() for stream in (sys.stdin, sys.stdout, sys.stderr)):
        raise RunError(
            "playing needs a terminal, but standard input, output or error is redirected"
        )
    if seed < 0:
        raise RunError(f"--seed must be 0 or more, got {seed}")
    PlayApp(parts, world, seed).run()


class PlayApp(App[None]):
    """What the player sees, what the model expected, and the ring that it believes in."""

    ENABLE_COMMAND_PALETTE = False
    CSS = """
    #title { background: $primary-darken-2; color: $text; padding: 0 1; }
    #above { height: 11; }
    .box { border: round $primary; border-title-color: $text; padding: 0 1; }
    #seen { width: 27; }
    #seen Digits { width: 3; margin: 1 0 1 9; }
    #expected { width: 1fr; }
    #ring { height: 9; }
    #belief { width: auto; }
    #status { height: 1; padding: 0 2; text-style: bold; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("right", "press('right')", "right", key_display="→"),
        Binding("left", "press('left')", "left", key_display="←"),
        Binding("up", "press('up')", "up", key_display="↑"),
        Binding("down", "press('down')", "down", key_display="↓"),
        Binding("space,n", "press('noop')", "wait", key_display="space"),
        Binding("r", "restart", "restart"),
        Binding("x", "reveal", "reveal"),
        Binding("q", "quit", "quit"),
    ]

    def __init__(self, parts: Parts, world: World, seed: int):
        super().__init__()
        self.game = parts.config.game
        self.player = Player(parts, world, seed)
        self.moment = self.player.reset()
        self.revealed = False

    def compose(self) -> ComposeResult:
        yield Static(self._title(), id="title")
        with Horizontal(id="above"):
            with ScrollableContainer(id="seen", classes="box", can_focus=False):
                yield Digits(id="value")
                yield Static(id="facts")
            with ScrollableContainer(id="expected", classes="box", can_focus=False):
                yield Static(id="bars")
        with ScrollableContainer(id="ring", classes="box", can_focus=False):
            yield Static(id="belief")
        yield Static(id="status")
        yield Footer()

    def on_mount(self) -> None:
        self.query_one("#seen").border_title = "what you see"
        self.query_one("#expected").border_title = "what the model had expected to see"
        self.query_one("#ring").border_title = "the ring that the model believes in"
        self._show()

    def action_press(self, action: str) -> None:
        self._go_on(self.player.press(action))

    def action_restart(self) -> None:
        self._go_on(self.player.reset())

    def action_reveal(self) -> None:
        self.revealed = not self.revealed
        self._show()

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """A dream has nothing to reveal."""
        return action != "reveal" or self.player.world == "real"

    def _title(self) -> Table:
        world = {"real": "The real world", "dream": "The dream"}[self.player.world]
        told = self.game
        title = Table.grid(expand=True)
        title.add_column()
        title.add_column(justify="right")
        title.add_row(
            Text(world, "bold"), f"{told.task}, {told.width} cells, {told.classes} values"
        )
        return title

    def _go_on(self, moment: Moment) -> None:
        self.moment = moment
        self.revealed = self.revealed and not moment.first
        self._show()

    def _show(self) -> None:
        moment = self.moment
        value = self.query_one("#value", Digits)
        value.update(str(moment.observation))
        value.styles.color = colour(moment.observation)
        value.styles.width = 3 * len(str(moment.observation))
        self.query_one("#facts", Static).update(facts(moment))
        self.query_one("#bars", Static).update(expectation(moment))
        told = self.revealed or moment.ended
        self.query_one("#belief", Static).update(ring(moment, self.player.truth if told else None))
        self.query_one("#status", Static).update(status(moment))


def facts(moment: Moment) -> Table:
    """Step, action, reward and return."""
    table = Table.grid(padding=(0, 3))
    table.add_row("step", str(moment.step))
    table.add_row("after", moment.action.replace("noop", "wait") or "the start")
    table.add_row("reward", "none yet" if moment.first else f"{moment.reward:g}")
    table.add_row("return", f"{moment.total:g}")
    return table


def expectation(moment: Moment) -> Text:
    """A bar for each value, then reward, end and surprise."""
    lines = []
    for value, probability in enumerate(moment.predicted.observation):
        seen = value == moment.observation
        lines.append(
            Text.assemble(
                (f"{value:2} ", "bold" if seen else ""),
                (bar(probability), colour(value)),
                f" {probability:6.1%}",
                ("  seen" if seen else "", "bold"),
            )
        )
    surprise = sum(moment.surprise.values())
    lines.append(Text())
    if moment.first:
        lines.append(Text("a first row: no reward, no end"))
    else:
        predicted = moment.predicted
        lines.append(Text(f"reward {predicted.reward:.2f}   the end {predicted.terminated:.1%}"))
    lines.append(Text.assemble("surprise ", (f"{abs(surprise):.2f} nats", "bold")))
    return Text("\n").join(lines)


def ring(moment: Moment, truth: list[int] | None) -> Text:
    """The believed ring, the player's cell in a thick frame; the truth below, if it is told."""
    inside = max(CELL, len(moment.ring[0]) + 2)
    lines = [Text() for _ in range(6)]
    for cell, row in enumerate(moment.ring):
        here = cell == moment.position
        corners, across, down = ("┏┓┗┛", "━", "┃") if here else ("╭╮╰╯", "─", "│")
        style = "bold" if here else "dim"
        lines[0].append(corners[0] + across * inside + corners[1], style)
        for line, text in enumerate(cell_texts(row), start=1):
            text.align("center", inside)
            lines[line].append(down, style).append_text(text).append(down, style)
        lines[3].append(corners[2] + across * inside + corners[3], style)
        lines[4].append(("▲ you" if here else "").center(inside + 2), "bold")
        if truth is not None:
            lines[5].append(f"truth {truth[cell]}".center(inside + 2), colour(truth[cell]))
    return Text("\n", no_wrap=True).join(lines)


def cell_texts(row: list[float]) -> tuple[Text, Text]:
    """The digit of a certain cell, or a little bar for each value; then the best value's share."""
    best = max(range(len(row)), key=row.__getitem__)
    if row[best] > CERTAIN:
        return Text(str(best), f"bold {colour(best)}"), Text(f"{row[best]:.0%}")
    bars = [(HEIGHTS[round(7 * p)], colour(value)) for value, p in enumerate(row)]
    return Text.assemble(*bars), Text(f"{best}: {row[best]:.0%}")


def status(moment: Moment) -> Text:
    """How the game stands."""
    again = "any move, or r, begins a new game"
    if moment.terminated:
        return Text(f"solved! in {moment.step} steps; {again}", "green")
    if moment.truncated:
        return Text(f"time is up, after {moment.step} steps; {again}", "yellow")
    return Text("a new game" if moment.first else "")


def bar(probability: float) -> str:
    """A horizontal bar, to an eighth of a character.

    >>> bar(0.5).rstrip()
    '██████████████'
    """
    whole, part = divmod(round(8 * BAR * probability), 8)
    return ("█" * whole + EIGHTHS[part] * (whole < BAR)).ljust(BAR)


def colour(value: int) -> str:
    """The colour of a value, as in the pictures of the ring."""
    red, green, blue = PALETTE[value % len(PALETTE)].tolist()
    return f"rgb({red},{green},{blue})"
