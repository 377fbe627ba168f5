"""Distributions that torch does not have, all with batch shape [*].

Their values are what the spaces of Gymnasium hold: class indices, truth values, floats,
dictionaries of those. Nothing is validated here: checks sit at the borders of the library.
"""

from worldmodel.distributions.autoregressive import NADE
from worldmodel.distributions.continuous import standard_normal
from worldmodel.distributions.dicts import Chain, Joint
from worldmodel.distributions.discrete import (
    Categorical,
    Certain,
    FiniteSupport,
    OneHot,
    OneHotVectors,
    Truth,
)

__all__ = [
    "NADE",
    "Categorical",
    "Certain",
    "Chain",
    "FiniteSupport",
    "Joint",
    "OneHot",
    "OneHotVectors",
    "Truth",
    "standard_normal",
]
