"""Actions that an environment's mask forbids are never taken, by whoever acts."""

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces
from runs import TINY

from worldmodel.agents import Uniform, WorldModelAgent
from worldmodel.distributions import ConcatLayout, Mode, OneHot, OneHots
from worldmodel.envs import EnvironmentSource, GymEnvironment, collect
from worldmodel.envs.observations import InvalidValueError


class Masked(gymnasium.Env):
    """Shows a number; each value of an action may be chosen where a bit of it is set. Ends when
    another one is chosen, or after 30 steps."""

    observation_space = spaces.Box(0, 1, (5,), np.float32)

    def __init__(self, action_space, as_tuple=False, at_first=True):
        self.action_space, self.as_tuple, self.at_first = action_space, as_tuple, at_first
        self.sizes = np.atleast_1d(getattr(action_space, "nvec", getattr(action_space, "n", 0)))

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.steps = 0
        return self.shown(), self.info() if self.at_first else {}

    def step(self, action):
        chosen = np.atleast_1d(action - self.action_space.start)
        is_right = all(mask[value] for mask, value in zip(self.masks, chosen, strict=True))
        self.steps += 1
        reward = 1.0 if is_right or (not self.at_first and self.steps == 1) else -100.0
        return self.shown(), reward, False, self.steps == 30, self.info()

    def shown(self):
        self.masks = [self.np_random.random(n) < 0.4 for n in self.sizes]
        for mask in self.masks:
            mask[self.np_random.integers(len(mask))] = True
        return self.np_random.random(5, dtype=np.float32)

    def info(self):
        if len(self.masks) == 1:
            return {"action_mask": self.masks[0].astype(np.int8)}
        return {"action_mask": tuple(self.masks) if self.as_tuple else np.concatenate(self.masks)}


SPACES = {
    "Discrete": spaces.Discrete(6, start=-2),
    "MultiDiscrete": spaces.MultiDiscrete([5, 3]),
}


@pytest.mark.parametrize("as_tuple", [False, True])
@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("persistence", [0.0, 0.7])
@pytest.mark.parametrize("name", SPACES)
def test_random_actions_are_allowed_ones(name, persistence, workers, as_tuple):
    source = EnvironmentSource(lambda: Masked(SPACES[name], as_tuple))
    environment = GymEnvironment(source.vector(3, workers), 0)
    for episodes in collect(environment, Uniform(SPACES[name], persistence), 200):
        assert (episodes.rewards == 1).all()
    environment.close()


@pytest.mark.parametrize("name", SPACES)
@pytest.mark.parametrize("agent", ["own", "planning", "sb3:PPO"])
def test_agents_take_allowed_actions_only(name, agent):
    is_ours = not agent.startswith("sb3")
    if not is_ours:
        pytest.importorskip("stable_baselines3")
    space = SPACES[name] if is_ours or name != "Discrete" else spaces.Discrete(6)
    learner = WorldModelAgent(lambda: Masked(space), seed=0, agent=agent, **TINY)
    learner.learn(90)
    assert (learner.training.store.gather(np.arange(90))["reward"] >= 0).all()
    for deterministic in (True, False):
        stats = learner.evaluate(2, deterministic)
        assert stats.returns.tolist() == [30, 30]


def test_predict_is_told_the_mask():
    env = Masked(SPACES["Discrete"])
    agent = WorldModelAgent(lambda: Masked(SPACES["Discrete"]), seed=0, **TINY)
    for steps in (0, 60):
        if steps:
            agent.learn(steps)
        (observation, info), state = env.reset(seed=1), None
        for _ in range(30):
            action, state = agent.predict(
                observation, state, deterministic=bool(steps), action_masks=info["action_mask"]
            )
            observation, reward, _, _, info = env.step(action)
            assert reward == 1


def test_a_mask_that_is_missing_allows_all():
    source = EnvironmentSource(lambda: Masked(SPACES["Discrete"], at_first=False))
    environment = GymEnvironment(source.vector(2), 0)
    for episodes in collect(environment, Uniform(SPACES["Discrete"]), 100):
        assert (episodes.rewards == 1).all()


def test_a_mask_of_another_size_is_refused():
    env = Masked(SPACES["Discrete"])
    env.info = lambda: {"action_mask": np.ones(5, np.int8)}
    environment = GymEnvironment(EnvironmentSource(env).vector(), 0)
    with pytest.raises(InvalidValueError, match=r"5 entries.*6 values"):
        list(collect(environment, Uniform(env.action_space), 3))


def test_restricted_is_conditional():
    logits, allowed = torch.randn(3, 5), torch.tensor([True, False, True, True, False])
    probs = torch.softmax(logits, -1) * allowed
    expected = probs / probs.sum(-1, keepdim=True)
    torch.testing.assert_close(OneHot(logits).restricted(allowed.expand(3, 5)).probs, expected)
    mode = Mode(OneHot(logits)).restricted(allowed.expand(3, 5)).mode
    assert torch.equal(mode.argmax(-1), expected.argmax(-1))
    pair = OneHots(logits, ConcatLayout([3, 2])).restricted(allowed.expand(3, 5))
    left = torch.softmax(logits[:, :3].masked_fill(~allowed[:3], -torch.inf), -1)
    torch.testing.assert_close(pair.logits.exp()[:, :3], left)
    assert torch.equal(pair.logits.exp()[:, 3:], torch.tensor([[1.0, 0.0]] * 3))
