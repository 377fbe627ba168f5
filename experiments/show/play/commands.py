"""Commands of keys besides actions, the same in every face."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol

from worldmodel import Dream
from worldmodel.experiments.runs.labels import COMMANDS as LABELS, PILOTS
from worldmodel.experiments.show.films import Film
from worldmodel.run_folder import RunError

Pilot = Literal["human", "agent", "random"]

SPEEDS = (0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 15.0, 30.0, 60.0)  # rows a second, to choose from
MOST_FORKS = 100  # within each other
TEMPERATURES = (0.1, 0.25, 0.5, 0.75, 0.9, 1.0, 1.1, 1.25, 1.5, 2.0, 3.0, 4.0)


class Commanded(Protocol):
    """The player that commands act on; see `worldmodel.experiments.show.play.Player`."""

    running: bool
    speed: float
    pilot: Pilot
    revealed: bool
    forks: Any
    moment: Any
    states: Any
    dreaming: Dream
    film: Film | None
    new_film: Callable[[], Film] | None

    @property
    def truth_is_hidden(self) -> bool: ...

    @property
    def truth_is_told(self) -> bool: ...

    def step(self) -> Any: ...

    def reset(self) -> Any: ...

    def sync(self) -> Any: ...

    def fork(self) -> None: ...

    def back(self) -> Any: ...

    def set_temperature(self, temperature: float) -> None: ...

    def record(self, film: Film) -> None: ...

    def stop_recording(self) -> Path | None: ...


class Command(NamedTuple):
    """The command of a key."""

    name: str
    do: Callable[[Commanded], str]  # -> a message
    is_idle: Callable[[Commanded], bool] = lambda player: False
    """True while it would do nothing."""

    @property
    def label(self) -> str:
        """Its words in a list of keys, or on a button."""
        return LABELS[self.name]


def run(player: Commanded) -> str:
    player.running = not player.running
    return "time runs" if player.running else "time stands still: a key, a step"


def single(player: Commanded) -> str:
    player.running = False
    player.step()
    return ""


def restart(player: Commanded) -> str:
    player.reset()
    return "a new game"


def sync(player: Commanded) -> str:
    if len(player.states) < 2:
        return "there is one world only: play both to re-sync the dream"
    player.sync()
    return "the dream is where reality is"


def fork(player: Commanded) -> str:
    if "dream" not in player.states:
        return "there is no dream here: play the dream, or both"
    if len(player.forks) >= MOST_FORKS:
        return f"there are {MOST_FORKS} forks: b goes back to one"
    player.fork()
    return "the dream goes on alone, and reality waits: b goes back to it"


def back(player: Commanded) -> str:
    if not player.forks:
        return "there is nothing to go back to: f makes a fork"
    player.back()
    return "back at the fork"


def take_turns(pilot: Pilot) -> Callable[[Commanded], str]:
    """Hands the controls over and starts time; or takes them back and stops it."""

    def do(player: Commanded) -> str:
        over = player.pilot != pilot
        player.pilot = pilot if over else "human"
        player.running = over
        return PILOTS[player.pilot]

    return do


def faster(player: Commanded) -> str:
    return _run_at(player, higher(SPEEDS, player.speed))


def slower(player: Commanded) -> str:
    return _run_at(player, lower(SPEEDS, player.speed))


def _run_at(player: Commanded, speed: float) -> str:
    player.speed = speed
    return f"{speed:g} steps a second"


def hotter(player: Commanded) -> str:
    return _warm(player, higher(TEMPERATURES, player.dreaming.temperature))


def colder(player: Commanded) -> str:
    return _warm(player, lower(TEMPERATURES, player.dreaming.temperature))


def _warm(player: Commanded, temperature: float) -> str:
    try:
        player.set_temperature(temperature)
    except ValueError as error:
        return str(error)
    return f"the dream's temperature is {temperature:g}"


def higher(values: Sequence[float], now: float) -> float:
    """The next of ascending values, or the one that is now.

    >>> higher(SPEEDS, 4.0), higher(SPEEDS, 60.0)
    (8.0, 60.0)
    """
    return min((value for value in values if value > now), default=now)


def lower(values: Sequence[float], now: float) -> float:
    """The one of ascending values before the one that is now, or that.

    >>> lower(SPEEDS, 50.0), lower(SPEEDS, 0.25)
    (30.0, 0.25)
    """
    return max((value for value in values if value < now), default=now)


def reveal(player: Commanded) -> str:
    player.revealed = not player.revealed and player.truth_is_hidden
    return "" if player.truth_is_hidden else "there is nothing hidden here"


def record(player: Commanded) -> str:
    try:
        if player.film is not None:
            return f"recorded: {player.stop_recording()}"
        if player.new_film is None:
            return "no folder for recordings was given"
        player.record(player.new_film())
    except RunError as error:
        return str(error)
    return "recording; v stops"


def _no_fork(player: Commanded) -> bool:
    return not player.forks


def _in_step(player: Commanded) -> bool:
    return player.moment.watching and not player.forks


def _all_forked(player: Commanded) -> bool:
    return len(player.forks) >= MOST_FORKS


def _told(player: Commanded) -> bool:
    return player.truth_is_told and not player.revealed


COMMANDS = {
    "t": Command("agent", take_turns("agent")),
    "p": Command("run", run),
    ".": Command("single", single),
    "r": Command("restart", restart),
    "f": Command("fork", fork, _all_forked),
    "b": Command("back", back, _no_fork),
    "y": Command("sync", sync, _in_step),
    "u": Command("random", take_turns("random")),
    "x": Command("reveal", reveal, _told),
    "v": Command("record", record),
    "+": Command("faster", faster, lambda player: player.speed >= SPEEDS[-1]),
    "-": Command("slower", slower, lambda player: player.speed <= SPEEDS[0]),
    "]": Command("hotter", hotter, lambda player: player.dreaming.temperature >= TEMPERATURES[-1]),
    "[": Command("colder", colder, lambda player: player.dreaming.temperature <= TEMPERATURES[0]),
}
"""Commands by key, those that matter most first; a user's own key of an action takes
precedence."""
