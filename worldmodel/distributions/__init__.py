"""Distributions that torch does not have, all with batch shape [*].

Their values are what the spaces of Gymnasium hold: class indices, truth values, floats,
dictionaries and tuples of those. Nothing is validated here: checks sit at the borders of the
library.
"""

from worldmodel.distributions.autoregressive import NADE, Autoregression
from worldmodel.distributions.channels import MISSING, PRESENT, READ, Channels, Counts
from worldmodel.distributions.continuous import (
    ClippedNormal,
    ScaledBeta,
    StudentT,
    SymlogNormal,
    TanhNormal,
    dequantise,
    mixture,
    standard_normal,
    symexp,
    symlog,
)
from worldmodel.distributions.dicts import Joint, draw
from worldmodel.distributions.discrete import (
    IMPOSSIBLE,
    Bernoulli,
    Bits,
    Categorical,
    ConcatLayout,
    Deterministic,
    DiscretisedLogistics,
    FiniteSupport,
    Mode,
    OneHot,
    OneHots,
    OneHotVectors,
    log_softmax,
)
from worldmodel.distributions.hierarchical import HierarchicalCategorical
from worldmodel.distributions.mixed import Grouped, Mixed, masses_of, points_of
from worldmodel.distributions.subsets import Subset
from worldmodel.distributions.tempered import tempered

__all__ = [
    "IMPOSSIBLE",
    "MISSING",
    "NADE",
    "PRESENT",
    "READ",
    "Autoregression",
    "Bernoulli",
    "Bits",
    "Categorical",
    "Channels",
    "ClippedNormal",
    "ConcatLayout",
    "Counts",
    "Deterministic",
    "DiscretisedLogistics",
    "FiniteSupport",
    "Grouped",
    "HierarchicalCategorical",
    "Joint",
    "Mixed",
    "Mode",
    "OneHot",
    "OneHotVectors",
    "OneHots",
    "ScaledBeta",
    "StudentT",
    "Subset",
    "SymlogNormal",
    "TanhNormal",
    "dequantise",
    "draw",
    "log_softmax",
    "masses_of",
    "mixture",
    "points_of",
    "standard_normal",
    "symexp",
    "symlog",
    "tempered",
]
