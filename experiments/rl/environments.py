"""The real environment, as it was asked for on the command line."""

import warnings
from collections.abc import Callable
from dataclasses import replace
from typing import Any, cast

import gymnasium
from gymnasium.vector import VectorEnv

from worldmodel.envs import GymEnvironment, arguments_from_json, make_environment, make_vector_env
from worldmodel.envs.make import folder_of
from worldmodel.experiments.rl.config import EnvironmentConfig
from worldmodel.run_folder import RunError

RENDERED = "rgb_array"
NOT_OF_ONE = ("env", "arguments", "copies", "workers")  # of the settings of environments


def real_environment(
    told: EnvironmentConfig,
    copies: int,
    seed: int | None,
    workers: int = 0,
    report: Callable[[str], None] = warnings.warn,
) -> GymEnvironment:
    """The real environment, as it was asked for on the command line."""
    return GymEnvironment(vector_env(told, copies, workers, report), seed)


def vector_env(
    told: EnvironmentConfig,
    copies: int,
    workers: int = 0,
    report: Callable[[str], None] = warnings.warn,
    render_mode: str | None = None,
) -> VectorEnv:
    """Copies of the real environment, as it was asked for on the command line."""
    return _made(
        told,
        make_vector_env,
        copies=copies,
        workers=workers,
        report=report,
        render_mode=render_mode,
    )


def shown_environment(told: EnvironmentConfig) -> gymnasium.Env:
    """One real environment, which renders images if it can."""
    env: gymnasium.Env = _made(told, make_environment)
    if env.render_mode == RENDERED or RENDERED not in env.metadata.get("render_modes", ()):
        return env
    env.close()
    return cast(gymnasium.Env, _made(told, make_environment, render_mode=RENDERED))


def remembered(told: EnvironmentConfig) -> EnvironmentConfig:
    """The same with the folder that the environment's module was found in, once it was made: so a
    run works from anywhere."""
    return replace(told, env_path=None if told.env is None else folder_of(told.env))


def _made(told: EnvironmentConfig, make: Callable[..., Any], **options: Any) -> Any:
    if told.env is None:
        raise RunError("what was learned from recorded episodes alone has no real environment")
    options |= {key: value for key, value in vars(told).items() if key not in NOT_OF_ONE}
    try:
        return make(told.env, arguments_from_json(told.arguments), **options)
    except ValueError as error:
        raise RunError(str(error)) from error
