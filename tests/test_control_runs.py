"""Runs of `train control`: evaluated, drawn; with data they need no environment; what a user can
mend gets one sentence."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import gymnasium
import numpy as np
import pytest
from command_line import assert_refused, worldmodel
from gymnasium import spaces
from runs import assert_same, train

from worldmodel import experiments
from worldmodel.agents import AgentConfig
from worldmodel.experiments.data.datasets import open_data
from worldmodel.experiments.rl.config import EnvironmentConfig, RLConfig, quick
from worldmodel.experiments.runs.registry import new_run
from worldmodel.files import read_json
from worldmodel.run_folder import RunError, RunFolder

CARTPOLE = quick(RLConfig(EnvironmentConfig("CartPole-v1"), agent=AgentConfig(seed=3)))
PENDULUM = quick(RLConfig(EnvironmentConfig("Pendulum-v1", num_envs=3), agent=AgentConfig(seed=4)))
CONFIGS = {"CartPole": CARTPOLE, "Pendulum": PENDULUM}


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> dict[str, RunFolder]:
    """Runs that were never stopped."""
    path = tmp_path_factory.mktemp("runs")
    made = {name: new_run(path / name, config) for name, config in CONFIGS.items()}
    for folder in made.values():
        train(folder)
    return made


def test_a_loaded_run_acts_and_dreams(runs):
    run = experiments.load(runs["Pendulum"].path)
    assert run.agent.model is run.model
    assert run.dream().initial_state(3).ended.all()
    world = run.environment(2, seed=0)
    assert world.initial_state(2).ended.all()
    world.close()


FIGURES = {
    "real_return_mean",
    "real_return_iqm",
    "real_return_ci95",
    "dream_return_mean",
    "dream_return_ci95",
    "real_steps_used",
    "open_loop",
    "nats_per_step",
    "wall_seconds",
    "seed",
    "episodes",
}


def test_a_run_is_evaluated(runs):
    path = runs["CartPole"].path
    result = worldmodel("evaluate", path, "--json", "--episodes", 3, "--save")
    assert result.returncode == 0, result.stderr
    figures = json.loads(result.stdout)
    assert figures.keys() >= FIGURES
    assert figures["settings"]["episodes"] == 3
    assert figures["scored_on"].startswith("real episodes of the agent")
    assert figures["episodes"] == 3
    assert figures["real_steps_used"] == runs["CartPole"].kept().values()["real_steps"]
    assert figures["dream_horizon"] == 500
    assert "optimal_return" not in figures  # nobody knows it
    low, high = figures["real_return_ci95"]
    assert 1 <= low <= figures["real_return_mean"] <= high <= 500
    nats = sum(part["nats_per_step"] for part in figures["by_key"].values())
    assert nats == pytest.approx(figures["nats_per_step"])
    assert read_json(path / "evaluation.json") == figures
    *_, last = runs["CartPole"].metrics()
    assert last == {"stage": "final"} | figures
    again = json.loads(worldmodel("evaluate", path, "--json", "--episodes", 3).stdout)
    assert again == figures
    assert "return" in worldmodel("evaluate", path).stdout


def test_runs_are_drawn(runs, tmp_path):
    pytest.importorskip("matplotlib")
    out = tmp_path / "curves.png"
    paths = [run.path for run in runs.values()]
    result = worldmodel("plot", *paths, "--out", out, "--threshold", 475)
    assert result.returncode == 0, result.stderr
    assert out.stat().st_size > 1_000
    result = worldmodel("plot", paths[0], "--out", tmp_path / "curves.txt")
    assert result.returncode == 2
    assert ".png" in result.stderr


@pytest.fixture(scope="module")
def data(runs, tmp_path_factory) -> Path:
    """Episodes of CartPole, in a folder of their own."""
    out = tmp_path_factory.mktemp("data") / "episodes"
    assert worldmodel("export", runs["CartPole"].path, "--out", out).returncode == 0
    return out


def test_episodes_teach_without_an_environment(data, tmp_path):
    path = tmp_path / "run"
    result = worldmodel("train", "control", "--data", data, "--out", path, "--quick")
    assert result.returncode == 0, result.stderr
    assert "no environment" in result.stdout
    run = RunFolder.open(path)
    kinds = {line["stage"] for line in run.metrics()}
    assert kinds == {"read", "learn", "improve", "final"}
    figures = read_json(path / "evaluation.json")
    assert figures.keys() >= FIGURES
    assert figures["real_return_mean"] is None
    assert figures["dream_return_mean"] >= 1
    recorded, kept = open_data(data).episodes, open_data(path).episodes
    assert figures["held_out_episodes"] == 2
    assert len(kept) == len(recorded) - 2
    assert figures["real_steps_used"] == kept.steps < recorded.steps
    with pytest.raises(RunError, match="no real environment"):
        experiments.load(path).environment()


def test_a_run_with_data_that_is_stopped_goes_on(data, tmp_path):
    """After every unit, too. Once episodes are read, what they were read from may go; more steps
    are more learning."""
    copy = shutil.copytree(data, tmp_path / "data")
    config = replace(CARTPOLE, data=str(copy), environment=EnvironmentConfig())
    whole, stopped = (new_run(tmp_path / name, config) for name in ("a", "b"))
    train(whole)
    train(whole, steps=20)
    while not train(stopped, lambda job: True).is_done:
        if any(line["stage"] == "learn" for line in stopped.metrics()):
            shutil.rmtree(copy, ignore_errors=True)
    train(stopped, steps=20)
    assert not copy.exists()
    assert_same(stopped, whole)
    rounds = {line["round"] for line in whole.metrics()}
    assert rounds == {0, 1, 2, 3}


def test_episodes_and_an_environment_have_to_fit(data, tmp_path):
    new = ["train", "control", "--data", data, "--out", tmp_path / "run", "--quick"]
    assert_refused(worldmodel(*new, "--env", "Pendulum-v1"), "of the spaces", "leave out --env")
    result = worldmodel(*new, "--env", "CartPole-v1")
    assert result.returncode == 0, result.stderr
    figures = read_json(tmp_path / "run" / "evaluation.json")
    assert figures["real_return_mean"] >= 1


class Odd(gymnasium.Env):
    """Goes wrong in a way of choice after some steps, or ends at once."""

    count = 0  # steps of all that were ever made

    def __init__(self, fault="none", after=30):
        self.fault, self.after = fault, after
        numbers = spaces.Box(-1, 1, (2,), np.float32)
        self.observation_space = spaces.Dict(numbers=numbers, kind=spaces.Discrete(3))
        self.action_space = spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return self.seen(), {}

    def step(self, action):
        Odd.count += 1
        late = Odd.count > self.after
        reward = np.nan if late and self.fault == "reward" else 1.0
        ended = self.fault == "ends at once" or self.np_random.random() < 0.1
        return self.seen(), reward, ended, False, {}

    def seen(self):
        late = Odd.count > self.after
        numbers = self.np_random.uniform(-1, 1, 2).astype(np.float32)
        if late and self.fault == "number":
            numbers[1] = np.nan
        return {"numbers": numbers, "kind": 7 if late and self.fault == "kind" else 1}


@pytest.fixture
def odd(tmp_path):
    """Trains in an environment that has a fault."""
    gymnasium.register("Strange-v0", Odd, max_episode_steps=20, disable_env_checker=True)
    Odd.count = 0
    out = tmp_path / "run"

    def train(fault, **arguments):
        config = json.dumps({"fault": fault} | arguments)
        new = ["train", "control", "--env", "Strange-v0", "--out", out, "--quick"]
        return worldmodel(*new, "--arguments", config)

    yield train
    del gymnasium.registry["Strange-v0"]


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("reward", ["the reward nan"]),
        ("number", ["showed nan", "'numbers'"]),
        ("kind", ["showed 7", "'kind'", "Discrete(3)"]),
    ],
)
@pytest.mark.parametrize("after", [30, 60])
def test_what_is_no_number_is_refused(odd, fault, words, after):
    """While playing at random, and later."""
    assert_refused(odd(fault, after=after), *words)


def test_episodes_of_one_step_teach(odd, tmp_path):
    result = odd("ends at once")
    assert result.returncode == 0, result.stderr
    figures = read_json(tmp_path / "run" / "evaluation.json")
    assert figures["real_return_mean"] == 1.0
    assert figures["open_loop"]["windows"][1:] == [0, 0, 0]
    assert figures["open_loop"]["by_key"]["reward"]["error"][0] is not None


def test_wrong_options_get_a_sentence_and_leave_no_folder(tmp_path, data):
    new = ["train", "control", "--out", tmp_path / "x", "--quick"]
    assert_refused(worldmodel(*new), "--env ID, --data PATH")
    assert_refused(worldmodel(*new, "--env", "CartPool-v1"), "did you mean CartPole-v1")
    wrong = ["--arguments", '{"mass": 1}']
    assert_refused(worldmodel(*new, "--env", "CartPole-v1", *wrong), "does not take the arguments")
    assert_refused(worldmodel(*new, "--env", "CartPole-v1", "--num-envs", 0), "--num-envs")
    assert_refused(worldmodel(*new, "--env", "CartPole-v1", "--episodes", 1), "2 or more")
    assert_refused(worldmodel(*new, "--env", "CartPole-v1", "--hide", 9), "9")
    assert_refused(worldmodel(*new, "--data", tmp_path / "none"), "no folder of episodes")
    few = tmp_path / "few"
    few.mkdir()
    (few / "spaces.json").write_text((data / "spaces.json").read_text())
    open_data(data).episodes.select(np.arange(2)).save(few / "episodes.npz")
    assert_refused(worldmodel(*new, "--data", few), "has 2 episodes", "3 episodes or more")
    assert not (tmp_path / "x").exists()
