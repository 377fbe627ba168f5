"""Checks of components against the contracts of this package; a broken law raises."""

import copy
from collections.abc import Callable
from typing import Any, cast

import torch
from gymnasium import spaces

from worldmodel.agent import Agent
from worldmodel.codecs import DistModule
from worldmodel.cores import SequenceCore
from worldmodel.environment import Environment
from worldmodel.testing.agent_laws import AGENT_LAWS, AgentCase
from worldmodel.testing.core_laws import CORE_LAWS, CoreCase
from worldmodel.testing.environment_laws import ENVIRONMENT_LAWS, EnvironmentCase
from worldmodel.testing.head_laws import HEAD_LAWS, HeadCase
from worldmodel.testing.likelihood_laws import LIKELIHOOD_LAWS
from worldmodel.testing.material import excite


def check_core(
    make: Callable[[int, int], SequenceCore],
    name: str = "",
    deaf: bool = False,
    fixed_prior: bool = False,
    thorough: bool = True,
) -> None:
    """Checks every law of cores; raises a `LawError` that names a broken one.

    make: (context_size, evidence_size) -> a core, small (some units), such as
    `partial(MyCore, hidden=2)`; deaf: the core ignores contexts, and has no memory;
    fixed_prior: no context moves the prior of its latents; thorough: checks laws estimated by
    sampling, too, which takes some minutes.
    """
    case = CoreCase(make, name, deaf, fixed_prior)
    CORE_LAWS.check(case, thorough)
    LIKELIHOOD_LAWS.check(case, thorough)


def check_head(
    head: DistModule,
    points: Any,
    volume: float = 1.0,
    input_size: int = 4,
    atol: float = 1e-6,
    is_greedy: bool = False,
) -> None:
    """Checks every law of heads.

    points: leaves [N, ...], all values of its support, or the middles of cells of one `volume`
    that fill it (within `atol` of all probability); input_size: of its features; is_greedy: its
    mode is chosen part by part, so it need not be the most probable value.

    >>> from worldmodel.codecs import CategoricalHead
    >>> check_head(CategoricalHead(4, 3), points=torch.arange(3))
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        excited = excite(copy.deepcopy(head).double())
    HEAD_LAWS.check(HeadCase(excited, points, volume, atol, input_size, is_greedy))


def check_environment(
    environment: Environment | Callable[[], Environment],
    batch_size: int = 4,
    dtype: torch.dtype = torch.float32,
) -> None:
    """Checks every law of environments.

    environment: makes one that begins as each other one does; or one that begins anew, the same,
    at each `initial_state`, as a `Dream` does. batch_size: of games side by side;
    dtype: of the codes of actions.
    """
    is_one = isinstance(environment, Environment)
    make = (lambda: environment) if is_one else environment
    ENVIRONMENT_LAWS.check(EnvironmentCase(cast(Any, make), batch_size, dtype))


def check_agent(
    agent: Agent,
    observation_space: spaces.Space,
    action_space: spaces.Space,
    dtype: torch.dtype = torch.float32,
) -> None:
    """Checks every law of agents, on rows that are drawn from the spaces of its world.

    dtype: of actions, rewards and observations in numbers.
    """
    AGENT_LAWS.check(AgentCase(agent, observation_space, action_space, dtype))
