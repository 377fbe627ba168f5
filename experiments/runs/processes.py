"""Commands in processes of their own, some at a time, that go on after any end and end with us."""

import math
import os
import signal
import subprocess
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Generic, NamedTuple, Protocol, TypeVar

from worldmodel.experiments.runs.interruption import InterruptFlag
from worldmodel.files import InUseError, reading
from worldmodel.progress import Reporter
from worldmodel.run_folder import RunFolder

COMMAND = (sys.executable, "-m", "worldmodel.experiments.runs.child")
POLL = 0.2  # s
TOLD = 60.0  # s, between lines on how far the runs are
LAST = 20_000  # bytes of a log that are searched for what went wrong
PATIENCE = 10.0  # s, for a process that is told to end at once
INTERRUPTED = 130  # the exit code of a command that saved after Ctrl-C
PROGRAM = "worldmodel: "  # before an error's sentence
STOPPED = "stopped"  # by Ctrl-C
BOXED, BORDERS = "For full helptext", "╭─╮│╰╯ "  # of what is said about wrong options
GUESSES = " Perhaps you meant: "  # in it, before options
NEARLY = 1e-6  # of a GPU: thirds add up to less than a whole


class Needs(NamedTuple):
    """The share of a machine that a run needs."""

    cores: int = 1
    gpus: float = 0.0  # whole ones, or a share of one


class Taken(NamedTuple):
    """The share of a machine that a run has."""

    cores: int
    gpus: tuple[str, ...]  # as CUDA_VISIBLE_DEVICES names them
    share: float  # of each of these


class Slots:
    """The cores and GPUs that runs share, and what is free of them."""

    def __init__(self, cores: int, gpus: Sequence[str] | None = None, by_number: bool = False):
        """gpus: None: they are not shared out, and each run sees them all; by_number: `cores` are
        places, of which a run takes one, whatever it needs."""
        self.cores = self.free = cores
        self.by_number = by_number
        self.is_sharing_gpus = gpus is not None
        self.gpus = dict.fromkeys(gpus or (), 1.0)  # the share of each that is free

    def take(self, needs: Needs) -> Taken | None:
        """Takes what a run needs; None as long as it is not free. A run that needs more cores than
        there are takes them all."""
        cores = 1 if self.by_number else min(needs.cores, self.cores)
        wanted = needs.gpus if self.is_sharing_gpus else 0.0
        share, number = min(1.0, wanted), math.ceil(wanted)
        fitting = sorted((n for n, f in self.gpus.items() if f > share - NEARLY), key=self._free)
        if cores > self.free or number > len(fitting):
            return None
        taken = Taken(cores, tuple(fitting[:number]), share)
        self._change(taken, -1)
        return taken

    def give(self, taken: Taken) -> None:
        """Gives back what a run has taken."""
        self._change(taken, 1)

    def _free(self, gpu: str) -> float:
        return self.gpus[gpu]

    def _change(self, taken: Taken, sign: int) -> None:
        self.free += sign * taken.cores
        for gpu in taken.gpus:
            self.gpus[gpu] += sign * taken.share


class Process(Protocol):
    """A command that runs, here or elsewhere."""

    def poll(self) -> int | None:
        """The exit code; None as long as it runs."""

    def interrupt(self) -> None:
        """Tells it to save and to end; a second time, to end at once."""

    def kill(self) -> None:
        """Ends it at once."""


class Launcher(Protocol):
    """A way to start commands."""

    def __call__(
        self, words: Sequence[str], log: Path, needs: Needs, gpus: tuple[str, ...] | None
    ) -> Process:
        """Starts `worldmodel WORDS`, whose output goes to a log. gpus: the only ones that it is to
        see; None: all."""


class Local:
    """A process on this machine, which saves and ends when this process ends."""

    def __init__(
        self,
        words: Sequence[str],
        log: Path,
        needs: Needs = Needs(),
        gpus: tuple[str, ...] | None = None,
    ):
        seen = {} if gpus is None else {"CUDA_VISIBLE_DEVICES": ",".join(gpus)}
        reading_end, self.ours = os.pipe()
        with open(log, "wb") as file:
            self.process = subprocess.Popen(
                [*COMMAND, str(reading_end), *words],
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file,
                pass_fds=[reading_end],
                env=os.environ | seen,
                process_group=0,  # Ctrl-C comes to this process alone, which passes it on, once
            )
        os.close(reading_end)

    def poll(self) -> int | None:
        code = self.process.poll()
        if code is not None and self.ours >= 0:
            os.close(self.ours)
            self.ours = -1
        return code

    def interrupt(self) -> None:
        with suppress(ProcessLookupError):
            self.process.send_signal(signal.SIGINT)

    def kill(self) -> None:
        self.process.kill()


def attended(words: Sequence[str], log: Path) -> int:
    """Runs a command to its end, where a scheduler has placed this process; its exit code. An
    interruption is passed on."""
    process, is_told = Local(words, log), False
    with InterruptFlag() as flag:
        while (code := process.poll()) is None:
            if flag.raised and not is_told:
                process.interrupt()
                is_told = True
            time.sleep(POLL)
    return code


class Task(Protocol):
    """A run to be made."""

    @property
    def path(self) -> Path:
        """Its folder."""

    @property
    def log(self) -> Path:
        """The file of what its process says."""

    @property
    def needs(self) -> Needs:
        """The share of the machine that it needs."""


Kind = TypeVar("Kind", bound=Task)


class Queue(ABC, Generic[Kind]):
    """Tasks that wait for their share of the machine, and the processes of those that have it."""

    def __init__(
        self,
        waiting: Sequence[Kind],
        slots: Slots,
        reporter: Reporter,
        launch: Launcher = Local,
    ):
        self.waiting = list(waiting)
        self.slots = slots
        self.reporter = reporter
        self.launch = launch
        self.running: dict[Kind, tuple[Process, Taken]] = {}
        self.is_stopping = False  # by Ctrl-C
        self.begun = self.told = time.monotonic()
        self._in_use: set[Path] = set()

    @abstractmethod
    def words(self, task: Kind) -> list[str] | None:
        """The arguments of `worldmodel` that begin a task or go on with it; None: it is not to
        be begun."""

    @abstractmethod
    def ended(self, task: Kind, code: int) -> None:
        """Takes in a task whose process has ended; it may be put back into `waiting`."""

    @abstractmethod
    def tell(self) -> None:
        """Says how far the runs are."""

    def more(self) -> None:
        """Adds tasks to `waiting` that were not known before, where there are such."""

    def run(self) -> bool:
        """Runs them all, or until Ctrl-C, which saves; False if it was stopped."""
        with InterruptFlag() as flag:
            try:
                self.more()
                while self.running or (self.waiting and not flag.raised):
                    if flag.raised and not self.is_stopping:
                        self.is_stopping = True
                        self._interrupt()
                    if not flag.raised:
                        self._begin_what_fits()
                    time.sleep(POLL)
                    self._collect()
                    if not flag.raised:
                        self.more()
                    if time.monotonic() - self.told > TOLD:
                        self._tell()
            finally:
                self._end()
        return not flag.raised

    def _begin_what_fits(self) -> None:
        """Starts what there is room for, in order; those that fit may overtake."""
        for task in list(self.waiting):
            if self._is_in_use(task):
                continue
            taken = self.slots.take(task.needs)
            if taken is None:
                continue
            self.waiting.remove(task)
            words = self.words(task)
            if words is None:
                self.slots.give(taken)
                continue
            task.log.parent.mkdir(parents=True, exist_ok=True)
            gpus = taken.gpus if self.slots.is_sharing_gpus else None
            self.running[task] = self.launch(words, task.log, task.needs, gpus), taken
            self._tell()

    def _is_in_use(self, task: Kind) -> bool:
        """True as long as another process writes to a run, such as one that our predecessor
        started and that saves."""
        if not (task.path / "config.json").exists():
            return False
        try:
            with RunFolder(task.path).locked():
                return False
        except InUseError:
            if task.path not in self._in_use:
                self._in_use.add(task.path)
                self.reporter.say(f"{task}: another process writes to it, which is waited for")
            return True

    def _collect(self) -> None:
        for task, (process, taken) in list(self.running.items()):
            code = process.poll()
            if code is not None:
                del self.running[task]
                self.slots.give(taken)
                if not (self.is_stopping and code == INTERRUPTED):
                    self.ended(task, code)

    def _interrupt(self) -> None:
        for process, _ in self.running.values():
            process.interrupt()

    def _end(self) -> None:
        """Ends the processes that are left, if this one is told to end at once."""
        self._interrupt()
        end = time.monotonic() + PATIENCE
        for process, _ in self.running.values():
            while process.poll() is None and time.monotonic() < end:
                time.sleep(POLL)
            if process.poll() is None:
                process.kill()
        self.running.clear()

    def _tell(self) -> None:
        self.told = time.monotonic()
        self.tell()


def why(log: Path, code: int) -> str:
    """A sentence on why a command failed."""
    if said := sentence_in(log):
        return said
    if code < 0:
        name = signal.Signals(-code).name
        return f"it was ended by {name}{', perhaps for want of memory' * (code == -9)}, see {log}"
    return f"it ended with exit code {code}, see {log}"


def sentence_in(log: Path) -> str:
    """The sentence on why a command failed, in the log of its process; "" if there is none."""
    if not log.exists():
        return ""
    with reading(log) as file:
        file.seek(max(0, os.fstat(file.fileno()).st_size - LAST))
        return sentence_of(file.read().decode(errors="replace"))


def sentence_of(said: str) -> str:
    """The sentence on what is wrong, in all that a command said; "" if there is none.

    What is wrong with options is said in a box.
    """
    lines = said.splitlines()
    found = [line.removeprefix(PROGRAM) for line in lines if line.startswith(PROGRAM)]
    if any(BOXED in line for line in lines):
        title, *words = [line.strip(BORDERS) for line in lines if line.strip(f"{BORDERS}-")]
        text = " ".join(words if words[0].startswith(title) else [title, *words])
        wrong, _, near = text.partition(GUESSES)
        found.append(f"{wrong}; did you mean {near.split()[0]}?" if near else text)
    return found[-1] if found and found[-1] != STOPPED else ""


def clock(seconds: float) -> str:
    """
    >>> clock(40), clock(7_500)
    ('1 min', '2 h 05 min')
    """
    hours, minutes = divmod(max(1, round(seconds / 60)), 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min"
