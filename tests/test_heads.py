"""Laws of heads, each over the whole list: what they give is a distribution, and the right one."""

import inspect
import itertools
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import pytest
import torch
from cores import excite
from gymnasium import spaces
from torch import distributions as td

from worldmodel import ObservationDecoder, PerceptDecoder, codecs, encoder_for, nested
from worldmodel.codecs import (
    CategoricalHead,
    DistModule,
    FiniteHead,
    NADEHead,
    NormalHead,
    OneHotHead,
    TruthHead,
)

FEATURES = 4
DRAWS = 20000


class Case(NamedTuple):
    """A head of four features, and points on which its probabilities add up."""

    make: Callable[[], DistModule]
    points: Any  # leaves [N, ...]: every value, or a grid of cells
    volume: float = 1.0  # of a cell


def grid(low, high, n, dimensions):
    """The middles of n^dimensions cells, [N, dimensions], and the volume of one."""
    step = (high - low) / n
    axis = low + step * (torch.arange(n).double() + 0.5)
    return torch.cartesian_prod(*[axis] * dimensions).reshape(-1, dimensions), step**dimensions


def bits(n):
    """All rows of n truth values, bool [2^n, n]."""
    return torch.tensor(list(itertools.product((False, True), repeat=n)))


def product(**parts):
    """All combinations of the parts' values [N_i, ...], as a dictionary of [N, ...]."""
    which = torch.cartesian_prod(*(torch.arange(len(part)) for part in parts.values()))
    which = which.reshape(-1, len(parts))
    return {key: part[which[:, i]] for i, (key, part) in enumerate(parts.items())}


LINE, SEGMENT = grid(-60.0, 60.0, 6000, 1)
PLANE, SQUARE = grid(-25.0, 25.0, 400, 2)
SYMBOLS = torch.tensor([2, 3, 4])
REWARDS = torch.tensor([-1.0, 0.5, 2.0]).double()

CASES = {
    "categorical": Case(lambda: CategoricalHead(4, 3, start=2), SYMBOLS),
    "one-hot": Case(lambda: OneHotHead(4, 3), torch.eye(3).double()),
    "truth": Case(lambda: TruthHead(4), bits(1)[:, 0]),
    "truths": Case(lambda: TruthHead(4, (2, 3)), bits(6).unflatten(-1, (2, 3))),
    "finite": Case(lambda: FiniteHead(4, (2.0, -1.0, 0.5)), REWARDS),
    "nade": Case(lambda: NADEHead(4, 7, hidden=5), bits(7)),
    "normal": Case(lambda: NormalHead(4), LINE[:, 0], SEGMENT),
    "normals": Case(lambda: NormalHead(4, (2, 1)), PLANE.unflatten(-1, (2, 1)), SQUARE),
    "observation": Case(
        lambda: ObservationDecoder(4, 5, NADEHead(5, 3)), product(observation=bits(3))
    ),
    "percept": Case(
        lambda: PerceptDecoder(
            4, 5, CategoricalHead(5, 3, 2), encoder_for(spaces.Discrete(3, start=2)), (-1, 0.5, 2)
        ),
        product(observation=SYMBOLS, reward=REWARDS, terminated=bits(1)[:, 0]),
    ),
}
WITHOUT_MEAN = {"categorical", "one-hot", "nade", "observation", "percept"}
GREEDY = {"nade", "observation", "percept"}  # modes part by part, each given those before
every_head = pytest.mark.parametrize("name", CASES)


def make(name):
    """The head `name` in float64, none of whose parameters is zero."""
    torch.manual_seed(0)
    return excite(CASES[name].make().double())


def normal(*shape, seed=0):
    torch.manual_seed(seed)
    return torch.randn(*shape).double()


def close(found, expected, atol=1e-12):
    torch.testing.assert_close(found, expected, rtol=0, atol=atol)


def table(name, distribution):
    """The probability of every point under a distribution with batch shape [], [N]."""
    return distribution.log_prob(CASES[name].points).exp() * CASES[name].volume


def numbers(value, dimensions):
    """The leaves of values with so many leading dimensions, side by side, float [*, D]."""
    parts = [leaf.double().reshape(*leaf.shape[:dimensions], -1) for leaf in nested.leaves(value)]
    return torch.cat(parts, -1)


def statistics(value, dimensions):
    """The numbers of values and all their products, [*, D + D * D]."""
    x = numbers(value, dimensions)
    return torch.cat([x, (x[..., :, None] * x[..., None, :]).flatten(-2)], -1)


def test_every_head_is_in_the_list():
    named = {getattr(codecs, name) for name in codecs.__all__}
    heads = {
        kind for kind in named if issubclass_(kind, DistModule) and not inspect.isabstract(kind)
    }
    assert heads == {type(case.make()) for case in CASES.values()}


def issubclass_(kind, base):
    return inspect.isclass(kind) and issubclass(kind, base)


@every_head
def test_heads_are_normalised(name):
    head = make(name)
    for features in normal(3, FEATURES):
        close(table(name, head(features)).sum(), torch.tensor(1.0).double(), atol=1e-9)


@every_head
def test_heads_draw_what_they_score(name):
    """The mean of every number and of every product of two, within 4 standard errors."""
    distribution = make(name)(normal(FEATURES))
    drawn = distribution.sample((DRAWS,))
    found = statistics(drawn, 1)
    expected = table(name, distribution) @ statistics(CASES[name].points, 1)
    error = found.std(0) / DRAWS**0.5
    assert ((found.mean(0) - expected).abs() <= 4 * error + 1e-12).all()
    assert found.std(0).max() > 0.1


@every_head
def test_the_mean_is_that_of_the_probabilities(name):
    distribution = make(name)(normal(FEATURES))
    if name in WITHOUT_MEAN:
        with pytest.raises(NotImplementedError):
            _ = distribution.mean
        return
    expected = table(name, distribution) @ numbers(CASES[name].points, 1)
    close(numbers(distribution.mean, 0), expected, atol=1e-6)


@pytest.mark.parametrize("name", [name for name in CASES if name not in GREEDY])
def test_nothing_is_more_probable_than_the_mode(name):
    distribution = make(name)(normal(FEATURES))
    best = distribution.log_prob(CASES[name].points).max()
    excess = distribution.log_prob(distribution.mode) - best
    assert -1e-12 <= excess <= 0.05  # a grid comes near it


@every_head
@pytest.mark.parametrize("leading", [(), (5,), (2, 3, 5)])
def test_void_is_in_the_support_of_its_head(name, leading):
    head = make(name)
    distribution = head(normal(*leading, FEATURES))
    assert distribution.batch_shape == leading
    void = nested.map(lambda leaf: leaf.expand((*leading, *leaf.shape)), head.void)
    for value in (void, distribution.sample()):
        log_prob = distribution.log_prob(value)
        assert log_prob.shape == leading
        assert log_prob.isfinite().all()
    shapes = [leaf.shape for leaf in nested.leaves(void)]
    assert [leaf.shape for leaf in nested.leaves(distribution.sample())] == shapes
    more = distribution.sample((7,))
    assert [leaf.shape for leaf in nested.leaves(more)] == [(7, *shape) for shape in shapes]


@every_head
def test_heads_broadcast_over_particles(name):
    """Distributions [T, K, B] score values [T, 1, B]."""
    head = make(name)
    features = normal(4, 2, 3, FEATURES)
    value = head(features[:, 0]).sample()
    found = head(features).log_prob(nested.map(lambda leaf: leaf[:, None], value))
    assert found.shape == (4, 2, 3)
    for k in range(2):
        close(found[:, k], head(features[:, k]).log_prob(value))


@every_head
def test_a_head_reads_every_row_alone(name):
    head = make(name)
    features = normal(5, FEATURES).requires_grad_()
    value = head(features).sample()
    for b, log_prob in enumerate(head(features).log_prob(value)):
        gradient = torch.autograd.grad(log_prob, features, retain_graph=True)[0]
        assert (gradient[torch.arange(5) != b] == 0).all()
        assert (gradient[b] != 0).any()


@every_head
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_gradients_are_finite_even_for_extreme_features(name, dtype):
    head = make(name).to(dtype)
    for scale in (1.0, 1e3, -1e3):
        features = (scale * normal(20, FEATURES)).to(dtype).requires_grad_()
        for value in (head(features).sample(), head(-features).sample()):
            log_prob = head(features).log_prob(value)
            assert log_prob.dtype == dtype
            assert log_prob.isfinite().all()
            wanted = [features, *head.parameters()]
            for gradient in torch.autograd.grad(log_prob.sum(), wanted, allow_unused=True):
                assert gradient is None or gradient.isfinite().all()


@every_head
def test_single_precision_gives_the_same(name):
    head = make(name)
    features = normal(20, FEATURES)
    value = head(features).sample()
    expected = head(features).log_prob(value)
    single = nested.map(lambda x: x.float() if x.is_floating_point() else x, value)
    found = head.float()(features.float()).log_prob(single)
    torch.testing.assert_close(found.double(), expected, rtol=1e-3, atol=1e-4)


@every_head
def test_draws_carry_gradients_where_they_say_so(name):
    features = normal(3, FEATURES).requires_grad_()
    distribution = make(name)(features)
    assert all(not leaf.requires_grad for leaf in nested.leaves(distribution.sample()))
    if distribution.has_rsample:
        drawn = sum(leaf.sum() for leaf in nested.leaves(distribution.rsample()))
        assert torch.autograd.grad(drawn, features)[0].isfinite().all()


# What is special about one head.


def test_a_nade_scores_what_its_equations_say():
    """Eqs. 1-5, value by value, in plain loops; its mode takes the likelier of each."""
    head, features = make("nade"), normal(6, FEATURES)
    values, mode = head(features).sample(), head(features).mode
    b, c = head.visible_bias(features), head.hidden_bias(features)
    for row in range(6):
        total = 0.0
        for i in range(7):
            heard = sum((head.heard[j] * values[row, j] for j in range(i)), c[row])
            p = (b[row, i] + heard.sigmoid() @ head.said[i]).sigmoid()
            total = total + (p if values[row, i] else 1 - p).log()
            if torch.equal(values[row, :i], mode[row, :i]):
                assert mode[row, i] == (p > 0.5)
        close(head(features).log_prob(values)[row], total)


def test_a_nade_correlates_what_bernoullis_cannot():
    torch.manual_seed(0)
    values = torch.randint(2, (64, 1)).bool().expand(64, 3)  # all or none
    head = NADEHead(1, 3, hidden=8)
    optimizer = torch.optim.Adam(head.parameters(), 0.05)
    for _ in range(200):
        loss = -head(torch.zeros(64, 1)).log_prob(values).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss < torch.tensor(2.0).log() + 0.05  # three independent bits: 3 log 2


@pytest.mark.parametrize("make", [partial(NADEHead, 3, 5), partial(TruthHead, 3, (5,))])
def test_a_head_begins_with_the_marginals_it_is_given(make):
    torch.manual_seed(0)
    logits = normal(5)
    head = make(bias=logits).double()
    found = head(torch.zeros(3).double()).log_prob(bits(5))
    expected = td.Independent(td.Bernoulli(logits=logits), 1).log_prob(bits(5).double())
    close(found, expected, atol=1e-6)


def test_a_nade_takes_many_rows_as_it_takes_one():
    """More rows than are scored at once, over two dimensions."""
    head = make("nade")
    features = normal(3, 50, FEATURES)
    values = head(features).sample()
    found = head(features).log_prob(values)
    close(found[2, 31], head(features[2, 31]).log_prob(values[2, 31]))
    assert head(features[:0]).log_prob(values[:0]).shape == (0, 50)


def test_a_normal_head_never_becomes_infinitely_sure():
    head = NormalHead(1)
    with torch.no_grad():
        head.parameters_.bias.fill_(-1000.0)
    assert head(torch.zeros(1)).log_prob(head(torch.zeros(1)).mean) < 10


def test_a_normal_head_is_torchs():
    head, features = make("normals"), normal(6, FEATURES)
    distribution = head(features)
    mean, std = distribution.mean, distribution.base_dist.stddev
    value = normal(6, 2, 1, seed=1)
    close(distribution.log_prob(value), td.Normal(mean, std).log_prob(value).sum((-1, -2)))
    assert (std > 0).all()


def test_a_finite_head_covers_its_support_in_any_order():
    with pytest.raises(ValueError, match="at least one value"):
        FiniteHead(4, ())
    assert FiniteHead(4, (2.0, -1.0, 2.0)).support.tolist() == [-1.0, 2.0]


@pytest.mark.parametrize(
    ("module", "value"),
    [*itertools.product((torch.float32, torch.float64), repeat=2)],
)
def test_a_finite_head_knows_its_values_in_any_precision(module, value):
    head = FiniteHead(4, (0.0, 0.1)).to(module)
    assert head(torch.randn(4, dtype=module)).log_prob(torch.tensor(0.1, dtype=value)).isfinite()


def test_rewards_and_ends_depend_on_what_is_seen():
    distribution = make("percept")(normal(FEATURES))
    seen = {"reward": REWARDS[0], "terminated": torch.tensor(True)}
    for key in ("reward", "terminated"):
        given = [distribution.log_probs(seen | {"observation": s})[key] for s in SYMBOLS]
        assert (given[0] - given[1]).abs() > 1e-3
    assert list(distribution.log_probs(distribution.sample())) == [
        "observation",
        "reward",
        "terminated",
    ]
