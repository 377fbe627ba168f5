"""What an environment shows is checked against its space, part by part."""

import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.vector.utils import batch_space

from worldmodel.envs.observations import InvalidValueError, check_rewards, check_values

PARTS = {
    "vector": spaces.Box(-1, 1, (2,), np.float32),
    "image": spaces.Box(0, 200, (4, 4, 3), np.uint8),
    "level": spaces.Discrete(3, start=5),
    "levels": spaces.MultiDiscrete([[2, 3]], start=[[1, 0]]),
    "bits": spaces.MultiBinary(4),
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


@pytest.mark.parametrize("key", PARTS)
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
