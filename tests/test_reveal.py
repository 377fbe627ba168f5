"""Laws of dreams that show the generator's features, and of agents that act on them."""

import numpy as np
import pytest
import torch
from gymnasium.utils.env_checker import check_env
from stable_baselines3.common.env_checker import check_env as check_env_sb3

from worldmodel import CORES, Believer, Dream, GenCore, Memoryless, Row, encoder_for, model_for
from worldmodel.codecs import OneHotHead
from worldmodel.envs import BeliefWrapper, DreamEnv, ToyGame
from worldmodel.noise import OwnNoise

game = ToyGame(width=4, classes=3)
KINDS = [(True, False), (False, False), (False, True), (True, True)]  # feedback, separate
every_kind = pytest.mark.parametrize(("feedback", "separate"), KINDS)


def make_dream(feedback, separate, reveal="features"):
    with OwnNoise(0)():
        model = model_for(
            game.observation_space,
            game.action_space,
            "vrnn",
            8,
            [-1.0, 0.5],
            feedback=feedback,
            separate=separate,
        )
    model.requires_grad_(False)
    return Dream(model, 6, game.observation_space, game.action_space, reveal)


@every_kind
def test_rows_show_the_features_they_are_drawn_from(feedback, separate):
    dream = make_dream(feedback, separate)
    state = dream.initial_state(3)
    torch.manual_seed(0)
    for t in range(20):
        row, state = dream.step(torch.eye(5)[torch.full((3,), t % 5)], state)
        assert torch.equal(row.observation, dream.model.core.features(state.model.core))
        assert row.observation.shape[1:] == dream.observation_space.shape
        assert (row.reward[row.first] == 0).all()
        assert not row.terminated[row.first].any()


@pytest.mark.parametrize(("feedback", "separate"), [(True, False), (False, False), (True, True)])
def test_what_is_drawn_whole_is_the_dream_as_it_is(feedback, separate):
    rows = []
    for reveal in ("features", "nothing"):
        dream = make_dream(feedback, separate, reveal)
        state = dream.initial_state(50)
        torch.manual_seed(0)
        for t in range(8):
            row, state = dream.step(torch.eye(5)[torch.full((50,), t % 5)], state)
            rows.append((row.first, row.action, row.reward, row.terminated))
    for one, other in zip(rows[:8], rows[8:], strict=True):
        assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def test_what_is_left_out_changes_no_probability():
    """Without feedback and with separate heads: reward and end as the whole decoder has them."""
    model = make_dream(False, True).model
    features = torch.randn(7, model.core.feature_size)
    value = {
        "observation": torch.arange(7) % 3,
        "reward": torch.tensor([-1.0, 0.5, -1, -1, -1, 0.5, -1]),
    }
    value["terminated"] = torch.arange(7) % 2 == 0
    whole = model.decoder(features).log_probs(value)
    alone = model.decoder.consequences(features).log_probs(value)
    assert alone.keys() == {"reward", "terminated"}
    for key, log_prob in alone.items():
        assert torch.equal(log_prob, whole[key])
    with pytest.raises(ValueError, match="separate=True"):
        make_dream(True, False).model.decoder.consequences(features)


def test_separate_heads_do_not_see_the_observation():
    decoder = make_dream(False, True).model.decoder
    features = torch.randn(5, decoder.body.in_features)
    told = {"reward": torch.full((5,), 0.5), "terminated": torch.ones(5, dtype=torch.bool)}
    seen = [
        decoder(features).log_probs(told | {"observation": torch.full((5,), o)}) for o in (0, 1)
    ]
    for key in told:
        assert torch.equal(seen[0][key], seen[1][key])
    assert not torch.equal(seen[0]["observation"], seen[1]["observation"])


def test_a_memoryless_agent_thinks_what_it_sees():
    dream = make_dream(False, True)
    encoder = encoder_for(dream.observation_space)
    agent = Memoryless(encoder, OneHotHead(encoder.size, 5))
    core = GenCore(dream, agent)
    with torch.no_grad():
        sequences, thoughts, state = core.generate(9, core.initial_state(4))
    assert torch.equal(thoughts, sequences.rows.observation)
    assert state.mind == ()
    assert agent.policy(thoughts).logits.shape == (9, 4, 5)


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_revealing_dream_is_an_environment():
    env = DreamEnv(make_dream(False, True))
    check_env(env, skip_render_check=True)
    check_env_sb3(env)
    with pytest.raises(ValueError, match="nothing to believe in"):
        DreamEnv(make_dream(False, True), "belief")


def test_a_revealing_dream_takes_no_observations_in():
    dream = make_dream(False, True)
    state = dream.initial_state(2)
    row, state = dream.step(torch.zeros(2, 5), state)
    with pytest.raises(ValueError, match="reveals its features"):
        dream.observe(row, state)


@every_kind
def test_reality_shows_the_filters_features(feedback, separate):
    dream = make_dream(feedback, separate)
    env = BeliefWrapper(ToyGame(), dream.model, reveal=True)
    assert env.observation_space == dream.observation_space
    shown, _ = env.reset(seed=3)
    real = ToyGame()
    observation, _ = real.reset(seed=3)
    noise = OwnNoise(int(np.random.SeedSequence(3).generate_state(1)[0]))
    mind, action, reward, terminated = dream.model.initial_state(1), None, 0.0, False
    for t in range(6):
        code = torch.zeros(1, 5) if action is None else torch.eye(5)[action][None]
        told = torch.tensor([observation]), torch.tensor([reward]), torch.tensor([terminated])
        with noise():
            mind = dream.model.observe(Row(torch.tensor([t == 0]), code, *told), mind)
        assert np.array_equal(shown, dream.model.core.features(mind.core)[0].numpy())
        action = t % 5
        shown, *_ = env.step(action)
        observation, reward, terminated, *_ = real.step(action)


@pytest.mark.parametrize("core", CORES)
def test_a_revealed_belief_is_what_a_believer_thinks(core):
    game = ToyGame(width=4, classes=3)
    spaces_ = (game.observation_space, game.action_space)
    model = model_for(*spaces_, core, 8, [-1.0, 0.5]).requires_grad_(False)
    if not model.core.belief_of_rows:
        with pytest.raises(ValueError, match="let a Believer think"):
            Dream(model, 6, *spaces_, reveal="belief")
        return
    dream = Dream(model, 6, *spaces_, reveal="belief")
    mind = Believer(model, OneHotHead(model.belief_size, 5))
    seen = Dream(model, 6, *spaces_)
    state, other, thinking = (world.initial_state(9) for world in (dream, seen, mind))
    for t in range(15):
        action = torch.eye(5)[torch.full((9,), t % 5)]
        with OwnNoise(t)():
            revealed, state = dream.step(action, state)
        with OwnNoise(t)():
            row, other = seen.step(action, other)
        thought, thinking = mind.step(row, thinking)
        assert torch.equal(revealed.first, row.first)
        torch.testing.assert_close(revealed.observation, thought)
