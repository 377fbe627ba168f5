"""Games in the real world, in the dream of it, or in both, with somebody at the controls.

There is no user interface in here: faces (a terminal, a window, a browser) press keys and show
moments and pictures. Films are made by the same player, with an agent at the controls.

Both worlds hear the same actions, and the one that leads is the real one. The dream takes in the
first row of each real game and goes on alone from there. To re-sync it is to put it where the
model, which watches all along, believes that the real game is. To fork it (what if?) is to leave
reality where it stands, and to come back to this very place later.
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
from worldmodel.envs import GymEnvironment, View
from worldmodel.experiments.measure.scores import densities_of
from worldmodel.experiments.show.config import PlayConfig
from worldmodel.experiments.show.films import Film, Frame
from worldmodel.experiments.show.play.commands import COMMANDS, Pilot
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
    Place,
    config,
    place_after,
    told_apart,
)
from worldmodel.experiments.show.play.panels import Panel, compose, difference_picture
from worldmodel.experiments.show.play.watched import Watched, WatchedState
from worldmodel.noise import OwnNoise
from worldmodel.run_folder import RunError

World = Literal["both", "real", "dream"]
Side = Literal["real", "dream"]

OF_IMAGES = 4  # draws over which the model's expectation is averaged where images are decoded


class Playable(Protocol):
    """What a run holds, for those who play or film it."""

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
    def time_limit(self) -> int | None:
        """Steps after which the real environment truncates."""

    @property
    def hides(self) -> bool:
        """Whether the real game's picture would give away what the player is to find out."""

    @property
    def action_names(self) -> tuple[str, ...]:
        """Of discrete actions, in lower case; () where nobody says."""

    @property
    def pace(self) -> float | None:
        """Rows a second at which the real environment is to be shown; None where nobody says."""

    def shown_environment(self, seed: int) -> GymEnvironment:
        """One real game that can be drawn, where that is possible."""

    def dream(self, horizon: int | None = None) -> Dream: ...

    def view(self) -> View:
        """Draws dreams."""

    def picture(self, environment: GymEnvironment, mode: str) -> Any:
        """The real game as it is; None where it cannot be drawn in that mode."""


class WorldStrand(NamedTuple):
    """A world in progress: all that its next row depends on, and what is shown of it."""

    game: Any  # a GenState, leaves [1, ...]
    pictured: Any  # the view's state
    place: Place | None = None  # None before the first row


class Fork(NamedTuple):
    """Where to come back to."""

    dream: WorldStrand
    moment: Moment


class Player:
    """One game or two, and somebody at the controls; keys in, moments and pictures out.

    Owns its noise: the same seed and the same keys give the same games, and torch's global
    generator is left alone. Looking does not disturb: what the model is asked about each row
    draws from noise of its own, and so do pictures, however often a face asks for them. The real
    game is the one that the environment gives for the seed.
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
        """keys: of discrete actions, besides those known; horizon: steps of a dreamt game, by
        default as many as the real one has at most."""
        if seed < 0:
            raise RunError(f"--seed must be 0 or more, got {seed}")
        if world != "dream" and not parts.has_environment:
            raise RunError(
                "this run was learned from recorded episodes and knows no real environment: "
                "choose the dream, --world dream"
            )
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
        self.speed = 4.0  # rows a second, while it runs
        self.revealed = False
        self.message = ""
        self.film: Film | None = None
        self.new_film: Callable[[], Film] | None = None  # where `v` records to; a face knows
        self._begin()
        self.step()

    # What a person does.

    def press(self, key: str) -> bool:
        """Takes in a key: of an action, or one of `COMMANDS`; whether it was one."""
        self.message = ""
        if key in COMMANDS and key not in self.controls.places:
            self.message = COMMANDS[key].do(self)
            return True
        if not self.controls.knows(key):
            return False
        self.act(self.controls.press(key))
        return True

    def release(self, key: str | None = None) -> None:
        """A key of an action is held no more; None: no key is."""
        self.controls.release(key)

    def point(self, x: float, y: float) -> None:
        """The pointer is pressed at (x, y), each from -1 to 1, y upwards."""
        if self.controls.point(x, y):
            self.act(True)

    def act(self, chosen: bool) -> None:
        """An action key was pressed: the person is at the controls from now on. Where time stands
        still, `chosen` takes a step."""
        if self.pilot != "human":
            self.pilot = "human"
            self.message = "you are at the controls"
        if chosen and not self.running:
            self.step()

    def tick(self) -> None:
        """To be called `speed` times a second: takes a step while time runs."""
        if self.running:
            self.step()

    def reset(self) -> Moment:
        """Begins a new game in every world; its first row."""
        self._begin()
        return self.step()

    @torch.inference_mode()
    def step(self) -> Moment:
        """One row of every world that moves, under the action of whoever is at the controls.

        After an end it is the first row of a new game, whatever the action. A dream that has
        ended before the real game waits for it, or to be re-synced.
        """
        self.human.press(self.controls.action)
        leads = self.leader
        with self._noise():
            action = self.policies[self.pilot](self.strands[leads].game.thought).sample()
        before = dict(self.strands)
        believed = self.belief
        row = self._advance(leads, action)
        with self._looking():
            predicted, surprised = expect(self.model, believed.model, action, row, self.particles)
        difference, watching = None, False
        if leads == "real" and "dream" in self.strands:
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
        """Puts the dream where the model believes that the real game is; comes back first, if it
        is away."""
        if "real" not in self.strands or "dream" not in self.strands:
            raise ValueError("there is one world only, and nothing to be re-synced")
        now = self.moment
        if self.forks:
            now = self.forks[0].moment
            self.forks.clear()
        self._sync_now()
        return self._happened(now.action, now.predicted, now.surprise, None, True)

    def fork(self) -> None:
        """From now on the dream alone goes on, until `back`."""
        if "dream" not in self.strands:
            raise ValueError("there is no dream to be forked")
        self.forks.append(Fork(self.strands["dream"], self.moment))

    def back(self) -> Moment:
        """Where the latest fork was made."""
        if not self.forks:
            raise ValueError("nothing was forked")
        fork = self.forks.pop()
        self.strands["dream"], self.moment = fork
        self._pictures.clear()
        return self.moment

    def set_temperature(self, temperature: float) -> None:
        """Of the dream, from its next row on; refused where its distributions have none."""
        with torch.inference_mode(), self._looking():
            action = torch.zeros(1, self.model.action_size)
            prediction, _ = self.model.predict(action, self.model.initial_state(1))
            prediction.tempered(temperature).sample()
        self.dreaming.temperature = temperature

    def close(self) -> None:
        """Ends the real game, and a recording."""
        self.stop_recording()
        if self.environment is not None:
            self.environment.close()

    # What there is to be shown.

    @property
    def leader(self) -> Side:
        """The world that the one at the controls is in."""
        return "real" if "real" in self.strands and not self.forks else "dream"

    @property
    def belief(self) -> DreamState:
        """What the model believes of the world that leads."""
        return cast(DreamState, self.strands[self.leader].game.world.belief)

    @property
    def truth_is_hidden(self) -> bool:
        """Whether there is something to reveal."""
        return self.world != "dream" and self.parts.hides

    @property
    def truth_is_told(self) -> bool:
        """Whether what was hidden is shown: when asked for, and when the real game has ended."""
        if not self.truth_is_hidden:
            return False
        return self.revealed or cast(Place, self.strands["real"].place).ended

    def picture(self, side: Side) -> Frame:
        """What a world shows, uint8 [H, W, 3]; drawn once, however often it is asked for."""
        return cast(Frame, self._drawn(side, "rgb_array"))

    def text(self, side: Side) -> str | None:
        """The same in text, for a terminal; None where pictures say more."""
        return cast("str | None", self._drawn(side, "ansi"))

    def believed(self, side: Side) -> str | None:
        """The text of what the player can know of a world, whether or not the truth is told."""
        return self._viewed("ansi").get(side)

    def difference(self) -> Frame | None:
        """Where the two pictures differ; None where there are not two of the same size."""
        if len(self.strands) < 2:
            return None
        return difference_picture(self.picture("real"), self.picture("dream"))

    def panels(self) -> list[Panel]:
        """All that a frame of a film shows, side by side."""
        panels = [Panel(side, self.lines(side), self.picture(side)) for side in self.strands]
        if len(panels) < 2:
            return panels
        words = self.lines("difference")
        if (apart := self.difference()) is not None:
            return [*panels, Panel("difference", words, apart)]
        real, dream = panels
        return [real, dream._replace(lines=dream.lines + words)]

    def lines(self, title: Side | Literal["difference"]) -> list[str]:
        """What is said of a world, or of how far the two are apart."""
        if title == "difference":
            return told_apart(self.moment, self._dream_waits)
        return config(cast(Place, getattr(self.moment, title)))

    def frame(self) -> Frame:
        """The panels in one picture, with a headline: a frame of a film."""
        return self.composed(self.panels())

    def composed(self, panels: Sequence[Panel]) -> Frame:
        """The frame of panels that somebody has altered."""
        lines = {1: 1, 2: 3, 3: 2}[len(panels)]  # two are told of the difference in the second
        return compose(self.headline, self.state_line, panels, lines)

    @property
    def headline(self) -> str:
        """What led here, in words."""
        moment = self.moment
        place = self.moment.dream if self.forks else moment.lead
        step = cast(Place, place).step
        return f"step {step}    {moment.action or 'a new game begins'}"

    @property
    def state_line(self) -> str:
        """How the game goes on, in words."""
        words = []
        if self.forks:
            words.append(f"what if ({len(self.forks)})")
        if self.pilot != "human":
            words.append(
                {"agent": "the trained agent plays", "random": "chance plays"}[self.pilot]
            )
        if self.dreaming.temperature != 1:
            words.append(f"temperature {self.dreaming.temperature:.2g}")
        if self.moment.watching:
            words.append("the dream watches")
        return "   ".join(words)

    # Recordings.

    def record(self, film: Film) -> None:
        """From now on every moment is a frame of a film, until `stop_recording`."""
        self.stop_recording()
        self.film = film
        film.write(self.frame())

    def stop_recording(self) -> Path | None:
        """Ends the film, if there is one; where it is."""
        film, self.film = self.film, None
        if film is None:
            return None
        film.close()
        return film.path

    # Inside.

    def _begin(self) -> None:
        self.strands: dict[Side, WorldStrand] = {
            side: WorldStrand(core.initial_state(1), self.view.initial_state(1))
            for side, core in self.cores.items()
        }
        self.forks: list[Fork] = []
        self._pictures: dict[tuple[str, str], Any] = {}  # of this moment, those that were drawn
        self.revealed = False

    @property
    def _dream_waits(self) -> bool:
        """For the real game to end, which the dream has outlived."""
        place = self.strands["dream"].place
        return place is not None and place.ended and self.leader == "real"

    def _advance(self, side: Side, action: Tensor) -> Row:
        """One row of a world."""
        strand = self.strands[side]
        with self._noise():
            (row, _), game = self.cores[side].step(strand.game._replace(action=action))
        with self._looking():
            pictured = self.view.step(row, strand.pictured)
        place = place_after(row, game.world.world.ended, strand.place)
        self.strands[side] = WorldStrand(game, pictured, place)
        return row

    def _sync_now(self) -> None:
        real = self.strands["real"]
        believed = real.game.world.belief
        world = WatchedState(believed, believed)
        self.strands["dream"] = real._replace(game=real.game._replace(world=world))

    def _difference(self, dream: WorldStrand, action: Tensor, row: Row) -> Difference:
        """Between the two worlds after a row [1, ...] of the real one; dream: before it."""
        real, dreamt = (cast(Place, self.strands[side].place) for side in ("real", "dream"))
        states = self.belief, self.strands["dream"].game.world.world
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
        """Makes it the latest moment."""
        self._pictures.clear()
        places = {side: strand.place for side, strand in self.strands.items()}
        self.moment = Moment(
            action,
            places.get("real"),
            places.get("dream"),
            predicted,
            surprise,
            difference,
            watching,
        )
        if self.film is not None:
            self._filmed(self.film)
        return self.moment

    def _filmed(self, film: Film) -> None:
        """One more frame. A film that cannot be written ends, and the game goes on."""
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

    @torch.inference_mode()
    def _viewed(self, mode: str) -> dict[Side, Any]:
        """The worlds as the view draws them, those that have no better picture; once a moment."""
        key = ("view", mode)
        if key not in self._pictures:
            sides = list(self.strands)
            if "real" in sides and not self.parts.hides and self._truth(mode) is not None:
                sides.remove("real")
            drawn = []
            if sides and mode in self.view.modes:
                states = nested.concatenate([self.strands[side].pictured for side in sides])
                with self._drawing():
                    drawn = self.view.draw(states, mode)
            self._pictures[key] = dict(zip(sides, drawn, strict=False))
        return cast("dict[Side, Any]", self._pictures[key])


FOREVER = 2**31  # steps


def new_player(
    parts: Playable, config: PlayConfig, seed: int, new_film: Callable[[], Film] | None = None
) -> Player:
    """A player, as it was asked for; seed: in place of the one that was told. new_film: where
    recordings go."""
    world = config.world or ("both" if parts.has_environment else "dream")
    player = Player(parts, world, seed, "human", config.places, config.horizon)
    player.speed = config.speed
    player.new_film = new_film
    warm(player, config.temperature)
    return player


def warm(player: Player, temperature: float) -> None:
    """Sets the dream's temperature, as it was asked for on the command line."""
    if temperature != 1:
        try:
            player.set_temperature(temperature)
        except ValueError as error:
            raise RunError(f"--temperature {temperature:g}: {error}") from error
