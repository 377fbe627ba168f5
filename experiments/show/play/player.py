"""Games in the real world, in the dream of it, or in both, controlled by a person or an agent.

There is no user interface here: faces (a terminal, a window, a browser) press keys and show
moments and pictures. Films are made by the same player, controlled by an agent.

Both worlds get the same actions; the real one leads. The dream observes the first row of each
real game and goes on alone from there. Re-syncing sets the dream to the model's current belief of
the real game, which is filtered throughout. Forking pauses reality until `back` restores both
worlds.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol, cast

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor

from worldmodel import (
    Agent,
    Dream,
    DreamState,
    Environment,
    GenCore,
    Greedy,
    Row,
    WorldModel,
    nested,
)
from worldmodel.agents import Human, Uniform
from worldmodel.codecs import by_path, is_image
from worldmodel.envs import GymEnvironment, Purpose, View
from worldmodel.experiments.measure.scores import densities_of
from worldmodel.experiments.runs.labels import PILOTS
from worldmodel.experiments.show.config import PlayConfig
from worldmodel.experiments.show.films import Film, Frame
from worldmodel.experiments.show.play.commands import COMMANDS, SPEEDS, Pilot
from worldmodel.experiments.show.play.controls import Controls
from worldmodel.experiments.show.play.expectation import (
    PARTICLES,
    Expectation,
    expect,
    surprise,
)
from worldmodel.experiments.show.play.moments import (
    NOTICEABLE,
    Difference,
    Moment,
    Snapshot,
    config,
    snapshot_after,
    told_apart,
)
from worldmodel.experiments.show.play.panels import Panel, compose, difference_picture
from worldmodel.experiments.show.play.watched import Watched, WatchedState
from worldmodel.noise import OwnNoise
from worldmodel.run_folder import RunError

World = Literal["both", "real", "dream"]
Side = Literal["real", "dream"]

OF_IMAGES = 4  # draws of the model's expectation if images are decoded


class Playable(Protocol):
    """The parts of a run that playing and filming need."""

    @property
    def model(self) -> WorldModel: ...

    @property
    def observation_space(self) -> spaces.Space:
        """The space of observations as the model reads them."""

    @property
    def action_space(self) -> spaces.Space: ...

    @property
    def agent(self) -> Agent: ...

    @property
    def has_environment(self) -> bool: ...

    @property
    def absence(self) -> str:
        """A sentence on why there is no real environment; "" where there is one."""

    @property
    def time_limit(self) -> int | None:
        """Steps after which the real environment truncates."""

    @property
    def hides(self) -> bool:
        """True if the real game's picture reveals hidden state."""

    @property
    def action_names(self) -> tuple[str, ...]:
        """Names of discrete actions, in lower case; () if unknown."""

    @property
    def pace(self) -> float | None:
        """Rows a second at which the real environment is rendered; None if unspecified."""

    @property
    def purpose(self) -> Purpose:
        """The purpose of the game, its ends, and a good return."""

    def best_return(self, info: Mapping[str, Any]) -> float | None:
        """The best possible return of a real game whose `reset` gave this info, if it is known."""

    def shown_environment(self, seed: int) -> GymEnvironment:
        """One real game, with rendering if possible."""

    def dream(self, horizon: int | None = None) -> Dream: ...

    def view(self) -> View:
        """The view that draws dreams."""

    def picture(self, environment: GymEnvironment, mode: str) -> Any:
        """The real game's own rendering; None if it has none in that mode."""


class WorldState(NamedTuple):
    """A world in progress: the state that its next row depends on, and its latest snapshot."""

    game: Any  # a GenState, leaves [1, ...]
    pictured: Any  # the view's state
    snapshot: Snapshot | None = None  # None before the first row


class Fork(NamedTuple):
    """The state that `back` restores."""

    dream: WorldState
    moment: Moment


class Player:
    """One game or two under a person's or an agent's control; keys in, moments and pictures out.

    Owns its noise: the same seed and the same keys give the same games, and torch's global
    generator is not used. Observation has no side effects: predictions of rows and pictures draw
    from noise of their own, however often a face requests them. The real game is the one that the
    environment gives for the seed.
    """

    def __init__(
        self,
        parts: Playable,
        world: World = "both",
        seed: int = 0,
        pilot: Pilot = "human",
        keys: Mapping[str, int] | None = None,
        horizon: int | None = None,
    ):
        """keys: of discrete actions, besides the default ones; horizon: steps of a dreamt game, by
        default the real one's time limit."""
        if seed < 0:
            raise RunError(f"--seed must be 0 or more, got {seed}")
        if world != "dream" and not parts.has_environment:
            raise RunError(f"{parts.absence}: choose the dream, --world dream")
        seeds = np.random.SeedSequence(seed).generate_state(3).tolist()
        self._noise, self._looking, self._drawing = map(OwnNoise, seeds)
        self.parts, self.world = parts, world
        self.model = parts.model
        try:
            self.controls = Controls(parts.action_space, parts.action_names, keys)
        except ValueError as error:
            raise RunError(str(error)) from error
        self.human = Human(parts.agent, parts.action_space)
        self.policies: dict[Pilot, Callable[[Tensor], Any]] = {
            "human": self.human.policy,
            "agent": Greedy(parts.agent).policy,
            "random": Uniform(parts.action_space).policy,
        }
        self.pilot = pilot
        self.dreaming = parts.dream(horizon or parts.time_limit or FOREVER)
        self.environment = parts.shown_environment(seed) if world != "dream" else None
        worlds: dict[Side, Environment | None] = {
            "real": self.environment,
            "dream": self.dreaming if world != "real" else None,
        }
        self.cores = {
            side: GenCore(Watched(world, self.dreaming), self.human)
            for side, world in worlds.items()
            if world is not None
        }
        self.view = parts.view()
        images = any(map(is_image, by_path(parts.observation_space).values()))
        self.particles = OF_IMAGES if images else PARTICLES
        self.densities = densities_of(self.model, parts.observation_space)
        self.running = False
        self.speed = speed_for(parts.pace)  # rows a second, while it runs
        self.revealed = False
        self.message = ""
        self.film: Film | None = None
        self.new_film: Callable[[], Film] | None = None  # makes the film of `v`; set by a face
        self._begin()
        self.step()

    # Input.

    def press(self, key: str) -> bool:
        """Handles a key of an action or of `COMMANDS`; False if it is neither."""
        self.message = ""
        if key in COMMANDS and key not in self.controls.places:
            self.message = COMMANDS[key].do(self)
            return True
        if not self.controls.knows(key):
            return False
        self.act(self.controls.press(key))
        return True

    def release(self, key: str | None = None) -> None:
        """Releases a key of an action; None: all keys."""
        self.controls.release(key)

    def point(self, x: float, y: float) -> None:
        """Handles the pointer pressed at (x, y), each from -1 to 1, y upwards."""
        if self.controls.point(x, y):
            self.act(True)

    def act(self, chosen: bool) -> None:
        """Handles an action key: gives the controls to the person; takes a step if time stands
        still and an action was `chosen`."""
        if self.pilot != "human":
            self.pilot = "human"
            self.message = PILOTS["human"]
        if chosen and not self.running:
            self.step()

    def tick(self) -> None:
        """Takes a step while time runs; to be called `speed` times a second."""
        if self.running:
            self.step()

    def reset(self) -> Moment:
        """Begins a new game in every world; returns its first row."""
        self._begin()
        return self.step()

    @torch.inference_mode()
    def step(self) -> Moment:
        """Takes one row of every world that moves, under the current pilot's action.

        After an end it is the first row of a new game, whatever the action. A dream that has
        ended before the real game waits for it, or to be re-synced.
        """
        self.human.press(self.controls.action)
        leads = self.leader
        with self._noise():
            action = self.policies[self.pilot](self.states[leads].game.thought).sample()
        before = dict(self.states)
        believed = self.belief
        row = self._advance(leads, action)
        with self._looking():
            predicted, surprised = expect(self.model, believed.model, action, row, self.particles)
        difference, watching = None, False
        if leads == "real" and "dream" in self.states:
            if row.first:
                self._sync_now()
                watching = True
            elif not self._dream_waits:
                self._advance("dream", action)
                difference = self._difference(before["dream"], action, row)
        words = "" if row.first else self.controls.describe(self._decoded(row.action)[0])
        self.revealed = self.revealed and not row.first
        return self._happened(words, predicted, surprised, difference, watching)

    @torch.inference_mode()
    def sync(self) -> Moment:
        """Sets the dream to the model's belief of the real game; leaves forks first."""
        if "real" not in self.states or "dream" not in self.states:
            raise ValueError("there is one world only, and nothing to be re-synced")
        now = self.moment
        if self.forks:
            now = self.forks[0].moment
            self.forks.clear()
        self._sync_now()
        return self._happened(now.action, now.predicted, now.surprise, None, True)

    def fork(self) -> None:
        """Lets the dream go on alone until `back`."""
        if "dream" not in self.states:
            raise ValueError("there is no dream to be forked")
        self.forks.append(Fork(self.states["dream"], self.moment))

    def back(self) -> Moment:
        """Restores the latest fork."""
        if not self.forks:
            raise ValueError("nothing was forked")
        fork = self.forks.pop()
        self.states["dream"], self.moment = fork
        self._pictures.clear()
        return self.moment

    def set_temperature(self, temperature: float) -> None:
        """Sets the dream's temperature from its next row on; raises a ValueError if its
        distributions have none."""
        with torch.inference_mode(), self._looking():
            action = torch.zeros(1, self.model.action_size, device=self.model.device)
            prediction, _ = self.model.predict(action, self.model.initial_state(1))
            prediction.tempered(temperature).sample()
        self.dreaming.temperature = temperature

    def close(self) -> None:
        """Ends the real game and a recording."""
        self.stop_recording()
        if self.environment is not None:
            self.environment.close()

    # Display.

    @property
    def leader(self) -> Side:
        """The world that is controlled."""
        return "real" if "real" in self.states and not self.forks else "dream"

    @property
    def belief(self) -> DreamState:
        """The model's belief of the leading world."""
        return cast(DreamState, self.states[self.leader].game.world.belief)

    @property
    def truth_is_hidden(self) -> bool:
        """True if the real game's picture is withheld until revealed."""
        return self.world != "dream" and self.parts.hides

    @property
    def truth_is_told(self) -> bool:
        """True if hidden state is shown: on request, and when the real game has ended."""
        if not self.truth_is_hidden:
            return False
        return self.revealed or cast(Snapshot, self.states["real"].snapshot).ended

    def picture(self, side: Side) -> Frame:
        """The picture of a world, uint8 [H, W, 3]; drawn once a moment."""
        return cast(Frame, self._drawn(side, "rgb_array"))

    def title(self, side: Side) -> str:
        """The title of a world: the real one may be drawn as the model believes it to be."""
        is_believed = side == "real" and self.truth_is_hidden and not self.truth_is_told
        return f"{side}, as the model believes it" if is_believed else side

    @property
    def legend(self) -> str:
        """Words on how to read the pictures; "" where they need none."""
        return str(getattr(self.view, "legend", ""))

    def text(self, side: Side) -> str | None:
        """The picture of a world as text, for a terminal; None if there is no text view."""
        return cast("str | None", self._drawn(side, "ansi"))

    def believed(self, side: Side) -> str | None:
        """The text view of the belief of a world, also while the truth is shown."""
        return self._viewed("ansi").get(side)

    def difference(self) -> Frame | None:
        """The difference of the two pictures, or, if these have different sizes, of what the view
        makes of both worlds' observations; None for one world."""
        if len(self.states) < 2:
            return None
        real, dream = self.picture("real"), self.picture("dream")
        if real.shape != dream.shape:
            drawn = self._drawn_by_view(["real", "dream"], "rgb_array")
            real, dream = drawn["real"], drawn["dream"]
        return difference_picture(real, dream)

    def panels(self) -> list[Panel]:
        """The panels of a frame of a film."""
        panels = [
            Panel(
                self.title(side), self.lines(side), self.picture(side), leads=side == self.leader
            )
            for side in self.states
        ]
        if len(panels) < 2:
            return panels
        words = self.lines("difference")
        if (apart := self.difference()) is not None:
            return [*panels, Panel("difference", words, apart)]
        real, dream = panels
        return [real, dream._replace(lines=dream.lines + words)]

    def lines(self, title: Side | Literal["difference"]) -> list[str]:
        """The words on a world, or on the difference of the two."""
        if title == "difference":
            return told_apart(self.moment, self._dream_waits)
        words = [*config(cast(Snapshot, getattr(self.moment, title))), self.outcome(title)]
        return list(filter(None, words))

    def outcome(self, side: Side) -> str:
        """The end of the game of a world, in words; "" while it goes on."""
        snapshot = cast(Snapshot, getattr(self.moment, side))
        if not snapshot.ended:
            return ""
        best = self.parts.best_return(self._begun) if side == "real" else None
        ended = snapshot.terminated, snapshot.step, snapshot.total
        return self.parts.purpose.outcome(*ended, best)

    def frame(self) -> Frame:
        """A frame of a film: the panels in one picture, with a headline."""
        return self.composed(self.panels())

    def composed(self, panels: Sequence[Panel]) -> Frame:
        """A frame of the given panels."""
        lines = {1: 2, 2: 4, 3: 2}[len(panels)]  # of two, the second has the difference's words
        return compose(self.headline, self.state_line, panels, lines)

    @property
    def headline(self) -> str:
        """The step and its action, in words."""
        moment = self.moment
        snapshot = self.moment.dream if self.forks else moment.lead
        step = cast(Snapshot, snapshot).step
        return f"step {step}    {moment.action or 'a new game begins'}"

    @property
    def state_line(self) -> str:
        """The player's state in words: forks, pilot, temperature, synchronisation."""
        words = []
        if self.forks:
            words.append(f"imagined alone ({len(self.forks)})")
        if self.pilot != "human":
            words.append(PILOTS[self.pilot])
        if self.dreaming.temperature != 1:
            words.append(f"temperature {self.dreaming.temperature:.2g}")
        if self.moment.watching:
            words.append("the dream watches")
        return "   ".join(words)

    # Recordings.

    def record(self, film: Film) -> None:
        """Writes every moment as a frame of a film until `stop_recording`."""
        self.stop_recording()
        self.film = film
        film.write(self.frame())

    def stop_recording(self) -> Path | None:
        """Ends the film, if there is one; returns its path."""
        film, self.film = self.film, None
        if film is None:
            return None
        film.close()
        return film.path

    # Internals.

    def _begin(self) -> None:
        self.states: dict[Side, WorldState] = {
            side: WorldState(core.initial_state(1), self.view.initial_state(1))
            for side, core in self.cores.items()
        }
        self.forks: list[Fork] = []
        self._pictures: dict[tuple[str, str], Any] = {}  # pictures drawn of this moment
        self.revealed = False

    @property
    def _dream_waits(self) -> bool:
        """True if the dream has ended before the real game."""
        snapshot = self.states["dream"].snapshot
        return snapshot is not None and snapshot.ended and self.leader == "real"

    def _advance(self, side: Side, action: Tensor) -> Row:
        """Takes one row of a world."""
        state = self.states[side]
        with self._noise():
            (row, _), game = self.cores[side].step(state.game._replace(action=action))
        row = nested.to(row, "cpu")
        if side == "real" and row.first:
            self._begun = info_of_one(cast(GymEnvironment, self.environment).info)
        with self._looking():
            pictured = self.view.step(row, state.pictured)
        snapshot = snapshot_after(row, game.world.world.ended, state.snapshot)
        self.states[side] = WorldState(game, pictured, snapshot)
        return row

    def _sync_now(self) -> None:
        real = self.states["real"]
        believed = real.game.world.belief
        world = WatchedState(believed, believed)
        self.states["dream"] = real._replace(game=real.game._replace(world=world))

    def _difference(self, dream: WorldState, action: Tensor, row: Row) -> Difference:
        """The difference of the two worlds after a real row [1, ...]; dream: its state before."""
        real, dreamt = (cast(Snapshot, self.states[side].snapshot) for side in ("real", "dream"))
        states = self.belief, self.states["dream"].game.world.world
        seen, dreamed = (state.model.history[:, -1] for state in states)
        distance = max(float((seen - dreamed).abs().max()), float(real.ended != dreamt.ended))
        if distance <= NOTICEABLE:
            return Difference(distance, {}, self.densities)
        with self._looking():
            nats = surprise(self.model, dream.game.world.world.model, action, row, self.particles)
        log_prob = {key: -lost for key, lost in nats.items()}
        return Difference(distance, log_prob, self.densities)

    def _decoded(self, code: Tensor) -> Any:
        return next(iter(self.cores.values())).actions.decode(code).numpy()

    def _happened(
        self,
        action: str,
        predicted: Expectation,
        surprise: dict[str, float],
        difference: Difference | None,
        watching: bool,
    ) -> Moment:
        """Makes and stores the latest moment."""
        self._pictures.clear()
        snapshots = {side: state.snapshot for side, state in self.states.items()}
        self.moment = Moment(
            action,
            snapshots.get("real"),
            snapshots.get("dream"),
            predicted,
            surprise,
            difference,
            watching,
        )
        if self.film is not None:
            self._filmed(self.film)
        return self.moment

    def _filmed(self, film: Film) -> None:
        """Writes a frame. If that fails, the film ends and the game goes on."""
        try:
            film.write(self.frame())
        except RunError as error:
            film.discard()
            self.film, self.message = None, str(error)

    def _drawn(self, side: Side, mode: str) -> Any:
        if side == "real" and (self.truth_is_told or not self.parts.hides):
            picture = self._truth(mode)
            if picture is not None:
                return picture
        return self._viewed(mode).get(side)

    def _truth(self, mode: str) -> Any:
        """The real game's own picture, or None; drawn once a moment."""
        key = ("truth", mode)
        if key not in self._pictures:
            environment = cast(GymEnvironment, self.environment)
            self._pictures[key] = self.parts.picture(environment, mode)
        return self._pictures[key]

    def _viewed(self, mode: str) -> dict[Side, Any]:
        """The view's pictures of worlds without a picture of their own; drawn once a moment."""
        sides = list(self.states)
        if "real" in sides and not self.parts.hides and self._truth(mode) is not None:
            sides.remove("real")
        return self._drawn_by_view(sides, mode)

    @torch.inference_mode()
    def _drawn_by_view(self, sides: list[Side], mode: str) -> dict[Side, Any]:
        """The view's pictures of some worlds; drawn once a moment."""
        key = (" and ".join(sides), mode)
        if key not in self._pictures:
            drawn = []
            if sides and mode in self.view.modes:
                states = nested.concatenate([self.states[side].pictured for side in sides])
                with self._drawing():
                    drawn = self.view.draw(states, mode)
            self._pictures[key] = dict(zip(sides, drawn, strict=False))
        return cast("dict[Side, Any]", self._pictures[key])


FOREVER = 2**31  # steps
USUAL = 4.0  # rows a second, where an environment does not say


def speed_for(pace: float | None) -> float:
    """Rows a second, while time runs, of an environment that is rendered at `pace`.

    >>> speed_for(50.0), speed_for(500.0), speed_for(None)
    (50.0, 60.0, 4.0)
    """
    return min(SPEEDS[-1], max(SPEEDS[0], pace or USUAL))


def info_of_one(info: Mapping[str, Any]) -> dict[str, Any]:
    """The info of the first of some environments side by side, without the masks of arrays."""
    return {
        key: info_of_one(value) if isinstance(value, Mapping) else value[0]
        for key, value in info.items()
        if not key.startswith("_") and (isinstance(value, Mapping) or np.ndim(value))
    }


def new_player(
    parts: Playable, config: PlayConfig, seed: int, new_film: Callable[[], Film] | None = None
) -> Player:
    """A player by its configuration; seed: in place of the configuration's. new_film: makes the
    films of recordings."""
    world = config.world or ("both" if parts.has_environment else "dream")
    player = Player(parts, world, seed, "human", config.places, config.horizon)
    player.speed = config.speed or player.speed
    player.new_film = new_film
    warm(player, config.temperature)
    return player


def warm(player: Player, temperature: float) -> None:
    """Sets the dream's temperature from the command line."""
    if temperature != 1:
        try:
            player.set_temperature(temperature)
        except ValueError as error:
            raise RunError(f"--temperature {temperature:g}: {error}") from error
