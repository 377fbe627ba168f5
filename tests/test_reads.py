"""Laws of what agents read of a world model's state, in its dreams and in reality."""

import copy

import numpy as np
import pytest
import torch
from gymnasium.utils.env_checker import check_env
from stable_baselines3.common.env_checker import check_env as check_env_sb3

from worldmodel import (
    CORES,
    BeliefAgent,
    Dream,
    GenCore,
    Greedy,
    Memoryless,
    NullAgent,
    Row,
    encoder_for,
    model_for,
)
from worldmodel.agents import Human, Uniform
from worldmodel.codecs import OneHotHead
from worldmodel.envs import BeliefWrapper, DreamEnv, ToyGame
from worldmodel.noise import OwnNoise

game = ToyGame(width=4, classes=3)
SPACES = (game.observation_space, game.action_space)
KINDS = [(True, False), (False, False), (False, True), (True, True)]  # feedback, separate
every_kind = pytest.mark.parametrize(("feedback", "separate"), KINDS)


def make_model(feedback=True, separate=False, core="vrnn"):
    options = {"feedback": feedback, "separate": separate}
    with OwnNoise(0)():
        return model_for(*SPACES, core, 8, [-1.0, 0.5], **options).requires_grad_(False)


def reader(model, reads):
    size = model.core.feature_size if reads == "features" else model.belief_size
    return BeliefAgent(model, OneHotHead(size, 5).requires_grad_(False), reads)


@every_kind
def test_who_reads_features_reads_those_that_rows_are_drawn_from(feedback, separate):
    model = make_model(feedback, separate)
    assert model.reads_observations == ((feedback, separate) != (False, True))
    for draws in {True, model.reads_observations}:
        dream = Dream(model, 6, *SPACES, draw_observations=draws)
        core = GenCore(dream, reader(model, "features"))
        state = core.initial_state(3)
        for _ in range(20):
            (row, thought), state = core.step(state)
            assert torch.equal(thought, model.core.features(state.world.model.core))
            assert state.mind is state.world.model
            assert row.observation.shape[1:] == dream.observation_space.shape
            assert (row.reward[row.first] == 0).all()
            assert not row.terminated[row.first].any()


@every_kind
def test_observations_that_somebody_reads_are_drawn(feedback, separate):
    model = make_model(feedback, separate)
    if model.reads_observations:
        with pytest.raises(ValueError, match="draw_observations=True"):
            Dream(model, 6, *SPACES, draw_observations=False)
    else:
        dream = Dream(model, 6, *SPACES, draw_observations=False)
        with pytest.raises(ValueError, match="draw_observations=True"):
            DreamEnv(dream, "belief")


def test_a_dream_without_observations_is_as_cold_as_it_is_told():
    """At next to no temperature, reward and end are the most probable ones."""
    model = make_model(False, True)
    dream = Dream(model, 50, *SPACES, temperature=1e-6, draw_observations=False)
    state = dream.initial_state(9)
    for t in range(10):
        row, state = dream.step(torch.eye(5)[torch.full((9,), t % 5)], state)
        mode = model.percepts.predict(model.core.features(state.model.core)).alone().mode
        assert torch.equal(row.reward, torch.where(row.first, 0.0, mode["reward"]))
        assert torch.equal(row.terminated, mode["terminated"].bool() & ~row.first)


def test_what_is_left_out_changes_no_probability():
    """Without feedback and with separate heads: reward and end as the whole decoder has them."""
    model = make_model(False, True)
    features = torch.randn(7, model.core.feature_size)
    value = {
        "observation": torch.arange(7) % 3,
        "reward": torch.tensor([-1.0, 0.5, -1, -1, -1, 0.5, -1]),
    }
    value["terminated"] = torch.arange(7) % 2 == 0
    whole = model.percepts.predict(features).log_probs(value)
    alone = model.percepts.predict(features).alone().log_probs(value)
    assert alone.keys() == {"reward", "terminated"}
    for key, log_prob in alone.items():
        assert torch.equal(log_prob, whole[key])


def test_separate_heads_do_not_see_the_observation():
    decoder = make_model(False, True).percepts.decoder
    features = torch.randn(5, decoder.body.in_features)
    config = {"reward": torch.full((5,), 0.5), "terminated": torch.ones(5, dtype=torch.bool)}
    seen = [
        decoder(features).log_probs(config | {"observation": torch.full((5,), o)}) for o in (0, 1)
    ]
    for key in config:
        assert torch.equal(seen[0][key], seen[1][key])
    assert not torch.equal(seen[0]["observation"], seen[1]["observation"])


def test_a_memoryless_agent_thinks_what_it_sees():
    dream = Dream(make_model(), 6, *SPACES)
    encoder = encoder_for(dream.observation_space)
    agent = Memoryless(encoder, OneHotHead(encoder.size, 5))
    core = GenCore(dream, agent)
    with torch.no_grad():
        sequences, thoughts, state = core.generate(9, core.initial_state(4))
    assert torch.equal(thoughts, encoder(sequences.rows.observation))
    assert state.mind == ()
    assert agent.policy(thoughts).logits.shape == (9, 4, 5)


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("draws", [True, False])
def test_a_dream_of_features_is_an_environment(draws):
    dream = Dream(make_model(False, True), 6, *SPACES, draw_observations=draws)
    env = DreamEnv(dream, "features")
    check_env(env, skip_render_check=True)
    check_env_sb3(env)


@every_kind
def test_reality_shows_the_filters_features(feedback, separate):
    dream = Dream(make_model(feedback, separate), 6, *SPACES)
    env = BeliefWrapper(ToyGame(), dream.model, reads="features")
    assert env.observation_space == DreamEnv(dream, "features").observation_space
    shown, _ = env.reset(seed=3)
    real = ToyGame()
    observation, _ = real.reset(seed=3)
    noise = OwnNoise(int(np.random.SeedSequence(3).generate_state(1)[0]))
    mind, action, reward, terminated = dream.model.initial_state(1), None, 0.0, False
    for t in range(6):
        code = torch.zeros(1, 5) if action is None else torch.eye(5)[action][None]
        config = torch.tensor([observation]), torch.tensor([reward]), torch.tensor([terminated])
        with noise():
            mind = dream.model.observe(Row(torch.tensor([t == 0]), code, *config), mind)
        assert np.array_equal(shown, dream.model.core.features(mind.core)[0].numpy())
        action = t % 5
        shown, *_ = env.step(action)
        observation, reward, terminated, *_ = real.step(action)


@pytest.mark.parametrize("core", CORES)
def test_a_belief_read_off_a_dream_is_what_the_agent_would_think(core):
    """Where no latent enters it; what a latent enters is not shared."""
    model = make_model(core=core)
    dream, agent = Dream(model, 6, *SPACES), reader(model, "belief")
    state, mind = dream.initial_state(9), agent.initial_state(9)
    for t in range(15):
        row, state = dream.step(torch.eye(5)[torch.full((9,), t % 5)], state)
        thought, mind = agent.step(row, mind)
        shared = dream.shared(state, agent)
        assert (shared is not None) == model.core.belief_of_rows
        if shared is not None:
            torch.testing.assert_close(agent.step(row, mind, shared)[0], thought)


@pytest.mark.parametrize("reads", ["belief", "features"])
def test_a_dream_shares_its_state_with_agents_of_its_own_model_alone(reads):
    model = make_model(core="rnn")
    dream = Dream(model, 6, *SPACES)
    state = dream.initial_state(2)
    agent = reader(model, reads)
    for own in (agent, Greedy(agent), Human(agent, game.action_space)):
        assert dream.shared(state, own) is state.model
    for other in (
        reader(copy.deepcopy(model), reads),
        NullAgent(),
        Uniform(game.action_space),
        Greedy(Uniform(game.action_space)),
    ):
        assert dream.shared(state, other) is None


def test_what_cannot_be_read_is_refused():
    with pytest.raises(ValueError, match="got reads='all'"):
        BeliefAgent(make_model(), OneHotHead(8, 5), "all")
