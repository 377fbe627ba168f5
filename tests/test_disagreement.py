"""Laws of directed exploration: networks disagree where nothing was met, and policies go there."""

import pytest
import torch
from games import Lock
from runs import TINY

from worldmodel import Trainer
from worldmodel.agents import AgentConfig, WorldModelAgent
from worldmodel.agents.config import PolicyConfig
from worldmodel.agents.disagreement import Curiosity, Ensemble
from worldmodel.noise import OwnNoise

NOISE = 0.5


def test_members_are_networks_of_their_own():
    with OwnNoise(0)():
        ensemble = Ensemble(3, 2, 4, members=5, hidden=6)
        thought, action = torch.randn(7, 3), torch.randn(7, 2)
    found = ensemble(thought, action)
    assert found.shape == (5, 7, 4)
    x = torch.cat([thought, action], -1)
    for member in range(5):
        first, second, third = (weight[member] for weight in ensemble.weights)
        hidden = torch.nn.functional.silu(x @ first)  # biases begin at zero
        expected = torch.nn.functional.silu(hidden @ second) @ third
        torch.testing.assert_close(found[member], expected)
    spread = found.std(0, correction=0).square().mean(-1).sqrt()
    torch.testing.assert_close(ensemble.disagreement(thought, action), spread)


def learned(noise):
    """An ensemble that has seen a curve between -1 and 1, with noise on it."""
    with OwnNoise(0)():
        ensemble = Ensemble(1, 0, 1)
        trainer = Trainer(Curiosity(ensemble, 1.0), ensemble.parameters(), 3e-3)
        for _ in range(600):
            x = 2 * torch.rand(256, 1) - 1
            trainer.update((x, x[:, :0], (3 * x).sin() + noise * torch.randn_like(x)))
    return ensemble


def disagreement(ensemble, *places):
    x = torch.tensor(places)[:, None]
    return ensemble.disagreement(x, x[:, :0])


@pytest.mark.parametrize("noise", [0.0, NOISE])
def test_networks_disagree_where_nothing_was_met_and_not_about_noise(noise):
    ensemble = learned(noise)
    known = disagreement(ensemble, -0.9, -0.5, 0.0, 0.5, 0.9)
    unknown = disagreement(ensemble, -3.0, 3.0)
    assert known.max() < 0.2 * NOISE
    assert unknown.min() > 3 * known.max()


def test_a_bonus_is_a_unit_where_disagreement_is_ordinary():
    ensemble = Ensemble(2, 1, 3)
    curiosity = Curiosity(ensemble, unit=7.0)
    with OwnNoise(0)():
        thought, action = torch.randn(400, 2), torch.randn(400, 1)
    found = ensemble.disagreement(thought, action)
    weight = 0.3  # of a few updates, out of 1
    ensemble.ordinary.copy_(torch.stack([weight * found.mean(), torch.tensor(weight)]))
    bonus = curiosity.bonus(thought, action)
    ratio = found / found.mean()
    torch.testing.assert_close(bonus, 7.0 * torch.log2(1 + ratio))  # 7 for a ratio of 1
    assert bonus[ratio.argmax()] == bonus.max()  # no ceiling
    shaped = curiosity.bonus(thought.unflatten(0, (20, 20)), action.unflatten(0, (20, 20)))
    torch.testing.assert_close(shaped.flatten(), bonus)


def test_a_penalty_is_nothing_for_what_is_known_and_grows_with_what_is_not():
    ensemble = learned(0.0)
    x = torch.tensor([-0.5, 0.0, 0.5, 1.5, 3.0])[:, None]
    none = x[:, :0]
    found = ensemble.disagreement(x, none)
    ordinary = found[:3].max()  # on what is known
    ensemble.ordinary.copy_(torch.stack([0.3 * ordinary, torch.tensor(0.3)]))
    penalty = Curiosity(ensemble, unit=7.0, pessimism=0.5).penalty(x, none)
    torch.testing.assert_close(penalty, -3.5 * (found / ordinary - 1).clamp(0, 10))
    assert penalty[:3].abs().max() < 1e-4
    assert penalty[4] < penalty[3] < -3.5


@pytest.mark.parametrize("pessimism", [0.0, 1.0])
def test_an_agent_is_as_pessimistic_as_it_is_told(pessimism):
    agent = WorldModelAgent("Pendulum-v1", seed=0, pessimism=pessimism, **TINY)
    agent.learn(200)
    training = agent.training
    assert bool(training.components.ensemble.ordinary[1] > 0) == (pessimism > 0)
    assert training.optimizer.objective.bonus == (
        training._curiosity.penalty if pessimism else None
    )


def test_pessimism_is_our_own_agents():
    with pytest.raises(ValueError, match="--pessimism is our own agent's"):
        AgentConfig(policy=PolicyConfig(agent="sb3:PPO", pessimism=1.0))


SMALL = TINY | {"hidden_size": 8, "decoder_hidden": 32, "policy_hidden": 32, "window": 16}
SMALL |= {"prefill": 200, "collect_steps": 100, "first_updates": 80, "update_ratio": 0.3}
SMALL |= {"batch_size": 32, "first_rollouts": 30, "rollout_ratio": 0.25, "num_imagined": 32}
SMALL |= {"rollout_length": 12, "horizon": 200}


def test_a_lock_is_opened_which_random_actions_open_once_in_a_thousand_tries():
    agent = WorldModelAgent(lambda: Lock(10), **SMALL)
    said, goal = [], []
    agent.training.say = said.append

    def callback(progress):
        if progress.stage == "collect":
            goal.append(progress.metrics["greatest_reward"])
        return goal[-1] == 0

    agent.learn(1_500, callback=callback)
    assert goal[0] == 0
    assert goal[-1] == 1
    objective = agent.training.optimizer.objective
    assert objective.discount == 0.99  # what is new is new once
    agent.learn(100)
    assert objective.discount == 0.997
    assert any("something to seek now" in line for line in said)
