"""Heads: the last layers of decoders, from features [*, F] to the distribution of a value."""

from worldmodel.codecs.heads.autoregressive import (
    FrameHead,
    NADEHead,
)
from worldmodel.codecs.heads.bounded import (
    BetaHead,
    DiscretisedLogisticHead,
    TanhNormalHead,
)
from worldmodel.codecs.heads.discrete import (
    BernoulliHead,
    BitsHead,
    CategoricalHead,
    CountHead,
    FiniteHead,
    HierarchicalHead,
    OneHotHead,
    SubsetHead,
)
from worldmodel.codecs.heads.gaussian import (
    BivariateMixtureHead,
    FullNormalHead,
    LocationScaleHead,
    LowRankNormalHead,
    MixtureHead,
    NormalHead,
    StudentHead,
    SymlogNormalHead,
)
from worldmodel.codecs.heads.joint import (
    JointHead,
)
from worldmodel.codecs.heads.mixed import (
    GroupedHead,
    MixedHead,
    are_few,
    atoms_of,
    groups_of,
    most_of,
    room_for,
)

__all__ = [
    "BernoulliHead",
    "BetaHead",
    "BitsHead",
    "BivariateMixtureHead",
    "CategoricalHead",
    "CountHead",
    "DiscretisedLogisticHead",
    "FiniteHead",
    "FrameHead",
    "FullNormalHead",
    "GroupedHead",
    "HierarchicalHead",
    "JointHead",
    "LocationScaleHead",
    "LowRankNormalHead",
    "MixedHead",
    "MixtureHead",
    "NADEHead",
    "NormalHead",
    "OneHotHead",
    "StudentHead",
    "SubsetHead",
    "SymlogNormalHead",
    "TanhNormalHead",
    "are_few",
    "atoms_of",
    "groups_of",
    "most_of",
    "room_for",
]
