"""Commands of keys besides actions, the same in every face."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol

from worldmodel import Dream
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
    states: Any
    dreaming: Dream
    film: Film | None
    new_film: Callable[[], Film] | None

    @property
    def truth_is_hidden(self) -> bool: ...

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
    words: str  # for a list of keys
    do: Callable[[Commanded], str]  # -> a message


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
        return f"there are {MOST_FORKS} forks: b comes back from one"
    player.fork()
    return "what if? the dream goes on alone, b comes back"


def back(player: Commanded) -> str:
    if not player.forks:
        return "there is nothing to come back from: f makes a fork"
    player.back()
    return "back again"


def take_turns(pilot: Pilot, words: str) -> Callable[[Commanded], str]:
    """Hands the controls over and starts time; or takes them back and stops it."""

    def do(player: Commanded) -> str:
        over = player.pilot != pilot
        player.pilot = pilot if over else "human"
        player.running = over
        return words if over else "you are at the controls"

    return do


def faster(player: Commanded) -> str:
    return _run_at(player, min((s for s in SPEEDS if s > player.speed), default=player.speed))


def slower(player: Commanded) -> str:
    return _run_at(player, max((s for s in SPEEDS if s < player.speed), default=player.speed))


def _run_at(player: Commanded, speed: float) -> str:
    player.speed = speed
    return f"{speed:g} steps a second"


def hotter(player: Commanded) -> str:
    now = player.dreaming.temperature
    return _warm(player, min((t for t in TEMPERATURES if t > now), default=now))


def colder(player: Commanded) -> str:
    now = player.dreaming.temperature
    return _warm(player, max((t for t in TEMPERATURES if t < now), default=now))


def _warm(player: Commanded, temperature: float) -> str:
    try:
        player.set_temperature(temperature)
    except ValueError as error:
        return str(error)
    return f"the dream's temperature is {temperature:g}"


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


COMMANDS = {
    "p": Command("run", "run, pause", run),
    ".": Command("single", "one step", single),
    "r": Command("restart", "new game", restart),
    "y": Command("sync", "re-sync the dream", sync),
    "f": Command("fork", "what if", fork),
    "b": Command("back", "come back", back),
    "t": Command("agent", "trained agent, you", take_turns("agent", "the trained agent plays")),
    "u": Command("random", "chance, you", take_turns("random", "chance plays")),
    "+": Command("faster", "faster", faster),
    "-": Command("slower", "slower", slower),
    "]": Command("hotter", "wilder dream", hotter),
    "[": Command("colder", "tamer dream", colder),
    "x": Command("reveal", "reveal the truth", reveal),
    "v": Command("record", "record, stop", record),
}
"""Commands by key; a user's own key of an action takes precedence."""
