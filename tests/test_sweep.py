"""Laws of `worldmodel sweep`: what a plan says is run, once, and what was interrupted goes on."""

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from command_line import assert_refused, worldmodel
from runs import TINY

from worldmodel.checkpoint import Checkpoint, write_checkpoint
from worldmodel.experiments.cli.main import parse
from worldmodel.experiments.cli.verbs import configured
from worldmodel.experiments.rl.config import RLConfig
from worldmodel.experiments.runs import processes
from worldmodel.experiments.runs.processes import Needs, Slots, why
from worldmodel.experiments.runs.registry import config_of, new_run
from worldmodel.experiments.sweep import running
from worldmodel.experiments.sweep.launchers import Submitit
from worldmodel.experiments.sweep.spec import Range, Search, Spec, needs_of, read_spec
from worldmodel.files import write_json
from worldmodel.options import DeviceConfig
from worldmodel.run_folder import RunFolder

ROOT = Path(__file__).parents[1]
PLAN = """
command = "train control"
seeds = 2

[options]
env = "CartPole-v1"

[grid]
core = ["rnn", "rssm"]
"""


class Fake:
    """A launcher of commands that makes what they would make, or does as it is told."""

    def __init__(self):
        self.orders = {}  # by run: `fails`, `fails once`, `waits`
        self.called = []

    def __call__(self, words, log, needs, gpus):
        path = Path(words[1] if words[0] == "resume" else words[words.index("--out") + 1])
        self.called.append(f"{words[0]} {path.parent.name}/{path.name}")
        return FakeProcess(self, list(words), path, log)


class FakeProcess:
    """A command that ends when it is asked for the second time."""

    def __init__(self, fake, words, path, log):
        self.fake, self.words, self.path, self.log = fake, words, path, log
        self.code = None
        self.asked = 0
        self.order = fake.orders.get(f"{path.parent.name}/{path.name}", "")
        if self.order == "fails once":
            del fake.orders[f"{path.parent.name}/{path.name}"]

    def poll(self):
        self.asked += 1
        if self.code is None and self.asked > 1 and self.order != "waits":
            self.code = 2 if self.order.startswith("fails") else 0
            if self.code:
                self.log.write_text("worldmodel: no luck\n")
            else:
                self.make(is_finished=True)
        return self.code

    def interrupt(self):
        if self.code is None:
            self.code = 130
            self.make(is_finished=False)

    def kill(self):
        raise AssertionError("it saves")

    def make(self, is_finished):
        if self.words[0] == "resume":
            folder = RunFolder.open(self.path)
        else:
            settings = parse(self.words)[1]
            folder = new_run(settings.out, configured(settings))
        value = 10.0 * (config_of(folder).agent.model.core == "rssm") + int(self.path.name)
        folder.log({"stage": "evaluate", "real_steps": 50, "real_return_mean": value})
        values = {"stages": [["learn", 0, 2]], "stage": int(is_finished), "done": 0}
        logged = folder.logged()
        values |= {"real_steps": 50, "metrics_size": logged.size, "metrics_crc32": logged.crc32}
        write_checkpoint(folder.checkpoints, int(is_finished), Checkpoint({}, {}, values))
        if is_finished:
            write_json(folder.evaluation_file, {"real_return_mean": value})


@pytest.fixture
def fake(monkeypatch):
    """Stands in for the commands of a sweep."""
    made = Fake()
    monkeypatch.setattr(running, "launcher_of", lambda settings, spec: (made, None))
    monkeypatch.setattr(processes, "POLL", 0.01)
    return made


@pytest.fixture
def plan(tmp_path):
    """Writes a plan; the words of the command that follows it."""

    def write(text=PLAN, *more):
        (tmp_path / "plan.toml").write_text(text)
        return ["sweep", tmp_path / "plan.toml", "--out", tmp_path / "sweep", *more]

    return write


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (PLAN.replace("seeds", "seedz"), "has no 'seedz': did you mean seeds?"),
        (
            PLAN.replace("core =", "coer ="),
            "Unrecognized options: --coer, rnn; did you mean --core?",
        ),
        (PLAN.replace('"rssm"', '"rsm"'), "did you mean 'rssm'"),
        (PLAN.replace("CartPole-v1", "CartPol-v1"), "CartPol"),
        (PLAN.replace("[grid]", "hidden-size = -3\n[grid]"), "must be positive"),
        (PLAN.replace("[options]", '[options]\nout = "x"'), "a folder of its own"),
        (PLAN.replace("train control", "train contrl"), "did you mean `worldmodel train control`"),
        (PLAN.replace("train control", "bench suite"), "command is one of train"),
        (PLAN + "[random]\nnumber = 2\noptions = { core = ['rnn'] }", "one of [grid], [random]"),
        (PLAN.replace("seeds = 2", "seeds = -1"), "seeds are a number above 0"),
        (PLAN + "[needs]\ngpus = 64", "each run needs 64"),
        ("seeds = ", "no TOML"),
        ("seeds = 2", "command is missing"),
    ],
)
def test_a_plan_that_cannot_be_is_refused_in_a_sentence_before_anything_starts(
    plan, tmp_path, fake, text, said
):
    assert_refused(worldmodel(*plan(text)), said)
    assert not (tmp_path / "sweep").exists()
    assert not fake.called


def test_what_is_drawn_stays_within_its_range_and_does_not_depend_on_how_much_is_drawn():
    search = Search(
        {"a": {"low": 1, "high": 3}, "b": {"low": 1e-4, "high": 1e-2, "log": True}}, 40
    )
    drawn = [search.draw(place) for place in range(200)]
    assert {one["a"] for one in drawn} == {1, 2, 3}
    assert all(1e-4 <= one["b"] <= 1e-2 for one in drawn)
    assert 60 < sum(one["b"] < 1e-3 for one in drawn) < 140
    assert Search(search.options, 2).draw(1) == drawn[1]
    with pytest.raises(ValueError, match="low end below"):
        Range(0.0, 1.0, log=True)


def test_the_machine_is_shared_by_what_runs_need():
    slots = Slots(4, ["0", "1"])
    half = [slots.take(Needs(1, 0.5)) for _ in range(3)]
    assert [taken.gpus for taken in half] == [("0",), ("0",), ("1",)]
    assert slots.take(Needs(1, 1)) is None  # no whole one is free
    slots.give(half[2])
    assert slots.take(Needs(1, 1)).gpus == ("1",)
    assert slots.take(Needs(2)) is None
    slots.give(half[0])
    assert slots.take(Needs(9)) is None  # all cores, once they are free
    thirds = Slots(9, ["0"])
    assert all(thirds.take(Needs(1, 1 / 3)) for _ in range(3))
    assert Slots(2).take(Needs(9)).cores == 2
    assert Slots(1, by_number=True).take(Needs(9)).cores == 1


ALL = ["core-rnn/0", "core-rssm/0", "core-rnn/1", "core-rssm/1"]


def test_every_combination_is_run_with_every_seed_and_nothing_twice(plan, tmp_path, fake):
    words = plan(PLAN, "--jobs", 2, "--json")
    result = worldmodel(*words)
    assert result.returncode == 0, result.stderr
    assert fake.called == [f"train {name}" for name in ALL]
    found = json.loads(result.stdout)
    assert [run["state"] for run in found["runs"]] == ["finished"] * 4
    figures = {g["label"]: g["figures"]["real return"] for g in found["compared"]["groups"]}
    assert {name: figure["mean"] for name, figure in figures.items()} == {
        "core=rnn": 0.5,
        "core=rssm": 10.5,
    }
    assert figures["core=rnn"]["ci95"] == [0, 1]
    assert (tmp_path / "sweep" / "compare.html").exists()
    more = plan(PLAN.replace("seeds = 2", "seeds = 3"), "--json")
    assert worldmodel(*more).returncode == 0
    assert fake.called[4:] == ["train core-rnn/2", "train core-rssm/2"]
    other = worldmodel(*plan(PLAN.replace("[options]", "[options]\nsteps = 999")))
    assert_refused(other, "steps 5000, not 999", "choose another --out")


def test_what_fails_is_tried_again_stops_no_other_and_is_listed(plan, fake):
    fake.orders = {"core-rnn/0": "fails once", "core-rssm/0": "fails"}
    result = worldmodel(*plan())
    assert result.returncode == 1
    begun = [word for word in fake.called if word.endswith(("core-rnn/0", "core-rssm/0"))]
    assert begun == ["train core-rnn/0", "train core-rssm/0"] * 2
    assert "no luck" in result.stdout
    assert "core-rssm/0" in result.stdout
    assert "1 failed" in result.stdout
    fake.orders.clear()
    assert worldmodel(*plan()).returncode == 0
    assert fake.called[-1] == "train core-rssm/0"


def test_ctrl_c_saves_and_the_same_command_goes_on(plan, fake):
    fake.orders = {"core-rssm/0": "waits"}

    def interrupt():
        while "train core-rssm/0" not in fake.called:
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    result = worldmodel(*plan(PLAN, "--jobs", 1))
    thread.join()
    assert result.returncode == 130
    assert "the same command goes on" in result.stderr
    fake.orders.clear()
    before = len(fake.called)
    assert worldmodel(*plan()).returncode == 0
    assert fake.called[before] == "resume core-rssm/0"
    assert len(fake.called) == 5


def test_a_run_that_another_process_still_writes_to_is_waited_for(plan, tmp_path, fake):
    """One that a sweep started which was killed, and that saves."""
    words = plan()
    settings = parse(["train", "control", "--env", "CartPole-v1", "--core", "rnn", "--out", "x"])[
        1
    ]
    folder = new_run(tmp_path / "sweep" / "core-rnn" / "0", configured(settings))
    program = "import fcntl, sys; f = open(sys.argv[1], 'w'); fcntl.lockf(f, fcntl.LOCK_EX); "
    program += "print('held', flush=True); input()"
    holder = subprocess.Popen(
        [sys.executable, "-c", program, folder.path / "lock"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert holder.stdout.readline() == b"held\n"

    def release():
        while len(fake.called) < 3:
            time.sleep(0.01)
        holder.communicate(b"\n")

    thread = threading.Thread(target=release)
    thread.start()
    result = worldmodel(*words)
    thread.join()
    assert result.returncode == 0, result.stderr
    assert result.stderr.count("another process writes to it") == 1
    assert fake.called.index("resume core-rnn/0") >= 3


# A parent of a command, and the command: it saves when it is told to, by a file.
PARENT = """
import sys, time
from pathlib import Path
from worldmodel.experiments.runs import processes
processes.COMMAND = (sys.executable, sys.argv[1])
process = processes.Local([sys.argv[2]], Path(sys.argv[2]) / "log")
while True:
    time.sleep(1)
"""
CHILD = """
import pathlib, signal, sys, time
from worldmodel.experiments.runs.child import end_with
place = pathlib.Path(sys.argv[2])
def save(*_):
    (place / "saved").touch()
    sys.exit(130)
signal.signal(signal.SIGTERM, save)
end_with(int(sys.argv[1]))
(place / "begun").touch()
while True:
    time.sleep(0.05)
"""


def test_a_command_saves_and_ends_when_its_parent_is_killed(tmp_path):
    for name, text in (("parent", PARENT), ("child", CHILD)):
        (tmp_path / f"{name}.py").write_text(text)
    words = [sys.executable, tmp_path / "parent.py", tmp_path / "child.py", tmp_path]
    parent = subprocess.Popen(words, env=os.environ | {"PYTHONPATH": str(ROOT)})
    for name in ("begun", "saved"):
        while not (tmp_path / name).exists():
            assert parent.poll() is None or name == "saved", (tmp_path / "log").read_text()
            time.sleep(0.05)
        parent.kill()
        parent.wait()


@pytest.mark.timeout(600)  # processes of processes
def test_a_job_of_a_cluster_ends_as_its_command_does(tmp_path):
    """By submitit's executor for this machine."""
    pytest.importorskip("submitit")
    launch = Submitit(tmp_path / "jobs", {"cluster": "local", "timeout_min": 5})
    log = tmp_path / "log"
    job = launch(["trian"], log, Needs(), None)
    while (code := job.poll()) is None:
        time.sleep(0.1)
    assert code == 2
    assert "did you mean `worldmodel train`?" in why(log, code)


def test_optuna_seeks_where_figures_are_better_and_goes_on_after_its_end(plan, fake):
    pytest.importorskip("optuna")
    text = PLAN.partition("[grid]")[0].replace("seeds = 2", "seeds = 1")
    text += "[optuna]\nnumber = %d\n[optuna.options]\ncore = ['rnn', 'rssm']\n"
    first = worldmodel(*plan(text % 4, "--json"))
    assert first.returncode == 0, first.stderr
    assert len(fake.called) == 4
    again = worldmodel(*plan(text % 6, "--json"))
    assert [word.split()[0] for word in fake.called] == ["train"] * 6
    cores = [run["settings"]["core"] for run in json.loads(again.stdout)["runs"]]
    assert set(cores) <= {"rnn", "rssm"}
    assert len(cores) == 6


EXAMPLE = ROOT / "docs" / "sweep.toml"


@pytest.mark.timeout(900)  # a process, which imports all
def test_the_example_runs_from_end_to_end(tmp_path):
    """At a tiny size, and one of its combinations."""
    spec = read_spec(EXAMPLE)
    tiny = "".join(f"{name} = {value}\n" for name, value in TINY.items())
    tiny += "steps = 60\nepisodes = 2\nheld-out = 2\ncurve-episodes = 1\n"
    text = EXAMPLE.read_text()
    assert spec.number > 4
    text = re.sub(r"seeds = .*", "seeds = [3]", text)
    text = re.sub(r"steps = .*\n", tiny, text)
    text = re.sub(r"(?s)\[grid\].*", "[grid]\ncore = ['rnn']\n", text)
    (tmp_path / "plan.toml").write_text(text)
    result = worldmodel("sweep", tmp_path / "plan.toml", "--out", tmp_path / "out", "--json")
    assert result.returncode == 0, result.stderr
    (run,) = json.loads(result.stdout)["runs"]
    folder = RunFolder.open(Path(run["path"]))
    assert config_of(folder).agent.seed == 3
    assert folder.evaluation_file.exists()


def test_a_run_on_cuda_needs_a_gpu_unless_the_plan_says_otherwise():
    config = RLConfig(computing=DeviceConfig("cuda"), threads=3)
    assert needs_of(Spec("train control"), config) == Needs(3, 1.0)
    assert needs_of(Spec("train control", needs={"gpus": 0.5}), config) == Needs(3, 0.5)
    assert needs_of(Spec("train control"), RLConfig()).gpus == 0.0
