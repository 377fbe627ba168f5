"""Films of a run: the player, with an agent at the controls, frame by frame.

real        the real game
dream       a game that the model dreams
both        real | dream | difference: the dream observes the first row of each real game only
open-loop   the same, but the dream observes some rows, and then goes on alone
grid        many dreams that continue from one start, each with random draws of its own

In all of them the agent acts in the leading world, and the dream gets the same actions. Only in
a grid an agent acts in each dream, by its own belief.
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
from worldmodel.experiments.show.play.moments import Snapshot, snapshot_after
from worldmodel.experiments.show.play.panels import Cell, Panel, compose_grid
from worldmodel.experiments.show.play.player import Playable, Player, World, WorldState, warm
from worldmodel.noise import OwnNoise
from worldmodel.progress import Reporter
from worldmodel.run_folder import RunError

DECISIONS = 5.0  # rows a second, at most, of an environment in which each step is a decision
SLOW, FAST, UNKNOWN = 2.0, 30.0, 10.0  # frames a second: with decisions, at most, if unspecified
SECONDS, STEPS = 10, 60  # default length of a film: the longer of the two
OBSERVED: dict[Kind, int] = {"open-loop": 5, "grid": 1}  # real rows, by default
DREAMS = 16
STARTS = 3  # in a film of an open loop or of a grid, by default
PATIENCE = 30  # games, in search of one that is long enough

WATCHES = (0, 114, 178)  # colour around a dream that observes the real game,
ALONE = (230, 159, 0)  # and around one that does not

OPTIONS: dict[str, tuple[Kind, ...]] = {
    "temperature": ("dream", "both", "open-loop", "grid"),
    "horizon": ("dream", "both", "open-loop", "grid"),
    "observed": ("open-loop", "grid"),
    "dreams": ("grid",),
}
"""Kinds of films that an option is for, if not all."""


class Plan(NamedTuple):
    """Settings of a film, with defaults filled in."""

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
    """The plan of a film of a run; raises a RunError for settings that do not fit."""
    kind = config.kind or ("both" if parts.has_environment else "dream")
    _check(parts, config, kind)
    fps = config.fps or fps_for(parts.pace)
    steps = config.steps or max(STEPS, round(SECONDS * fps))
    observed = OBSERVED.get(kind, 0) if config.observed is None else config.observed
    observed *= parts.has_environment
    horizon = config.horizon
    if horizon is None and kind in ("open-loop", "grid"):
        watched = observed if kind == "open-loop" else 1  # a grid observes its start only
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
        raise RunError(f"{parts.absence}: film --kind dream or grid, not {kind}")
    unless_told = {field.name: field.default for field in fields(config)}
    for option, kinds in OPTIONS.items():
        if getattr(config, option) != unless_told[option] and kind not in kinds:
            raise RunError(f"--{option} is for --kind {' or '.join(kinds)}, not for {kind}")
    if config.observed and not parts.has_environment:
        raise RunError(f"{parts.absence}: leave --observed out")
    if config.observed == 0 and kind == "open-loop":
        raise RunError("in an open loop the dream watches first: --observed must be 1 or more")


def fps_for(pace: float | None) -> float:
    """Frames a second of a film of an environment that is rendered at `pace` rows a second.

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
    """Writes the same frames to files, whose suffixes are of `films.FORMATS`. note: called with
    the number of frames written."""
    check_files(files, plan.fps)
    with closing(frames(parts, plan)) as made, ExitStack() as stack:
        first = next(made)  # errors of a run are raised before there are files
        films = [stack.enter_context(Film(file, plan.fps)) for file in files]
        for done, frame in enumerate(islice(chain([first], made), plan.steps), start=1):
            for writer in films:
                writer.write(frame)
            note(done)


def write_film(
    parts: Playable, config: VideoConfig, files: Sequence[Path], videos: Path, reporter: Reporter
) -> None:
    """Films a run and reports the files; by default in the folder `videos`."""
    plan = plan_of(parts, config)
    files = files or [videos / f"{plan.kind}{suffix}" for suffix in (".mp4", ".gif")]
    check_files(files, plan.fps)
    with reporter.stage("filming", plan.steps, 0, "frames") as stage:
        film(parts, plan, files, stage.update)
    for file in files:
        reporter.say(f"written: {file}")


def check_files(files: Sequence[Path], fps: float) -> None:
    """Raises the errors of the files to write, before there are frames."""
    if len({file.resolve() for file in files}) < len(files):
        raise RunError(f"--out names a file twice: {' '.join(map(str, files))}")
    for file in files:
        check_film(file, fps)


def frames(parts: Playable, plan: Plan) -> Generator[Frame, None, None]:
    """Endless frames of one size, reproducible for a plan."""
    horizon = None if plan.kind in ("open-loop", "grid") else plan.horizon
    player = Player(parts, world_of(plan), plan.seed, plan.pilot, horizon=horizon)
    try:
        warm(player, plan.temperature)
        yield from KINDS[plan.kind](player, plan)
    finally:
        player.close()


def world_of(plan: Plan) -> World:
    """The worlds of the player."""
    if plan.kind == "grid":
        return "real" if plan.observed else "dream"
    return "both" if plan.kind == "open-loop" else plan.kind


# Kinds.


def games(player: Player, plan: Plan) -> Iterator[Frame]:
    """Frames of game after game."""
    while True:
        player.revealed = True
        yield player.frame()
        player.step()


def open_loops(player: Player, plan: Plan) -> Iterator[Frame]:
    """Frames of games: the dream observes `plan.observed` rows, then goes on alone for
    `plan.horizon` rows, then a new game begins."""
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
    """Marks the dream's panel: it observes the real game, or goes on alone."""

    def said(panel: Panel) -> Panel:
        if panel.title != "dream":
            return panel
        if alone:
            return panel._replace(title=f"dream, alone for {alone}", border=ALONE)
        return panel._replace(title=f"dream, watches {watched}/{plan.observed}", border=WATCHES)

    return said


def grid(player: Player, plan: Plan) -> Iterator[Frame]:
    """Frames of a grid of dreams, restarted when all have ended or after `plan.horizon` rows."""
    dreams = Dreams(player, start_of(player, plan.observed), plan)
    while True:
        yield dreams.frame()
        if dreams.rows == plan.horizon or all(snapshot.ended for snapshot in dreams.snapshots):
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


def start_of(player: Player, observed: int) -> WorldState:
    """A player at the start of the dreams of a grid: after `observed` rows of a real game that has
    not ended, or, without a real game, after the model's first row."""
    games = 0
    while games < PATIENCE:
        snapshot = player.moment.lead
        if snapshot.step == max(1, observed) - 1 and not snapshot.ended:
            state = player.states[player.leader]
            world = state.game.world.world if player.leader == "dream" else player.belief
            return state._replace(game=state.game._replace(world=world))
        games += snapshot.ended
        player.step()
    raise RunError(f"no game lasts longer than the --observed {observed} rows: watch fewer")


class Dreams:
    """Many dreams that continue from one state; those that have ended do not move."""

    def __init__(self, player: Player, start: WorldState, plan: Plan):
        self.player, self.start, self.count = player, start, plan.dreams
        self.core = GenCore(player.dreaming, player.human)
        self.policy = player.policies[player.pilot]
        noise, looking = np.random.SeedSequence([plan.seed, 1]).generate_state(2)
        self._noise, self._looking = OwnNoise(int(noise)), OwnNoise(int(looking))
        self._first = self._drawn(start.pictured)
        self.restart()

    def restart(self) -> None:
        """Returns to the start."""
        self.rows = 0  # dreamt
        self.games, self.pictured = nested.repeat(
            (self.start.game, self.start.pictured), self.count
        )
        self.snapshots = [cast(Snapshot, self.start.snapshot)] * self.count
        self.actions = [""] * self.count
        self.pictures = self._first * self.count

    @torch.inference_mode()
    def step(self) -> None:
        """Takes one row of each dream that has not ended."""
        going = torch.tensor([not snapshot.ended for snapshot in self.snapshots])
        with self._noise():
            action = self.policy(self.games.thought).sample()
            (row, _), self.games = self.core.step(self.games._replace(action=action))
        row = nested.to(row, "cpu")
        self.rows += 1
        with self._looking():
            pictured = self.player.view.step(row, self.pictured)
        places = going.nonzero().flatten()
        numbers = places.tolist()
        self.pictured = nested.map(
            lambda old, new: old.index_copy(0, (at := places.to(old.device)), new[at]),
            self.pictured,
            pictured,
        )
        moved = nested.map(lambda leaf: leaf[places.to(leaf.device)], self.pictured)
        pictures = self._drawn(moved)
        for number, picture in zip(numbers, pictures, strict=True):
            self._take_in(number, nested.index(row, slice(number, number + 1)), picture)

    def _take_in(self, number: int, row: Row, picture: Frame) -> None:
        """Takes one row [1, ...] of one dream."""
        ended = self.games.world.ended[number]
        self.snapshots[number] = snapshot_after(row, ended, self.snapshots[number])
        (action,) = self.core.actions.decode(row.action).numpy()
        self.actions[number] = self.player.controls.describe(action)
        self.pictures[number] = picture

    @torch.inference_mode()
    def _drawn(self, pictured: Any) -> list[Frame]:
        with self._looking():
            return self.player.view.draw(pictured, "rgb_array")

    def frame(self) -> Frame:
        """The dreams in a grid, each with its agent's return and last action."""
        going = sum(not snapshot.ended for snapshot in self.snapshots)
        config = f"{going} of {self.count} dreams go on" if self.rows else "one start for all"
        step = cast(Snapshot, self.start.snapshot).step + self.rows
        cells = [
            Cell(words_of(action, snapshot), picture, snapshot.ended)
            for action, snapshot, picture in zip(
                self.actions, self.snapshots, self.pictures, strict=True
            )
        ]
        return compose_grid(f"step {step}    {config}", self.player.state_line, cells)


def words_of(action: str, snapshot: Snapshot) -> str:
    """The caption of one dream of a grid."""
    end = "the end" * snapshot.terminated + "time is up" * snapshot.truncated
    return f"return {snapshot.total:.4g}   {end or action}".rstrip()
