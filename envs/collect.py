"""Collection of episodes in a real environment, yielded as they end."""

from collections.abc import Iterator

import torch
from torch import Tensor

from worldmodel import Agent, Episodes, GenCore, GenState, Row, Sequences, nested
from worldmodel.envs.gymnasium_environment import GymEnvironment


@torch.no_grad()
def collect(
    environment: GymEnvironment, agent: Agent, steps: int, ticks: int = 64
) -> Iterator[Episodes]:
    """Plays until `steps` steps have been taken (first rows are none), yields finished episodes.

    Every copy plays `ticks` rows at a time; besides them only unfinished episodes are kept. Those
    that are unfinished at the end come last, as truncations; those that were cut off by a worker's
    death are dropped, although their steps count. All in one: `Episodes.join(list(collect(...)))`.
    """
    if steps < 1:
        raise ValueError(f"at least one step is collected, got {steps}")
    core = GenCore(environment, agent)
    copies = environment.vector_env.num_envs
    state = core.initial_state(copies)
    unfinished: list[list[Row]] = [[] for _ in range(copies)]  # pieces [t, ...]
    while steps > 0:
        played, lost, state = _play(core, min(ticks, -(-steps // copies)), state)
        steps -= int((~played.first).sum())
        finished = []
        for copy in range(copies):
            column, column_lost = nested.index((played, lost), (slice(None), copy))
            finished += _finished(unfinished[copy], column, column_lost)
        if finished:
            yield _episodes(core, finished)
    yield _episodes(core, [piece for pieces in unfinished for piece in pieces])


def _play(core: GenCore, ticks: int, state: GenState) -> tuple[Row, Tensor, GenState]:
    """Rows [T, B, ...], and a mask of first rows that cut an episode off, bool [T, B]."""

    def step(_: int, state: GenState) -> tuple[tuple[Row, Tensor], GenState]:
        (row, _thought), state = core.step(state)
        return (row, state.world.lost), state

    (rows, lost), state = nested.unroll(step, range(ticks), state)
    return rows, lost, state


def _finished(unfinished: list[Row], rows: Row, lost: Tensor) -> list[Row]:
    """The pieces of episodes that ended before one of the first rows among `rows` [T, ...] of a
    copy. What goes on after the last of these is left in `unfinished`, as it was found there."""
    finished: list[Row] = []
    begun = 0
    for first in [*rows.first.nonzero().flatten().tolist(), len(lost)]:
        if first > begun:
            piece = nested.index(rows, slice(begun, first))
            unfinished.append(nested.map(torch.clone, piece))  # the others of its chunk may go
        if first < len(lost):
            finished += [] if lost[first] else unfinished
            unfinished.clear()
        begun = first
    return finished


def _episodes(core: GenCore, pieces: list[Row]) -> Episodes:
    """Whole episodes, from pieces [t, ...] in order."""
    rows = nested.map(lambda leaf: leaf[:, None], nested.concatenate(pieces))  # [T, 1, ...]
    return Episodes.cut(Sequences.whole(rows), core.actions)
