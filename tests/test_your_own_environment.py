"""docs/your-own-environment.md is true: its environment is made, checked, collected."""

import inspect
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from envs import make_environment, make_vector_env

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "your-own-environment.md").read_text()
MODULE, CHECK, COLLECT = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)


@pytest.fixture
def folder(tmp_path):
    """The reader's folder, with the page's module."""
    (tmp_path / "lamps.py").write_text(MODULE)
    return tmp_path


def run(program, folder):
    """What a program prints that is run in the folder."""
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_gymnasium_finds_nothing_wrong_with_it(folder):
    assert run(f"import warnings\nwarnings.simplefilter('error')\n{CHECK}", folder) == ""


def test_its_steps_are_collected(folder):
    printed = run(COLLECT, folder)
    assert re.fullmatch(r"\d+ episodes, 20[0-3] steps, images \(16, 16, 3\)\n", printed)


def test_every_option_is_an_argument():
    made = {**inspect.signature(make_environment).parameters}
    made |= inspect.signature(make_vector_env).parameters
    rows = re.findall(r"^\| `--([a-z-]+).*?` \| `(\w+)=", PAGE, re.MULTILINE)
    assert len(rows) == 11
    for option, argument in rows:
        assert option.replace("-", "_") == argument
        assert argument in made
    assert {argument for _, argument in rows} == {*made} - {
        "id",
        "render_mode",
        "patience",
        "report",
        "options",
    }
