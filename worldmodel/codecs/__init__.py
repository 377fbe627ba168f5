"""Encoders and decoders, one of each for every kind of space."""

from worldmodel.codecs.actions import ActionCodec, DiscreteActions, action_codec
from worldmodel.codecs.base import DistModule, Encoder
from worldmodel.codecs.heads import (
    CategoricalHead,
    FiniteHead,
    NADEHead,
    NormalHead,
    OneHotHead,
    TruthHead,
)
from worldmodel.codecs.percepts import ObservationDecoder, PerceptDecoder, PerceptEncoder
from worldmodel.codecs.spaces import FlatEncoder, OneHotEncoder, decoder_for, encoder_for

__all__ = [
    "ActionCodec",
    "CategoricalHead",
    "DiscreteActions",
    "DistModule",
    "Encoder",
    "FiniteHead",
    "FlatEncoder",
    "NADEHead",
    "NormalHead",
    "ObservationDecoder",
    "OneHotEncoder",
    "OneHotHead",
    "PerceptDecoder",
    "PerceptEncoder",
    "TruthHead",
    "action_codec",
    "decoder_for",
    "encoder_for",
]
