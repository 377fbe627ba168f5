"""A collector of episodes in a real environment, which goes on with those that are unfinished."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from worldmodel import ActionCodec, Agent, Episodes, GenCore, GenState, Row, nested
from worldmodel.envs.gymnasium_environment import GymEnvironment, Tick
from worldmodel.envs.resumable import Running
from worldmodel.episodes import Columns


class Collector:
    """Collects some steps at a time; the episodes that are unfinished then are gone on with.

    The mind of an agent that goes on is made anew, from the rows of its episode: it is a function
    of them and of what the agent has learned by now.
    """

    def __init__(self, copies: int):
        self.taken = 0  # steps, the last time
        self.figures: dict[str, Any] = {}  # metrics of the last time, besides
        self.ended: list[int] = []  # the copies of the episodes that were yielded last
        self._running: list[Episodes | None] = [None] * copies  # one unfinished episode each
        self._given_up: list[Episodes] = []  # unfinished ones that no copy goes on with
        self._episodes = np.full((copies, 2), -1)  # of `Tick`
        self._environment: GymEnvironment | None = None
        self._tick: Tick | None = None  # None: nothing has been played in the environment

    @property
    def copies(self) -> int:
        """The number of games side by side."""
        return len(self._running)

    @property
    def unfinished(self) -> list[Episodes]:
        """The episodes so far that go on, one each, as truncations."""
        return [*self._given_up, *(episode for episode in self._running if episode is not None)]

    @property
    def is_open(self) -> bool:
        """True while there is an environment."""
        return self._environment is not None

    @property
    def going_on(self) -> list[bool]:
        """For each copy, whether it has an unfinished episode."""
        return [episode is not None for episode in self._running]

    def begin(self, make: Callable[[], GymEnvironment], seed: int) -> list[Episodes]:
        """Makes the environment and opens it."""
        return self.open(make(), seed)

    def open(self, environment: GymEnvironment, seed: int | None = None) -> list[Episodes]:
        """Begins to play in an environment, or goes on there with the episodes that are
        unfinished, played again; returns those of them that are not gone on with, because they
        came out otherwise.

        seed: of the first copy, the others' follow; None: as the environment was seeded, and
        nothing is gone on with.
        """
        self._environment, self._tick = environment, None
        if seed is None or (self._episodes[:, 1] < 0).all():
            return []
        known = self._episodes[:, 0]
        seeds = np.where(known >= 0, known, seed + np.arange(self.copies))
        rows = [None if episode is None else episode.columns for episode in self._running]
        numbers = self._episodes[:, 1].tolist()
        running = map(Running, numbers, rows)
        self._tick = environment.resume(dict(zip(seeds.tolist(), running, strict=True)))
        going_on = (~self._tick.ended).tolist()
        pairs = list(zip(self._running, going_on, strict=True))
        lost = [episode for episode, goes_on in pairs if episode is not None and not goes_on]
        lost, self._given_up = self._given_up + lost, []
        self._running = [episode if goes_on else None for episode, goes_on in pairs]
        return lost

    def close(self) -> None:
        """Closes the environment."""
        if self._environment is not None:
            self._environment.close()
            self._environment = None

    @torch.no_grad()
    def play(
        self, agent: Agent, steps: int, ticks: int = 64, whole: bool = False
    ) -> Iterator[Episodes]:
        """Plays until `steps` more steps have been taken; yields finished episodes.

        whole: those of finished episodes count alone.
        """
        if steps < 1:
            raise ValueError(f"at least one step is collected, got {steps}")
        assert self._environment is not None
        core = GenCore(self._environment, agent)
        state = self._state(core)
        parts = [[] if e is None else [e.columns] for e in self._running]
        self.taken = counted = 0
        while counted < steps:
            left = -(-(steps - counted) // self.copies)
            played, lost, state = _play(core, min(ticks, left), state)
            self.taken += int((~played.first).sum())
            finished, self.ended = [], []
            for copy, unfinished in enumerate(parts):
                column, column_lost = nested.index((played, lost), (slice(None), copy))
                found = _finished(unfinished, column, column_lost, core.actions)
                finished += found
                self.ended += [copy] * len(found)
            counted = counted + sum(e.steps for e in finished) if whole else self.taken
            if finished:
                yield Episodes.join(finished)
        self._tick = state.world
        self._episodes = state.world.episode.numpy()
        over = [_one(part) for part, ended in zip(parts, state.world.ended, strict=True) if ended]
        self._running = [
            None if ended else _one(part)
            for part, ended in zip(parts, state.world.ended, strict=True)
        ]
        self.ended = state.world.ended.nonzero().flatten().tolist()
        if over:
            yield Episodes.join(over)

    def _state(self, core: GenCore) -> GenState:
        """The state of world and agent after the rows so far."""
        if self._tick is None:
            return core.initial_state(self.copies)
        mind = core.agent.initial_state(self.copies)
        state = core.start(self._tick, mind, self.copies)
        return _after(core, self._running, state) if any(self._running) else state

    def state_dict(self) -> tuple[dict[str, Any], list[list[int]]]:
        """The unfinished episodes: their rows as tensors, and what `Tick` calls them."""
        running: list[Episodes | None] = [*self._given_up, *self._running]
        lengths = torch.tensor([0 if episode is None else episode.rows for episode in running])
        if not lengths.any():
            return {"lengths": lengths}, self._episodes.tolist()
        columns = nested.map(torch.from_numpy, Episodes.join(self.unfinished).columns)
        return {"lengths": lengths, "columns": columns}, self._episodes.tolist()

    def load_state_dict(self, state: Mapping[str, Any], episodes: Sequence[Sequence[int]]) -> None:
        """Goes back to a state of as many copies; of one of another number nothing is gone on
        with."""
        found = saved_episodes(state)
        given_up = len(found) - len(episodes)
        if len(episodes) == self.copies:
            self._running, self._episodes = found[given_up:], np.array(episodes)
        else:
            given_up = len(found)
            self._episodes[:, 1] = np.max(episodes, 0)[1]
        self._given_up = [episode for episode in found[:given_up] if episode is not None]


def saved_episodes(state: Mapping[str, Any]) -> list[Episodes | None]:
    """The unfinished episodes of a `Collector.state_dict`, one each; None for games without."""
    lengths = state["lengths"].numpy()
    columns = nested.map(Tensor.numpy, state.get("columns", {}))
    return [
        Episodes(nested.index(columns, slice(end - length, end)), np.array([length]))
        if length
        else None
        for end, length in zip(lengths.cumsum(), lengths, strict=True)
    ]


def _play(core: GenCore, ticks: int, state: GenState) -> tuple[Row, Tensor, GenState]:
    """Rows [T, B, ...], and a mask of first rows that cut an episode off, bool [T, B]."""

    def step(_: int, state: GenState) -> tuple[tuple[Row, Tensor], GenState]:
        (row, _thought), state = core.step(state)
        return (row, state.world.lost), state

    (rows, lost), state = nested.unroll(step, range(ticks), state)
    return rows, lost, state


def _after(core: GenCore, running: Sequence[Episodes | None], state: GenState) -> GenState:
    """The state after the rows of unfinished episodes; a copy without one takes in the first row
    of another, which the first row of its next episode makes it forget."""
    episodes = Episodes.join([episode for episode in running if episode is not None])
    places = np.cumsum([episode is not None for episode in running]) - 1
    places[[episode is None for episode in running]] = 0
    lengths = np.array([0 if episode is None else episode.rows for episode in running])
    thought, mind = state.thought, state.mind
    for time in range(-lengths.max(), 0):  # before the rows to come
        times = np.maximum(lengths + time, 0)
        windows = episodes.windows(core.actions, places, times, 1)
        thought, mind = core.agent.step(nested.index(windows.rows, 0), mind)
    return core.start_acting(state.world, mind, thought)


def _finished(
    unfinished: list[Columns], rows: Row, lost: Tensor, actions: ActionCodec
) -> list[Episodes]:
    """The episodes that ended before one of the first rows among `rows` [T, ...] of a copy. What
    goes on after the last of these is left in `unfinished`, as it was found there."""
    finished: list[Episodes] = []
    begun = 0
    for first in [*rows.first.nonzero().flatten().tolist(), len(lost)]:
        if first > begun:
            unfinished.append(_columns(nested.index(rows, slice(begun, first)), actions))
        if first < len(lost):
            if unfinished and not lost[first]:
                finished.append(_one(unfinished))
            unfinished.clear()
        begun = first
    return finished


def _columns(rows: Row, actions: ActionCodec) -> Columns:
    """Copies of rows [t, ...] as columns, so that the others of their chunk may go."""
    kept = nested.map(torch.clone, rows._replace(action=actions.decode(rows.action)))
    return {key: nested.map(Tensor.numpy, getattr(kept, key)) for key in Episodes.KEYS}


def _one(parts: Sequence[Columns]) -> Episodes:
    """One episode, from pieces of it in order."""

    def joined(*columns: np.ndarray) -> np.ndarray:
        return np.concatenate(columns)

    columns = nested.map(joined, *parts)
    return Episodes(columns, np.array([len(columns["reward"])]))
