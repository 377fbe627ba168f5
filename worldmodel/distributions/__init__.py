"""Distributions that torch does not have, all with batch shape [*].

Their values are what the spaces of Gymnasium hold: class indices, truth values, floats,
dictionaries of those. Nothing is validated here: checks sit at the borders of the library.
"""

from worldmodel.distributions.autoregressive import NADE, Autoregression
from worldmodel.distributions.continuous import ScaledBeta, dequantise, mixture, standard_normal
from worldmodel.distributions.dicts import Chain, Joint
from worldmodel.distributions.discrete import (
    Categorical,
    Certain,
    DiscretisedLogistics,
    FiniteSupport,
    OneHot,
    OneHotVectors,
    Truth,
)

__all__ = [
    "NADE",
    "Autoregression",
    "Categorical",
    "Certain",
    "Chain",
    "DiscretisedLogistics",
    "FiniteSupport",
    "Joint",
    "OneHot",
    "OneHotVectors",
    "ScaledBeta",
    "Truth",
    "dequantise",
    "mixture",
    "standard_normal",
]
