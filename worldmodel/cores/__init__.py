"""Sequence cores, by name."""

from collections.abc import Callable

from worldmodel.cores.base import Gaussian, Inference, OneHots, SequenceCore
from worldmodel.cores.independent import Independent
from worldmodel.cores.rnn import RNN
from worldmodel.cores.rssm import RSSM
from worldmodel.cores.srnn import SRNN
from worldmodel.cores.vae import VAE
from worldmodel.cores.vrnn import VRNN

CORES: dict[str, Callable[..., SequenceCore]] = {
    "rnn": RNN,
    "independent": Independent,
    "vrnn": VRNN,
    "srnn": SRNN,
    "rssm": RSSM,
    "vae": VAE,
}

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
]
