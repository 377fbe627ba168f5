"""A run that was stopped and resumed is, to the last bit, the run that was never stopped; so is
one that was given more steps. Of both presets, at every stage."""

import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from campaigns.processes import Process, ended
from command_line import assert_refused, worldmodel
from runs import assert_same, assert_same_weights, at, outcome, train

from worldmodel.agents import AgentConfig, AgentTraining, WorldModelAgent
from worldmodel.checkpoint import list_checkpoints
from worldmodel.experiments.rl.config import TOY_GAME, EnvironmentConfig, RLConfig, quick
from worldmodel.experiments.runs.registry import new_run
from worldmodel.files import DamagedError
from worldmodel.run_folder import RunError, RunFolder

AGENT = AgentConfig(seed=3)
CAUTIOUS = replace(AGENT, policy=replace(AGENT.policy, pessimism=1.0))
CONFIGS = {
    "toy-game": quick(replace(TOY_GAME, threads=1, film=False)),
    "CartPole": quick(RLConfig(EnvironmentConfig("CartPole-v1"), agent=CAUTIOUS)),
    "Pendulum": quick(RLConfig(EnvironmentConfig("Pendulum-v1", num_envs=3), agent=AGENT)),
    "MountainCar": quick(RLConfig(EnvironmentConfig("MountainCar-v0"), agent=AGENT)),
}
STAGES = {"collect", "learn", "improve"}
MORE = 30  # steps: two rounds


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> dict[str, RunFolder]:
    """Runs that were never stopped."""
    path = tmp_path_factory.mktemp("whole")
    made = {name: new_run(path / name, config) for name, config in CONFIGS.items()}
    for folder in made.values():
        assert train(folder).is_done
    return made


@pytest.fixture(scope="module")
def longer(tmp_path_factory, whole) -> dict[str, RunFolder]:
    """Copies of them, given more steps when they had ended."""
    path = tmp_path_factory.mktemp("longer")
    made = {}
    for name, folder in whole.items():
        made[name] = RunFolder.open(shutil.copytree(folder.path, path / name))
        assert train(made[name], steps=MORE).is_done
    return made


@pytest.mark.parametrize(("name", "is_searching"), [("CartPole", False), ("MountainCar", True)])
def test_some_of_them_seek_what_is_not_known(whole, name, is_searching):
    assert whole[name].values()["sought_novelty"] == is_searching


def train_in_pieces(folder: RunFolder) -> list[str]:
    """Trains to the end, stopping after every unit; the kinds of stages that it stopped in."""
    stops: list[str] = []

    def note(job) -> bool:
        stops.append(job.stages[job.stage].kind)
        return True

    while not train(folder, note).is_done:
        assert len(stops) < 200
    return stops


@pytest.mark.parametrize("name", CONFIGS)
def test_a_run_stopped_after_every_unit_is_the_run_that_never_was(tmp_path, whole, name):
    folder = new_run(tmp_path / "run", CONFIGS[name])
    stops = train_in_pieces(folder)
    assert set(stops) == STAGES | ({"choose", "evaluate"} if name != "toy-game" else set())
    assert len(stops) > 15
    assert_same(folder, whole[name])


@pytest.mark.parametrize("name", CONFIGS)
def test_more_steps_are_as_steps_that_were_never_interrupted(tmp_path, longer, name):
    folder = new_run(tmp_path / "run", CONFIGS[name])
    train(folder)
    train(folder, lambda job: True, steps=MORE)
    train_in_pieces(folder)
    assert_same(folder, longer[name])
    steps = [line["steps"] for line in folder.metrics() if line["stage"] == "collect"]
    assert len(steps) == 5
    assert sum(steps) >= 90 + MORE


@pytest.mark.parametrize("name", ["CartPole", "toy-game"])
def test_a_run_given_more_steps_is_an_agent_that_learns_twice(longer, name):
    """Two doors to one training: the same weights, to the last bit, whether or not it is evaluated
    for a learning curve."""
    config = CONFIGS[name]
    count = config.environment.num_envs
    agent = WorldModelAgent(
        config.environment.env, config=config.agent, seed=config.agent.seed, num_envs=count
    )
    agent.learn(90).learn(MORE)
    weights = {
        f"{module}.{key}": weight
        for module, found in agent.training.modules.items()
        for key, weight in found.state_dict().items()
    }
    assert_same_weights(weights, outcome(longer[name])[1])


KILLS = [("collect", 0), ("collect", 2), ("learn", 1), ("improve", 0)]


@pytest.mark.parametrize(("kind", "number"), KILLS)
@pytest.mark.parametrize("name", CONFIGS)
def test_a_run_that_was_killed_loses_nothing(tmp_path, whole, monkeypatch, name, kind, number):
    """In the midst of a unit, which has left some of its traces."""
    folder = new_run(tmp_path / "run", CONFIGS[name])
    work = AgentTraining.work

    def killed(self, stage):
        metrics = work(self, stage)
        if (stage.kind, stage.round) == (kind, number) and self.done == stage.units - 1:
            folder.log({"stage": stage.kind, "half": "written"})
            raise KeyboardInterrupt
        return metrics

    with monkeypatch.context() as patch:
        patch.setattr(AgentTraining, "work", killed)
        with pytest.raises(KeyboardInterrupt):
            train(folder)
    train(folder)
    assert_same(folder, whole[name])


def test_a_run_goes_on_from_an_older_checkpoint_that_is_named(tmp_path, whole):
    folder = new_run(tmp_path / "run", CONFIGS["CartPole"])
    train(folder, at("learn", 1, 1))
    *_, older, newest = list_checkpoints(folder.checkpoints)  # besides the best
    (newest / "state.pt").write_bytes(b"damaged")
    with pytest.raises(DamagedError, match=f"{newest.name}.*--from {older.name}"):
        train(folder)
    train(folder.at(older.name))
    assert_same(folder, whole["CartPole"])


def test_a_run_killed_as_it_goes_back_to_an_older_checkpoint_goes_on(tmp_path, whole, monkeypatch):
    """Without naming it again, though episodes of the newer one are gone."""
    folder = new_run(tmp_path / "run", CONFIGS["CartPole"])
    train(folder, at("collect", 1, 1))
    older, _ = list_checkpoints(folder.checkpoints)
    build = AgentTraining.build

    def killed(self, values):
        build(self, values)
        signal.raise_signal(signal.SIGKILL)

    with monkeypatch.context() as patch:
        patch.setattr(AgentTraining, "build", killed)
        end = ended(Process(lambda: train(folder.at(older.name))), 60)
    assert end.code == -signal.SIGKILL
    train(folder)
    assert_same(folder, whole["CartPole"])


def test_a_finished_run_resumes_to_nothing(whole):
    before = outcome(whole["toy-game"])[0]
    train(whole["toy-game"])
    assert outcome(whole["toy-game"])[0] == before


def test_more_steps_at_the_command_line(tmp_path):
    """What is evaluated has seen them; before the end of a run they come after what is left."""
    folder = new_run(tmp_path / "run", replace(CONFIGS["CartPole"], keep="last"))
    train(folder, at("learn", 0, 2))
    result = worldmodel("resume", folder.path, "--steps", MORE)
    assert result.returncode == 0, result.stderr
    assert [line["real_steps"] for line in folder.metrics() if line["stage"] == "collect"] == [
        *(50, 70, 90),
        *(110, 120),
    ]
    final = list(folder.metrics())[-1]
    assert (final["stage"], final["real_steps_used"]) == ("final", 120)
    assert_refused(worldmodel("resume", folder.path, "--steps", 0), "--steps must be positive")


def test_ctrl_c_saves_and_says_how_to_go_on(tmp_path):
    path = tmp_path / "run"
    options = ["--prefill", "1000", "--hidden-size", "16", "--first-updates", "100000"]
    process = subprocess.Popen(
        [sys.executable, "-m", "worldmodel", "train", "toy-game", "--out", str(path), *options],
        stderr=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[1],
    )
    deadline = time.monotonic() + 60
    while not list_checkpoints(path / "checkpoints") and time.monotonic() < deadline:
        time.sleep(0.1)
    time.sleep(0.3)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130
    assert f"worldmodel resume {path}" in said
    assert "Traceback" not in said


def test_a_folder_that_holds_a_run_is_left_alone(whole):
    with pytest.raises(RunError, match="already exists"):
        new_run(whole["CartPole"].path, CONFIGS["CartPole"])
