"""The real environment, as it was asked for on the command line."""

import warnings
from collections.abc import Callable

from gymnasium.vector import VectorEnv

from envs import GymEnvironment, arguments_from_json, make_vector_env
from experiments.control_config import EnvironmentConfig
from experiments.run import RunError

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
) -> VectorEnv:
    """Copies of the real environment, as it was asked for on the command line."""
    if told.env is None:
        raise RunError("what was learned from recorded episodes alone has no real environment")
    options = {key: value for key, value in vars(told).items() if key not in NOT_OF_ONE}
    try:
        arguments = arguments_from_json(told.arguments)
        return make_vector_env(
            told.env, arguments, copies=copies, workers=workers, report=report, **options
        )
    except ValueError as error:
        raise RunError(str(error)) from error
