"""Distributions at a temperature: below 1 nearer to the mode, above 1 flatter."""

import math
from functools import singledispatch
from typing import Any

from torch import Tensor, distributions as td

from worldmodel.distributions.autoregressive import NADE, Autoregression
from worldmodel.distributions.channels import Channels
from worldmodel.distributions.continuous import StudentT, SymlogNormal, mixture
from worldmodel.distributions.dicts import Joint
from worldmodel.distributions.discrete import (
    Bernoulli,
    Categorical,
    DiscretisedLogistics,
    FiniteSupport,
)
from worldmodel.distributions.hierarchical import HierarchicalCategorical
from worldmodel.distributions.mixed import Grouped, Mixed
from worldmodel.distributions.subsets import Subset

Temperature = float | Tensor  # a tensor [] where it is not known yet, as in a graph


def tempered(distribution: td.Distribution, temperature: Temperature) -> Any:
    """p(x) ** (1 / temperature), normalised, where that is a distribution of the same kind: of
    classes, truth values and Gaussians. Of a mixture it is taken of the weights and of each
    component (as sketch-rnn does: Ha & Eck 2017, https://arxiv.org/abs/1704.03477, eq. 8), so of
    Student's t, a mixture of Gaussians, too; of what is drawn part by part of each part given
    those before it.

    >>> tempered(td.Normal(0.0, 1.0), 4.0)
    Normal(loc: 0.0, scale: 2.0)
    """
    if isinstance(temperature, Tensor):
        return _tempered(distribution, temperature)
    if not temperature > 0:
        raise ValueError(f"a temperature is a positive number, got {temperature}")
    return distribution if temperature == 1 else _tempered(distribution, temperature)


def _root(temperature: Temperature) -> Any:
    return temperature.sqrt() if isinstance(temperature, Tensor) else math.sqrt(temperature)


@singledispatch
def _tempered(distribution: Any, temperature: Temperature) -> Any:
    raise ValueError(
        f"there is no temperature of a {type(distribution).__name__}: draw at temperature 1"
    )


@_tempered.register
def _(distribution: Joint, temperature: Temperature) -> Joint:
    parts = distribution.parts
    each = {key: _tempered(part, temperature) for key, part in parts.items()}
    return Joint(tuple(each.values()) if distribution.is_tuple else each)


@_tempered.register
def _(distribution: Channels, temperature: Temperature) -> Channels:
    parts = [_tempered(part, temperature) for part in distribution.parts]
    return Channels(parts, distribution.places, distribution.order)


@_tempered.register
def _(distribution: td.Independent, temperature: Temperature) -> td.Independent:
    base = _tempered(distribution.base_dist, temperature)
    dimensions = distribution.reinterpreted_batch_ndims
    return td.Independent(base, dimensions, validate_args=False)


@_tempered.register
def _(distribution: Categorical, temperature: Temperature) -> Categorical:
    if type(distribution) is not Categorical:  # those of actions' codes
        return _tempered.dispatch(object)(distribution, temperature)
    return Categorical(distribution.logits / temperature, distribution.start)


@_tempered.register
def _(distribution: FiniteSupport, temperature: Temperature) -> FiniteSupport:
    return FiniteSupport(distribution.logits / temperature, distribution.support_values)


@_tempered.register
def _(distribution: Bernoulli, temperature: Temperature) -> Bernoulli:
    return Bernoulli(distribution.logits / temperature)


@_tempered.register
def _(distribution: td.Normal, temperature: Temperature) -> td.Normal:
    std = distribution.scale * _root(temperature)
    return td.Normal(distribution.loc, std, validate_args=False)


@_tempered.register
def _(distribution: StudentT, temperature: Temperature) -> StudentT:
    scale = distribution.scale * _root(temperature)
    return StudentT(distribution.df, distribution.loc, scale)


@_tempered.register
def _(distribution: SymlogNormal, temperature: Temperature) -> SymlogNormal:
    return SymlogNormal(_tempered(distribution.normal, temperature))


@_tempered.register
def _(distribution: td.MultivariateNormal, temperature: Temperature) -> td.MultivariateNormal:
    factor = distribution.scale_tril * _root(temperature)
    return td.MultivariateNormal(distribution.loc, scale_tril=factor, validate_args=False)


@_tempered.register
def _(
    distribution: td.LowRankMultivariateNormal, temperature: Temperature
) -> td.LowRankMultivariateNormal:
    return td.LowRankMultivariateNormal(
        distribution.loc,
        distribution.cov_factor * _root(temperature),
        distribution.cov_diag * temperature,
        validate_args=False,
    )


@_tempered.register
def _(distribution: td.MixtureSameFamily, temperature: Temperature) -> td.MixtureSameFamily:
    weights = distribution.mixture_distribution.logits / temperature
    return mixture(weights, _tempered(distribution.component_distribution, temperature))


@_tempered.register
def _(distribution: Mixed, temperature: Temperature) -> Mixed:
    logits, density = distribution.logits / temperature, distribution.density
    return Mixed(logits, distribution.atoms, _tempered(density, temperature), distribution.others)


@_tempered.register
def _(distribution: Grouped, temperature: Temperature) -> Grouped:
    return Grouped(distribution.logits / temperature, _tempered(distribution.parts, temperature))


@_tempered.register
def _(distribution: DiscretisedLogistics, temperature: Temperature) -> DiscretisedLogistics:
    return DiscretisedLogistics(
        distribution.weights.logits / temperature,
        distribution.component_mean,
        distribution.scale * _root(temperature),
        distribution.last + 1,
        distribution.low,
        distribution.step,
    )


@_tempered.register
def _(distribution: HierarchicalCategorical, temperature: Temperature) -> HierarchicalCategorical:
    return HierarchicalCategorical(
        distribution.first.logits / temperature,
        distribution.hidden,
        distribution.from_first,
        distribution.to_second / temperature,
        distribution.bias / temperature,
        distribution.pairs,
        distribution.of,
    )


@_tempered.register
def _(distribution: NADE, temperature: Temperature) -> NADE:
    return NADE(
        distribution.hidden_bias,
        distribution.visible_bias / temperature,
        distribution.from_visible,
        distribution.to_visible / temperature,
    )


@_tempered.register
def _(distribution: Subset, temperature: Temperature) -> Subset:
    scores = distribution.scores / temperature
    ways = Subset(distribution.counts, scores).log_ways
    return Subset((distribution.counts - distribution.log_ways) / temperature + ways, scores)


@_tempered.register
def _(distribution: Autoregression, temperature: Temperature) -> Autoregression:
    def given(x: Tensor, condition: Tensor, which: slice) -> Any:
        return _tempered(distribution.given(x, condition, which), temperature)

    return Autoregression(given, distribution.condition, distribution.n)
