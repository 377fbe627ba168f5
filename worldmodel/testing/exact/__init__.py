"""References: chains whose likelihood is known, cores set to them by hand, plain loops."""

from worldmodel.testing.exact.by_hand import (
    BY_HAND,
    chain_model,
    expected_gap,
    model_by_hand,
    set_decoder,
)
from worldmodel.testing.exact.linear_gaussian import (
    Chain,
    ChainPosterior,
    Filter,
    NoisePosterior,
    as_sequences,
    expected_divergence,
    recursion,
)
from worldmodel.testing.exact.obvious import STEPS, ObviousELBO

__all__ = [
    "BY_HAND",
    "STEPS",
    "Chain",
    "ChainPosterior",
    "Filter",
    "NoisePosterior",
    "ObviousELBO",
    "as_sequences",
    "chain_model",
    "expected_divergence",
    "expected_gap",
    "model_by_hand",
    "recursion",
    "set_decoder",
]
