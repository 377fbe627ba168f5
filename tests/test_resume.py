"""A run that was stopped and resumed is, to the last bit, the run that was never stopped."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from runs import assert_same
from worldmodel.experiments.rl.toy_game import Training, load
from worldmodel.experiments.rl.toy_game_config import ToyGameConfig, quick

from worldmodel.checkpoint import list_checkpoints
from worldmodel.experiments.runs.interruption import Interrupted
from worldmodel.experiments.runs.registry import new_run
from worldmodel.progress import Reporter
from worldmodel.run_folder import RunError, RunFolder

CONFIG = quick(ToyGameConfig(seed=3, threads=1))


def train(folder: RunFolder, stop_after=lambda training: False) -> Training:
    training = Training(folder, Reporter())
    training.restore()
    training.run(stop_after)
    return training


@pytest.fixture(scope="module")
def never_stopped(tmp_path_factory) -> RunFolder:
    folder = new_run(tmp_path_factory.mktemp("run") / "whole", CONFIG)
    train(folder)
    return folder


@pytest.mark.parametrize(
    ("kind", "number", "done"),
    [("learn", 0, 2), ("improve", 0, 1), ("collect", 1, 1), ("learn", 1, 4), ("improve", 1, 2)],
)
def test_a_resumed_run_equals_one_never_stopped(tmp_path, never_stopped, kind, number, done):
    folder = new_run(tmp_path / "run", CONFIG)

    def here(training: Training) -> bool:
        stage = training.stages[training.stage]
        return (stage.kind, stage.round, training.done) == (kind, number, done)

    with pytest.raises(Interrupted):
        train(folder, here)
    torch.manual_seed(99)  # another process would not have our random state either
    train(folder)
    assert_same(folder, never_stopped)


@pytest.mark.parametrize("number", [0, 1])
def test_a_run_killed_while_it_collects_loses_nothing(
    tmp_path, never_stopped, monkeypatch, number
):
    folder = new_run(tmp_path / "run", CONFIG)
    play = Training._play

    def killed(self, agent, steps, which):
        episodes = play(self, agent, steps, which)
        if which == number:
            folder.log({"stage": "collect", "half": "written"})
            raise KeyboardInterrupt
        return episodes

    monkeypatch.setattr(Training, "_play", killed)
    with pytest.raises(KeyboardInterrupt):
        train(folder)
    monkeypatch.setattr(Training, "_play", play)
    if number == 0:
        (folder.episodes / "round-0.npz").unlink()  # killed before it was written
    train(folder)
    assert_same(folder, never_stopped)


def test_a_damaged_checkpoint_is_passed_over(tmp_path, never_stopped):
    folder = new_run(tmp_path / "run", CONFIG)
    with pytest.raises(Interrupted):
        train(folder, lambda training: (training.stage, training.done) == (1, 2))
    newest = list_checkpoints(folder.checkpoints)[-1]
    (newest / "state.pt").write_bytes(b"damaged")
    train(folder)
    assert_same(folder, never_stopped)


def test_a_finished_run_resumes_to_nothing(tmp_path, never_stopped):
    folder = new_run(tmp_path / "run", CONFIG)
    train(folder)
    train(folder)
    assert_same(folder, never_stopped)


def test_ctrl_c_saves_and_says_how_to_go_on(tmp_path):
    path = tmp_path / "run"
    command = [sys.executable, "-m", "worldmodel"]
    options = [
        "--uniform-steps",
        "1000",
        "--hidden",
        "16",
        "--updates",
        "100000",
        "--threads",
        "1",
    ]
    process = subprocess.Popen(
        [*command, "train", "toy-game", "--out", str(path), *options],
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


def test_a_loaded_run_acts_and_dreams(tmp_path):
    folder = new_run(tmp_path / "run", CONFIG)
    train(folder)
    run = load(folder.path)
    assert run.environment(2, seed=0).initial_state(2) is not None
    assert run.dream().initial_state(3).ended.all()
    assert run.agent.model is run.model
    with pytest.raises(RunError, match="already exists"):
        new_run(folder.path, CONFIG)
