"""Encoders and decoders, one of each for every kind of space."""

from worldmodel.codecs.actions import ActionCodec, DiscreteActions, action_codec
from worldmodel.codecs.base import DistModule, Encoder
from worldmodel.codecs.convolutional import (
    LIKELIHOODS,
    ConvolutionalEncoder,
    ImageHead,
    Likelihood,
    explain_size,
    is_image,
)
from worldmodel.codecs.heads import (
    BetaHead,
    BivariateMixtureHead,
    CategoricalHead,
    DiscretisedLogisticHead,
    FiniteHead,
    FrameHead,
    FullNormalHead,
    JointHead,
    LowRankNormalHead,
    MixtureHead,
    NADEHead,
    NormalHead,
    OneHotHead,
    TruthHead,
)
from worldmodel.codecs.percepts import ObservationDecoder, PerceptDecoder, PerceptEncoder
from worldmodel.codecs.registry import HEADS, head_for
from worldmodel.codecs.regression import TwoHot, TwoHotRegression
from worldmodel.codecs.spaces import (
    BitsEncoder,
    DictEncoder,
    FlatEncoder,
    OneHotEncoder,
    decoder_for,
    encoder_for,
)
from worldmodel.codecs.standardisation import Standardisation

__all__ = [
    "HEADS",
    "LIKELIHOODS",
    "ActionCodec",
    "BetaHead",
    "BitsEncoder",
    "BivariateMixtureHead",
    "CategoricalHead",
    "ConvolutionalEncoder",
    "DictEncoder",
    "DiscreteActions",
    "DiscretisedLogisticHead",
    "DistModule",
    "Encoder",
    "FiniteHead",
    "FlatEncoder",
    "FrameHead",
    "FullNormalHead",
    "ImageHead",
    "JointHead",
    "Likelihood",
    "LowRankNormalHead",
    "MixtureHead",
    "NADEHead",
    "NormalHead",
    "ObservationDecoder",
    "OneHotEncoder",
    "OneHotHead",
    "PerceptDecoder",
    "PerceptEncoder",
    "Standardisation",
    "TruthHead",
    "TwoHot",
    "TwoHotRegression",
    "action_codec",
    "decoder_for",
    "encoder_for",
    "explain_size",
    "head_for",
    "is_image",
]
