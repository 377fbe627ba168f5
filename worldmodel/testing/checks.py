"""Checks of what keeps a contract of this package: a law that is broken raises, and says so."""

from collections.abc import Callable

from worldmodel.cores import SequenceCore
from worldmodel.testing.core_laws import CORE_LAWS, CoreCase
from worldmodel.testing.likelihood_laws import LIKELIHOOD_LAWS


def check_core(
    make: Callable[[int, int], SequenceCore],
    name: str = "",
    deaf: bool = False,
    fixed_prior: bool = False,
    thorough: bool = True,
) -> None:
    """Checks every law of cores; raises a `LawError` that says which one is broken.

    make: (context_size, evidence_size) -> a core, small (some units), such as
    `partial(MyCore, hidden=2)`; deaf: no context reaches it, and it remembers nothing;
    fixed_prior: no context moves the prior of its latents; thorough: checks what is estimated by
    sampling, too, which takes some minutes.
    """
    case = CoreCase(make, name, deaf, fixed_prior)
    CORE_LAWS.check(case, thorough)
    LIKELIHOOD_LAWS.check(case, thorough)
