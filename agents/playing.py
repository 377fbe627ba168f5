"""The episodes of an agent's training: played in the real environment, or read once."""

import functools
import itertools
from collections.abc import Callable, Mapping
from typing import Any, cast

import numpy as np

from worldmodel import Agent, DiskStore, Episodes, EpisodeStore, ranks
from worldmodel.agents.health import Met
from worldmodel.agents.world import World
from worldmodel.disk_store import FollowedStore
from worldmodel.envs import EnvironmentSource
from worldmodel.envs.collector import Collector
from worldmodel.envs.observations import InvalidValueError, check_rewards, check_values
from worldmodel.envs.resumable import Resumable
from worldmodel.job import Metrics


class Playing:
    """Fills a store with episodes, a round at a time.

    Episodes are stored as they end, and behind them those that go on, which the next round takes
    out and stores anew. The first of several ranks plays and writes; the others follow.
    """

    def __init__(
        self,
        world: World,
        store: EpisodeStore,
        collector: Collector,
        seed: int,
        say: Callable[[str], None],
    ):
        """store: of episodes; collector: that plays; seed: of the environments; say: called with
        sentences."""
        if ranks.size() > 1 and not isinstance(store, DiskStore):
            raise ValueError(
                "ranks read the episodes that the first one plays from a folder: train by "
                "`worldmodel train` under torchrun, or on one rank"
            )
        self.world = world
        self.store = store
        self.collector = collector
        self.seed = seed
        self.say = say
        self.steps = 0  # of the environment
        self.finished = 0  # episodes; those behind them in the store go on
        self.met = Met()
        self._weight = 1.0  # of those that go on
        self._lent = 0  # of the source, when the collector began to play

    def play(self, agent: Agent, steps: int, weight: float) -> Metrics:
        """Plays so many steps of the environment, at least; weight: sampling weight of a row."""
        self._weight = weight
        return self._by_first(lambda: self._played(agent, steps))

    def read(self) -> Metrics:
        """Copies recorded episodes into the store, so that their files can go."""
        return self._by_first(self._copied)

    def close(self) -> None:
        """Lets go of the environments, which are made anew when they are needed."""
        self.collector.close()

    @property
    def rewards(self) -> np.ndarray:
        """All that were recorded, [N]."""
        return np.concatenate([part.rewards for part in self.store.portions()])

    def _by_first(self, collect: Callable[[], Metrics]) -> Metrics:
        """Metrics of a collection, which the first rank makes; all know what came of it."""
        metrics = ranks.of_first(collect)
        self.finished, self.steps, met = ranks.of_first(self._counts)
        self.met = Met(*met)
        ranks.agree_on_noise()
        self._catch_up()
        return metrics

    def _counts(self) -> tuple[int, int, Met]:
        return self.finished, self.steps, self.met

    def _catch_up(self) -> None:
        """Lets the other ranks read what the first one has done to the store."""
        ranks.wait()
        if isinstance(self.store, FollowedStore):
            self.store.catch_up()

    def _copied(self) -> Metrics:
        data = self.world.data
        if data is None:
            raise ValueError(
                "the recorded episodes that are to be learned from are not there: an agent that "
                "was saved before it learned has none; make it anew, with data="
            )
        for part in data.portions(self.world.chosen):
            check_values(self.world.observation_space, part.columns["observation"])
            check_rewards(part.columns["reward"])
            self._check_actions(part.columns["action"])
            self.store.add(part)
            self.met = self.met.and_those_of(part)
        self.steps, self.finished = self.store.steps, self.store.added
        return {"episodes": len(self.store), "steps": self.steps}

    def _check_actions(self, actions: Any) -> None:
        """Refuses recorded actions that are none of the space."""
        space = self.world.action_space
        try:
            check_values(space, actions)
        except InvalidValueError as error:
            raise InvalidValueError(
                f"the recorded episodes have actions that are none of {space}: are they of "
                "another environment, or damaged?"
            ) from error

    def _played(self, agent: Agent, steps: int) -> Metrics:
        before = self.finished
        self.store.rewind(before)
        played = self.collector.play(agent, steps)
        for episodes in itertools.chain(self._open(), played):
            self.store.add(episodes, self._weight)
            self.met = self.met.and_those_of(episodes)
        self.finished = self.store.added
        self._store_unfinished()
        for episode in self.collector.unfinished:
            self.met = self.met.and_those_of(episode)
        self.steps += self.collector.taken
        return {
            "episodes": self.finished - before,
            "unfinished": self.store.added - self.finished,
            "steps": self.collector.taken,
            "real_steps": self.steps,
            "least_reward": self.met.least,
            "greatest_reward": self.met.greatest,
            "terminations": self.met.terminations,
            **self.collector.figures,
        }

    def _store_unfinished(self) -> None:
        for episode in self.collector.unfinished:
            self.store.add(episode, self._weight)

    def _open(self) -> list[Episodes]:
        """Makes the environments that are collected in, unless they are there, in which unfinished
        episodes are played again; returns those that are not gone on with. An environment of the
        caller's is the collector's until it is used elsewhere."""
        source, collector = cast(EnvironmentSource, self.world.source), self.collector
        if collector.is_open and source.lent == self._lent:
            return []
        collector.close()
        limit, copies = self.world.collected_limit, collector.copies
        for note in source.notes if not self.store.added else []:
            self.say(note)
        if limit is not None and not self.store.added:
            self.say(
                f"the environment has no time limit: collected episodes are cut off after "
                f"{limit:,} steps (--time-limit)"
            )
        lost = collector.begin(
            lambda: self.world.environment(
                copies,
                self.seed,
                min(self.world.workers, copies),
                self.say,
                functools.partial(Resumable, limit=limit),
            ),
            self.seed,
        )
        self._lent = source.lent
        if lost:
            self.say(
                f"{len(lost)} unfinished episodes cannot be gone on with, as the environment does "
                "not follow from its seed and the actions: they end there, and new ones begin"
            )
        return lost

    def tensors(self) -> dict[str, Any]:
        """Tensors that the next round depends on."""
        return {"running": self.collector.state_dict()[0]}

    def values(self) -> dict[str, Any]:
        """Plain values that the next round depends on."""
        return {
            "real_steps": self.steps,
            "added": self.store.added,
            "finished": self.finished,
            "running": self.collector.state_dict()[1],
            "weight": self._weight,
            "met": list(self.met) if self.steps else None,
        }

    def load_counts(self, values: Mapping[str, Any]) -> None:
        """Goes back to the episodes that had ended when `values` were taken."""
        self.steps, self.finished = values["real_steps"], values["finished"]
        self.store.rewind(self.finished)
        self.met = Met(*values["met"] or ())

    def load(self, tensors: Mapping[str, Any], values: Mapping[str, Any]) -> None:
        """Takes the episodes that go on back, too, after `load_counts`."""
        self.collector.load_state_dict(tensors["running"], values["running"])
        self._weight = values["weight"]
        self._store_unfinished()
        self._catch_up()
