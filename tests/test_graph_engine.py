"""Laws of functions that onnxruntime computes: what torch gives, from the same noise."""

import pickle

import numpy as np
import pytest
import torch
from gymnasium import spaces

from worldmodel import CORES, BeliefAgent, Dream, GenCore, Row, action_codec, model_for, nested
from worldmodel.agents import Policy, WorldModelAgent
from worldmodel.agents.components import silent
from worldmodel.agents.graph_agent import GraphAgent
from worldmodel.noise import Noise, NoiseStream, OwnNoise

pytest.importorskip("onnx", reason="needs worldmodel-gym[onnx]")
pytest.importorskip("onnxruntime", reason="needs worldmodel-gym[onnx]")

from worldmodel.graphs import engine
from worldmodel.graphs.engine import GraphFunction, check_onnxruntime

PARTS = spaces.Dict(
    arm=spaces.Box(-np.inf, np.inf, (3,), np.float32),
    light=spaces.Discrete(3),
    key=spaces.MultiBinary(2),
)
STEER = spaces.Discrete(3)
MIXED = {"head": {"arm": ("mixed", {"atoms": [[], [0.0, 1.0], [0.5]]})}}


def dreams(core="rnn", **options):
    with OwnNoise(0)():
        model = model_for(PARTS, STEER, core, 6, **options).eval()
        policy = Policy(model.belief_size, action_codec(STEER), 6)
    return GenCore(Dream(model, 4, PARTS, STEER), BeliefAgent(model, policy))


def parts(core):
    """The modules that a GenCore of a dream reads, and the one that learns."""
    return [core.environment.model, core.agent.head], core.agent.head


def with_noise(function, args):
    """A function's result by torch, of the noise that a graph would draw next."""
    with OwnNoise(5)(), NoiseStream() as stream:
        function(*args)
    normal, uniform = map(len, stream.taken)
    noise = [draw(n) for draw, n in ((torch.randn, normal), (torch.rand, uniform)) if n]
    given = Noise(noise.pop(0) if normal else torch.zeros(0), *(noise or [torch.zeros(0)]))
    with NoiseStream(given):
        return function(*args)


def assert_same(found, expected):
    def same(a, b):
        assert a.dtype == b.dtype
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)

    nested.map(same, found, expected)


@torch.no_grad()
@pytest.mark.parametrize("copies", [1, 5])
@pytest.mark.parametrize("core", CORES)
def test_a_dream_is_that_of_torch_under_the_same_noise(core, copies):
    """Whole steps, over ends and restarts: rows, thoughts, states and the next actions."""
    gen_core, said = dreams(core, **MIXED, reward_support=[0.0, 1.0]), []
    reads, learning = parts(gen_core)
    graph = GraphFunction(gen_core.step, said.append, reads, learning)
    state = gen_core.initial_state(copies)
    firsts = 0
    for seed in range(8):
        with OwnNoise(seed)():
            found = graph(state)
        with OwnNoise(seed)():
            assert_same(found, with_noise(gen_core.step, (state,)))
        (row, _), state = found
        firsts += int(row.first.sum())
    assert firsts > copies
    assert said == []


@torch.no_grad()
@pytest.mark.parametrize("core", CORES)
def test_an_agent_takes_in_rows_as_torch_does(core):
    gen_core, said = dreams(core), []
    (row, _), state = gen_core.step(gen_core.initial_state(2))
    agent = GraphAgent(
        gen_core.agent, said.append, lambda step, say: GraphFunction(step, say, parts(gen_core)[0])
    )
    mind = agent.initial_state(2)
    for seed in range(3):
        with OwnNoise(seed)():
            found = agent.step(row, mind)
        with OwnNoise(seed)():
            assert_same(found, with_noise(gen_core.agent.step, (row, mind)))
        mind = found[1]
        (row, _), state = gen_core.step(state)
    shared = agent.step(row, mind, state.world.model)
    assert_same(shared, gen_core.agent.step(row, mind, state.world.model))
    assert said == []


@torch.no_grad()
def test_graphs_follow_the_weights_and_are_written_anew_for_those_that_are_constants(monkeypatch):
    gen_core, written = dreams(), []
    reads, learning = parts(gen_core)
    graph = GraphFunction(gen_core.step, pytest.fail, reads, learning)
    made = engine.graph_of
    monkeypatch.setattr(engine, "graph_of", lambda *a, **b: written.append(1) or made(*a, **b))
    state = gen_core.initial_state(3)

    def assert_follows(expected):
        with OwnNoise(1)():
            found = graph(state)
        with OwnNoise(1)():
            assert_same(found, with_noise(gen_core.step, (state,)))
        assert len(written) == expected

    assert_follows(1)
    for parameter in learning.parameters():
        parameter.mul_(1.5)  # as a step of an optimizer, which this one takes between two calls
    assert_follows(1)
    for parameter in gen_core.environment.model.parameters():
        parameter.mul_(1.5)
    assert_follows(2)
    gen_core.environment.model.percepts.decoder.terminated.meet([True])  # a buffer
    assert_follows(3)
    assert_follows(3)
    state = gen_core.initial_state(2)
    assert_follows(4)


def test_gradients_are_those_of_torch():
    weight = torch.ones(3, requires_grad=True)
    graph = GraphFunction(lambda x: x * weight, pytest.fail, [])
    graph(torch.ones(3)).sum().backward()
    assert torch.equal(weight.grad, torch.ones(3))


@torch.no_grad()
def test_what_cannot_be_written_is_computed_by_torch_and_said_once():
    said = []

    def double(x):
        return x * 2 if x.sum().item() > 0 else x

    graph = GraphFunction(double, said.append, [])
    for _ in range(3):
        assert torch.equal(graph(torch.ones(2)), torch.full((2,), 2.0))
    assert len(said) == 1
    assert "double is computed by torch, not by onnxruntime" in said[0]


@torch.no_grad()
def test_parts_of_size_zero_are_what_they_were():
    def parted(x):
        return {"nothing": x["a"][:0], "some": (x["b"] + 1, x["a"] + 1)}

    graph = GraphFunction(parted, pytest.fail, [])
    found = graph({"a": torch.ones(2), "b": torch.zeros(0)})
    assert found["nothing"].shape == found["some"][0].shape == (0,)
    assert torch.equal(found["some"][1], torch.full((2,), 2.0))


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setattr(engine, "find_spec", lambda name: None if name == "onnxruntime" else name)
    with pytest.raises(ValueError, match=r"there is no onnxruntime.*worldmodel-gym\[onnx\]"):
        check_onnxruntime()
    with pytest.raises(ValueError, match="there is no onnxruntime"):
        WorldModelAgent("CartPole-v1", engine="onnxruntime")
    said = []
    with torch.no_grad():
        assert GraphFunction(torch.neg, said.append, [])(torch.ones(1)) == -1
    assert len(said) == 1


SMALL = {
    "first_updates": 3,
    "first_rollouts": 3,
    "prefill": 40,
    "collect_steps": 20,
    "hidden_size": 8,
    "policy_hidden": 8,
    "batch_size": 4,
    "num_imagined": 6,
    "rollout_length": 5,
    "weight_decay": 0.0,
}


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"method": "all-actions"},
        {"agent": "planning", "plans": 4, "plan_length": 2},
        {"agent": "sb3:PPO"},
    ],
    ids=str,
)
def test_an_agent_learns_and_acts_by_graphs_and_goes_on_to_the_last_bit(tmp_path, options):
    """The same seeds give the same weights, also after an agent was saved and loaded."""

    def weights(agent):
        return [p.clone() for m in agent.components.modules.values() for p in m.parameters()]

    def made():
        return WorldModelAgent("CartPole-v1", seed=0, engine="onnxruntime", **SMALL, **options)

    whole = made()
    whole.learn(40)
    whole.learn(40)
    parted = made()
    parted.learn(40)
    parted.save(tmp_path / "agent")
    parted = WorldModelAgent.load(tmp_path / "agent", env="CartPole-v1")
    assert isinstance(parted.policy, GraphAgent)
    parted.learn(40)
    assert all(map(torch.equal, weights(parted), weights(whole)))


def test_an_agent_is_evaluated_and_acts_by_graphs_also_in_another_process():
    agent = WorldModelAgent("CartPole-v1", seed=0, engine="onnxruntime", **SMALL)
    agent.learn(40)
    assert isinstance(agent.policy, GraphAgent)
    assert agent.evaluate(episodes=2).returns.mean() > 0
    action, _ = agent.predict(np.zeros(4, np.float32), deterministic=True)
    assert action in spaces.Discrete(2)
    agent.components.say = silent  # who trains says more, and stays
    vars(agent.components).pop("player")
    parts = agent.components
    first = parts.player.initial_state(1)
    row = Row(
        torch.ones(1, dtype=torch.bool),
        torch.zeros(1, 2),
        torch.zeros(1, 4),
        torch.zeros(1),
        torch.zeros(1, dtype=torch.bool),
    )
    with torch.no_grad():
        expected = parts.player.step(row, first)
        sent = pickle.loads(pickle.dumps(parts.player))  # with its graphs written
        assert_same(sent.step(row, first), expected)
