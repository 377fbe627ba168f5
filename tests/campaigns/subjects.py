"""Runs of every kind, saved models and data sets, and the verbs that read them, in forks."""

import hashlib
import json
import os
import re
import resource
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from damage import config_of_kind, made
from kinds import MADE, write_files
from runs import TINY, at, train

from campaigns.processes import Ended, Process, ended
from worldmodel import SequenceModel, experiments
from worldmodel.agents import WorldModelAgent
from worldmodel.checkpoint import DESCRIPTION, WEIGHTS, list_checkpoints
from worldmodel.experiments.cli.errors import message_of
from worldmodel.experiments.cli.main import main
from worldmodel.experiments.runs.registry import new_run
from worldmodel.experiments.show.config import PlayConfig
from worldmodel.experiments.show.play.player import new_player
from worldmodel.experiments.show.report import films
from worldmodel.run_folder import RunFolder

MEMORY = 2**30  # bytes of addresses that a verb may take beyond those it begins with
SECONDS = 240.0  # that a verb may take, on a machine that does other work besides
TIMES = {"seconds"}  # words of metrics that differ wherever the time does
CLOCK = re.compile(rb"\d{4}-\d\d-\d\d[T ]\d\d:\d\d(:\d\d)?")  # when a report was written
PACKED = "run.wm"
LARGE = 2**26  # bytes of a file that is not compared

Verb = Callable[[Path, Path], None]  # of the folder that is read, and of one to write to


class Subject(NamedTuple):
    """A folder, and the verbs that read it."""

    name: str
    path: Path
    verbs: Mapping[str, Verb]


def told(*words: str) -> Verb:
    """A command; {run} and {out} stand for the folders."""

    def verb(run: Path, out: Path) -> None:
        main([word.format(run=run, out=out) for word in words])

    return verb


def noted(verb: Verb, of: str) -> Verb:
    """A verb after which it is noted what a run has learned and measured."""

    def both(run: Path, out: Path) -> None:
        verb(run, out)
        learned = Path(of.format(run=run, out=out))
        newest = list_checkpoints(learned / "checkpoints")[-1]
        weights = json.loads((newest / DESCRIPTION).read_text())["sha256"][WEIGHTS]
        lines = RunFolder(learned).readable_metrics()
        measured = [
            {k: v for k, v in line.items() if not TIMES & {*k.split("_")}} for line in lines
        ]
        (out / "learned.json").write_text(json.dumps([weights, measured]))

    return both


def said(function: Verb) -> Verb:
    """A function whose errors end as those of commands do."""

    def verb(run: Path, out: Path) -> None:
        try:
            function(run, out)
        except Exception as error:
            sentence, code = message_of(error)
            print(f"worldmodel: {sentence}", file=sys.stderr)
            sys.exit(code)

    return verb


@said
def loaded(run: Path, out: Path) -> None:
    for name, value in experiments.load(run).model.state_dict().items():
        np.save(out / name, value.numpy())


@said
def loaded_as_agent(run: Path, out: Path) -> None:
    agent = WorldModelAgent.load(run)
    for name, value in agent.model.state_dict().items():
        np.save(out / name, value.numpy())
    np.save(out / "scored", agent.log_prob(agent.training.store.select(np.arange(1))))


@said
def loaded_as_sequences(run: Path, out: Path) -> None:
    np.save(out / "scored", SequenceModel.load(run).log_prob("abcabc"))


@said
def played(run: Path, out: Path) -> None:
    with closing(new_player(experiments.load(run), PlayConfig(), 0)) as player:
        player.step()
        np.save(out / "frame", player.frame())


def trained(*words: str) -> Verb:
    """`train` over the folder."""
    rest = ("--quick", "--threads", "1", "--out", "{out}/../trained")
    return noted(told("train", *words, *rest), "{out}/../trained")


REPAIR: dict[str, Verb] = {
    "repair": told("repair", "{run}"),
    "repair --yes": told("repair", "{run}", "--yes"),
}
EPISODES: dict[str, Verb] = {
    "export": told("export", "{run}", "--out", "{out}/episodes"),
    "train": trained("control", "--data", "{run}"),
}
RL: dict[str, Verb] = {
    "evaluate": told("evaluate", "{run}", "--json"),
    "report": told("report", "{run}", "--out", "{out}/report.html"),
    "video": told("video", "{run}", "--steps", "3", "--out", "{out}/film.gif"),
    "play": played,
    "plot": told("plot", "{run}", "--out", "{out}/curves.png"),
    "load": loaded,
    "load agent": loaded_as_agent,
    "resume": noted(told("resume", "{run}", "--steps", "10"), "{run}"),
    **EPISODES,
    **REPAIR,
}
RECORDINGS: dict[str, Verb] = {
    "evaluate": told("evaluate", "{run}", "--json"),
    "generate": told("generate", "{run}", "--length", "30", "--out", "{out}"),
    "plot": RL["plot"],
    "report": RL["report"],
    "load": loaded,
    "resume": noted(told("resume", "{run}"), "{run}"),
    **REPAIR,
}
IMAGES: dict[str, Verb] = {"load": loaded, "resume": RECORDINGS["resume"], **REPAIR}
CHANGING = ("resume", "repair --yes")  # they write to the folder
TELLING = ("repair", "repair --yes")  # their results say what is damaged


def subjects(place: Path, only: Sequence[str] = ()) -> dict[str, Subject]:
    """Those of some names, or all, made in a folder."""
    films.FRAMES, films.DREAMS = 2, 1  # of forks
    found = {}
    for name in only or SUBJECTS:
        make, verbs = SUBJECTS[name]
        run = make(place)
        older = list_checkpoints(run / "checkpoints")[:-1]
        if "evaluate" in verbs and older:
            words = ("evaluate", "{run}", "--json", "--from", older[0].name)
            verbs = {**verbs, "evaluate --from": told(*words)}
        found[name] = Subject(name, run, verbs)
    return found


def _whole(kind: str, place: Path) -> Path:
    """A run that is trained and evaluated."""
    path = place / kind
    if not path.exists():
        path.mkdir()
        made(kind, path)
    return path / "run"


def _begun(kind: str, place: Path) -> Path:
    """A run that was stopped while it learned."""
    path = _new(place, f"{kind}-begun")
    train(new_run(path, config_of_kind(kind, path.parent)), at("learn", 0, 2))
    return path


def _new(place: Path, name: str) -> Path:
    (place / name).mkdir()
    return place / name / "run"


def _recorded(place: Path) -> Path:
    """A run that has learned from the episodes of another one."""
    path = _new(place, "recorded")
    config = replace(config_of_kind("control", place), data=str(_whole("control", place)))
    train(new_run(path, config))
    return path


def _agent(place: Path) -> Path:
    path = _new(place, "agent")
    WorldModelAgent("CartPole-v1", **TINY).learn(200).save(path)
    return path


def _sequences(place: Path) -> Path:
    path = _new(place, "sequences")
    SequenceModel(hidden_size=4, window=8).fit("abcabcabc", updates=1).save(path)
    return path


def _episodes(place: Path) -> Path:
    path = _new(place, "episodes")
    main(["export", str(_whole("control", place)), "--out", str(path)])
    return path


def _store(place: Path) -> Path:
    path = _new(place, "store")
    return Path(shutil.copytree(_whole("control", place) / "episodes", path))


def _packed(place: Path) -> Path:
    """A folder with a packed run."""
    path = _new(place, "packed")
    path.mkdir()
    main(["pack", str(_whole("control", place)), "--out", str(path / PACKED), "--episodes"])
    return path


def _within(name: str, verb: Verb) -> Verb:
    """A verb that is given a file of the folder."""
    return lambda run, out: verb(run / name, out)


def _files(kind: str, place: Path) -> Path:
    return write_files(MADE[kind], _new(place, f"{kind}-files"), number=6)


def _trained_on(kind: str) -> dict[str, Verb]:
    option = "--corpus" if kind == "text" else "--data"
    return {"train": trained(kind, option, "{run}", *map(str, MADE[kind].options))}


def _some(verbs: Mapping[str, Verb], *names: str) -> dict[str, Verb]:
    return {name: verbs[name] for name in names}


RECORDED = ("text", "audio", "midi", "strokes")
SUBJECTS: dict[str, tuple[Callable[[Path], Path], dict[str, Verb]]] = {
    "control": (partial(_whole, "control"), RL),
    "toy-game": (partial(_whole, "toy-game"), {k: v for k, v in RL.items() if k != "plot"}),
    **{kind: (partial(_whole, kind), RECORDINGS) for kind in RECORDED},
    "vae": (partial(_whole, "vae"), IMAGES),
    "control begun": (partial(_begun, "control"), _some(RL, "load", "resume")),
    "text begun": (partial(_begun, "text"), _some(RECORDINGS, "load", "resume")),
    "vae begun": (partial(_begun, "vae"), _some(IMAGES, "load", "resume")),
    "recorded": (_recorded, _some(RL, "evaluate", "load", "report", "resume")),
    "agent": (_agent, _some(RL, "load agent", "evaluate", *EPISODES)),
    "sequences": (_sequences, {"load sequences": loaded_as_sequences}),
    "episodes": (_episodes, EPISODES),
    "store": (_store, EPISODES),
    "packed": (
        _packed,
        {
            name: _within(PACKED, RL[name])
            for name in ("evaluate", "load", "load agent", "play", "report", "video", "export")
        },
    ),
    **{f"{kind} files": (partial(_files, kind), _trained_on(kind)) for kind in RECORDED},
}
"""Names, and how each is made in a folder, and read."""


def tried(verb: Verb, run: Path, out: Path, as_nobody: bool = False) -> Ended:
    """How a verb ends in a fork, with limits of time and memory."""
    return ended(Process(partial(_limited, verb, run, out, as_nobody), out), SECONDS)


def _limited(verb: Verb, run: Path, out: Path, as_nobody: bool) -> None:
    taken = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    _, most = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (taken + MEMORY, most))
    if as_nobody:
        os.setgid(65_534)
        os.setuid(65_534)
    verb(run, out)


def results(end: Ended, verb: str, out: Path) -> list[tuple[str, str]]:
    """What a verb gave: digests of its files, and what it printed."""
    files = [file for file in sorted(out.rglob("*")) if file.is_file()]
    if verb in ("resume", "train"):
        files = [out / "learned.json"]
    found = [(str(file.relative_to(out)), _digest(file.read_bytes())) for file in files]
    printed = end.out if verb == "evaluate" else ""
    return [*found, ("printed", _digest(printed.encode()))]


def _digest(content: bytes) -> str:
    return hashlib.sha256(CLOCK.sub(b"", content)).hexdigest()


def everything_in(folder: Path) -> dict[str, str]:
    """All that there is in a folder, at any depth, but for locks."""
    found = {}
    for path in sorted(folder.rglob("*")):
        if path.name == "lock":
            continue
        if path.is_symlink():
            content = f"link to {path.readlink()}"
        elif not path.is_file() or path.stat().st_size > LARGE:
            content = f"{path.stat().st_mode:o} {path.is_file() and path.stat().st_size}"
        else:
            content = hashlib.sha256(path.read_bytes()).hexdigest()
        found[str(path.relative_to(folder))] = content
    return found
