"""Every fault ends in one sentence, with a code that is not 0; a traceback is shown when asked."""

import errno
import hashlib
import importlib
import io
import json
import os
import re
import shutil
import sys
from pathlib import Path

import games  # noqa: F401 (registers)
import gymnasium
import odd_games  # noqa: F401
import pytest
from campaigns.mutations import sign
from command_line import Result, worldmodel
from rich.console import Console

from worldmodel.experiments.cli.errors import LONGEST, message_of, shortened
from worldmodel.experiments.show.report import films
from worldmodel.progress import Reporter
from worldmodel.run_folder import RunError


def assert_sentence(result: Result, *words: str, code: int = 2) -> None:
    assert result.returncode == code, result.stderr
    assert "Traceback" not in result.stdout + result.stderr
    assert result.said.startswith("worldmodel: ")
    assert len(result.said) <= 300
    for word in words:
        assert word in result.said


# Environments of others.


def odd(tmp_path: Path, how: str, *more: object, at: int = 3) -> Result:
    """What is said of training in an environment that breaks in this way."""
    words = ["train", "control", "--env", "Odd-v0", "--quick", "--out", tmp_path / "run"]
    return worldmodel(*words, "--arguments", json.dumps({"how": how, "at": at}), *more)


BROKEN = {
    "raises": ["step of Odd-v0 raised KeyError: 'level'", "odd_games.py"],
    "reset": ["reset of Odd-v0 raised KeyError: 'level'", "odd_games.py"],
    "made": ["constructor of Odd-v0 raised AssertionError: the licence has run out"],
    "no pair": ["reset of Odd-v0 should return (observation, info)", "an array float32"],
    "none": ["(observation, reward, terminated, truncated, info), but gave None"],
    "four": ["(observation, reward, terminated, truncated, info), but gave 4 values"],
    "shape": ["values of Box(-1.0, 1.0, (3,), float32), but gave an array float32 of shape (4,)"],
    "scalar": ["but gave 0.0"],
    "nothing": ["but gave None"],
    "objects": ["but gave an array object of shape (3,)"],
    "words": ["but gave an array <U1"],
    "nan": ["showed nan"],
    "reward": ["a number as reward, but gave an array float64 of shape (1,)"],
    "no reward": ["a number as reward, but gave None"],
    "end": ["a number as terminated, but gave an array bool of shape (2,)"],
    "info": ["a dict as info, but gave None"],
}


@pytest.mark.parametrize("how", BROKEN)
def test_an_environment_that_breaks_is_named(how, tmp_path):
    result = odd(tmp_path, how)
    assert_sentence(result, *BROKEN[how])
    assert how == "nan" or "check_env" in result.said


def test_in_workers_too(tmp_path):
    result = odd(tmp_path, "shape", "--workers", 1, at=1)
    assert_sentence(result, "worker 0 died 3 times", "shape (4,)")


UNSUPPORTED = {
    "two words": ["the space Text(", "leaves this space out"],
    "truths": ["Box(False, True, (2,), bool)", "MultiBinary"],
    "unbounded": ["no bounds", "TransformAction"],
    "dict": ["Dict('left'", "MultiDiscrete"],
}


@pytest.mark.parametrize("how", UNSUPPORTED)
def test_a_space_that_is_not_supported_is_told_before_anything_is_played(how, tmp_path):
    assert_sentence(odd(tmp_path, how), *UNSUPPORTED[how])
    assert not (tmp_path / "run").exists()


# Faults of the system.


def raising(error: BaseException):
    def run(*arguments, **options):
        raise error

    return run


SYSTEM = {
    OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/runs/a"): [
        "/runs/a: No space",
        "make room",
    ],
    OSError(errno.EROFS, os.strerror(errno.EROFS), "/a"): ["/a: Read-only", "can be written to"],
    PermissionError(errno.EACCES, "Permission denied", "/a"): ["/a: Permission", "permissions"],
    FileNotFoundError(errno.ENOENT, "No such file", "/a"): ["/a: No such file", "deleted"],
    OSError(errno.EMFILE, "Too many open files"): ["Too many open files", "ulimit -n"],
    RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 3840 vs 3792"): [
        "a file cannot be written"
    ],
    RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"): [
        "not enough memory",
        "smaller sizes",
    ],
    MemoryError(): ["not enough memory"],
    RuntimeError("can't start new thread"): ["no more threads", "--threads"],
}


@pytest.mark.parametrize("error", SYSTEM, ids=lambda error: f"{type(error).__name__} {error}"[:40])
def test_what_the_system_refuses_is_told_with_what_to_do(error, monkeypatch):
    monkeypatch.setattr("worldmodel.experiments.cli.main.parse", raising(error))
    assert_sentence(worldmodel("resume", "x"), *SYSTEM[error])


def test_a_package_that_draws_is_named_with_its_extra(monkeypatch):
    said = 'pygame is not installed, run `pip install "gymnasium[classic-control]"`'
    monkeypatch.setattr(
        "worldmodel.experiments.cli.main.parse",
        raising(gymnasium.error.DependencyNotInstalled(said)),
    )
    assert_sentence(worldmodel("video", "x"), "pip install 'worldmodel-gym[classic-control]'")


def test_ctrl_c_before_anything_has_begun(monkeypatch):
    monkeypatch.setattr("worldmodel.experiments.cli.main.parse", raising(KeyboardInterrupt()))
    assert_sentence(worldmodel("resume", "x"), "stopped", code=130)


# Faults of the program.


def test_a_fault_of_the_program_is_told_with_where_to_read_on(monkeypatch, tmp_path):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    fault = RuntimeError("sizes do not match\n" + "and more " * 99)
    monkeypatch.setattr("worldmodel.experiments.cli.main.parse", raising(fault))
    result = worldmodel("resume", "x")
    assert_sentence(result, "not yours", "sizes do not match", "report", code=1)
    (file,) = tmp_path.iterdir()
    assert file.name in result.said
    assert "Traceback" in file.read_text()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "nowhere"))
    assert_sentence(worldmodel("resume", "x"), "--debug", code=1)


@pytest.mark.parametrize("error", [KeyError("fault"), RunError("yours")])
def test_debug_shows_the_traceback_above_the_sentence(error, monkeypatch):
    monkeypatch.setattr("worldmodel.experiments.cli.main.parse", raising(error))
    result = worldmodel("resume", "x", "--debug")
    assert re.search(r"Traceback[\s\S]*in run[\s\S]*Error[\s\S]*\nworldmodel: ", result.stderr)
    assert "Traceback" not in worldmodel("resume", "x").stderr


def test_errors_of_python_are_no_sentences_of_ours():
    """They are faults of the program, those of this package as they are."""
    from worldmodel.envs import arguments_from_json

    for fault, is_ours in ((int, False), (arguments_from_json, True)):
        with pytest.raises(ValueError, match="x") as caught:
            fault("x")
        assert ("not yours" in message_of(caught.value).sentence) != is_ours


@pytest.mark.parametrize("most", [50, 51, 52, LONGEST])
def test_a_long_text_keeps_its_beginning_and_its_end(most):
    short = shortened("begin " + "\n  word" * 300 + " end", most)
    assert (short[:5], short[-3:]) == ("begin", "end")
    assert most - 6 < len(short) <= most


# Runs that are damaged.


@pytest.fixture(scope="module")
def learned(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("runs") / "learned"
    words = ["train", "control", "--env", "Panel-v0", "--quick", "--curve-episodes", 1]
    done = worldmodel(*words, "--out", path)
    assert done.returncode == 0, done.stderr
    return path


def set_in(file: Path, value: object, *keys: str) -> None:
    """Sets a value deep in a JSON file."""
    whole = part = json.loads(file.read_text())
    for key in keys[:-1]:
        part = part[key]
    part[keys[-1]] = value
    whole.pop("checksum", None)
    file.write_text(json.dumps(whole))


def in_checkpoints(run: Path, value: object, *keys: str) -> None:
    """Sets a value in all checkpoints, as one who means to deceive does."""
    for folder in run.glob("checkpoints/*"):
        file = folder / "values.json"
        set_in(file, value, *keys)
        digest = hashlib.sha256(file.read_bytes()).hexdigest()
        set_in(folder / "checkpoint.json", digest, "sha256", file.name)


DAMAGES = {
    "sizes": lambda run: set_in(
        run / "config.json", 5, *["config", "agent", "model", "hidden_size"]
    ),
    "nested": lambda run: (run / "config.json").write_text("[" * 100_000),
    "no list": lambda run: in_checkpoints(run, 7, "stages"),
    "no number": lambda run: in_checkpoints(run, "x", "replay"),
    "no statistics": lambda run: in_checkpoints(run, {"a": 1}, "statistics"),
    "no spaces": lambda run: (run / "episodes" / "spaces.json").write_text("{}"),
    "no store": lambda run: (run / "episodes" / "store.json").write_text("[]"),
    "no index": lambda run: [file.write_text("") for file in run.glob("episodes/*/index")],
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_run_is_told_by_its_name(damage, learned, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(learned, run)
    DAMAGES[damage](run)
    assert_sentence(worldmodel("resume", run), str(run))


@pytest.mark.parametrize("line", ['"text"', "{", "[]", '{"stage": "evaluate"}', "null"])
def test_damaged_metrics_are_told_by_their_name(line, learned, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(learned, run)
    (run / "metrics.jsonl").write_text(line + "\n")
    assert_sentence(worldmodel("plot", run, "--out", tmp_path / "a.png"), "metrics.jsonl")
    (run / "metrics.jsonl").unlink()
    (run / "metrics.jsonl").mkdir()
    assert_sentence(worldmodel("plot", run, "--out", tmp_path / "a.png"), "metrics.jsonl")


def test_a_terminal_is_given_no_control_characters():
    """Names in a folder of somebody else's, which messages quote, could say what they like."""
    told = "\x1b]0;mine\x07\x1b[2J\x9b1A of a \udc80 name, \r\nand so on"
    assert message_of(RunError(told)).sentence.isprintable()
    console = Console(file=io.StringIO())
    Reporter(console).say(told)
    assert console.file.getvalue().replace("\n", "").isprintable()


def test_ctrl_c_while_the_program_starts(monkeypatch, capsys):
    """Before there is anything that could answer it."""
    name = "worldmodel.experiments.cli.main"

    class Interrupting:
        def find_spec(self, wanted, path=None, target=None):
            if wanted == name:
                raise KeyboardInterrupt

    monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(sys, "meta_path", [Interrupting(), *sys.meta_path])
    with pytest.raises(SystemExit) as ended:
        importlib.import_module("worldmodel.__main__").main()
    assert ended.value.code == 130
    assert capsys.readouterr().err == "worldmodel: stopped\n"


def test_ctrl_c_while_ctrl_c_is_answered(monkeypatch, capsys):
    monkeypatch.setattr("worldmodel.experiments.cli.main.main", raising(KeyboardInterrupt()))
    with pytest.raises(SystemExit) as ended:
        importlib.import_module("worldmodel.__main__").main()
    assert ended.value.code == 130
    assert capsys.readouterr().err == "worldmodel: stopped\n"


def test_a_plugin_that_fails_is_named(tmp_path, monkeypatch):
    (tmp_path / "failing_plugin.py").write_text("1 / 0\n")
    monkeypatch.syspath_prepend(tmp_path)
    result = worldmodel("--plugin", "failing_plugin", "--help")
    assert_sentence(result, "the plugin failing_plugin raised ZeroDivisionError")


def test_a_checkpoint_of_no_time_is_told_by_its_name(learned, tmp_path, monkeypatch):
    monkeypatch.setattr(films, "FRAMES", 2)
    monkeypatch.setattr(films, "DREAMS", 1)
    run = tmp_path / "run"
    shutil.copytree(learned, run)
    every = sorted(run.glob("checkpoints/*/values.json"))
    for values in every:
        set_in(values, "much", "saved")
        sign(run, values)
    said = worldmodel("report", run, "--out", tmp_path / "a.html")
    assert_sentence(said, "cannot be read")
    assert any(f"{values.parent.name} cannot be read" in said.stderr for values in every)


def test_a_damaged_evaluation_is_told_by_its_name(learned, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(learned, run)
    set_in(run / "evaluation.json", "much", "real_return_mean")
    assert_sentence(worldmodel("report", run, "--out", tmp_path / "a.html"), "evaluation.json")
