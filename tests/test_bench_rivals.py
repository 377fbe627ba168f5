"""Laws of the bench of rivals, by stand-ins for their interpreters: none of them is needed."""

import ast
import json
from pathlib import Path

import pytest
import torch
from command_line import assert_refused, worldmodel

from worldmodel.experiments.bench import dreamer, rivals
from worldmodel.experiments.bench.rival_drivers import running
from worldmodel.graphs.engine import missing_packages

DRIVERS = Path(running.__file__).parent
FIGURES = {"updates": 2.0, "model updates": 8.0, "dream steps, 1": 2_000.0}


def line(version: str, **figures: float) -> str:
    return json.dumps({"version": version, "parameters": 10**6, "figures": figures})


def stand_in(path: Path, *commands: str) -> str:
    """A program that does what a shell is told, instead of an interpreter."""
    path.write_text("\n".join(["#!/bin/sh", *commands]))
    path.chmod(0o755)
    return str(path)


@pytest.fixture
def own(tmp_path, monkeypatch):
    """Our own side, measured by a stand-in that notes when it was."""
    figures = line("0.2.0", **{name: 3 * value for name, value in FIGURES.items()})
    program = stand_in(tmp_path / "own", f"echo own >> {tmp_path}/log", f"echo '{figures}'")
    monkeypatch.setattr(rivals.sys, "executable", program)


def test_sides_alternate_in_processes_of_their_own(own, tmp_path):
    pythons = [
        stand_in(
            tmp_path / name,
            f"echo {name} $OMP_NUM_THREADS $2 >> {tmp_path}/log",
            f'echo "$3" > {tmp_path}/job',
            "echo a package says what it likes",
            f"echo '{line('0.8.4', **FIGURES)}'",
        )
        for name in ("sheeprl", "torchrl")
    ]
    asked = ("--sheeprl", pythons[0], "--torchrl", pythons[1], "--repeats", 2, "--threads", 1)
    done = worldmodel("bench", "rivals", *asked, "--json")
    assert done.returncode == 0, done.stderr
    order = ["sheeprl 1 sheeprl_dreamer", "torchrl 1 torchrl_dreamer", "own"] * 2
    assert (tmp_path / "log").read_text().splitlines() == order
    result = json.loads(done.stdout)
    assert result["job"] == json.loads((tmp_path / "job").read_text()) == rivals.job(1, False)
    assert all(len(repeats) == 2 for repeats in result["measured"].values())
    for name in ("sheeprl", "torchrl"):
        assert result["ratios"][name] == {
            figure: {"median": 3.0, "least": 3.0, "most": 3.0} for figure in FIGURES
        }


def test_ratios_are_of_one_repeat_and_have_a_spread():
    own = [{"figures": {"updates": value, "dream steps, 1": 1.0}} for value in (2.0, 6.0, 8.0)]
    others = [{"figures": {"updates": value}} for value in (1.0, 2.0, 8.0)]
    assert rivals.ratios(own, others) == {"updates": {"median": 2.0, "least": 1.0, "most": 3.0}}


def test_what_a_rival_lacks_is_said_in_the_table(own, tmp_path):
    python = stand_in(tmp_path / "python", f"echo '{line('0.5.7', updates=2.0)}'")
    done = worldmodel("bench", "rivals", "--sheeprl", python, "--repeats", 1, "--quick")
    assert done.returncode == 0, done.stderr
    rows = {text.split("  ")[0].strip(): text for text in done.stdout.splitlines()}
    assert rows["updates"].split()[1:] == ["6.00", "2.00", "3.00", "3.00", "..", "3.00"]
    assert "not measured" in rows["model updates"]
    assert "sheeprl 0.5.7" in done.stdout
    assert "one layer encodes observations" in " ".join(done.stdout.split())


def failing(**facts: str) -> str:
    return f"echo '{json.dumps(facts)}'"


@pytest.mark.parametrize(
    ("commands", "words"),
    [
        ([failing(error="No module named sheeprl")], ["cannot import sheeprl", "install it"]),
        (
            [failing(version="0.4.9", error="KeyError: horizon")],
            ["sheeprl 0.4.9 of", "different from what is known here", "0.5 to 0.8"],
        ),
        (["echo whoops >&2", "exit 3"], ["ends with code 3", "is it a Python", "whoops"]),
        (["echo [1]"], ["instead of figures of sheeprl"]),
        (["echo '{}'"], ["instead of figures of sheeprl"]),
    ],
    ids=["missing", "another version", "no interpreter", "no object", "no figures"],
)
def test_a_rival_that_fails_gets_a_sentence(own, commands, words, tmp_path):
    python = stand_in(tmp_path / "python", *commands)
    refused = worldmodel("bench", "rivals", "--sheeprl", python)
    assert_refused(refused, *words)
    assert refused.said.startswith("worldmodel: ")
    assert not (tmp_path / "log").exists()  # the rival comes first


def test_a_rival_that_is_not_there_gets_a_sentence(own, tmp_path):
    assert_refused(worldmodel("bench", "rivals"), "--sheeprl or --torchrl", "interpreter")
    nowhere = worldmodel("bench", "rivals", "--torchrl", tmp_path / "nowhere")
    assert_refused(nowhere, "--torchrl expects the Python interpreter", "nowhere is no program")
    none = tmp_path / "none"
    none.write_bytes(b"\x7fELF")
    none.chmod(0o755)
    assert_refused(worldmodel("bench", "rivals", "--sheeprl", none), "cannot be run")


def test_a_rival_that_hangs_is_given_up(own, monkeypatch, tmp_path):
    monkeypatch.setattr(rivals, "DEADLINE", 0.2)
    python = stand_in(tmp_path / "python", "exec sleep 30")
    refused = worldmodel("bench", "rivals", "--sheeprl", python)
    assert_refused(refused, "was not measured within")


def test_our_own_driver_has_every_figure(monkeypatch, capsys):
    tiny = dreamer.SIZES[dreamer.SMALLEST]._replace(hidden=16)
    monkeypatch.setitem(dreamer.SIZES, dreamer.SMALLEST, tiny)
    for name, value in {"LENGTH": 3, "WINDOWS": 2, "HORIZON": 2}.items():
        monkeypatch.setattr(dreamer, name, value)
    monkeypatch.setattr(running, "LEAST_CALLS", 1)
    before = torch.get_float32_matmul_precision()
    work = rivals.job(torch.get_num_threads(), quick=True)
    try:
        running.main("own_dreamer", json.dumps(work))
    finally:
        torch.set_float32_matmul_precision(before)
    facts = json.loads(capsys.readouterr().out)
    assert facts.keys() == {"version", "parameters", "figures"}
    engines = [""] if missing_packages() else ["", rivals.BY_ENGINE]
    assert facts["figures"].keys() == {
        "updates",
        "model updates",
        *(f"dream steps{engine}, {size}" for size in work["dreams"] for engine in engines),
    }
    assert min(facts["figures"].values()) > 0


@pytest.mark.parametrize("name", rivals.RIVALS)
def test_a_package_that_is_missing_is_an_error_of_one_line(name, monkeypatch, capsys):
    monkeypatch.setitem(running.sys.modules, name, None)
    running.main(rivals.RIVALS[name].driver, json.dumps(rivals.job(torch.get_num_threads(), True)))
    (said,) = capsys.readouterr().out.splitlines()
    facts = json.loads(said)
    assert name in facts["error"]
    assert "version" not in facts


@pytest.mark.parametrize("file", ["running", *(rival.driver for rival in rivals.RIVALS.values())])
def test_drivers_of_rivals_import_nothing_of_ours(file):
    """Their interpreters lack it; and what they import of others waits until it is wanted."""
    tree = ast.parse((DRIVERS / f"{file}.py").read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            names += [alias.name for alias in node.names]
            assert not any(name.split(".")[0] == "worldmodel" for name in names)
            if node in tree.body:
                assert {
                    name.split(".")[0] for name in names[:1]
                } <= running.sys.stdlib_module_names
