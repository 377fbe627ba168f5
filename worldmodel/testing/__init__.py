"""Laws of cores, heads, environments and agents, as tests for new ones.

    check_core(partial(MyCore, hidden=2))

raises a `LawError` at the first law that is broken: its name, its setting, and the numbers found.
"""

from worldmodel.testing.agent_laws import AGENT_LAWS, AgentCase
from worldmodel.testing.checks import check_agent, check_core, check_environment, check_head
from worldmodel.testing.core_laws import CORE_LAWS, CoreCase
from worldmodel.testing.environment_laws import ENVIRONMENT_LAWS, EnvironmentCase
from worldmodel.testing.head_laws import HEAD_LAWS, HeadCase
from worldmodel.testing.law import Law, LawError, Laws
from worldmodel.testing.likelihood_laws import LIKELIHOOD_LAWS

__all__ = [
    "AGENT_LAWS",
    "CORE_LAWS",
    "ENVIRONMENT_LAWS",
    "HEAD_LAWS",
    "LIKELIHOOD_LAWS",
    "AgentCase",
    "CoreCase",
    "EnvironmentCase",
    "HeadCase",
    "Law",
    "LawError",
    "Laws",
    "check_agent",
    "check_core",
    "check_environment",
    "check_head",
]
