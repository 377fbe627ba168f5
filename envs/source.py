"""Sources of environments: an id, an environment, or a function that makes one."""

import functools
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import gymnasium
from gymnasium.vector import AutoresetMode, SyncVectorEnv, VectorEnv

from worldmodel.envs.checked import PATIENCE, blamed, checked, patience, shut, whole
from worldmodel.envs.make import (
    arguments_from_json,
    make_environment,
    make_vector_env,
    notes_of,
    readable,
)
from worldmodel.envs.workers import WorkerVectorEnv
from worldmodel.run_folder import RunError, RunFolder

RENDERED = "rgb_array"
TIME_LIMITS = ("time_limit", "max_steps", "max_episode_steps")
"""The names of their steps' number in environments that truncate without Gymnasium's wrapper."""


class EnvironmentSource:
    """Makes one kind of environment, alone or in copies side by side."""

    def __init__(
        self,
        env: "str | gymnasium.Env | Callable[[], gymnasium.Env]",
        arguments: Mapping[str, Any] | None = None,
        *,
        refusal: str = "",
        patience: float | None = None,
        **options: Any,
    ):
        """env: a Gymnasium id, `module:id`, an environment, which stays the caller's, or a
        function that makes one; arguments, options: of `make_environment`, for ids alone.
        refusal: a sentence on why it may not be made, for the `RunError` of who tries.
        patience: seconds that the environment may take to be made, to reset or to step; None: by
        default."""
        if isinstance(env, VectorEnv):
            raise TypeError(
                "expected one environment, its id or a function that makes one, got the vector "
                f"environment {env}; pass a function: copies are made of it as they are needed"
            )
        if not (isinstance(env, str | gymnasium.Env) or callable(env)):
            raise TypeError(
                "expected a Gymnasium id, an environment or a function that makes one, "
                f"got {env!r}"
            )
        if not isinstance(env, str) and (arguments or options):
            names = ", ".join([*(arguments or {}), *options])
            raise TypeError(
                f"{names} are for environments that are made by their id; wrap {env} yourself"
            )
        self.env = env
        self.arguments = arguments
        self.options = options
        self.refusal = refusal
        self.patience = patience
        self.lent = 0  # how often an environment of the caller's was handed out

    def check(self) -> None:
        """Raises RunError if no environment may be made."""
        if self.refusal:
            raise RunError(self.refusal)

    @property
    def near(self) -> "EnvironmentSource":
        """The source as a process that can make the environment has it."""
        return self

    @property
    def most_copies(self) -> int | None:
        """The number of copies that can be made; None: any number."""
        return 1 if isinstance(self.env, gymnasium.Env) else None

    @property
    def time_limit(self) -> int | None:
        """Steps after which an episode is truncated, repeated actions counting once; None where
        no limit is given, or nothing may be made."""
        return self._facts[0]

    @property
    def notes(self) -> list[str]:
        """Sentences on what models read otherwise than the environment shows it, or not at all;
        none where nothing may be made."""
        return self._facts[1]

    @functools.cached_property
    def _facts(self) -> tuple[int | None, list[str]]:
        """The time limit and the notes, of an environment that is made for them."""
        if self.refusal:
            return None, []
        env = self.one()
        limit = None if env.spec is None else env.spec.max_episode_steps
        named = (getattr(env.unwrapped, name, None) for name in TIME_LIMITS)
        limit = limit or next((int(n) for n in named if isinstance(n, int) and n > 0), None)
        notes = notes_of(env)
        shut(env)
        return limit and -(-limit // self.options.get("action_repeat", 1)), notes

    def one(self, render_mode: str | None = None) -> gymnasium.Env:
        """Makes one environment. render_mode: for ids alone."""
        self.check()
        if isinstance(self.env, gymnasium.Env):
            self.lent += 1
            return readable(_Borrowed(self.env))
        with self._constructor():
            if not isinstance(self.env, str):
                return readable(whole(self.env()))
            return whole(
                make_environment(self.env, self.arguments, render_mode=render_mode, **self.options)
            )

    @contextmanager
    def _constructor(self) -> Iterator[None]:
        """Context manager for making the environment: errors name it, and it may not hang."""
        with blamed(str(self.env), "the constructor"), patience(self.patience or PATIENCE):
            yield

    def shown(self) -> gymnasium.Env:
        """Makes one environment that renders images, if it can."""
        env = self.one()
        modes = env.metadata.get("render_modes") or ()
        if env.render_mode == RENDERED or RENDERED not in modes or not isinstance(self.env, str):
            return env
        try:
            rendering = self.one(RENDERED)
        except ValueError as error:
            if not isinstance(error.__cause__, TypeError):
                raise
            return env  # its constructor takes no render mode
        shut(env)
        return rendering

    def vector(
        self,
        copies: int = 1,
        workers: int = 0,
        report: Callable[[str], None] = warnings.warn,
        render_mode: str | None = None,
        wrap: Callable[[gymnasium.Env], gymnasium.Env] | None = None,
    ) -> VectorEnv:
        """`copies` side by side, for a `GymEnvironment`.

        workers: processes that share the copies, 0: this one; report: called with a sentence for
        each worker that is replaced; wrap: around each copy.
        """
        self.check()
        if isinstance(self.env, str) and wrap is None:
            with self._constructor():
                return make_vector_env(
                    self.env,
                    self.arguments,
                    copies=copies,
                    workers=workers,
                    patience=self.patience,
                    report=report,
                    render_mode=render_mode,
                    **self.options,
                )
        if self.most_copies is not None and copies > self.most_copies:
            raise ValueError(
                f"{copies} copies of {self.env} were asked for, and there is one; pass its id, or "
                "a function that makes one"
            )
        make = functools.partial(_wrapped, functools.partial(self.one, render_mode), wrap)
        with self._constructor():
            if workers:
                return WorkerVectorEnv([make] * copies, workers, self.patience, report)
            return SyncVectorEnv([make] * copies, autoreset_mode=AutoresetMode.NEXT_STEP)


def source_from(
    described: Mapping[str, Any], folder: RunFolder | None = None
) -> EnvironmentSource | None:
    """The source of the environment that options name; None where they name none.

    described: `env`, `arguments` as JSON, and options of `make_environment`; folder: of the run
    that they were read from, whose module is imported only as far as the run is trusted; None:
    the user typed them.
    """
    options = dict(described)
    id, arguments = options.pop("env", None), arguments_from_json(options.pop("arguments", "{}"))
    recorded = options.pop("env_path", None)
    if folder is not None and folder.trust.env not in (None, id):
        raise RunError(
            f"--env {folder.trust.env} was given, but the environment of {folder.said} is "
            f"{id!r}: give --env as the run has it, or leave it out"
        )
    if id is None:
        return None
    if folder is None:
        return EnvironmentSource(id, arguments, env_path=recorded or ".", **options)
    refusal = folder.trust.refusal(folder.said, id, arguments)
    place = folder.trust.folder(recorded)
    return EnvironmentSource(id, arguments, refusal=refusal, env_path=place, **options)


def _wrapped(
    make: Callable[[], gymnasium.Env], wrap: Callable[[gymnasium.Env], gymnasium.Env] | None
) -> gymnasium.Env:
    """Makes an environment that is checked at each step, and wraps it."""
    return checked(make) if wrap is None else wrap(checked(make))


class _Borrowed(gymnasium.Wrapper):
    """An environment that its owner closes."""

    def close(self) -> None:
        pass
