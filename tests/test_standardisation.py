"""Laws of standardisation: numbers of any scale are seen near zero, and scored as they are."""

import pytest
import torch
from gymnasium import spaces

from worldmodel import decoder_for, encoder_for, head_for, model_for
from worldmodel.codecs import (
    BivariateMixtureHead,
    FlatEncoder,
    FrameHead,
    NormalHead,
    Standardisation,
)
from worldmodel.files import DamagedError

SCALES = torch.tensor([1e-3, 1.0, 5e4]).double()
PLACES = torch.tensor([7.0, -2.0, 1e5]).double()


def numbers(n=500, seed=0):
    """Numbers of three scales, float64 [n, 3]."""
    torch.manual_seed(seed)
    return PLACES + SCALES * torch.randn(n, 3).double()


def close(found, expected, atol=1e-9):
    torch.testing.assert_close(found, expected, rtol=0, atol=atol)


def test_encodings_of_the_data_have_mean_zero_and_deviation_one():
    encoder, values = FlatEncoder((3, 1)).double(), numbers()[..., None]
    assert torch.equal(encoder(values), values.flatten(1))  # at first nothing is changed
    encoder.standardise(values.numpy())
    found = encoder(values)
    close(found.mean(0), torch.zeros(3).double())
    close(found.std(0, correction=0), torch.ones(3).double())
    again = FlatEncoder((3, 1)).double()
    again.load_state_dict(encoder.state_dict())
    assert torch.equal(again(values), found)


@pytest.mark.parametrize(
    "name", ["normal", "student-t", "full-normal", "low-rank-normal", "mixture"]
)
def test_a_standardised_density_is_that_of_the_raw_value(name):
    """Change of variables: log p(x) = log q((x - shift) / scale) - sum of log scale."""
    torch.manual_seed(0)
    head = head_for(name, spaces.Box(-float("inf"), float("inf"), (3,)), 4).double()
    features, values = torch.randn(6, 4).double(), numbers(6)
    before = head(features)
    head.standardise(numbers())
    shift, scale = numbers().mean(0), numbers().std(0, correction=0)
    expected = before.log_prob((values - shift) / scale) - scale.log().sum()
    torch.testing.assert_close(head(features).log_prob(values), expected, rtol=1e-9, atol=0)
    close(head(features).mean, shift + scale * before.mean, 1e-6)
    drawn = head(features[0]).sample((20000,))
    error = drawn.std(0) / 20000**0.5
    assert ((drawn.mean(0) - head(features[0]).mean).abs() <= 4 * error).all()


@pytest.mark.parametrize(
    "make", [lambda: FrameHead(4, 3, 2, 4, (1,)), lambda: BivariateMixtureHead(4, 3)]
)
def test_what_is_drawn_part_by_part_is_standardised_too(make):
    torch.manual_seed(0)
    head = make().double()
    for parameter in head.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    n = len(head.placeholder)
    features, values, data = torch.randn(6, 4).double(), numbers(6)[:, -n:], numbers()[:, -n:]
    shift, scale = data.mean(0), data.std(0, correction=0)
    expected = head(features).log_prob((values - shift) / scale) - scale.log().sum()
    torch.manual_seed(1)
    plain = head(features).sample((1000,))
    head.standardise(data)
    torch.testing.assert_close(head(features).log_prob(values), expected, rtol=1e-9, atol=0)
    torch.manual_seed(1)
    drawn = head(features).sample((1000,))
    torch.testing.assert_close(drawn, shift + scale * plain, rtol=1e-9, atol=0)


def test_a_constant_number_is_shifted_and_keeps_its_scale():
    values = torch.stack([torch.full((9,), 1e6), torch.arange(9.0)], -1)
    encoder = FlatEncoder((2,))
    encoder.standardise(values)
    assert encoder.standard.scale[0] == 1
    assert (encoder(values)[:, 0] == 0).all()
    close(encoder(values + 3.0)[:, 0], torch.full((9,), 3.0))


def test_whole_trees_are_standardised_part_by_part():
    space = spaces.Dict(
        symbol=spaces.Discrete(3),
        bits=spaces.MultiBinary(2),
        numbers=spaces.Box(-float("inf"), float("inf"), (3,)),
    )
    torch.manual_seed(0)
    values = {
        "symbol": torch.randint(3, (500,)),
        "bits": torch.rand(500, 2) < 0.01,
        "numbers": numbers(),
    }
    encoder, decoder = encoder_for(space).double(), decoder_for(space, 4).double()
    features = torch.randn(500, 4).double()
    before, scored = encoder(values), decoder(features).log_probs(values)
    encoder.standardise(values)
    decoder.standardise(values)
    found = encoder(values).std(0, correction=0)
    unchanged = before.std(0, correction=0)
    close(found.sort().values[-3:], torch.ones(3).double())
    assert (unchanged > 10).any()
    now = decoder(features).log_probs(values)
    for key in values:
        assert torch.equal(now[key], scored[key]) == (key != "numbers")


def test_a_models_percepts_are_standardised_rewards_and_all():
    space, actions = spaces.Box(-float("inf"), float("inf"), (3,)), spaces.Discrete(2)
    torch.manual_seed(0)
    model = model_for(space, actions, "rnn", 8).double()
    rewards = 1e3 * torch.randn(500).double() - 4e3
    percepts = {"observation": numbers(), "reward": rewards}
    model.percepts.standardise(percepts)
    first = torch.arange(500) < 100
    encoding = model.percepts.encoder((percepts | {"terminated": first}, first))
    close(encoding[:, :3].std(0, correction=0), torch.ones(3).double())
    assert (encoding[:100, 3:] == 0).all()  # void on first rows, whatever the scale
    close(encoding[100:, 3], ((rewards - rewards.mean()) / rewards.std(correction=0))[100:])
    close(model.percepts.decoder.encoder(numbers()), encoding[:, :3])
    features = torch.randn(500, model.core.feature_size).double()
    drawn = model.percepts.decoder(features).sample()
    assert 500 < (drawn["reward"] + 4e3).abs().mean() < 2000
    close((drawn["observation"].mean(0) - PLACES).abs() / SCALES, torch.zeros(3).double(), 1.0)


def test_data_of_another_shape_are_refused():
    with pytest.raises(ValueError, match=r"values of shape \(3,\), got an array of shape \(5, 2"):
        FlatEncoder((3,)).standardise(torch.zeros(5, 2))
    with pytest.raises(ValueError, match="expects one or more values"):
        NormalHead(4).standardise(torch.zeros(0))


@pytest.mark.parametrize("scale", [0.0, -1.0, float("nan"), float("inf")])
def test_weights_whose_scales_nothing_can_be_divided_by_are_refused(scale):
    inside = torch.nn.Sequential(Standardisation((2,)))
    weights = inside.state_dict()
    weights["0.scale"] = torch.tensor([1.0, scale])
    with pytest.raises(DamagedError, match="a scale of numbers is not positive"):
        inside.load_state_dict(weights)
