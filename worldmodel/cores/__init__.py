"""Sequence cores, by name."""

from collections.abc import Callable, Mapping
from typing import Any

from worldmodel.cores.base import Gaussian, Inference, OneHots, SequenceCore
from worldmodel.cores.independent import Independent
from worldmodel.cores.rnn import RNN
from worldmodel.cores.rssm import RSSM
from worldmodel.cores.srnn import SRNN
from worldmodel.cores.vae import VAE
from worldmodel.cores.vrnn import VRNN
from worldmodel.registry import Registry, check_options, options_taken

CORES: Registry[Callable[..., SequenceCore]] = Registry(
    "core",
    {
        "rnn": RNN,
        "independent": Independent,
        "vrnn": VRNN,
        "srnn": SRNN,
        "rssm": RSSM,
        "vae": VAE,
    },
)
"""Cores by name: classes or functions of (context_size, evidence_size, **options)."""
GIVEN = ("context_size", "evidence_size")  # to every core, and no options
DEFAULT = "default"  # the value of an option that is left to the core


def register_core(name: str, core: Callable[..., SequenceCore]) -> None:
    """Adds a core to `CORES`: from now on `model_for(core=name)` and `--core NAME` make one.

    core: its class, (context_size, evidence_size, **options) -> SequenceCore; `hidden` is the
    one option that each core is given.
    """
    CORES.register(name, core)


def core_options(name: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """The options that a core takes, but for its sizes and `hidden`, and for the value
    "default", which leaves an option to the core.

    >>> core_options("vrnn", {"hidden": 8, "latent": 4, "smoothing": True, "layers": "default"})
    {'latent': 4}
    """
    taken = options_taken(CORES[name], options)
    left = {*GIVEN, "hidden"}
    return {
        key: value
        for key, value in taken.items()
        if key not in left and not (isinstance(value, str) and value == DEFAULT)
    }


def make_core(name: str, context_size: int, evidence_size: int, **options: Any) -> SequenceCore:
    """The core `name` of `CORES`; an option that it does not take is refused by name."""
    core = CORES[name]
    check_options(f"the core {name!r}", core, options, GIVEN)
    return core(context_size, evidence_size, **options)


__all__ = [
    "CORES",
    "RNN",
    "RSSM",
    "SRNN",
    "VAE",
    "VRNN",
    "Gaussian",
    "Independent",
    "Inference",
    "OneHots",
    "SequenceCore",
    "core_options",
    "make_core",
    "register_core",
]
