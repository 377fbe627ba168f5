"""DreamerV3 here and in other packages, in alternation: updates and dream steps a second.

    worldmodel bench rivals --sheeprl PYTHON --torchrl PYTHON [--repeats N]

PYTHON is the interpreter of an environment in which the package is installed; nothing is installed
here. Sizes and our own side are those of `bench cores --preset dreamerv3-1m`: an RSSM with a GRU
of 512 units, layers of 64, 32 x 4 categorical latents; 16 windows of 64 rows; a loss of vectors,
ends and two-hot rewards, KL with one free nat; dreams of 15 steps from all rows; an actor trained
by the score function, with returns in units of their percentiles, and a two-hot critic beside its
slow average. Every side is a program in `rival_drivers`. A repeat runs each of them once, in a
process of its own, so that they alternate; a ratio is of two processes of one repeat. What the
sides do differently stands below their table.
"""

import json
import os
import shutil
import statistics
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from rich.table import Table

from worldmodel.experiments.bench import dreamer
from worldmodel.experiments.bench.cores import ACTIONS, DREAMS, LEAST, OBSERVATION
from worldmodel.experiments.bench.settings import RivalsSettings
from worldmodel.experiments.bench.table import table
from worldmodel.progress import Reporter

RUNNING = "worldmodel.experiments.bench.rival_drivers.running"
BY_ENGINE = " by onnxruntime"  # of a figure of ours, which is beside their own way
DEADLINE = 3_600.0  # s, of one process, which takes a quarter of a minute on an idle machine


class Rival(NamedTuple):
    """A package that is measured, and what is known of it."""

    driver: str
    versions: str
    differs: str  # from our side, in work


RIVALS = {
    "sheeprl": Rival(
        "sheeprl_dreamer",
        "0.5 to 0.8",
        "one layer encodes observations; vectors, rewards and ends are decoded by a layer each "
        "where ours share the first; rewards and ends of a dream come all at once after its "
        "steps; ours learns a density of rewards besides",
    ),
    "torchrl": Rival(
        "torchrl_dreamer",
        "0.14",
        "the same as sheeprl's but for the rewards, which come with the steps; its GRU is not "
        "normalised, and one optimizer steps all at once",
    ),
}


def run(settings: RivalsSettings, reporter: Reporter) -> dict[str, Any]:
    """Figures of all repeats of every side, and our ratios to theirs."""
    given = {"sheeprl": settings.sheeprl, "torchrl": settings.torchrl}
    pythons = {name: interpreter(name, path) for name, path in given.items() if path is not None}
    work = job(settings.threads, settings.quick)
    measured: dict[str, list[dict[str, Any]]] = {"own": [], **{name: [] for name in pythons}}
    with reporter.stage("measuring", settings.repeats * len(measured), 0, "processes") as stage:
        for _ in range(settings.repeats):
            for name in (*pythons, "own"):  # others first, so that errors come at once
                measured[name].append(figures_of(name, pythons.get(name), work))
                stage.update(sum(map(len, measured.values())), name)
    return {
        "job": work,
        "measured": measured,
        "ratios": {name: ratios(measured["own"], measured[name]) for name in pythons},
    }


def job(threads: int, quick: bool) -> dict[str, Any]:
    """The sizes that every side is given, and how it is timed."""
    sizes = {
        "observation": OBSERVATION.shape[0],
        "actions": int(ACTIONS.n),
        **dreamer.SIZES[dreamer.SMALLEST]._asdict(),
        "length": dreamer.LENGTH,
        "windows": dreamer.WINDOWS,
        "horizon": dreamer.HORIZON,
        "layers": 1,
        "policy_layers": 2,
        "dreams": list(DREAMS),
        "threads": threads,
        "least": LEAST,
    }
    return sizes | {"length": 4, "windows": 2, "dreams": [1, 16], "least": 0.0} if quick else sizes


def interpreter(name: str, path: str) -> str:
    """The interpreter that an option names."""
    found = shutil.which(os.path.expanduser(path))
    if found is None:
        raise ValueError(
            f"--{name} expects the Python interpreter of an environment with {name}, such as "
            f"venv/bin/python, and {path} is no program"
        )
    return found


def figures_of(name: str, python: str | None, work: dict[str, Any]) -> dict[str, Any]:
    """One measurement of a side, in a process of its own: version, parameters and figures.

    python: the interpreter of a rival; None for our own side.
    """
    if python is None:
        command = [sys.executable, "-m", RUNNING, "own_dreamer"]
    else:
        running = Path(__file__).parent / "rival_drivers" / "running.py"
        command = [python, str(running), RIVALS[name].driver]
    try:
        done = subprocess.run(
            [*command, json.dumps(work)],
            env=os.environ | {"OMP_NUM_THREADS": str(work["threads"])},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=DEADLINE,
        )
    except subprocess.TimeoutExpired:
        raise RuntimeError(
            f"{name} was not measured within {DEADLINE:.0f} seconds: let nothing else run, or try "
            "--quick"
        ) from None
    except OSError as error:
        raise RuntimeError(f"{command[0]} cannot be run: {error.strerror}") from None
    return understood(name, command[0], done)


def understood(name: str, python: str, done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    """The line that a process printed; its error, or that of its absence, is raised."""
    try:
        facts = json.loads(done.stdout.splitlines()[-1])
        error = None if facts.get("figures") else facts["error"]
    except (ValueError, LookupError, AttributeError):
        last = (done.stderr.strip().splitlines() or ["nothing"])[-1]
        raise RuntimeError(
            f"{python} ends with code {done.returncode} instead of figures of {name}: is it a "
            f"Python interpreter? It says: {last}"
        ) from None
    if error is None:
        return facts
    if name not in RIVALS:
        raise RuntimeError(f"our own side was not measured ({error})")
    if "version" not in facts:
        raise RuntimeError(
            f"{python} cannot import {name} ({error}): give --{name} the interpreter of an "
            f"environment that has it, or install it there"
        )
    raise RuntimeError(
        f"{name} {facts['version']} of {python} is different from what is known here ({error}): "
        f"install {name} {RIVALS[name].versions} there, with all that it requires"
    )


def ratios(own: Sequence[dict[str, Any]], others: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Our figures over theirs, by the figures that both have: median, least and most of the
    repeats."""
    found = {}
    for figure in own[0]["figures"]:
        plain = figure.replace(BY_ENGINE, "")
        if plain not in others[0]["figures"]:
            continue
        each = [
            ours["figures"][figure] / theirs["figures"][plain]
            for ours, theirs in zip(own, others, strict=True)
        ]
        found[figure] = {"median": statistics.median(each), "least": min(each), "most": max(each)}
    return found


def tables(result: dict[str, Any]) -> list[Table]:
    """A table for each rival: the medians of the figures, and the ratios with their spread."""
    measured, work = result["measured"], result["job"]
    own = measured["own"]
    shown = []
    for name, of_rival in result["ratios"].items():
        others = measured[name]
        rows = [("parameters", *(f"{side[0]['parameters']:,}" for side in (own, others)), "", "")]
        for figure in own[0]["figures"]:
            ratio = of_rival.get(figure)
            said = (
                (f"{ratio['median']:.2f}", f"{ratio['least']:.2f} .. {ratio['most']:.2f}")
                if ratio
                else ("not measured", "")
            )
            theirs = median(others, figure.replace(BY_ENGINE, ""))
            rows.append((figure, median(own, figure), theirs, *said))
        made = table(
            f"a second: {name} {others[0]['version']}, {work['windows']} x {work['length']} rows, "
            f"threads: {work['threads']}, repeats: {len(others)}",
            ("", "ours", name, "ours / theirs", "least .. most"),
            rows,
        )
        made.caption = f"{name}: {RIVALS[name].differs}"
        shown.append(made)
    return shown


def median(repeats: Sequence[dict[str, Any]], figure: str) -> str:
    """The median of a figure over repeats; empty where it was not measured."""
    found = [repeat["figures"][figure] for repeat in repeats if figure in repeat["figures"]]
    return f"{statistics.median(found):,.2f}" if found else ""
