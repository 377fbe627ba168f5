"""Hostile folders: what somebody may send who wants code run, files written, or the machine busy.

Every verb is tried on each in a fork, from a current directory that holds modules of the sender.
Nothing of it may run: its modules leave a mark when they are imported, its pickles when they are
loaded. Nothing outside the folder and the named output may change; every verb ends by itself, with
exit code 0 or one sentence, and prints no control characters; pages escape what they show.
"""

import io
import json
import os
import pickle
import shutil
import sys
import zipfile
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, TextIO

import numpy as np
import torch

from campaigns.mutations import DEEP, HUGE, sign
from campaigns.processes import Ended
from campaigns.subjects import Subject, Verb, everything_in, subjects, tried
from campaigns.tally import Tally, problem_of
from worldmodel.checkpoint import DESCRIPTION, STATE, VALUES, WEIGHTS, list_checkpoints
from worldmodel.files import CHECKSUM

MARK = "PWNED"
MODULES = ("evil", "minigrid", "ale_py", "popgym", "birds", "sb3", "cores")
CODE = """
from pathlib import Path
Path({mark!r}).touch()
import gymnasium
from gymnasium.envs.classic_control import CartPoleEnv
gymnasium.register("Evil-v0", CartPoleEnv, max_episode_steps=9)
"""
ESCAPE = "\x1b]0;owned\x07\x1b[2J\n\rowned: "
SCRIPT = "<script>alert('owned')</script><img src=x onerror=alert(1)>"


class Scene(NamedTuple):
    """The place of a hostile folder."""

    here: Path  # the current directory
    run: Path  # the folder, in it

    @property
    def precious(self) -> Path:
        """A file of the user's."""
        return self.here.parent / "precious"

    @property
    def mark(self) -> Path:
        """Is there when code has run."""
        return self.here.parent / MARK

    @property
    def newest(self) -> Path:
        return list_checkpoints(self.run / "checkpoints")[-1]


Make = Callable[[Scene], None]


class Hostile(NamedTuple):
    """A hostile folder."""

    name: str
    base: str  # the subject that it is made of
    make: Make


class Code:
    """What runs code when it is unpickled."""

    def __init__(self, mark: Path):
        self.mark = mark

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.mark),)


def edited(file: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    """Changes an object of JSON; the checksums are made right."""
    value = json.loads(file.read_text())
    value.pop(CHECKSUM, None)
    change(value)
    file.write_text(json.dumps(value))
    sign(file.parents[1] if file.parent.name == "episodes" else file.parent, file)


def environment(**told: Any) -> Make:
    """Another environment in the configuration."""

    def make(scene: Scene) -> None:
        given = {"env_path": str(scene.here), **told}
        edited(
            scene.run / "config.json", lambda value: value["config"]["environment"].update(given)
        )

    return make


def configuration(*path: str, to: Any, file: str = "config.json") -> Make:
    """Another value at a path of a file of JSON."""

    def change(value: dict[str, Any]) -> None:
        part: Any = value
        for key in path[:-1]:
            part = part[int(key)] if isinstance(part, list) else part.setdefault(key, {})
        part[path[-1]] = to

    return lambda scene: edited(scene.run / file, change)


def checkpoint(file: str, *path: str, to: Any) -> Make:
    """Another value in a file of the newest checkpoint."""
    return lambda scene: configuration(*path, to=to, file=f"{_newest(scene)}/{file}")(scene)


def _newest(scene: Scene) -> Path:
    return scene.newest.relative_to(scene.run)


def content(name: str, write: Callable[[Scene], bytes]) -> Make:
    """Another content of a file; NEWEST stands for the newest checkpoint."""

    def make(scene: Scene) -> None:
        file = _at(scene, name)
        file.write_bytes(write(scene))
        sign(scene.run, file)

    return make


def _at(scene: Scene, name: str) -> Path:
    return scene.run / (name.replace("NEWEST", str(_newest(scene))) if "NEWEST" in name else name)


def pickled(scene: Scene) -> bytes:
    return pickle.dumps(Code(scene.mark))


def saved(scene: Scene) -> bytes:
    file = io.BytesIO()
    torch.save({"noise": Code(scene.mark)}, file)
    return file.getvalue()


def saved_as_once(scene: Scene) -> bytes:
    """As PyTorch wrote files before version 1.6."""
    file = io.BytesIO()
    torch.save({"noise": Code(scene.mark)}, file, _use_new_zipfile_serialization=False)
    return file.getvalue()


def objects(scene: Scene) -> bytes:
    """An .npz of pickled objects."""
    file = io.BytesIO()
    np.savez(file, lengths=np.array([Code(scene.mark)], object), reward=np.zeros(3))
    return file.getvalue()


def archive(*parts: tuple[str, bytes]) -> Callable[[Scene], bytes]:
    """A packed archive."""

    def write(scene: Scene) -> bytes:
        file = io.BytesIO()
        with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as packed:
            for name, what in parts:
                packed.writestr(name, what)
        return file.getvalue()

    return write


def replaced(name: str, by: Callable[[Path, Scene], Any]) -> Make:
    """Something else in the place of a file or folder, or where there was nothing."""

    def make(scene: Scene) -> None:
        path = _at(scene, name)
        if path.is_dir():
            shutil.rmtree(path)
        path.unlink(missing_ok=True)
        path.parent.mkdir(parents=True, exist_ok=True)
        by(path, scene)

    return make


def _link(path: Path, scene: Scene) -> None:
    path.symlink_to(scene.precious)


def _link_to_folder(path: Path, scene: Scene) -> None:
    path.symlink_to(scene.here.parent / "precious folder")


def _pipe(path: Path, scene: Scene) -> None:
    os.mkfifo(path)


def _endless(path: Path, scene: Scene) -> None:
    path.symlink_to("/dev/zero")


def _large(path: Path, scene: Scene) -> None:
    with open(path, "wb") as file:
        file.truncate(HUGE)


def _socket(path: Path, scene: Scene) -> None:
    import socket

    with socket.socket(socket.AF_UNIX) as one:
        one.bind(str(path))


def extended(name: str) -> Make:
    """A file followed by a terabyte of nothing."""
    return lambda scene: os.truncate(_at(scene, name), HUGE)


def deep(name: str) -> Make:
    return content(name, lambda scene: DEEP * b'{"x":' + b"1" + DEEP * b"}")


def _every(*makes: Make) -> Make:
    def make(scene: Scene) -> None:
        for one in makes:
            one(scene)

    return make


def begun(scene: Scene) -> None:
    """Nothing is learned yet, so its data are read."""
    for folder in ("checkpoints", "episodes"):
        shutil.rmtree(scene.run / folder)
        (scene.run / folder).mkdir()
    (scene.run / "metrics.jsonl").unlink()


def data(path: str) -> Make:
    """Other recorded episodes."""
    return configuration("config", "data", to=path)


NAMES = (
    *("evil:Evil-v0", "run.evil:Evil-v0", "evil", "evil:", ":evil", "a:evil:b", "../evil:Evil-v0"),
    *(".evil:Evil-v0", "evil/../evil:Evil-v0", " evil:Evil-v0", "evil\n:Evil-v0", "evil:\x00"),
    *("antigravity:Evil-v0", "unittest.__main__:Evil-v0", "os:system", "MiniGrid-Empty-5x5-v0"),
    *("ALE/Pong-v5", "popgym-RepeatFirst-v0", "worldmodel.experiments.cli.main:main"),
)
ARGUMENTS = (
    '{"env_id": "evil:Evil-v0"}',
    '{"x": [[{"y": "evil"}]]}',
    '"evil"',
    "not json",
    DEEP * "[" + DEEP * "]",
    '{"render_mode": "human"}',
)
WRITTEN = (
    *(
        "evaluation.json",
        "metrics.jsonl",
        "lock",
        "report.html",
        "videos/both.mp4",
        "held-out.npz",
    ),
    *("checkpoints/.part", "checkpoints/.gone", "episodes/lock", "episodes/.part"),
    *("episodes/spaces.json", "mended-episodes", "damaged-1-episodes", "damaged-1-metrics.jsonl"),
    *("aside-1-checkpoint-000001", "evaluation.json.part", ".part-00000000-metrics.jsonl"),
)
FOLDERS = ("videos", "checkpoints", "episodes", "samples", "episodes/000000000000")
MODEL = ("config", "agent", "model")
BOMB = archive(("weights.npy", bytes(3 * 10**8)))


def _all() -> Iterator[Hostile]:
    for name in NAMES:
        yield Hostile(f"environment {name!r}", "control", environment(env=name))
    for name in NAMES[:2]:
        yield Hostile(f"agent of {name!r}", "agent", environment(env=name))
    for text in ARGUMENTS:
        yield Hostile(f"arguments {text[:40]}", "control", environment(arguments=text))
    yield Hostile("a folder of modules", "control", environment(env_path="/"))
    for name in ("evil", "/dev/zero", "../..", "/proc/self/fd", "x\x00y"):
        yield Hostile(f"data {name!r}", "recorded", _every(data(name), begun))
    # Code in files.
    for file in (STATE, WEIGHTS):
        for write in (pickled, saved, saved_as_once):
            name = f"{write.__name__} {file}"
            yield Hostile(name, "control", content(f"NEWEST/{file}", write))
    yield Hostile("saved state", "sequences", content(f"NEWEST/{STATE}", saved))
    for file in ("held-out.npz", "episodes/extra.npz"):
        yield Hostile(f"objects {file}", "recorded", content(file, objects))
    for write in (objects, pickled):
        name = f"episodes, {write.__name__}"
        yield Hostile(name, "episodes", content("episodes-00000.npz", write))
    for word in ("os:system", "evil", "../evil", "evil:Evil", 3, None, ["evil"]):
        yield Hostile(f"experiment {word!r}", "control", configuration("experiment", to=word))
    for option in ("core", "recurrence", "reward_head", "rewards"):
        for word in ("evil:Core", "evil.Core"):
            path = (*MODEL, option)
            yield Hostile(f"{option} {word}", "control", configuration(*path, to=word))
    for word in ("sb3:evil", "evil.PPO"):
        path = ("config", "agent", "policy", "agent")
        yield Hostile(f"algorithm {word}", "control", configuration(*path, to=word))
    yield Hostile("plugins", "control", configuration("plugins", to=["evil"]))
    yield Hostile("a module in the run", "text", content("torch.py", lambda scene: b"1/0"))
    # Ways out.
    for file in WRITTEN:
        yield Hostile(f"link {file}", "control", replaced(file, _link))
    for file in FOLDERS:
        yield Hostile(f"link {file}", "control", replaced(file, _link_to_folder))
    for file in ("samples", "episodes/train", "episodes/statistics.json"):
        yield Hostile(f"link {file} (text)", "text", replaced(file, _link_to_folder))
    for file in ("../../../precious", "/dev/zero", "../config.json"):
        to = {file: "0" * 64}
        yield Hostile(f"digest of {file}", "control", checkpoint(DESCRIPTION, "sha256", to=to))
    yield Hostile("no digests", "control", checkpoint(DESCRIPTION, "sha256", to={}))
    for name in ("../../precious", "/etc/passwd", "index", "../../config.json", "", "x\x00y"):
        for base, file in (("control", "episodes/store.json"), ("store", "store.json")):
            columns = configuration("columns", to={"observation": name}, file=file)
            kinds = configuration("kinds", name, to=["<f4", [4]], file=file)
            yield Hostile(f"column {name!r} ({base})", base, _every(columns, kinds))
    yield Hostile("a shard of a long name", "control", replaced("episodes/" + 200 * "9", _pipe))
    parts = archive(("../../precious.npy", b"x"), ("/lengths.npy", b"x"))
    yield Hostile("parts of names", "episodes", content("episodes-00000.npz", parts))
    # What never ends, or is too much.
    for file in ("config.json", "metrics.jsonl", "lock", f"NEWEST/{WEIGHTS}", "videos/x", "x.npz"):
        for by in (_pipe, _endless, _socket, _large):
            name = f"{file} is {by.__name__.strip('_')}"
            yield Hostile(name, "control", replaced(file, by))
    for file in ("spaces.json", "episodes-00000.npz", "x.npz"):
        for by in (_pipe, _endless, _large):
            name = f"{file} is {by.__name__.strip('_')} (episodes)"
            yield Hostile(name, "episodes", replaced(file, by))
    for file in (f"NEWEST/{STATE}", "evaluation.json", "episodes/spaces.json"):
        yield Hostile(f"{file} goes on", "control", extended(file))
    for file in ("index", "observation"):
        yield Hostile(f"{file} goes on", "control", extended(f"episodes/000000000000/{file}"))
    for file in ("config.json", "evaluation.json", f"NEWEST/{VALUES}", "episodes/spaces.json"):
        yield Hostile(f"deep {file}", "control", deep(file))
    yield Hostile("bomb of episodes", "episodes", content("episodes-00000.npz", BOMB))
    yield Hostile("bomb held out", "recorded", content("held-out.npz", BOMB))
    yield Hostile("bomb of a state", "control", content(f"NEWEST/{STATE}", BOMB))
    for path, to in (
        ((*MODEL, "hidden_size"), 10**9),
        ((*MODEL, "layers"), 10**9),
        ((*MODEL, "latent"), 10**12),
        (("config", "steps"), 10**18),
        (("config", "threads"), 10**6),
        (("config", "curve_episodes"), 10**15),
        (("config", "environment", "num_envs"), 10**9),
        (("config", "environment", "workers"), 10**6),
        (("config", "environment", "hide"), [10**12]),
        (("config", "evaluation", "episodes"), 10**12),
        (("config", "evaluation", "held_out"), 10**12),
        (("config", "evaluation", "bound_particles"), 10**12),
    ):
        yield Hostile(f"{path[-1]} {to}", "control", configuration(*path, to=to))
    for part, to in (("shape", [10**13]), ("shape", [2**62, 4]), ("dtype", "object")):
        file = "episodes/spaces.json"
        make = configuration("observation", part, to=to, file=file)
        yield Hostile(f"space of {part} {to}", "control", make)
    yield Hostile(
        "many actions",
        "control",
        configuration("action", "n", to=10**12, file="episodes/spaces.json"),
    )
    # What is printed and shown.
    for text, what in ((ESCAPE, "escapes"), (SCRIPT, "script")):
        file = "episodes/spaces.json"
        space = {"kind": "Dict", "spaces": {text: {"kind": "Discrete", "n": 2, "start": 0}}}
        for name, make in (
            ("environment", environment(env=text)),
            ("arguments", environment(arguments=json.dumps({"x": text}))),
            ("keys", environment(keys=[text])),
            ("experiment", configuration("experiment", to=text)),
            ("version", configuration("schema_version", to=text)),
            ("unknown option", configuration("config", text, to=text)),
            ("core", configuration(*MODEL, "core", to=text)),
            ("space", configuration("observation", to=space, file=file)),
            ("kind of space", configuration("observation", "kind", to=text, file=file)),
            ("evaluation", configuration("real_return_mean", to=text, file="evaluation.json")),
            ("checkpoint", configuration("checkpoint", to=text, file="evaluation.json")),
            ("saved", checkpoint(VALUES, "saved", to=text)),
            ("stage", lambda scene, text=text: _logged(scene, {"stage": text})),
            ("measured", lambda scene, text=text: _logged(scene, {"stage": "learn", text: text})),
            ("file", replaced(f"{text.replace('/', '')}.json", _pipe)),
            ("plain file", content(f"{text.replace('/', '')}.json", lambda scene: b"{}")),
        ):
            yield Hostile(f"{what} in {name}", "control", make)


def _logged(scene: Scene, line: dict[str, Any]) -> None:
    with open(scene.run / "metrics.jsonl", "a") as file:
        file.write(json.dumps(line) + "\n")
    sign(scene.run, scene.run / "metrics.jsonl")


HOSTILE = tuple(_all())
CASES = len(HOSTILE)


def run(
    cases: int,
    seed: int,
    place: Path,
    to: TextIO,
    chosen: Sequence[Hostile] = HOSTILE,
    verbs: Sequence[str] = (),
) -> Iterator[Tally]:
    """Tries some verbs, or all, on hostile folders that are drawn from those chosen."""
    os.environ["XDG_STATE_HOME"] = str(place / "state of the sender")
    made = subjects(place, sorted({hostile.base for hostile in chosen}))
    os.environ["XDG_STATE_HOME"] = str(place / "state")
    folders = np.random.default_rng(seed).permutation(len(chosen))[:cases]
    tally = Tally("hostile", len(folders), to)
    for number in folders:
        subject = made[chosen[number].base]
        kept = {name: verb for name, verb in subject.verbs.items() if not verbs or name in verbs}
        _attempt(subject._replace(verbs=kept), chosen[number], place, tally)
    yield tally


def _attempt(subject: Subject, hostile: Hostile, place: Path, tally: Tally) -> None:
    """Tries every verb on a hostile folder, made anew for each."""
    faults: dict[str, list[str]] = defaultdict(list)
    sentences = 0
    for name, verb in subject.verbs.items():
        scene, out = _set_up(subject, hostile, place)
        before = _outside(scene)
        end = tried(partial(_from_here, verb, scene), scene.run, out)
        for what in _problems(scene, before, end, out):
            faults[what].append(name)
        sentences += end.code == 2
    if faults:
        what = "; ".join(f"{', '.join(names)}: {fault}" for fault, names in faults.items())
        tally.fault(f"{hostile.base}, {hostile.name[:100]!r}", what)
    elif sentences:
        tally.sentence()
    else:
        tally.right()


def _set_up(subject: Subject, hostile: Hostile, place: Path) -> tuple[Scene, Path]:
    base, out = place / "scene", place / "out"
    for old in (base, out, place / "trained"):
        shutil.rmtree(old, ignore_errors=True)
    scene = Scene(base / "here", base / "here" / "run")
    shutil.copytree(subject.path, scene.run)
    (base / "precious folder").mkdir()
    (base / "precious folder" / "mine").write_text("mine")
    scene.precious.write_text("mine")
    for name in MODULES:
        for folder in (scene.here, scene.run):
            (folder / f"{name}.py").write_text(CODE.format(mark=str(scene.mark)))
    hostile.make(scene)
    out.mkdir()
    return scene, out


def _outside(scene: Scene) -> dict[str, str]:
    """All that is not in the folder."""
    found = everything_in(scene.here.parent)
    return {name: what for name, what in found.items() if not name.startswith("here/run/")}


def _from_here(verb: Verb, scene: Scene, run: Path, out: Path) -> None:
    os.chdir(scene.here)
    sys.path.insert(0, str(scene.here))
    verb(run, out)


def _problems(scene: Scene, before: dict[str, str], end: Ended, out: Path) -> Iterator[str]:
    if scene.mark.exists():
        yield "code ran"
    if (after := _outside(scene)) != before:
        names = {name for name, _ in set(after.items()) ^ set(before.items())}
        yield f"changed outside: {', '.join(sorted(names))}"
    if end.code != 0 and (problem := problem_of(end)):
        yield problem
    said = end.out + end.error
    if any(not letter.isprintable() and letter not in "\n\r" for letter in said):
        yield f"control characters are printed: {said[-200:]!r}"
    for page in out.glob("*.html"):
        if SCRIPT[:12] in page.read_text() or "<img src=x" in page.read_text():
            yield "a script is in the page"
