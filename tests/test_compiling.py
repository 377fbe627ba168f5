"""Laws of compiled steps: what the plain ones give, from the same noise."""

import numpy as np
import pytest
import torch
from gymnasium import spaces
from test_control import planned

from worldmodel import BeliefAgent, Dream, GenCore, action_codec, model_for, nested
from worldmodel.agents import Policy
from worldmodel.compiling import ATTEMPTS, compiled
from worldmodel.noise import OwnNoise

PARTS = spaces.Dict(
    arm=spaces.Box(-np.inf, np.inf, (3,), np.float32),
    light=spaces.Discrete(3),
    key=spaces.MultiBinary(2),
)
CORES = {
    "rnn": {"recurrence": "skip-gru"},
    "rssm": {"latent": 2, "latent_classes": 3},
}
ACTIONS = {"choices": spaces.Discrete(3), "numbers": spaces.Box(-1, 1, (2,))}


def dreams(core="rnn", actions="choices", space=PARTS, **options):
    with OwnNoise(0)():
        model = model_for(space, ACTIONS[actions], core, 5, **options, **CORES[core]).eval()
        policy = Policy(model.belief_size, action_codec(ACTIONS[actions]), 6)
    return GenCore(Dream(model, 4, space, ACTIONS[actions]), BeliefAgent(model, policy))


@torch.no_grad()
def rows_of(gen_core, steps=7):
    torch.manual_seed(1)
    state = gen_core.initial_state(6)
    rows = []
    for _ in range(steps):
        row, state = gen_core.step(state)
        rows.append(row)
    return nested.stack(rows)


def assert_same(found, expected):
    nested.map(
        lambda a, b: torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-5), found, expected
    )


def test_a_dreamt_step_is_one_graph():
    """Of a core with latents, mixed numbers, classes, bits, mixed rewards and ends."""
    mixed = ("mixed", {"atoms": [[], [0.0, 1.0], [0.5]]})
    rewards = {"reward_support": [0.0, 1.0], "open_rewards": True}
    gen_core, said = dreams("rssm", "numbers", head={"arm": mixed}, **rewards), []
    expected = rows_of(gen_core)
    gen_core.step = compiled(gen_core.step, said.append, backend="eager")
    assert_same(rows_of(gen_core), expected)
    assert said == []


def test_compiled_dreams_follow_the_weights():
    gen_core, said = dreams(space=PARTS["light"], reward_support=[0.0, 1.0]), []
    plain = gen_core.step
    expected = rows_of(gen_core)
    gen_core.step = compiled(gen_core.step, said.append, backend="aot_eager")
    assert_same(rows_of(gen_core), expected)
    model = gen_core.environment.model
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(1.5)
    model.percepts.decoder.terminated.meet([True])  # from now on it has no other probability
    found = rows_of(gen_core)
    gen_core.step = plain
    assert_same(found, rows_of(gen_core))
    assert said == []


def test_a_compiler_leaves_the_noise_as_it_was():
    weights = torch.randn(5, 5)

    def step(x):
        return torch.tanh(x @ weights) + torch.rand_like(x) + torch.empty_like(x).exponential_()

    found = []
    for run in (step, compiled(step)):
        torch.manual_seed(3)
        found.append(run(run(torch.ones(4, 5))))
    assert_same(found[1], found[0])


def test_what_cannot_be_compiled_is_run_as_it_is_and_said_once():
    said, calls = [], []

    def double(x):
        calls.append(x)  # is seen by the tracer, and changes nothing outside
        return x * 2 if x.sum().item() > 0 else x

    run = compiled(double, said.append, backend="eager")
    for _ in range(3):
        assert torch.equal(run(torch.ones(2)), torch.full((2,), 2.0))
    assert len(said) == 1
    assert "double" in said[0]


@pytest.mark.parametrize("failures", range(ATTEMPTS + 1))
def test_a_compiler_that_is_killed_is_called_once_more(monkeypatch, failures):
    """As by a Ctrl-C, which reaches it, too."""
    left, said = [OSError("killed")] * failures, []

    def compile_(function, **options):
        def call(x):
            if left:
                raise left.pop()
            return function(x)

        return call

    monkeypatch.setattr(torch, "compile", compile_)
    run = compiled(torch.square, said.append)
    assert run(torch.tensor(3.0)) == 9
    assert bool(said) == (failures == ATTEMPTS)
    assert not left


@pytest.mark.parametrize(
    ("asked", "steps", "more", "expected"),
    [
        ("auto", 5000, None, True),
        ("auto", 600, None, False),
        ("auto", 600, 5000, True),
        ("never", 5000, None, False),
        ("always", 600, None, True),
    ],
)
def test_dreams_are_compiled_where_so_many_are_planned_that_it_pays(asked, steps, more, expected):
    found = []

    class Optimizer:
        def compile(self, say, as_graph=False):
            found.append(not as_graph)

    job = planned(steps, compile_dreams=asked, first_rollouts=100)
    job.components = type("Parts", (), {"rollouts": job.config.policy.rollouts(False)})()
    job.optimizer = Optimizer()
    job._compile()
    if more is not None:
        assert not found
        job.extend(more)
    assert bool(found) == expected
