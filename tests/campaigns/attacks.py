"""Attacks on a process that writes files: signals, at some time or at some change of a file, and
disks that are full.

An attack is armed in the process, before its command, and strikes from outside, while it runs.
"""

import errno
import math
import os
import random
import resource
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from signal import Signals
from typing import Any, NamedTuple, Protocol

import safetensors.torch
import torch

from campaigns.processes import Process
from worldmodel import disk_store, files

PATIENCE = 30.0  # seconds, for what is waited for
LEAST = 10_000  # bytes of a file that what a command prints must fit in
PART = ".part"  # in the names of files and folders that are being written
CHANGES = {"os.rename", "os.mkdir", "os.remove", "os.rmdir", "os.truncate"}  # events of Python
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
WRITERS: tuple[tuple[Any, str, int], ...] = (
    (safetensors.torch, "save_file", 1),
    (torch, "save", 1),
    (disk_store, "_put", 0),
    (files, "append_line", 0),
    (Path, "write_text", 0),
)
"""Functions that write a file, which can be half written, and the place of its path among their
arguments."""


class Attack(Protocol):
    """A harm that is done to one command; its `repr` says which."""

    @property
    def signals(self) -> Sequence[Signals]:
        """The signals that end the process; none: a full disk, at which it ends by itself."""

    def arm(self, place: Path) -> None:
        """Prepares the process, which writes below `place`."""

    def strike(self, process: Process, run: Path) -> None:
        """Harms the process, which writes to `run`, from outside."""


class Changes:
    """The changes of files below a place by this process, numbered from 1 on.

    Before change `last`, `act` is called, and before those after it.
    """

    def __init__(
        self, place: Path, last: float, act: Callable[[str, Path], None], halves: bool = True
    ):
        """act: called with the kind of the change (see `CHANGES`; open, write) and its path;
        halves: a file that one of the `WRITERS` writes is then half written, after which the
        process may not go on."""
        self.place, self.last, self.act, self.halves = str(place), last, act, halves
        self.number = 0
        for module, name, argument in WRITERS:
            setattr(module, name, self._half_written(getattr(module, name), argument))
        sys.addaudithook(self._hear)

    def _is_due(self) -> bool:
        self.number += 1
        return self.number >= self.last

    def _hear(self, event: str, arguments: tuple[Any, ...]) -> None:
        is_change = event in CHANGES or (event == "open" and arguments[2] & WRITING)
        if is_change and self._is_here(arguments) and self._is_due():
            self.act(event, Path(arguments[0]))

    def _is_here(self, arguments: tuple[Any, ...]) -> bool:
        path = arguments[0]
        if not isinstance(path, str | os.PathLike):
            return False
        path = os.fspath(path)  # not absolute where `shutil.rmtree` removes what is in a folder
        return str(path).startswith(self.place) or not os.path.isabs(path)

    def _half_written(self, write: Callable[..., Any], argument: int) -> Callable[..., Any]:
        def half_written(*arguments: Any, **options: Any) -> Any:
            file = Path(arguments[argument])
            before = file.stat().st_size if file.exists() else 0
            result = write(*arguments, **options)
            if str(file).startswith(self.place) and self._is_due():
                if self.halves:
                    self._halve(file, before)
                self.act("write", file)
            return result

        return half_written

    def _halve(self, file: Path, before: int) -> None:
        after, last = file.stat().st_size, self.last
        self.last = math.inf
        os.truncate(file, (min(before, after) + after) // 2)
        self.last = last


class AtChange(NamedTuple):
    """A signal before a change of a file, which is then half written."""

    number: int
    signal: Signals

    @property
    def signals(self) -> Sequence[Signals]:
        return (self.signal,)

    def arm(self, place: Path) -> None:
        def act(kind: str, path: Path) -> None:
            changes.last = math.inf
            os.kill(os.getpid(), self.signal)

        changes = Changes(place, self.number, act, halves=self.signal == Signals.SIGKILL)

    def strike(self, process: Process, run: Path) -> None:
        """Does nothing."""


class AtTimes(NamedTuple):
    """Signals, each some seconds after the one before."""

    times: tuple[tuple[float, Signals], ...]

    @property
    def signals(self) -> Sequence[Signals]:
        return [number for _, number in self.times]

    def arm(self, place: Path) -> None:
        """Does nothing."""

    def strike(self, process: Process, run: Path) -> None:
        for seconds, number in self.times:
            if not process.ends_within(seconds):
                process.send(number)


class InTheAct(NamedTuple):
    """A signal while a file or a checkpoint, the `number`th that is seen, is being written."""

    number: int
    signal: Signals

    @property
    def signals(self) -> Sequence[Signals]:
        return (self.signal,)

    def arm(self, place: Path) -> None:
        """Does nothing."""

    def strike(self, process: Process, run: Path) -> None:
        seen, was_there = 0, False
        end = time.monotonic() + PATIENCE
        while process.is_alive and time.monotonic() < end:
            is_there = _is_being_written(run) or _is_being_written(run / "checkpoints")
            seen += is_there and not was_there
            was_there = is_there
            if seen >= self.number:
                process.send(self.signal)
                return
            time.sleep(0.0003)


class FullDisk(NamedTuple):
    """A disk that is full from some change of a file on."""

    number: int
    signals = ()

    def arm(self, place: Path) -> None:
        Changes(place, self.number, _refuse)

    def strike(self, process: Process, run: Path) -> None:
        """Does nothing."""


class SmallFiles(NamedTuple):
    """A system in which no file grows beyond some bytes: what is written is cut off."""

    bytes: int
    signals = ()

    def arm(self, place: Path) -> None:
        sys.dont_write_bytecode = True  # Python keeps what it cut off itself
        resource.setrlimit(resource.RLIMIT_FSIZE, (self.bytes, self.bytes))

    def strike(self, process: Process, run: Path) -> None:
        """Does nothing."""


def _refuse(kind: str, path: Path) -> None:
    """Raises what a full disk raises; it lets files be renamed and removed."""
    if kind in ("open", "write", "os.mkdir"):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))


def _is_being_written(folder: Path) -> bool:
    try:
        return any(name.startswith(PART) for name in os.listdir(folder))
    except OSError:
        return False


class Scale(NamedTuple):
    """What a command that is left alone takes, by which attacks are drawn."""

    changes: int  # of files
    seconds: float
    sizes: tuple[int, ...]  # of the files that it writes, bytes


ENDS = (Signals.SIGKILL,) * 4 + (Signals.SIGTERM, Signals.SIGINT, Signals.SIGHUP)
AGAIN = (Signals.SIGINT, Signals.SIGTERM, Signals.SIGKILL)  # the second of two


def drawn(chance: random.Random, scale: Scale, share: float = 1.0) -> Attack:
    """Some attack, which strikes within a share of what the whole command takes."""
    changes = max(1, int(share * scale.changes))
    number = chance.choice(ENDS)
    kind = chance.random()
    if kind < 0.45:
        return AtChange(chance.randint(1, changes), number)
    if kind < 0.7:
        times = [(chance.uniform(0, share * scale.seconds), number)]
        if chance.random() < 0.3:
            times.append((chance.choice((0, 0.001, 0.05)), chance.choice(AGAIN)))
        return AtTimes(tuple(times))
    if kind < 0.8:
        return InTheAct(chance.randint(1, 20), number)
    if kind < 0.92:
        return FullDisk(chance.randint(1, changes))
    return SmallFiles(max(LEAST, int(chance.uniform(0.2, 1) * chance.choice(scale.sizes))))
