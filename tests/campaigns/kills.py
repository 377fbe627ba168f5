"""Runs that are killed at any moment, or find the disk full, and are gone on with until they end.

However often that was, a run has to end bit for bit as the one that was left alone: its weights,
the state of its learning, its metrics, episodes and files, and what its evaluation measured. What
other commands write is whole or as it was before.
"""

import math
import os
import random
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import count, repeat
from pathlib import Path
from typing import Any, NamedTuple, TextIO

import numpy as np
import torch
from damage import flipped
from kinds import MADE, VERSE, config_for, write_files
from runs import TINY

from campaigns.attacks import Attack, Changes, Scale, drawn
from campaigns.processes import Ended, Process
from campaigns.tally import Tally, problem_of
from worldmodel import SequenceModel
from worldmodel.__main__ import main
from worldmodel.agents import AgentConfig, WorldModelAgent
from worldmodel.experiments.cli.errors import message_of
from worldmodel.experiments.images.config import ImagesConfig, VAEConfig
from worldmodel.experiments.images.experiment import quick as quick_images
from worldmodel.experiments.rl.config import (
    TOY_GAME,
    EnvironmentConfig,
    EvaluationConfig,
    RLConfig,
    quick,
)
from worldmodel.experiments.runs.command import arguments_of
from worldmodel.files import RunError, read_json
from worldmodel.run_folder import RunFolder

CASES = 1_200
MOST = 12  # attacks on one run
SHARE = 0.4  # of what a whole run takes, within which they strike
OLDEST = 0.1  # of the commands go on from an older checkpoint
HANGS = 120.0  # seconds after which a command counts as hanging
CLOCKS = {"seconds", "saved", "metrics_size", "metrics_crc32", "wall_seconds"}
CLOCKS |= {"checkpoint", "best"}  # numbers of checkpoints
"""Figures that no two runs share."""
OWN = {"checkpoints", "metrics.jsonl", "evaluation.json", "lock"}  # compared otherwise, or not
STOPPED = 130  # exit code of a command that was stopped by Ctrl-C
OFTEN = 1e-6  # seconds between checkpoints

Work = Callable[[], Any]


class Subject(NamedTuple):
    """A run of some kind."""

    begin: Callable[[Path], Work]  # makes the work that makes a run there, and trains it
    has_begun: Callable[[Path, str | None], bool]  # whether a checkpoint can be gone on with

    def work(self, run: Path, oldest: bool) -> Work:
        """What its user does next: goes on, or, where nothing was written yet, begins again."""
        if not self.has_begun(run, None):
            return self.begin(run)
        there = sorted(path.name for path in (run / "checkpoints").glob("checkpoint-*"))
        is_oldest = oldest and len(there) > 1 and self.has_begun(run, there[0])
        chosen = ("--from", there[0]) if is_oldest else ()
        return lambda: typed("resume", run, *chosen)


def typed(*words: object) -> None:
    """A command, as it is typed."""
    sys.argv = ["worldmodel", *map(str, words)]
    main()


def scripted(work: Work) -> Work:
    """A work of a script, whose exceptions are told as those of commands are."""

    def told() -> None:
        try:
            work()
        except KeyboardInterrupt:
            sys.exit(STOPPED)
        except Exception as error:
            sentence, code = message_of(error)
            print(f"worldmodel: {sentence}", file=sys.stderr)
            sys.exit(code)

    return told


def _of_command(config: Any) -> Subject:
    return Subject(
        lambda run: lambda: typed(*arguments_of(config, run)),
        lambda run, checkpoint: (run / "config.json").exists(),
    )


def _control(env: str, **environment: Any) -> RLConfig:
    config = quick(RLConfig(EnvironmentConfig(env, **environment), agent=AgentConfig(seed=3)))
    return replace(config, checkpoint_seconds=OFTEN, evaluation=_few(config))


def _with(config: RLConfig, **policy: Any) -> RLConfig:
    """A configuration whose policy learns in another way."""
    agent = replace(config.agent, policy=replace(config.agent.policy, **policy))
    return replace(config, agent=agent)


def _few(config: RLConfig) -> EvaluationConfig:
    return replace(config.evaluation, episodes=2, held_out=2)


def _recorded(place: Path) -> RLConfig:
    """Control that learns from the episodes of another run."""
    data = place / "recorded"
    WorldModelAgent("CartPole-v1", seed=1, folder=data, **TINY).learn(200)
    return replace(_control("CartPole-v1"), data=str(data))


def _toy_game(place: Path) -> RLConfig:
    config = replace(quick(TOY_GAME), threads=1, film=False, checkpoint_seconds=OFTEN)
    return replace(config, evaluation=_few(config))


def _images(place: Path) -> VAEConfig:
    np.save(place / "i.npy", np.random.default_rng(0).integers(0, 256, (16, 8, 8, 1), np.uint8))
    config = VAEConfig(ImagesConfig(str(place / "i.npy")), threads=1, checkpoint_seconds=OFTEN)
    return quick_images(config)


def _of_recordings(kind: str) -> Callable[[Path], Any]:
    def made(place: Path) -> Any:
        files = write_files(MADE[kind], place / kind)
        return replace(config_for(MADE[kind], files), threads=1, checkpoint_seconds=OFTEN)

    return made


CONFIGS: Mapping[str, Callable[[Path], Any]] = {
    "control": lambda place: _control("CartPole-v1"),
    "several": lambda place: _control("Pendulum-v1", num_envs=3),
    "workers": lambda place: _control("CartPole-v1", num_envs=2, workers=2),
    "pixels": lambda place: _control("CartPole-v1", pixels=16),
    "algorithm": lambda place: _with(_control("CartPole-v1"), agent="sb3:PPO"),
    "recorded": _recorded,
    "toy-game": _toy_game,
    "vae": _images,
    **{kind: _of_recordings(kind) for kind in ("text", "audio", "midi", "strokes")},
}
STEPS = 90


def _agent() -> Subject:
    """A script that learns in a folder, whose run the command line goes on with."""

    def begin(run: Path) -> Work:
        shutil.rmtree(run, ignore_errors=True)
        return scripted(
            lambda: WorldModelAgent("CartPole-v1", folder=run, seed=0, **TINY).learn(STEPS)
        )

    def has_begun(run: Path, checkpoint: str | None) -> bool:
        try:
            return RunFolder.open(run).at(checkpoint).values()["planned"] >= STEPS
        except RunError:
            return False

    return Subject(begin, has_begun)


KINDS = (*CONFIGS, "agent")


def subject(kind: str, place: Path) -> Subject:
    """A run of a kind, whose files lie in a place."""
    return _agent() if kind == "agent" else _of_command(CONFIGS[kind](place))


# What came of a run.


def outcome(run: Path) -> dict[str, Any]:
    """All that a run has learned, measured and written, by name."""
    folder = RunFolder.open(run)
    weights, state, values = folder.checkpoint()
    found = {"weights": weights, "state": state, "values": values, "metrics": folder.metrics()}
    if folder.evaluation_file.exists():
        found["evaluation"] = read_json(folder.evaluation_file)
    for file in run.rglob("*"):
        name = file.relative_to(run)
        hidden = any(part.startswith(".") for part in name.parts)
        if file.is_file() and not hidden and not OWN & {*name.parts}:
            found[str(name)] = file.read_bytes()
    return {name: plain(value) for name, value in found.items()}


def plain(value: Any) -> Any:
    """A value with the bytes of tensors in place of them, and without clocks."""
    if isinstance(value, torch.Tensor):
        return str(value.dtype), tuple(value.shape), value.cpu().numpy().tobytes()
    if isinstance(value, Mapping):
        return {key: plain(part) for key, part in value.items() if key not in CLOCKS}
    if isinstance(value, list | tuple):
        return [plain(part) for part in value]
    return value


def difference(found: Mapping[str, Any], expected: Mapping[str, Any]) -> str:
    """The names of what differs; "" if nothing does."""
    names = sorted({*found, *expected})
    return ", ".join(n for n in names if found.get(n) != expected.get(n))


# Commands that are attacked.


def attacked(work: Work, attack: Attack | None, place: Path, run: Path) -> Ended:
    """How a work ended that was attacked."""
    begun, begins = os.pipe()

    def armed() -> None:
        os.environ["XDG_STATE_HOME"] = str(place / "state")
        torch.manual_seed(time.monotonic_ns())  # another process would have another one
        if attack is not None:
            attack.arm(place)
        try:
            os.write(begins, b".")
            work()
        except KeyboardInterrupt as error:
            trace = error.__traceback__
            if trace is not None and trace.tb_next is not None:  # from within the work
                raise
        finally:
            signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})

    try:
        with Process(armed) as process:
            os.close(begins)
            os.read(begun, 1)
            if attack is not None:
                attack.strike(process, run)
            return process.wait(HANGS)
    finally:
        os.close(begun)


def problem(attack: Attack, end: Ended) -> str:
    """What is wrong with how an attacked command ended; "": nothing."""
    if end.code is None or "Traceback" in end.error + end.out:
        return problem_of(end)
    if end.code == 0:
        return ""
    if not attack.signals:
        return problem_of(end)
    expected = {-number for number in attack.signals} | {STOPPED}
    return "" if end.code in expected else f"exit code {end.code}: {end.sentence}"


class Reference(NamedTuple):
    """A run that was left alone."""

    subject: Subject
    outcome: dict[str, Any]
    scale: Scale


def reference(kind: str, place: Path) -> Reference:
    """The run of a kind that is left alone, made in a place."""
    place.mkdir(parents=True)
    made, run = subject(kind, place), place / "run"

    def work() -> None:
        made.begin(run)()
        if kind == "agent":
            made.work(run, False)()

    scale = left_alone(work, place, run)
    return Reference(made, outcome(run), scale)


def left_alone(work: Work, place: Path, run: Path) -> Scale:
    """What a work takes that is not attacked."""
    counted = place / "counted"

    def counting() -> None:
        changes = Changes(place, math.inf, lambda kind, path: None)
        try:
            work()
        finally:
            counted.write_text(str(changes.number))

    begun = time.monotonic()
    end = attacked(counting, None, place, run)
    assert end.code == 0, end
    seconds = time.monotonic() - begun
    sizes = tuple(file.stat().st_size for file in run.rglob("*") if file.is_file())
    return Scale(int(counted.read_text()), seconds, sizes)


def run(cases: int, seed: int, place: Path, to: TextIO) -> Iterator[Tally]:
    """Attacks runs of all kinds, until they end, and then other commands."""
    of_others = cases // 5
    yield of_runs(cases - of_others, seed, place, to)
    yield of_writers(of_others, seed, place, to)


def of_runs(cases: int, seed: int, place: Path, to: TextIO, kinds: Sequence[str] = KINDS) -> Tally:
    """Attacks runs of some kinds, one after another, until they end."""
    tally = Tally("kills", cases, to)
    references: dict[str, Reference] = {}
    for number in count():
        if tally.counts.total() >= cases:
            return tally
        kind = kinds[number % len(kinds)]
        if kind not in references:
            references[kind] = reference(kind, place / "references" / kind)
        _attack_until_it_ends(f"{kind} {number}", references[kind], place, seed + number, tally)


def _attack_until_it_ends(
    name: str, expected: Reference, place: Path, seed: int, tally: Tally
) -> None:
    """One run, attacked some times, and compared."""
    chance = random.Random(seed)
    attacks = [drawn(chance, expected.scale, SHARE) for _ in range(chance.randint(1, MOST))]
    oldest = [chance.random() < OLDEST for _ in attacks]
    fate = fate_of(expected, attacks, place / "attacked", oldest)
    if fate.wrong:
        tally.fault(f"{name} {attacks[: len(fate.ends)]}", fate.wrong)
        return
    for end in fate.ends:
        if end.code:
            tally.sentence() if end.code == 2 else tally.right()


class Fate(NamedTuple):
    """What became of an attacked run."""

    ends: list[Ended]  # of the attacked commands; the last may have ended before its attack
    wrong: str  # "": nothing


def fate_of(
    expected: Reference,
    attacks: Sequence[Attack],
    place: Path,
    oldest: Iterable[bool] = repeat(False),
) -> Fate:
    """Attacks a new run, until the attacks are over or it has ended; then it is left alone.

    oldest: for each attack, whether its command goes on from an older checkpoint, if there is one.
    """
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)
    run, ends = place / "run", []
    for attack, is_oldest in zip(attacks, oldest, strict=False):
        end = attacked(expected.subject.work(run, is_oldest), attack, place, run)
        ends.append(end)
        if wrong := problem(attack, end):
            return Fate(ends, wrong)
        if end.code == 0:
            break
    return Fate(ends, _finished(expected, place, run))


def _finished(expected: Reference, place: Path, run: Path) -> str:
    """What is wrong with a run that is now left alone until it ends; "": nothing."""
    has_begun = False
    while not has_begun:
        has_begun = expected.subject.has_begun(run, None)
        end = attacked(expected.subject.work(run, oldest=False), None, place, run)
        if end.code != 0:
            return problem_of(end) or f"refused: {end.sentence}"
    differs = difference(outcome(run), expected.outcome)
    return differs and f"{differs} differ"


# Commands that write something whole, or leave what was there.


class Writer(NamedTuple):
    """A command, or a line of a script, that writes something."""

    prepare: Callable[[Path], None]  # makes what it works on in a folder
    work: Callable[[Path], Work]
    found: Callable[[Path], Any]  # what is there then


def _content(folder: Path) -> dict[str, bytes]:
    """The files of a folder by name, but for those that a kill may leave."""
    names = {file.relative_to(folder): file for file in folder.rglob("*") if file.is_file()}
    left = ("lock", "mended", "moves.json")
    return {
        str(name): file.read_bytes()
        for name, file in names.items()
        if not any(part.startswith(".") or part in left for part in name.parts)
    }


def _repaired(run: Path) -> dict[str, bytes]:
    RunFolder.open(run)  # which goes on with what was begun
    return _content(run)


def _damage(run: Path) -> None:
    """Damages an episode and the metrics."""
    flipped(run / "episodes" / f"{0:012d}" / "observation")
    flipped(run / "metrics.jsonl")


def _copied(source: Path) -> Callable[[Path], None]:
    return lambda folder: shutil.copytree(source, folder / "run") and None


def writers(place: Path) -> dict[str, Writer]:
    """Writers by name; what they work on is made in a place."""
    control = place / "control"
    reference("control", control)
    source, film = control / "run", ("--steps", 4, "--kind", "dream")
    agents = [WorldModelAgent("CartPole-v1", seed=seed, **TINY).learn(STEPS) for seed in (0, 1)]
    models = [SequenceModel(seed=seed, updates=2).fit([VERSE]) for seed in (0, 1)]

    def damaged(folder: Path) -> None:
        _copied(source)(folder)
        _damage(folder / "run")

    def filmed(folder: Path) -> None:
        _copied(source)(folder)
        (folder / "film.gif").write_bytes(b"old")

    return {
        "evaluate": Writer(
            _copied(source),
            lambda folder: lambda: typed("evaluate", folder / "run", "--save"),
            lambda folder: outcome(folder / "run"),
        ),
        "repair": Writer(
            damaged,
            lambda folder: lambda: typed("repair", folder / "run", "--yes"),
            lambda folder: _repaired(folder / "run"),
        ),
        "export": Writer(
            _copied(source),
            lambda folder: lambda: typed("export", folder / "run", "--out", folder / "exported"),
            lambda folder: _content(folder / "exported"),
        ),
        "minari": Writer(
            _copied(source),
            lambda folder: (
                lambda: typed(
                    *("export", folder / "run", "--out", folder / "exported"),
                    *("--format", "minari"),
                )
            ),
            lambda folder: [*_content(folder / "exported")],
        ),
        "video": Writer(
            filmed,
            lambda folder: (
                lambda: typed("video", folder / "run", "--out", folder / "film.gif", *film)
            ),
            lambda folder: (folder / "film.gif").read_bytes(),
        ),
        "agent": Writer(
            lambda folder: agents[0].save(folder / "run"),
            lambda folder: scripted(lambda: agents[1].save(folder / "run")),
            lambda folder: outcome(folder / "run"),
        ),
        "model": Writer(
            lambda folder: models[0].save(folder / "run"),
            lambda folder: scripted(lambda: models[1].save(folder / "run")),
            lambda folder: outcome(folder / "run"),
        ),
    }


class Known(NamedTuple):
    """What a writer finds, and leaves."""

    writer: Writer
    before: Any
    after: Any
    scale: Scale


def _known(writer: Writer, place: Path) -> Known:
    place.mkdir(parents=True)
    writer.prepare(place)
    before = writer.found(place)
    scale = left_alone(writer.work(place), place, place / "run")
    return Known(writer, before, writer.found(place), scale)


def of_writers(cases: int, seed: int, place: Path, to: TextIO, names: Sequence[str] = ()) -> Tally:
    """Attacks writers, each of which leaves what was there, or has written all. names: of some."""
    tally = Tally("kills of writers", cases, to)
    place.mkdir(exist_ok=True)
    made, known = writers(place / "writers"), dict[str, Known]()
    names = names or [*made]
    for number in count():
        if tally.counts.total() >= cases:
            return tally
        name = names[number % len(names)]
        if name not in known:
            known[name] = _known(made[name], place / "known" / name)
        chance, folder = random.Random(seed + number), place / "written"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        attack = drawn(chance, known[name].scale)
        end = attacked_writer(known[name], attack, folder)
        said = problem(attack, end) or whole(known[name], folder)
        case = f"{name} {number} {attack}"
        if said:
            tally.fault(case, said)
        elif end.code:
            tally.sentence() if end.code == 2 else tally.right()


def attacked_writer(known: Known, attack: Attack, folder: Path) -> Ended:
    """How a writer ended that was attacked."""
    known.writer.prepare(folder)
    return attacked(known.writer.work(folder), attack, folder, folder / "run")


def whole(known: Known, folder: Path) -> str:
    """What is wrong with what an attacked writer left; "": nothing."""
    try:
        found = known.writer.found(folder)
        if found != known.after:
            if found != known.before:
                return "neither as before nor as after"
            end = attacked(known.writer.work(folder), None, folder, folder / "run")
            if end.code != 0:
                return problem_of(end) or f"refused: {end.sentence}"
            if known.writer.found(folder) != known.after:
                return "the second time it wrote something else"
    except (RunError, OSError) as error:
        return f"cannot be read: {error}"
    return ""
