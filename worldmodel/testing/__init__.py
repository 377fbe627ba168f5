"""Laws of cores, heads, environments and agents, for whoever adds one.

    check_core(partial(MyCore, hidden=2))

raises a `LawError` at the first law that is broken: which one, in which numbers, what to look at.
"""

from worldmodel.testing.checks import check_core
from worldmodel.testing.core_laws import CORE_LAWS, CoreCase
from worldmodel.testing.head_laws import HEAD_LAWS, HeadCase
from worldmodel.testing.law import Law, LawError, Laws
from worldmodel.testing.likelihood_laws import LIKELIHOOD_LAWS

__all__ = [
    "CORE_LAWS",
    "HEAD_LAWS",
    "LIKELIHOOD_LAWS",
    "CoreCase",
    "HeadCase",
    "Law",
    "LawError",
    "Laws",
    "check_core",
]
