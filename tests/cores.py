"""Every core that the laws run over, by name, as laws check it."""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch

from worldmodel import RNN, RSSM, SRNN, VAE, VRNN, Independent, SequenceCore
from worldmodel.testing import CoreCase
from worldmodel.testing.material import (
    BITS,
    PLANE,
    REWARDS,
    SYMBOLS,
    excite,
    fed,
    noise_for,
    padded,
    random_rows,
)

__all__ = [
    "BITS",
    "CASES",
    "CORES",
    "DEAF",
    "FILTERING",
    "LATENT",
    "PLANE",
    "REWARDS",
    "SMOOTHING",
    "SYMBOLS",
    "VARIANTS",
    "excite",
    "fed",
    "make_core",
    "make_model",
    "noise_for",
    "padded",
    "random_rows",
]


def _srnn(context_size: int, evidence_size: int, **options: Any) -> SRNN:
    """With latents that are heard from the start, so that laws about them can fail."""
    core = SRNN(context_size, evidence_size, hidden=4, latent=2, latent_hidden=3, **options)
    with torch.no_grad():
        core.gain.fill_(1.0)
        core.from_latent.reset_parameters()
        core.out.normal_(std=3**-0.5)
    return core


SMALL = {"hidden": 4, "latent": 2, "latent_hidden": 3}
CORES: dict[str, Callable[..., SequenceCore]] = {
    "rnn": partial(RNN, hidden=4),
    "srnn smoothing res_q": _srnn,
    "srnn smoothing": partial(_srnn, res_q=False),
    "srnn filtering res_q": partial(_srnn, smoothing=False),
    "srnn filtering": partial(_srnn, smoothing=False, res_q=False),
    "independent smoothing": partial(Independent, **SMALL),
    "independent filtering": partial(Independent, smoothing=False, **SMALL),
    "vrnn": partial(VRNN, **SMALL),
    "rnn lstm": partial(RNN, hidden=4, recurrence="lstm"),
    "rnn skip layers": partial(RNN, hidden=4, recurrence="skip-gru", layers=2),
    "srnn skip": partial(_srnn, smoothing=False, recurrence="skip-gru"),
    "rnn layers": partial(RNN, hidden=4, recurrence="lstm", layers=2),
    "srnn lstm": partial(_srnn, smoothing=False, res_q=False, recurrence="lstm"),
    "independent normalised": partial(
        Independent, recurrence="normalised-gru", smoothing=False, **SMALL
    ),
    "vrnn lstm": partial(VRNN, recurrence="lstm", **SMALL),
    "vrnn skip": partial(VRNN, recurrence="skip-gru", **SMALL),
    "rssm gru layers": partial(RSSM, recurrence="gru", layers=2, **SMALL),
    "rssm gaussian": partial(RSSM, **SMALL),
    "rssm categorical": partial(RSSM, latent_classes=3, **SMALL),
    "vae": partial(VAE, hidden=4, latent=2),
    "rnn linear": partial(RNN, hidden=4, recurrence="gated-linear", layers=2),
}
FILTERING = [name for name in CORES if "smoothing" not in name]
SMOOTHING = [name for name in CORES if "smoothing" in name]
RECURRENCES = ("lstm", "skip", "layers", "normalised", "linear")
VARIANTS = [name for name in CORES if name.endswith(RECURRENCES)]  # by their recurrence alone
LATENT = [name for name in CORES if not name.startswith("rnn")]

# What laws are told of some: the weight of the divergence and the updates with which latents come
# to say something, and how much that is.
TOLD: dict[str, dict[str, Any]] = {
    "independent smoothing": {"says": 0.003},
    "srnn skip": {"says": 0.001},
    "rssm gaussian": {"fits": ((0.4, 100),)},
    "rssm categorical": {"fits": ((0.0, 7),)},
    "rssm gru layers": {"fits": ((0.6, 100),)},
    "vae": {"deaf": True, "fits": ((5.0, 100),)},
}


def _case(name: str) -> CoreCase:
    config: dict[str, Any] = {"says": 0.05}
    if name.startswith("independent"):
        config |= {"fixed_prior": True, "fits": ((0.6, 100),)}
    return CoreCase(CORES[name], name, **config | TOLD.get(name, {}))


CASES = {name: _case(name) for name in CORES}
DEAF = {name for name, case in CASES.items() if case.deaf}


def make_core(name: str, *sizes: int, **options: Any) -> SequenceCore:
    """The core `name`, small, in float64, none of its parameters zero."""
    return CASES[name].core(*sizes, **options)


def make_model(name: str, *options: Any, **others: Any) -> Any:
    """A world model around the core `name`; options: of `testing.material.model_around`."""
    return CASES[name].model(*options, **others)
