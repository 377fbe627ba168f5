"""What the documents show is true: their commands parse, their programs and notebooks run."""

import json
import re
import shlex
from pathlib import Path

import numpy as np
import pytest
from campaigns.processes import Process, ended

from worldmodel.experiments.cli.main import parse

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
NOTEBOOKS = sorted((DOCS / "tutorials").glob("*.ipynb"))
PAGES = sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md", *DOCS.rglob("*.md")])
OF_ITS_PAGE = {"linear", "weather", "--each"}
"""Words of commands that a plugin, or the run that they are given, has first to be there for."""
BRIEFLY = """
import worldmodel.agents
from worldmodel.agents.config import AgentConfig, LearningConfig, PolicyConfig
briefly = AgentConfig(
    learning=LearningConfig(first_updates=8, update_ratio=0.01),
    policy=PolicyConfig(first_rollouts=8, rollout_ratio=0.01),
)
"""


def cells(notebook: Path, kind: str) -> list[dict]:
    return [
        cell for cell in json.loads(notebook.read_text())["cells"] if cell["cell_type"] == kind
    ]


def text_of(document: Path) -> str:
    """The text of a page, or that of a notebook's cells."""
    if document.suffix == ".md":
        return document.read_text()
    return "\n".join("".join(cell["source"]) for cell in cells(document, "markdown"))


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"^ *```{language}\n(.*?)^ *```", page.read_text(), re.M | re.DOTALL)


def runs(program: str, folder: Path) -> str:
    """What a program prints, in a process of its own that stands in the folder."""
    result = ended(Process(lambda: exec(program, {"__name__": "__main__"}), folder), 200)
    assert result.code == 0, result.error
    return result.out


@pytest.mark.parametrize("document", [*PAGES, *NOTEBOOKS], ids=lambda path: path.name)
def test_every_command_that_is_shown_parses(document):
    text = text_of(document).replace("\\\n", " ")
    for line in re.findall(r"^ *(worldmodel .*)$", text, re.MULTILINE):
        words = [word for word in shlex.split(line, comments=True)[1:] if word != "--debug"]
        if words[0] == "--plugin":  # whose module is made on the page
            words = words[2:]
        if not set(words) & OF_ITS_PAGE:
            command, _ = parse(words)
            assert command.run


def test_the_page_on_stable_baselines3_runs(tmp_path):
    own, real, dreamt, pictures = blocks(DOCS / "sb3.md", "python")
    smaller = {
        'agent = WorldModelAgent("CartPole-v1", seed=0)': (
            'agent = WorldModelAgent("CartPole-v1", config=briefly, prefill=60)'
        ),
        "total_timesteps=1_000": "total_timesteps=60",
        "total_timesteps=20_000": "total_timesteps=64",
        "n_steps=64, batch_size=256": "n_steps=4, batch_size=16",
    }
    for shown, small in smaller.items():
        assert own.count(shown) == 1
        own = own.replace(shown, small)
    program = BRIEFLY + own + real + dreamt + 'agent.save("runs/ppo")\n' + pictures
    (tmp_path / "runs").mkdir()
    printed = runs(program, tmp_path)
    assert re.fullmatch(r"\d+ ± \d+ in reality\n\d+ ± \d+ in the dream\n3\n", printed)


def test_the_page_on_recordings_runs(tmp_path):
    arrays, files = blocks(DOCS / "recordings.md", "python")[:2]
    (tmp_path / "shakespeare.txt").write_text("to be or not to be, that is the question\n" * 30)
    recordings = np.random.default_rng(0).integers(0, 3, (12, 20)).tolist()
    begin = f"import numpy as np\nrecordings = np.array({recordings})\nothers = recordings[:5]\n"
    assert arrays.count("updates=1_000, progress_bar=True") == 1
    arrays = arrays.replace("updates=1_000, progress_bar=True", "updates=3")
    assert files.count("minutes=5") == 1
    files = files.replace("hidden_size=128", "hidden_size=8").replace("minutes=5", "updates=2")
    check = "print(nats.shape, sample.shape, type(model).__name__)"
    assert runs(begin + arrays + check.replace("type(model).__name__", "model.updates"), tmp_path)
    assert runs(files + "print(len(model.sample(5)))", tmp_path) == "5\n"


def test_the_page_on_series_runs(tmp_path):
    (program,) = blocks(DOCS / "series.md", "python")
    assert program.count("updates=500") == 1
    data = """
import numpy as np, polars
days = np.datetime64("2024-01-01") + np.arange(60)
columns = {"date": days, "sold": np.sin(np.arange(60)), "holiday": np.arange(60) % 7 == 0}
columns["sold"][[5, 40]] = columns["sold"][48:] = np.nan
train = valid = test = polars.DataFrame(columns)
"""
    program = data + program.replace("updates=500", "updates=2")
    check = "print(ahead.draws.shape, np.isnan(whole['sold']).sum(), unlikely.shape)"
    assert runs(program + check, tmp_path) == "(200, 12, 1) 0 (60, 1)\n"


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs_at_small_sizes(notebook, tmp_path):
    """Its cells run one after another, with the sizes that the first cell's metadata names."""
    sizes, *others = cells(notebook, "code")
    small = sizes["metadata"]["small"]
    shown = re.findall(r"^([A-Z]+) = ", "".join(sizes["source"]), re.MULTILINE)
    assert sorted(shown) == sorted(small)
    sources = ["import matplotlib\nmatplotlib.use('Agg')"]
    sources += [f"{name} = {value}" for name, value in small.items()]
    sources += ["".join(cell["source"]) for cell in others]
    runs("\n".join(sources), tmp_path)


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_shipped_with_the_outputs_of_a_whole_run(notebook):
    code = cells(notebook, "code")
    assert [cell["execution_count"] for cell in code] == list(range(1, len(code) + 1))
    outputs = [(cell, output) for cell in code for output in cell["outputs"]]
    assert all(output["output_type"] != "error" for _, output in outputs)
    drawn = [cell for cell, output in outputs if "image/png" in output.get("data", {})]
    assert drawn, "it shows no picture"
    assert all(cell["metadata"]["alt"] for cell in drawn)
    assert notebook.stat().st_size < 300_000
