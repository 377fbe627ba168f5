"""What a person meets at the command line: help, one clear sentence, never a traceback."""

import contextlib
import io
import json
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

from worldmodel.experiments.cli import jobs
from worldmodel.experiments.cli.main import main
from worldmodel.experiments.data.datasets import open_data
from worldmodel.experiments.images.config import ImagesConfig, VAEConfig
from worldmodel.experiments.runs.registry import EXPERIMENTS, new_run

ROOT = Path(__file__).parents[1]


class Result(NamedTuple):
    returncode: int
    stdout: str
    stderr: str


def worldmodel(*arguments: object) -> Result:
    out, err = io.StringIO(), io.StringIO()
    code = 0
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            main([str(argument) for argument in arguments])
        except SystemExit as end:
            code = int(end.code or 0)
    return Result(code, out.getvalue(), err.getvalue())


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("runs") / "run"
    result = worldmodel("train", "toy-game", "--out", path, "--quick", "--threads", 1)
    assert result.returncode == 0, result.stderr
    return path


@pytest.mark.parametrize(
    "verb",
    [
        [],
        ["train"],
        ["train", "toy-game"],
        ["train", "control"],
        ["resume"],
        ["evaluate"],
        ["plot"],
        ["report"],
        ["play"],
        ["video"],
        ["export"],
        ["bench"],
        ["bench", "toy-game"],
        ["bench", "exact"],
        ["bench", "music"],
        ["bench", "iwae"],
        ["bench", "replay"],
    ],
)
def test_every_help_is_there(verb):
    result = worldmodel(*verb, "--help")
    assert result.returncode == 0
    assert "usage: worldmodel" in result.stdout


def test_help_does_not_wait_for_torch():
    code = "import sys, worldmodel.experiments.cli.main; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


def assert_refused(result: Result, *words: str) -> None:
    assert result.returncode == 2
    said = " ".join((result.stderr + result.stdout).replace("│", " ").split())  # boxes wrap
    assert "Traceback" not in said
    for word in words:
        assert word in said


def test_wrong_options_get_a_sentence(tmp_path, run):
    new = ["train", "toy-game", "--out", tmp_path / "x"]
    assert_refused(worldmodel(*new, "--quikc"), "Perhaps you meant", "--quick")
    assert_refused(worldmodel(*new, "--width", 1), "--width", "2 or more")
    assert_refused(worldmodel(*new, "--width", "four"), "width")
    assert_refused(worldmodel(*new, "--core", "lstm"), "srnn")
    assert_refused(worldmodel(*new, "--updates", 0), "must be positive")
    assert_refused(worldmodel("evaluate", run, "--games", 1), "2 or more")
    assert_refused(worldmodel("dance"), "dance")
    assert not (tmp_path / "x").exists()


def test_missing_and_damaged_runs_get_a_sentence(tmp_path, run):
    for verb in ("resume", "evaluate", "play", "video"):
        assert_refused(worldmodel(verb, tmp_path / "nowhere"), "there is no run")
        assert_refused(worldmodel(verb, tmp_path), "no config.json")
    damaged = tmp_path / "damaged"
    damaged.mkdir()
    (damaged / "config.json").write_text("{")
    assert_refused(worldmodel("evaluate", damaged), "config.json is damaged")
    description = json.loads((run / "config.json").read_text())
    description["config"]["surprise"] = 1
    (damaged / "config.json").write_text(json.dumps(description))
    assert_refused(worldmodel("evaluate", damaged), "config.json", "surprise")
    del description["config"]["surprise"]
    (damaged / "config.json").write_text(json.dumps(description))
    assert_refused(worldmodel("evaluate", damaged), "no checkpoint", "worldmodel resume")
    assert_refused(worldmodel("train", "toy-game", "--out", run, "--quick"), "already exists")


def test_a_run_is_evaluated_as_json_and_filmed(run, tmp_path):
    assert (run / "videos" / "film.mp4").stat().st_size > 0
    assert (run / "videos" / "film.gif").stat().st_size > 0
    result = worldmodel("evaluate", run, "--json", "--episodes", 20, "--games", 20)
    figures = json.loads(result.stdout)
    expected = {
        "nats_per_step",
        "exact_nats_per_step",
        "gap_nats_per_step",
        "gap_se",
        "policy_mean_steps",
        "policy_mean_steps_ci95",
        "optimal_mean_steps",
        "random_mean_steps",
        "policy_solved_fraction",
        "dream_mean_steps",
        "real_steps_used",
        "wall_seconds",
        "seed",
    }
    assert expected <= figures.keys()
    gaps = [part["gap_nats_per_step"] for part in figures["by_key"].values()]
    assert sum(gaps) == pytest.approx(figures["gap_nats_per_step"], abs=1e-9)
    assert figures["gap_nats_per_step"] > -2 * figures["gap_se"]
    assert 0 < figures["real_steps_used"] <= 1_600
    again = json.loads(
        worldmodel("evaluate", run, "--json", "--episodes", 20, "--games", 20).stdout
    )
    assert again == figures
    film = tmp_path / "film.gif"
    result = worldmodel("video", run, "--out", film, "--steps", 3)
    assert result.returncode == 0
    assert film.stat().st_size > 0
    assert_refused(worldmodel("video", run, "--out", tmp_path / "film.txt"), ".mp4", ".gif")


def test_the_options_of_evaluate_are_those_of_the_run(run, tmp_path):
    assert "--games" in worldmodel("evaluate", run, "--help").stdout
    assert "--games" not in worldmodel("evaluate", "--help").stdout
    assert_refused(worldmodel("evaluate", run, "--held-out", 3), "--held-out")
    images = new_run(tmp_path / "images", VAEConfig(ImagesConfig("images")))
    assert_refused(worldmodel("evaluate", images.path), "no `evaluate` for runs of vae")


def test_every_experiment_is_known_to_the_verbs():
    assert jobs.EXPERIMENTS.keys() == EXPERIMENTS.keys()


def test_a_run_is_exported(run, tmp_path):
    result = worldmodel("export", run, "--out", tmp_path / "out")
    assert result.returncode == 0, result.stderr
    data = open_data(tmp_path / "out")
    assert data.episodes.steps == open_data(run).episodes.steps > 1_000
    again = worldmodel("export", run, "--out", tmp_path / "out")
    assert again.returncode == 2
    assert "already exists" in again.stderr
