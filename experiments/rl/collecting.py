"""Collectors of a run, as actors of a Ray cluster.

What travels are settings, weights and rows. The classes that do the work are imported on the other
machines, which have the same packages: no code of a run is sent.
"""

import functools
import os
from collections.abc import Callable, Sequence
from typing import Any

from worldmodel.agents import AgentTraining
from worldmodel.agents.collectors import (
    Collectors,
    Crew,
    LostPlayerError,
    OneCollector,
    Player,
    Policy,
    Setup,
)
from worldmodel.envs import BrokenEnvironmentError
from worldmodel.envs.checked import words_of
from worldmodel.envs.collector import Collector
from worldmodel.envs.observations import InvalidValueError
from worldmodel.experiments.rl.config import CollectorsConfig
from worldmodel.experiments.runs.cluster import connected
from worldmodel.experiments.runs.registry import PLUGINS_VARIABLE, load_plugins
from worldmodel.run_folder import RunError

SAID = (RunError, BrokenEnvironmentError, InvalidValueError)  # errors that are sentences


def collector_of(config: CollectorsConfig) -> Callable[[AgentTraining], Collector] | None:
    """The function that makes a run's collector; None: it collects in its own process."""
    if not config.collectors:
        return None
    names = os.environ.get(PLUGINS_VARIABLE, "").split(",")
    prepare = functools.partial(load_plugins, names)

    def collector(training: AgentTraining) -> Collector:
        crew = RayCrew(config.ray, config.collector_resource)
        if config.collectors == 1:
            return OneCollector(training, crew, prepare)
        return Collectors(training, crew, config.collectors, prepare)

    return collector


class RayCrew(Crew):
    """Players as actors of a Ray cluster, on as many machines as there are."""

    def __init__(self, address: str | None = None, resource: str | None = None):
        """address: of the cluster, see `connected`; resource: of Ray, that each player takes one
        of."""
        self.address = address
        self.resource = resource

    @functools.cached_property
    def _ray(self) -> Any:
        return connected(self.address, "--collectors" if self.address is None else "--ray")

    @functools.cached_property
    def _actor(self) -> Any:
        resources = {} if self.resource is None else {self.resource: 1}
        actor = self._ray.remote(Player)
        return actor.options(resources=resources, max_restarts=0, scheduling_strategy="SPREAD")

    def hire(self, setup: Setup) -> Any:
        return self._actor.remote(setup)

    def dismiss(self, player: Any) -> None:
        if self._ray.is_initialized():
            self._ray.kill(player)

    def publish(self, policy: Policy) -> Any:
        return self._ray.put(policy)

    def call(self, player: Any, method: str, *arguments: Any) -> Any:
        return getattr(player, method).remote(*arguments)

    def over(self, calls: Sequence[Any], seconds: float) -> list[Any]:
        self._ray.wait(list(calls), timeout=seconds)
        over, _ = self._ray.wait(list(calls), num_returns=len(calls), timeout=0)
        return list(over)

    def result(self, call: Any) -> Any:
        errors = self._ray.exceptions
        try:
            return self._ray.get(call)
        except errors.RayTaskError as error:
            if isinstance(error.cause, SAID):
                raise error.cause from None
            raise RunError(f"a collector cannot play: {words_of(error.cause)}") from error
        except errors.RayError as error:
            is_alone = "node has died" not in str(error)
            raise LostPlayerError(
                "its process ended" if is_alone else "its node is gone"
            ) from error
