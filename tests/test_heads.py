"""Laws of heads, each over the whole list: what they give is a distribution, and the right one."""

import inspect
import itertools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from cores import excite
from gymnasium import spaces
from laws import every_law_of
from scipy import stats
from torch import distributions as td

from worldmodel import (
    ELBO,
    HEADS,
    Dream,
    ObservationDecoder,
    PerceptDecoder,
    Prediction,
    Sequences,
    codecs,
    decoder_for,
    encoder_for,
    head_for,
    model_for,
    nested,
)
from worldmodel.codecs import (
    BernoulliHead,
    BetaHead,
    BitsHead,
    BivariateMixtureHead,
    CategoricalHead,
    CountHead,
    DiscretisedLogisticHead,
    DistModule,
    FiniteHead,
    FrameHead,
    FullNormalHead,
    GroupedHead,
    HierarchicalHead,
    ImageHead,
    JointHead,
    LowRankNormalHead,
    MixedHead,
    MixtureHead,
    NADEHead,
    NormalHead,
    OneHotHead,
    StudentHead,
    SubsetHead,
    SymlogNormalHead,
    TanhNormalHead,
    TwoHot,
    TwoHotRegression,
    atoms_of,
    groups_of,
)
from worldmodel.distributions import (
    DiscretisedLogistics,
    dequantise,
    masses_of,
    symexp,
    symlog,
)
from worldmodel.noise import OwnNoise
from worldmodel.testing import HEAD_LAWS, HeadCase

FEATURES = 4
DRAWS = 20000


class Case(NamedTuple):
    """A head of four features, and points on which its probabilities add up."""

    make: Callable[[], DistModule]
    points: Any  # leaves [N, ...]: every value, or a grid of cells
    volume: Any = 1.0  # of a cell, or of each [N]
    atol: float = 1e-6  # how far a sum over cells may be from the integral


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


def mixed(met):
    """A head of numbers with two atoms that has met some."""
    head = light(MixedHead(4, atoms=MIXED_ATOMS.tolist()).double())
    head.meet(met)
    return head


def truths_met(rows):
    """A head of truth values that has met some rows of them."""
    head = BernoulliHead(4, (len(rows[0]),)).double()
    head.meet(torch.tensor(rows).bool())
    return head


def light(head):
    """A head whose tails are as light as they get, so that moments of draws tell something."""
    for module in head.modules():
        if isinstance(module, StudentHead):
            torch.nn.init.constant_(module.freedom_, 9.0)
    return head


MIXED_ATOMS = torch.tensor([-0.5, 2.0]).double()
LINE, SEGMENT = grid(-60.0, 60.0, 6000, 1)
PLANE, SQUARE = grid(-15.0, 15.0, 400, 2)
UNIT, PART = grid(0.0, 1.0, 4000, 1)
UNITS, PARTS = grid(0.0, 1.0, 300, 2)
SYMBOLS = torch.tensor([2, 3, 4])
REWARDS = torch.tensor([-1.0, 0.5, 2.0]).double()

CASES = {
    "categorical": Case(lambda: CategoricalHead(4, 3, start=2), SYMBOLS),
    "pairs": Case(
        lambda: HierarchicalHead(4, [1, 0, 0, 2, 2], [1, 0, 1, 0, 2], 5), torch.arange(5)
    ),
    "one-hot": Case(lambda: OneHotHead(4, 3), torch.eye(3).double()),
    "categoricals": Case(
        lambda: CategoricalHead(4, [[2], [3]], [[1], [-1]]),
        torch.cartesian_prod(torch.arange(2) + 1, torch.arange(3) - 1).unflatten(-1, (2, 1)),
    ),
    "one-hots": Case(
        lambda: OneHotHead(4, 2, 3),
        torch.cat([torch.eye(2).repeat_interleave(3, 0), torch.eye(3).repeat(2, 1)], -1).double(),
    ),
    "bits": Case(lambda: BitsHead(4, 3), bits(3).double()),
    "tanh-normal": Case(lambda: TanhNormalHead(4, 1), 2 * UNIT - 1, 2 * PART, 1e-5),
    "truth": Case(lambda: BernoulliHead(4), bits(1)[:, 0]),
    "truths, one never met": Case(lambda: truths_met([[0, 1], [1, 1]]), bits(2)),
    "truths": Case(lambda: BernoulliHead(4, (2, 3)), bits(6).unflatten(-1, (2, 3))),
    "count": Case(lambda: CountHead(4), torch.arange(4000).double()),
    "counts": Case(
        lambda: CountHead(4, (2,)), torch.cartesian_prod(*[torch.arange(400).double()] * 2)
    ),
    "finite": Case(lambda: FiniteHead(4, (2.0, -1.0, 0.5)), REWARDS),
    "nade": Case(lambda: NADEHead(4, 7, hidden=5), bits(7)),
    "subset": Case(lambda: SubsetHead(4, 6), bits(6)),
    "normal": Case(lambda: NormalHead(4), LINE[:, 0], SEGMENT),
    "normals": Case(lambda: NormalHead(4, (2, 1)), PLANE.unflatten(-1, (2, 1)), SQUARE),
    "student": Case(lambda: light(StudentHead(4)), LINE[:, 0], SEGMENT),
    "students": Case(lambda: light(StudentHead(4, (2, 1))), PLANE.unflatten(-1, (2, 1)), SQUARE),
    "full-normal": Case(lambda: FullNormalHead(4, 2), PLANE, SQUARE),
    "low-rank-normal": Case(lambda: LowRankNormalHead(4, 2, rank=1), PLANE, SQUARE),
    "symlog-normal": Case(lambda: SymlogNormalHead(4, std=0.5), LINE[:, 0], SEGMENT, 1e-4),
    "symlog-normals": Case(
        lambda: SymlogNormalHead(4, (1, 1), std=0.3), LINE.unflatten(-1, (1, 1)), SEGMENT, 1e-4
    ),
    "mixed": Case(
        lambda: mixed(met=torch.linspace(-2, 2, 50)),
        torch.cat([MIXED_ATOMS, LINE[:, 0]]),
        torch.tensor([1.0] * 2 + [SEGMENT] * len(LINE)).double(),
    ),
    "groups": Case(
        lambda: light(GroupedHead(4, [[-5.0, 2.0], [20.0, 1.0]]).double()), LINE[:, 0], SEGMENT
    ),
    "few": Case(
        lambda: mixed(met=MIXED_ATOMS.repeat(2)),
        torch.cat([MIXED_ATOMS, LINE[:, 0]]),
        torch.tensor([1.0] * 2 + [SEGMENT] * len(LINE)).double(),
    ),
    "mixture": Case(lambda: MixtureHead(4, components=3), LINE[:, 0], SEGMENT),
    "mixtures": Case(lambda: MixtureHead(4, (1, 2), 3), PLANE.unflatten(-1, (1, 2)), SQUARE),
    "bivariate-mixture": Case(lambda: BivariateMixtureHead(4, 3), PLANE, SQUARE),
    "discretised-logistic": Case(
        lambda: DiscretisedLogisticHead(4, low=-2, high=5, components=3), torch.arange(-2, 6)
    ),
    "discretised-logistics": Case(
        lambda: DiscretisedLogisticHead(4, (2,), 0.0, 1.0, levels=6, components=2),
        torch.cartesian_prod(*[torch.linspace(0, 1, 6).double()] * 2),
    ),
    "beta": Case(lambda: BetaHead(4, -1.0, 2.0), UNIT[:, 0] * 3 - 1, 3 * PART, 1e-5),
    "betas": Case(
        lambda: BetaHead(4, [0.0, -1.0], [0.5, 2.0]),
        UNITS * torch.tensor([0.5, 3.0]) + torch.tensor([0.0, -1.0]),
        1.5 * PARTS,
        1e-3,
    ),
    "frame": Case(lambda: FrameHead(4, 2, channels=4, dilations=(1,)), PLANE, SQUARE),
    "frame of mixtures": Case(lambda: FrameHead(4, 2, 2, 4, (1,)), PLANE, SQUARE),
    "image of squared errors": Case(
        lambda: ImageHead(4, (1, 2, 1), "mse", 3, 2, std=0.3), PLANE.reshape(-1, 1, 2, 1), SQUARE
    ),
    "image of truths": Case(
        lambda: ImageHead(4, (2, 1, 2), "bernoulli", 1, 2), bits(4).unflatten(-1, (2, 1, 2))
    ),
    "image of logistics": Case(
        lambda: ImageHead(4, (1, 2, 1), "discretised-logistic", 5, 2),
        torch.cartesian_prod(*[torch.arange(6)] * 2).reshape(-1, 1, 2, 1),
    ),
    "stroke": Case(
        lambda: JointHead({"offset": BivariateMixtureHead(4, 2), "pen": CategoricalHead(4, 2)}),
        product(offset=PLANE, pen=torch.arange(2)),
        SQUARE,
    ),
    "tuple": Case(
        lambda: JointHead((CategoricalHead(4, 3, 2), JointHead({"a.b": BernoulliHead(4)}))),
        (SYMBOLS.repeat_interleave(2), {"a.b": bits(1)[:, 0].repeat(3)}),
    ),
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
WITHOUT_MEAN = {"categorical", "nade", "observation", "percept", "stroke"}
WITHOUT_MEAN |= {"frame", "frame of mixtures", "categoricals", "tuple"}
WITHOUT_MEAN |= {"tanh-normal", "subset", "pairs"}
WITHOUT_MODE = {name for name in CASES if "mixture" in name or "logistic" in name}
WITHOUT_MODE |= {"beta", "betas", "frame", "stroke"}
REPARAMETRISED = {
    "groups",
    "one-hot",
    "one-hots",
    "bits",
    "tanh-normal",
    "image of squared errors",
    "normal",
    "normals",
    "student",
    "students",
    "symlog-normal",
    "symlog-normals",
    "full-normal",
    "low-rank-normal",
    "beta",
    "betas",
    "mixed",
    "few",
}
GREEDY = {"nade", "observation", "percept", "pairs"}  # modes part by part, each given those before
GREEDY |= {"mixed", "few", "groups"}  # first whether it recurs, or which group
GREEDY |= {"tanh-normal"}  # what a greedy agent does: medians
GREEDY |= {"symlog-normal", "symlog-normals"}  # medians, too
every_head = pytest.mark.parametrize("name", CASES)


def head_case(name):
    make, *points = CASES[name]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return HeadCase(excite(make().double()), *points, is_greedy=name in GREEDY, name=name)


HEADS_TO_CHECK = {name: head_case(name) for name in CASES}


def make(name):
    """The head `name` in float64, none of whose parameters is zero."""
    return HEADS_TO_CHECK[name].copied()


def normal(*shape, seed=0):
    torch.manual_seed(seed)
    return torch.randn(*shape).double()


def close(found, expected, atol=1e-12):
    torch.testing.assert_close(found, expected, rtol=0, atol=atol)


def kinds(base):
    """The complete classes under `base` that the library itself defines."""
    for kind in base.__subclasses__():
        yield from kinds(kind)
        if not inspect.isabstract(kind) and kind.__module__.startswith("worldmodel.codecs"):
            yield kind


def test_every_head_is_in_the_list():
    heads = set(kinds(DistModule))
    assert heads == {type(case.head) for case in HEADS_TO_CHECK.values()}
    assert {kind.__name__ for kind in heads} <= set(codecs.__all__)


@every_law_of(HEAD_LAWS, HEADS_TO_CHECK)
def test_every_head_obeys(law, case, setting):
    law(case, **setting)


@every_head
def test_what_a_head_lacks_it_says(name):
    distribution = make(name)(normal(FEATURES))
    for what, lacking in (("mean", WITHOUT_MEAN), ("mode", WITHOUT_MODE)):
        if name in lacking and not (what == "mode" and name in GREEDY):
            with pytest.raises(NotImplementedError):
                getattr(distribution, what)
        else:
            assert getattr(distribution, what) is not None
    is_chain = isinstance(distribution, Prediction)  # cannot know of parts to come
    assert distribution.has_rsample == (name in REPARAMETRISED or is_chain)


# What is special about one head.


def test_a_nade_scores_what_its_equations_say():
    """Eqs. 1-5, value by value, in plain loops; its mode takes the likelier of each."""
    head, features = make("nade"), normal(6, FEATURES)
    values, mode = head(features).sample(), head(features).mode
    b, c = head.visible_bias(features), head.hidden_bias(features)
    for row in range(6):
        total = 0.0
        for i in range(7):
            heard = sum((head.from_visible[j] * values[row, j] for j in range(i)), c[row])
            p = (b[row, i] + heard.sigmoid() @ head.to_visible[i]).sigmoid()
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


@pytest.mark.parametrize("name", ["bernoulli", "nade", "subset"])
def test_truth_values_begin_with_the_marginals_that_are_given(name):
    torch.manual_seed(0)
    logits = normal(5)
    head = head_for(name, spaces.MultiBinary(5), 3, bias=logits).double()
    found = head(torch.zeros(3).double()).log_prob(bits(5))
    expected = td.Independent(td.Bernoulli(logits=logits), 1).log_prob(bits(5).double())
    close(found, expected, atol=1e-6)


def test_a_nade_takes_many_rows_as_it_takes_one():
    """More rows than are scored at once, over two dimensions."""
    head = make("nade")
    features = normal(3, 700, FEATURES)
    values = head(features).sample()
    found = head(features).log_prob(values)
    close(found[2, 431], head(features[2, 431]).log_prob(values[2, 431]))
    assert head(features[:0]).log_prob(values[:0]).shape == (0, 700)


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


def test_the_degrees_of_freedom_are_those_of_each_number():
    torch.manual_seed(0)
    head, features = StudentHead(4, (3,)).double(), normal(6, FEATURES)
    torch.nn.init.normal_(head.freedom_)
    distribution = head(features).base_dist
    value = normal(6, 3, seed=1)
    df = head.freedom.detach().numpy()
    assert ((df > 2) & (df < 16)).all()
    assert len(set(df)) == 3
    mean, scale = distribution.loc.detach().numpy(), distribution.scale.detach().numpy()
    expected = stats.t.logpdf(value.numpy(), df, mean, scale)
    close(distribution.log_prob(value).detach(), torch.tensor(expected), 1e-9)


def learned(head, values, updates=400, rate=0.02):
    """The head, with values learned that nothing tells of."""
    features = torch.zeros(len(values), 1)
    torch.nn.init.zeros_(head.parameters_.bias)
    head.standardise(values)
    optimizer = torch.optim.Adam(head.parameters(), rate)
    for _ in range(updates):
        optimizer.zero_grad()
        (-head(features).log_prob(values).mean()).backward()
        optimizer.step()
    return head


def test_tails_are_learned_where_there_are_some_and_only_there():
    """Of Gaussian numbers a Student's t becomes a Gaussian; of others it is likelier."""
    torch.manual_seed(0)
    same, tails = torch.randn(2000), 0.1 * td.StudentT(torch.tensor(2.5)).sample((2000,))
    nothing = torch.zeros(2000, 1)

    def nats(make, values):
        return -learned(make(1), values)(nothing).log_prob(values).mean().item()

    assert learned(StudentHead(1), same).freedom > 12
    assert learned(StudentHead(1), tails).freedom < 4
    assert abs(nats(StudentHead, same) - nats(NormalHead, same)) < 0.01
    assert nats(StudentHead, tails) < nats(NormalHead, tails) - 0.1


def test_what_was_never_seen_costs_a_bounded_gradient():
    """Half a spread off, at the least deviation, where a Gaussian has 1,250 nats."""
    head, features = StudentHead(1, minimum_std=0.01), torch.zeros(1)
    torch.nn.init.constant_(head.parameters_.bias, -100.0)  # as sure as it gets
    torch.nn.init.constant_(head.parameters_.bias[:1], 0.0)
    loss = -head(features).log_prob(torch.tensor(0.5))
    loss.backward()
    assert loss < 20
    assert head.parameters_.bias.grad.abs().max() < 20
    assert head.parameters_.bias.grad[0] < -1  # it is still told where to go


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


def test_few_values_are_atoms_and_so_are_those_that_recur_among_many():
    random = np.random.default_rng(0)
    switch = random.integers(0, 2, 1000)
    clipped = random.normal(size=1000).clip(-1, np.inf)
    values = np.stack([switch, clipped, random.normal(size=1000), np.full(1000, 7)], -1)
    assert atoms_of(np.float32(values)) == [[0, 1], [-1], [], [7]]
    assert atoms_of(np.arange(20.0)) == []  # few rows, but none that recurs


def test_what_never_came_has_laplaces_probability_until_it_comes():
    head, features = MixedHead(FEATURES, atoms=[0.0, 1.0]).double(), normal(5, FEATURES)
    head.meet(torch.tensor([0.0, 1.0, 1.0]))
    close(head(features).probs[:, -1], torch.full((5,), 1 / 8, dtype=torch.float64))
    assert head(features).few
    head.meet(torch.tensor([7.0]))  # there is room for it
    assert masses_of(head(features))[0].tolist() == [0, 1, 7]
    close(head(features).probs[:, -1], torch.full((5,), 1 / 10, dtype=torch.float64))
    head.meet(torch.arange(100) / 7 + 0.01)
    assert not head(features).few
    assert masses_of(head(features)) is None
    assert head(features).probs[:, -1].std() > 0  # it is learned


def test_groups_are_numbers_that_lie_far_apart():
    random = np.random.default_rng(0)
    costs, prizes = random.normal(-1, 0.1, 500), random.normal(100, 0.5, 3)
    found = groups_of(np.concatenate([prizes, costs]))
    expected = [[costs.mean(), costs.std()], [prizes.mean(), prizes.std()]]
    assert found == [pytest.approx(group) for group in expected]
    assert groups_of(costs) == groups_of(np.zeros(9)) == groups_of(np.zeros(0)) == []
    assert len(groups_of(np.array([0.0, 1e3, 2e3, 3e3, 4.0]))) == 4
    assert groups_of(np.array([0.0, 1.0]))[0] == [0.0, 1e-4]


def test_a_prize_among_costs_is_learned_as_an_event():
    """A density with one mean learns to be wide there, and stays where it was."""
    with OwnNoise(0)():
        places = torch.rand(2000, 1)
        wins = places[:, 0] > 0.99
        rewards = torch.where(wins, 100.0, -0.1) + 0.02 * torch.randn(2000)
        means = {}
        for name, head in (
            ("groups", GroupedHead(16, groups_of(rewards.numpy()))),
            ("one", StudentHead(16)),
        ):
            body = torch.nn.Sequential(torch.nn.Linear(1, 16), torch.nn.Tanh())
            head.standardise(rewards)
            optimizer = torch.optim.Adam([*body.parameters(), *head.parameters()], 0.03)
            for _ in range(300):
                optimizer.zero_grad()
                (-head(body(20 * places - 19)).log_prob(rewards)).mean().backward()
                optimizer.step()
            means[name] = head(body(20 * places[wins] - 19)).mean.mean().item()
    assert means["groups"] > 60 > 20 > means["one"]


@pytest.mark.parametrize("shape", [(), (2,)])
def test_what_recurs_later_becomes_an_atom_beside_others(shape):
    """A prize that was first met when rewards were many already."""
    random = np.random.default_rng(0)
    head = MixedHead(FEATURES, shape, np.full((*shape, 1), -100.0).tolist())
    rewards = random.normal(size=(2000, *shape))
    head.meet(torch.tensor(rewards))
    assert head.others.all()
    before = head.atoms.clone()
    head.revise(rewards)
    torch.testing.assert_close(head.atoms, before, equal_nan=True)
    rewards[:9] = 100
    for _ in range(2):
        head.revise(rewards)
        known = head.atoms.reshape(-1, head.atoms.shape[-1])
        assert [[x for x in row.tolist() if x == x] for row in known] == [[-100, 100]] * len(known)
    distribution = head(normal(5, FEATURES).float())
    mixed = getattr(distribution, "base_dist", distribution)
    assert (mixed.probs[..., 1] > 0).all()
    for count in range(40):  # no more than there is room for
        rewards[9:18] = 200 + count
        head.revise(rewards)
    assert not head.atoms.isnan().any()


@pytest.mark.parametrize("shape", [(), (2,)])
def test_a_prize_that_lies_apart_is_an_atom_at_once(shape):
    """As likely as it was met; where prizes differ, and among costs that do, none is one."""
    random = np.random.default_rng(0)
    head = MixedHead(FEATURES, shape, np.full((*shape, 1), -100.0).tolist())
    rewards = random.normal(scale=5, size=(2000, *shape))
    head.meet(torch.tensor(rewards))
    features = normal(5, FEATURES).float()
    others = head(features)
    others = getattr(others, "base_dist", others).probs[..., -1]
    head.revise(rewards, np.full((1, *shape), 100.0))
    known = head.atoms.reshape(-1, head.atoms.shape[-1])
    assert [[x for x in row.tolist() if x == x] for row in known] == [[-100, 100]] * len(known)
    distribution = head(features)
    found = getattr(distribution, "base_dist", distribution).probs
    share = torch.full_like(others, 1 / 2001)
    torch.testing.assert_close(found[..., 1] / found[..., -1], share, rtol=1e-4, atol=0)
    head = MixedHead(FEATURES, shape, np.full((*shape, 1), -100.0).tolist())
    head.meet(torch.tensor(rewards))
    head.revise(rewards, np.stack([np.full(shape, 99.8), np.full(shape, 100.0)]))
    assert (head.atoms.isnan().sum(-1) == head.atoms.shape[-1] - 1).all()


def test_numbers_of_an_array_have_atoms_and_others_of_their_own():
    head, features = MixedHead(FEATURES, (2,), [[0.0], []]).double(), normal(5, FEATURES)
    met = torch.stack([torch.zeros(100), torch.randn(100)], -1)
    head.standardise(met)
    head.meet(met)
    assert head.others.tolist() == [False, True]
    distribution = head(features)
    alone = [distribution.base_dist.logits[:, place] for place in (0, 1)]
    value = normal(5, 2, seed=1)
    value[:3, 0] = 0
    log_prob = distribution.base_dist.log_prob(value)
    close(log_prob[:3, 0], alone[0][:3, 0])
    densities = head.density(features).base_dist
    close(log_prob[:, 1], alone[1][:, -1] + densities.log_prob(value)[:, 1])
    close(distribution.log_prob(value), log_prob.sum(-1))


def test_the_end_that_never_came_has_laplaces_probability_until_it_comes():
    head, features = BernoulliHead(FEATURES).double(), normal(5, FEATURES)
    before = head(features).logits
    head.meet(torch.zeros(99).bool())
    close(head(features).probs, torch.full((5,), 1 / 200, dtype=torch.float64))
    head(features).log_prob(torch.zeros(5)).sum().backward()
    assert all(not parameter.grad.any() for parameter in head.parameters())
    head.meet(torch.tensor([True]))
    assert torch.equal(head(features).logits, before)
    always = truths_met([[1], [1], [1]])
    close(always(features).base_dist.probs, torch.full((5, 1), 7 / 8, dtype=torch.float64))
    loaded = BernoulliHead(FEATURES, (1,)).double()
    loaded.load_state_dict(always.state_dict())
    assert torch.equal(loaded(features).base_dist.logits, always(features).base_dist.logits)


def test_nothing_is_learned_of_what_is_certain():
    """A gradient that never ends, however small, makes Adam's weights grow without end."""
    head, features = MixedHead(FEATURES, atoms=[1.0]), torch.randn(3, FEATURES)
    head.meet(torch.ones(500))
    head(features).log_prob(torch.ones(3)).sum().backward()
    assert all(not parameter.grad.any() for parameter in head.parameters())


def test_no_gradient_is_lost_in_room_that_is_left():
    head, features = MixedHead(FEATURES, atoms=[0.0, 1.0]), torch.randn(3, FEATURES)
    head.meet(torch.ones(3))
    head(features).log_prob(torch.tensor([0.0, 1.0, 0.5])).sum().backward()
    gradient = head.logits.weight.grad
    assert gradient.isfinite().all()
    assert gradient[:2].any()
    assert not gradient[2:].any()


def test_atoms_are_loaded_with_the_weights():
    head, features = MixedHead(FEATURES, atoms=[0.0]), torch.randn(3, FEATURES)
    head.meet(torch.tensor([5.0, *torch.randn(40)]))
    loaded = MixedHead(FEATURES, atoms=[0.0])
    loaded.load_state_dict(head.state_dict())
    value = torch.tensor([5.0, 1.0, 0.0])
    assert torch.equal(loaded(features).log_prob(value), head(features).log_prob(value))


def test_a_contact_that_comes_more_often_costs_what_its_probability_says():
    """Of a number that was 0 in all rows but one in a hundred, and is 1 in one in ten later."""
    torch.manual_seed(0)
    features = torch.ones(1000, 1)
    learned = (torch.arange(1000) % 100 == 0).float()
    later = (torch.arange(1000) % 10 == 0).float()
    head = MixedHead(1, atoms=atoms_of(learned.numpy()))
    head.standardise(learned)
    head.meet(learned)
    optimizer = torch.optim.Adam(head.parameters(), 0.05)
    for _ in range(200):
        loss = -head(features).log_prob(learned).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    p = torch.tensor(0.01)
    expected = -(0.1 * p.log() + 0.9 * (1 - p).log()).item()
    assert -head(features).log_prob(later).mean().item() == pytest.approx(expected, abs=0.02)


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


def test_a_full_normal_has_the_covariance_of_its_factor():
    torch.manual_seed(0)
    distribution = FullNormalHead(4, 3).double()(normal(5, FEATURES))
    covariance = distribution.scale_tril @ distribution.scale_tril.mT
    away = normal(5, 3, seed=1) - distribution.mean
    squares = (away * torch.linalg.solve(covariance, away)).sum(-1)
    volume = torch.linalg.slogdet(2 * torch.pi * covariance).logabsdet
    close(distribution.log_prob(distribution.mean + away), -0.5 * (squares + volume))
    assert (covariance[:, 0, 1:].abs() > 1e-3).all()


def test_many_correlations_begin_small_enough_to_be_undone():
    torch.manual_seed(0)
    distribution = FullNormalHead(4, 200)(torch.randn(4))
    assert torch.linalg.cond(distribution.scale_tril) < 100


def test_a_low_rank_normal_is_a_full_one():
    distribution = LowRankNormalHead(4, 5, rank=2).double()(normal(6, FEATURES))
    directions = distribution.cov_factor
    covariance = directions @ directions.mT + torch.diag_embed(distribution.cov_diag)
    full = td.MultivariateNormal(distribution.mean, covariance)
    value = normal(6, 5, seed=1)
    close(distribution.log_prob(value), full.log_prob(value), 1e-9)
    assert directions.shape == (6, 5, 2)


def test_a_mixture_adds_its_components():
    distribution = make("mixtures")(normal(6, FEATURES))
    value = normal(6, 1, 2, seed=1)
    normals = distribution.component_distribution.base_dist
    parts = td.Normal(normals.mean, normals.stddev).log_prob(value[:, None]).sum((-1, -2)).exp()
    weights = distribution.mixture_distribution.probs
    close(distribution.log_prob(value), (weights * parts).sum(-1).log())
    assert weights.shape == (6, 3)


def test_a_bivariate_mixture_is_that_of_graves():
    """Eqs. 23-25, from the numbers that eqs. 18-22 make of the last layer."""
    head, features, value = make("bivariate-mixture"), normal(6, FEATURES), normal(6, 2, seed=1)
    raw = head.parameters_(features).unflatten(-1, (6, -1))
    weights, x, y, wide, high, turn = raw.unbind(-2)
    sigma = torch.stack([wide, high], -1).exp().log1p() + 1e-3
    rho = 0.999 * torch.tanh(turn)
    a, b = ((value[:, None] - torch.stack([x, y], -1)) / sigma).unbind(-1)
    z = a**2 + b**2 - 2 * rho * a * b
    rest = 1 - rho**2
    density = torch.exp(-z / (2 * rest)) / (2 * torch.pi * sigma.prod(-1) * rest.sqrt())
    expected = (weights.softmax(-1) * density).sum(-1).log()
    close(head(features).log_prob(value), expected, 1e-9)


def test_a_discretised_logistic_is_a_difference_of_sigmoids():
    head, features = make("discretised-logistic"), normal(6, FEATURES)
    parts = head(features).base_dist
    value = torch.tensor([-2, -1, 0, 2, 4, 5])
    edges = torch.stack([value + 1.5, value + 2.5]).double()[..., None]  # in levels from -2 on
    edges[0, 0], edges[1, -1] = -torch.inf, torch.inf
    below, above = torch.sigmoid((edges - parts.component_mean) / parts.scale)
    expected = (parts.weights.probs * (above - below)).sum(-1).log()
    close(head(features).log_prob(value), expected, 1e-9)


def test_the_mean_of_a_discretised_logistic_is_that_of_its_levels(monkeypatch):
    monkeypatch.setattr("worldmodel.distributions.discrete.NUMBERS_AT_ONCE", 4)
    distribution = make("discretised-logistic")(normal(6, FEATURES))
    levels = torch.arange(-2, 6)[:, None].expand(-1, 6)
    expected = (distribution.log_prob(levels).exp() * levels).sum(0)
    close(distribution.mean, expected, 1e-9)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_tails_of_a_discretised_logistic_are_deep(dtype):
    """200 levels away, at a scale of a hundredth: e^-20000, whose log and slope are known."""
    mean = torch.tensor([0.0], dtype=dtype, requires_grad=True)
    scale = torch.tensor([0.01], dtype=dtype)
    low, step = torch.tensor(0), torch.tensor(1)
    tail = DiscretisedLogistics(torch.zeros(1, dtype=dtype), mean, scale, 256, low, step)
    log_prob = tail.log_prob(torch.tensor(200))
    torch.testing.assert_close(log_prob, torch.tensor(-19950, dtype=dtype))
    (slope,) = torch.autograd.grad(log_prob, mean)
    torch.testing.assert_close(slope, torch.tensor([100], dtype=dtype))


@pytest.mark.parametrize("levels", [None, 6])
def test_a_discretised_logistic_draws_its_levels(levels):
    torch.manual_seed(0)
    head = DiscretisedLogisticHead(4, (2, 3), 0, 5 if levels is None else 1.0, levels)
    drawn = head(torch.randn(500, 4)).sample()
    grid = torch.arange(6) if levels is None else torch.linspace(0, 1, 6)
    assert drawn.dtype == grid.dtype == head.placeholder.dtype
    torch.testing.assert_close(drawn.unique(), grid)
    assert head.placeholder.shape == (2, 3)
    with pytest.raises(ValueError, match="two levels or more"):
        DiscretisedLogisticHead(4, low=3, high=3)


def test_a_beta_over_an_interval_is_scipys():
    low, high = torch.tensor([0.0, -1.0]).double(), torch.tensor([0.5, 2.0]).double()
    distribution = make("betas")(normal(6, FEATURES))
    base = distribution.base_dist.base_dist
    value = distribution.sample()
    expected = stats.beta.logpdf(
        value,
        base.concentration1.detach(),
        base.concentration0.detach(),
        loc=low,
        scale=high - low,
    ).sum(-1)
    close(distribution.log_prob(value).detach(), torch.as_tensor(expected), 1e-9)
    assert ((low < value) & (value < high)).all()


def test_a_beta_scores_its_edges():
    for dtype in (torch.float32, torch.float64):
        head = make("beta").to(dtype)
        features = normal(6, FEATURES).to(dtype).requires_grad_()
        for edge in (-1.0, 2.0):
            log_prob = head(features).log_prob(torch.tensor(edge, dtype=dtype))
            assert log_prob.isfinite().all()
            assert torch.autograd.grad(log_prob.sum(), features)[0].isfinite().all()
    with pytest.raises(ValueError, match="finite low < high"):
        BetaHead(4, [0.0, 1.0], [1.0, 1.0])


def frame_head(n=9, components=2):
    torch.manual_seed(0)
    return excite(FrameHead(4, n, components, channels=3, dilations=(1, 2)).double())


def test_no_sample_of_a_frame_reads_itself_or_those_after_it():
    """The Jacobian of log p(y_i | x_<i) in x, at a fixed y, lies below the diagonal, all of it."""
    head, n = frame_head(), 9
    condition = head.condition(normal(FEATURES))

    def scores(x):
        return head._given(x, condition, slice(0, n)).log_prob(torch.ones(n).double())

    jacobian = torch.autograd.functional.jacobian(scores, normal(n, seed=1))
    assert (jacobian.triu() == 0).all()
    assert (jacobian[torch.ones(n, n).tril(-1).bool()] != 0).all()


def test_a_frame_is_drawn_as_it_is_scored():
    """One sample's distribution, from the window that it needs, is that of the whole frame."""
    head, n = frame_head(), 9
    condition, value = head.condition(normal(5, FEATURES)), normal(5, n, seed=1)
    whole = head._given(value, condition, slice(0, n)).log_prob(value)
    for i in range(n):
        before = torch.where(torch.arange(n) < i, value, 0.0)  # what is not yet drawn is zero
        one = head._given(before, condition, slice(i, i + 1))
        close(one.log_prob(value[:, i : i + 1])[:, 0], whole[:, i])


def test_features_steer_all_that_is_said_of_a_frame():
    head, value = frame_head(), normal(5, 9, seed=1)
    log_prob = head(normal(5, FEATURES)).log_prob(value).sum()
    assert (torch.autograd.grad(log_prob, head.condition.weight)[0] != 0).all()


def test_a_frame_without_convolutions_is_a_gaussian_of_full_covariance():
    n = 6
    head = FrameHead(4, n, dilations=(1,)).double()
    with torch.no_grad():
        head.out.weight.zero_()
        head.out.bias.zero_()
        head.before.copy_(normal(n, n, seed=2))
    features, value = normal(FEATURES), normal(n, seed=1)
    mean, raw, _ = head.condition(features).split(head.sizes)
    std = torch.nn.functional.softplus(raw) + 1e-3
    whitening = torch.eye(n).double() - head.before.tril(-1)  # whitening @ x = mean + std * noise
    factor = torch.linalg.solve_triangular(whitening, torch.diag(std), upper=False)
    expected = td.MultivariateNormal(torch.linalg.solve(whitening, mean), scale_tril=factor)
    close(head(features).log_prob(value), expected.log_prob(value), 1e-9)


def test_dequantised_densities_bound_the_mass_of_their_cells():
    """E log p(x + step u) + D log step against the cell's mass, in the closed form of a normal."""
    wide, step = td.Normal(0.0, 1.0), 0.5
    torch.manual_seed(0)
    for level in (-1.0, 0.0, 1.5):
        spread = dequantise(torch.full((DRAWS,), level), step)
        assert ((level <= spread) & (spread <= level + step)).all()
        found = wide.log_prob(spread) + torch.tensor(step).log()
        mass = wide.cdf(torch.tensor(level + step)) - wide.cdf(torch.tensor(level))
        error = found.std() / DRAWS**0.5
        assert mass.log() - 0.1 < found.mean() < mass.log() + 4 * error
    assert dequantise(torch.tensor([3, 4])).floor().tolist() == [3, 4]


# Regression: a loss, and no likelihood.

NUMBERS = [0.0, 1e-6, -0.3, 1.0, 12.5, -1e3, 3e6, -4e8]


def test_symexp_undoes_symlog():
    x = torch.tensor(NUMBERS, dtype=torch.float64)
    torch.testing.assert_close(symexp(symlog(x)), x, rtol=1e-12, atol=1e-15)
    expected = [math.copysign(math.log(1 + abs(number)), number) for number in NUMBERS]
    close(symlog(x), torch.tensor(expected, dtype=torch.float64), 1e-9)


def test_a_symlog_normal_is_the_squared_error_of_symlogs_and_what_makes_it_a_density():
    """The constant is written out; by the gradient, std 1 is half the squared error."""
    head, features = excite(SymlogNormalHead(4, (2, 1), 0.3).double()), normal(6, FEATURES)
    values = 100 * normal(6, 2, 1, seed=1)
    mean = head.mean(features).unflatten(-1, (2, 1))
    error = (mean - symlog(values)) / head.std
    constant = 2 * math.log(head.std * math.sqrt(2 * math.pi)) + values.abs().log1p().sum((1, 2))
    distribution = head(features)
    close(distribution.log_prob(values), -0.5 * error.square().sum((1, 2)) - constant, 1e-9)
    found = torch.autograd.grad(distribution.log_prob(values).sum(), head.mean.bias)[0]
    close(found, -(error / head.std).sum((0, 2)), 1e-9)
    torch.manual_seed(0)
    drawn = distribution.sample((200_000,))
    error = drawn.std(0) / len(drawn) ** 0.5
    assert ((drawn.mean(0) - distribution.mean).abs() < 5 * error).all()


def test_two_hot_targets_average_to_the_value_between_its_two_bins():
    """The gradient of the loss is weights minus targets, so it tells the targets."""
    bins = TwoHotRegression(1).double().bins
    values = torch.cat([torch.tensor(NUMBERS).double(), bins[[0, 3, 127, 254]]])
    logits = torch.zeros(len(values), 255).double().requires_grad_()
    loss = TwoHot(logits, bins).loss(values)
    targets = 1 / 255 - torch.autograd.grad(loss.sum(), logits)[0]
    torch.testing.assert_close(targets @ bins, values, rtol=1e-9, atol=1e-9)
    assert ((targets > 1e-12).sum(-1) <= 2).all()
    hot = [row.nonzero()[:, 0] for row in targets > 1e-12]
    assert all(len(which) == 1 or which[1] - which[0] == 1 for which in hot)
    best = TwoHot(targets.detach().clamp(min=1e-300).log(), bins)  # cross-entropy: least at these
    torch.testing.assert_close(best.mean, values, rtol=1e-9, atol=1e-9)
    close(best.loss(values), torch.special.entr(targets.clamp(min=0)).sum(-1), 1e-9)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_regression_begins_at_zero_exactly_and_takes_any_number(dtype):
    regression = TwoHotRegression(4).to(dtype)
    features = (1e3 * normal(5, 4)).to(dtype)
    assert (regression(features).mean == 0).all()
    values = torch.tensor([0.0, 1e30, -1e30, 5e8, 1.0], dtype=dtype)
    loss = excite(regression)(features).loss(values)
    assert loss.isfinite().all()
    for gradient in torch.autograd.grad(loss.sum(), [*regression.parameters()]):
        assert gradient.isfinite().all()
    assert not hasattr(regression(features), "log_prob")


def test_a_regression_reads_what_is_seen():
    symbols = spaces.Discrete(3, start=2)
    head = CategoricalHead(5, 3, start=2)
    decoder = PerceptDecoder(4, 5, head, encoder_for(symbols), None, reward_regression=True)
    decoder, features = excite(decoder.double()), normal(FEATURES)
    given = map(decoder(features).consequences, SYMBOLS)
    said = [consequences.regressions["reward"].mean for consequences in given]
    assert len({number.item() for number in said}) == 3


def paying(**options):
    """A decoder of symbols and rewards, by its options, standardised."""
    symbols = spaces.Discrete(3, start=2)
    decoder = PerceptDecoder(
        FEATURES, 8, CategoricalHead(8, 3, start=2), encoder_for(symbols), **options
    )
    rewards = np.array([0.0, 0.1, 0.2, 100.0])
    first = np.array([True, False, False])
    decoder.standardise({"observation": np.array([2, 3, 4]), "first": first, "reward": rewards})
    return decoder.double()


PAYMENTS = {
    "values": {"reward_support": (0.0, 100.0)},
    "values, or others": {"reward_support": (0.0, 100.0), "open_rewards": True},
    "groups": {"reward_support": None, "reward_groups": [[0.1, 0.1], [100.0, 0.1]]},
}


@pytest.mark.parametrize("options", PAYMENTS.values(), ids=PAYMENTS)
def test_a_prize_and_the_end_that_it_brings_are_one_event(options):
    """A coin pays and ends the game, or does neither: log 2 nats a row, and the reward's own. If
    each were drawn by itself, it would be log 2 more, and every other dreamt prize without an end.
    """
    torch.manual_seed(0)
    decoder = paying(**options)
    features, seen = torch.zeros(64, FEATURES).double(), torch.full((64,), 3)
    ends = torch.arange(64) % 2 == 0
    percept = {"observation": seen, "reward": ends * 100.0, "terminated": ends}
    decoder.meet({key: value.numpy() for key, value in percept.items()})
    optimizer = torch.optim.Adam(decoder.parameters(), 0.03)
    for _ in range(150):
        loss = -decoder(features).log_prob(percept).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    scores = decoder(features).log_probs(percept)
    assert -scores["terminated"].mean() < 0.05
    drawn = decoder(features).sample()
    assert ((drawn["reward"] > 50) != drawn["terminated"]).sum() <= 2  # of 64
    assert 10 < drawn["terminated"].sum() < 54
    mean = decoder(features).consequences(seen).mean["terminated"]
    close(mean, torch.full_like(mean, 0.5), 0.1)


def test_weights_of_ends_that_did_not_read_rewards_are_what_they_were():
    """Nor changes, and had a layer less."""
    decoder = paying(reward_support=(0.0, 100.0))
    new = ("after", "paid", "further", "change", "gate", "near", "fine")
    old = {k: v for k, v in decoder.state_dict().items() if not k.startswith(new)}
    other = excite(paying(reward_support=(0.0, 100.0), before=0))
    other.load_state_dict(old)
    features = normal(3, FEATURES)
    for reward in torch.tensor([0.0, 100.0]):
        ends = [
            d(features).consequences(torch.full((3,), 3)).end(reward) for d in (decoder, other)
        ]
        assert torch.equal(ends[0].logits, ends[1].logits)


def test_rewards_read_how_far_from_zero_they_are_in_units_of_the_usual_change():
    """Or how far from the number that comes nearest to zero; changes over an end do not count."""
    space = spaces.Box(-np.inf, np.inf, (3,))
    numbers = np.array([[1, 5, -9], [2, 5, -8], [4, 9, -7], [-90, 6, -6], [-93, 7, -4]])
    numbers = numbers.astype(np.float32)
    first = np.array([True, False, False, True, False])
    encoder = encoder_for(space)
    decoder = PerceptDecoder(FEATURES, 8, NormalHead(8, (3,)), encoder, None, before=0)
    decoder.standardise({"observation": numbers, "first": first, "reward": np.arange(3.0)})
    changes = np.array([[1, 0, 1], [2, 4, 1], [-3, 1, 2]])
    found = decoder.near(encoder(torch.from_numpy(numbers)))
    close(found, torch.tensor((numbers - [0, 5, -4]) / changes.std(0), dtype=torch.float32), 1e-4)


def test_a_regression_broadcasts_over_particles():
    regression = excite(TwoHotRegression(4, bins=9).double())
    features, values = normal(3, 2, 5, 4), normal(3, 5, seed=1)
    found = regression(features).loss(values[:, None])
    assert found.shape == regression(features).mean.shape == (3, 2, 5)
    for k in range(2):
        close(found[:, k], regression(features[:, k]).loss(values))


def test_a_regression_finds_means_of_any_scale():
    """Values 0 and 10,000 with equal odds: their mean, not that of their logarithms."""
    torch.manual_seed(0)
    regression = TwoHotRegression(1)
    optimizer = torch.optim.Adam(regression.parameters(), 0.1)
    values = torch.tensor([0.0, 1e4]).repeat(8)
    for _ in range(200):
        loss = regression(torch.zeros(16, 1)).loss(values).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert abs(regression(torch.zeros(1)).mean - 5000) < 100


def test_bins_are_odd_in_number():
    with pytest.raises(ValueError, match="odd number of bins, got 4"):
        TwoHotRegression(4, bins=4)


# Heads by name.

SPACES = {
    "symbol": spaces.Discrete(3, start=1),
    "symbols": spaces.MultiDiscrete([[2, 3], [4, 2]], start=[[0, 1], [-3, 5]]),
    "bits": spaces.MultiBinary(4),
    "sheet of bits": spaces.MultiBinary((2, 2)),
    "truths": spaces.Box(0, 1, (4,), bool),
    "number": spaces.Box(-1, 1, ()),
    "vector": spaces.Box(-1, 1, (3,)),
    "endless": spaces.Box(-float("inf"), 1, (3,)),
    "uneven": spaces.Box(np.zeros(2, np.float32), np.array([1, 2], np.float32)),
    "image": spaces.Box(0, 255, (2, 2, 3), np.uint8),
    "picture": spaces.Box(0, 255, (8, 9, 3), np.uint8),
    "silhouette": spaces.MultiBinary((8, 8, 1)),
    "stroke": spaces.Dict(offset=spaces.Box(-9, 9, (2,)), pen=spaces.Discrete(2, start=1)),
    "stroke of bits": spaces.Dict(offset=spaces.MultiBinary(2), pen=spaces.Discrete(2)),
    "pair": spaces.Dict(symbol=spaces.Discrete(2), bits=spaces.MultiBinary(3)),
}
FITTING = {
    "categorical": {"symbol", "symbols"},
    "bernoulli": {"bits", "sheet of bits", "truths", "silhouette"},
    "nade": {"bits", "truths"},
    "subset": {"bits", "truths"},
    "normal": {"number", "vector", "endless", "uneven", "image", "picture"},
    "student-t": {"number", "vector", "endless", "uneven", "image", "picture"},
    "symlog-normal": {"number", "vector", "endless", "uneven", "image", "picture"},
    "mixed": {"number", "vector", "endless", "uneven", "image", "picture"},
    "full-normal": {"vector", "endless", "uneven"},
    "low-rank-normal": {"vector", "endless", "uneven"},
    "mixture": {"number", "vector", "endless", "uneven", "image", "picture"},
    "discretised-logistic": {"number", "vector", "image", "picture"},
    "autoregressive": {"vector", "endless", "uneven"},
    "beta": {"number", "vector", "uneven", "image", "picture"},
    "image-mse": {"picture"},
    "image-bernoulli": {"silhouette"},
    "image-discretised-logistic": {"picture"},
    "strokes": {"stroke"},
}


def members(space, n):
    """n values of a space, as a batch."""
    space.seed(0)
    drawn = [nested.map(torch.as_tensor, dict_of(space.sample())) for _ in range(n)]
    return nested.stack(drawn)


def dict_of(value):
    return dict(value) if isinstance(value, dict) else value


@pytest.mark.parametrize("name", HEADS)
@pytest.mark.parametrize("space", SPACES)
def test_a_head_by_name_fits_its_spaces_and_refuses_others(name, space):
    torch.manual_seed(0)
    space, fits = SPACES[space], space in FITTING[name]
    if not fits:
        with pytest.raises(ValueError, match=f"the head '{name}' expects .*but the space is"):
            head_for(name, space, FEATURES)
        return
    levels = {"levels": 5} if name == "discretised-logistic" and space.dtype == "float32" else {}
    distribution = head_for(name, space, FEATURES, **levels)(torch.randn(6, FEATURES))
    values = members(space, 6)
    assert distribution.log_prob(values).isfinite().all()
    shapes = nested.map(lambda leaf: leaf.shape, values)
    assert nested.map(lambda leaf: leaf.shape, distribution.sample()) == shapes


def test_a_head_that_does_not_exist_or_fit_is_named():
    with pytest.raises(ValueError, match="there is no head 'poisson'; there are categorical, "):
        head_for("poisson", SPACES["symbol"], 4)
    with pytest.raises(ValueError, match=r"fit it: bernoulli, nade, subset$"):
        head_for("categorical", SPACES["bits"], 4)
    with pytest.raises(ValueError, match="pass levels="):
        head_for("discretised-logistic", SPACES["vector"], 4)


@pytest.mark.parametrize("space", ["stroke", "pair"])
def test_dictionaries_are_encoded_and_decoded_part_by_part(space):
    torch.manual_seed(0)
    space = SPACES[space]
    values = members(space, 6)
    parts = [encoder_for(space[key])(values[key]) for key in space]
    encoder = encoder_for(space)
    assert torch.equal(encoder(values), torch.cat(parts, -1))
    assert encoder.size == encoder(values).shape[-1]
    decoder = decoder_for(space, FEATURES)
    features = torch.randn(6, FEATURES)
    by_part = [decoder.parts[key](features).log_prob(values[key]) for key in space]
    close(decoder(features).log_prob(values), sum(by_part))
    assert decoder(features).mode.keys() == set(space)


@pytest.mark.parametrize(
    ("space", "head"),
    [("bits", "nade"), ("image", "discretised-logistic"), ("stroke", "strokes"), ("pair", None)],
)
def test_a_world_model_dreams_and_scores_by_any_head(space, head):
    torch.manual_seed(0)
    space = SPACES[space]
    model = model_for(space, spaces.Discrete(2), "vrnn", 8, head=head, reward_regression=True)
    environment = Dream(model, 2, space, spaces.Discrete(2))
    state, rows = environment.initial_state(3), []
    for _ in range(2):
        row, state = environment.step(torch.zeros(3, 2), state)
        rows.append(row)
    sequences = Sequences.whole(nested.stack(rows))
    loss, metrics, _ = ELBO(model, particles=2)([sequences], (), 0)
    loss.backward()
    assert metrics["reward_regression"] > 0
    assert all(p.grad.isfinite().all() for p in model.parameters() if p.grad is not None)
    shapes = nested.map(lambda leaf: leaf.shape, members(space, 3))
    assert nested.map(lambda leaf: leaf.shape, rows[0].observation) == shapes
