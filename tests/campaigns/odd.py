"""Odd environments and odd files: every use of them succeeds, or ends in one sentence.

An environment is odd in one of the ways of `odd_games.HOW`, files in one of those of `odd_files`.
Each is used by commands and by the library. No use may hang, print a traceback, or leave half a
file.
"""

import json
import os
import random
import shutil
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, TextIO

import odd_games
from runs import TINY

from campaigns import odd_files
from campaigns.processes import Ended, Process, command, ended
from campaigns.tally import Tally, problem_of
from worldmodel import experiments
from worldmodel.agents import WorldModelAgent
from worldmodel.checkpoint import list_checkpoints
from worldmodel.envs import EnvironmentSource, GymEnvironment
from worldmodel.experiments.cli.errors import message_of
from worldmodel.experiments.cli.main import main
from worldmodel.run_folder import RunFolder
from worldmodel.testing import LawError, check_environment

PATIENCE = 1.0  # seconds that an environment may take
SECONDS = 300  # after which a use hangs, on a busy machine
NAME = "ODD_GAME"  # the variable that says how a trained environment has become odd
TRAINED = "trained"  # a run of which this is so
QUICK = ("--quick", "--out", "run")
BRIEF = ("--curve-episodes", 0)
DEADLY = ("exits at once", "dies")  # of a process: an environment may be so in workers alone
BEHAVIOUR = ("", *odd_games.MADE, *odd_games.RESET, *odd_games.WRONG, "never", "grows", "closed")


class Case(NamedTuple):
    """A use of something odd, which works in a folder of its own."""

    name: str
    work: Callable[[Path], Process]


def run(cases: int, seed: int, place: Path, to: TextIO) -> Iterator[Tally]:
    """Tries so many cases, in an order by the seed; all: `CASES`."""
    chosen = random.Random(seed).sample(ALL, min(cases, len(ALL)))
    (place / "state").mkdir()
    os.environ["XDG_STATE_HOME"] = str(place / "state")  # runs are remembered there
    trained = ended(train(f"${NAME}", folder=place), SECONDS)
    assert trained.code == 0, trained
    (place / "run").rename(place / TRAINED)
    tally = Tally("odd", len(chosen), to)
    for case in chosen:
        folder = place / "case"
        folder.mkdir()
        end = ended(case.work(folder), SECONDS)
        if problem := problem_of(end) if end.code != 0 else left_behind(case, folder, end):
            tally.fault(case.name, problem)
        else:
            tally.end(case.name, end, right=True)
        shutil.rmtree(folder)
    yield tally


def left_behind(case: Case, folder: Path, end: Ended) -> str:
    """What is wrong with the files in a folder, or the output, of a command that has ended."""
    if half := [path.name for path in folder.rglob(".part-*")]:
        return f"left {half[0]}"
    if case.name.startswith("evaluate"):
        try:
            json.loads(end.out)
        except ValueError:
            return f"printed no JSON: {end.out[:200]!r}"
    path = folder / "run"
    if not (path / "config.json").exists():
        return "no run" if case.name.startswith("train") and end.code == 0 else ""
    try:
        run = RunFolder.open(path)
        if list_checkpoints(run.checkpoints):
            run.checkpoint()
    except Exception as error:
        return f"left a run that cannot be read: {error}"
    return ""


def told(work: Callable[[], Any]) -> None:
    """Ends as a command does: errors that are written for people are sentences."""
    try:
        work()
    except LawError as error:
        print(f"worldmodel: {' '.join(str(error).split())[:200]}", file=sys.stderr)
        sys.exit(2)
    except Exception as error:
        message = message_of(error)
        print(f"worldmodel: {message.sentence}", file=sys.stderr)
        sys.exit(message.code)


# Environments.


def train(how: str, *more: object, folder: Path) -> Process:
    arguments = json.dumps({"how": how})
    options = ("--patience", PATIENCE, "--time-limit", 50, "--arguments", arguments, *BRIEF)
    return command("train", "control", "--env", "Odd-v0", *QUICK, *options, *more, folder=folder)


def evaluate(how: str, folder: Path) -> Process:
    """Of a run whose environment was not odd when it was trained."""
    shutil.copytree(folder.parent / TRAINED, folder / "run")

    def work() -> None:
        os.environ[NAME] = how
        main(["evaluate", "run", "--json", "--episodes", "2", "--held-out", "2"])

    return Process(work, folder)


def learn(how: str, folder: Path) -> Process:
    """In an environment without a spec, as a library is used."""

    def work() -> None:
        source = partial(odd_games.Odd, how)
        WorldModelAgent(source, patience=PATIENCE, **TINY).learn(total_timesteps=70)

    return Process(partial(told, work), folder)


def learn_in_workers(how: str, folder: Path) -> Process:
    """The same, with nothing else than collecting in the environment."""

    def work() -> None:
        source = partial(odd_games.Odd, how)
        agent = WorldModelAgent(source, patience=PATIENCE, num_envs=2, workers=2, **TINY)
        agent.learn(total_timesteps=70)

    return Process(partial(told, work), folder)


def check(how: str, folder: Path) -> Process:
    """The laws of environments."""

    def made() -> GymEnvironment:
        source = EnvironmentSource(partial(odd_games.Odd, how), patience=PATIENCE)
        return GymEnvironment(source.vector(2), seed=0, patience=PATIENCE)

    return Process(partial(told, partial(check_environment, made, batch_size=2)), folder)


def film(how: str, folder: Path) -> Process:
    return train(how, "--film", folder=folder)


def workers(how: str, folder: Path) -> Process:
    return train(how, "--workers", 2, "--num-envs", 2, folder=folder)


# Files.


def command_of(kind: str, write: odd_files.Writer, *more: object, folder: Path) -> Process:
    """Training by the command line."""
    (folder / "data").mkdir()
    write(folder / "data")
    data = {"text": "--corpus", "vae": "--images"}.get(kind, "--data")
    given = next((folder / "data").glob("a.*"), folder / "data")  # one file, or the folder
    return command("train", kind, *QUICK, data, given, *more, folder=folder)


def model_of(kind: str, write: odd_files.Writer, folder: Path) -> Process:
    """A `SequenceModel` of the files."""
    (folder / "data").mkdir()
    write(folder / "data")

    def work() -> None:
        sizes = {"hidden_size": 4, "latent": 2, "latent_hidden": 4, "decoder_hidden": 4}
        model = experiments.sequence_model(kind, folder / "data", **sizes, batch_size=2, window=8)
        model.fit(updates=3)
        model.sample(5)

    return Process(partial(told, work), folder)


def _all() -> Iterator[Case]:
    uses: dict[Callable[..., Process], tuple[str, ...]] = {
        train: odd_games.HOW,
        workers: BEHAVIOUR,
        evaluate: BEHAVIOUR,
        learn: odd_games.HOW,
        learn_in_workers: (*DEADLY, "raises", "hangs", "exits", "recurses"),
        check: odd_games.HOW,
        film: ("drawn", "not drawn", "flat", "closed", "without modes", "modes of None"),
    }
    for use, hows in uses.items():
        for how in hows:
            if how in DEADLY and use is not learn_in_workers:
                continue
            yield Case(f"{use.__name__}: {how}", lambda folder, u=use, h=how: u(h, folder=folder))
    for kind, writers in odd_files.KINDS.items():
        for name, write in writers.items():
            of_it = partial(command_of, kind, write)
            yield Case(f"train {kind}: {name}", lambda folder, o=of_it: o(folder=folder))
            if kind != "vae":
                of_it = partial(model_of, kind, write)
                yield Case(f"{kind} model: {name}", lambda folder, o=of_it: o(folder=folder))
            elif "among" in name:
                of_it = partial(command_of, kind, write, "--on-error", "skip")
                yield Case(f"train {kind}, skip: {name}", lambda folder, o=of_it: o(folder=folder))


ALL = tuple(_all())
CASES = len(ALL)
