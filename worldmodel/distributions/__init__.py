"""Distributions that torch does not have, all with batch shape [*].

Their values are what the spaces of Gymnasium hold: class indices, truth values, floats,
dictionaries and tuples of those. Nothing is validated here: checks sit at the borders of the
library.
"""

from worldmodel.distributions.autoregressive import NADE, Autoregression
from worldmodel.distributions.continuous import (
    ScaledBeta,
    TanhNormal,
    dequantise,
    mixture,
    standard_normal,
)
from worldmodel.distributions.dicts import Joint, draw
from worldmodel.distributions.discrete import (
    IMPOSSIBLE,
    Bits,
    Categorical,
    Certain,
    DiscretisedLogistics,
    FiniteSupport,
    OneHot,
    OneHots,
    OneHotVectors,
    SideBySide,
    Truth,
)
from worldmodel.distributions.pairs import Pairs
from worldmodel.distributions.subsets import Subset
from worldmodel.distributions.tempered import tempered

__all__ = [
    "IMPOSSIBLE",
    "NADE",
    "Autoregression",
    "Bits",
    "Categorical",
    "Certain",
    "DiscretisedLogistics",
    "FiniteSupport",
    "Joint",
    "OneHot",
    "OneHotVectors",
    "OneHots",
    "Pairs",
    "ScaledBeta",
    "SideBySide",
    "Subset",
    "TanhNormal",
    "Truth",
    "dequantise",
    "draw",
    "mixture",
    "standard_normal",
    "tempered",
]
