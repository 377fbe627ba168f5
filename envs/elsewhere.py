"""Environments that this process cannot make: a `Keeper` has them in a process that can, and
whatever is asked of them is asked there."""

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import gymnasium
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space

from worldmodel.envs.checked import shut
from worldmodel.envs.source import EnvironmentSource


class Facts(NamedTuple):
    """The facts about an environment that are known without playing."""

    observation_space: spaces.Space
    action_space: spaces.Space
    metadata: dict[str, Any]
    time_limit: int | None
    notes: list[str]


class Keeper:
    """Has the environments of a source, for others who ask by calls."""

    def __init__(self, source: EnvironmentSource):
        self.source = source
        self._made: list[VectorEnv] = []

    def facts(self) -> Facts:
        """Makes one environment, and tells what it is."""
        env = self.source.one()
        metadata = {"render_fps": env.metadata.get("render_fps")}
        found = (env.observation_space, env.action_space, metadata)
        shut(env)
        return Facts(*found, self.source.time_limit, self.source.notes)

    def make(self, copies: int) -> int:
        """Makes copies side by side; returns the number by which they are called."""
        self._made.append(self.source.vector(copies))
        return len(self._made) - 1

    def reset(self, number: int, seed: Any, options: dict[str, Any] | None) -> tuple[Any, Any]:
        """Resets copies."""
        return self._made[number].reset(seed=seed, options=options)

    def step(self, number: int, actions: Any) -> tuple[Any, Any, Any, Any, Any]:
        """Steps copies."""
        return self._made[number].step(actions)

    def close(self, number: int) -> None:
        """Closes copies."""
        self._made[number].close()


Ask = Callable[..., Any]  # the name of a method of a `Keeper` and its arguments -> its result


class ElsewhereSource(EnvironmentSource):
    """A source that a keeper answers for. Its single environments show spaces and are not played;
    copies side by side are, a call a step."""

    def __init__(self, near: EnvironmentSource, ask: Ask, refusal: str = ""):
        """near: the same for a process that can make it; refusal: of a sentence besides its
        own."""
        refusal = near.refusal or refusal
        super().__init__(
            near.env, near.arguments, refusal=refusal, patience=near.patience, **near.options
        )
        self._near = near
        self._ask = ask

    @property
    def near(self) -> EnvironmentSource:
        return self._near

    @functools.cached_property
    def _told(self) -> Facts:
        self.check()
        facts: Facts = self._ask("facts")
        return facts

    @functools.cached_property
    def _facts(self) -> tuple[int | None, list[str]]:
        return (None, []) if self.refusal else (self._told.time_limit, self._told.notes)

    def one(self, render_mode: str | None = None) -> gymnasium.Env:
        env: gymnasium.Env = gymnasium.Env()
        env.observation_space, env.action_space = self._told[:2]
        env.metadata = self._told.metadata
        return env

    def shown(self) -> gymnasium.Env:
        return self.one()

    def vector(self, copies: int = 1, *_: Any, **__: Any) -> VectorEnv:
        return ElsewhereVectorEnv(copies, self._told, self._ask)


class ElsewhereVectorEnv(VectorEnv):
    """Copies side by side that a keeper has."""

    def __init__(self, copies: int, facts: Facts, ask: Ask):
        self.num_envs = copies
        self.metadata = facts.metadata | {"autoreset_mode": AutoresetMode.NEXT_STEP}
        self.single_observation_space = facts.observation_space
        self.single_action_space = facts.action_space
        self.observation_space = batch_space(facts.observation_space, copies)
        self.action_space = batch_space(facts.action_space, copies)
        self._ask = ask
        self._number = ask("make", copies)

    def reset(
        self,
        *,
        seed: int | Sequence[int | None] | None = None,
        options: dict[str, Any] | None = None,
    ) -> tuple[Any, dict[str, Any]]:
        found: tuple[Any, dict[str, Any]] = self._ask("reset", self._number, seed, options)
        return found

    def step(self, actions: Any) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        found: tuple[Any, Any, Any, Any, dict[str, Any]] = self._ask("step", self._number, actions)
        return found

    def close_extras(self, **kwargs: Any) -> None:
        """Closes them where they are."""
        self._ask("close", self._number)
