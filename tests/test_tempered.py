"""Distributions at a temperature, beside their definition: p(x) ** (1 / T), normalised."""

import itertools

import pytest
import torch
from cores import SYMBOLS, make_model
from gymnasium import spaces
from torch import distributions as td

from worldmodel import Dream, GenCore, NullAgent, head_for
from worldmodel.codecs import Consequences, HierarchicalHead, Prediction
from worldmodel.distributions import (
    NADE,
    Bernoulli,
    Categorical,
    FiniteSupport,
    Joint,
    OneHot,
    StudentT,
    Subset,
    mixture,
    tempered,
)

BITS = torch.tensor(list(itertools.product([False, True], repeat=3)))
TEMPERATURES = [0.5, 3.0]


def normal(*shape):
    torch.manual_seed(sum(shape))
    return torch.randn(*shape).double()


def sharpened(distribution, values, temperature):
    """The definition, over all values there are, [N, *]."""
    return (distribution.log_prob(values) / temperature).log_softmax(0)


def close(found, expected):
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-10)


@pytest.mark.parametrize("temperature", TEMPERATURES)
@pytest.mark.parametrize(
    ("distribution", "values"),
    [
        (Categorical(normal(5, 4), start=2), torch.arange(2, 6)[:, None].expand(4, 5)),
        (
            FiniteSupport(normal(5, 3), torch.tensor([-1.0, 0.0, 2.0])),
            torch.tensor([-1.0, 0.0, 2.0])[:, None].expand(3, 5),
        ),
        (
            Subset(normal(5, 4), normal(5, 3)),
            torch.tensor(list(itertools.product([False, True], repeat=3)))[:, None].expand(
                8, 5, 3
            ),
        ),
        (Bernoulli(normal(5)), torch.tensor([False, True])[:, None].expand(2, 5)),
    ],
)
def test_masses_are_sharpened_as_defined(distribution, values, temperature):
    found = tempered(distribution, temperature)
    assert type(found) is type(distribution)
    close(found.log_prob(values), sharpened(distribution, values, temperature))


@pytest.mark.parametrize("temperature", TEMPERATURES)
@pytest.mark.parametrize("name", ["normal", "full-normal", "low-rank-normal"])
def test_gaussians_are_sharpened_as_defined(name, temperature):
    torch.manual_seed(0)
    head = head_for(name, spaces.Box(-9, 9, (3,)), 4).double()
    distribution = head(normal(2, 4))
    found, x = tempered(distribution, temperature), normal(6, 2, 3)
    differences = (distribution.log_prob(x) / temperature - found.log_prob(x)).diff(dim=0)
    close(differences, torch.zeros_like(differences))  # proportional to each other


@pytest.mark.parametrize("temperature", TEMPERATURES)
def test_of_a_mixture_weights_and_components_are_sharpened(temperature):
    logits, mean, std = normal(5, 3), normal(5, 3), normal(5, 3).exp()
    found = tempered(mixture(logits, td.Normal(mean, std)), temperature)
    expected = mixture(logits / temperature, td.Normal(mean, std * temperature**0.5))
    x = normal(7, 5)
    close(found.log_prob(x), expected.log_prob(x))


@pytest.mark.parametrize("temperature", TEMPERATURES)
def test_of_a_students_t_each_gaussian_is_sharpened(temperature):
    """Whose variances are df / chi^2: standardised draws stay those of the same t."""
    df, loc, scale = 2 + normal(5).exp(), normal(5), normal(5).exp()
    found, x = tempered(StudentT(df, loc, scale), temperature), normal(7, 5)
    z = (x - loc) / (scale * temperature**0.5)
    log_slope = (scale * temperature**0.5).log()
    close(found.log_prob(x), td.StudentT(df).log_prob(z) - log_slope)


@pytest.mark.parametrize("temperature", TEMPERATURES)
def test_of_pairs_each_step_is_sharpened(temperature):
    first, second = torch.tensor([0, 0, 1, 2, 2]), torch.tensor([0, 1, 1, 0, 2])
    torch.manual_seed(0)
    pairs = HierarchicalHead(3, first, second, 4).double()(normal(3))
    exact = pairs.log_prob(torch.arange(5))
    begun = torch.stack([exact[first == a].logsumexp(0) for a in range(3)])
    within = torch.stack([exact[c] - begun[first[c]] for c in range(5)]) / temperature
    totals = torch.stack([within[first == a].logsumexp(0) for a in range(3)])
    expected = (begun / temperature).log_softmax(0)[first] + within - totals[first]
    close(tempered(pairs, temperature).log_prob(torch.arange(5)), expected)


@pytest.mark.parametrize("temperature", TEMPERATURES)
def test_of_a_nade_each_conditional_is_sharpened(temperature):
    nade = NADE(normal(1, 4)[0], normal(1, 3)[0], normal(3, 4), normal(3, 4))
    found = tempered(nade, temperature)
    exact = nade.log_prob(BITS)
    for value, log_prob in zip(BITS, found.log_prob(BITS), strict=True):
        expected = 0.0
        for i in range(3):  # p(v_i | v_<i), from sums over all that comes after
            same = (BITS[:, :i] == value[:i]).all(-1)
            options = [exact[same & (BITS[:, i] == v)].logsumexp(0) for v in (False, True)]
            expected += (torch.stack(options) / temperature).log_softmax(0)[int(value[i])]
        close(log_prob, expected)


@pytest.mark.parametrize("temperature", TEMPERATURES)
@pytest.mark.parametrize("name", ["autoregressive", "discretised-logistic", "mixture"])
def test_the_colder_the_nearer_to_each_other(name, temperature):
    torch.manual_seed(0)
    options = {"levels": 101} if name == "discretised-logistic" else {}
    distribution = head_for(name, spaces.Box(-1, 1, (4,)), 3, **options)(torch.zeros(3))
    plain, found = (
        d.sample((4_000,)).std(0).mean()
        for d in (distribution, tempered(distribution, temperature))
    )
    assert (found < 0.9 * plain) if temperature < 1 else (found > 1.1 * plain)


def test_parts_are_sharpened_each():
    logits = normal(5, 4)
    joint = Joint({"a": Categorical(logits), "b": Bernoulli(normal(5))})
    prediction = Prediction(
        lambda: Categorical(logits),
        lambda seen: Consequences({"b": Bernoulli(seen.double())}),
        torch.Size([5]),
    )
    value = {"a": torch.tensor([0, 1, 2, 3, 0]), "b": torch.ones(5, dtype=torch.bool)}
    expected = Categorical(logits / 2).log_prob(value["a"])
    close(tempered(joint, 2).log_probs(value)["a"], expected)
    found = prediction.tempered(2).log_probs(value | {"observation": value["a"]})
    close(found["observation"], expected)
    close(found["b"], Bernoulli(value["a"].double() / 2).log_prob(value["b"]))


def test_at_one_nothing_changes_and_at_none_there_is_nothing():
    distribution = Categorical(normal(5, 4))
    assert tempered(distribution, 1.0) is distribution
    for temperature in (0.0, -1.0, float("nan")):
        with pytest.raises(ValueError, match="positive number"):
            tempered(distribution, temperature)
    with pytest.raises(ValueError, match="no temperature of a OneHot"):
        tempered(OneHot(normal(5, 4)), 2.0)


def test_a_cold_dream_follows_the_modes():
    model = make_model("rnn", silent=True, actions=0)
    dream = Dream(model, 100, SYMBOLS, spaces.Box(-1, 1, (0,)), temperature=1e-6)
    core = GenCore(dream, NullAgent())
    with torch.no_grad():
        sequences, _, _ = core.generate(6, core.initial_state(4))
        shown = sequences.rows.observation
        assert (shown == shown[:, :1]).all()
        states = model.infer(sequences, model.initial_state(4))[0].states
        modes = model.percepts.decoder(model.core.features(states)).mode["observation"]
    assert torch.equal(shown, modes)


@pytest.mark.parametrize("temperature", [1e-12, 0.01, 100.0])
def test_a_subset_is_drawn_at_any_temperature(temperature):
    distribution = Subset(3 * normal(4, 89), 6.9 * torch.tanh(normal(4, 88)))
    found = tempered(distribution, temperature)
    drawn = found.sample((50,))
    assert found.log_prob(drawn).isfinite().all()
    assert torch.equal(found.mode, distribution.mode)
    if temperature < 1e-9:
        assert (drawn == distribution.mode).all()


def test_both_ways_to_sum_over_subsets_agree(monkeypatch):
    distribution = Subset(normal(4, 7), 3 * normal(4, 6).requires_grad_())
    values = distribution.sample((20,))
    plain = distribution.log_prob(values)
    gradient = torch.autograd.grad(plain.sum(), distribution.scores)[0]
    monkeypatch.setattr("worldmodel.distributions.subsets.SAFE", 0.0)
    found = distribution.log_prob(values)
    close(found, plain)
    close(torch.autograd.grad(found.sum(), distribution.scores)[0], gradient)
