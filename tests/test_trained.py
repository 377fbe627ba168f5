"""Trained runs that come with the package are what their cards say, by name, wherever a run is."""

import json
import math
from pathlib import Path

import pytest
from command_line import assert_refused, worldmodel
from kinds import MADE, write_files

import worldmodel as package
from worldmodel import experiments
from worldmodel.experiments.rl.config import RLConfig
from worldmodel.experiments.runs.cards import UNSAID, figures_of
from worldmodel.experiments.runs.registry import config_of
from worldmodel.experiments.runs.trained import HERE, is_run, run_at, trained_runs
from worldmodel.experiments.show.config import PlayConfig
from worldmodel.experiments.show.play.player import new_player
from worldmodel.files import read_json
from worldmodel.packed import read_manifest
from worldmodel.run_folder import RunError, RunFolder

RUNS = trained_runs()
MOST_BYTES = 20e6


def test_there_are_some_and_they_are_small():
    assert {"toy-game", "cartpole"} <= {*RUNS}
    assert sum(file.stat().st_size for file in HERE.iterdir() if file.is_file()) < MOST_BYTES


@pytest.mark.parametrize("name", RUNS)
def test_its_card_is_whole_and_has_the_figures_of_its_evaluation(name):
    card = read_manifest(RUNS[name]).card
    for fact in ("about", "data", "commit", "licence", "command", "figures", "trained"):
        assert card[fact] not in ("", UNSAID, None, {}), fact
    evaluation = read_json(RunFolder.open(RUNS[name]).evaluation_file)
    assert card["figures"] == figures_of(evaluation)
    assert name in worldmodel("runs").stdout


@pytest.mark.parametrize("name", RUNS)
def test_it_loads_by_name_and_is_evaluated(name, tmp_path, monkeypatch):
    """Few episodes: that the figures of all come again is looked at when a run is packed."""
    monkeypatch.chdir(tmp_path)
    run = package.load(name)
    assert sum(part.numel() for part in run.model.parameters()) > 1_000
    folder = RunFolder.open(run_at(Path(name)))
    if not isinstance(config_of(folder), RLConfig):
        words = ("generate", name, "--length", 20, "--samples", 1)
        assert worldmodel(*words).returncode == 0
        few = write_files(MADE[folder.experiment], tmp_path / "few")
        done = worldmodel("evaluate", name, "--json", "--data", few)
        assert done.returncode == 0, done.stderr
        result = json.loads(done.stdout)
        assert 0 < result[f"nats_per_{result['frame']}"] < math.inf
        return
    few = ("--episodes", 2, "--held-out", 2, "--bound-particles", 1)
    done = worldmodel("evaluate", name, "--json", *few)
    assert done.returncode == 0, done.stderr
    figures, result = read_manifest(RUNS[name]).card["figures"], json.loads(done.stdout)
    assert result["real_steps_used"] == figures["real_steps_used"]
    assert abs(result["nats_per_step"] - figures["nats_per_step"]) < 1
    player = new_player(run, PlayConfig(), 0)
    player.step()
    player.close()


def test_a_folder_of_that_name_is_meant_first(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert run_at(Path("cartpole")) == RUNS["cartpole"]
    assert is_run("cartpole")
    Path("cartpole").mkdir()
    assert run_at(Path("cartpole")) == Path("cartpole")
    assert not is_run("cartpole")
    assert_refused(worldmodel("evaluate", "cartpole"), "cartpole is no run")


def test_a_name_that_is_nearly_one_gets_a_guess(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert_refused(worldmodel("play", "toy_game"), "did you mean toy-game")
    assert_refused(worldmodel("resume", "toy-game"), "which is only read")
    with pytest.raises(RunError, match="there is no run at"):
        experiments.load("nothing-of-the-kind")
