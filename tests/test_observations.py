"""What an environment shows is checked against its space, part by part."""

import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.vector.utils import batch_space

from worldmodel.envs.observations import (
    InvalidValueError,
    as_read,
    check_rewards,
    check_values,
    is_one,
)

PARTS = {
    "vector": spaces.Box(-1, 1, (2,), np.float32),
    "image": spaces.Box(0, 200, (4, 4, 3), np.uint8),
    "level": spaces.Discrete(3, start=5),
    "levels": spaces.MultiDiscrete([[2, 3]], start=[[1, 0]]),
    "bits": spaces.MultiBinary(4),
    "truths": spaces.Box(0, 1, (2,), bool),
    "pair": spaces.Tuple([spaces.Discrete(2), spaces.Box(-9, 9, (), np.int64)]),
}
SPACE = spaces.Dict(PARTS)
WRONG = {
    "vector": ("vector", np.nan),
    "image": ("image", 201),
    "level": ("level", 4),
    "levels": ("levels", 4),
    "bits": ("bits", 2),
    "pair": ("pair.0", 2),
}


def shown():
    """Observations [5, ...]."""
    batched = batch_space(SPACE, 5)
    batched.seed(0)
    return batched.sample()


def test_members_of_a_space_are_let_through():
    check_values(SPACE, shown())


def test_floats_may_leave_their_bounds():
    observation = shown()
    observation["vector"][2, 1] = 1.5
    check_values(SPACE, observation)


@pytest.mark.parametrize("key", WRONG)  # of truth values, none is wrong
def test_what_has_no_code_is_refused_by_its_key(key):
    path, value = WRONG[key]
    observation = shown()
    leaf = observation[key][0] if key == "pair" else observation[key]
    leaf.reshape(5, -1)[3, 0] = value
    with pytest.raises(InvalidValueError, match=f"showed {value} under the key '{path}'"):
        check_values(SPACE, observation)


@pytest.mark.parametrize("reward", [np.nan, np.inf, -np.inf])
def test_rewards_are_numbers(reward):
    check_rewards(np.array([1.0, -2.0]))
    with pytest.raises(InvalidValueError, match=f"the reward {reward}"):
        check_rewards(np.array([1.0, reward]))


IMAGE = spaces.Box(0, 255, (10, 9, 3), np.uint8)
GREY = spaces.Box(0, 255, (10, 9, 1), np.uint8)
FRAMES = spaces.Box(0, 255, (10, 9, 6), np.uint8)
AS_SHOWN = {
    "channels first": (IMAGE, lambda image: np.moveaxis(image, -1, -3)),
    "wide": (IMAGE, lambda image: image.astype(np.int64)),
    "bright": (IMAGE, lambda image: (image / 255).astype(np.float32)),
    "bright, channels first": (IMAGE, lambda image: np.moveaxis(image, -1, -3) / 255),
    "grey": (GREY, lambda image: image[..., 0]),
    "grey, channels first": (GREY, lambda image: np.moveaxis(image, -1, -3)),
    "frames": (FRAMES, lambda image: np.moveaxis(image.reshape(*image.shape[:-1], 2, 3), -2, -4)),
}


@pytest.mark.parametrize("name", AS_SHOWN)
@pytest.mark.parametrize("games", [1, 2])
def test_images_are_read_as_they_were_before_they_were_turned(name, games):
    space, turned = AS_SHOWN[name]
    space.seed(0)
    images = np.stack([space.sample() for _ in range(games)])
    for shown in (images, turned(images)):
        assert not is_one(space, shown)
        read = as_read(space, shown, is_one=False)
        assert read.dtype == np.uint8
        np.testing.assert_array_equal(read, images)
        np.testing.assert_array_equal(as_read(space, shown[0]), images[0])
        assert is_one(space, shown[0]) == (shown[0].shape != (1, 10, 9))  # several grey, then


def test_parts_that_a_space_lacks_are_not_read():
    space = spaces.Dict({"a": spaces.Dict({"1": spaces.Discrete(3)}), "b": spaces.Discrete(2)})
    shown = {"a": ("what is asked", 2), "b": 1, "why": "it was there"}
    assert as_read(space, shown) == {"a": {"1": 2}, "b": 1}
    assert as_read(space, {"b": 1}) == {"b": 1}  # for others to refuse
    assert as_read(spaces.Tuple([spaces.Discrete(2)]), (1, 2)) == (1, 2)
