"""Sequence cores, by name."""

from collections.abc import Callable

from worldmodel.cores.base import Gaussian, Inference, SequenceCore
from worldmodel.cores.rnn import RNN
from worldmodel.cores.srnn import SRNN

CORES: dict[str, Callable[..., SequenceCore]] = {"rnn": RNN, "srnn": SRNN}

__all__ = ["CORES", "RNN", "SRNN", "Gaussian", "Inference", "SequenceCore"]
