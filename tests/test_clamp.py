"""Laws of how far dreams go."""

import numpy as np
import pytest
import torch
from gymnasium import spaces

from worldmodel import Dream, model_for, nested, play_episodes
from worldmodel.agents import Uniform
from worldmodel.agents.health import WatchedDream
from worldmodel.codecs import Clamp, clamp_for

SPACE = spaces.Dict(
    arm=spaces.Box(np.float32([-1, -np.inf]), np.float32([1, np.inf])),
    rest=spaces.Tuple([spaces.Box(-2, 2, (), np.float32), spaces.Discrete(3)]),
)


def values_of(arm, number):
    arm = torch.tensor(arm)
    return {"arm": arm, "rest": (torch.full((len(arm),), number), torch.zeros(len(arm)))}


def test_before_anything_is_seen_the_bounds_of_the_space_hold():
    reached = clamp_for(SPACE)(values_of([[5.0, 1e6], [-5.0, -1e6]], 3.0))
    assert reached["arm"].tolist() == [[1, 1e6], [-1, -1e6]]
    assert reached["rest"][0].tolist() == [2, 2]
    assert isinstance(reached["rest"], tuple)


def test_it_ends_half_a_range_beyond_what_was_seen_and_at_the_bounds():
    clamp = clamp_for(SPACE)
    clamp.widen(values_of([[0.0, 10.0], [0.5, 20.0]], 1.0))
    far = clamp(values_of([[9.0, 99.0], [-9.0, -99.0]], 7.0))
    assert far["arm"].tolist() == [[0.75, 25], [-0.25, 5]]
    assert far["rest"][0].tolist() == [2, 2]  # one value says nothing of how far it moves
    clamp.widen(values_of([[0.9, 30.0]], 1.5))
    far = clamp(values_of([[9.0, 99.0], [-9.0, -99.0]], 7.0))
    assert far["arm"].tolist() == pytest.approx(np.array([[1, 40], [-0.45, 0]]))
    assert far["rest"][0].tolist() == [1.75, 1.75]


def test_what_was_seen_is_within_reach_and_the_space_is_left_alone():
    clamp, before = clamp_for(SPACE), nested.map(np.copy, (SPACE["arm"].low, SPACE["arm"].high))
    seen = values_of([[0.3, -4.0], [0.1, 2.0], [-0.9, 7.0]], 0.5)
    for row in range(3):
        clamp.widen(nested.index(seen, slice(row, row + 1)))
    nested.map(torch.testing.assert_close, clamp(seen), seen)
    assert (SPACE["arm"].low == before[0]).all()
    assert (SPACE["arm"].high == before[1]).all()


def test_it_is_kept_with_the_weights():
    clamp, other = clamp_for(SPACE), clamp_for(SPACE)
    clamp.widen(values_of([[0.0, 10.0], [0.5, 20.0]], 1.0))
    other.load_state_dict(clamp.state_dict())
    far = values_of([[9.0, 99.0], [-9.0, -99.0]], 7.0)
    nested.map(torch.testing.assert_close, clamp(far), other(far))
    assert not list(Clamp().state_dict())


def test_dreamt_rewards_stay_among_those_that_were_met():
    """Whatever the model thinks of them, an untrained one with a wide density."""
    space = spaces.Box(-1, 1, (2,), np.float32)
    model = model_for(space, spaces.Discrete(2), "rnn", 4)
    values = {"observation": torch.rand(9, 2), "reward": torch.linspace(-3, 1, 9)}
    with torch.no_grad():
        model.percepts.standardise(values)
        model.percepts.decoder.reward.parameters_.bias += 100
    model.percepts.meet(values | {"terminated": torch.zeros(9).bool()})
    dream = Dream(model, 50, space, spaces.Discrete(2))
    state = dream.initial_state(20)
    drawn = []
    for _ in range(20):
        row, state = dream.step(torch.eye(2)[torch.randint(2, (20,))], state)
        drawn += row.reward[~row.first].tolist()
    assert max(drawn) == pytest.approx(1 + 0.1 * 4)
    assert min(drawn) >= -3 - 0.1 * 4 - 1e-6


def test_dreams_stay_within_it():
    space = spaces.Box(-np.inf, np.inf, (2,), np.float32)
    model = model_for(space, spaces.Discrete(2), "rnn", 4, [0.0])
    model.percepts.clamp.widen(torch.tensor([[0.0, 0.0], [1e-3, 1.0]]))
    dream = Dream(model, 50, space, spaces.Discrete(2))
    state = dream.initial_state(20)
    for _ in range(20):
        row, state = dream.step(torch.eye(2)[torch.randint(2, (20,))], state)
        assert (row.observation >= torch.tensor([-5.01e-4, -0.501])).all()
        assert (row.observation <= torch.tensor([1.501e-3, 1.501])).all()
    assert (row.observation == model.percepts.clamp.high).any()


def test_what_is_beyond_what_was_met_is_found():
    clamp = clamp_for(SPACE)
    clamp.widen(values_of([[0.0, 10.0], [0.5, 20.0]], 1.0))
    arms = [[0.0, 10.0], [0.5, 20.0], [0.5, 20.1], [-0.1, 15.0]]
    assert clamp.unmet(values_of(arms, 1.0)).tolist() == [False, False, True, True]
    assert clamp.unmet(values_of(arms, 1.1)).all()
    assert not clamp_for(spaces.Discrete(3)).unmet(torch.arange(3)).any()


def test_a_dream_knows_how_many_of_its_steps_are_beyond():
    """All, if no reward as large as those that were met is dreamt; first rows have none."""
    model = model_for(spaces.Discrete(3), spaces.Discrete(2), core="rnn", hidden=4)
    model.percepts.reward_clamp.widen(np.array([99.0, 100.0]))
    dream = Dream(model, 5, spaces.Discrete(3), spaces.Discrete(2))
    watched = WatchedDream(dream)
    play_episodes(watched, Uniform(spaces.Discrete(2)), 4)
    assert watched.steps >= 4
    assert watched.share == 1.0
