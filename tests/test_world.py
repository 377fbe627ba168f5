"""Laws of how an agent is watched in the real environment."""

import numpy as np
import pytest
from games import Lock

from worldmodel.agents import Uniform
from worldmodel.agents.world import World
from worldmodel.envs import EnvironmentSource


@pytest.mark.parametrize(("limit", "number"), [(10, 50), (100, 25), (250, 10), (400, 10)])
def test_short_episodes_are_watched_more_often(limit, number):
    source = EnvironmentSource(lambda: Lock(500, limit))
    env = source.one()
    world = World(env.observation_space, env.action_space, source)
    env.close()
    agent = Uniform(world.action_space)
    stats = world.watch(agent, 10, seed=3)
    assert len(stats.returns) == len(stats.terminated) == number
    assert (stats.lengths == limit).all()
    np.testing.assert_array_equal(stats.lengths[:10], world.play(agent, 10, seed=3).lengths)
