"""Laws of gradients through the dream."""

import itertools

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
from worldmodel.distributions import Bernoulli
from worldmodel.envs import GymEnvironment
from worldmodel.noise import OwnNoise

NUMBERS = spaces.Box(-np.inf, np.inf, (2,))
WHEEL = spaces.Box(-1, 1, (2,))


class Unshared(Dream):
    """A dream whose agent has to think for itself."""

    def shared(self, state, agent):
        return None


def make(
    shared=True, entropy=0.0, unit=None, length=5, steering=WHEEL, horizon=4, ends=False, **rewards
):
    """A dream with restarts, a policy and a critic, all small and in float64."""
    with OwnNoise(0)():
        skip = {"recurrence": "skip-gru", "decoder_hidden": 6}
        model = model_for(NUMBERS, steering, "rnn", 4, **skip, **rewards)
        model.double()
        if not ends:
            model.percepts.end_clamp.widen([False])
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
    going_on = torch.zeros_like(state.world.ended)
    return state._replace(world=state.world._replace(ended=going_on))


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


REWARDS = {
    "a density": {},
    "few values": {"reward_support": [-1.0, 0.0, 100.0]},
    "few values, or others": {"reward_support": [-1.0, 0.0, 100.0], "open_rewards": True},
    "groups": {"reward_groups": [[-0.1, 0.1], [100.0, 1.0]], "open_rewards": True},
    "regressed": {"reward_regression": True},
}


@pytest.mark.parametrize("rewards", REWARDS.values(), ids=REWARDS)
@pytest.mark.parametrize("shared", [True, False])
def test_the_gradient_is_that_of_the_return_under_the_same_noise(shared, rewards):
    """Whether thoughts are read off the dream or thought by a believer, over restarts; and of
    rewards of any kind, values and prizes included, whose draws have no gradient."""
    objective, policy = make(shared, **rewards)
    state = begin(objective)
    rollout, _ = rolled(objective, state)
    assert len(rollout.returns) < 30  # some rows were first ones
    for found, expected in slopes(objective, policy, state):
        assert found == pytest.approx(expected, rel=1e-5, abs=1e-8)
        assert abs(expected) > 1e-4


def test_the_gradient_is_that_of_the_return_over_all_ends(monkeypatch):
    """Of the sum over all ways in which games end or go on, by their probabilities, under the same
    noise of all else."""
    length = 3
    objective, policy = make(length=length, ends=True, horizon=10)
    state, parameters = begin(objective), list(policy.parameters())
    world = objective.gen_core.environment

    def outcomes():
        """Of each way of going on or ending: its probability and the returns of the games, [B]."""
        lasting = []
        expected = world.expected

        def watched(*given):
            lasting.append(expected(*given)[1])
            return expected(*given)

        monkeypatch.setattr(world, "expected", watched)
        for ways in itertools.product([False, True], repeat=length):
            left = iter(ways)
            monkeypatch.setattr(
                Bernoulli,
                "sample",
                lambda self, *_, left=left: torch.full(self.batch_shape, next(left)),
            )
            rollout, _ = rolled(objective, state)
            going_on, ended = lasting[-1].exp(), torch.tensor(ways)[:, None]
            each = torch.where(ended, 1 - going_on, going_on)
            is_there = ended.cumsum(0) - ended.long() == 0  # later ends are those of other games
            yield torch.where(is_there, each, 0.5).prod(0), rollout.returns[: len(state.action)]
        monkeypatch.setattr(world, "expected", expected)

    def mean():
        return sum((probability * returns).mean() for probability, returns in outcomes())

    policy.zero_grad()
    sum((probability.detach() * returns).mean() for probability, returns in outcomes()).backward()
    generator = torch.Generator().manual_seed(3)
    for _ in range(4):
        ways = [torch.randn(p.shape, generator=generator, dtype=p.dtype) for p in parameters]
        slope = sum((p.grad * way).sum() for p, way in zip(parameters, ways, strict=True))
        means = []
        for sign in (1, -2, 1):
            with torch.no_grad():
                [p.add_(sign * 1e-6 * way) for p, way in zip(parameters, ways, strict=True)]
            means.append(mean().item())
        assert sum(p.mean() for p, _ in outcomes()).item() == pytest.approx(1)
        assert abs(slope) > 1e-4
        assert slope.item() == pytest.approx((means[0] - means[1]) / 2e-6, rel=1e-5, abs=1e-8)


def test_what_sets_off_drawn_ends_is_zero_in_expectation():
    """Of each row, over its two ways to go on, whatever is worth what; and what is left does not
    depend on which was drawn where the value before the row is right."""
    objective, _ = make(ends=True, horizon=10, **REWARDS["few values"])
    world, state = objective.gen_core.environment, begin(objective)
    with OwnNoise(2)(), torch.no_grad():
        (rows, _), after = objective.gen_core.step(state)
        cores = objective.drawn_from(after)
        reward, lasting = world.expected(rows, cores)
        value, worth = torch.randn(2, len(reward)).double()
        end, going_on = (
            objective.judged(
                state.thought,
                value,
                rows._replace(terminated=torch.full_like(ends, is_end)),
                cores,
            )
            for ends in [rows.terminated]
            for is_end in [True, False]
        )
    chance = lasting.exp()
    assert (chance < 0.9).any()
    returns = going_on[0].reward + going_on[1] * worth
    mean = chance * returns + (1 - chance) * end[0].reward
    torch.testing.assert_close(mean, reward + 0.9 * chance * worth)
    torch.testing.assert_close(going_on[0].reward - end[0].reward, -0.9 * value)


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
