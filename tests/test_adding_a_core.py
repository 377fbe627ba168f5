"""The core of docs/adding-a-core.md is one: it obeys the laws, learns, dreams, and is exact."""

import inspect
import re
import sys
import types
from pathlib import Path

import cores
import pytest
import torch
from gymnasium import spaces

import worldmodel
from worldmodel import BOUNDS, CORES, ELBO, Dream, GenCore, Trainer, model_for
from worldmodel.agents import Uniform
from worldmodel.testing.exact import Chain, ChainPosterior, as_sequences, set_decoder

PAGE = (Path(__file__).parents[1] / "docs" / "adding-a-core.md").read_text()
CODE, CHECK = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)


@pytest.fixture
def linear(monkeypatch):
    """The class that the page defines and registers, for one test."""
    module = types.ModuleType("linear")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    exec(CODE, vars(module))
    yield module.Linear
    assert CORES.pop("linear") is module.Linear


def test_the_core_of_the_page_obeys_the_laws(linear):
    exec(CHECK, {})


def test_it_is_short_and_complete(linear):
    body = CODE.split('"""', 2)[2]
    assert len([line for line in body.splitlines() if line.strip()]) <= 51
    assert not inspect.isabstract(linear)


def test_it_learns_and_dreams(linear):
    torch.manual_seed(0)
    observations, actions = spaces.Discrete(3), spaces.Discrete(2)
    model = model_for(observations, actions, "linear", hidden=8, reward_support=[0.0])
    rows = cores.random_rows(6, 32, observations, rewards=(0.0,))
    rows = rows._replace(action=rows.action.float(), reward=rows.reward.float())
    rows = rows._replace(observation=(rows.first.long().cumsum(0) + torch.arange(6)[:, None]) % 3)
    trainer = Trainer(ELBO(model), model.parameters(), learning_rate=0.02)
    batch = [worldmodel.Sequences.whole(rows)]
    losses = [trainer.update(batch)["loss"] for _ in range(120)]
    assert losses[-1] < 0.6 * losses[0]
    world = GenCore(Dream(model, 5, observations, actions), Uniform(actions))
    dreamt, _, _ = world.generate(12, world.initial_state(4))
    assert dreamt.rows.first[0].all()
    assert dreamt.rows.observation.unique().tolist() == [0, 1, 2]


def test_set_to_a_chain_its_bound_loses_what_theory_says(linear):
    """A chain that begins at zero, as its states do: z_1 ~ N(0, Q)."""
    torch.manual_seed(0)
    chain = Chain.random()
    chain = chain._replace(start=chain.noise)
    space = spaces.Box(-float("inf"), float("inf"), (2,))
    encoder = worldmodel.PerceptEncoder(worldmodel.encoder_for(space), rewards=False)
    head = worldmodel.decoder_for(space, 4)
    decoder = worldmodel.ObservationDecoder(2, 4, head)
    core = linear(2, 2, hidden=2)
    percepts = worldmodel.Percepts(encoder, decoder)
    model = worldmodel.WorldModel(percepts, core, action_size=0).double()
    posterior = ChainPosterior.of(chain, smoothing=False)
    with torch.no_grad():
        [parameter.zero_() for parameter in model.parameters()]
        core.transition.weight.copy_(chain.transition)
        core.information.weight.copy_(posterior.reading.information)
        core.raw_std.copy_(chain.noise.sqrt().expm1().log())
        core.raw_precision.copy_(posterior.reading.precision.diag().expm1().log())
        set_decoder(decoder, chain.emission, chain.observation_noise)
        observations = chain.sample(15, 3_000)[1]
        found = BOUNDS["elbo"](model, as_sequences(observations), 1)["observation"].sum(0)
    lost = chain.log_prob(observations).sum(0) - found
    error = lost.std() / len(lost) ** 0.5
    assert abs(lost.mean() - posterior.gap(chain, 15)) < 4 * error
    assert error < 0.1
