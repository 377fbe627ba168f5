"""Laws of the baselines: they see what they were trained on, and are counted as all others."""

import gymnasium
import numpy as np
import pytest
import torch

from worldmodel import play_episodes
from worldmodel.envs import Action, GymEnvironment, ToyGame
from worldmodel.experiments.bench.settings import ToyGameSettings
from worldmodel.experiments.bench.toy_game import (
    COPIES,
    GreedyBaseline,
    LastAction,
    _algorithm,
    run,
)
from worldmodel.progress import Reporter
from worldmodel.run_folder import RunError

TINY = {"width": 2, "classes": 2, "task": "copy"}


def reality(copies, seed=3):
    return GymEnvironment(gymnasium.make_vec("worldmodel/ToyGame-v0", copies, **TINY), seed)


class Scripted:
    """Has `predict`; plays the same actions in every episode and keeps what it saw."""

    def __init__(self, actions):
        self.actions = actions
        self.seen = []

    def predict(self, observation, state, episode_start, deterministic):
        assert deterministic
        self.seen.append(observation)
        state = np.zeros(len(observation), int) if state is None else state
        state = np.where(episode_start, 0, state)
        return np.asarray(self.actions)[state % len(self.actions)], state + 1


def test_the_best_actions_take_the_fewest_steps():
    best = GreedyBaseline(Scripted([Action.RIGHT, Action.UP]), ToyGame(**TINY), False)
    played = play_episodes(reality(50), best, 50, limit=100)
    assert (played.lengths == 2).all()
    assert played.terminated.all()
    idle = GreedyBaseline(Scripted([Action.NOOP]), ToyGame(**TINY), False)
    played = play_episodes(reality(50), idle, 50, limit=100)
    assert (played.lengths == 100).all()
    assert not played.terminated.any()


@pytest.mark.parametrize("last_action", [False, True])
@torch.no_grad()
def test_a_baseline_sees_what_it_was_trained_on(last_action):
    algorithm = Scripted([Action.LEFT, Action.NOOP, Action.RIGHT, Action.NOOP])  # never solves
    agent = GreedyBaseline(algorithm, ToyGame(**TINY), last_action)
    play_episodes(reality(1), agent, 1, limit=100)
    env = LastAction(ToyGame(**TINY)) if last_action else ToyGame(**TINY)
    seen = [env.reset(seed=3)[0]]
    while len(seen) < len(algorithm.seen):
        seen.append(env.step(algorithm.actions[(len(seen) - 1) % 4])[0])
    assert len(seen) == 101
    assert np.array_equal(np.stack(seen), np.concatenate(algorithm.seen))
    assert all(env.observation_space.contains(observation) for observation in seen)


def test_a_reset_forgets_the_last_action():
    env = LastAction(ToyGame(**TINY))
    assert env.reset(seed=0)[0].sum() == 1
    assert env.step(Action.UP)[0][-5:].tolist() == [0, 0, 0, 1, 0]
    assert env.reset()[0].sum() == 1


@pytest.mark.parametrize(
    ("algorithm", "last_action"), [("ppo", False), ("ppo", True), ("recurrent-ppo", True)]
)
def test_a_baseline_is_trained_and_measured(algorithm, last_action, capsys):
    settings = ToyGameSettings(algorithm, 320, last_action, seed=1)
    with torch.random.fork_rng(devices=[]):
        result = run(settings, Reporter(), games=20)
    assert result["algorithm"] == algorithm
    assert result["last_action"] == last_action
    assert (result["real_steps"], result["games"], result["seed"]) == (320, 20, 1)
    low, high = result["real_return_ci95"]
    assert -100 <= result["real_return_mean"] <= -1
    assert low <= result["real_return_mean"] <= high
    assert 0 <= result["terminated"] <= 1
    assert result["seconds"] > 0
    assert f"training {algorithm}: 320/320" in capsys.readouterr().err


def test_a_baseline_leaves_no_folder_of_logs(tmp_path, monkeypatch):
    monkeypatch.setenv("SB3_LOGDIR", str(tmp_path / "logs"))
    with torch.random.fork_rng(devices=[]):
        run(ToyGameSettings("ppo", 160, **TINY), Reporter(), games=2)
    assert not list(tmp_path.iterdir())


def test_the_same_seed_gives_the_same_figures():
    def figures(seed):
        with torch.random.fork_rng(devices=[]):
            settings = ToyGameSettings("ppo", 160, **TINY, seed=seed)
            result = run(settings, Reporter(), games=50)
        return {key: value for key, value in result.items() if key != "seconds"}

    assert figures(0) == figures(0)
    assert figures(0) != figures(1)


def test_a_seed_is_of_the_algorithm_too():
    def weights(seed):
        with torch.random.fork_rng(devices=[]):
            settings = ToyGameSettings("ppo", 320, **TINY, seed=seed)
            return _algorithm(settings, ToyGame(**TINY)).policy.state_dict()

    name = "action_net.weight"
    assert torch.equal(weights(0)[name], weights(0)[name])
    assert not torch.equal(weights(0)[name], weights(1)[name])


def test_too_few_steps_are_refused():
    with pytest.raises(RunError, match=f"--steps must be {2 * COPIES} or more, got 3"):
        run(ToyGameSettings("ppo", 3), Reporter())
