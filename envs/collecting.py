"""Collection of episodes in a real environment, yielded as they end."""

from collections.abc import Iterator

from worldmodel import Agent, Episodes
from worldmodel.envs.collector import Collector
from worldmodel.envs.gymnasium_environment import GymEnvironment


def collect(
    environment: GymEnvironment, agent: Agent, steps: int, ticks: int = 64
) -> Iterator[Episodes]:
    """Plays until `steps` steps have been taken (first rows are none), yields finished episodes.

    Every copy plays `ticks` rows at a time; besides them only unfinished episodes are kept. Those
    that are unfinished at the end come last, as truncations; those that were cut off by a worker's
    death are dropped, although their steps count. All in one: `Episodes.join(list(collect(...)))`.
    """
    collector = Collector(environment.vector_env.num_envs)
    collector.open(environment)
    yield from collector.play(agent, steps, ticks)
    if unfinished := collector.unfinished:
        yield Episodes.join(unfinished)
