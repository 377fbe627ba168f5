"""Commands in forked processes, which can be killed and do not have to be waited for."""

import importlib
import multiprocessing
import os
import pkgutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

import torch

import worldmodel
from worldmodel.experiments.cli.main import main

SLOW = (
    "importlib.readers",
    "torch._dynamo",
    "scipy.stats",
    "scipy.signal",
    "matplotlib.pyplot",
    "imageio.v3",
)


def prepare() -> None:
    """Imports all modules of the package and what it imports late, once for all forks."""
    found = pkgutil.walk_packages(worldmodel.__path__, "worldmodel.")
    for name in (*SLOW, *(module.name for module in found)):
        if not name.endswith("__main__"):
            importlib.import_module(name)


class Ended(NamedTuple):
    """How a process ended: its exit code (negative: the signal), and what it printed; a hang has
    the code None."""

    code: int | None
    out: str
    error: str

    @property
    def sentence(self) -> str:
        """The last line of the errors."""
        return (self.error.strip().splitlines() or [""])[-1]


class Process:
    """A function in a forked process and a session of its own; killed when it is left.

    A fork has all modules of this process, so a command begins within milliseconds.
    """

    def __init__(self, work: Callable[[], Any], folder: Path | None = None):
        self._files = [tempfile.TemporaryFile() for _ in range(2)]  # noqa: SIM115
        context = multiprocessing.get_context("fork")
        arguments = (work, folder, [file.fileno() for file in self._files])
        self._process = context.Process(target=_run, args=arguments)
        self._process.start()

    def send(self, number: signal.Signals) -> None:
        """Sends a signal to the process, if there still is one."""
        if self._process.is_alive():
            os.kill(self._pid, number)

    def wait(self, seconds: float) -> Ended:
        """Waits for its end."""
        self._process.join(seconds)
        code = self._process.exitcode
        said = []
        for file in self._files:
            file.seek(0)
            said.append(file.read().decode(errors="replace"))
        return Ended(code, *said)

    def ends_within(self, seconds: float) -> bool:
        """Waits for its end, for so many seconds; whether it has ended."""
        self._process.join(seconds)
        return not self.is_alive

    @property
    def is_alive(self) -> bool:
        return self._process.is_alive()

    @property
    def _pid(self) -> int:
        assert self._process.pid is not None
        return self._process.pid

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            os.killpg(self._pid, signal.SIGKILL)  # those that it began, too
        except (ProcessLookupError, PermissionError):
            self._process.kill()
        self._process.join()
        for file in self._files:
            file.close()


def command(*arguments: object, folder: Path | None = None) -> Process:
    """A command of `worldmodel` in a folder, by default in the current one."""
    return Process(lambda: main([str(argument) for argument in arguments]), folder)


def ended(work: Process, seconds: float) -> Ended:
    """How a process ended; after so many seconds it is killed, which is a hang."""
    with work:
        return work.wait(seconds)


def until(holds: Callable[[], bool], seconds: float, pause: float = 0.002) -> bool:
    """Waits until it holds; whether it does."""
    end = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > end:
            return False
        time.sleep(pause)
    return True


def _run(work: Callable[[], Any], folder: Path | None, outputs: list[int]) -> None:
    os.setsid()
    torch.set_num_threads(1)  # those of the parent are not here, and would be waited for
    for target, output in zip((1, 2), outputs, strict=True):
        os.dup2(output, target)
    sys.stdout, sys.stderr = (open(number, "w", closefd=False) for number in (1, 2))  # noqa: SIM115
    if folder is not None:
        os.chdir(folder)
    work()
