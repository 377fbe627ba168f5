"""Laws of the controls: names of keys to actions of any space."""

import numpy as np
import pytest
from gymnasium import spaces

from worldmodel.experiments.show.play.controls import Controls

ATARI = ["noop", "fire", "up", "right", "left", "down", "upright", "upleft", "downright"]
ATARI += ["downleft", *(f"{name}fire" for name in ATARI[2:]), "downleftfire"]


def test_named_actions_have_the_keys_of_their_names_and_digits():
    controls = Controls(spaces.Discrete(5), ("noop", "right", "left", "up", "down"))
    for key, place in [("space", 0), ("right", 1), ("left", 2), ("up", 3), ("down", 4), ("3", 3)]:
        assert controls.knows(key)
        assert controls.press(key)
        assert controls.action == place
        controls.release(key)
        assert controls.action == 0
    assert not controls.knows("5")
    assert ("right 1", "right") in controls.help
    assert controls.describe(4) == "down"


def test_actions_count_from_their_start():
    controls = Controls(spaces.Discrete(3, start=-1))
    controls.press("right")
    assert controls.action == 1
    controls.press("0")
    assert controls.action == -1
    assert controls.describe(0) == "action 1"


def test_keys_held_together_play_what_is_named_after_them():
    controls = Controls(spaces.Discrete(18), ATARI)
    for held, name in [(["up"], "up"), (["up", "left"], "upleft"), (["left", "up"], "upleft")]:
        for key in held:
            controls.press(key)
        assert controls.describe(controls.action) == name
        controls.release()
    for key in ("down", "space", "right"):
        controls.press(key)
    assert controls.describe(controls.action) == "downrightfire"
    controls.release("space")
    assert controls.describe(controls.action) == "downright"
    controls.release("down")
    assert controls.describe(controls.action) == "right"
    controls.release("right")
    assert controls.describe(controls.action) == "noop"


def test_without_an_action_to_do_nothing_the_last_one_stays():
    controls = Controls(spaces.Discrete(2), ("left", "right"))
    controls.press("right")
    controls.release("right")
    assert controls.action == 1


def test_the_numbers_of_a_box_by_arrows_digits_and_pointer():
    space = spaces.Box(np.array([-2.0, 0.0, -1.0]), np.array([2.0, 1.0, 1.0]), dtype=np.float32)
    controls = Controls(space)
    assert controls.action == pytest.approx([0, 0, 0])
    controls.press("right")
    controls.press("up")
    assert controls.action == pytest.approx([2, 1, 0])
    controls.release()
    assert controls.action == pytest.approx([0, 0, 0])
    assert not controls.press("3")
    controls.press("left")
    assert controls.action == pytest.approx([0, 0, -1])
    controls.press("1")
    assert controls.point(0.5, -1)
    assert controls.action == pytest.approx([1, 0, -1])
    assert controls.point(9, 9)
    assert space.contains(controls.action)
    controls.press("space")
    assert controls.action == pytest.approx([0, 0, 0])
    assert controls.describe(controls.action) == "0 0 0"
    named = Controls(space, ["along", "across", "up"])
    assert named.describe(controls.action) == "along 0 across 0 up 0"


def test_what_is_no_action_of_a_box_without_zero_is_its_middle():
    controls = Controls(spaces.Box(2.0, 4.0, (1,)))
    assert controls.action == pytest.approx([3])


def test_a_multidiscrete_is_set_number_by_number_and_then_played():
    controls = Controls(spaces.MultiDiscrete([3, 4]))
    assert not controls.press("left")
    assert controls.action.tolist() == [2, 0]
    assert not controls.press("2")
    assert not controls.press("right")
    assert controls.action.tolist() == [2, 1]
    assert controls.press("space")
    controls.release()
    assert controls.action.tolist() == [2, 1]
    assert not controls.point(0, 0)


def test_truth_values_are_turned():
    controls = Controls(spaces.MultiBinary(3))
    controls.press("2")
    controls.press("3")
    controls.press("2")
    assert controls.action.tolist() == [0, 0, 1]
    assert controls.press("enter")


def test_keys_of_ones_own():
    controls = Controls(spaces.Discrete(12), keys={"a": 11, "left": 3})
    controls.press("a")
    assert controls.action == 11
    controls.press("left")
    assert controls.action == 3
    with pytest.raises(ValueError, match="0 to 11, got the keys b=12"):
        Controls(spaces.Discrete(12), keys={"b": 12})
    with pytest.raises(ValueError, match="discrete actions"):
        Controls(spaces.MultiBinary(2), keys={"b": 1})


@pytest.mark.parametrize(
    "space",
    [
        spaces.Discrete(2),
        spaces.Discrete(20),
        spaces.Box(-1, 1, (2, 2)),
        spaces.MultiDiscrete([[2, 3], [4, 5]]),
        spaces.MultiBinary([2, 2]),
    ],
)
def test_whatever_is_pressed_is_an_action_of_the_space(space):
    controls = Controls(space)
    for key in ["left", "1", "right", "space", "2", "up", "4", "down", "9", "enter"]:
        if controls.knows(key):
            controls.press(key)
            assert space.contains(np.asarray(controls.action, space.dtype)[()])
    controls.release()
    assert all(key and words for key, words in controls.help)
