"""Laws of distributions, and of the encoders and codecs of every kind of space."""

import itertools

import pytest
import torch
from gymnasium import spaces
from scipy import stats
from torch import distributions as td

from worldmodel import PerceptEncoder, action_codec, decoder_for, encoder_for, mlp, nested
from worldmodel.codecs import Consequences, Prediction
from worldmodel.distributions import (
    Bernoulli,
    Bits,
    Categorical,
    ConcatLayout,
    Deterministic,
    FiniteSupport,
    Grouped,
    Joint,
    Mixed,
    OneHot,
    OneHots,
    StudentT,
    TanhNormal,
    draw,
    points_of,
)

DRAWS = 40000


def normal(*shape, seed=0):
    torch.manual_seed(seed)
    return torch.randn(*shape).double()


def close(found, expected, atol=1e-12):
    torch.testing.assert_close(found, expected, rtol=0, atol=atol)


def has_frequencies(hits, probabilities):
    """Bernoulli values [draws, *] are as frequent as `probabilities` [*] say, within 4 s.e."""
    error = (probabilities * (1 - probabilities) / len(hits)).sqrt()
    assert ((hits.double().mean(0) - probabilities).abs() <= 4 * error).all()


# Distributions.


@pytest.mark.parametrize("start", [0, 2, -3])
def test_categorical_is_torchs_from_a_start(start):
    logits = normal(5, 4)
    ours, torchs = Categorical(logits, start), td.Categorical(logits=logits)
    values = torch.arange(4)[:, None].expand(4, 5)
    close(ours.log_prob(values + start), torchs.log_prob(values))
    close(ours.log_prob(values + start).exp().sum(0), torch.ones(5).double())
    close(ours.entropy(), torchs.entropy())
    close(ours.probs, torchs.probs)
    assert torch.equal(ours.mode, torchs.mode + start)
    assert ours.batch_shape == torchs.batch_shape
    draws = ours.sample((DRAWS,))
    assert draws.shape == (DRAWS, 5)
    assert draws.dtype == torch.int64
    has_frequencies(draws[..., None] == torch.arange(4) + start, ours.probs)
    pairs = draws[:, :1] * draws[:, 1:2]  # and the rows of a batch are drawn independently
    expected = (draws[:, 0].double().mean() * draws[:, 1].double().mean()).item()
    assert abs(pairs.double().mean() - expected) < 4 * pairs.double().std() / DRAWS**0.5


def test_categorical_never_draws_what_is_impossible():
    logits = torch.tensor([0.0, -torch.inf, 1.0]).double()
    draws = Categorical(logits).sample((DRAWS,))
    assert set(draws.tolist()) == {0, 2}
    assert Categorical(logits).log_prob(torch.tensor(1)) == -torch.inf


def test_one_hot_is_categorical_in_codes():
    logits = normal(5, 4)
    codes, torchs = OneHot(logits), td.OneHotCategorical(logits=logits)
    values = torch.eye(4).double()[:, None].expand(4, 5, 4)
    close(codes.log_prob(values), torchs.log_prob(values))
    close(codes.entropy(), torchs.entropy())
    assert torch.equal(codes.mode, torchs.mode)
    draws = codes.sample((DRAWS,))
    assert draws.shape == (DRAWS, 5, 4)
    assert draws.dtype == logits.dtype
    assert (draws.sum(-1) == 1).all()
    has_frequencies(draws == 1, codes.probs)


def test_one_hots_are_one_hots_side_by_side():
    sizes = [2, 4, 1, 3]
    logits, weights = normal(5, 10), normal(10, seed=1)
    codes = OneHots(logits, ConcatLayout(sizes))
    torchs = [td.OneHotCategorical(logits=part) for part in logits.split(sizes, -1)]
    draws = codes.sample((DRAWS,))
    assert draws.shape == (DRAWS, 5, 10)
    has_frequencies(draws == 1, torch.cat([part.probs for part in torchs], -1))
    parts = zip(torchs, draws.split(sizes, -1), strict=True)
    close(codes.log_prob(draws), sum(part.log_prob(x) for part, x in parts))
    close(codes.entropy(), sum(part.entropy() for part in torchs))
    assert torch.equal(codes.mode, torch.cat([part.mode for part in torchs], -1))
    assert (codes.rsample() @ weights).shape == (5,)
    apart = ConcatLayout(sizes).apart(weights, fill=torch.inf)
    assert apart.shape == (4, 4)
    assert torch.equal(apart.flatten()[apart.flatten() < torch.inf], weights)
    assert torch.equal(ConcatLayout(sizes).beside(apart), weights)


def test_bits_are_truths_as_numbers():
    logits = normal(5, 3)
    code, torchs = Bits(logits), td.Independent(td.Bernoulli(logits=logits), 1)
    draws = code.sample((DRAWS,))
    assert draws.dtype == logits.dtype
    has_frequencies(draws == 1, logits.sigmoid())
    close(code.log_prob(draws), torchs.log_prob(draws))
    close(code.entropy(), torchs.entropy())
    close(code.mean, torchs.mean)
    assert torch.equal(code.mode, (logits > 0).double())


@pytest.mark.parametrize("df", [1.5, 2.0, 4.0, 30.0, 1e3])
def test_a_students_t_is_scipys(df):
    loc, scale, value = normal(6), normal(6, seed=1).exp(), 10 * normal(9, 6, seed=2)
    ours = StudentT(torch.tensor(df).double(), loc, scale)
    expected = stats.t(df, loc.numpy(), scale.numpy())
    close(ours.log_prob(value), torch.tensor(expected.logpdf(value.numpy())), 1e-9)
    close(ours.mean, torch.tensor(expected.mean()))
    close(ours.variance, torch.tensor(expected.var()), 1e-9)
    assert torch.equal(ours.mode, loc)
    draws = ours.sample((DRAWS,)).numpy()
    for column in range(6):
        its = stats.t(df, loc[column].item(), scale[column].item())
        assert stats.kstest(draws[:, column], its.cdf).pvalue > 1e-3
    assert abs(stats.spearmanr(draws[:, 0], draws[:, 1]).statistic) < 4 / DRAWS**0.5


def test_draws_of_a_students_t_have_its_gradients():
    """Of the mean of tanh, against numerical integration, within 4 standard errors."""
    torch.manual_seed(0)
    leaves = [torch.tensor(x).double().requires_grad_() for x in (3.0, 0.4, 0.7)]
    x = torch.linspace(-3000, 3000, 3_000_001).double()
    exact = torch.trapezoid(StudentT(*leaves).log_prob(x).exp() * x.tanh(), x)
    expected = torch.autograd.grad(exact, leaves)
    each = [leaf.detach().expand(DRAWS).clone().requires_grad_() for leaf in leaves]
    found = torch.autograd.grad(StudentT(*each).rsample().tanh().sum(), each)
    for one, all_ in zip(expected, found, strict=True):
        assert (all_.mean() - one).abs() < 4 * all_.std() / DRAWS**0.5


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_students_t_is_finite_in_low_precision(dtype):
    """Far out, at small scales and with few degrees of freedom or many, and so are draws."""
    torch.manual_seed(0)
    df = torch.tensor([2.0, 4.0, 100.0], dtype=dtype).requires_grad_()
    loc = torch.zeros(20000, 3, dtype=dtype).requires_grad_()
    scale = torch.full((3,), 1e-3, dtype=dtype).requires_grad_()
    distribution = StudentT(df, loc, scale)
    for value in (1e6, 1.0, 0.0):
        log_prob = distribution.log_prob(torch.tensor(value, dtype=dtype))
        drawn = distribution.rsample()
        for result in (log_prob, drawn):
            assert result.dtype == dtype
            assert result.isfinite().all()
            gradients = torch.autograd.grad(result.sum(), [df, loc, scale])
            assert all(gradient.isfinite().all() for gradient in gradients)


def integral(function, n=200001, end=9.0):
    """The integral over u of N(u | 0, 1) function(u), by the trapezoidal rule."""
    u = torch.linspace(-end, end, n).double()
    weights = (-u.square() / 2).exp() / (2 * torch.pi) ** 0.5
    return torch.trapezoid(weights * function(u), u)


def test_tanh_normal_is_a_transformed_normal():
    mean, std = normal(6, 2), normal(6, 2, seed=1).exp()
    ours = TanhNormal(mean, std)
    torchs = td.TransformedDistribution(td.Normal(mean, std), td.TanhTransform())
    value = 0.99 * normal(6, 2, seed=2).tanh()
    close(ours.log_prob(value), torchs.log_prob(value).sum(-1), 1e-9)
    close(ours.mode, mean.tanh())
    draws = ours.rsample((DRAWS,))
    below = (draws < ours.mode).double()  # the mode is the median
    assert ((below.mean(0) - 0.5).abs() < 4 * 0.5 / DRAWS**0.5).all()


def test_codes_on_the_edge_are_scored_just_inside():
    for dtype in (torch.float32, torch.float64):
        mean = torch.tensor([[0.5], [-4.0]], dtype=dtype).requires_grad_()
        distribution = TanhNormal(mean, torch.ones_like(mean))
        for edge in (-1.0, 1.0):
            log_prob = distribution.log_prob(torch.full_like(mean, edge))
            inside = distribution.log_prob(torch.full_like(mean, edge * (1 - 1e-6)))
            torch.testing.assert_close(log_prob, inside)
            assert torch.autograd.grad(log_prob.sum(), mean)[0].isfinite().all()


@pytest.mark.parametrize("std", [0.05, 0.9, 3.0])
def test_the_entropy_of_a_tanh_normal_is_estimated_with_its_gradient(std):
    """Against numerical integration, within 4 standard errors."""
    torch.manual_seed(0)
    mean, std = torch.tensor(0.7).double(), torch.tensor(std).double()
    leaves = [mean.clone().requires_grad_(), std.clone().requires_grad_()]

    def slope(u):
        return -2 * torch.cosh(leaves[0] + leaves[1] * u).log()

    exact = integral(slope) + td.Normal(*leaves).entropy()
    expected = [exact.detach(), *torch.autograd.grad(exact, leaves)]
    many = [leaf.detach().expand(DRAWS, 1).clone().requires_grad_() for leaf in leaves]
    found = TanhNormal(*many).entropy()
    found = [found.detach(), *(g[:, 0] for g in torch.autograd.grad(found.sum(), many))]
    for one, other in zip(found, expected, strict=True):
        assert (one.mean() - other).abs() <= 4 * one.std() / DRAWS**0.5
    far = torch.tensor([[800.0]]).requires_grad_()
    entropy = TanhNormal(far, torch.ones_like(far)).entropy()
    assert entropy.isfinite().all()
    assert torch.autograd.grad(entropy.sum(), far)[0].isfinite().all()


def test_what_is_all_but_impossible_has_finite_gradients_of_entropy():
    logits = torch.tensor([-800.0, 0.0, 800.0]).requires_grad_()
    layout = ConcatLayout([1, 2])
    for distribution in (
        Categorical(logits),
        OneHots(logits, layout),
        Bernoulli(logits),
        Bits(logits),
    ):
        entropy = distribution.entropy().sum()
        assert torch.autograd.grad(entropy, logits)[0].isfinite().all()


def test_finite_support_puts_mass_on_given_numbers_only():
    logits, support = normal(5, 3), torch.tensor([-1.0, 0.0, 2.5]).double()
    finite, torchs = FiniteSupport(logits, support), td.Categorical(logits=logits)
    for index, value in enumerate(support):
        close(finite.log_prob(value.expand(5)), torchs.log_prob(torch.tensor(index)))
    assert (finite.log_prob(torch.full((5,), 0.5).double()) == -torch.inf).all()
    mixed = finite.log_prob(torch.tensor([-1.0, 7.0, 0.0, torch.nan, 2.5]).double())
    assert mixed.isfinite().tolist() == [True, False, True, False, True]
    assert not mixed.isnan().any()
    close(finite.mean, (torchs.probs * support).sum(-1))
    close(finite.mode, support[torchs.mode])
    close(finite.entropy(), torchs.entropy())
    draws = finite.sample((DRAWS,))
    has_frequencies(draws[..., None] == support, finite.probs)


def test_gradients_are_finite_where_a_value_is_outside_the_support():
    logits = normal(2, 3).requires_grad_()
    value = torch.tensor([7.0, 1.0])
    log_prob = FiniteSupport(logits, torch.tensor([0.0, 1.0, 2.0])).log_prob(value)
    torch.where(log_prob > -torch.inf, log_prob, 0.0).sum().backward()
    assert logits.grad.isfinite().all()


def test_truth_is_bernoulli():
    logits = normal(6)
    truth, torchs = Bernoulli(logits), td.Bernoulli(logits=logits)
    for value in (False, True):
        values = torch.full((6,), value)
        close(truth.log_prob(values), torchs.log_prob(values.double()))
        close(truth.log_prob(values.double()), truth.log_prob(values))
    close(truth.entropy(), torchs.entropy())
    close(truth.mean, torchs.mean)
    assert torch.equal(truth.mode, torchs.probs > 0.5)
    draws = truth.sample((DRAWS,))
    assert draws.dtype == torch.bool
    has_frequencies(draws, truth.probs)
    certain = Bernoulli(torch.tensor([torch.inf, -torch.inf]).double())
    close(certain.log_prob(torch.tensor([True, False])), torch.zeros(2).double())
    assert (certain.log_prob(torch.tensor([False, True])) == -torch.inf).all()


def test_extreme_logits_give_finite_numbers():
    logits = torch.tensor([-800.0, 800.0]).double()
    for value in (True, False):
        assert Bernoulli(logits).log_prob(torch.tensor(value).expand(2)).isfinite().all()
    assert Bernoulli(logits).entropy().isfinite().all()
    assert Categorical(logits).log_prob(torch.tensor(0)).isfinite()


@pytest.mark.parametrize(
    ("make", "value"),
    [
        (lambda x: Categorical(x, start=1), torch.tensor([1, 3, 2])),
        (OneHot, torch.eye(3).double()),
        (
            lambda x: FiniteSupport(x, torch.arange(3.0).double()),
            torch.tensor([2.0, 0.0, 9.0]).double(),
        ),
        (lambda x: Bernoulli(x[..., 0]), torch.tensor([True, False, True])),
        (
            lambda x: Joint({"a": Categorical(x), "b": Bernoulli(x[..., 1])}),
            {"a": torch.tensor([0, 2, 1]), "b": torch.tensor([True, False, True])},
        ),
    ],
)
def test_log_prob_broadcasts_over_particles(make, value):
    """A distribution [T, K, B] scores values [T, 1, B], and one [B] values [T, B]."""
    logits = normal(4, 2, 3, 3)

    def shaped(change):
        if isinstance(value, dict):
            return {key: change(part) for key, part in value.items()}
        return change(value)

    many = make(logits).log_prob(shaped(lambda v: v.expand(4, 1, *v.shape)))
    assert many.shape == (4, 2, 3)
    for t, k in itertools.product(range(4), range(2)):
        close(many[t, k], make(logits[t, k]).log_prob(value))
    one = make(logits[0, 0]).log_prob(shaped(lambda v: v.expand(4, *v.shape)))
    close(one, make(logits[0, 0]).log_prob(value).expand(4, 3))


def test_joint_multiplies_its_parts():
    logits = normal(5, 3)
    parts = {"a": Categorical(logits), "b": Bernoulli(logits[:, 0])}
    joint = Joint(parts)
    total = 0.0
    for a, b in itertools.product(range(3), (False, True)):
        value = {"a": torch.full((5,), a), "b": torch.full((5,), b)}
        close(
            joint.log_prob(value),
            parts["a"].log_prob(value["a"]) + parts["b"].log_prob(value["b"]),
        )
        assert joint.log_probs(value).keys() == parts.keys()
        total = total + joint.log_prob(value).exp()
    close(total, torch.ones(5).double())
    close(joint.entropy(), parts["a"].entropy() + parts["b"].entropy())
    assert joint.batch_shape == (5,)
    assert joint.mode.keys() == joint.sample().keys() == parts.keys()
    assert joint.sample((7,))["a"].shape == (7, 5)
    values = {"a": Bernoulli(logits[:, 0]), "b": Bernoulli(logits[:, 1])}
    assert torch.equal(Joint(values).mean["b"], values["b"].mean)


def test_the_divergence_from_the_uniform_distribution_is_torchs():
    logits = 3 * normal(5, 4)
    even = td.Categorical(logits=torch.zeros(5, 4).double())
    exact = td.kl_divergence(even, td.Categorical(logits=logits))
    close(OneHot(logits).kl_from_uniform(), exact)
    apart = logits.split([3, 1], -1)
    sizes = [td.Categorical(logits=torch.zeros(part.shape).double()) for part in apart]
    each = zip(sizes, apart, strict=True)
    exact = sum(td.kl_divergence(one, td.Categorical(logits=part)) for one, part in each)
    close(OneHots(logits, ConcatLayout([3, 1])).kl_from_uniform(), exact)
    coins = td.Bernoulli(logits=torch.zeros(5, 4).double())
    exact = td.kl_divergence(coins, td.Bernoulli(logits=logits)).sum(-1)
    close(Bits(logits).kl_from_uniform(), exact)
    assert (OneHot(torch.zeros(3)).kl_from_uniform().abs() < 1e-6).all()


def prediction(batch=5):
    first, then = normal(batch, 3), normal(3, batch, seed=1)

    def given(index):
        logits = then.t().expand(*index.shape, 3).gather(-1, index[..., None])[..., 0]
        return Consequences({"b": Bernoulli(logits)})

    return Prediction(lambda: Categorical(first), given, torch.Size([batch]))


def test_a_prediction_sums_to_one_and_draws_what_it_scores():
    joint = prediction()
    values, log_probs = [], []
    for a, b in itertools.product(range(3), (False, True)):
        values.append((a, b))
        value = {"observation": torch.full((5,), a), "b": torch.full((5,), b)}
        parts = joint.log_probs(value)
        assert list(parts) == ["observation", "b"]
        close(joint.log_prob(value), parts["observation"] + parts["b"])
        log_probs.append(joint.log_prob(value))
    probabilities = torch.stack(log_probs, -1).exp()  # [5, 6]
    close(probabilities.sum(-1), torch.ones(5).double())
    draws = joint.sample((DRAWS,))
    hits = torch.stack([(draws["observation"] == a) & (draws["b"] == b) for a, b in values], -1)
    has_frequencies(hits, probabilities)
    assert joint.batch_shape == (5,)
    assert {key: part.shape for key, part in joint.sample().items()} == {
        "observation": (5,),
        "b": (5,),
    }
    mode = joint.mode
    assert torch.equal(mode["b"], joint.consequences(mode["observation"]).mode["b"])
    # what follows without an observation: summed over all, and averaged over draws
    weights, given = joint.marginal()
    exact = (weights * given.parts["b"].mean).sum(0)
    close(exact, probabilities.unflatten(-1, (3, 2))[..., 1].sum(-1))
    torch.manual_seed(0)
    drawn = []
    for _ in range(4_000):
        weights, given = joint.marginal(few=2)
        drawn.append((weights * given.parts["b"].mean).sum(0))
    drawn = torch.stack(drawn)
    assert ((drawn.mean(0) - exact).abs() < 5 * drawn.std(0) / len(drawn) ** 0.5).all()


def paid(batch=5):
    """A reward of three values, and an end that depends on it."""
    values = torch.tensor([-1.0, 0.0, 5.0]).double()
    reward = FiniteSupport(normal(batch, 3), values)
    return Consequences(
        {"reward": reward}, end=lambda r: Bernoulli((r - 1) * normal(batch, seed=1))
    )


@pytest.mark.parametrize("temperature", [1.0, 0.5])
def test_an_end_is_that_of_the_reward_which_comes_with_it(temperature):
    joint = paid().tempered(temperature)
    probabilities, hits = [], []
    draws = joint.sample((DRAWS,))
    for reward, end in itertools.product((-1.0, 0.0, 5.0), (False, True)):
        value = {"reward": torch.full((5,), reward).double(), "terminated": torch.full((5,), end)}
        parts = joint.log_probs(value)
        given = joint.end(value["reward"])
        close(parts["terminated"], given.log_prob(value["terminated"]))
        close(joint.log_prob(value), sum(parts.values()))
        probabilities.append(joint.log_prob(value).exp())
        hits.append((draws["reward"] == reward) & (draws["terminated"] == end))
    probabilities = torch.stack(probabilities, -1)  # [5, 6]
    close(probabilities.sum(-1), torch.ones(5).double())
    has_frequencies(torch.stack(hits, -1), probabilities)
    close(joint.mean["terminated"], probabilities[:, 1::2].sum(-1))
    close(joint.mean["reward"], joint.parts["reward"].mean)
    mode = joint.mode
    assert torch.equal(mode["terminated"], joint.end(mode["reward"]).mode)


@pytest.mark.parametrize(
    "reward",
    [
        lambda: FiniteSupport(normal(5, 3), torch.tensor([-1.0, 0.0, 5.0]).double()),
        lambda: Mixed(
            normal(5, 4) + torch.tensor([0, 0, -torch.inf, 0]),
            torch.tensor([1.0, 7.0, torch.nan]),
            td.Normal(normal(5, seed=1), 1.0),
            torch.tensor(True),
        ),
        lambda: Grouped(normal(5, 2), td.Normal(normal(5, 2, seed=1), 1.0)),
        lambda: td.Normal(normal(5), 2.0),
    ],
    ids=["values", "values, or others", "groups", "a density"],
)
def test_points_have_the_mean_of_all_numbers(reward):
    found = reward()
    values, probs = points_of(found)
    close(probs.sum(0), torch.ones(5).double())
    close((values * probs).sum(0), found.mean)


def percepts(mean, logits):
    """Predictions of a joint: numbers and a symbol, then a number and a truth that depend on
    them."""
    numbers = td.Independent(td.Normal(mean, 0.5 + mean.square()), 1)
    first = Joint({"x": Joint((numbers, Categorical(logits))), "code": OneHot(logits)})

    def given(value):
        numbers, symbol = value["x"]
        reward = td.Normal(numbers.sum(-1) + symbol + value["code"] @ logits[0], 1.0)
        return Consequences({"reward": reward, "end": Bernoulli(numbers[..., 0])})

    return Prediction(lambda: first, given, mean.shape[:1])


def test_a_draw_with_gradients_is_the_draw_without():
    """Under the same noise, part by part and in order."""
    chain = percepts(normal(5, 3).requires_grad_(), normal(5, 4, seed=1).requires_grad_())
    drawn = []
    for how in (chain.sample, chain.rsample, lambda: draw(chain)):
        torch.manual_seed(0)
        drawn.append(nested.map(torch.detach, how()))
    for one in drawn[1:]:
        nested.map(close, one, drawn[0])
    assert not torch.equal(draw(chain)["reward"], drawn[0]["reward"])


def test_gradients_reach_what_has_them_and_nothing_else():
    """Through the numbers that are drawn first into those that depend on them."""
    mean, logits = normal(5, 3).requires_grad_(), normal(5, 4, seed=1).requires_grad_()
    drawn = draw(percepts(mean, logits))
    numbers, symbol = drawn["observation"]["x"]
    code = drawn["observation"]["code"]
    has = [leaf.requires_grad for leaf in (numbers, symbol, code)]
    assert has == [True, False, True]
    assert [drawn[key].requires_grad for key in ("reward", "end")] == [True, False]
    slope = torch.autograd.grad(drawn["reward"].sum(), mean, retain_graph=True)[0]
    noise = (numbers - mean) / (0.5 + mean.square())
    close(slope, (1 + 2 * mean * noise).detach())  # of mean + (0.5 + mean^2) noise
    assert torch.autograd.grad(code[:, 0].sum(), logits)[0].any()


def test_nothing_is_recorded_where_gradients_are_off():
    chain = percepts(normal(5, 3).requires_grad_(), normal(5, 4).requires_grad_())
    with torch.no_grad():
        assert not any(leaf.requires_grad for leaf in nested.leaves(draw(chain)))
    assert not any(leaf.requires_grad for leaf in nested.leaves(chain.sample()))


def test_certain_is_always_its_value():
    value = normal(2, 3)
    assert torch.equal(Deterministic(value).sample(), value)
    assert torch.equal(Deterministic(value).mode, value)
    assert torch.equal(Deterministic(value).sample((4,)), value.expand(4, 2, 3))


@pytest.mark.parametrize(
    "distribution",
    [
        Categorical(torch.zeros(3)),
        OneHot(torch.zeros(3)),
        OneHots(torch.zeros(3), ConcatLayout([1, 2])),
        Bits(torch.zeros(3)),
        TanhNormal(torch.zeros(3), torch.ones(3)),
        FiniteSupport(torch.zeros(2), torch.zeros(2)),
        Bernoulli(torch.zeros(3)),
        Joint({"a": Bernoulli(torch.zeros(3))}),
        prediction(),
        Deterministic(torch.zeros(3)),
    ],
    ids=lambda distribution: type(distribution).__name__,
)
def test_a_distribution_can_be_printed(distribution):
    assert type(distribution).__name__ in repr(distribution)


def test_what_is_impossible_adds_nothing_to_the_entropy():
    logits = torch.tensor([0.0, -torch.inf, 0.0]).double()
    close(Categorical(logits).entropy(), torch.tensor(2.0).double().log())
    close(Bernoulli(torch.tensor([torch.inf, -torch.inf])).entropy(), torch.zeros(2))


def test_one_hot_scores_possible_codes_beside_impossible_ones():
    codes = OneHot(torch.tensor([0.0, -torch.inf, 0.0]).double())
    expected = torch.tensor([0.5, 0.0, 0.5]).double().log()
    close(codes.log_prob(torch.eye(3).double()), expected)


# Encoders and codecs.


def test_discrete_values_are_encoded_from_their_start():
    encoder = encoder_for(spaces.Discrete(3, start=2)).double()
    values = torch.tensor([[2, 4], [3, 2]])
    expected = torch.eye(3).double()[values - 2]
    assert torch.equal(encoder(values), expected)
    assert encoder.size == 3
    assert encoder(values).dtype == torch.float64


@pytest.mark.parametrize("space", [spaces.Box(-1, 1, (2, 3)), spaces.MultiBinary((2, 3))])
def test_arrays_are_encoded_as_they_are(space):
    encoder = encoder_for(space).double()
    space.seed(0)
    values = torch.stack([torch.as_tensor(space.sample()) for _ in range(8)])
    assert encoder.size == 6
    assert torch.equal(encoder(values), values.double().reshape(8, 6))
    assert torch.equal(encoder(values.reshape(4, 2, 2, 3))[1, 0], encoder(values)[2])


@pytest.mark.parametrize(
    "space",
    [
        spaces.Discrete(3, start=2),
        spaces.Box(-1, 1, (2, 3)),
        spaces.Box(-1, 1, ()),
        spaces.MultiBinary(4),
    ],
    ids=str,
)
def test_a_decoder_draws_members_of_its_space(space):
    torch.manual_seed(0)
    encoder, decoder = encoder_for(space), decoder_for(space, 4)
    distribution = decoder(torch.randn(6, 4))
    drawn = distribution.sample()
    assert drawn.shape == (6, *space.shape)
    assert encoder(drawn).shape == (6, encoder.size)
    if not isinstance(space, spaces.Box):
        kind = space.dtype
        assert all(space.contains(one.numpy().astype(kind)) for one in drawn)
    space.seed(0)
    members = torch.stack([torch.as_tensor(space.sample()) for _ in range(6)])
    assert distribution.log_prob(members).isfinite().all()


@pytest.mark.parametrize(
    "space", [spaces.Text(4), spaces.Graph(spaces.Discrete(2), None)], ids=str
)
def test_unknown_spaces_are_named(space):
    for what, make in [
        ("encoder", encoder_for),
        ("decoder", lambda space: decoder_for(space, 4)),
        ("action codec", action_codec),
    ]:
        with pytest.raises(ValueError, match=f"no {what} for the space {type(space).__name__}"):
            make(space)


def test_percepts_on_first_rows_have_no_consequences():
    encoder = PerceptEncoder(encoder_for(spaces.Discrete(2))).double()
    percept = {
        "observation": torch.tensor([0, 1]),
        "reward": torch.tensor([5.0, 5.0]),
        "terminated": torch.tensor([True, True]),
    }
    found = encoder((percept, torch.tensor([True, False])))
    assert found.tolist() == [[1, 0, 0, 0], [0, 1, 5, 1]]
    assert encoder.size == 4
    silent = PerceptEncoder(encoder_for(spaces.Discrete(2)), rewards=False)
    found = silent(({"observation": torch.tensor([0, 1])}, torch.tensor([True, False])))
    assert found.tolist() == [[1, 0], [0, 1]]


@pytest.mark.parametrize("start", [0, -2])
def test_action_codes_are_one_to_one(start):
    codec = action_codec(spaces.Discrete(4, start=start))
    actions = torch.arange(start, start + 4)
    codes = codec.encode(actions)
    assert codec.size == 4
    assert torch.equal(codec.decode(codes), actions)
    assert torch.equal(codes, codec.choices)
    torch.manual_seed(0)
    policy = codec.head(6)(torch.randn(5, 6))
    assert policy.sample().shape == (5, 4)
    assert torch.equal(codec.encode(codec.decode(policy.sample((9,)))).sum(-1), torch.ones(9, 5))


def test_mlp_says_what_sizes_it_expects():
    with pytest.raises(ValueError, match="input and an output size"):
        mlp([3])
    torch.manual_seed(0)
    features = torch.randn(6, 3)
    net = mlp([3, 5, 2], norm=True)
    torch.testing.assert_close(net(features)[2], net(features[2:3])[0])
