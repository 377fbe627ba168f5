"""Laws of `worldmodel compare`: what is one group, what its figures are, what is refused."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from command_line import assert_refused, worldmodel
from test_report import Parsed

from worldmodel.agents import AgentConfig
from worldmodel.checkpoint import Checkpoint, write_checkpoint
from worldmodel.experiments.recordings.config import TextConfig, TextDataConfig
from worldmodel.experiments.rl.config import EnvironmentConfig, RLConfig
from worldmodel.experiments.runs.registry import new_run
from worldmodel.experiments.runs.trained import trained_runs
from worldmodel.experiments.show.comparison import estimated, folders_in
from worldmodel.experiments.show.report import charts, comparing
from worldmodel.files import write_json
from worldmodel.options import with_options
from worldmodel.run_folder import RunFolder

CONFIG = RLConfig(EnvironmentConfig("CartPole-v1"))


@pytest.fixture
def make(tmp_path):
    """Makes runs, of which nothing but curve and evaluation is there."""

    def make(name, points, final=None, **options):
        config = replace(CONFIG, agent=with_options(AgentConfig(), options))
        folder = new_run(tmp_path / "runs" / name, config)
        for steps, value in points:
            folder.log({"stage": "evaluate", "real_steps": steps, "real_return_mean": value})
        if final is not None:
            write_json(folder.evaluation_file, {"real_return_mean": final})
        return folder.path

    return make


def compare(tmp_path, *paths):
    """The figures of runs by group, and their page."""
    out = tmp_path / "page.html"
    result = worldmodel("compare", *paths, "--out", out, "--json")
    assert result.returncode == 0, result.stderr
    groups = {group["label"]: group for group in json.loads(result.stdout)["groups"]}
    return groups, Parsed(out.read_text())


def test_an_interval_of_a_mean_is_that_of_its_standard_error():
    values = np.random.default_rng(0).normal(3.0, 2.0, 400)
    found = estimated(values.tolist())
    low, high = values.mean() + np.array([-1.96, 1.96]) * values.std() / 20
    assert found.ci95 == pytest.approx([low, high], abs=0.02)


def test_an_evaluation_of_other_weights_is_no_figure_of_a_run(make, tmp_path):
    path = make("run", [])
    folder = RunFolder.open(path)
    write_checkpoint(folder.checkpoints, 1, Checkpoint({}, {}, {}))
    write_json(folder.evaluation_file, {"real_return_mean": 7.0, "weights": "of another"})
    assert_refused(worldmodel("compare", path), "neither evaluated")
    write_json(folder.evaluation_file, {"real_return_mean": 7.0})
    assert compare(tmp_path, path)[0]


def test_figures_are_as_many_as_there_are_runs_for():
    assert estimated([2.0])[1:] == (2.0, None, None, None)
    two = estimated([1.0, 3.0])
    assert (two.mean, two.ci95, two.iqm) == (2, [1, 3], None)
    four = estimated([0.0, 10.0, 12.0, 1_000.0])
    assert four.iqm == 11
    assert four.iqm_ci95[0] < 11 < four.iqm_ci95[1]
    assert estimated([None, 4.0]).mean == 4


def test_groups_differ_in_what_is_shown_and_their_runs_in_seeds(make, tmp_path):
    for seed in range(3):
        make(f"small-{seed}", [(100, seed), (300, 5.0 + seed)], 7.0 + seed, seed=seed)
    make("wide", [(100, 1.0), (200, 9.0)], hidden_size=64)
    groups, page = compare(tmp_path, tmp_path / "runs")  # a folder of runs
    small, wide = groups["hidden_size=16"], groups["hidden_size=64"]
    assert small["settings"] == {"agent.model.hidden_size": 16}
    assert small["seeds"] == [0, 1, 2]
    assert small["figures"]["real return"]["mean"] == 8
    assert small["figures"]["real return"]["iqm"] == 8
    assert small["figures"]["last of the curve"]["values"] == [5, 6, 7]
    assert "real return" not in wide["figures"]  # it was not evaluated at its end
    assert wide["figures"]["best of the curve"]["mean"] == 9
    assert {8.0, 9.0, 5.0, 64.0} - page.numbers <= {64.0}
    headings = [word for where, word in page.words if where == "h2"]
    assert headings == list(comparing.TITLES)
    assert "64" in page.text
    assert len(page.all("svg")) == 2 * charts.available()
    assert not page.all("script")
    shown = worldmodel("compare", tmp_path / "runs", "--out", tmp_path / "page.html").stdout
    assert "hidden_size=64" in shown


def test_packed_runs_and_those_of_the_package_are_compared_too(make, tmp_path):
    packed = tmp_path / "packed.wm"
    shutil.copy(trained_runs()["cartpole"], packed)
    found = folders_in([make("mine", [(100, 1.0)]), packed, Path("cartpole")])
    assert [run.said.name for run in found] == ["mine", "packed.wm", "cartpole.wm"]


def test_runs_of_different_kinds_are_refused_in_a_sentence(make, tmp_path):
    run = make("a", [(1, 2.0)])
    text = new_run(tmp_path / "text", TextConfig(data=TextDataConfig(("x",))))
    out = tmp_path / "page.html"
    for verb, file in (("compare", out), ("plot", tmp_path / "curves.png")):
        refused = worldmodel(verb, run, text.path, "--out", file)
        assert_refused(refused, "(control) has", "(text)", "compare runs of one kind")
        assert not file.exists()
    assert_refused(worldmodel("compare", text.path, "--out", out), "nothing to compare yet")
    assert_refused(worldmodel("compare", tmp_path / "none", "--out", out), "there is no run")
    assert_refused(worldmodel("compare", run, "--out", tmp_path), "is a folder")
