"""Helpers of all faces: names of keys, predictions in words, names of recordings."""

from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import NamedTuple, cast

import numpy as np
from gymnasium import spaces

from worldmodel.experiments.measure.scores import DENSITIES
from worldmodel.experiments.runs.labels import GO_ON, HAPPENED
from worldmodel.experiments.show.config import PlayConfig
from worldmodel.experiments.show.films import Film
from worldmodel.experiments.show.play.commands import COMMANDS
from worldmodel.experiments.show.play.moments import Moment, Snapshot, happened, part_of
from worldmodel.experiments.show.play.player import Playable, Player, new_player
from worldmodel.progress import Reporter

QUIT, HELP = "q", "?"
ALIASES = {"return": "enter", "keypad enter": "enter"}
REMEMBERED = 64  # rows of the plot of surprise
LEAST = 1e-6  # of an expected reward: less is shown as 0
TO_BOTH, TO_DREAM = {"y"}, {"y", "f", "b", "]", "["}  # commands that need two worlds, or a dream


def opened(parts: Playable, config: PlayConfig, videos: Path) -> Player:
    """A player by its configuration, whose recordings go to the folder `videos`."""
    player = new_player(parts, config, config.seed)
    player.new_film = lambda: new_film(videos, player.speed)
    return player


def closed(player: Player) -> None:
    """Ends the game and a recording, and prints the path of the recording."""
    try:
        path = player.stop_recording()
        if path is not None:
            Reporter().say(f"recorded: {path}")
    finally:
        player.close()


def new_film(folder: Path, fps: float) -> Film:
    """A film of a new name: played-1.mp4, played-2.mp4 and so on."""
    with suppress(OSError):  # the film raises errors of the folder
        folder.mkdir(parents=True, exist_ok=True)
    names = (folder / f"played-{number}.mp4" for number in count(1))
    return Film(next(name for name in names if not name.exists()), fps)


def key_name(name: str, character: str | None) -> str:
    """The name of a key for `Player.press`: its character, if it is printable, or else its name.

    >>> key_name("full_stop", "."), key_name("X", "X"), key_name("return", "\\r")
    ('.', 'x', 'enter')
    """
    if character and character.isprintable() and character != " ":
        return character.lower()
    return ALIASES.get(name, name)


class Key(NamedTuple):
    """Keys, and what they do."""

    keys: str  # with spaces between them
    words: str
    is_idle: bool = False  # does nothing now


def keys_of(player: Player) -> list[Key]:
    """The keys of this player; actions come first."""
    useless = set(player.controls.places)
    if len(player.states) < 2:
        useless |= TO_BOTH
    if "dream" not in player.states:
        useless |= TO_DREAM
    if not player.truth_is_hidden:
        useless |= {"x"}
    return [
        *(Key(*pair) for pair in player.controls.help),
        *(
            Key(key, command.label, command.is_idle(player))
            for key, command in COMMANDS.items()
            if key not in useless
        ),
    ]


# Words.


def thoughts(player: Player) -> list[tuple[str, str]]:
    """The model's predictions of the last row, in words: (subject, prediction)."""
    moment = player.moment
    config = [("expected", expected(moment)), ("surprise", surprise_of(moment))]
    if moment.real is not None and moment.dream is not None:
        config.append((HAPPENED, happened_in_words(moment)))
    return config


def happened_in_words(moment: Moment) -> str:
    """The dream's probability of the real row in words, if the worlds differ."""
    if moment.watching:
        return "none: the dream watches"
    if moment.difference is None:
        return "none: one world alone moved"
    if not moment.difference.is_seen:
        return "the worlds agree"
    return ", ".join(f"{part} {words}" for part, words in happened(moment).items())


def expected(moment: Moment) -> str:
    """The expected reward and the probability of the end, in words."""
    if not surprise_is_whole(moment):
        return "a first row: no reward, no end"
    end = f"{moment.predicted.terminated:.1%}".replace("%", " %")
    return f"reward {round(expected_reward(moment), 6):z.4g}   the end {end}"


def expected_reward(moment: Moment) -> float:
    """The expected reward; 0 below `LEAST`, which may be a rounding error."""
    reward = moment.predicted.reward
    return 0.0 if abs(reward) < LEAST else reward


def surprise_of(moment: Moment) -> str:
    """The model's loss in words, nats, in total and by key."""
    nats = f"loss {total_surprise(moment):z.2f} nats"
    if len(moment.surprise) < 2:
        return nats
    parts = (f"{part_of(key)} {part:z.2f}" for key, part in moment.surprise.items())
    return f"{nats}: {', '.join(parts)}"


def total_surprise(moment: Moment) -> float:
    return sum(moment.surprise.values())


def surprise_is_whole(moment: Moment) -> bool:
    """True if reward and end were predicted too, as on all rows but first ones."""
    return len(moment.surprise) > 1


def status(player: Player) -> str:
    """The status line: the latest message, and how the game ended and goes on."""
    said = [player.message, player.outcome(player.leader)]
    said += [GO_ON] * (now(player).ended and not player.running)
    return "; ".join(filter(None, said))


def explained(player: Player) -> list[str]:
    """The purpose of the game, and how to read its pictures and losses; a paragraph each."""
    losses = f"Losses are of {DENSITIES}." * bool(player.densities)
    texts = player.parts.purpose.told, player.legend, losses
    return [text for text in texts if text]


def state(player: Player) -> str:
    """The player's state in words: its state line, its speed while time runs, recording."""
    words = [player.state_line]
    words += [f"{player.speed:.3g} steps a second"] * player.running
    words += ["recording"] * (player.film is not None)
    return "   ".join(filter(None, words))


def now(player: Player) -> Snapshot:
    """The snapshot of the leading world."""
    return cast(Snapshot, player.states[player.leader].snapshot)


class Chance(NamedTuple):
    """One of the values of a Discrete observation."""

    value: int
    probability: float  # predicted by the model
    seen: bool  # observed


def chances(player: Player, most: int) -> list[Chance]:
    """The model's predicted values: all, or the `most` probable ones and the observed one; [] if
    observations are not Discrete."""
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
    """The model's surprise, row by row; after leaving a fork, as before it."""

    def __init__(self) -> None:
        self._moments: list[Moment] = []

    def note(self, moment: Moment) -> None:
        """Records the latest moment; idempotent."""
        for place, known in enumerate(self._moments):
            if known.surprise is moment.surprise:
                del self._moments[place + 1 :]
                return
        self._moments = [*self._moments, moment][-REMEMBERED:]

    @property
    def nats(self) -> list[float]:
        """Surprises of at most `REMEMBERED` rows, the latest last."""
        return [total_surprise(moment) for moment in self._moments]

    @property
    def shares(self) -> list[float]:
        """Surprises scaled to [0, 1] between the least and the greatest of them and 0."""
        return self.shares_with_zero[1:]

    @property
    def shares_with_zero(self) -> list[float]:
        """The share of surprise 0, then `shares`; infinite ones have the share of the greatest."""
        nats = np.array([0.0, *self.nats])
        finite = nats[np.isfinite(nats)]
        low, high = finite.min(), finite.max()
        return ((nats.clip(low, high) - low) / (high - low if high > low else 1.0)).tolist()
