"""Workers that run games: a thread of this process, or a few processes.

Players swap torch's global generator in and out, so that within a process only one of them may
move at a time: each worker runs one call after another.
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
from worldmodel.run_folder import RunError

ENOUGH = 8  # visitors that one process serves; more are distributed over one process a core
MOST = 4  # processes

Result = TypeVar("Result")


class GameRegistry:
    """The games of one worker, by the numbers of their visitors."""

    def __init__(self, parts: Playable, config: PlayConfig):
        self.parts, self.config = parts, config
        self.games: dict[int, Game] = {}

    def begin(self, number: int, folder: Path) -> str:
        """Begins a game; returns its `hello`."""
        game = Game(self.parts, self.config, self.config.seed + number, folder)
        self.games[number] = game
        return game.hello()

    def play(self, number: int, given: list[Input], tick: bool, wanted: bool) -> Reply:
        return self.games[number].play(given, tick, wanted)

    def end(self, number: int) -> None:
        if number in self.games:
            self.games.pop(number).close()


class Worker:
    """Calls methods of a game registry, one after another."""

    def __init__(self, parts: Playable, config: PlayConfig, apart: bool):
        """apart: runs in a process of its own."""
        self.visitors: set[int] = set()
        self.registry = None if apart else GameRegistry(parts, config)
        self._executor: Executor
        if apart:
            self._executor = _process(parts, config)
        else:
            self._executor = ThreadPoolExecutor(1)
        self.started = self._executor.submit(os.getpid)

    def submit(self, verb: str, number: int, *arguments: Any) -> Any:
        """A future of the registry's method `verb`."""
        if self.registry is not None:
            return self._executor.submit(getattr(self.registry, verb), number, *arguments)
        return self._executor.submit(_call, verb, number, *arguments)

    def shut_down(self) -> None:
        """Ends all games of the worker, without waiting."""
        with suppress(BrokenProcessPool):
            for number in list(self.visitors):
                self.submit("end", number)
        self._executor.shutdown(wait=False)

    def close(self) -> None:
        """Waits until all calls have ended."""
        self._executor.shutdown()


class Workers:
    """Distributes games over workers."""

    def __init__(self, parts: Playable, config: PlayConfig):
        count = min(os.cpu_count() or 1, MOST) if config.visitors > ENOUGH else 1
        self.make: Callable[[], Worker] = partial(Worker, parts, config, apart=count > 1)
        self.all = [self.make() for _ in range(count)]

    def wait(self) -> None:
        """Waits until all workers have started."""
        for worker in self.all:
            worker.started.result()

    def choose(self, number: int) -> Worker:
        """Assigns a visitor to the worker with the fewest games."""
        chosen = min(self.all, key=lambda worker: len(worker.visitors))
        chosen.visitors.add(number)
        return chosen

    def replace(self, broken: Worker) -> None:
        """Replaces a worker whose process has died, with all its games."""
        if broken in self.all:
            self.all[self.all.index(broken)] = self.make()

    def close(self) -> None:
        for worker in self.all:
            worker.shut_down()
        for worker in self.all:
            worker.close()


# In a process of its own.


def _process(parts: Playable, config: PlayConfig) -> Executor:
    context = multiprocessing.get_context("spawn")
    try:
        return ProcessPoolExecutor(1, context, _init_worker, (parts, config))
    except OSError as error:
        raise RunError(
            f"more than {ENOUGH} visitors are served by processes, which need shared memory "
            f"(/dev/shm), and there is none ({error}): choose --visitors {ENOUGH}"
        ) from error


_registry: GameRegistry | None = None


def _init_worker(parts: Playable, config: PlayConfig) -> None:
    global _registry
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent handles Ctrl-C
    torch.set_num_threads(1)
    threading.Thread(target=_leave_with_parent, daemon=True).start()
    new_player(parts, config, config.seed).close()  # warm-up: the first one takes longer
    _registry = GameRegistry(parts, config)


def _leave_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)


def _call(verb: str, number: int, *arguments: Any) -> Any:
    return getattr(_registry, verb)(number, *arguments)
