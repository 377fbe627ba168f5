"""Laws of gradients through the dream."""

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces
from gymnasium.vector import SyncVectorEnv

from worldmodel import (
    BeliefAgent,
    Dream,
    GenCore,
    action_codec,
    constant,
    model_for,
    nested,
)
from worldmodel.agents import Critic, PathwiseGradient, Policy, Uniform
from worldmodel.envs import GymEnvironment
from worldmodel.noise import OwnNoise

NUMBERS = spaces.Box(-np.inf, np.inf, (2,))
WHEEL = spaces.Box(-1, 1, (2,))


class Unshared(Dream):
    """A dream whose agent has to think for itself."""

    def shared(self, state, agent):
        return None


def make(shared=True, entropy=0.0, unit=None, length=5, steering=WHEEL, horizon=4):
    """A dream with restarts and ends, a policy and a critic, all small and in float64."""
    with OwnNoise(0)():
        model = model_for(NUMBERS, steering, "rnn", 4, recurrence="skip-gru", decoder_hidden=6)
        model.double()
        policy = Policy(model.belief_size, action_codec(steering), 5).double()
        critic = Critic(model.belief_size, 5).double()
    dream = (Dream if shared else Unshared)(model, horizon, NUMBERS, steering)
    agent = BeliefAgent(model, policy)
    objective = PathwiseGradient(
        GenCore(dream, agent), 6, length, critic, 0.9, 0.8, constant(entropy), unit
    )
    return objective, policy


def begin(objective):
    """A state in which all games are under way."""
    state = objective.start()
    with OwnNoise(1)(), torch.no_grad():
        for _ in range(2):
            _, state = objective.gen_core.step(state)
    return state


def rolled(objective, state):
    """A rollout under noise that is always the same."""
    with OwnNoise(2)():
        return objective.roll(state)


def slopes(objective, policy, state, step=1e-6):
    """The derivative of the mean return along some directions of the policy's parameters: by the
    loss, and by central differences under the same noise."""
    parameters = list(policy.parameters())
    rollout, _ = rolled(objective, state)
    policy.zero_grad()
    objective(rollout, objective.initial_state(), 0)[0].backward()
    generator = torch.Generator().manual_seed(3)
    for _ in range(6):
        ways = [torch.randn(p.shape, generator=generator, dtype=p.dtype) for p in parameters]
        found = -sum((p.grad * way).sum() for p, way in zip(parameters, ways, strict=True))
        returns = []
        for sign in (1, -2, 1):  # there, on the other side, and back again
            with torch.no_grad():
                [p.add_(sign * step * way) for p, way in zip(parameters, ways, strict=True)]
            returns.append(rolled(objective, state)[0].returns.mean().item())
        yield found.item(), (returns[0] - returns[1]) / (2 * step)


@pytest.mark.parametrize("shared", [True, False])
def test_the_gradient_is_that_of_the_return_under_the_same_noise(shared):
    """Whether thoughts are read off the dream or thought by a believer; over ends and restarts."""
    objective, policy = make(shared)
    state = begin(objective)
    rollout, _ = rolled(objective, state)
    assert len(rollout.returns) < 30  # some rows were first ones
    for found, expected in slopes(objective, policy, state):
        assert found == pytest.approx(expected, rel=1e-5, abs=1e-8)
        assert abs(expected) > 1e-4


def test_nothing_leaks_from_one_rollout_into_the_next():
    """A state that a rollout left is where the next one begins, and no more than that."""
    objective, policy = make()
    _, state = rolled(objective, begin(objective))
    assert not any(leaf.requires_grad for leaf in nested.leaves(state))
    for found, expected in slopes(objective, policy, state):
        assert found == pytest.approx(expected, rel=1e-5, abs=1e-8)


def test_of_a_rollout_only_returns_have_a_gradient():
    objective, _ = make()
    rollout, _ = objective.roll(begin(objective))
    assert {key: part.requires_grad for key, part in rollout._asdict().items()} == {
        "thought": False,
        "action": False,
        "returns": True,
        "tried": False,
        "reward": False,
    }


def test_neither_model_nor_critic_learn_to_please_the_policy():
    """The model gets no gradient; the critic's is that of its own regression. All of them can
    learn afterwards."""
    objective, _ = make()
    model, critic = objective.gen_core.environment.model, objective.critic
    rollout, _ = rolled(objective, begin(objective))
    objective(rollout, (), 0)[0].backward()
    assert all(p.grad is None for p in model.parameters())
    found = [p.grad.clone() for p in critic.parameters()]
    critic.zero_grad()
    off = critic(rollout.thought) - rollout.returns.detach()
    huber = torch.where(off.abs() < 1, off.square() / 2, off.abs() - 0.5)
    huber.mean().backward()
    for gradient, parameter in zip(found, critic.parameters(), strict=True):
        torch.testing.assert_close(gradient, parameter.grad)
    assert all(p.requires_grad for m in (model, critic) for p in m.parameters())


def test_a_frozen_parameter_stays_frozen():
    objective, _ = make()
    model = objective.gen_core.environment.model
    model.percepts.encoder.requires_grad_(False)
    model.core.requires_grad_(False)
    objective.roll(begin(objective))
    assert not any(p.requires_grad for p in model.core.parameters())
    assert all(p.requires_grad for p in model.percepts.decoder.parameters())


def test_choices_have_their_gradient_straight_through():
    """Biased, but there: each of the chosen actions' probabilities has consequences."""
    objective, policy = make(steering=spaces.Discrete(3))
    rollout, _ = rolled(objective, begin(objective))
    assert torch.equal(rollout.action.sort(-1).values[:, -1], torch.ones(len(rollout.action)))
    objective(rollout, (), 0)[0].backward()
    assert all(p.grad.any() for p in policy.parameters())


def test_only_a_dream_can_be_differentiated():
    world = GymEnvironment(SyncVectorEnv([lambda: gymnasium.make("Pendulum-v1")]), seed=0)
    core = GenCore(world, Uniform(world.action_space))
    objective = PathwiseGradient(core, 1, 4, Critic(1))
    with pytest.raises(ValueError, match="a Dream, got a GymEnvironment; use ActorCritic"):
        objective.roll(objective.start())
