"""Many visitors at once: latency from key to frame, and memory.

    worldmodel bench visitors RUN --visitors 20      about a minute; let nothing else run

A server in a process of its own, and visitors who press keys at a steady rate, without waiting
for frames. At the end each game is compared with one that was played alone: games do not affect
each other.
"""

import asyncio
import json
import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack, contextmanager, suppress
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, cast
from urllib.parse import urlsplit

import numpy as np
import torch
from rich.table import Table
from websockets.asyncio.client import connect

from worldmodel.experiments.bench.settings import VisitorsSettings
from worldmodel.experiments.bench.table import table
from worldmodel.experiments.runs.processor import resident
from worldmodel.experiments.runs.registry import offered
from worldmodel.experiments.show.config import PlayConfig
from worldmodel.experiments.show.play import browser
from worldmodel.experiments.show.play.game import snapshots, text
from worldmodel.experiments.show.play.player import Playable, new_player
from worldmodel.progress import Reporter
from worldmodel.run_folder import RunError, RunFolder

PATIENCE = 60.0  # seconds, for a frame


def run(settings: VisitorsSettings, reporter: Reporter) -> dict[str, Any]:
    """Lets visitors play a run's game at once, then replays each of their games alone."""
    path, visitors, rate = settings.path, settings.visitors, settings.rate
    count = max(1, round(settings.seconds * rate))  # keys of each visitor
    config = PlayConfig(view="browser", port=0, visitors=visitors)
    torch.set_num_threads(1)
    parts = playable(path)
    memory: list[float] = []
    spent: list[float] = []
    with served(path, config) as (address, process):
        reporter.say(f"{visitors} visitors play for {settings.seconds:g} s")

        def note() -> None:
            memory.append(sum(map(resident, family(process))) / 1e6)
            spent.append(sum(map(processor_seconds, family(process))))

        visited = asyncio.run(_play(address, visitors, count, rate, note))
    reporter.say("each game is played again, alone")
    alone = sum(is_as_alone(parts, config, visitor) for visitor in visited)
    latencies = 1e3 * np.concatenate([visitor.latencies for visitor in visited])
    frames = sum(visitor.frames for visitor in visited)
    return {
        "visitors": visitors,
        "seconds": settings.seconds,
        "keys_per_second": rate,
        "keys": len(latencies),
        "slowest_frames_per_second": min(visitor.frames / visitor.seconds for visitor in visited),
        "latency_p50_ms": float(np.quantile(latencies, 0.5)),
        "latency_p99_ms": float(np.quantile(latencies, 0.99)),
        "latency_max_ms": float(latencies.max()),
        "resident_megabytes_begun": memory[0],
        "resident_megabytes_ended": memory[1],
        "server_processor_ms_per_frame": 1e3 * (spent[1] - spent[0]) / frames,
        "games_as_if_alone": alone,
    }


def playable(path: Path) -> Playable:
    """The worlds of a run."""
    folder = RunFolder.open(path)
    return offered(folder, "playable", "bench visitors")(folder)


# The server.


@contextmanager
def served(path: Path, config: PlayConfig) -> Iterator[tuple[str, int]]:
    """The address of a run's games, and the id of the process that serves them."""
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=_serve, args=(path, config, there))
    process.start()
    there.close()
    try:
        yield here.recv(), process.pid or 0
    except EOFError as error:
        raise RunError("the server has not begun; it says why above") from error
    finally:
        if process.pid is not None and process.is_alive():
            os.kill(process.pid, signal.SIGINT)
        process.join()


def _serve(path: Path, config: PlayConfig, there: Connection) -> None:
    torch.set_num_threads(1)
    with suppress(KeyboardInterrupt):
        browser.serve(playable(path), config, path.name, there.send)


def family(process: int) -> list[int]:
    """A process and all its descendants."""
    listed = Path(f"/proc/{process}/task/{process}/children").read_text().split()
    return [process, *(member for child in map(int, listed) for member in family(child))]


def processor_seconds(process: int) -> float:
    """CPU seconds of a process."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


# The visitors.


class Visitor:
    """Presses keys and receives frames as the page does."""

    def __init__(self, socket: Any, number: int):
        self.socket, self.number = socket, number
        self.actions: list[str] = []
        self.keys: list[str] = []
        self.pressed: list[float] = []  # times, seconds
        self.latencies: list[float] = []  # seconds from each key to the frame that shows its row
        self.seen: dict[int, Any] = {}  # worlds, by the number of rows so far
        self.frames = 0
        self.seconds = 0.0  # of play

    async def arrive(self) -> None:
        """Waits until the game has begun."""
        hello = json.loads(await self.socket.recv())
        if hello["type"] != "hello":
            raise RunError(f"a visitor was not let in: {hello['text']}")
        self.actions = [key for key, _ in hello["actions"]]
        await self._frame()

    async def play(self, count: int, rate: float) -> None:
        """Presses that many keys and waits for the answer to the last one."""
        random = np.random.default_rng(self.number)
        self.keys = random.choice(self.actions, count).tolist()
        begun = time.perf_counter()
        self.frames = 0
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._press(begun + random.uniform(0, 1 / rate), rate))
            while len(self.latencies) < count:
                async with asyncio.timeout(PATIENCE):
                    await self._frame()
        self.seconds = time.perf_counter() - begun

    async def _press(self, begin: float, rate: float) -> None:
        for number, key in enumerate(self.keys):
            await asyncio.sleep(max(0.0, begin + number / rate - time.perf_counter()))
            self.pressed.append(time.perf_counter())
            await self.socket.send(json.dumps({"type": "press", "key": key}))
            await self.socket.send(json.dumps({"type": "release", "key": key}))

    async def _frame(self) -> None:
        message: str | bytes = b""
        while isinstance(message, bytes):  # pictures
            message = await self.socket.recv()
        config = json.loads(message)
        if config["type"] != "state":
            raise RunError(f"a game has ended: {config['text']}")
        await self.socket.send(json.dumps({"type": "got", "number": config["number"]}))
        now, row = time.perf_counter(), config["happened"]
        self.frames += 1
        self.seen[row] = config["worlds"]
        self.latencies += [
            now - pressed for pressed in self.pressed[len(self.latencies) : row - 1]
        ]


async def _play(
    address: str, visitors: int, count: int, rate: float, note: Callable[[], None]
) -> list[Visitor]:
    """Runs all visitors at once; note: called when all are connected, and when all are done."""
    parts = urlsplit(address)
    where, origin = f"ws://{parts.netloc}/play?{parts.query}", f"http://{parts.netloc}"
    async with AsyncExitStack() as stack:
        playing = []
        for number in range(visitors):
            connection = connect(where, origin=cast(Any, origin), compression=None)
            playing.append(Visitor(await stack.enter_async_context(connection), number))
            await playing[-1].arrive()
        note()
        await asyncio.gather(*(visitor.play(count, rate) for visitor in playing))
        note()
    return playing


def is_as_alone(parts: Playable, config: PlayConfig, visitor: Visitor) -> bool:
    """True if a visitor received the same worlds as a player who plays the same keys alone."""
    player = new_player(parts, config, config.seed + visitor.number)
    agrees = True
    for row, key in enumerate(["", *visitor.keys], 1):
        if key:
            player.press(key)
            player.release(key)
        if row in visitor.seen:
            agrees &= json.loads(text(snapshots(player))) == visitor.seen[row]
    player.close()
    return agrees


def tables(result: dict[str, Any]) -> list[Table]:
    """The table of `bench visitors`."""
    figures = (
        ("keys", f"{result['keys']:,}"),
        ("frames a second, of the slowest", f"{result['slowest_frames_per_second']:.2f}"),
        ("ms from key to frame, half", f"{result['latency_p50_ms']:.0f}"),
        ("99 of 100", f"{result['latency_p99_ms']:.0f}"),
        ("all", f"{result['latency_max_ms']:.0f}"),
        ("the server's CPU ms a frame", f"{result['server_processor_ms_per_frame']:.1f}"),
        ("resident MB, begun", f"{result['resident_megabytes_begun']:.0f}"),
        ("ended", f"{result['resident_megabytes_ended']:.0f}"),
        ("games as if played alone", f"{result['games_as_if_alone']} of {result['visitors']}"),
    )
    title = f"{result['visitors']} visitors, {result['keys_per_second']:g} keys a second each"
    return [table(title, ("", ""), figures)]
