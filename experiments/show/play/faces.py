"""What faces share: keys by their names, words for what the model thought, recordings' names."""

from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import NamedTuple, cast

import numpy as np
from gymnasium import spaces

from worldmodel.experiments.measure.scores import DENSITIES
from worldmodel.experiments.show.config import PlayConfig
from worldmodel.experiments.show.films import Film
from worldmodel.experiments.show.play.commands import COMMANDS
from worldmodel.experiments.show.play.moments import Moment, Place, odds_of
from worldmodel.experiments.show.play.player import Playable, Player, new_player
from worldmodel.progress import Reporter

QUIT, HELP = "q", "?"
ALIASES = {"return": "enter", "keypad enter": "enter"}
REMEMBERED = 64  # rows over which surprise is drawn
LEAST = 1e-6  # of an expected reward: less is nothing
TO_BOTH, TO_DREAM = {"y"}, {"y", "f", "b", "]", "["}  # commands that need two worlds, or a dream


def opened(parts: Playable, config: PlayConfig, videos: Path) -> Player:
    """A player as it was asked for, whose recordings go to the folder `videos`."""
    player = new_player(parts, config, config.seed)
    player.new_film = lambda: new_film(videos, player.speed)
    return player


def closed(player: Player) -> None:
    """Ends the game, and a recording, of which it says where it is."""
    try:
        path = player.stop_recording()
        if path is not None:
            Reporter().say(f"recorded: {path}")
    finally:
        player.close()


def new_film(folder: Path, fps: float) -> Film:
    """A film of a name that nobody has: played-1.mp4, played-2.mp4 and so on."""
    with suppress(OSError):  # what is wrong with the folder, the film tells
        folder.mkdir(parents=True, exist_ok=True)
    names = (folder / f"played-{number}.mp4" for number in count(1))
    return Film(next(name for name in names if not name.exists()), fps)


def key_name(name: str, character: str | None) -> str:
    """What a key is called by `Player.press`: by the character that it types, if it is one to be
    seen, or else by its name.

    >>> key_name("full_stop", "."), key_name("X", "X"), key_name("return", "\\r")
    ('.', 'x', 'enter')
    """
    if character and character.isprintable() and character != " ":
        return character.lower()
    return ALIASES.get(name, name)


def keys_of(player: Player) -> list[tuple[str, str]]:
    """Keys that make a difference in what is played, and what they do; actions come first."""
    useless = set(player.controls.places)
    if len(player.strands) < 2:
        useless |= TO_BOTH
    if "dream" not in player.strands:
        useless |= TO_DREAM
    if not player.truth_is_hidden:
        useless |= {"x"}
    commands = [(key, words) for key, (_, words, _) in COMMANDS.items() if key not in useless]
    return player.controls.help + commands


# Words.


def thoughts(player: Player) -> list[tuple[str, str]]:
    """What the model had thought of what happened last: (about what, its thought)."""
    moment = player.moment
    surprise = surprise_of(moment) + f" ({DENSITIES})" * bool(player.densities)
    config = [("expected", expected(moment)), ("surprise", surprise)]
    if moment.real is not None and moment.dream is not None:
        config.append(("dream's odds", dream_odds(moment)))
    return config


def dream_odds(moment: Moment) -> str:
    """What the dream gave to what really happened, where the worlds differ."""
    if moment.watching:
        return "none: the dream watches"
    if moment.difference is None:
        return "none: one world alone moved"
    if not moment.difference.is_seen:
        return "the worlds agree"
    return ", ".join(f"{key} {words}" for key, words in odds_of(moment).items())


def expected(moment: Moment) -> str:
    """The reward, and how probable the end was."""
    if not surprise_is_whole(moment):
        return "a first row: no reward, no end"
    end = f"{moment.predicted.terminated:.1%}".replace("%", " %")
    return f"reward {expected_reward(moment):z.4g}   the end {end}"


def expected_reward(moment: Moment) -> float:
    """The reward that was expected; 0 where what is left may be an error of rounding."""
    reward = moment.predicted.reward
    return 0.0 if abs(reward) < LEAST else reward


def surprise_of(moment: Moment) -> str:
    """The model's loss, nats, the whole of it and its parts."""
    nats = f"loss {total_surprise(moment):z.2f} nats"
    if len(moment.surprise) < 2:
        return nats
    return f"{nats}: " + ", ".join(f"{key} {part:z.2f}" for key, part in moment.surprise.items())


def total_surprise(moment: Moment) -> float:
    return sum(moment.surprise.values())


def surprise_is_whole(moment: Moment) -> bool:
    """Whether rewards and ends were expected too, as they are on all rows but first ones."""
    return len(moment.surprise) > 1


def status(player: Player) -> str:
    """What a person is to know now: the latest message, or how the game has ended."""
    place = now(player)
    if player.message or not place.ended:
        return player.message
    how = "the end" if place.terminated else "time is up"
    return f"{how}, after {place.step} steps; any action, or r, begins a new game"


def state(player: Player) -> str:
    """How the game goes on, whether time runs, and whether it is recorded."""
    words = [player.state_line]
    words += [f"{player.speed:.3g} steps a second"] * player.running
    words += ["recording"] * (player.film is not None)
    return "   ".join(filter(None, words))


def now(player: Player) -> Place:
    """Where the one at the controls is."""
    return cast(Place, player.strands[player.leader].place)


class Chance(NamedTuple):
    """One of the values of a Discrete observation."""

    value: int
    probability: float  # that the model had given it
    seen: bool  # whether it came to be


def chances(player: Player, most: int) -> list[Chance]:
    """What the model had expected to see: every value, or the `most` probable ones and the one
    that is seen; [] where observations are not a few values."""
    probabilities = np.array(player.moment.predicted.observation)
    if not len(probabilities):
        return []
    start = int(cast(spaces.Discrete, player.parts.observation_space).start)
    seen = int(now(player).observation) - start
    places = set(np.argsort(-probabilities, kind="stable")[:most].tolist())
    return [
        Chance(start + place, float(probabilities[place]), place == seen)
        for place in sorted(places | {seen})
    ]


class Surprises:
    """How surprised the model was, row by row; where a fork is left, as before it."""

    def __init__(self) -> None:
        self._moments: list[Moment] = []

    def note(self, moment: Moment) -> None:
        """Takes in what happened last, as often as one likes."""
        for place, known in enumerate(self._moments):
            if known.surprise is moment.surprise:
                del self._moments[place + 1 :]
                return
        self._moments = [*self._moments, moment][-REMEMBERED:]

    @property
    def nats(self) -> list[float]:
        """At most `REMEMBERED`, the latest last."""
        return [total_surprise(moment) for moment in self._moments]

    @property
    def shares(self) -> list[float]:
        """The same, from 0 to 1 between the least and the greatest of them and 0."""
        return self.shares_with_zero[1:]

    @property
    def shares_with_zero(self) -> list[float]:
        """The share of no surprise, then the others; of an endless one, that of the greatest."""
        nats = np.array([0.0, *self.nats])
        finite = nats[np.isfinite(nats)]
        low, high = finite.min(), finite.max()
        return ((nats.clip(low, high) - low) / (high - low if high > low else 1.0)).tolist()
