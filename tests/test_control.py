"""Laws of `worldmodel train control`: its plan, what it is told by data, and any environment."""

import json
import sys
from dataclasses import replace
from pathlib import Path

import games  # noqa: F401 (registers games)
import gymnasium
import numpy as np
import pytest
import torch
from runs import assert_same
from worldmodel.experiments.rl.training import Training, load, phase_steps, stages

from worldmodel import DiskStore, Greedy, Trainer
from worldmodel.codecs import NormalHead
from worldmodel.experiments.cli.main import main
from worldmodel.experiments.rl.config import (
    CollectingConfig,
    ControlConfig,
    EnvironmentConfig,
    ReturnsConfig,
    quick_control,
)
from worldmodel.experiments.runs.interruption import Interrupted
from worldmodel.experiments.runs.registry import new_run
from worldmodel.progress import Reporter
from worldmodel.run_folder import RunFolder

# An environment of one's own: a file outside of the package.
SWITCHES = """
import gymnasium
import numpy as np
from gymnasium import spaces

ACTIONS = {
    "binary": spaces.MultiBinary(3),
    "several": spaces.MultiDiscrete([3, 2]),
    "wheel": spaces.Box(-2, 2, (1,), np.float32),
}


class Switches(gymnasium.Env):
    # Rewards are 0, but from the 21st episode of a process on `prizes`, one after the other.

    begun = paid = 0

    def __init__(self, actions="binary", prizes=(0,)):
        lamps, meter = spaces.MultiBinary(3), spaces.Box(-np.inf, np.inf, (2,))
        self.observation_space = spaces.Dict(lamps=lamps, meter=meter)
        self.action_space = ACTIONS[actions]
        self.prizes = prizes

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        Switches.begun += 1
        self.count = 0
        return self.observe(), {}

    def step(self, action):
        assert self.action_space.contains(action)
        self.count += 1
        Switches.paid += Switches.begun > 20
        reward = self.prizes[Switches.paid % len(self.prizes)] if Switches.begun > 20 else 0
        return self.observe(), float(reward), self.count == 4, False, {}

    def observe(self):
        lamps = self.np_random.integers(2, size=3, dtype=np.int8)
        return {"lamps": lamps, "meter": self.np_random.normal(size=2).astype(np.float32)}


gymnasium.register("Switches-v0", Switches)
"""


@pytest.fixture
def train(tmp_path, monkeypatch):
    """Trains quickly with the given words, in a folder with `switches.py`: the run's folder."""
    (tmp_path / "switches.py").write_text(SWITCHES)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "switches", raising=False)
    monkeypatch.delitem(gymnasium.registry, "Switches-v0", raising=False)

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
    "every action": ["switches:Switches-v0", "--method", "all-actions"],
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


def rewards(folder):
    """All that were collected, those of first rows left out."""
    store = DiskStore(folder.episodes, writable=False)
    episodes = store.select(np.arange(len(store)))
    return np.delete(episodes.columns["reward"], episodes.starts)


def test_rewards_that_take_few_values_have_a_probability_each(train):
    told = facts(train("--env", "CartPole-v1"))
    assert told == {"steps": 50, "reward_support": [1.0], "reward_unit": 1.0}


def test_rewards_that_take_many_values_have_a_density_and_a_size(train):
    folder = train("--env", "Pendulum-v1")
    told = facts(folder)
    assert told["reward_support"] is None
    first = rewards(folder)[:50].astype(float)
    assert told["reward_unit"] == pytest.approx(np.sqrt(np.mean(first**2)), rel=1e-6)


def test_a_density_is_taken_if_it_is_asked_for(train):
    folder = train("--env", "CartPole-v1", "--rewards", "density")
    assert facts(folder)["reward_support"] is None
    assert isinstance(load(folder.path).model.percepts.decoder.reward, NormalHead)


def test_rewards_that_never_came_before_become_possible(train):
    folder = train("--env", "switches:Switches-v0", "--arguments", '{"prizes": [10, -3]}')
    assert facts(folder) == {"steps": 50, "reward_support": [0.0], "reward_unit": 1.0}
    assert set(rewards(folder)) == {0, 10, -3}
    head = load(folder.path).model.percepts.decoder.reward
    assert {x for x in head.support.tolist() if not np.isnan(x)} == {0, 10, -3}
    assert np.isfinite(figures(folder, "learn", "loss")).all()


def said_by(train, capsys, *words):
    """The sentence with which a run is refused."""
    with pytest.raises(SystemExit) as end:
        train(*words)
    assert end.value.code == 2
    told = capsys.readouterr()
    told = " ".join((told.out + told.err).replace("│", " ").split())  # boxes wrap
    assert "Traceback" not in told
    return told


def test_rewards_that_turn_out_to_be_many_are_told_of(train, capsys):
    prizes = json.dumps({"prizes": list(range(1, 40))})
    said = said_by(train, capsys, "--env", "switches:Switches-v0", "--arguments", prizes)
    assert "rewards had few values at first" in said
    assert "--rewards density" in said


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--dropout", "1"], "--dropout must be 0 or more and below 1, got 1.0"),
        (["--from-start", "3"], "--from-start is a share between 0 and 1, got 3.0"),
        (["--trace", "-0.1"], "--trace is a share between 0 and 1, got -0.1"),
        (["--discount", "1.5"], "--discount is a share between 0 and 1, got 1.5"),
        (["--burn-in", "-1"], "--burn-in must be 0 or more, got -1"),
        (["--averaging", "1"], "--averaging must be 0 or more and below 1, got 1.0"),
        (["--core", "rssm", "--latent-classes", "1"], "--latent-classes is 0 (Gaussian latents)"),
        (["--method", "all-actions"], "--method all-actions: AllActions lists all actions"),
    ],
)
def test_options_that_make_no_sense_get_a_sentence(words, sentence, train, capsys):
    assert sentence in said_by(train, capsys, "--env", "Pendulum-v1", *words)


# Going on.


QUICK = {
    name: quick_control(ControlConfig(EnvironmentConfig(name), seed=5))
    for name in ("CartPole-v1", "Pendulum-v1")
}


def go_on(folder, stop_after=lambda training: False):
    training = Training(folder, Reporter())
    training.restore()
    training.run(stop_after)


@pytest.mark.parametrize(
    ("env", "stop"),
    [
        ("CartPole-v1", ("learn", 0, 2)),
        ("CartPole-v1", ("improve", 1, 1)),
        ("CartPole-v1", ("evaluate", 1, 1)),
        ("CartPole-v1", ("collect", 2, 1)),
        ("Pendulum-v1", ("improve", 0, 3)),
    ],
)
def test_a_resumed_run_equals_one_never_stopped(tmp_path, env, stop):
    """Metrics, among them the spread of returns, and weights, to the last bit."""
    whole = new_run(tmp_path / "whole", QUICK[env])
    go_on(whole)
    folder = new_run(tmp_path / "run", QUICK[env])

    def here(training):
        stage = training.stages[training.stage]
        return (stage.kind, stage.round, training.done) == stop

    with pytest.raises(Interrupted):
        go_on(folder, here)
    torch.manual_seed(99)  # another process would not have our random state either
    go_on(folder)
    assert_same(folder, whole)
    assert "spread" in {key for line in folder.metrics() for key in line}


def flat(module):
    return torch.cat([parameter.detach().flatten() for parameter in module.parameters()]).double()


@pytest.mark.parametrize("decay", [0.0, 0.15, 0.995])
def test_what_acts_is_the_average_of_what_was_learned(tmp_path, monkeypatch, decay):
    """Each update's weights count the less the older they are; those drawn at random count as
    number 0. Without decay the last ones act."""
    config = QUICK["CartPole-v1"]
    config = replace(config, dreaming=replace(config.dreaming, averaging=decay))
    folder = new_run(tmp_path / "run", config)
    update, learned = Trainer.update, []

    def watched(trainer, batch):
        policy = getattr(getattr(trainer.objective, "gen_core", None), "agent", None)
        if policy and not learned:
            learned.append(flat(policy.head))
        metrics = update(trainer, batch)
        if policy:
            learned.append(flat(policy.head))
        return metrics

    monkeypatch.setattr(Trainer, "update", watched)
    go_on(folder)
    assert len(learned) == 1 + 4 + 2 + 2
    kept = [0.0, *(min(decay, n / (10 + n)) for n in range(1, len(learned)))]
    shares = [(1 - kept[n]) * np.prod(kept[n + 1 :]) for n in range(len(learned))]
    assert sum(shares) == pytest.approx(1)
    expected = sum(share * weights for share, weights in zip(shares, learned, strict=True))
    torch.testing.assert_close(flat(load(folder.path).acting), expected, rtol=1e-4, atol=1e-6)
    assert torch.equal(flat(load(folder.path).policy), learned[-1])
