"""What the README says is true: its program runs, its commands exist, its files are there."""

import re
from pathlib import Path

from campaigns.processes import Process, ended

from worldmodel.agents import WorldModelAgent
from worldmodel.experiments.cli.commands import commands

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


BRIEFLY = """from worldmodel.agents import AgentConfig
from worldmodel.agents.config import LearningConfig, PolicyConfig
briefly = AgentConfig(
    learning=LearningConfig(first_updates=20, update_ratio=0.02),
    policy=PolicyConfig(first_rollouts=20, rollout_ratio=0.02),
)
"""


def test_the_first_program_runs_with_fewer_updates(tmp_path):
    program = re.findall(r"```python\n(.*?)```", README, re.DOTALL)[0]
    assert program.count("seed=0)") == 1
    program = BRIEFLY + program.replace("seed=0)", "seed=0, config=briefly)")
    result = ended(Process(lambda: exec(program, {}), tmp_path), 200)  # where it saves its agent
    assert result.code == 0, result.error
    words = r"(\d+) before, (\d+) after 1000 real steps"
    before, after = map(int, re.fullmatch(words, result.out.strip()).groups())
    assert before < 40
    assert after > 0
    assert WorldModelAgent.load(tmp_path / "cartpole").num_timesteps == 1_000


def test_the_first_program_stands_near_the_top():
    lines = README.splitlines()
    assert 80 <= len(lines) <= 150
    assert lines.index("```python") < 50


def test_every_verb_and_file_that_is_named_exists():
    for verb, rest in re.findall(r"^worldmodel (\S+) (\S+)", README, re.MULTILINE):
        assert verb in commands() or rest in commands(verb)
    for file in re.findall(r"\]\(([^)#]+)\)", README):
        assert file.startswith("https://") or (ROOT / file).exists(), file
    makefile = (ROOT / "Makefile").read_text()
    for target in re.findall(r"^make (\w+)$", README, re.MULTILINE):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE)
