"""Laws of `worldmodel train control`: its plan, what it is told by data, and any environment."""

import json
import sys
import textwrap
from dataclasses import replace
from pathlib import Path

import games  # noqa: F401 (registers games)
import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces

from experiments.cli import main
from experiments.control import Training, load, phase_steps, stages
from experiments.control_config import (
    CollectingConfig,
    ControlConfig,
    EnvironmentConfig,
    ReturnsConfig,
    quick_control,
)
from experiments.progress import Interrupted, Reporter
from experiments.run import RunFolder
from worldmodel import Greedy
from worldmodel.checkpoint import load_newest

# An environment of one's own: a file outside of the package.
SWITCHES = textwrap.dedent(
    """
    import gymnasium
    import numpy as np
    from gymnasium import spaces


    class Switches(gymnasium.Env):
        '''Lamps and levers; every fourth episode in this process pays what never was paid.'''

        begun = 0

        def __init__(self, actions="binary", seen="bits", prizes=1):
            self.observation_space = spaces.Dict(
                lamps=spaces.MultiBinary(3), meter=spaces.Box(-np.inf, np.inf, (2,)),
            )
            self.action_space = {
                "binary": spaces.MultiBinary(3),
                "several": spaces.MultiDiscrete([3, 2]),
                "wheel": spaces.Box(-2, 2, (1,), np.float32),
            }[actions]
            self.prizes = prizes

        def reset(self, *, seed=None, options=None):
            super().reset(seed=seed)
            Switches.begun += 1
            self.count = 0
            return self.observe(), {}

        def step(self, action):
            assert self.action_space.contains(action)
            self.count += 1
            prize = Switches.begun % (self.prizes + 1) if Switches.begun > 20 else 0
            return self.observe(), float(10 * prize), self.count == 4, False, {}

        def observe(self):
            lamps = self.np_random.integers(2, size=3, dtype=np.int8)
            return {"lamps": lamps, "meter": self.np_random.normal(size=2).astype(np.float32)}


    gymnasium.register("Switches-v0", Switches)
    """
)


@pytest.fixture
def train(tmp_path, monkeypatch):
    """Trains quickly with the given words, in a folder with `switches.py`: the run's folder."""
    (tmp_path / "switches.py").write_text(SWITCHES)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "switches", raising=False)

    def run(*words):
        main(["train", "control", "--out", "run", "--quick", *words])
        return RunFolder.open(Path("run"))

    return run


def figures(folder, stage, key):
    return [line[key] for line in folder.metrics() if line["stage"] == stage]


CONTROL = {
    "CartPole": ["CartPole-v1"],
    "Pendulum": ["Pendulum-v1", "--persistence", "0.5"],
    "hidden": ["CartPole-v1", "--hidden-velocities", "--history", "3"],
    "images and tuples": ["games:Nested-v0"],
    "binary": ["switches:Switches-v0"],
    "several": ["switches:Switches-v0", "--arguments", '{"actions": "several"}'],
    "wheel": ["switches:Switches-v0", "--arguments", '{"actions": "wheel"}'],
    "every action": ["switches:Switches-v0", "--method", "every-action"],
    "straight through": ["CartPole-v1", "--method", "dynamics"],
    "latents": ["CartPole-v1", "--core", "vrnn", "--recurrence", "default"],
    "chain of latents": ["Pendulum-v1", "--core", "srnn", "--copies", "3"],
    "categoricals": ["CartPole-v1", "--core", "rssm", "--latent-classes", "3"],
}


@pytest.mark.parametrize("name", CONTROL)
def test_any_environment_trains_end_to_end(name, train, capsys):
    env, *words = CONTROL[name]
    folder = train("--env", env, *words)
    assert "Traceback" not in capsys.readouterr().err
    for stage, key in [("learn", "loss"), ("improve", "loss"), ("evaluate", "real_return_mean")]:
        found = figures(folder, stage, key)
        assert len(found) >= 3  # rounds
        assert np.isfinite(found).all()
    parts = load(folder.path)
    collected = figures(folder, "collect", "steps")
    taken = [parts.facts.steps + sum(collected[:n]) for n in range(3)]
    assert figures(folder, "evaluate", "real_steps") == taken
    copies = parts.config.environment.copies
    assert 90 <= taken[-1] < 90 + 3 * copies  # copies take their last steps together
    environment = parts.environment(2, seed=0)
    agent, state = Greedy(parts.agent), parts.agent.initial_state(2)
    world, action = environment.initial_state(2), torch.zeros(2, parts.actions.size)
    for _ in range(3):
        row, world = environment.step(action, world)
        thought, state = agent.step(row, state)
        action = agent.policy(thought).sample()
        for act in parts.actions.decode(action).numpy().astype(parts.action_space.dtype):
            assert parts.action_space.contains(act if act.shape else act[()])
    environment.close()


# The plan.


PLANS = [(90, 50, 20), (100, 100, 7), (5000, 500, 250), (1000, 300, 333), (10, 9, 50)]


@pytest.mark.parametrize(("steps", "prefill", "phase"), PLANS)
def test_collections_add_up_to_the_steps_that_were_asked_for(steps, prefill, phase):
    told = CollectingConfig(steps=steps, prefill=prefill, phase=phase)
    config = ControlConfig(EnvironmentConfig("CartPole-v1"), collecting=told)
    plan = stages(config)
    rounds = [stage.round for stage in plan if stage.kind == "collect"]
    assert rounds == list(range(1, len(rounds) + 1))
    sizes = [phase_steps(config, number) for number in [0, *rounds]]
    assert sum(sizes) == steps
    assert sizes[0] == prefill
    assert all(size == phase for size in sizes[1:-1])
    assert 0 < sizes[-1] <= max(phase, prefill)


def test_each_round_learns_improves_and_evaluates_after_it_has_collected():
    told = CollectingConfig(steps=1000, prefill=400, phase=250)
    config = ControlConfig(EnvironmentConfig("CartPole-v1"), collecting=told)
    config = replace(
        config,
        learning=replace(config.learning, first_updates=30, update_ratio=0.5),
        dreaming=replace(config.dreaming, first_rollouts=20, rollout_ratio=0.001),
    )
    assert [tuple(stage) for stage in stages(config)] == [
        ("learn", 0, 30),
        ("improve", 0, 20),
        ("evaluate", 0, 1),
        ("collect", 1, 1),
        ("learn", 1, 125),
        ("improve", 1, 1),
        ("evaluate", 1, 1),
        ("collect", 2, 1),
        ("learn", 2, 125),
        ("improve", 2, 1),
        ("evaluate", 2, 1),
        ("collect", 3, 1),
        ("learn", 3, 50),
        ("improve", 3, 1),
        ("evaluate", 3, 1),
    ]
    silent = replace(config, returns=ReturnsConfig(curve_episodes=0))
    assert {stage.kind for stage in stages(silent)} == {"learn", "improve", "collect"}


# What data tell.


def facts(folder):
    return json.loads((folder.episodes / "facts.json").read_text())


def test_rewards_that_take_few_values_have_a_probability_each(train):
    told = facts(train("--env", "CartPole-v1"))
    assert told == {"steps": 50, "reward_support": [1.0], "reward_unit": 1.0}


def test_rewards_that_take_many_values_have_a_density(train):
    folder = train("--env", "Pendulum-v1")
    told = facts(folder)
    assert told["reward_support"] is None
    rewards = load_rewards(folder)[:50]
    assert told["reward_unit"] == pytest.approx(np.sqrt(np.mean(rewards**2)))


def test_a_density_is_taken_if_it_is_asked_for(train):
    assert facts(train("--env", "CartPole-v1", "--rewards", "density"))["reward_support"] is None


def load_rewards(folder):
    """All rewards that were collected, those of first rows left out."""
    from worldmodel import DiskStore

    store = DiskStore(folder.episodes)
    episodes = store.select(np.arange(len(store)))
    return np.delete(episodes.columns["reward"], episodes.starts)
