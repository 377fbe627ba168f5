"""Where games are played: in a thread of this process, or in a few processes of their own.

Players swap torch's global generator in and out, so that within a process only one of them may
move at a time: each worker does one job after another.
"""

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from functools import partial
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any, TypeVar

import torch

from worldmodel.experiments.show.config import PlayConfig
from worldmodel.experiments.show.play.game import Game, Input, Reply
from worldmodel.experiments.show.play.player import Playable, new_player

ENOUGH = 8  # visitors that one process serves; more are dealt out to as many as there are cores
MOST = 4  # processes

Result = TypeVar("Result")


class Table:
    """The games of one worker, by the numbers of their visitors."""

    def __init__(self, parts: Playable, config: PlayConfig):
        self.parts, self.config = parts, config
        self.games: dict[int, Game] = {}

    def begin(self, number: int, folder: Path) -> str:
        """A new game; what it says of itself."""
        game = Game(self.parts, self.config, self.config.seed + number, folder)
        self.games[number] = game
        return game.hello()

    def play(self, number: int, given: list[Input], tick: bool, wanted: bool) -> Reply:
        return self.games[number].play(given, tick, wanted)

    def end(self, number: int) -> None:
        if number in self.games:
            self.games.pop(number).close()


class Worker:
    """Does jobs at a table, one after another."""

    def __init__(self, parts: Playable, config: PlayConfig, apart: bool):
        """apart: in a process of its own."""
        self.visitors: set[int] = set()
        self.table = None if apart else Table(parts, config)
        self._executor: Executor
        if apart:
            context = multiprocessing.get_context("spawn")
            told_to = (parts, config)
            self._executor = ProcessPoolExecutor(1, context, _init_worker, told_to)
        else:
            self._executor = ThreadPoolExecutor(1)
        self.started = self._executor.submit(os.getpid)

    def submit(self, verb: str, number: int, *arguments: Any) -> Any:
        """A future of what the table's `verb` gives."""
        if self.table is not None:
            return self._executor.submit(getattr(self.table, verb), number, *arguments)
        return self._executor.submit(_call, verb, number, *arguments)

    def shut_down(self) -> None:
        """Ends all of its games; does not wait for it."""
        with suppress(BrokenProcessPool):
            for number in list(self.visitors):
                self.submit("end", number)
        self._executor.shutdown(wait=False)

    def close(self) -> None:
        """Waits until all have ended."""
        self._executor.shutdown()


class Workers:
    """Deals games out to workers."""

    def __init__(self, parts: Playable, config: PlayConfig):
        count = min(os.cpu_count() or 1, MOST) if config.visitors > ENOUGH else 1
        self.make: Callable[[], Worker] = partial(Worker, parts, config, apart=count > 1)
        self.all = [self.make() for _ in range(count)]

    def wait(self) -> None:
        """Until all are there."""
        for worker in self.all:
            worker.started.result()

    def choose(self, number: int) -> Worker:
        """The one with the fewest games takes another."""
        chosen = min(self.all, key=lambda worker: len(worker.visitors))
        chosen.visitors.add(number)
        return chosen

    def replace(self, broken: Worker) -> None:
        """A process has died, with all of its games; another one takes its place."""
        if broken in self.all:
            self.all[self.all.index(broken)] = self.make()

    def close(self) -> None:
        for worker in self.all:
            worker.shut_down()
        for worker in self.all:
            worker.close()


# In a process of its own.

_table: Table | None = None


def _init_worker(parts: Playable, config: PlayConfig) -> None:
    global _table
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the one who started it
    torch.set_num_threads(1)
    threading.Thread(target=_leave_with_parent, daemon=True).start()
    new_player(parts, config, config.seed).close()  # the first one takes longer than others
    _table = Table(parts, config)


def _leave_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)


def _call(verb: str, number: int, *arguments: Any) -> Any:
    return getattr(_table, verb)(number, *arguments)
