"""Laws of the figures that are reported of agents: returns, their intervals, whole episodes."""

import numpy as np
import pytest
from games import Counting
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from scipy import stats

from worldmodel.agents import Uniform
from worldmodel.envs import GymEnvironment
from worldmodel.experiments.measure.scores import first_episodes, returns_of


def counting(*lengths):
    """A world whose copies have first episodes of these lengths, second ones of 3 steps."""
    makes = [lambda n=n: Counting(lengths=(n, 3)) for n in lengths]
    return GymEnvironment(SyncVectorEnv(makes, autoreset_mode=AutoresetMode.NEXT_STEP), seed=0)


@pytest.mark.parametrize("number", [2, 7, 100])
def test_the_interquartile_mean_and_the_interval_are_scipys(number):
    values = np.random.default_rng(0).normal(size=number)
    found = returns_of(values, 0)
    assert found["iqm"] == pytest.approx(stats.trim_mean(values, 0.25))
    noise = np.random.default_rng(0)
    drawn = stats.bootstrap((values,), np.mean, method="percentile", random_state=noise)
    assert found["ci95"] == pytest.approx(list(drawn.confidence_interval))


def test_the_interval_covers_the_mean_as_often_as_it_says():
    random = np.random.default_rng(0)
    covered = 0
    for seed in range(200):
        low, high = returns_of(random.exponential(size=40), seed)["ci95"]
        covered += low < 1.0 < high
    assert 0.86 < covered / 200 < 0.98  # a bootstrap of few skewed values covers a bit less


def test_the_interval_is_the_normal_one_where_there_are_many():
    values = np.random.default_rng(0).normal(size=1_000)
    half = 1.96 * values.std() / 1_000**0.5
    expected = [values.mean() - half, values.mean() + half]
    assert returns_of(values, 0)["ci95"] == pytest.approx(expected, abs=0.1 * half)


def test_returns_that_are_all_alike_have_an_interval_of_no_width():
    found = returns_of(np.full(100, 500.0), 0)
    assert found == {"mean": 500.0, "iqm": 500.0, "ci95": [500.0, 500.0]}


def test_first_episodes_are_the_first_of_each_copy():
    world = counting(1, 7, 4)
    episodes = first_episodes(world, Uniform(world.action_space), 3, rows=100)
    assert episodes.lengths.tolist() == [2, 8, 5]
    counts = episodes.columns["observation"][:, 0]
    assert counts.tolist() == [0, 1, *range(8), *range(5)]


def test_episodes_that_go_on_are_cut():
    world = counting(1, 50, 4)
    episodes = first_episodes(world, Uniform(world.action_space), 3, rows=6)
    assert episodes.lengths.tolist() == [2, 6, 5]
    assert not episodes.columns["terminated"][7]
