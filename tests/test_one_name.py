"""One import name: a wheel, an editable install and a checkout work in a folder whose own packages
are called as ours are at the top of the repository."""

import importlib.metadata
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
LISTED = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]

ENVIRONMENT = """
import gymnasium
import numpy as np


class Mine(gymnasium.Env):
    observation_space = gymnasium.spaces.Box(-1, 1, (2,))
    action_space = gymnasium.spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.steps = 0
        return np.zeros(2, np.float32), {}

    def step(self, action):
        self.steps += 1
        place = np.full(2, self.steps / 10 * (2 * action - 1), np.float32)
        return place, float(action), self.steps == 10, False, {}


gymnasium.register("Mine-v0", entry_point="envs.mine:Mine")
"""

PROGRAM = """
import sys
from pathlib import Path

import gymnasium

assert gymnasium.make("worldmodel.envs:worldmodel/ToyGame-v0").reset(seed=0)

import agents, envs, tests
from worldmodel import RNN, experiments
from worldmodel.agents import Uniform
from worldmodel.envs import make_vector_env

here = Path.cwd()
for module in (agents, envs, tests):
    assert Path(module.__file__).parent.parent == here, module
assert here not in Path(sys.modules["worldmodel"].__file__).parents
games = make_vector_env("envs.mine:Mine-v0", copies=2, workers=2)
assert games.reset(seed=0)[0].shape == (2, 2)
games.close()
"""

TRAINS = """
from worldmodel import experiments
from worldmodel.envs import DreamEnv
from worldmodel.experiments.cli.main import main

train = ["train", "control", "--env", "envs.mine:Mine-v0", "--num-envs", "2", "--workers", "2"]
main([*train, "--quick", "--out", "run"])
run = experiments.load("run")
observation, _ = DreamEnv(run.dream()).reset(seed=0)
assert observation.shape == (2,)
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The wheel, unpacked; what it depends on is there."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"  # a build leaves a folder beside its source
    files = subprocess.run(LISTED, cwd=ROOT, capture_output=True, text=True)
    if files.returncode:
        pytest.skip("only a clone knows which files belong to the package")
    for name in files.stdout.splitlines():
        if (ROOT / name).is_symlink() or not (ROOT / name).exists():
            continue
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_bytes((ROOT / name).read_bytes())
    for name in ("envs", "agents", "experiments"):
        (source / "worldmodel" / name).symlink_to(f"../{name}")
    command = [
        sys.executable,
        "-m",
        "build",
        "--no-isolation",
        "--wheel",
        "--outdir",
        str(folder),
        str(source),
    ]
    built = subprocess.run(command, capture_output=True, text=True)
    if built.returncode:
        pytest.skip(f"no wheel could be built here: {built.stderr[-300:]}")
    (file,) = folder.glob("*.whl")
    zipfile.ZipFile(file).extractall(folder / "unpacked")
    return folder / "unpacked"


@pytest.mark.parametrize("way", ["checkout", "editable", "wheel"])
def test_a_folder_with_packages_of_the_same_names(way, tmp_path, request):
    for package in ("agents", "envs", "tests"):
        (tmp_path / package).mkdir()
        (tmp_path / package / "__init__.py").write_text("")
    (tmp_path / "envs" / "mine.py").write_text(ENVIRONMENT)
    (tmp_path / "experiments").mkdir()  # of results, without an __init__.py

    path = {"checkout": ROOT, "editable": None}
    path = request.getfixturevalue("wheel") if way == "wheel" else path[way]
    if path is None and "worldmodel" not in importlib.metadata.packages_distributions():
        pytest.skip("the distribution is not installed")
    variables = {**os.environ, "PYTHONPATH": str(path or "")}

    def run(*arguments):
        command = [sys.executable, *arguments]
        done = subprocess.run(command, cwd=tmp_path, env=variables, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout

    run("-m", "worldmodel", "--version")
    run("-c", PROGRAM + TRAINS if way == "wheel" else PROGRAM)
    if way == "wheel":
        assert [found.name for found in path.iterdir() if found.suffix != ".dist-info"] == [
            "worldmodel"
        ]
