"""docs/your-own-environment.md is true: its environment is made, checked, collected."""

import inspect
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from worldmodel.envs import make_environment, make_vector_env
from worldmodel.experiments.cli.main import main

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "your-own-environment.md").read_text()
MODULE, CHECK, COLLECT = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
COMMANDS = "".join(re.findall(r"```bash\n(.*?)```", PAGE, re.DOTALL))
OPTIONS = re.findall(r"^\| `--([a-z-]+).*?` \| `(\w+)=", PAGE, re.MULTILINE)


@pytest.fixture
def folder(tmp_path):
    """The reader's folder, with the page's module."""
    (tmp_path / "lamps.py").write_text(MODULE)
    return tmp_path


def run(program, folder, *options):
    """What a program prints that is run in the folder."""
    done = subprocess.run(
        [sys.executable, *options, "-c", program],
        capture_output=True,
        text=True,
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        timeout=200,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_gymnasium_finds_nothing_wrong_with_it(folder):
    assert run(f"import warnings\nwarnings.simplefilter('error')\n{CHECK}", folder) == ""


def test_its_steps_are_collected(folder):
    printed = run(COLLECT, folder, "-P")  # as in a script of another folder, or a command
    assert re.fullmatch(r"\d+ episodes, 20[0-3] steps, images \(16, 16, 3\)\n", printed)


def test_its_commands_run(folder):
    """Made quick: the test is that they go through, and tell what the agent is worth."""
    config = []
    for words in (line.split()[1:] for line in COMMANDS.splitlines()):
        quick = ["--quick"] if words[0] == "train" else []
        program = f"from worldmodel.experiments.cli.main import main\nmain({words + quick})"
        printed = run(program, folder, "-P")
        config += [json.loads(printed)] if words[0] == "evaluate" else []
    named = set(re.findall(r"`(\w+)`", PAGE.partition("## What it is worth")[2]))
    figures = {name for name in named if name.startswith(("real_", "dream_", "nats_", "open_"))}
    assert len(figures) > 5
    assert [figures - evaluation.keys() for evaluation in config] == [set()]


def test_a_run_works_from_anywhere(folder, tmp_path_factory):
    """It remembers where its environment's module was found, and can be told where it has gone."""

    def command(place, *words):
        program = f"from worldmodel.experiments.cli.main import main\nmain({list(words)})"
        return run(program, place, "-P")

    elsewhere, out = tmp_path_factory.mktemp("elsewhere"), str(folder / "run")
    command(folder, "train", "control", "--env", "lamps:Lamps-v0", "--quick", "--out", out)
    assert json.loads((folder / "run" / "config.json").read_text())["config"]["environment"][
        "env_path"
    ] == str(folder.resolve())
    asked = ("evaluate", out, "--json", "--episodes", "2")
    here = json.loads(command(elsewhere, *asked))
    (folder / "moved").mkdir()
    (folder / "lamps.py").rename(folder / "moved" / "lamps.py")
    config = ("--env-path", str(folder / "moved"))
    assert json.loads(command(elsewhere, *asked, *config)) == here


def test_every_option_is_one_of_the_command(capsys):
    with pytest.raises(SystemExit):
        main(["train", "control", "--help"])
    config = capsys.readouterr().out
    assert [option for option, _ in OPTIONS if not re.search(rf"--{option}[ ,]", config)] == []


def test_every_option_is_an_argument():
    made = {**inspect.signature(make_environment).parameters}
    made |= inspect.signature(make_vector_env).parameters
    names = {option.replace("-", "_"): argument for option, argument in OPTIONS}
    assert names.pop("num_envs") == "copies"
    assert all(option == argument for option, argument in names.items())
    behind = {"id", "render_mode", "report", "options"}
    assert {argument for _, argument in OPTIONS} == set(made) - behind
