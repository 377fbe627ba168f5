"""Laws of `worldmodel bench suite`: what counts as reached, what is read, run and gone on with."""

import gzip
import io
import json
import os
import signal
import sys
import threading
import time
import tomllib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from command_line import worldmodel
from rich.console import Console

from worldmodel.agents import Uniform
from worldmodel.agents.world import World
from worldmodel.envs import EnvironmentSource
from worldmodel.envs.make import REGISTERED_BY
from worldmodel.experiments.bench import suite
from worldmodel.experiments.bench.settings import SuiteSettings
from worldmodel.experiments.bench.suite_figures import (
    Outcome,
    held_from,
    markdown,
    plot,
    result_of,
    row_of,
    tables,
    write_scores,
)
from worldmodel.experiments.bench.suite_tasks import TASKS
from worldmodel.experiments.measure.intervals import interquartile_mean
from worldmodel.experiments.rl.config import RLConfig
from worldmodel.experiments.runs import processes
from worldmodel.experiments.runs.registry import new_run
from worldmodel.files import write_json
from worldmodel.progress import Reporter

POLE = TASKS["CartPole-v1"]


def points(*returns, every=250):
    return np.array([(every * (1 + place), value) for place, value in enumerate(returns)], float)


def finished(task, method, seed, *returns):
    return Outcome(task, method, seed, "finished", points=points(*returns))


def make(one, *returns, is_finished=True):
    """Makes the folder of a planned run, of which nothing but the curve is there."""
    folder = new_run(one.path, one.config)
    for steps, value in points(*returns, every=one.config.steps // max(1, len(returns))):
        line = {"stage": "evaluate", "real_steps": int(steps), "real_return_mean": value}
        folder.log(line | {"seconds": steps / 10})
    if is_finished and isinstance(one.config, RLConfig):
        write_json(folder.evaluation_file, {"real_return_mean": 0.0})


@pytest.mark.parametrize(
    ("returns", "first", "held"),
    [
        ((475, 474.9, 475, 475), 250, None),
        ((0, 475, 500, 480), 500, 500),
        ((500, 0, 500, 500, 500, 0), 250, 750),
        ((500, 500), 250, None),
        ((), None, None),
    ],
)
def test_a_threshold_is_held_three_evaluations_in_a_row(returns, first, held):
    row = row_of(Outcome("CartPole-v1", "own", 0, "finished", points=points(*returns)))
    assert (row["first_at"], row["held_from"]) == (first, held)


def test_published_figures_are_to_be_surpassed():
    task = TASKS["MinAtar/Breakout-v1"]
    assert held_from(task, points(4.8, 4.8, 4.8)) is None
    assert held_from(task, points(4.85, 4.85, 4.85)) == 250


def test_scores_are_zero_at_random_play_and_one_at_the_threshold():
    for task in TASKS.values():
        assert task.score(task.random) == 0
        assert task.score(task.threshold) == 1
        assert not task.is_reached(task.random)


def test_the_interquartile_mean_leaves_out_a_quarter_at_either_end():
    mean, interval = interquartile_mean([np.array([7.0, 0, 6, 1]), np.array([5.0, 2, 4, 3])])
    assert mean == 3.5  # of 2, 3, 4, 5
    low, high = interval
    assert low < 3.5 < high


def test_runs_are_drawn_within_their_task():
    """Or the interval of tasks that differ, but whose runs are all alike, would have a width."""
    same = [np.zeros(3), np.ones(3), np.full(1, 0.5)]
    assert interquartile_mean(same) == (0.5, [0.5, 0.5])
    assert interquartile_mean([np.array([0.0, 1.0])]) == (0.5, [0, 1])  # 1/4, 1/2, 1/4
    assert interquartile_mean([np.ones(1), np.zeros(1)]) == (0.5, None)


def test_methods_are_compared_where_all_have_runs():
    span = POLE.threshold - POLE.random
    outcomes = [
        finished("CartPole-v1", "own", 0, POLE.threshold),
        finished("CartPole-v1", "sb3", 0, POLE.random + span / 2),
        finished("MountainCar-v0", "own", 0, -200),
        Outcome("MountainCar-v0", "sb3", 0, "failed", "no luck"),
    ]
    methods = result_of(outcomes)["methods"]
    assert (methods["own"]["iqm"], methods["own"]["tasks"]) == (0.5, 2)
    assert methods["own"]["common"]["iqm"] == 1
    assert methods["sb3"]["common"]["iqm"] == methods["sb3"]["iqm"] == 0.5


def test_what_was_dreamt_at_the_end_stands_beside_what_was_real():
    runs = [finished("CartPole-v1", "own", seed, 500) for seed in range(3)]
    runs[:2] = [
        run._replace(final=final)
        for run, final in zip(runs[:2], [(500.0, 470.0), (480.0, 490.0)], strict=True)
    ]
    result = result_of([*runs, finished("CartPole-v1", "sb3", 0, 9.0)])
    own, other = result["tasks"]
    assert own["final_mean"] == [490.0, 480.0]
    assert other["final_mean"] is None
    assert "| 490.0 480.0 |" in markdown(result)


def test_ours_ends_once_the_threshold_is_held(tmp_path):
    """A published figure is to be surpassed, not met."""
    envs = ("CartPole-v1", "MinAtar/Breakout-v1")
    own, above = suite.planned(settings_of(tmp_path, envs=envs, methods=("own",), seeds=1))
    assert own.config.stop_at == 475
    assert TASKS[above.task].is_reached(above.config.stop_at)
    assert not TASKS[above.task].is_reached(4.8)
    assert own.words[own.words.index("--stop-at") + 1] == "475.0"


def test_a_task_that_most_runs_never_hold_has_no_median():
    outcomes = [finished("CartPole-v1", "own", seed, *[500] * 3) for seed in range(2)]
    outcomes += [finished("CartPole-v1", "own", 2, 0, *[500] * 3)]
    (row,) = result_of(outcomes)["tasks"]
    assert (row["held"], row["held_from_median"], row["runs"]) == (3, 250, 3)
    outcomes += [finished("CartPole-v1", "own", seed, 500, 0) for seed in (3, 4, 5)]
    (row,) = result_of(outcomes)["tasks"]
    assert (row["held"], row["held_from_median"]) == (3, None)
    assert row["return_range"] == [0, 500]


def test_scores_are_written_as_dreamerv3_publishes_its_own(tmp_path):
    outcomes = [
        finished("CartPole-v1", "own", 3, 20, 500),
        finished("MinAtar/Breakout-v1", "own", 0, 1.5),
        finished("CartPole-v1", "sb3:PPO", 3, 9),
        Outcome("CartPole-v1", "own", 4, "unfinished", points=points(1)),
    ]
    own, other = write_scores(outcomes, tmp_path / "scores")
    assert [own.name, other.name] == ["suite-own.json.gz", "suite-sb3-PPO.json.gz"]
    with gzip.open(own, "rt") as file:
        assert json.load(file) == [
            {
                "task": "CartPole-v1",
                "method": "own",
                "seed": "3",
                "xs": [250, 500],
                "ys": [20, 500],
            },
            {
                "task": "MinAtar/Breakout-v1",
                "method": "own",
                "seed": "0",
                "xs": [250],
                "ys": [1.5],
            },
        ]
    before = own.read_bytes()
    write_scores(outcomes, tmp_path / "scores")
    assert own.read_bytes() == before


def test_random_play_is_as_the_table_says():
    for name in ("CartPole-v1", "FrozenLake-v1", "Pendulum-v1"):
        task, source = TASKS[name], EnvironmentSource(TASKS[name].env)
        env = source.one()
        world = World(env.observation_space, env.action_space, source)
        returns = world.play(Uniform(env.action_space), 60, 1).returns
        error = returns.std() * (1 / 60 + 1 / 100) ** 0.5
        assert abs(returns.mean() - task.random) <= 4 * error + 0.02


def test_one_extra_has_all_packages_of_the_suite():
    project = tomllib.loads((Path(__file__).parent.parent / "pyproject.toml").read_text())
    extras = project["project"]["optional-dependencies"]
    (whole,) = extras["suite"]
    for task in TASKS.values():
        for beginning, (_, extra) in REGISTERED_BY.items():
            assert extra in extras
            assert extra in whole or not task.env.startswith(beginning)


# Processes that make, or do not make, what a run leaves.
FAKE = """
import pathlib, shutil, signal, sys, time
folder = pathlib.Path(__file__).parent
words = sys.argv[2:]
path = pathlib.Path(words[words.index("--out") + 1] if "--out" in words else words[1])
with open(folder / "called", "a") as file:
    print(*words[:2], path.parent.parent.name, path.parent.name, path.name, file=file)
prepared = folder / "prepared" / path.relative_to(folder / "suite")
if (prepared / "sentence").exists():
    print("gymnasium warns", file=sys.stderr)
    print("worldmodel: " + (prepared / "sentence").read_text(), file=sys.stderr)
    sys.exit(2)
if (prepared / "slow").exists():
    signal.signal(signal.SIGINT, lambda *_: sys.exit(130))
    (folder / "is-slow").touch()
    time.sleep(60)
if path.exists():
    shutil.rmtree(path)
shutil.copytree(prepared, path)
"""


@pytest.fixture
def fake(tmp_path, monkeypatch):
    """Commands that copy runs which were prepared; returns what was called."""
    (tmp_path / "fake.py").write_text(FAKE)
    monkeypatch.setattr(processes, "COMMAND", (sys.executable, str(tmp_path / "fake.py")))
    monkeypatch.setattr(processes, "POLL", 0.02)

    def called():
        file = tmp_path / "called"
        return file.read_text().splitlines() if file.exists() else []

    return called


def settings_of(path, **options):
    options = {
        "envs": ("CartPole-v1", "MountainCar-v0"),
        "methods": ("own",),
        "seeds": 2,
    } | options
    return SuiteSettings(out=path, **options)


def prepare(tmp_path, settings, returns=(500.0,), **of_task):
    """What the commands make of each run; of_task: a file that makes them do otherwise."""
    for one in suite.planned(settings):
        place = tmp_path / "prepared" / one.path.relative_to(settings.out)
        name, text = of_task.get(slug_of(one), (None, ""))
        if name is None:
            make(one._replace(path=place), *returns)
        else:
            place.mkdir(parents=True)
            (place / name).write_text(text)


def slug_of(one):
    return f"{one.task.partition('-')[0]}_{one.seed}"


def states(result):
    return {(run["task"], run["seed"]): run["state"] for run in result["runs"]}


def test_what_is_finished_is_not_run_again(tmp_path, fake, capsys):
    settings = settings_of(tmp_path / "suite")
    prepare(tmp_path, settings)
    first = suite.run(settings, Reporter())
    assert set(states(first).values()) == {"finished"}
    assert len(fake()) == 4
    assert suite.run(settings, Reporter()) == first
    assert len(fake()) == 4
    more = settings_of(tmp_path / "suite", seeds=3, show=True)
    assert states(suite.run(more, Reporter()))["CartPole-v1", 2] == "new"
    assert len(fake()) == 4
    assert "3 of 4 runs done" in capsys.readouterr().err


def test_what_was_interrupted_goes_on_and_a_baseline_begins_anew(tmp_path, fake):
    settings = settings_of(
        tmp_path / "suite", envs=("CartPole-v1",), methods=("own", "sb3"), seeds=1
    )
    prepare(tmp_path, settings)
    for one in suite.planned(settings):
        make(one, is_finished=False)
    assert states(suite.run(settings, Reporter())) == {("CartPole-v1", 0): "finished"}
    own, other = fake()
    assert own == f"resume {settings.out}/CartPole-v1/own/0 CartPole-v1 own 0"
    assert other == "bench control CartPole-v1 sb3-PPO 0"


def test_a_failed_run_says_its_sentence_and_stops_no_other(tmp_path, fake, capsys):
    settings = settings_of(tmp_path / "suite", jobs=2)
    missing = ("sentence", "run pip install 'worldmodel-gym[minigrid]'")
    prepare(tmp_path, settings, MountainCar_0=missing)
    result = suite.run(settings, Reporter())
    by_state = states(result)
    assert by_state["CartPole-v1", 0] == by_state["CartPole-v1", 1] == "finished"
    failed = [run for run in result["runs"] if run["state"] == "failed"]
    assert {run["sentence"] for run in failed} == {missing[1]}
    assert len(failed) == 2  # nothing was made: another seed is not tried
    assert len(fake()) == 3
    assert missing[1] in capsys.readouterr().err
    assert missing[1] not in markdown(result)
    assert "MountainCar" not in markdown(result)
    shown = io.StringIO()
    Console(file=shown, width=200).print(tables(result)[-1])
    assert missing[1] in shown.getvalue()  # brackets and all
    shown = suite.run(replace(settings, show=True), Reporter())
    assert [run["sentence"] for run in shown["runs"] if run["state"] == "failed"] == [missing[1]]


def test_wrong_options_of_a_method_are_a_sentence(tmp_path):
    log = tmp_path / "0.log"
    assert processes.sentence_in(log) == ""
    log.write_text("learning: 3/5\nworldmodel: stopped\n")
    assert processes.sentence_in(log) == ""
    result = worldmodel("train", "control", "--out", tmp_path / "run", "--nonsense", 3)
    log.write_text(result.stdout + result.stderr)
    assert "Unrecognized options: --nonsense, 3 For full helptext" in processes.sentence_in(log)
    log.write_text("worldmodel: one\nworldmodel: no luck\n")
    assert processes.sentence_in(log) == "no luck"


def test_a_run_of_other_steps_is_no_run_of_the_suite(tmp_path, fake):
    settings = settings_of(tmp_path / "suite", envs=("CartPole-v1",), seeds=1)
    (one,) = suite.planned(settings)
    config = RLConfig(one.config.environment, 90, agent=one.config.agent)
    make(one._replace(config=config), 500.0)
    (run,) = suite.run(settings, Reporter())["runs"]
    assert run["state"] == "failed"
    assert "choose another --out" in run["sentence"]
    assert not fake()


def test_ctrl_c_ends_what_runs_and_begins_nothing_more(tmp_path, fake, capsys):
    settings = settings_of(tmp_path / "suite", envs=("CartPole-v1",), seeds=3)
    prepare(tmp_path, settings, CartPole_1=("slow", ""))

    def interrupt():
        while not (tmp_path / "is-slow").exists():
            time.sleep(0.02)
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    result = suite.run(settings, Reporter())
    thread.join()
    assert [run["state"] for run in result["runs"]] == ["finished", "new", "new"]
    assert len(fake()) == 2
    assert "the same command goes on" in capsys.readouterr().err
    (tmp_path / "prepared" / "CartPole-v1" / "own" / "1" / "slow").rename(tmp_path / "gone")
    make(suite.planned(settings)[1]._replace(path=tmp_path / "prepared/CartPole-v1/own/1"), 1.0)
    assert set(states(suite.run(settings, Reporter())).values()) == {"finished"}


def test_methods_with_options_have_folders_of_their_own(tmp_path):
    methods = ("own", "own --core rssm", "sb3", "sb3:DQN")
    settings = settings_of(tmp_path, envs=("CartPole-v1",), methods=methods, seeds=1)
    plan = suite.planned(settings)
    assert len({one.path for one in plan}) == 4
    assert plan[1].words[-2:] == ["--core", "rssm"]
    assert [one.words[:2] for one in plan] == [["train", "control"]] * 2 + [
        ["bench", "control"]
    ] * 2
    assert "DQN" in plan[3].words


def test_wrong_methods_and_tasks_are_refused(tmp_path):
    for words, said in (
        (["--methods", "ppo"], "own, sb3 or sb3:NAME"),
        (["--envs", "CartPol-v1"], "did you mean 'CartPole-v1'"),
        (["--table", str(tmp_path / "none" / "a.md")], "in a folder that exists"),
    ):
        result = worldmodel("bench", "suite", "--out", tmp_path / "x", *words)
        assert result.returncode == 2
        assert said in " ".join((result.stderr + result.stdout).replace("│", " ").split())
    assert not (tmp_path / "x").exists()


def made_up(number=3):
    """Runs of all tasks, whose returns rise to the threshold and a little beyond."""
    rng = np.random.default_rng(0)
    outcomes = []
    for name, task in TASKS.items():
        for method, best in (("own", 1.05), ("sb3", 0.3)):
            for seed in range(number):
                steps = np.linspace(task.steps / 10, task.steps, 10)
                scores = best * np.linspace(0, 1, 10) ** 0.5 + rng.normal(0, 0.08, 10)
                returns = task.random + scores * (task.threshold - task.random)
                curve = np.stack([steps, returns], 1)
                outcomes.append(Outcome(name, method, seed, "finished", points=curve))
    return outcomes


def test_all_tasks_are_drawn(tmp_path):
    pytest.importorskip("matplotlib")
    from matplotlib.image import imread

    plot(made_up(), tmp_path / "suite.png")
    plot(made_up()[:6], tmp_path / "one.png")
    assert imread(tmp_path / "suite.png").shape[0] > imread(tmp_path / "one.png").shape[0]


@pytest.mark.timeout(900)  # processes, each of which imports all
def test_a_task_runs_from_end_to_end(tmp_path):
    page = tmp_path / "suite.md"
    words = ["bench", "suite", "--quick", "--envs", "CartPole-v1", "--jobs", 2]
    words += ["--out", tmp_path, "--table", page, "--json"]
    result = worldmodel(*words)
    assert result.returncode == 0, result.stderr
    figures = json.loads(result.stdout)
    assert {run["state"] for run in figures["runs"]} == {"finished"}, figures["runs"]
    assert {row["method"] for row in figures["tasks"]} == {"own", "sb3"}
    assert len(figures["runs"]) == len(figures["tasks"]) == 2
    assert "| CartPole-v1 | 475 |" in page.read_text()
    assert len(list((tmp_path / "quick" / "scores").iterdir())) == 2
    again = worldmodel(*words)
    assert json.loads(again.stdout) == figures
    assert "runs to do" not in again.stderr
