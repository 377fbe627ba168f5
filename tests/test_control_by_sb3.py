"""Runs whose policy an algorithm of stable-baselines3 trains: whole, interrupted, refused."""

import json

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces
from runs import assert_same, at, outcome, train

from worldmodel import Greedy, experiments, nested, play_episodes
from worldmodel.agents import AgentConfig, world as worlds
from worldmodel.agents.sb3 import ALGORITHMS
from worldmodel.experiments.bench import control, dream
from worldmodel.experiments.bench.control import baseline
from worldmodel.experiments.bench.settings import ControlSettings, DreamSettings
from worldmodel.experiments.cli import settings, verbs
from worldmodel.experiments.cli.main import main
from worldmodel.experiments.rl.baseline_config import BaselineConfig
from worldmodel.experiments.rl.config import TOY_GAME, EnvironmentConfig, RLConfig, quick
from worldmodel.experiments.runs.registry import new_run
from worldmodel.options import with_options
from worldmodel.progress import Reporter
from worldmodel.run_folder import RunError

AMID_DREAMS = at("improve", 0, 2)


@pytest.fixture(autouse=True)
def _noise_is_left_alone():
    with torch.random.fork_rng(devices=[]):
        yield


def config_of(algorithm, env="CartPole-v1", arguments="{}", **environment):
    options = {"agent": f"sb3:{algorithm}", "agent_arguments": arguments}
    agent = with_options(AgentConfig(), options)
    return quick(RLConfig(EnvironmentConfig(env, **environment), agent=agent))


def trained(path, config, stop_after=None):
    """The folder of a run, which was stopped amid dreams and went on."""
    folder = new_run(path, config)
    if stop_after is not None:
        assert not train(folder, stop_after).is_done
    assert train(folder).is_done
    return folder


@pytest.mark.parametrize("algorithm", ["PPO", "A2C", "RecurrentPPO"])
def test_a_run_goes_on_to_the_last_bit(algorithm, tmp_path):
    """And beyond its end, as well."""
    config = config_of(algorithm)
    whole = trained(tmp_path / "whole", config)
    cut = trained(tmp_path / "cut", config, AMID_DREAMS)
    train(whole, steps=20)
    train(cut, at("improve", 3, 1), steps=20)
    train(cut)
    assert_same(cut, whole)
    assert any(key.startswith("policy.") for key in outcome(whole)[1])


@pytest.mark.parametrize(("algorithm", "env"), [("DQN", "CartPole-v1"), ("SAC", "Pendulum-v1")])
def test_a_run_whose_replay_is_refilled_goes_on(algorithm, env, tmp_path):
    config = config_of(algorithm, env, time_limit=20)
    whole = trained(tmp_path / "whole", config).metrics()
    cut = trained(tmp_path / "cut", config, AMID_DREAMS).metrics()
    assert [(line["stage"], line["unit"]) for line in cut] == [
        (line["stage"], line["unit"]) for line in whole
    ]
    run = experiments.load(tmp_path / "cut")
    returns = play_episodes(run.environment(2, seed=0), Greedy(run.agent), 2).returns
    assert len(returns) == 2


def test_what_cannot_be_is_said_before_a_folder_is_made(tmp_path):
    for config, words in (
        (config_of("SAC"), "SAC takes Box actions, but .*Discrete.*; PPO"),
        (config_of("DQN", "Pendulum-v1"), "DQN takes Discrete actions, but .*Box"),
    ):
        with pytest.raises(RunError, match=words):
            verbs.train(settings.Train(tmp_path / "run", config), Reporter())
        assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--agent", "sb3:PPO", "--agent-arguments", '{"n_stpes": 3}'], "takes no n_stpes"),
        (["--agent-arguments", '{"n_steps": 3}'], "choose --agent"),
        (["--agent", "sb3:PPO", "--method", "pathwise"], "--method is our own agent's"),
    ],
)
def test_options_that_do_nothing_are_refused(options, words, tmp_path, capsys):
    with pytest.raises(SystemExit) as end:
        main(
            ["train", "control", "--env", "CartPole-v1", "--out", str(tmp_path / "run"), *options]
        )
    assert end.value.code == 2
    printed = capsys.readouterr()
    assert words in " ".join((printed.err + printed.out).replace("│", " ").split())


def test_arguments_reach_the_algorithm(tmp_path):
    config = config_of("PPO", arguments='{"n_epochs": 3, "gamma": 0.5}')
    trained(tmp_path / "run", config)
    algorithm = experiments.load(tmp_path / "run").components.algorithm.algorithm
    rollouts = config.agent.policy.rollouts(are_numbers=False)
    assert (algorithm.n_epochs, algorithm.gamma) == (3, 0.5)
    assert algorithm.gae_lambda == rollouts.gae_lambda
    assert (algorithm.n_envs, algorithm.n_steps) == (rollouts.num_imagined, rollouts.length)


@pytest.mark.parametrize(
    ("algorithm", "env", "options"),
    [
        ("PPO", "CartPole-v1", {}),
        ("PPO", "Acrobot-v1", {"time_limit": 30}),  # normalised
        ("RecurrentPPO", "CartPole-v1", {"hidden_velocities": True}),
        ("SAC", "Pendulum-v1", {"time_limit": 30}),
        ("DQN", "CartPole-v1", {}),
    ],
)
def test_baselines_are_evaluated_as_runs_are(algorithm, env, options, tmp_path):
    config = BaselineConfig(
        EnvironmentConfig(env, **options), algorithm, steps=300, every=128, episodes=3
    )
    folder = new_run(tmp_path / "run", config)
    baseline(folder, Reporter())
    lines = list(folder.metrics())
    assert [line["stage"] for line in lines] == ["evaluate"] * len(lines)
    assert [line["real_steps"] // 128 * 128 for line in lines][:2] == [128, 256]
    assert all(3 <= len(line["real_returns"]) <= 15 for line in lines)  # more, if they are short
    assert {"round", "unit", "real_return_mean", "seconds"} <= lines[0].keys()
    with pytest.raises(RunError, match="no `resume` for runs of baseline"):
        verbs.resume(settings.Resume(folder.path), Reporter())


def test_a_baseline_says_what_it_cannot_learn_from(tmp_path):
    config = BaselineConfig(EnvironmentConfig("CartPole-v1"), "SAC")
    with pytest.raises(RunError, match="SAC takes Box actions"):
        baseline(new_run(tmp_path / "run", config), Reporter())
    game = EnvironmentConfig("CartPole-v1", pixels=32)
    with pytest.raises(RunError, match="from 1 to 1,000 numbers in a row, but CartPole-v1 shows"):
        control.run(ControlSettings(tmp_path / "images", BaselineConfig(game, "PPO")), Reporter())
    assert not (tmp_path / "images").exists()


class Uneven(gymnasium.Env):
    """Shows nested observations, of which the agent learns nothing; it never ends."""

    steps = 0  # of all that were ever made

    def __init__(self):
        parts = spaces.Box(0, 9, (2, 3), np.uint8), spaces.MultiDiscrete([2, 3])
        self.observation_space = spaces.Dict(pair=spaces.Tuple(parts), kind=spaces.Discrete(4))
        self.action_space = spaces.Discrete(2)
        self.observation_space.seed(0)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return self.observation_space.sample(), {}

    def step(self, action):
        Uneven.steps += 1
        return self.observation_space.sample(), 1.0, False, False, {}


@pytest.fixture
def uneven():
    gymnasium.register("Uneven-v0", Uneven, disable_env_checker=True)
    Uneven.steps = 0
    yield "Uneven-v0"
    del gymnasium.registry["Uneven-v0"]


def test_a_baseline_sees_the_same_numbers_in_training_and_evaluation(uneven):
    config = BaselineConfig(EnvironmentConfig(uneven), "PPO")
    algorithm, games = control.learner(config, control.recipe_of(config))
    shown = Uneven().observation_space
    seen = control.Seen(games, shown)
    values = [shown.sample() for _ in range(3)]
    rows = nested.stack([nested.map(torch.as_tensor, value) for value in values])
    expected = np.stack([spaces.flatten(shown, value) for value in values])
    assert np.array_equal(seen(rows).numpy(), expected)
    assert (seen.size,) == games.observation_space.shape
    assert algorithm.observation_space == games.observation_space


def test_evaluations_of_a_baseline_end_where_no_episode_does(uneven, monkeypatch):
    """As those of `train control` do."""
    monkeypatch.setattr(worlds, "ENDLESS", 50)
    monkeypatch.setattr(worlds, "SHORT", 50)
    config = BaselineConfig(EnvironmentConfig(uneven), "PPO", episodes=2)
    algorithm, games = control.learner(config, control.recipe_of(config))
    agent = control.agent_of(algorithm, games, Uneven().observation_space)
    assert len(control.real_returns(config, agent)) == 2
    assert Uneven.steps <= 2 * (50 + 1)


def test_of_a_baseline_nothing_is_loaded(tmp_path):
    config = BaselineConfig(EnvironmentConfig("CartPole-v1"), "PPO")
    new_run(tmp_path / "run", config)
    with pytest.raises(RunError, match="no `load` for runs of baseline"):
        experiments.load(tmp_path / "run")


def test_a_baseline_learns_from_classes_too(tmp_path):
    pytest.importorskip("popgym")
    environment = EnvironmentConfig("popgym-RepeatPreviousEasy-v0")
    config = BaselineConfig(environment, "RecurrentPPO", steps=128, every=128, episodes=2)
    folder = new_run(tmp_path / "run", config)
    baseline(folder, Reporter())
    (line,) = folder.metrics()
    assert line["real_steps"] == 128
    assert all(-1 <= value <= 1 for value in line["real_returns"])


def test_every_algorithm_can_be_asked_for():
    for name in ALGORITHMS:
        assert config_of(name).agent.policy.algorithm == name
    assert AgentConfig().policy.algorithm is None


def test_a_checkpoint_of_an_algorithm_is_plain_data(tmp_path):
    """No pickle that runs code: it is read back with `weights_only`."""
    trained(tmp_path / "run", config_of("SAC", "Pendulum-v1", time_limit=20))
    newest = sorted((tmp_path / "run" / "checkpoints").iterdir())[-1]
    state = torch.load(newest / "state.pt", weights_only=True)
    learner = state["optimizer"]["learner"]
    assert {"actor.optimizer", "critic.optimizer", "ent_coef_optimizer"} == set(
        learner["optimizers"]
    )
    assert "log_ent_coef" in learner["others"]
    assert json.loads((newest / "values.json").read_text())["real_steps"] > 0


def test_agents_are_compared_in_the_dream_of_a_run_that_stays_as_it_is(tmp_path, capsys):
    trained(tmp_path / "run", config_of("PPO", time_limit=20))
    files = {path: path.stat().st_mtime_ns for path in (tmp_path / "run").rglob("*")}
    capsys.readouterr()
    options = ["--rollouts", "2", "--episodes", "3", "--horizon", "7", "--json"]
    main(["bench", "dream", str(tmp_path / "run"), "--agents", "own", "sb3:A2C", *options])
    rows = json.loads(capsys.readouterr().out)
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "run").rglob("*")} == files
    assert [row["agent"] for row in rows] == ["own", "sb3:A2C"]
    assert {row["dreamt_steps"] for row in rows} == {2 * 8 * 4}
    assert {row["real_steps_used"] for row in rows} == {90}
    assert all(row["dream_return_mean"] <= 7 < row["real_return_mean"] for row in rows)


def test_an_algorithm_learns_in_the_dream_of_the_toy_game(tmp_path):
    """Games begin with the model's own first rows, as the preset says."""
    trained(tmp_path / "run", quick(TOY_GAME))
    config = DreamSettings(tmp_path / "run", ("own", "sb3:PPO"), '{"n_epochs": 1}', 1, 2, 3)
    rows = dream.run(config, Reporter())
    rollouts = quick(TOY_GAME).agent.policy.rollouts(are_numbers=False)
    steps = rollouts.num_imagined * rollouts.length
    assert [row["dreamt_steps"] for row in rows] == [steps, steps]
    assert all(-3 <= row["dream_return_mean"] < 0 for row in rows)


def test_a_bench_of_dreams_wants_a_run_that_dreams(tmp_path):
    config = BaselineConfig(EnvironmentConfig("CartPole-v1"))
    folder = new_run(tmp_path / "run", config)
    with pytest.raises(RunError, match="is a run of baseline"):
        dream.run(DreamSettings(folder.path, ("own",)), Reporter())
