"""Laws of what a game is about: in the environment's own words, Gymnasium's, or none."""

from collections import deque

import gymnasium
import numpy as np
import pytest

from worldmodel.envs import Action, Purpose, ToyGame, best_return, purpose_of
from worldmodel.envs.purpose import LONGEST
from worldmodel.envs.toy_game import TASKS, fewest_steps, play, ring_from_number

KNOWN = ["CartPole-v1", "Pendulum-v1", "Acrobot-v1", "MountainCar-v0", "FrozenLake-v1"]
KNOWN += ["CliffWalking-v1", "Blackjack-v1"]


@pytest.mark.parametrize("id", KNOWN)
def test_any_game_is_told_in_a_sentence_without_markup(id):
    purpose = purpose_of(gymnasium.make(id))
    assert 20 < len(purpose.words) <= LONGEST
    assert purpose.words.endswith((".", "…"))
    assert not set(purpose.words) & set("#*`[]\n")
    assert purpose.good == gymnasium.spec(id).reward_threshold
    assert (purpose.told != purpose.words) == (purpose.good is not None)


class Silent(gymnasium.Env):
    observation_space = action_space = gymnasium.spaces.Discrete(2)


class Talking(Silent):
    """Something else."""

    def get_purpose(self):
        return "Find the key."

    def get_end_meanings(self):
        return {"truncated": "the door is shut", "other": "?"}

    def get_best_return(self, info):
        return info["keys"]


def test_an_environment_of_ones_own_speaks_for_itself():
    assert purpose_of(Silent()) == Purpose()  # not what Gymnasium says of all environments
    assert best_return(Silent(), {}) is None
    env = gymnasium.wrappers.OrderEnforcing(Talking())
    purpose = purpose_of(env)
    assert purpose.words == "Find the key."
    assert (purpose.end(True), purpose.end(False)) == ("the end", "the door is shut")
    assert best_return(env, {"keys": np.int64(3)}) == 3


@pytest.mark.parametrize("task", [task for task in TASKS if task != "free"])
@pytest.mark.parametrize(("width", "classes"), [(2, 2), (5, 2), (3, 4)])
def test_the_fewest_steps_are_those_of_a_search(width, classes, task):
    for ring in ring_from_number(np.arange(classes**width), width, classes):
        begun = (*ring.tolist(), 0)
        steps, todo = {begun: 0}, deque([begun])
        while len({*todo[0][:-1]}) > 1:
            *cells, position = now = todo.popleft()
            each = np.array([cells] * len(Action)), np.full(len(Action), position)
            after = play(*each, np.array(Action), classes, task)
            for then in map(tuple, np.column_stack(after).tolist()):
                if then not in steps:
                    steps[then] = steps[now] + 1
                    todo.append(then)
        assert fewest_steps(ring, classes, task) == steps[todo[0]]


def test_the_best_return_is_that_of_the_game_that_began():
    game = ToyGame()
    _, info = game.reset(seed=1)
    assert best_return(game, info) == -fewest_steps(info["ring"], 3, "copy")
    assert best_return(ToyGame(task="free"), info) is None
