"""What a person meets at the command line: help, one clear sentence, never a traceback."""

import contextlib
import dataclasses
import importlib
import io
import json
import os
import re
import resource
import subprocess
import sys
from pathlib import Path
from typing import get_origin

import pytest
import tyro
from campaigns.processes import Process, ended
from command_line import Result, assert_refused, worldmodel
from rolls import write

import worldmodel as package
from worldmodel import experiments
from worldmodel.experiments.cli import help as helps, renamed
from worldmodel.experiments.cli.commands import GROUPS, commands
from worldmodel.experiments.cli.main import main
from worldmodel.experiments.cli.settings import NoSettings
from worldmodel.experiments.data.datasets import open_data
from worldmodel.experiments.images.config import ImagesConfig, VAEConfig
from worldmodel.experiments.recordings.config import ScoreConfig, TextConfig, TextDataConfig
from worldmodel.experiments.rl.config import EvaluationConfig
from worldmodel.experiments.runs.registry import (
    EXPERIMENTS,
    config_class,
    implementation,
    new_run,
    register_experiment,
)

ROOT = Path(__file__).parents[1]
VERSE = "the cat sat on the mat\nthe dog sat on the log\n"


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("runs") / "run"
    result = worldmodel("train", "toy-game", "--out", path, "--quick", "--threads", 1)
    assert result.returncode == 0, result.stderr
    return path


ALL = [[*filter(None, [group]), name] for group in ("", *GROUPS) for name in commands(group)]


@pytest.mark.parametrize("words", [[], *([group] for group in GROUPS), *ALL], ids=" ".join)
def test_every_help_is_there(words):
    result = worldmodel(*words, "--help")
    assert result.returncode == 0
    assert result.stdout.startswith(" ".join(["usage: worldmodel", *words]))
    assert not {"None", "tyro"} & set(re.findall(r"\w+", result.stdout))


@pytest.mark.parametrize("words", ALL, ids=" ".join)
def test_help_tells_every_option_that_is_understood(words):
    """Compared with what the parser says it knows."""
    group, name = ["", *words][-2:]
    kind = commands(group)[name].settings_class
    kind = kind[NoSettings] if name == "evaluate" else kind
    config = {option.name for option in helps.options_of(kind)}
    out = io.StringIO()
    with contextlib.redirect_stdout(out), pytest.raises(SystemExit):
        tyro.cli(kind, args=["--help"])
    known = set(re.findall(r"^[^\w-]{0,3}(--\w[\w-]*)", out.getvalue(), re.MULTILINE))
    said = {option.replace("--no-", "--", 1) for option in config if option.startswith("--")}
    assert said == {option.replace("--no-", "--", 1) for option in known}
    assert all(option.text for option in helps.options_of(kind))


def test_help_counts_the_options_of_advanced_groups_and_lists_them_when_asked():
    short, full = (worldmodel("train", "vae", asked).stdout for asked in ("--help", "--help-all"))
    assert re.search(
        r"more, which --help-all lists:.*Learning of the .* options", short, re.DOTALL
    )
    assert "--kl-weight" not in short
    assert "--kl-weight" in full
    assert "--help-all" not in full
    assert re.search(r"--no-first-activation +Do not apply", full)
    listed = 0
    for words in ALL:
        with contextlib.redirect_stdout(io.StringIO()) as out, pytest.raises(SystemExit):
            main([*words, "--help"])
        listed += len(re.findall(r"^  --", out.getvalue(), re.MULTILINE))
    assert listed <= 370


def test_every_command_can_be_run():
    """What the table names is there: `run`, and `tables` of what can be had as JSON."""
    for group in ("", *GROUPS):
        for command in commands(group).values():
            module, _, function = command.run.partition(":")
            found = importlib.import_module(module)
            assert callable(getattr(found, function))
            settings = get_origin(command.settings_class) or command.settings_class
            fields = {field.name for field in dataclasses.fields(settings)}
            assert group != "bench" or ("json" in fields) == hasattr(found, "tables")


def test_what_one_needs_first_stands_first():
    for words, first in (
        (["train", "control"], ["--out", "--env", "--data", "--quick", "--steps", "--seed"]),
        (["train", "text"], ["--out", "--corpus", "--quick", "--minutes", "--updates", "--seed"]),
    ):
        shown = worldmodel(*words, "--help").stdout.partition("first of all:")[2]
        assert re.findall(r"^  (--[\w-]+)", shown, re.MULTILINE)[:6] == first
    shown = worldmodel("train", "control", "--help").stdout
    for title in ("The real environment:", "The world model ", "Learning of the world model "):
        assert title in shown
    assert "config.agent" not in shown


def test_the_version_is_said():
    assert worldmodel("--version").stdout == f"worldmodel {package.__version__}\n"


def test_a_word_that_is_no_command_gets_a_guess():
    assert_refused(worldmodel("trian"), "did you mean `worldmodel train`?")
    assert_refused(worldmodel("train", "toygame", "--out", "x"), "`worldmodel train toy-game`?")
    assert_refused(worldmodel("toygame"), "`worldmodel train toy-game`?")
    assert_refused(worldmodel("bench", "spech"), "`worldmodel bench speech`?")
    assert_refused(worldmodel("xyzzy"), "resume, evaluate", "train, bench")
    assert_refused(worldmodel("train", "--out", "x"), "toy-game, control", "before --out")
    nothing = worldmodel("train")
    assert nothing.returncode == 2
    assert "midi" in nothing.stdout


def test_errors_name_the_command_whose_help_helps(tmp_path):
    for wrong in (["--num-envs", 0], ["--hidden-size", -3], ["--quikc"], ["--steps", "many"]):
        refused = worldmodel("train", "toy-game", "--out", tmp_path / "x", *wrong)
        assert_refused(refused, "worldmodel train toy-game --help")
        assert "dummy" not in refused.stderr
    assert_refused(worldmodel("train", "control", "--env", "x"), "train control --help", "--out")


def test_an_old_name_of_an_option_is_answered_by_the_new_one(monkeypatch, tmp_path):
    monkeypatch.setitem(renamed.RENAMED, "train control", {"--memry": "--hidden-size"})
    config = ["train", "control", "--env", "CartPole-v1", "--out", tmp_path / "x"]
    for old in (["--memry", 3], ["--memry=3"]):
        assert_refused(worldmodel(*config, *old), "--memry is now called --hidden-size")
    monkeypatch.setitem(renamed.RENAMED, "train control", {"--memry": "a part of the core"})
    assert_refused(worldmodel(*config, "--memry", 3), "--memry is now a part of the core")
    assert not (tmp_path / "x").exists()


def test_names_are_renamed_to_what_there_is():
    for words, names in renamed.RENAMED.items():
        group, name = ["", *words.split()][-2:]
        kind = commands(group)[name].settings_class
        evaluated = (EvaluationConfig, ScoreConfig)  # `evaluate` has the options of its run
        kinds = [kind[part] for part in evaluated] if name == "evaluate" else [kind]
        config = {option.name for each in kinds for option in helps.options_of(each)}
        new = {word for name in names.values() for word in re.findall(r"^--[\w-]+", name)}
        assert new <= config
        assert not names.keys() & config


def test_nobody_has_to_read_on():
    """`worldmodel --help | head -1`."""
    program = f"{sys.executable} -m worldmodel train control --help"
    done = subprocess.run(
        f"{program} | head -1", shell=True, cwd=ROOT, capture_output=True, text=True
    )
    assert done.stdout.startswith("usage:")
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w") as nowhere:
        closed = subprocess.run(
            program.split(), cwd=ROOT, stdout=nowhere, stderr=subprocess.PIPE, text=True
        )
    assert done.stderr == closed.stderr == ""


@pytest.mark.parametrize("most", [300, 2_000, 30_000])
def test_a_file_that_cannot_be_written_gets_a_sentence(most, tmp_path, monkeypatch):
    """A disk is full at once, in the midst of learning, or at a checkpoint."""
    monkeypatch.setattr(sys, "dont_write_bytecode", True)  # Python keeps what it cut off itself
    corpus = tmp_path / "corpus.txt"
    corpus.write_text(VERSE * 200)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, before[1]))
    try:
        done = worldmodel(
            "train", "text", "--corpus", corpus, "--out", tmp_path / "run", "--quick"
        )
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    assert done.said.startswith("worldmodel: ")


def test_a_place_that_cannot_be_written_to_gets_a_sentence(tmp_path):
    (tmp_path / "file").write_text("")
    refused = worldmodel("train", "toy-game", "--quick", "--out", tmp_path / "file" / "run")
    assert_refused(refused, "file", "Not a directory")


def test_help_does_not_wait_for_torch():
    """That of every command."""
    code = f"""
import sys
from worldmodel.experiments.cli.main import main
for words in {ALL}:
    try:
        main([*words, "--help"])
    except SystemExit as end:
        assert end.code == 0
assert not {{"torch", "gymnasium"}} & set(sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_wrong_options_get_a_sentence(tmp_path, run):
    new = ["train", "toy-game", "--out", tmp_path / "x"]
    assert_refused(worldmodel(*new, "--quikc"), "Perhaps you meant", "--quick")
    assert_refused(worldmodel(*new, "--arguments", '{"width": 1}'), "at least 2 cells", "width=1")
    assert_refused(worldmodel(*new, "--hidden-size", "four"), "hidden-size")
    assert_refused(worldmodel(*new, "--core", "lstm"), "srnn")
    assert_refused(worldmodel(*new, "--first-updates", 0), "must be positive")
    assert_refused(worldmodel(*new, "--width", 1), "--width is now called --arguments")
    assert_refused(worldmodel("evaluate", run, "--episodes", 1), "2 or more")
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
    assert_refused(worldmodel("evaluate", damaged), "not as it was written", 'line "checksum"')
    del description["checksum"]
    (damaged / "config.json").write_text(json.dumps(description))
    assert_refused(worldmodel("evaluate", damaged), "config.json", "surprise")
    del description["config"]["surprise"]
    (damaged / "config.json").write_text(json.dumps(description))
    assert_refused(worldmodel("evaluate", damaged), "no checkpoint", "worldmodel resume")
    assert_refused(worldmodel("train", "toy-game", "--out", run, "--quick"), "already exists")


def test_a_run_is_evaluated_as_json_and_filmed(run, tmp_path):
    assert (run / "videos" / "film.mp4").stat().st_size > 0
    assert (run / "videos" / "film.gif").stat().st_size > 0
    asked = ("evaluate", run, "--json", "--episodes", 20, "--held-out", 20)
    result = worldmodel(*asked)
    figures = json.loads(result.stdout)
    expected = {
        "nats_per_step",
        "exact_nats_per_step",
        "gap_nats_per_step",
        "gap_se",
        "real_return_mean",
        "real_return_ci95",
        "real_return_terminated",
        "dream_return_mean",
        "optimal_return",
        "random_return",
        "real_steps_used",
        "wall_seconds",
        "seed",
    }
    assert expected <= figures.keys()
    gaps = [part["gap_nats_per_step"] for part in figures["by_key"].values()]
    assert sum(gaps) == pytest.approx(figures["gap_nats_per_step"], abs=1e-9)
    assert figures["gap_nats_per_step"] > -2 * figures["gap_se"]
    assert 90 <= figures["real_steps_used"] < 90 + 3 * 8  # copies end their rounds together
    assert (figures["episodes"], figures["held_out_episodes"]) == (20, 20)
    assert figures["densities"] == []
    assert json.loads(worldmodel(*asked).stdout) == figures
    film = tmp_path / "film.gif"
    result = worldmodel("video", run, "--out", film, "--steps", 3)
    assert result.returncode == 0
    assert film.stat().st_size > 0
    assert_refused(worldmodel("video", run, "--out", tmp_path / "film.txt"), ".mp4", ".gif")


def test_the_options_of_evaluate_are_those_of_the_run(run, tmp_path):
    assert "--held-out-agent" in worldmodel("evaluate", run, "--help").stdout
    assert "--held-out-agent" not in worldmodel("evaluate", "--help").stdout
    assert_refused(worldmodel("evaluate", run, "--games", 3), "--games")
    images = new_run(tmp_path / "images", VAEConfig(ImagesConfig("images")))
    assert_refused(worldmodel("evaluate", images.path), "no `evaluate` for runs of vae")


PLUGIN = """
from dataclasses import dataclass
from pathlib import Path

from worldmodel.experiments.runs.registry import Experiment, config_of, register_experiment


@dataclass(frozen=True)
class CountingConfig:
    \"\"\"Count.\"\"\"

    number: int = 3
    \"\"\"How far.\"\"\"


class Counting:
    seconds = 0.0

    def __init__(self, folder, reporter):
        self.folder = folder

    def restore(self):
        pass

    def run(self):
        for number in range(config_of(self.folder).number):
            self.folder.log({"stage": "count", "number": number})


def training(folder, reporter):
    return Counting(folder, reporter)


def load(folder):
    return [line["number"] for line in folder.metrics()]


register_experiment("counting", Experiment(f"{__name__}:CountingConfig", __name__))
"""


@pytest.mark.parametrize("way", ["option", "variable", "entry point"])
def test_an_experiment_from_outside_is_trained_and_loaded(way, tmp_path):
    """By one module that registers it; nothing of the package is touched."""
    module = f"counting_by_{way.replace(' ', '_')}"
    (tmp_path / f"{module}.py").write_text(PLUGIN)
    if way == "entry point":
        info = tmp_path / "counting-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: counting\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(f"[worldmodel.plugins]\ncounting = {module}\n")
    plugin = ["--plugin", module] if way == "option" else []

    def done(work, path=tmp_path):
        """A process of its own that finds the module works in the folder."""

        def outside():
            sys.path.insert(0, str(path))
            if way == "variable":
                os.environ["WORLDMODEL_PLUGINS"] = module
            work()

        return ended(Process(outside, path), 100)

    def said(*words):
        result = done(lambda: main([*words, *plugin]))
        assert result.code == 0, result.error
        return result.out

    if way == "option":
        assert "counting" in said("train", "--help")
        assert "How far." in said("train", "counting", "--help")
    said("train", "counting", "--out", "run", "--number", "2")
    if way != "option":
        assert done(lambda: print(experiments.load("run"))).out == "[0, 1]\n"
        return
    refused = done(lambda: main(["resume", "run", "--steps", "3", *plugin]))
    assert_refused(Result(refused.code, "", refused.error), "cannot be given more steps")
    refused = done(lambda: main(["resume", str(tmp_path / "run")]), ROOT)
    assert_refused(Result(refused.code, "", refused.error), "'counting'", "--plugin")


def test_a_plugin_that_is_not_there_gets_a_sentence():
    assert_refused(worldmodel("--plugin", "no_such_module", "--help"), "no_such_module", "is it")


def test_a_name_is_registered_once():
    there = EXPERIMENTS["text"]
    register_experiment("text", there)  # by a module that is imported again
    with pytest.raises(ValueError, match="'text' is there already"):
        register_experiment("text", there._replace(implementation="mine"))


def test_every_experiment_keeps_what_the_registry_promises():
    for name, experiment in EXPERIMENTS.items():
        assert dataclasses.is_dataclass(config_class(name))
        assert implementation(name).__name__ == experiment.implementation
        group, *rest = (experiment.command or f"train {name}").split()
        assert rest[0] in commands(group)


RUNS = {
    "text": ("corpus.txt", lambda path: path.write_text(VERSE * 20), "--corpus"),
    "midi": ("roll.npz", lambda path: write(path.parent, path.name), "--data"),
    "control": None,
}


@pytest.mark.parametrize("name", RUNS)
def test_a_run_of_any_kind_is_loaded(name, tmp_path, request):
    """Through the front door; what was loaded says what it is."""
    path = tmp_path / "run"
    if RUNS[name] is None:
        path = request.getfixturevalue("run")
    else:
        file, make, option = RUNS[name]
        make(tmp_path / file)
        made = worldmodel("train", name, option, tmp_path / file, "--quick", "--out", path)
        assert made.returncode == 0, made.stderr
    run = experiments.load(path)
    assert isinstance(run.model, package.WorldModel)
    numbers = sum(parameter.numel() for parameter in run.model.parameters())
    core = type(run.model.core).__name__
    what = "worldmodel/ToyGame-v0" if name == "control" else name
    assert repr(run) == f"<a run of {what}: {core}, {numbers:,} parameters>"


def test_what_an_experiment_lacks_is_said(tmp_path):
    corpus = TextConfig(data=TextDataConfig(("x",)))
    text, images = (
        new_run(tmp_path / name, config)
        for name, config in (("text", corpus), ("vae", VAEConfig(ImagesConfig("images"))))
    )
    for verb in ("play", "video"):
        for name, folder in (("text", text), ("vae", images)):
            assert_refused(worldmodel(verb, folder.path), f"no `{verb}` for runs of {name}")
    for verb in ("generate", "report"):
        assert_refused(worldmodel(verb, images.path), f"no `{verb}` for runs of vae")


OLD = """{
  "schema_version": 1,
  "experiment": "text",
  "config": {
    "seed": 0,
    "threads": 1,
    "checkpoint_seconds": 30.0,
    "data": {"data": ["corpus.txt"], "held_out": 0.1, "on_error": "stop", "rare": 1},
    "model": {"core": "rnn", "hidden": 8, "layers": 1, "recurrence": "default", "deafness": 0.0}
  }
}
"""


def test_a_run_of_an_older_version_is_refused_with_what_to_do(tmp_path):
    (tmp_path / "config.json").write_text(OLD)
    for verb in ("resume", "evaluate", "generate", "play"):
        assert_refused(worldmodel(verb, tmp_path), "by version 0.1", "train it again", "check out")
    (tmp_path / "config.json").write_text(OLD.replace(": 1,", ": 9,", 1))
    assert_refused(worldmodel("resume", tmp_path), "schema version 9", "reads 2")


def test_a_run_is_exported(run, tmp_path):
    result = worldmodel("export", run, "--out", tmp_path / "out")
    assert result.returncode == 0, result.stderr
    data = open_data(tmp_path / "out")
    assert data.episodes.steps == open_data(run).episodes.steps >= 90
    again = worldmodel("export", run, "--out", tmp_path / "out")
    assert again.returncode == 2
    assert "already exists" in again.stderr
