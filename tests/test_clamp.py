"""Laws of how far dreams go."""

import numpy as np
import pytest
import torch
from gymnasium import spaces

from worldmodel import Dream, action_codec, model_for, nested, play_episodes
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


def dreamt(model, space, actions=None):
    """Rows of 20 dreams, 20 each, without a policy."""
    actions = actions or spaces.Discrete(2)
    dream, code = Dream(model, 50, space, actions), action_codec(actions).uniform((20,))
    state = dream.initial_state(20)
    for _ in range(20):
        row, state = dream.step(code.sample(), state)
        yield row


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
    drawn = []
    for row in dreamt(model, space):
        drawn += row.reward[~row.first].tolist()
    assert max(drawn) == pytest.approx(1 + 0.1 * 4)
    assert min(drawn) >= -3 - 0.1 * 4 - 1e-6


def test_dreams_stay_within_it():
    space = spaces.Box(-np.inf, np.inf, (2,), np.float32)
    model = model_for(space, spaces.Discrete(2), "rnn", 4, [0.0])
    model.percepts.clamp.widen(torch.tensor([[0.0, 0.0], [1e-3, 1.0]]))
    for row in dreamt(model, space):
        assert (row.observation >= torch.tensor([-5.01e-4, -0.501])).all()
        assert (row.observation <= torch.tensor([1.501e-3, 1.501])).all()
    assert (row.observation == model.percepts.clamp.high).any()


def turned(rows):
    """Numbers of which the first and the third, and the second and the last, are on circles."""
    one, other = 7 * torch.rand(2, rows)
    parts = [one.cos(), 2 * other.sin(), one.sin(), torch.randn(rows), 2 * other.cos()]
    return torch.stack(parts, 1)


def radii(values):
    return values[..., [0, 2]].norm(dim=-1), values[..., [1, 4]].norm(dim=-1)


@pytest.mark.parametrize("portion", [1, 500])
def test_what_was_met_on_circles_is_drawn_on_them(portion):
    clamp = clamp_for(spaces.Box(-5, 5, (5,), np.float32))
    for part in turned(500).split(portion):
        clamp.widen(part)
    far = 0.3 * torch.randn(9, 5)
    found = clamp(far)
    for radius, expected in zip(radii(found), (1.0, 2.0), strict=True):
        torch.testing.assert_close(radius, torch.full((9,), expected))
    assert (found.sign() == far.sign()).all()
    torch.testing.assert_close(found[:, 2] / found[:, 0], far[:, 2] / far[:, 0])
    torch.testing.assert_close(found[:, 3], far[:, 3])
    clamp.widen(torch.tensor([[0.5, 0.5, 0.5, 0.0, 0.5]]))  # it is no rule
    torch.testing.assert_close(clamp(far), far)


def test_a_point_on_its_circle_stays_where_it_is():
    clamp, met = clamp_for(spaces.Box(-5, 5, (5,), np.float32)), turned(500)
    clamp.widen(met)
    torch.testing.assert_close(clamp(met), met)


@pytest.mark.parametrize(
    "values",
    [
        torch.eye(2)[torch.arange(500) % 2],
        torch.randn(500, 2).sign(),
        torch.tensor([[0.6, 0.8]]).expand(500, 2),
        torch.randn(500, 2),
    ],
    ids=["one of two", "signs", "a point", "anything"],
)
def test_what_only_looks_like_a_circle_is_none(values):
    clamp = clamp_for(spaces.Box(-5, 5, (2,), np.float32))
    clamp.widen(values)
    far = torch.rand(9, 2)
    torch.testing.assert_close(clamp.circles(far), far)


def test_circles_are_kept_with_the_weights_and_older_weights_have_none():
    clamp, other = (clamp_for(spaces.Box(-5, 5, (5,), np.float32)) for _ in range(2))
    clamp.widen(turned(500))
    state = clamp.state_dict()
    other.load_state_dict(state)
    far = torch.rand(9, 5)
    torch.testing.assert_close(clamp(far), other(far))
    other = clamp_for(spaces.Box(-5, 5, (5,), np.float32))
    other.load_state_dict({name: state[name] for name in ("low", "high", "seen")})
    assert not other.circles.are_there


def test_the_gradient_through_a_circle_is_that_along_it():
    clamp = clamp_for(spaces.Box(-5, 5, (5,), np.float32))
    clamp.widen(turned(500))
    point = torch.tensor([0.6, 0.0, 0.8, 0.0, 0.0], requires_grad=True)
    clamp(point)[0].backward()
    across = point.grad @ torch.tensor([0.6, 0.0, 0.8, 0.0, 0.0])
    assert across.abs() < 1e-5
    torch.testing.assert_close(point.grad[0], torch.tensor(0.64))
    assert point.grad.isfinite().all()


def test_a_dreamt_pendulum_stays_on_its_circle():
    """Whatever the model thinks of it."""
    space = spaces.Box(-8, 8, (3,), np.float32)
    torque = spaces.Box(-2, 2, (1,), np.float32)
    model = model_for(space, torque, "rnn", 4)
    angle = 7 * torch.rand(500)
    model.percepts.clamp.widen(torch.stack([angle.cos(), angle.sin(), torch.randn(500)], 1))
    for row in dreamt(model, space, torque):
        norm = row.observation[:, :2].norm(dim=1)
        torch.testing.assert_close(norm, torch.ones(20))


@pytest.mark.parametrize("met", [[], [False] * 9, [True] * 9, [True, False]])
def test_a_dream_ends_only_where_an_end_was_met(met):
    """An untrained model, for which an end is as likely as none."""
    space = spaces.Discrete(3)
    model = model_for(space, spaces.Discrete(2), "rnn", 4, [0.0])
    ends = torch.tensor(met, dtype=torch.bool)
    if met:
        model.percepts.end_clamp.widen(ends)
    drawn = []
    for row in dreamt(model, space):
        drawn += row.terminated[~row.first].tolist()
    assert set(drawn) == ({True, False} if not met else set(met))


def test_weights_that_are_older_than_the_clamp_of_ends_have_none():
    model = model_for(spaces.Discrete(3), spaces.Discrete(2), "rnn", 4, [0.0])
    state = {key: value for key, value in model.state_dict().items() if "end_clamp" not in key}
    assert len(state) < len(model.state_dict())
    model.load_state_dict(state)
    model.percepts.end_clamp.widen(torch.tensor([False]))  # as ever since, but not before
    assert model.percepts.end_clamp(torch.tensor([True, False])).tolist() == [True, False]


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
