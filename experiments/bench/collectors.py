"""Speed of collectors on an environment whose steps sleep.

    worldmodel bench collectors [--json]

Random actions; rounds follow each other at once, so that nothing but the collectors limits them.
Steps are those of whole episodes, between two ends of rounds, after one that processes start in.
"""

import functools
import time
from collections.abc import Callable
from typing import Any

from rich.table import Table

from worldmodel import MemoryStore
from worldmodel.agents import AgentConfig, AgentTraining, Uniform
from worldmodel.agents.collectors import Collectors
from worldmodel.agents.world import World
from worldmodel.envs import EnvironmentSource
from worldmodel.envs.collector import Collector
from worldmodel.experiments.bench.settings import CollectorsSettings
from worldmodel.experiments.bench.sleeping import ID, Sleeping
from worldmodel.experiments.bench.table import table
from worldmodel.experiments.rl.collecting import RayCrew
from worldmodel.experiments.runs.interruption import stoppable
from worldmodel.progress import Reporter

ROUNDS = 5  # that are timed


def run(settings: CollectorsSettings, reporter: Reporter) -> list[dict[str, Any]]:
    """A row for each number of collectors; 0: this process."""
    found: list[dict[str, Any]] = []
    total = len(settings.collectors)
    with stoppable(reporter), reporter.stage("collecting", total, 0, "numbers") as stage:
        for number in settings.collectors:
            found.append({"collectors": number} | _measured(number, settings, reporter.say))
            stage.update(len(found), f"{found[-1]['steps_per_second']:.0f} steps/s")
    for row in found:
        row["times_the_first"] = row["steps_per_second"] / found[0]["steps_per_second"]
    return found


def _measured(
    number: int, settings: CollectorsSettings, say: Callable[[str], None]
) -> dict[str, Any]:
    arguments = {"milliseconds": settings.milliseconds}
    source = EnvironmentSource(f"{Sleeping.__module__}:{ID}", arguments, env_path=None)
    world = World(Sleeping.observation_space, Sleeping.action_space, source)
    crew = RayCrew(settings.ray)
    making = functools.partial(Collectors, crew=crew, number=number) if number else None
    training = AgentTraining(AgentConfig(), world, MemoryStore(), say=say, collector=making)
    collector = Collector(1) if making is None else making(training)
    collector.begin(world.environment, 0)
    agent, share = Uniform(world.action_space), max(1, settings.steps // ROUNDS)
    seconds, steps = 0.0, 0
    for round_ in range(1 + ROUNDS):
        begun = time.perf_counter()
        for _ in collector.play(agent, share):
            """Whole episodes, as they come."""
        if round_:
            seconds, steps = seconds + time.perf_counter() - begun, steps + collector.taken
    collector.close()
    return {"steps": steps, "seconds": seconds, "steps_per_second": steps / seconds}


def tables(result: list[dict[str, Any]]) -> list[Table]:
    """The table of `bench collectors`."""
    rows = [
        (
            str(row["collectors"] or "none"),
            f"{row['steps']:,}",
            f"{row['steps_per_second']:,.0f}",
            f"{row['times_the_first']:.2f}",
        )
        for row in result
    ]
    columns = ("collectors", "steps", "steps/s", "times the first")
    return [table("real steps of an environment that sleeps", columns, rows)]
