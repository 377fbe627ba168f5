"""The core of docs/adding-a-core.md is one: it obeys the laws, learns, dreams, and is exact."""

import inspect
import re
import sys
import types
from functools import partial
from pathlib import Path

import cores
import pytest
import test_laws
import torch
from gymnasium import spaces

import worldmodel
from worldmodel import BOUNDS, ELBO, Dream, GenCore, Trainer, model_for
from worldmodel.agents import Uniform
from worldmodel.testing.exact import Chain, ChainPosterior, as_sequences, set_decoder

PAGE = (Path(__file__).parents[1] / "docs" / "adding-a-core.md").read_text()
CODE = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)[0]

LAWS = [
    partial(test_laws.test_a_core_gives_back_the_structure_of_its_state, time=4, batch=3),
    partial(test_laws.test_dream_follows_the_model, feedback=True, history=1),
    partial(test_laws.test_dream_follows_the_model, feedback=False, history=1),
    partial(
        test_laws.test_thoughts_row_by_row_equal_beliefs_all_at_once, feedback=True, history=2
    ),
    partial(test_laws.test_states_row_by_row_equal_states_all_at_once, feedback=True, history=1),
    partial(
        test_laws.test_two_chunks_with_a_carried_state_equal_one,
        feedback=True,
        history=1,
        particles=2,
    ),
    partial(test_laws.test_particles_equal_separate_runs, feedback=True, history=1),
    test_laws.test_fused_inference_equals_the_loop_over_explain,
    test_laws.test_closed_and_sampled_divergences_agree,
    test_laws.test_bounds_rise_with_particles_towards_the_likelihood,
    partial(test_laws.test_entries_by_key_add_up_to_the_bound, particles=4),
]


@pytest.fixture
def linear(monkeypatch):
    """The class that the page defines, in all lists, for one test."""
    module = types.ModuleType("linear_of_the_page")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    exec(CODE, vars(module))
    monkeypatch.setitem(cores.CORES, "linear", partial(module.Linear, hidden=2))
    monkeypatch.setitem(worldmodel.CORES, "linear", module.Linear)
    for name in ("FILTERING", "LATENT"):
        monkeypatch.setattr(test_laws, name, [*getattr(cores, name), "linear"])
    return module.Linear


@pytest.mark.parametrize("law", LAWS, ids=lambda law: getattr(law, "func", law).__name__)
def test_the_core_of_the_page_obeys(law, linear):
    law(name="linear")


def test_it_is_short_and_complete(linear):
    body = CODE.split('"""', 2)[2]
    assert len([line for line in body.splitlines() if line.strip()]) <= 50
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
    model = worldmodel.WorldModel(encoder, core, decoder, action_size=0).double()
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
