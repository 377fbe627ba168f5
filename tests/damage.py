"""Runs of every kind, their files damaged one at a time, and what then is read of them.

A read either gives what it gave before the damage, or ends in one sentence. `faults` tries any
files, mutations and reads; tests try some, a longer campaign may try all.
"""

import json
import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from command_line import Result, worldmodel
from kinds import MADE, config_for, write_files

from worldmodel import experiments
from worldmodel.agents import AgentConfig
from worldmodel.checkpoint import list_checkpoints
from worldmodel.experiments.images.config import ImagesConfig, VAEConfig
from worldmodel.experiments.images.experiment import quick as quick_images
from worldmodel.experiments.rl.config import (
    TOY_GAME,
    EnvironmentConfig,
    EvaluationConfig,
    RLConfig,
    quick,
)
from worldmodel.experiments.runs.registry import new_run
from worldmodel.experiments.show.curves import curves_of
from worldmodel.run_folder import RunError, RunFolder

Read = Callable[[Path], Any]
UNREAD = {"lock", "report.html", "videos", "samples", "generated"}  # nothing is read from them


class RefusedError(Exception):
    """A read that ended in a sentence."""


def config_of_kind(kind: str, place: Path) -> Any:
    """The configuration of a small run of a kind; what it learns from is made in `place`."""
    few = EvaluationConfig(episodes=2, held_out=2)
    if kind == "control":
        config = quick(RLConfig(EnvironmentConfig("CartPole-v1"), agent=AgentConfig(seed=4)))
        return replace(config, threads=1, evaluation=few, keep="last")
    if kind == "toy-game":
        return replace(quick(TOY_GAME), threads=1, film=False, evaluation=few)
    if kind in MADE:
        config = config_for(MADE[kind], write_files(MADE[kind], place / "files"))
        return replace(config, threads=1)
    images = np.random.default_rng(0).integers(0, 256, (16, 8, 8, 1), np.uint8)
    np.save(place / "images.npy", images)
    return quick_images(VAEConfig(ImagesConfig(str(place / "images.npy")), threads=1))


KINDS = ("control", "toy-game", "text", "vae")


def made(kind: str, place: Path) -> Path:
    """A trained run of a kind, evaluated where it can be."""
    folder = new_run(place / "run", config_of_kind(kind, place))
    done = worldmodel("resume", folder.path)
    assert done.returncode == 0, done.stderr
    return folder.path


def _said(result: Result) -> str:
    """What a command printed; raises a RefusedError for one sentence instead."""
    if result.returncode == 2:
        *_, sentence = result.stderr.strip().split("\n")
        assert sentence.startswith("worldmodel: "), result.stderr
        raise RefusedError(sentence)
    assert result.returncode == 0, result
    return result.stdout


def _evaluated(path: Path) -> Any:
    return json.loads(_said(worldmodel("evaluate", path, "--json")))


def _exported(path: Path) -> Any:
    out = path.with_name("exported")
    shutil.rmtree(out, ignore_errors=True)
    _said(worldmodel("export", path, "--out", out))
    return {file.name: file.read_bytes() for file in out.iterdir()}


def _drawn(path: Path) -> Any:
    try:
        (curve,) = curves_of([RunFolder.open(path)])
    except RunError as error:
        raise RefusedError(error) from error
    return curve.steps.tolist(), curve.returns.tolist()


def _loaded(path: Path) -> Any:
    try:
        state = experiments.load(path).model.state_dict()
    except RunError as error:
        raise RefusedError(error) from error
    return {name: value.numpy().tobytes() for name, value in state.items()}


def _generated(path: Path) -> Any:
    out = path.with_name("generated")
    return _said(worldmodel("generate", path, "--length", 30, "--out", out))


READS: dict[str, dict[str, Read]] = {
    "control": {"evaluate": _evaluated, "export": _exported, "plot": _drawn},
    "toy-game": {"evaluate": _evaluated, "export": _exported},
    "text": {"evaluate": _evaluated, "generate": _generated},
    "vae": {"load": _loaded},
}
"""Reads by kind of run and name."""


def flipped(file: Path) -> None:
    """Changes one bit in the middle."""
    raw = bytearray(file.read_bytes())
    raw[len(raw) // 2] ^= 1
    file.write_bytes(raw)


def cut(file: Path) -> None:
    """Leaves the first half."""
    os.truncate(file, file.stat().st_size // 2)


def emptied(file: Path) -> None:
    os.truncate(file, 0)


def piped(file: Path) -> None:
    """Puts a pipe in its place."""
    file.unlink()
    os.mkfifo(file)


MUTATIONS: tuple[Callable[[Path], None], ...] = (flipped, cut, emptied, Path.unlink, piped)


class Fault(NamedTuple):
    """A read of a damaged run that neither gave what it gave before nor ended in a sentence."""

    file: str
    mutation: str
    read: str
    what: str


def files_of(run: Path) -> list[Path]:
    """The files that something is read from, relative to the run; of checkpoints the newest's."""
    older = {path.name for path in list_checkpoints(run / "checkpoints")[:-1]}
    found = (file.relative_to(run) for file in sorted(run.rglob("*")) if file.is_file())
    return [file for file in found if not (UNREAD | older) & {*file.parts}]


def faults(
    run: Path,
    reads: dict[str, Read],
    cases: Iterable[tuple[Path, Callable[[Path], None]]],
    place: Path,
) -> Iterator[Fault]:
    """Tries every read after every case, a file (relative) and a mutation, in a copy of a run."""
    copy = place / "copy"
    expected = {name: read(run) for name, read in reads.items()}
    for file, mutation in cases:
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(run, copy)
        if mutation is not Path.unlink and not (copy / file).stat().st_size:
            continue
        mutation(copy / file)
        for name, read in reads.items():
            try:
                what = "" if read(copy) == expected[name] else "other figures"
            except RefusedError:
                continue
            except Exception as error:
                what = f"{type(error).__name__}: {error}"
            if what:
                yield Fault(str(file), mutation.__name__, name, what)
