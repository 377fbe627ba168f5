"""The parts of DreamerV3 against its equations, and the preset that puts them together
(Hafner et al. 2023, https://arxiv.org/abs/2301.04104)."""

import json
import math
from pathlib import Path

import games  # noqa: F401 (registers games)
import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces
from runs import TINY, assert_same, at, train
from torch import nn

from worldmodel import Replay, Sequences, model_for, nested, objective_from
from worldmodel.agents import PRESETS, SlowCritic, TwoHotCritic, WorldModelAgent
from worldmodel.agents.components import Components, Statistics, optimizer_for
from worldmodel.agents.config import AgentConfig
from worldmodel.agents.image_encoder import explain
from worldmodel.agents.imagination import Recorded
from worldmodel.agents.recorded_values import recorded_returns
from worldmodel.agents.training import check_fit
from worldmodel.codecs import TwoHotRegression, action_codec
from worldmodel.experiments.cli.main import main, parse
from worldmodel.experiments.rl.config import EnvironmentConfig, RLConfig, quick, with_preset
from worldmodel.experiments.runs.command import arguments_of
from worldmodel.experiments.runs.registry import new_run
from worldmodel.options import with_options
from worldmodel.testing.material import excite, fed, noise_for, padded, random_rows

DREAMERV3 = PRESETS["dreamerv3"]
E = math.e


# The critic.


def test_a_two_hot_critic_expects_and_learns_what_is_computed_by_hand():
    critic = TwoHotCritic(3, 4).double()
    assert critic.returns.bins[[0, 127, 254]].tolist() == pytest.approx([1 - E**20, 0, E**20 - 1])
    assert critic(torch.randn(5, 3).double()).tolist() == [0.0] * 5  # zero at first
    critic.returns = TwoHotRegression(4, bins=5, limit=2).double()
    with torch.no_grad():
        critic.returns.logits.bias.copy_(torch.tensor([0.1, 0.2, 0.4, 0.2, 0.1]).log() + 3)
        critic.returns.logits.bias[3] += math.log(2)  # 0.4
    weights = np.array([0.1, 0.2, 0.4, 0.4, 0.1]) / 1.2
    bins = np.array([1 - E**2, 1 - E, 0, E - 1, E**2 - 1])
    thought = torch.zeros(1, 3).double()
    critic.body.requires_grad_(False)
    assert critic(thought).item() == pytest.approx(weights @ bins)
    share = 1.0 / (E - 1)  # of the upper one of the bins around 1
    expected = -(1 - share) * math.log(weights[2]) - share * math.log(weights[3])
    assert critic.estimate(thought).loss(torch.ones(1)).item() == pytest.approx(expected)


def test_a_slow_critic_is_the_average_of_the_fast_ones_which_are_held_to_it():
    torch.manual_seed(0)
    critic = SlowCritic(excite(TwoHotCritic(3, 4)).double(), 0.98)
    average = [weights.clone() for weights in critic.critic.parameters()]
    for _ in range(3):
        for weights in critic.critic.parameters():
            weights.data.add_(torch.randn_like(weights))
        critic.follow()
        pairs = zip(average, critic.critic.parameters(), strict=True)
        average = [0.98 * slow + 0.02 * fast for slow, fast in pairs]
    for found, expected in zip(critic.slow.parameters(), average, strict=True):
        torch.testing.assert_close(found, expected)
        assert not found.requires_grad
    thought, returns = torch.randn(6, 3).double(), torch.randn(6).double()
    estimated = critic.critic.estimate(thought)
    slow = critic.slow(thought).detach()
    expected = estimated.loss(returns) + estimated.loss(slow)
    torch.testing.assert_close(critic.estimate(thought).loss(returns), expected)
    assert torch.equal(critic(thought), estimated.mean)


# The world model.


def categorical_kl(q, p):
    """KL of vectors of categoricals [*, C, V] from log probabilities, [*]."""
    return (q.exp() * (q - p)).sum((-1, -2))


def test_the_weights_of_the_divergence_are_those_of_the_paper():
    """Equations 2 and 3: max(1, KL(sg(q) | p)) + 0.1 max(1, KL(q | sg(p))), with gradients."""
    space = spaces.Box(-1, 1, (2,))
    torch.manual_seed(0)
    options = {"latent": 2, "latent_classes": 3, "feedback": False}
    model = model_for(space, spaces.Discrete(2), "rssm", 5, **options).double()
    for module in (model.core.prior, model.core.posterior_out):
        excite(module)
    block = padded(random_rows(7, 5, space, rewards=None), [7, 5, 7, 2, 6])
    elbo = objective_from(model, vars(DREAMERV3.learning))
    with fed(noise_for(model, 7, 5)):
        inference, _ = model.infer(block)
    q, p = inference.posterior.logits, inference.prior.logits
    dynamics, representation = categorical_kl(q.detach(), p), categorical_kl(q, p.detach())
    scored = block.loss_mask
    assert (dynamics[scored] < 1).any()
    assert (dynamics[scored] > 1).any()
    by_row = dynamics.clamp(min=1) + 0.1 * representation.clamp(min=1)
    expected = by_row[scored].sum() / scored.sum()
    loss, metrics = elbo.loss([block], [inference], 0)
    rest = loss - metrics["observation_nats"] - metrics["reward_nats"]
    assert (rest - metrics["terminated_nats"]).item() == pytest.approx(expected.item(), abs=1e-9)
    found = torch.autograd.grad(loss, (q, p), retain_graph=True)
    for one, other in zip(found, torch.autograd.grad(expected, (q, p)), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-12)


def test_a_hundredth_of_policies_and_latents_is_uniform():
    space = spaces.MultiDiscrete([2, 5])
    head = action_codec(space).head(3, 0.01)
    nn.init.zeros_(head.logits.weight)
    head.logits.bias.data.copy_(torch.tensor([50.0, 0, 0, 0, 50, 0, 0]))
    probs = head(torch.zeros(3)).logits.exp()
    expected = [0.995, 0.005, 0.002, 0.002, 0.992, 0.002, 0.002]
    assert probs.tolist() == pytest.approx(expected, rel=1e-5)
    bits = action_codec(spaces.MultiBinary(2)).head(3, 0.01)
    nn.init.zeros_(bits.logits.weight)
    bits.logits.bias.data.copy_(torch.tensor([50.0, -50.0]))
    assert bits(torch.zeros(3)).mean.tolist() == pytest.approx([0.995, 0.005], rel=1e-4)
    model = model_for(spaces.Box(-1, 1, (2,)), spaces.Discrete(2), "rssm", 4, latent_classes=4)
    raw = torch.tensor([50.0, 0, 0, 0]).repeat_interleave(16)
    probs = model.core.parameters_of(raw).logits.exp()
    assert probs[:, 0].tolist() == pytest.approx([0.9925, 0.0025, 0.0025, 0.0025], rel=1e-5)


def test_dreams_give_the_mean_of_regressed_rewards_and_likelihoods_do_not_move_features():
    torch.manual_seed(0)
    options = {"reward_regression": True, "separate": True}
    model = model_for(spaces.Box(-1, 1, (2,)), spaces.Discrete(2), "rssm", 8, **options)
    excite(model.percepts.decoder.regression)
    features = torch.randn(6, model.core.feature_size, requires_grad=True)
    first, action = torch.zeros(6, dtype=torch.bool), torch.zeros(6, 2)
    for temperature in (1.0, 0.5):
        prediction = model.percepts.predict(features).tempered(temperature)
        row = model.percepts.draw(prediction, first, action)
        said = prediction.consequences(row.observation).regressions["reward"].mean
        torch.testing.assert_close(row.reward, said)
    percept = nested.map(torch.detach, row.percept)
    parts = prediction.consequences(percept["observation"]).log_probs(percept)
    moved = torch.autograd.grad(parts["reward"].sum(), features, allow_unused=True)[0]
    assert moved is None


# Values of recorded rows.


def by_hand(rewards, terminated, values, discount, lambda_):
    """The lambda return after each row but the last of a column, backwards."""
    after, returns = values[-1], []
    for t in reversed(range(1, len(rewards))):
        following = values[t] if t == len(rewards) - 1 else None
        if following is None:
            following = (1 - lambda_) * values[t] + lambda_ * after
        after = rewards[t] + (0.0 if terminated[t] else discount * following)
        returns.append(after)
    return returns[::-1]


def test_returns_of_recorded_rows_go_on_with_those_of_dreams():
    torch.manual_seed(0)
    lengths = [6, 4, 1, 6]
    rows = random_rows(6, 4, rewards=None)
    first = rows.first.clone()
    first[0, 3] = False  # a window that begins late
    terminated = torch.zeros_like(first)
    terminated[3, 1] = True  # the last row of the second
    rows = rows._replace(first=first, terminated=terminated)
    mask = torch.arange(6)[:, None] < torch.tensor(lengths)
    scored = mask.clone()
    scored[0, 3] = False  # its burn-in
    thought = torch.arange(24.0).double().reshape(6, 4, 1)
    begun = scored & ~terminated
    values = torch.randn(6, 4).double()
    recorded = Recorded(Sequences(rows, mask, scored), thought, begun)
    thoughts, returns = recorded_returns(recorded, values[begun], 0.9, 0.7)
    found = dict(zip(thoughts[:, 0].tolist(), returns.tolist(), strict=True))
    expected = {}
    for b, length in enumerate(lengths):
        column = by_hand(rows.reward[:length, b], terminated[:, b], values[:length, b], 0.9, 0.7)
        for t, value in enumerate(column):
            if scored[t, b]:
                expected[thought[t, b, 0].item()] = value.item()
    assert found == pytest.approx(expected)
    assert len(found) == 5 + 3 + 0 + 4


@pytest.fixture(scope="module")
def agent():
    """One of the preset, tiny, that has learned from 70 steps of CartPole."""
    return WorldModelAgent("CartPole-v1", preset="dreamerv3", **TINY | SMALL).learn(70)


SMALL = {"latent": 4, "latent_classes": 3, "num_imagined": 40}


def test_a_dream_begins_with_every_row_that_ended_no_episode(agent):
    training = agent.training
    optimizer = training.optimizer
    dreams, recorded = optimizer.imagination.with_rows(training.replay)
    rollout, _ = optimizer.objective.roll(dreams)
    numbers = [int(part.begun.sum()) for part in recorded]
    for part in recorded:
        rows, _, scored = part.sequences
        assert torch.equal(part.begun, scored & ~rows.terminated)
    thoughts = torch.cat([part.thought[part.begun] for part in recorded])
    assert torch.equal(rollout.thought[: sum(numbers)], thoughts)
    examples = optimizer.trainer.objective.examples(rollout, recorded)
    assert len(examples.thought) == len(examples.returns) > 0
    metrics = optimizer.update()
    assert math.isfinite(metrics["recorded_critic_loss"])


def test_the_range_of_returns_counts_as_one_at_least(agent):
    objective = agent.training.optimizer.objective
    assert objective.unit == 1.0
    config = with_options(agent.config, {"least_range": None})
    statistics = Statistics([0.0], 7.0)
    made = Components(config, statistics, agent.observation_space, agent.action_space)
    optimizer = optimizer_for(made, Replay(made.actions, 0), [(0, 1)])
    assert optimizer.objective.unit == 7.0


# The preset.


@pytest.mark.parametrize("env", ["Pendulum-v1", "games:Nested-v0", "FrozenLake-v1"])
def test_the_preset_learns_anything(env):
    agent = WorldModelAgent(env, preset="dreamerv3", **TINY | SMALL | {"vae_width": 2})
    agent.learn(70)
    assert agent.evaluate(episodes=2).returns.shape == (2,)
    assert agent.dream(2).reset(seed=0)


@pytest.mark.parametrize(
    "options",
    [
        {"core": "vrnn"},
        {"core": "srnn"},
        {"core": "independent"},
        {"core": "rnn", "feedback": True},
        {"method": "all-actions"},
        {"method": "pathwise"},
        {"method": "reinforce", "recorded_values": 0.0},
        {"agent": "sb3:PPO", "method": "auto"},
        {"optimizer": "adam", "adaptive_clip": 0.0, "dream_starts": "initial"}
        | {"recorded_values": 0.0},
    ],
)
def test_options_beside_the_preset_change_it(options):
    agent = WorldModelAgent("CartPole-v1", preset="dreamerv3", **TINY | SMALL | options)
    assert agent.config == with_options(DREAMERV3, TINY | SMALL | options)
    agent.learn(70)


def test_the_parts_are_options_of_their_own():
    options = {"critic": "two-hot", "slow_critic": 0.9, "optimizer": "laprop", "numbers": "symlog"}
    options |= {"dream_starts": "rows", "recorded_values": 1.0, "rewards": "two-hot"}
    options |= {"adaptive_clip": 0.3, "rate_warmup": 5, "policy_unimix": 0.1, "separate": True}
    agent = WorldModelAgent("CartPole-v1", **TINY | options).learn(70)
    assert agent.config == with_options(AgentConfig(), TINY | options)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"preset": "dreamerv2"}, "there is no preset 'dreamerv2'; .*did you mean 'dreamerv3'"),
        ({"preset": "dreamerv3", "core": "rnn"}, "rnn has no latents"),
        ({"preset": "dreamerv3", "dream_starts": "recorded"}, "recorded_values go on with"),
        ({"preset": "dreamerv3", "method": "reinforce"}, "recorded-values are a critic's"),
        ({"preset": "dreamerv3", "objective": "iwae"}, "has no KL divergence to weigh"),
        ({"preset": "dreamerv3", "config": AgentConfig()}, "pass one of them"),
        ({"last_rate": 1.5}, "last_rate is a share"),
        ({"slow_critic": 1.0}, "slow_critic must be 0 or more and below 1"),
    ],
)
def test_what_does_not_fit_is_said(options, said):
    with pytest.raises(ValueError, match=said) as raised:
        WorldModelAgent("CartPole-v1", **options)
    assert len(str(raised.value)) <= 300


def parsed(*words):
    return parse(["train", "control", "--env", "CartPole-v1", "--out", "x", *words])[1].config


def test_the_command_line_begins_with_the_preset():
    config = parsed("--preset", "dreamerv3", "--entropy", "0.5")
    assert config.agent == with_options(DREAMERV3, {"entropy": 0.5})
    assert config == parsed("--entropy", "0.5", "--preset=dreamerv3")
    assert parsed().agent == AgentConfig()
    words = ["train", "control", "--preset", "dreamerv3", "--env", "CartPole-v1"]
    assert arguments_of(config, "x") == [*words, "--entropy", "0.5", "--out", "x"]


def test_of_images_that_are_not_there_nothing_is_said():
    space = spaces.Box(-1, 1, (4,))
    assert explain(space, DREAMERV3.images, "features") == ""
    assert "policy acts on the features" in explain(
        spaces.Box(0, 255, (16, 16, 3), np.uint8), DREAMERV3.images, "features"
    )


def test_an_unknown_preset_gets_a_sentence(capsys):
    with pytest.raises(SystemExit) as ended:
        main(["train", "control", "--env", "CartPole-v1", "--out", "x", "--preset", "dremer"])
    assert ended.value.code == 2
    said = capsys.readouterr().err
    assert said.startswith("worldmodel: there is no preset 'dremer'; there are dreamerv3")
    assert said.count("\n") == 1


def test_its_help_names_the_preset_and_its_options(capsys):
    for words, expected in (
        (["--help"], "--preset dreamerv3"),
        (["--preset", "dreamerv3", "--help-all"], "(default: laprop)"),
    ):
        with pytest.raises(SystemExit):
            main(["train", "control", *words])
        assert expected in " ".join(capsys.readouterr().out.split())


def test_a_run_says_its_preset_and_goes_on_to_the_last_bit(tmp_path):
    config = quick(with_preset(RLConfig(EnvironmentConfig("CartPole-v1")), "dreamerv3"))
    whole, parts = new_run(tmp_path / "whole", config), new_run(tmp_path / "parts", config)
    train(whole)
    for stop in (at("improve", 0, 2), at("learn", 1, 1), at("improve", 1, 1)):
        train(parts, stop)
    train(parts)
    assert_same(parts, whole)
    saved = json.loads((Path(parts.path) / "config.json").read_text())
    assert saved["config"]["agent"]["preset"] == "dreamerv3"
    loaded = WorldModelAgent.load(parts.path)
    loaded.save(tmp_path / "saved")
    again = WorldModelAgent.load(tmp_path / "saved")
    observation, _ = gymnasium.make("CartPole-v1").reset(seed=0)
    actions = [one.predict(observation, deterministic=True)[0] for one in (loaded, again)]
    assert actions[0] == actions[1]


def test_numbers_of_any_scale_are_read_and_scored():
    space = spaces.Dict(far=spaces.Box(-np.inf, np.inf, (2,)), key=spaces.Discrete(3))
    check_fit(DREAMERV3, space, spaces.Discrete(2))
    made = Components(DREAMERV3, Statistics([0.0], 1.0), space, spaces.Discrete(2))
    encoder = made.model.percepts.encoder.observation
    numbers = torch.tensor([[1e6, -3.0]])
    encoded = encoder({"far": numbers, "key": torch.tensor([1])})
    assert encoded[0, :2].tolist() == pytest.approx([math.log(1e6 + 1), -math.log(4.0)])
    features = torch.zeros(1, made.model.core.feature_size)
    prediction = made.model.percepts.predict(features).observation
    value = {"far": numbers, "key": torch.tensor([1])}
    assert nested.map(lambda leaf: leaf.shape, prediction.mode) == nested.map(
        lambda leaf: leaf.shape, value
    )
    assert prediction.log_prob(value).isfinite().all()
