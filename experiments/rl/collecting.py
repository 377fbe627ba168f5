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
    Setup,
    Version,
)
from worldmodel.envs import BrokenEnvironmentError, EnvironmentSource
from worldmodel.envs.checked import words_of
from worldmodel.envs.collector import Collector
from worldmodel.envs.elsewhere import ElsewhereSource, Keeper
from worldmodel.envs.observations import InvalidValueError
from worldmodel.experiments.rl.config import CollectorsConfig
from worldmodel.experiments.runs.cluster import connected
from worldmodel.experiments.runs.registry import PLUGINS_VARIABLE, load_plugins
from worldmodel.run_folder import RunError, RunFolder

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


def elsewhere(
    source: EnvironmentSource, config: CollectorsConfig, folder: RunFolder | None
) -> EnvironmentSource:
    """The source of a run's environment: of one that only some machines of a cluster have, what is
    asked of it is asked there."""
    if config.collector_resource is None:
        return source
    return ElsewhereSource(source, RayKeeper(source, config), cluster_refusal(config, folder))


def cluster_refusal(config: CollectorsConfig, folder: RunFolder | None) -> str:
    """A sentence on why the cluster of a run is not joined; "" if it may be. folder: see
    `source_from`."""
    if config.ray is None or folder is None or folder.trust.is_whole:
        return ""
    return (
        f"{folder.said} was not made here, and plays in the Ray cluster {config.ray!r}, whose "
        "code would run here: give --trust if you trust whoever made the run"
    )


class RayKeeper:
    """A keeper of environments as an actor of a Ray cluster, which begins when it is first
    asked."""

    def __init__(self, source: EnvironmentSource, config: CollectorsConfig):
        self.source = source
        self.config = config

    @functools.cached_property
    def _crew(self) -> "RayCrew":
        return RayCrew(self.config.ray, self.config.collector_resource)

    @functools.cached_property
    def _keeper(self) -> Any:
        return self._crew.start(Keeper, self.source)

    def __call__(self, method: str, *arguments: Any) -> Any:
        try:
            return self._crew.result(self._crew.call(self._keeper, method, *arguments))
        except LostPlayerError as error:
            del self._keeper
            raise RunError(
                f"the process that has the environment is lost ({error}): try again, by "
                "`worldmodel resume RUN` in the midst of training"
            ) from error


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

    def start(self, kind: type, *arguments: Any) -> Any:
        """Begins an actor that is an object of a class."""
        resources = {} if self.resource is None else {self.resource: 1}
        actor = self._ray.remote(kind).options(
            resources=resources, max_restarts=0, scheduling_strategy="SPREAD"
        )
        return actor.remote(*arguments)

    def hire(self, setup: Setup) -> Any:
        return self.start(Player, setup)

    def dismiss(self, player: Any) -> None:
        if self._ray.is_initialized():
            self._ray.kill(player)

    def publish(self, policy: Version) -> Any:
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
            lost = "node" if "node has died" in str(error) else "process"
            raise LostPlayerError(f"its {lost} is gone") from error
