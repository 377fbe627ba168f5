"""Films of a run: the player, with an agent at the controls, frame by frame.

    real        the real game
    dream       a game that the model dreams
    both        real | dream | difference: the dream sees the first row of each real game only
    open-loop   the same, but the dream watches for some rows, and then goes on alone
    grid        many dreams that go on from one start, each by draws of its own

In all of them the agent in the leading world acts, and the dream hears the same actions. Only in a
grid an agent acts in each dream, by what it believes there.
"""

from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import fields
from itertools import chain, islice
from math import ceil
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np
import torch

from worldmodel import GenCore, Row, nested
from worldmodel.experiments.show.config import Kind, VideoConfig
from worldmodel.experiments.show.films import Film, Frame, check_film
from worldmodel.experiments.show.play.commands import Pilot
from worldmodel.experiments.show.play.moments import Place, place_after
from worldmodel.experiments.show.play.panels import Cell, Panel, compose_grid
from worldmodel.experiments.show.play.player import Playable, Player, World, WorldStrand, warm
from worldmodel.noise import OwnNoise
from worldmodel.progress import Reporter
from worldmodel.run_folder import RunError

DECISIONS = 5.0  # rows a second, at most, of an environment in which each step is a decision
SLOW, FAST, UNKNOWN = 2.0, 30.0, 10.0  # frames a second: of those, at most, where nobody says
SECONDS, STEPS = 10, 60  # how long a film is, unless told: the longer of the two
OBSERVED: dict[Kind, int] = {"open-loop": 5, "grid": 1}  # real rows, unless told
DREAMS = 16
STARTS = 3  # that are seen in a film of an open loop or of a grid, unless a horizon is told
PATIENCE = 30  # games, in search of one that is long enough to be watched

WATCHES = (0, 114, 178)  # the colour around a dream that sees the real game,
ALONE = (230, 159, 0)  # and of one that does not

OPTIONS: dict[str, tuple[Kind, ...]] = {
    "temperature": ("dream", "both", "open-loop", "grid"),
    "horizon": ("dream", "both", "open-loop", "grid"),
    "observed": ("open-loop", "grid"),
    "dreams": ("grid",),
}
"""The kinds of films that an option is for, where these are not all."""


class Plan(NamedTuple):
    """What is filmed, with everything filled in that was not told."""

    kind: Kind
    steps: int  # frames
    fps: float
    pilot: Pilot
    seed: int
    temperature: float
    observed: int  # real rows
    dreams: int
    horizon: int | None  # steps


def plan_of(parts: Playable, config: VideoConfig) -> Plan:
    """What was told, for a run; a RunError says what does not fit."""
    kind = config.kind or ("both" if parts.has_environment else "dream")
    _check(parts, config, kind)
    fps = config.fps or fps_for(parts.pace)
    steps = config.steps or max(STEPS, round(SECONDS * fps))
    observed = OBSERVED.get(kind, 0) if config.observed is None else config.observed
    observed *= parts.has_environment
    horizon = config.horizon
    if horizon is None and kind in ("open-loop", "grid"):
        watched = observed if kind == "open-loop" else 1  # a grid shows its start only
        horizon = max(1, ceil(steps / STARTS) - watched)
    return Plan(
        kind=kind,
        steps=steps,
        fps=fps,
        pilot="agent" if config.agent == "policy" else "random",
        seed=config.seed,
        temperature=config.temperature,
        observed=observed,
        dreams=config.dreams or DREAMS,
        horizon=horizon,
    )


def _check(parts: Playable, config: VideoConfig, kind: Kind) -> None:
    if not parts.has_environment and kind not in ("dream", "grid"):
        raise RunError(
            "this run was learned from recorded episodes and knows no real environment: film "
            f"--kind dream or grid, not {kind}"
        )
    unless_told = {field.name: field.default for field in fields(config)}
    for option, kinds in OPTIONS.items():
        if getattr(config, option) != unless_told[option] and kind not in kinds:
            raise RunError(f"--{option} is for --kind {' or '.join(kinds)}, not for {kind}")
    if config.observed and not parts.has_environment:
        raise RunError("there is no real environment to be watched: leave --observed out")
    if config.observed == 0 and kind == "open-loop":
        raise RunError("in an open loop the dream watches first: --observed must be 1 or more")


def fps_for(pace: float | None) -> float:
    """How many frames of a film are shown a second, where an environment is to be shown at so
    many rows a second.

    >>> fps_for(4.0), fps_for(15.0), fps_for(50.0)
    (2.0, 15.0, 30.0)
    """
    if pace is None:
        return UNKNOWN
    return SLOW if pace <= DECISIONS else min(FAST, pace)


def film(
    parts: Playable,
    plan: Plan,
    files: Sequence[Path],
    note: Callable[[int], None] = lambda done: None,
) -> None:
    """Writes the same frames to files, whose suffixes are of `films.FORMATS`. note: told how many
    frames are done."""
    check_files(files, plan.fps)
    with closing(frames(parts, plan)) as made, ExitStack() as stack:
        first = next(made)  # what is wrong with a run is said before there are files
        films = [stack.enter_context(Film(file, plan.fps)) for file in files]
        for done, frame in enumerate(islice(chain([first], made), plan.steps), start=1):
            for writer in films:
                writer.write(frame)
            note(done)


def write_film(
    parts: Playable, config: VideoConfig, files: Sequence[Path], videos: Path, reporter: Reporter
) -> None:
    """Films a run as it was asked for, and says where; without files, into the folder `videos`."""
    plan = plan_of(parts, config)
    files = files or [videos / f"{plan.kind}{suffix}" for suffix in (".mp4", ".gif")]
    check_files(files, plan.fps)
    with reporter.stage("filming", plan.steps, 0, "frames") as stage:
        film(parts, plan, files, stage.update)
    for file in files:
        reporter.say(f"written: {file}")


def check_files(files: Sequence[Path], fps: float) -> None:
    """Says what is wrong with the files to be written, before there are frames."""
    for file in files:
        check_film(file, fps)
    if len({file.resolve() for file in files}) < len(files):
        raise RunError(f"--out names a file twice: {' '.join(map(str, files))}")


def frames(parts: Playable, plan: Plan) -> Generator[Frame, None, None]:
    """Frames without end, all of one size, the same for the same plan."""
    horizon = None if plan.kind in ("open-loop", "grid") else plan.horizon
    player = Player(parts, world_of(plan), plan.seed, plan.pilot, horizon=horizon)
    try:
        warm(player, plan.temperature)
        yield from KINDS[plan.kind](player, plan)
    finally:
        player.close()


def world_of(plan: Plan) -> World:
    """What the player plays."""
    if plan.kind == "grid":
        return "real" if plan.observed else "dream"
    return "both" if plan.kind == "open-loop" else plan.kind


# Kinds.


def games(player: Player, plan: Plan) -> Iterator[Frame]:
    """Game after game."""
    while True:
        player.revealed = True
        yield player.frame()
        player.step()


def open_loops(player: Player, plan: Plan) -> Iterator[Frame]:
    """The dream watches for `plan.observed` rows of a game, goes on alone for `plan.horizon`, and
    then there is a new game."""
    watched, alone = 1, 0  # rows
    while True:
        player.revealed = True
        yield player.composed(list(map(told_alone(watched, alone, plan), player.panels())))
        if player.moment.lead.ended or alone == plan.horizon:
            player.reset()
            watched, alone = 1, 0
        else:
            player.step()
            if watched < plan.observed:
                player.sync()
                watched += 1
            else:
                alone += 1


def told_alone(watched: int, alone: int, plan: Plan) -> Callable[[Panel], Panel]:
    """Says of the dream whether it watches or goes on alone."""

    def said(panel: Panel) -> Panel:
        if panel.title != "dream":
            return panel
        if alone:
            return panel._replace(title=f"dream, alone for {alone}", border=ALONE)
        return panel._replace(title=f"dream, watches {watched}/{plan.observed}", border=WATCHES)

    return said


def grid(player: Player, plan: Plan) -> Iterator[Frame]:
    """Many dreams at once; they begin anew when all have ended, or after `plan.horizon` rows."""
    dreams = Dreams(player, start_of(player, plan.observed), plan)
    while True:
        yield dreams.frame()
        if dreams.rows == plan.horizon or all(place.ended for place in dreams.places):
            dreams.restart()
        else:
            dreams.step()


KINDS: dict[Kind, Callable[[Player, Plan], Iterator[Frame]]] = {
    "real": games,
    "dream": games,
    "both": games,
    "open-loop": open_loops,
    "grid": grid,
}


def start_of(player: Player, observed: int) -> WorldStrand:
    """Where the dreams of a grid begin: after so many rows of a real game that still goes on, or,
    without one, after the model's first row."""
    games = 0
    while games < PATIENCE:
        place = player.moment.lead
        if place.step == max(1, observed) - 1 and not place.ended:
            strand = player.strands[player.leader]
            world = strand.game.world.world if player.leader == "dream" else player.belief
            return strand._replace(game=strand.game._replace(world=world))
        games += place.ended
        player.step()
    raise RunError(f"no game lasts longer than the --observed {observed} rows: watch fewer")


class Dreams:
    """Many dreams that go on from one place; those that have ended stand still."""

    def __init__(self, player: Player, start: WorldStrand, plan: Plan):
        self.player, self.start, self.count = player, start, plan.dreams
        self.core = GenCore(player.dreaming, player.human)
        self.policy = player.policies[player.pilot]
        noise, looking = np.random.SeedSequence([plan.seed, 1]).generate_state(2)
        self._noise, self._looking = OwnNoise(int(noise)), OwnNoise(int(looking))
        self._first = self._drawn(start.pictured)
        self.restart()

    def restart(self) -> None:
        """Back to the start."""
        self.rows = 0  # dreamt
        self.games, self.pictured = nested.repeat(
            (self.start.game, self.start.pictured), self.count
        )
        self.places = [cast(Place, self.start.place)] * self.count
        self.actions = [""] * self.count
        self.pictures = self._first * self.count

    @torch.inference_mode()
    def step(self) -> None:
        """One row of each dream that goes on."""
        going = torch.tensor([not place.ended for place in self.places])
        with self._noise():
            action = self.policy(self.games.thought).sample()
            (row, _), self.games = self.core.step(self.games._replace(action=action))
        self.rows += 1
        with self._looking():
            pictured = self.player.view.step(row, self.pictured)
        self.pictured = nested.where(going, pictured, self.pictured)
        numbers = going.nonzero().flatten().tolist()
        pictures = self._drawn(nested.index(self.pictured, going))
        for number, picture in zip(numbers, pictures, strict=True):
            self._take_in(number, nested.index(row, slice(number, number + 1)), picture)

    def _take_in(self, number: int, row: Row, picture: Frame) -> None:
        """One row [1, ...] of one dream."""
        ended = self.games.world.ended[number]
        self.places[number] = place_after(row, ended, self.places[number])
        (action,) = self.core.actions.decode(row.action).numpy()
        self.actions[number] = self.player.controls.describe(action)
        self.pictures[number] = picture

    @torch.inference_mode()
    def _drawn(self, pictured: Any) -> list[Frame]:
        with self._looking():
            return self.player.view.draw(pictured, "rgb_array")

    def frame(self) -> Frame:
        """The dreams side by side, each with what its agent did and got."""
        going = sum(not place.ended for place in self.places)
        config = f"{going} of {self.count} dreams go on" if self.rows else "one start for all"
        step = cast(Place, self.start.place).step + self.rows
        cells = [
            Cell(words_of(action, place), picture, place.ended)
            for action, place, picture in zip(
                self.actions, self.places, self.pictures, strict=True
            )
        ]
        return compose_grid(f"step {step}    {config}", self.player.state_line, cells)


def words_of(action: str, place: Place) -> str:
    """What is said below one dream of many."""
    end = "the end" * place.terminated + "time is up" * place.truncated
    return f"return {place.total:.4g}   {end or action}".rstrip()
