"""docs/your-own-environment.md is true: its environment is made, checked, collected."""

import inspect
import json
import re
import sys
import warnings
from pathlib import Path

import pytest
from campaigns.processes import Process, ended

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


def done(work, folder):
    """What is printed by a process that does this work in the folder, in which no module lies that
    Python finds by itself."""
    result = ended(Process(work, folder), 200)
    assert result.code == 0, result.error
    return result.out


def command(folder, *words):
    return done(lambda: main([str(word) for word in words]), folder)


def test_gymnasium_finds_nothing_wrong_with_it(folder):
    def check():
        sys.path.insert(0, "")
        warnings.simplefilter("error")
        exec(CHECK, {})

    assert done(check, folder) == ""


def test_its_steps_are_collected(folder):
    printed = done(lambda: exec(COLLECT, {}), folder)
    assert re.fullmatch(r"\d+ episodes, 20[0-3] steps, images \(16, 16, 3\)\n", printed)


def test_its_commands_run_there_and_from_anywhere(folder, tmp_path_factory):
    """Made quick: they go through, and tell what the agent is worth. The run remembers where its
    environment's module was found, and can be told where it has gone."""
    train, evaluate, offline = (line.split()[1:] for line in COMMANDS.splitlines())
    command(folder, *train, "--quick")
    result = json.loads(command(folder, *evaluate))
    command(folder, *offline, "--quick")
    named = set(re.findall(r"`(\w+)`", PAGE.partition("## What it is worth")[2]))
    figures = {name for name in named if name.startswith(("real_", "dream_", "nats_", "open_"))}
    assert len(figures) > 5
    assert figures <= result.keys()
    run, elsewhere = folder / train[-1], tmp_path_factory.mktemp("elsewhere")
    environment = json.loads((run / "config.json").read_text())["config"]["environment"]
    assert environment["env_path"] == str(folder.resolve())
    assert json.loads(command(elsewhere, "evaluate", run, "--json")) == result
    (folder / "moved").mkdir()
    (folder / "lamps.py").rename(folder / "moved" / "lamps.py")
    moved = command(elsewhere, "evaluate", run, "--json", "--env-path", folder / "moved")
    assert json.loads(moved) == result


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
