"""Sequence cores, by name."""

from worldmodel.cores.base import Gaussian, Inference, SequenceCore
from worldmodel.cores.rnn import RNN
from worldmodel.cores.srnn import SRNN

CORES: dict[str, type[SequenceCore]] = {"rnn": RNN, "srnn": SRNN}

__all__ = ["CORES", "RNN", "SRNN", "Gaussian", "Inference", "SequenceCore"]
