"""Laws of recurrences that show what they hear, and of decoders that begin with it."""

import numpy as np
import pytest
import torch
from cores import random_rows
from gymnasium import spaces
from torch import nn

from worldmodel import CORES, Sequences, model_for, nested
from worldmodel.codecs import NormalHead
from worldmodel.recurrences import RECURRENCES, SkipGRU, recurrence

NESTED = spaces.Dict(
    {
        "arms": spaces.Tuple([spaces.MultiBinary(2), spaces.Box(-np.inf, np.inf, (3,))]),
        "lamp": spaces.Discrete(3),
        "speed": spaces.Box(-np.inf, np.inf, (2, 2)),
    }
)
BUTTONS = spaces.Discrete(2)


@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("kind", RECURRENCES)
def test_steps_one_by_one_are_all_at_once(kind, layers):
    torch.manual_seed(0)
    made = recurrence(kind, 3, 4, layers).double()
    inputs = torch.randn(5, 2, 3).double()
    before = state = torch.randn(2, made.state_size).double()
    states = []
    for row in inputs:
        state = made.step(row, state)
        states.append(state)
    torch.testing.assert_close(made(inputs, before), torch.stack(states), rtol=0, atol=1e-12)
    assert made.output(state).shape == (2, made.output_size)


def test_a_skip_gru_is_torchs_gru_beside_its_input():
    torch.manual_seed(0)
    made = SkipGRU(3, 4).double()
    gru = nn.GRU(3, 4).double()
    gru.load_state_dict(dict(zip(gru.state_dict(), made.memory.weights, strict=True)))
    inputs, state = torch.randn(5, 2, 3).double(), torch.randn(2, 7).double()
    found = made.output(made(inputs, state))
    expected = torch.cat([gru(inputs, state[None, :, :4].contiguous())[0], inputs], -1)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)


def test_the_way_back_of_a_skip_gru_is_that_of_finite_differences():
    torch.manual_seed(0)
    made = SkipGRU(2, 3).double()
    inputs = torch.randn(4, 2, 2).double().requires_grad_()
    state = torch.randn(2, 5).double().requires_grad_()
    assert torch.autograd.gradcheck(made, (inputs, state))
    assert torch.autograd.gradcheck(made.step, (inputs[0], state))
    shown = torch.autograd.grad(made(inputs, state).sum(), state)[0][:, 3:]
    assert (shown == 0).all()  # what was heard before is remembered by the GRU alone


# Decoders.


def make_model(core, history=1, recurrence="skip-gru", **options):
    torch.manual_seed(0)
    if core != "rnn":
        options["latent"] = 8
    model = model_for(
        NESTED,
        BUTTONS,
        core,
        hidden=4,
        history=history,
        recurrence=recurrence,
        decoder_hidden=24,
        **options,
    )
    return model.double()


def make_rows(time=6, batch=50):
    """Rows [T, B, ...] whose numbers have means and scales of their own."""
    torch.manual_seed(1)
    binary, symbols = torch.randint(2, (time, batch, 2)), torch.randint(3, (time, batch))
    arms = -0.003 + 0.001 * torch.randn(time, batch, 3).double()
    speed = 100 + 20 * torch.randn(time, batch, 2, 2).double()
    observation = {"arms": (binary, arms), "lamp": symbols, "speed": speed}
    return random_rows(time, batch)._replace(observation=observation)


def standardise(model, rows):
    """With numbers of all rows, as a run does."""
    shown = nested.map(lambda leaf: leaf.flatten(0, 1).numpy(), rows.observation)
    rewards = rows.reward[1:].flatten().numpy()
    first = rows.first.flatten().numpy()
    model.percepts.standardise({"observation": shown, "reward": rewards, "first": first})


def means(model, rows):
    """What the decoder expects of each row's numbers, [T, B, 3] and [T, B, 2, 2]."""
    with torch.no_grad():
        states = model.infer(Sequences.whole(rows))[0].states
        parts = model.percepts.predict(model.core.features(states)).observation.parts
    return parts["arms"].parts[1].mean, parts["speed"].mean


@pytest.mark.parametrize("history", [1, 3])
@pytest.mark.parametrize("core", [name for name in CORES if name != "vae"])
def test_numbers_are_first_expected_to_be_nearly_what_they_were(core, history):
    """After `standardise`, and in whatever nest of other parts they stand."""
    model, rows = make_model(core, history), make_rows()
    standardise(model, rows)
    shown = rows.observation["arms"][1], rows.observation["speed"]
    for expected, before in zip(means(model, rows), shown, strict=True):
        scale = before.flatten(0, 1).std(0)
        off = ((expected[1:] - before[:-1]) / scale).square().mean(1).sqrt()  # [T - 1, ...]
        assert off.max() < 0.25
        change = ((before[1:] - before[:-1]) / scale).square().mean(1).sqrt()
        assert change.min() > 1
        typical = (expected[0] - before.flatten(0, 1).mean(0)) / scale  # before it saw anything
        assert typical.abs().max() < 0.5


@pytest.mark.parametrize("core", [name for name in CORES if name != "vae"])
def test_rewards_read_changes_in_units_of_the_usual_one(core):
    """Of rows within an episode, at whatever distance of each other episodes begin; and nothing
    else of the observation before."""
    model, rows = make_model(core, 2), make_rows(time=40)
    drift = 0.01 * torch.randn(40, 50, 2, 2).double().cumsum(0)
    begin = 100 + 20 * torch.randn(1, 50, 2, 2).double()
    rows = rows._replace(observation={**rows.observation, "speed": begin + drift})
    episodes = nested.map(lambda leaf: leaf.transpose(0, 1), rows)
    standardise(model, episodes)
    decoder = model.percepts.decoder
    changes = decoder.encoder(rows.observation).diff(dim=0)
    found = decoder.change(changes).flatten(0, 1)
    torch.testing.assert_close(found.std(0), torch.ones(12).double(), rtol=0.001, atol=0)

    read = []
    decoder.changed.register_forward_hook(lambda _, inputs, output: read.append(inputs[0]))
    with torch.no_grad():
        states = model.infer(Sequences.whole(rows))[0].states
        prediction = model.percepts.predict(model.core.features(states))
        prediction.consequences(rows.observation)
    torch.testing.assert_close(read[0][1:].sinh(), decoder.change(changes))


@pytest.mark.parametrize("options", [{"recurrence": "gru"}, {"feedback": False}])
def test_without_hearing_the_past_nothing_begins_with_it(options):
    model, rows = make_model("rnn", **options), make_rows()
    standardise(model, rows)
    expected, before = means(model, rows)[1], rows.observation["speed"]
    assert ((expected[1:] - before[:-1]) / 20).square().mean().sqrt() > 0.9


def test_a_head_of_ones_own_is_left_as_it_is():
    """Also if it is a Gaussian whose encoder is another than the usual."""
    head = NormalHead(24 + 4 + 2 + 5 + 2, (3,))
    weight = head.parameters_.weight.detach().clone()
    space = spaces.Dict(code=spaces.MultiDiscrete([2, 2, 1]))
    model_for(space, BUTTONS, "rnn", 4, head={"code": head}, recurrence="skip-gru")
    assert torch.equal(head.parameters_.weight, weight)


def test_a_decoders_size_is_its_own():
    small, large = (make_model("rnn"), make_model("rnn"))
    wide = model_for(NESTED, BUTTONS, "rnn", 4, recurrence="skip-gru", decoder_hidden=7)
    assert [p.shape for p in wide.core.parameters()] == [p.shape for p in small.core.parameters()]
    assert wide.percepts.decoder.terminated.logits.in_features == 7
    assert large.percepts.decoder.terminated.logits.in_features == 24
    plain = model_for(NESTED, BUTTONS, "rnn", 4)
    assert plain.percepts.decoder.terminated.logits.in_features == 4


def test_numbers_are_never_known_better_than_the_least_deviation():
    model, rows = make_model("rnn", minimum_std=0.05), make_rows()
    standardise(model, rows)
    heads = [
        module for module in model.percepts.decoder.modules() if isinstance(module, NormalHead)
    ]
    assert len(heads) == 3  # arms, speed, reward
    for head in heads:
        with torch.no_grad():
            head.parameters_.bias.fill_(-1e6)  # as sure as it gets
        density = head(torch.zeros(head.parameters_.in_features).double())
        torch.testing.assert_close(density.stddev, 0.05 * head.standard.scale)
