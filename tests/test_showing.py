"""Laws of showing games: pictures of rows are what the environment itself would draw."""

import games
import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces

from worldmodel import Row, nested
from worldmodel.codecs.clamp import clamp_for
from worldmodel.envs import (
    ObservationView,
    PoseView,
    action_names,
    as_picture,
    can_pose,
    make_environment,
    number_names,
)
from worldmodel.envs.showing import MOST, REMEMBERED
from worldmodel.envs.wrappers import HideEntries

POSED = ["CartPole-v1", "Pendulum-v1", "Acrobot-v1", "MountainCar-v0", "MountainCarContinuous-v0"]


def row_of(observation, first=False):
    """A row of one game."""
    observation = nested.map(lambda leaf: torch.as_tensor(np.asarray(leaf))[None], observation)
    nothing = torch.zeros(1)
    return Row(torch.tensor([first]), nothing[:, None], observation, nothing, nothing.bool())


@pytest.mark.parametrize("hidden", [False, True])
@pytest.mark.parametrize("id", POSED)
def test_a_posed_renderer_draws_what_the_environment_draws(id, hidden):
    env, other = (
        make_environment(id, hidden_velocities=hidden, render_mode="rgb_array") for _ in range(2)
    )
    view = PoseView(other)
    state = view.initial_state(1)
    observation, _ = env.reset(seed=3)
    env.action_space.seed(0)
    for step in range(20):
        state = view.step(row_of(observation, first=step == 0), state)
        (shown,) = view.draw(state, "rgb_array")
        if hasattr(env.unwrapped, "last_u"):
            env.unwrapped.last_u = None  # the arrow of the torque, which no observation tells of
        assert np.abs(shown.astype(int) - env.render()).mean() < 0.5
        observation, _, ended, _, _ = env.step(env.action_space.sample())
        if ended:
            break
    env.close()
    other.close()


def test_several_games_are_drawn_at_once():
    env = make_environment("CartPole-v1", render_mode="rgb_array")
    view = PoseView(env)
    two = torch.tensor([[0.0, 0, 0, 0], [1.0, 0, 0.1, 0]])
    one, other = view.draw(two, "rgb_array")
    assert (one != other).any()
    assert (view.draw(two[1:], "rgb_array")[0] == other).all()
    with pytest.raises(ValueError, match="not as 'ansi'"):
        view.draw(two, "ansi")


def test_only_what_tells_the_state_is_posed():
    assert not can_pose(make_environment("CartPole-v1"))  # it renders nothing
    assert not can_pose(make_environment("CartPole-v1", pixels=32))
    assert not can_pose(make_environment("Blackjack-v1"))
    with pytest.raises(ValueError, match="CartPole, Pendulum"):
        PoseView(make_environment("Blackjack-v1"))


def test_names_of_actions():
    assert action_names(make_environment("Acrobot-v1")) == ("left", "noop", "right")
    toy = gymnasium.make("worldmodel/ToyGame-v0")
    assert action_names(toy) == ("noop", "right", "left", "up", "down")
    assert action_names(make_environment("Pendulum-v1")) == ("torque",)
    assert action_names(games.Counting()) == ()


SPACE = spaces.Dict(
    camera=spaces.Box(0, 255, (16, 12, 3), np.uint8),
    arm=spaces.Tuple([spaces.Discrete(3, start=1), spaces.Box(-2, 2, (2,))]),
    bits=spaces.MultiBinary(2),
)


def test_numbers_have_the_names_that_the_environment_gives_them():
    class Weather(games.Nested):
        def get_observation_meanings(self):
            return {"vector": ["wind [m/s]", "sun [h]", "rain [mm]"], "pair.0": ["too few"]}

    names = number_names(Weather())
    view = ObservationView(Weather.observation_space, None, names)
    labels = [number.label for number in view.numbers]
    assert labels[:2] == ["number", "pair.0 0"]
    assert labels[-3:] == ["wind [m/s]", "sun [h]", "rain [mm]"]


def test_what_is_hidden_has_no_name():
    env = HideEntries(gymnasium.make("CartPole-v1"), [1, 3])
    assert number_names(env) == {"": ("position", "angle [rad]")}
    assert number_names(games.Counting()) == {}


def test_any_observation_is_shown_image_by_image_and_number_by_number():
    view = ObservationView(SPACE)
    labels = [(number.label, number.low, number.high) for number in view.numbers]
    assert labels == [
        ("arm.0", 1, 3),
        ("arm.1 0", -2, 2),
        ("arm.1 1", -2, 2),
        ("bits 0", 0, 1),
        ("bits 1", 0, 1),
    ]
    state, sizes = view.initial_state(1), set()
    SPACE.seed(0)
    for step in range(REMEMBERED + 3):
        sample = SPACE.sample()
        state = view.step(row_of(sample, first=step == 0), state)
        (shown,) = view.draw(state, "rgb_array")
        sizes.add(shown.shape)
        numbers = [sample["arm"][0], *sample["arm"][1], *sample["bits"]]
        assert state.numbers[0, -1].numpy() == pytest.approx(numbers)
        assert (state.images[0][0].numpy() == sample["camera"]).all()
        assert int(torch.isfinite(state.numbers[0, :, 0]).sum()) == min(step + 1, REMEMBERED)
    assert len(sizes) == 1
    state = view.step(row_of(sample, first=True), state)
    assert int(torch.isfinite(state.numbers[0, :, 0]).sum()) == 1


def test_an_image_alone_is_shown_as_it_is():
    space = spaces.Box(0, 255, (20, 24, 1), np.uint8)
    view = ObservationView(space)
    image = np.arange(480, dtype=np.uint8).reshape(20, 24, 1)
    state = view.step(row_of(image, first=True), view.initial_state(1))
    (shown,) = view.draw(state, "rgb_array")
    assert (shown == image.repeat(3, -1)).all()
    assert view.modes == ("rgb_array",)


def test_planes_of_truth_values_are_told_apart():
    """And are not the first three of them as red, green and blue."""
    space = spaces.Box(0, 1, (8, 9, 7), bool)
    view = ObservationView(space)
    planes = np.zeros((8, 9, 7), bool)
    planes[0] = np.eye(9, 7, dtype=bool)  # a plane each in seven pixels of a row
    state = view.step(row_of(planes, first=True), view.initial_state(1))
    (shown,) = view.draw(state, "rgb_array")
    assert len({tuple(colour) for colour in shown[0, :7].tolist()} - {(0, 0, 0)}) == 7
    assert not shown[1:].any()


def test_strips_span_what_was_seen():
    space = spaces.Box(-np.inf, np.inf, (2,))
    reach = clamp_for(space)
    reach.widen(np.array([[0.0, -5.0], [1.0, 5.0]]))
    view = ObservationView(space, reach)
    assert [(n.low, n.high) for n in view.numbers] == [(0, 1), (-5, 5)]
    state = view.step(row_of(np.array([0.5, 5.0]), first=True), view.initial_state(1))
    (text,) = view.draw(state, "ansi")
    first, second = text.splitlines()
    assert first.startswith("observation 0 ")
    assert first.index("●") < second.index("●")
    assert "0.5" in first


def test_more_numbers_than_fit_are_counted():
    view = ObservationView(spaces.Box(-1, 1, (MOST + 7,)))
    state = view.step(row_of(np.zeros(MOST + 7), first=True), view.initial_state(1))
    assert view.draw(state, "ansi")[0].endswith("and 7 numbers more")
    assert view.draw(state, "rgb_array")[0].ndim == 3


def test_truth_values_are_black_and_white():
    image = np.eye(8, dtype=np.int8)[..., None]
    assert (as_picture(image) == 255 * image.astype(np.uint8).repeat(3, -1)).all()
