"""Laws of the border to environments: right ones pass unchanged, wrong ones are named."""

from functools import partial

import games
import numpy as np
import odd_games
import pytest
from gymnasium import spaces

from worldmodel.envs import EnvironmentSource
from worldmodel.envs.checked import BrokenEnvironmentError, Checked, misfit

LEAVES = {
    "vector": spaces.Box(-1, 1, (2,), np.float32),
    "image": spaces.Box(0, 255, (4, 4, 3), np.uint8),
    "number": spaces.Box(0, 1, (), np.float64),
    "level": spaces.Discrete(3, start=5),
    "levels": spaces.MultiDiscrete([2, 3]),
    "bits": spaces.MultiBinary(4),
    "truths": spaces.Box(0, 1, (4,), bool),
}
NESTED = spaces.Dict(LEAVES | {"pair": spaces.Tuple([spaces.Discrete(2), LEAVES["vector"]])})


@pytest.mark.parametrize("make", [games.Counting, games.Nested, games.Panel, games.Echo])
def test_right_environments_pass_unchanged(make):
    plain, checked = make(), Checked(make())
    plain.action_space.seed(0)
    (ours, _), (theirs, _) = checked.reset(seed=3), plain.reset(seed=3)
    np.testing.assert_equal(ours, theirs)
    for _ in range(5):
        action = plain.action_space.sample()
        np.testing.assert_equal(checked.step(action), plain.step(action))


def test_members_of_a_space_fit():
    NESTED.seed(0)
    for _ in range(5):
        assert misfit(NESTED, NESTED.sample()) is None


def test_other_types_that_become_members_fit():
    assert misfit(LEAVES["vector"], [1, True]) is None
    assert misfit(LEAVES["number"], 3) is None
    assert misfit(LEAVES["level"], np.uint8(6)) is None
    assert misfit(NESTED["pair"], [0, (0.0, 1.0)]) is None


WRONG = [None, "text", {}, [], [[1], [2, 3]], np.zeros((7, 7)), {1, 2}, {"vector": 1.0}]


@pytest.mark.parametrize("value", WRONG, ids=str)
@pytest.mark.parametrize("key", [*LEAVES, "pair"])
def test_others_are_named_by_their_key(key, value):
    NESTED.seed(0)
    whole = NESTED.sample() | {key: value}
    assert f"under the key '{key}" in misfit(NESTED, whole)[0]
    assert misfit(NESTED, value)


@pytest.mark.parametrize(
    "how", ["raises", "shape", "four", "exits", "generates", "raises unspoken", "reward longer"]
)
def test_an_environment_of_a_function_is_named_too(how):
    env = EnvironmentSource(partial(odd_games.Odd, how, at=1)).vector(2)
    env.reset(seed=0)
    with pytest.raises(BrokenEnvironmentError, match=r"step of .*Odd") as caught:
        env.step(np.array([0, 1]))
    cause = {"raises": KeyError, "exits": SystemExit, "generates": GeneratorExit}
    cause |= {"raises unspoken": odd_games.Unspoken}
    assert isinstance(caught.value.__cause__, cause.get(how, type(None)))


@pytest.mark.parametrize("made", [None, 3, spaces.Discrete(2), type("Half", (games.Panel,), {})])
def test_a_function_makes_an_environment(made):
    if isinstance(made, type):
        made.observation_space = None
        made = made()
    with pytest.raises(TypeError, match="expected a function that makes a"):
        EnvironmentSource(lambda: made).one()


def test_who_cannot_be_closed_is_named():
    env = EnvironmentSource(partial(odd_games.Odd, "closed")).vector()
    with pytest.raises(BrokenEnvironmentError, match=r"close of .*Odd.* raised KeyError: 'door'"):
        env.close()


def test_metadata_are_a_dict():
    with pytest.raises(TypeError, match=r"metadata of .*Odd.* should be a dict.*got None"):
        EnvironmentSource(partial(odd_games.Odd, "metadata of None")).one()


def test_one_that_takes_no_render_mode_is_shown_as_it_is():
    """Though it says that it renders."""
    assert EnvironmentSource("Odd-v0").shown().render_mode is None


def test_copies_that_differ_are_told_of_their_environment():
    sizes = iter((2, 3))

    def make():
        env = odd_games.Odd()
        env.observation_space = spaces.Box(-1, 1, (next(sizes),), np.float32)
        return env

    with pytest.raises(BrokenEnvironmentError, match=r"constructor of .*make"):
        EnvironmentSource(make).vector(2)
