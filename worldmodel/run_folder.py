"""Run folders: the configuration, metrics and checkpoints of a run."""

import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

from worldmodel.checkpoint import (
    Checkpoint,
    list_checkpoints,
    load_checkpoint,
    read_values,
    weights_digest,
)
from worldmodel.files import (
    MOST_JSON,
    PART,
    DamagedError,
    RunError,
    append_json,
    check_inside,
    crc32_of,
    lock,
    object_of,
    read_json,
    reading,
    sync,
    write_json,
    write_text,
)
from worldmodel.packed import manifest_in, unpacked
from worldmodel.trust import Trust, was_made_here

__all__ = [
    "SCHEMA_VERSION",
    "Description",
    "Logged",
    "RunError",
    "RunFolder",
    "put_in_place",
    "write_text",
]

SCHEMA_VERSION = 2
MOVES = "moves.json"  # of a run's folder: what is being renamed in it


class Description(NamedTuple):
    """The content of config.json."""

    experiment: str  # its name in the registry of experiments
    config: dict[str, Any]  # as JSON has it


class Logged(NamedTuple):
    """The beginning of metrics.jsonl that a checkpoint speaks of."""

    size: int = 0  # bytes
    crc32: int = 0


class RunFolder:
    """config.json, metrics.jsonl, checkpoints/, episodes/, videos/ under one path.

    One process writes, the one that has it `locked`. Its state is that of the newest checkpoint;
    an older one has to be chosen by name (`at`).
    """

    def __init__(
        self,
        path: Path,
        trust: Trust = Trust(),
        chosen: str | None = None,
        logged_by: str | None = None,
        packed: Path | None = None,
    ):
        """trust: in the code that the run names; chosen: the name of the checkpoint whose state is
        read, instead of the newest; logged_by: of the one that says what metrics there are, by
        default the same; packed: the file that was unpacked into this folder, if one was."""
        self.path = path
        self.packed = packed
        self.trust = trust
        self.chosen = chosen
        self.device: str | None = None  # that its user asks for, instead of the run's own
        self._logged_by = logged_by or chosen
        self.config_file = path / "config.json"
        self.metrics_file = path / "metrics.jsonl"
        self.evaluation_file = path / "evaluation.json"
        self.checkpoints = path / "checkpoints"
        self.episodes = path / "episodes"
        self.videos = self.place("videos")

    def __repr__(self) -> str:
        return f"RunFolder({str(self.path)!r})"

    @property
    def said(self) -> Path:
        """The path that the run's user knows: of the folder, or of the packed file."""
        return self.packed or self.path

    def place(self, name: str) -> Path:
        """The path at which something is written that is made of the run: in its folder; of a
        packed one in the current folder, under a name that begins with its own."""
        return self.path / name if self.packed is None else Path(f"{self.packed.stem}-{name}")

    @cached_property
    def lacks_episodes(self) -> bool:
        """True if the run was packed without its episodes."""
        manifest = manifest_in(self.path)
        return manifest is not None and not manifest.episodes

    def _like(self, chosen: str | None, logged_by: str | None = None) -> "RunFolder":
        """The same run, for the same user, with another checkpoint chosen."""
        folder = RunFolder(self.path, self.trust, chosen, logged_by, self.packed)
        folder.device = self.device
        return folder

    @classmethod
    def create(cls, path: Path, experiment: str, config: Mapping[str, Any]) -> "RunFolder":
        """Makes a folder for a new run; a folder that already holds something is left alone.

        config: the settings of the experiment, for JSON.
        """
        folder = cls(path, Trust(is_whole=True))
        if path.exists() and not (path.is_dir() and _is_free(path)):
            hint = (
                f"go on with it by `worldmodel resume {path}`, or " * folder.config_file.exists()
            )
            raise RunError(f"{path} already exists; {hint}choose another --out")
        for part in (folder.checkpoints, folder.episodes, folder.videos):
            part.mkdir(parents=True, exist_ok=True)
        folder._describe(experiment, config)
        return folder

    @classmethod
    def open(cls, path: Path, trust: Trust = Trust()) -> "RunFolder":
        """Opens an existing run, a folder or a packed file; a folder that holds links, pipes or
        devices is refused.

        trust: of the user, in runs that were not made here.
        """
        packed = path if path.is_file() else None
        path = path if packed is None else unpacked(packed)
        folder = cls(path, trust, packed=packed)
        if packed is None:
            put_back(path)
        if not path.is_dir():
            raise RunError(f"there is no run at {path}")
        check_inside(path)
        if (path / MOVES).exists():
            with folder.locked():
                """Goes on with them."""
        if not folder.config_file.is_file():
            raise RunError(f"{path} is no run: it has no config.json")
        if was_made_here(folder.config_file):
            folder.trust = trust._replace(is_whole=True)
        return folder

    def at(self, chosen: str | None) -> "RunFolder":
        """The same run as a checkpoint of this name left it; None: the newest."""
        names = [path.name for path in list_checkpoints(self.checkpoints)]
        if chosen is not None and chosen not in names:
            raise RunError(
                f"{self.said} has no checkpoint {chosen!r}, only {', '.join(names) or 'none'}"
            )
        return self._like(chosen)

    def on(self, device: str | None) -> "RunFolder":
        """The same run, to be computed on another device than its options say; None: on theirs."""
        folder = self._like(self.chosen, self._logged_by)
        folder.device = device
        return folder

    def kept(self) -> "RunFolder":
        """The same run as it is to be loaded: as the best evaluation left it, if its options say
        `keep: best`, none was chosen, and there was one."""
        is_best = self.chosen is None and self.description.config.get("keep") == "best"
        if not is_best or not list_checkpoints(self.checkpoints):
            return self
        best = self.values().get("best")
        newest = self.checkpoint_path.name
        return self if best is None else self.at(best)._like(best, newest)

    def evaluation(self) -> dict[str, Any] | None:
        """The run's own evaluation; None where there is none, or one that names other weights than
        the checkpoint has."""
        if not self.evaluation_file.exists():
            return None
        found = read_json(self.evaluation_file)
        named = found.get("weights")
        is_own = named is None or named == weights_digest(self.checkpoint_path)
        return found if is_own else None

    def described(self, config: Mapping[str, Any]) -> "RunFolder":
        """The same run with another configuration, as JSON has it, which is written."""
        self._describe(self.experiment, config)
        return self._like(self.chosen)

    def _describe(self, experiment: str, config: Mapping[str, Any]) -> None:
        described = {"schema_version": SCHEMA_VERSION, "experiment": experiment, "config": config}
        write_json(self.config_file, described)

    def check_writable(self) -> None:
        """Raises RunError for a packed run."""
        if self.packed is not None:
            raise RunError(
                f"{self.packed} is a packed run, which is only read: it can neither be resumed "
                "nor changed; evaluate, play, film or load it, or train a run of your own"
            )

    def check_episodes(self) -> None:
        """Raises RunError if the run was packed without its episodes."""
        if self.lacks_episodes:
            raise RunError(
                f"{self.said} was packed without its episodes: ask whoever made it for a file by "
                "`worldmodel pack RUN --episodes`"
            )

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keeps other processes from writing to the run; a packed run is not written to."""
        self.check_writable()
        said = f"another process writes to {self.path}: wait for it, or stop it"
        held = lock(self.path / "lock", said)
        try:
            self._go_on_moving()
            yield
        finally:
            os.close(held)

    def move(self, moves: Sequence[tuple[Path, Path]]) -> None:
        """Renames files and folders of the run, in this order: all of them, or none. After a kill,
        who opens the run next goes on with it. To be called `locked`; each new name is free, or
        was that of one renamed before."""
        names = [[str(path.relative_to(self.path)) for path in pair] for pair in moves]
        write_json(self.path / MOVES, {"moves": names})
        self._go_on_moving()

    def _go_on_moving(self) -> None:
        file = self.path / MOVES
        if not file.exists():
            return
        for before, after in _moves_in(file):
            if (self.path / before).exists() and not (self.path / after).exists():
                (self.path / before).rename(self.path / after)
                sync((self.path / after).parent)
        file.unlink()

    @cached_property
    def description(self) -> Description:
        """The content of config.json, read once."""
        read = read_json(self.config_file)
        try:
            version = read["schema_version"]
            description = Description(read["experiment"], read["config"])
        except (KeyError, TypeError) as error:
            raise DamagedError(f"{self.config_file} is damaged: it has no {error}") from error
        if version != SCHEMA_VERSION:
            raise RunError(_other_schema(self.path, version))
        if not (isinstance(description.experiment, str) and isinstance(description.config, dict)):
            raise DamagedError(
                f"{self.config_file} is damaged: it names no experiment, or has no settings of one"
            )
        return description

    @property
    def experiment(self) -> str:
        """The name of the experiment that the run is of."""
        return self.description.experiment

    @property
    def checkpoint_path(self) -> Path:
        """The folder of the checkpoint that was chosen, or of the newest."""
        there = list_checkpoints(self.checkpoints)
        if not there:
            raise RunError(
                f"there is no checkpoint in {self.checkpoints}; `worldmodel resume {self.path}` "
                "goes on with the run"
            )
        return there[-1] if self.chosen is None else self.checkpoints / self.chosen

    def checkpoint(self) -> Checkpoint:
        """The checkpoint that was chosen, or the newest; raises DamagedError if it cannot be
        read, even where an older one could."""
        path = self.checkpoint_path
        try:
            return load_checkpoint(path)
        except DamagedError as error:
            raise DamagedError(f"{error}{self._others(path)}") from error

    def _others(self, unread: Path) -> str:
        """Advice on other checkpoints."""
        others = [p.name for p in list_checkpoints(self.checkpoints) if p != unread]
        return f"; to use another one, name it: --from {others[-1]}" if others else ""

    def values(self) -> dict[str, Any]:
        """The plain values of `checkpoint`."""
        return read_values(self.checkpoint_path)

    def log(self, record: Mapping[str, Any]) -> None:
        """Appends a line to metrics.jsonl."""
        append_json(self.metrics_file, record)

    def metrics(self) -> list[dict[str, Any]]:
        """The lines of metrics.jsonl, but for a last one that is being written.

        Raises DamagedError where they are not those that were written.
        """
        self.check_logged()
        found = []
        for number, line in enumerate(self._lines(), 1):
            try:
                record, is_whole = object_of(line)
            except (ValueError, RecursionError) as error:
                raise DamagedError(
                    f"{self.metrics_file} is damaged in line {number}: {error}{MEND}"
                ) from error
            if not is_whole:
                raise DamagedError(
                    f"{self.metrics_file} is damaged in line {number} (its checksum differs){MEND}"
                )
            found.append(record)
        return found

    def readable_metrics(self) -> list[dict[str, Any]]:
        """The lines of metrics.jsonl that are as they were written, whatever the others are."""
        found = []
        for line in self._lines():
            with suppress(ValueError, RecursionError):
                record, is_whole = object_of(line)
                found += [record] * is_whole
        return found

    def _lines(self) -> list[bytes]:
        """The finished lines of metrics.jsonl."""
        if not self.metrics_file.exists():
            return []
        with reading(self.metrics_file, self._known.size + MOST_JSON) as file:
            return file.read().split(b"\n")[:-1]

    def logged(self, before: Logged = Logged()) -> Logged:
        """The extent of metrics.jsonl, when it is on disk. before: what it was once, which is not
        read again."""
        if not self.metrics_file.exists():
            return Logged()
        with reading(self.metrics_file) as file:
            os.fsync(file.fileno())
            size = os.fstat(file.fileno()).st_size
        return Logged(size, crc32_of(self.metrics_file, before.size, size, before.crc32))

    def check_logged(self) -> None:
        """Raises DamagedError unless metrics.jsonl is as the checkpoint says, if there is one."""
        self.check_metrics(self._known)

    @property
    def _known(self) -> Logged:
        """The metrics that the checkpoint speaks of, if there is one."""
        there = list_checkpoints(self.checkpoints)
        return logged_in(self.at(self._logged_by).values()) if there else Logged()

    def check_metrics(self, logged: Logged) -> None:
        """Raises DamagedError unless metrics.jsonl begins with what a checkpoint speaks of."""
        there = self.metrics_file.exists() and self.metrics_file.stat().st_size >= logged.size
        if logged.size and not there:
            raise DamagedError(f"{self.metrics_file} is cut off, or missing{MEND}")
        if logged.size and crc32_of(self.metrics_file, 0, logged.size) != logged.crc32:
            raise DamagedError(f"{self.metrics_file} is damaged (its CRC-32 differs){MEND}")

    def truncate_metrics(self, size: int) -> None:
        """Removes the metrics logged after the checkpoint that the run resumes from."""
        if self.metrics_file.exists():
            os.truncate(self.metrics_file, size)


def put_in_place(part: Path, target: Path) -> None:
    """Makes a finished folder the run at `target`. One that is there is replaced, unless another
    process writes to it (InUseError)."""
    put_back(target)
    gone = _gone(target)
    shutil.rmtree(gone, ignore_errors=True)
    if target.exists():
        with RunFolder(target).locked():
            target.rename(gone)
            part.rename(target)
    else:
        part.rename(target)
    shutil.rmtree(gone, ignore_errors=True)


def put_back(target: Path) -> None:
    """Brings a run back that was about to be replaced, by `put_in_place`, when that was killed."""
    gone = _gone(target)
    if not target.exists() and gone.is_dir():
        with RunFolder(gone).locked():
            gone.rename(target)


def _gone(target: Path) -> Path:
    return target.with_name(f".{target.name}.gone")


def _is_free(folder: Path) -> bool:
    """True if a folder holds nothing, or what is left of a run that was killed as it was made."""
    return all(
        entry.name.startswith(PART) or (entry.is_dir() and not any(entry.iterdir()))
        for entry in folder.iterdir()
    )


def _moves_in(file: Path) -> list[tuple[str, str]]:
    """The content of moves.json; raises DamagedError for names that are not of the run."""
    try:
        moves = [(str(before), str(after)) for before, after in read_json(file)["moves"]]
    except (KeyError, TypeError, ValueError) as error:
        raise DamagedError(f"{file} is damaged: {error}") from error
    for name in (name for pair in moves for name in pair):
        if Path(name).is_absolute() or ".." in Path(name).parts:
            raise DamagedError(f"{file} is damaged: it names {name}, which is not of the run")
    return moves


MEND = ": put it back from a copy, or see what is left of it by `worldmodel repair RUN`"


def logged_in(values: Mapping[str, Any]) -> Logged:
    """The metrics that the values of a checkpoint speak of."""
    logged = Logged(values.get("metrics_size", -1), values.get("metrics_crc32", -1))
    if not all(type(number) is int and number >= 0 for number in logged):
        raise DamagedError(f"a checkpoint does not say how far its metrics go, but {logged}")
    return logged


def _other_schema(path: Path, version: object) -> str:
    """Refuses a run of another version of the package, with advice in one sentence."""
    if version == 1:
        return (
            f"{path} was made by version 0.1 of this package, whose runs have schema 1 (this one "
            f"reads {SCHEMA_VERSION}): train it again, or check out version 0.1 to go on with it"
        )
    return (
        f"{path} has schema version {version!r}, this program reads {SCHEMA_VERSION}: train it "
        "again, or use the version of the package that made it"
    )
