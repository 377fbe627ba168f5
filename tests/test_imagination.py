"""Laws of dreams that go on from beliefs about recorded rows."""

from unittest import mock

import numpy as np
import pytest
import torch
from gymnasium import spaces

from worldmodel import (
    BeliefAgent,
    Dream,
    Episodes,
    MemoryStore,
    Replay,
    action_codec,
    model_for,
    nested,
)
from worldmodel.agents import Imagination, Policy
from worldmodel.cores import base
from worldmodel.noise import OwnNoise

NUMBERS = spaces.Box(-np.inf, np.inf, (2,), np.float64)
BUTTONS = spaces.Discrete(2)
ACTIONS = action_codec(BUTTONS)
KINDS = {
    "rnn": {},
    "rnn skip": {"recurrence": "skip-gru"},
    "srnn": {"latent": 2},
    "srnn filtering": {"latent": 2, "smoothing": False},
    "vrnn": {"latent": 2},
    "rssm": {"latent": 2, "latent_classes": 3},
    "independent": {"latent": 2},
    "independent filtering": {"latent": 2, "smoothing": False},
}
SHARED = [name for name in KINDS if name.startswith(("rnn", "srnn"))]
every_kind = pytest.mark.parametrize("name", KINDS)


def make_episodes(lengths, seed=0):
    """Episodes of so many rows, every one of which shows numbers of its own; all but the first
    episode, and others of one row, terminate."""
    draw = np.random.default_rng(seed)
    rows = sum(lengths)
    terminated = np.zeros(rows, bool)
    ends = np.cumsum(lengths)
    terminated[ends[1:] - 1] = np.array(lengths[1:]) > 1
    columns = {
        "action": draw.integers(2, size=rows),
        "observation": draw.normal(size=(rows, 2)),
        "reward": draw.normal(size=rows),
        "terminated": terminated,
    }
    return Episodes(columns, np.array(lengths))


class Watched(Replay):
    """Remembers what was drawn."""

    def sample(self, *arguments):
        self.blocks = super().sample(*arguments)
        return self.blocks


def imagine(name, lengths=(9, 2, 5, 3), batch_size=30, window=6, from_start=0.3, horizon=7):
    with OwnNoise(0)():
        model = model_for(NUMBERS, BUTTONS, name.split()[0], 5, **KINDS[name]).double()
        policy = Policy(model.belief_size, ACTIONS, 6).double()
    model.eval()
    store = MemoryStore()
    store.add(make_episodes(lengths))
    believer = BeliefAgent(model, policy)
    dream = Dream(model, horizon, NUMBERS, BUTTONS)
    replay = Watched(ACTIONS, 0, store)
    torch.manual_seed(0)
    return Imagination(believer, dream, replay, batch_size, window, from_start), believer


def quiet():
    """Latents are drawn without noise: what a filter believes is a function of rows."""
    return mock.patch.object(base, "standard_normal", torch.zeros_like)


@torch.no_grad()
def thoughts_of(believer, block):
    """What a believer thinks who lives a block's windows from their first rows on: thoughts
    [N, F] of the valid rows, and which of them ended an episode, bool [N]."""
    rows = nested.map(lambda x: x.double() if x.is_floating_point() else x, block.rows)
    with quiet():
        thoughts, _ = nested.unroll(
            believer.step, nested.steps(rows), believer.initial_state(block.mask.shape[1])
        )
    return thoughts[block.mask], rows.terminated[block.mask]


def origins(state, believer, blocks):
    """Of each dream, whether some row of the blocks led to just its thought, and whether some row
    that did ended an episode: bool [B] both."""
    found = [thoughts_of(believer, block) for block in blocks]
    thoughts, ended = (torch.cat(parts) for parts in zip(*found, strict=True))
    is_its = (state.thought[:, None] - thoughts).abs().amax(-1) < 1e-12  # [B, N]
    return is_its.any(1), (is_its & ended).any(1)


@every_kind
@pytest.mark.parametrize("lengths", [(9, 2, 5, 3), (2, 2, 2, 2), (2, 1, 1, 30)])
def test_dreams_begin_with_what_a_believer_would_think_of_recorded_rows(name, lengths):
    """Of windows shorter than asked for, too; never after an end."""
    imagination, believer = imagine(name, lengths)
    with quiet():
        state = imagination.begin()
    from_rows, from_ends = origins(state, believer, imagination.replay.blocks)
    assert from_rows.all()
    assert not from_ends.any()
    assert torch.equal(state.thought, believer.model.belief(state.world.model))
    assert not state.world.ended.any()
    assert len(state.thought.unique(dim=0)) > (3 if sum(lengths) < 10 else 8)


@every_kind
def test_begun_dreams_are_at_different_distances_from_their_horizon(name):
    imagination, _ = imagine(name, batch_size=500)
    clock = imagination.begin().world.clock
    assert set(clock.tolist()) == set(range(7))
    assert torch.bincount(clock).min() > 40


@every_kind
def test_what_is_over_begins_anew_and_the_others_go_on_untouched(name):
    imagination, believer = imagine(name)
    state = imagination.begin()
    for _ in range(3):
        _, state = imagination.core.step(state)
    with quiet():
        after = imagination.go_on(state)
    over = state.world.ended
    assert 0 < over.sum() < len(over)
    for one, other in zip(nested.leaves(after), nested.leaves(state), strict=True):
        assert torch.equal(one[~over], other[~over])
    fresh = nested.index(after, over)
    assert (fresh.world.clock == 0).all()
    assert not fresh.world.ended.any()
    from_rows, from_ends = origins(fresh, believer, imagination.replay.blocks)
    assert from_rows.all()
    assert not from_ends.any()
    unfinished = nested.where(torch.ones_like(over), after, state)
    assert imagination.go_on(unfinished) is unfinished


@every_kind
def test_dreams_end_at_their_horizon(name):
    imagination, _ = imagine(name, horizon=3, batch_size=5)
    believed = imagination.go_on(nested.map(torch.clone, imagination.begin()))
    state = believed._replace(
        world=believed.world._replace(clock=torch.zeros(5, dtype=torch.int64))
    )
    for steps in range(1, 4):
        (row, _), state = imagination.core.step(state)
        going = state.world.clock == steps
        assert torch.equal(state.world.ended[going], row.terminated[going] | (steps == 3))


@pytest.mark.parametrize("name", SHARED)
@torch.no_grad()
def test_thoughts_read_off_a_dream_are_a_believers(name):
    """Of the very rows that were dreamt, over restarts."""
    imagination, believer = imagine(name, horizon=4)
    plain = Dream(believer.model, 4, NUMBERS, BUTTONS)
    state = imagination.begin()
    world, mind = state.world, state.world.model
    restarted = 0
    for t in range(9):
        torch.manual_seed(t)
        row, world = plain.step(state.action, world)
        torch.manual_seed(t)
        (shown, thought), state = imagination.core.step(state)
        assert torch.equal(shown.first, row.first)
        assert state.mind is state.world.model
        expected, mind = believer.step(row, mind)
        torch.testing.assert_close(thought, expected, rtol=0, atol=1e-12)
        restarted += int(row.first.sum())
    assert restarted > 10


@pytest.mark.parametrize("name", [name for name in KINDS if name not in SHARED])
def test_where_beliefs_hold_latents_the_mind_draws_its_own(name):
    imagination, believer = imagine(name)
    state = imagination.begin()
    assert imagination.dream.shared(state.world, believer) is None
    generated = state.world.model
    (_, thought), state = imagination.core.step(state)
    assert thought.shape == (30, believer.thought_size)
    assert not torch.equal(state.mind.core.latent, state.world.model.core.latent)
    assert not torch.equal(generated.core.latent, state.world.model.core.latent)


def test_one_dream_finds_a_row_to_begin_with():
    """Half of these rows end episodes: a draw of few of them may hold no other."""
    imagination, believer = imagine("rnn", (2, 2, 2), batch_size=1, from_start=0.0)
    for _ in range(40):
        state = imagination.begin()
        from_rows, from_ends = origins(state, believer, imagination.replay.blocks)
        assert from_rows.all()
        assert not from_ends.any()
