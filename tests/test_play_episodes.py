"""Laws of returns of whole episodes, counted in worlds of known lengths and rewards."""

import numpy as np
import pytest
import torch
from games import Counting
from gymnasium.vector import SyncVectorEnv

from worldmodel import Agent, play_episodes
from worldmodel.distributions import Deterministic
from worldmodel.envs import GymEnvironment


class Always(Agent):
    """Presses one key, and thinks nothing."""

    thought_size = 0

    def __init__(self, key, keys=4):
        self.code = torch.eye(keys)[key]

    def initial_state(self, batch_size):
        return ()

    def step(self, row, state, shared=None):
        return row.reward.new_zeros(len(row.first), 0), state

    def policy(self, thought):
        return Deterministic(self.code.expand(len(thought), -1))


def world(*lengths):
    """A copy for each of `lengths`, the lengths of its episodes, over and over."""
    games = [lambda config=config: Counting(config) for config in lengths]
    return GymEnvironment(SyncVectorEnv(games), seed=0)


def earned(length, key=2):
    """What `Counting` gives for an episode of so many steps."""
    return sum(key + count / 100 for count in range(1, length + 1))


@pytest.mark.parametrize("episodes", [1, 2, 3, 4, 7])
def test_the_first_of_each_copy_count_before_the_second_of_any(episodes):
    """Those that end first are the short ones: taking them would be another number."""
    played = play_episodes(world((9, 2), (1, 4, 5)), Always(2), episodes, copies=2)
    expected = [earned(length) for length in (9, 1, 2, 4, 9, 5, 2)][:episodes]
    assert played.returns.dtype == np.float64
    assert played.returns == pytest.approx(expected, abs=1e-4)
    assert played.lengths.tolist() == [9, 1, 2, 4, 9, 5, 2][:episodes]
    assert played.terminated.tolist() == [length % 2 == 1 for length in played.lengths]


def test_fewer_episodes_than_copies_are_those_of_the_first_copies():
    played = play_episodes(world((3,), (1,), (2,)), Always(1), 2, copies=3)
    assert played.returns == pytest.approx([earned(3, 1), earned(1, 1)], abs=1e-5)


def test_one_is_told_how_many_episodes_are_over():
    config = []
    play_episodes(world((9, 2), (1, 4, 5)), Always(2), 4, 2, note=config.append)
    assert config[0] == 0
    assert config[-1] == 4
    assert set(config) == {0, 1, 2, 3, 4}
    assert config == sorted(config)


def test_a_world_that_never_ends_is_cut_off_at_the_limit():
    played = play_episodes(world((10**9,), (2,)), Always(2), 2, limit=7)
    assert played.returns == pytest.approx([earned(7), earned(2)], abs=1e-4)
    just = play_episodes(world((7,), (2,)), Always(2), 2, limit=7)
    assert just.returns == pytest.approx(played.returns, abs=1e-4)
    assert just.lengths.tolist() == played.lengths.tolist() == [7, 2]


def test_nothing_is_made_up_for_episodes_that_never_began():
    """A copy whose episode is cut off is never reset: it has no second one to count."""
    with pytest.raises(ValueError, match="1 of 4 episodes never began"):
        play_episodes(world((10**9,), (2,)), Always(2), 4, copies=2, limit=7)


@pytest.mark.parametrize(("first", "lengths"), [(10**9, [5, 5]), (4, [4, 9]), (3, [3, 9])])
def test_worlds_where_nothing_has_ended_are_given_up_earlier(first, lengths):
    played = play_episodes(world((first,), (10**9,)), Always(2), 2, limit=9, endless=5)
    assert played.lengths.tolist() == lengths
    assert played.returns == pytest.approx([earned(length) for length in lengths], abs=1e-4)
