"""One visitor's game for a page: messages in, JSON and pictures out.

Independent of any network. Inputs and outputs are plain data, so that a game can run in a thread
or in a process of its own; `show.play.server` chooses.
"""

import io
import json
import math
import secrets
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from gymnasium import spaces
from PIL import Image

from worldmodel.envs import Purpose
from worldmodel.experiments.runs.labels import HAPPENED, PILOTS
from worldmodel.experiments.show.config import PlayConfig
from worldmodel.experiments.show.films import Film, Frame
from worldmodel.experiments.show.play.commands import COMMANDS
from worldmodel.experiments.show.play.faces import (
    chances,
    expected_reward,
    explained,
    keys_of,
    status,
)
from worldmodel.experiments.show.play.moments import Difference, Snapshot, happened
from worldmodel.experiments.show.play.player import Playable, Player, Side, new_player
from worldmodel.run_folder import RunError

SMALL = 128  # pixels: pictures up to this size are sent as PNG, larger ones as JPEG
QUALITY = 90  # of the JPEGs
VALUES = 24  # of a discrete observation that are sent, the most probable ones
TRAIL = 256  # surprises that are kept
FILM_FRAMES = 5_000  # after which a recording ends by itself
FILMS = 5  # of one visitor that are kept
LETTERS: dict[Side, bytes] = {"real": b"r", "dream": b"d"}


class Input(NamedTuple):
    """An input of a visitor."""

    kind: Literal["press", "release", "point"]
    key: str | None = None  # None: of a release, every key
    x: float = 0.0  # from -1 to 1
    y: float = 0.0


class Reply(NamedTuple):
    """The reply to inputs."""

    messages: list[str | bytes]  # a frame: pictures, then the state; empty where nothing changed
    running: bool
    speed: float  # rows a second
    films: dict[str, Path]  # available for download, by name


class Game:
    """A player, and the state that its page has already received."""

    def __init__(self, parts: Playable, config: PlayConfig, seed: int, folder: Path):
        """folder: to be made, for this game's recordings; removed when the game ends."""
        self.folder = folder
        self.films: dict[str, Path] = {}
        self.player = new_player(parts, config, seed, self._new_film)
        folder.mkdir(parents=True)
        self.frames = 0
        self.trail: list[dict[str, float]] = []  # surprises, the latest last
        self.happened = self.known = 0  # rows so far, and how many of them the page has
        self.drawn: dict[Side, Frame] = {}
        self.sent: dict[str, Any] = {}
        self._note()

    def play(self, given: Sequence[Input], tick: bool, wanted: bool) -> Reply:
        """Handles inputs and, if `tick`, a step of time; replies with a frame if `wanted`."""
        try:
            for each in given:
                self._take(each)
            if tick:
                self.player.tick()
            self._note()
        except RunError as error:  # of a recording
            self._drop_film()
            self.player.message = str(error)
        film = self.player.film
        if film is not None and film.frames >= FILM_FRAMES:
            self._take(Input("press", self._key_of("record")))
        messages = self.shown() if wanted else []
        return Reply(messages, self.player.running, self.player.speed, self.films)

    def hello(self) -> str:
        """The constants of the game, as JSON."""
        player = self.player
        useful = {key.keys for key in keys_of(player)}
        return text(
            {
                "type": "hello",
                "sides": list(player.cores),
                "actions": buttons(player),
                "explained": explained(player),
                "pilots": PILOTS,
                "happened": HAPPENED,
                "pointer": isinstance(player.controls.space, spaces.Box),
                "keys": player.controls.help,
                "commands": [
                    [key, command.name, command.label]
                    for key, command in COMMANDS.items()
                    if key in useful and key not in player.controls.places
                ],
            }
        )

    def shown(self) -> list[str | bytes]:
        """Changes since the last frame: pictures first, then the state."""
        pictures = self._pictures()
        state = self._state()
        if not pictures and state == self.sent:
            return []
        self.sent = state
        self.frames += 1
        new, self.known = self.happened - self.known, self.happened
        surprises = {"surprises": self.trail[-new:] if new else [], "happened": self.happened}
        return [*pictures, text({"type": "state", "number": self.frames} | state | surprises)]

    def close(self) -> None:
        """Ends the real game; discards all recordings, including an unfinished one."""
        self._drop_film()
        self.player.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _take(self, given: Input) -> None:
        player = self.player
        if given.kind == "release":
            player.release(given.key)
        elif given.kind == "point":
            player.point(given.x, given.y)
        elif given.key is not None:
            film = player.film
            player.press(given.key)
            if film is not None and player.film is None and film.path.exists():
                self._keep(film.path)

    def _note(self) -> None:
        """Records the latest moment, which may be the one before a fork."""
        surprise = self.player.moment.surprise
        for back, known in enumerate(reversed(self.trail)):
            if known is surprise:
                self.happened -= back
                self.trail = self.trail[: len(self.trail) - back]
                self.known = min(self.known, self.happened)
                return
        self.happened += 1
        self.trail = [*self.trail, surprise][-TRAIL:]

    def _key_of(self, command: str) -> str:
        return next(key for key, known in COMMANDS.items() if known.name == command)

    # Recordings.

    def _new_film(self) -> Film:
        name = f"recording-{secrets.token_hex(3)}.mp4"
        return Film(self.folder / name, min(30.0, max(1.0, self.player.speed)))

    def _keep(self, path: Path) -> None:
        self.films = self.films | {path.name: path}
        for name in list(self.films)[:-FILMS]:
            self.films.pop(name).unlink(missing_ok=True)
        self.player.message = f"recorded: {path.name}"

    def _drop_film(self) -> None:
        film, self.player.film = self.player.film, None
        if film is not None:
            film.discard()

    # Frames.

    def _pictures(self) -> list[bytes]:
        """Changed pictures, each after the letter of its world."""
        changed = []
        for side in self.player.states:
            picture, before = self.player.picture(side), self.drawn.get(side)
            self.drawn[side] = picture
            if before is not picture and not (before is not None and same(before, picture)):
                changed.append(LETTERS[side] + encoded(picture))
        return changed

    def _state(self) -> dict[str, Any]:
        player, moment = self.player, self.player.moment
        return {
            "worlds": snapshots(player),
            "leader": player.leader,
            "action": moment.action,
            "predicted": {
                "observation": chances(player, VALUES),
                "reward": expected_reward(moment),
                "terminated": moment.predicted.terminated,
                "first": moment.lead.first,
            },
            "apart": apart(moment.difference),
            "probabilities": happened(moment),
            "watching": moment.watching,
            "line": player.state_line,
            "message": status(player),
            "idle": [each.name for each in COMMANDS.values() if each.is_idle(player)],
            "believed": player.title("real") != "real",
            "pilot": player.pilot,
            "running": player.running,
            "speed": player.speed,
            "temperature": player.dreaming.temperature,
            "forks": len(player.forks),
            "revealed": player.revealed,
            "recording": player.film is not None,
            "films": list(self.films),
        }


def snapshots(player: Player) -> dict[str, Any]:
    """Snapshots of the worlds, without observations."""
    found = {side: state.snapshot for side, state in player.states.items()}
    purpose = player.parts.purpose
    return {side: _told(told, purpose) for side, told in found.items() if told is not None}


def _told(snapshot: Snapshot, purpose: Purpose) -> dict[str, Any]:
    end = purpose.end(snapshot.terminated) if snapshot.ended else ""
    reward = None if snapshot.first else snapshot.reward
    return {"step": snapshot.step, "reward": reward, "total": snapshot.total, "end": end}


def apart(difference: Difference | None) -> str:
    """The worlds differ: "yes", "no" or "" (unknown)."""
    return "" if difference is None else "yes" if difference.is_seen else "no"


def same(one: Frame, other: Frame) -> bool:
    return one.shape == other.shape and one.tobytes() == other.tobytes()


def buttons(player: Player) -> list[tuple[str, str]]:
    """Keys of actions for a page without a keyboard, and their effects."""
    controls, space = player.controls, player.controls.space
    if isinstance(space, spaces.Discrete):
        keys: dict[int, str] = {}
        for key, number in controls.places.items():  # names of keys come after digits
            keys[number] = key
        return [(key, controls.name_of(number)) for number, key in sorted(keys.items())]
    digits = [(str(number + 1), f"number {number + 1}") for number in range(controls.action.size)]
    few = digits[:9] if len(digits) > 1 else []
    if isinstance(space, spaces.Box):
        second = [("up", "up"), ("down", "down")] if controls.action.size > 1 else []
        return [("left", "least"), ("right", "most"), *second, ("space", "nothing"), *few]
    if isinstance(space, spaces.MultiDiscrete):
        return [("left", "less"), ("right", "more"), ("space", "play"), *few]
    return [*digits[:9], ("space", "play")]


def encoded(picture: Frame) -> bytes:
    """The picture as a PNG if it is small, or else as a JPEG."""
    file = io.BytesIO()
    image = Image.fromarray(np.ascontiguousarray(picture))
    if max(picture.shape[:2]) <= SMALL:
        image.save(file, "PNG", compress_level=1)
    else:
        image.save(file, "JPEG", quality=QUALITY, subsampling=0)
    return file.getvalue()


def text(message: Mapping[str, Any]) -> str:
    """JSON with null in place of numbers that are not finite."""
    return json.dumps(_finite(message), allow_nan=False, separators=(",", ":"))


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _finite(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(part) for part in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value
