"""Crowds at the player's web server: connections that say nothing, visitors who come and go.

First, so many connections that the server's process may not have more: who has the address is
served a first frame at once. Then `SEATS` visitors who play, fork, record, leave, vanish and come
again: each finds a seat and the game that it would have had alone, and memory does not grow.
A case is a visit; `CASES` are half an hour of them.
"""

import os
import random
import resource
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from multiprocessing import get_context
from pathlib import Path
from queue import Empty, SimpleQueue
from statistics import median
from typing import Any, NamedTuple, TextIO
from urllib.parse import urlsplit

import torch
from faces import toy_run
from visitors import Visitor

from campaigns.processes import Ended, Process
from campaigns.tally import Tally
from worldmodel.experiments.bench.visitors import family, processor_seconds
from worldmodel.experiments.runs.processor import resident
from worldmodel.experiments.show.config import PlayConfig
from worldmodel.experiments.show.play import browser
from worldmodel.experiments.show.play.game import snapshots
from worldmodel.experiments.show.play.player import Playable, Player

SEATS = 20
VISIT = 6.0  # seconds
CASES = SEATS * 30 * 60 // 6
KEYS = [
    "right",
    "up",
    "v",
    "left",
    "down",
    "space",
    "3",
    "1",
    "y",
    "right",
    "f",
    "up",
    "b",
    "down",
]
COMPARED = 400  # games that are played again, alone
FILES = 128  # that the server's process may have open
IDLE = 400  # connections
BARRAGES = 5  # of as many connections, of each kind
FIRST_FRAME = 1.0  # seconds
GROWTH = 0.05  # of memory, after the warm-up of a long campaign
WARM_UP = 0.2  # of all visits
LONG = 600.0  # seconds; memory of a shorter campaign is still warming up


class At(NamedTuple):
    """Where a server is, and the ids of its processes."""

    netloc: str
    token: str
    process: int

    def visitor(self) -> Visitor:
        return Visitor(self, self.token)  # type: ignore[arg-type]

    @property
    def family(self) -> list[int]:
        """The server and its workers, without encoders of films."""
        with suppress(OSError):
            return [process for process in family(self.process) if not _is_encoder(process)]
        return []


def run(cases: int, seed: int, place: Path, to: TextIO) -> Iterator[Tally]:
    """Two tallies: of silent connections, a few barrages whatever `cases` is, and of visits."""
    yield silence(BARRAGES if cases >= SEATS else 1, to)
    yield visits(cases, seed, to)


# Connections that say nothing.


def silence(barrages: int, to: TextIO) -> Tally:
    """Opens barrages of connections that send nothing, or a byte a second of a request, and
    measures each time how long a visitor waits for a first frame."""
    tally = Tally("crowds: silence", 2 * barrages, to)
    seconds: dict[str, list[float]] = {"idle": [], "a byte a second": []}
    shares = []  # of a processor, while nobody plays
    with served(toy_run(), PlayConfig(view="browser", port=0), FILES) as (at, end):
        for _ in range(barrages):
            for kind, waits in seconds.items():
                with barrage(at, kind != "idle"):
                    waits.append(first_frame(at))
                    begun, spent = time.monotonic(), processor_seconds(at.process)
                    time.sleep(1.0)
                    waits.append(first_frame(at))
                    used = processor_seconds(at.process) - spent
                    shares.append(used / (time.monotonic() - begun))
                if max(waits[-2:]) > FIRST_FRAME:
                    tally.fault(kind, f"a first frame after {max(waits[-2:]):.1f} s")
                else:
                    tally.right()
        said = end().error
    if "Traceback" in said or said.count("\n") > 3:
        tally.fault("the server", f"says {said[-300:]!r}")
    for kind, waits in seconds.items():
        tally.measured[f"first frame, {kind}, seconds, median"] = median(waits)
        tally.measured[f"first frame, {kind}, seconds, longest"] = max(waits)
    tally.measured["share of a processor, longest"] = max(shares)
    return tally


@contextmanager
def barrage(at: At, speaks: bool) -> Iterator[None]:
    """So many connections; those that speak send a byte of a request each second."""
    host, port = at.netloc.split(":")
    sockets = []
    for _ in range(IDLE):
        sockets.append(socket.socket())
        sockets[-1].setblocking(False)
        sockets[-1].connect_ex((host, int(port)))
    over = threading.Event()

    def speak() -> None:
        for byte in b"GET / HTTP/1.1\r\nHost: " * 99:
            for each in sockets:
                with suppress(OSError):  # it was ended
                    each.send(bytes([byte]))
            if over.wait(1.0):
                return

    thread = threading.Thread(target=speak)
    if speaks:
        thread.start()
    try:
        yield
    finally:
        over.set()
        if speaks:
            thread.join()
        for each in sockets:
            each.close()


def first_frame(at: At) -> float:
    """Seconds until a visitor has one."""
    begun = time.monotonic()
    visitor = at.visitor()
    assert visitor.frame()["type"] == "state"
    waited = time.monotonic() - begun
    visitor.leave()
    return waited


# Visitors who come and go.


class Visit(NamedTuple):
    """A visitor's number, the keys, and what was seen after each of them and before the first."""

    number: int
    keys: list[str]
    seen: list[Any]


class Entrance:
    """Lets visitors in one after another, so that their numbers are known."""

    def __init__(self, at: At):
        self.at = at
        self.came = 0
        self.waits: list[float] = []  # seconds from a refusal to a seat; 0: there was one
        self._lock = threading.Lock()

    def enter(self) -> tuple[Visitor, int, Any]:
        """A visitor, its number, and the first frame."""
        refused = None  # when
        with self._lock:
            while True:
                visitor = self.at.visitor()
                frame, now = visitor.frame(), time.monotonic()
                if frame["type"] == "state":
                    break
                visitor.leave()
                refused = refused or now
                if frame["type"] != "full" or now > refused + 60:
                    raise RuntimeError(f"not let in: {frame}")
                time.sleep(0.02)
            self.waits.append(now - (refused or now))
            self.came += 1
            return visitor, self.came - 1, frame


def visits(cases: int, seed: int, to: TextIO) -> Tally:
    """So many visits, of `SEATS` visitors at once."""
    tally = Tally("crowds: visits", cases, to)
    config = PlayConfig(view="browser", port=0, visitors=SEATS, seed=seed)
    parts = toy_run()
    orders: SimpleQueue[int] = SimpleQueue()
    for case in range(cases):
        orders.put(case)
    done: SimpleQueue[Visit | Exception] = SimpleQueue()
    sizes: list[tuple[int, float]] = []  # visits that are over, and megabytes
    kept: list[Visit] = []
    with served(parts, config) as (at, end):
        entrance = Entrance(at)

        def come_and_go() -> None:
            while True:
                try:
                    case = orders.get_nowait()
                except Empty:
                    return
                try:
                    done.put(visit(entrance, random.Random(f"{seed} {case}"), VISIT))
                except Exception as error:
                    done.put(error)

        threads = [threading.Thread(target=come_and_go) for _ in range(min(SEATS, cases))]
        begun = time.monotonic()
        for thread in threads:
            thread.start()
        for case in range(cases):
            over = done.get()
            sizes.append((case, sum(map(_resident, at.family)) / 1e6))
            if isinstance(over, Exception):
                tally.fault(f"visit {case}", f"{type(over).__name__}: {over}")
            else:
                tally.right()
                if case % max(1, cases // COMPARED) == 0:
                    kept.append(over)
        for thread in threads:
            thread.join()
        took = time.monotonic() - begun
        said = end().error
    if said.strip():
        tally.fault("the server", f"says {said[-300:]!r}")
    torch.set_num_threads(1)
    for each in kept:
        if each.seen != alone(parts, config, each):
            tally.fault(f"game {each.number}", f"another than alone, keys {' '.join(each.keys)}")
    early = [size for case, size in sizes if WARM_UP * cases <= case < (WARM_UP + 0.1) * cases]
    late = [size for case, size in sizes if case >= 0.9 * (cases - 1)]
    tally.measured |= {
        "minutes of play": took / 60,
        "megabytes after the warm-up": median(early or [sizes[0][1]]),
        "megabytes at the end": median(late),
        "visitors who waited for a seat": sum(wait > 0 for wait in entrance.waits),
        "seconds for a seat, longest": max(entrance.waits),
        "games compared": len(kept),
    }
    growth = median(late) / tally.measured["megabytes after the warm-up"] - 1
    tally.measured["growth of memory"] = growth
    if took > LONG and growth > GROWTH:
        tally.fault("memory", f"grew by {growth:.1%}")
    return tally


def visit(entrance: Entrance, draw: random.Random, seconds: float) -> Visit:
    """Plays for a while, then leaves, or vanishes."""
    visitor, number, frame = entrance.enter()
    keys, seen = [], [[frame["worlds"], ""]]
    begin = draw.randrange(len(KEYS))
    for turn in range(draw.randint(4, 20)):
        keys.append(KEYS[(begin + turn) % len(KEYS)])
        frame = visitor.press(keys[-1])
        if frame["type"] != "state":
            raise RuntimeError(f"thrown out after {' '.join(keys)}: {frame}")
        seen.append([frame["worlds"], frame["action"]])
        time.sleep(draw.uniform(0, 2 * seconds / 12))
    draw.choice([visitor.leave, visitor.vanish])()
    return Visit(number, keys, seen)


def alone(parts: Playable, config: PlayConfig, visit: Visit) -> list[Any]:
    """What a visitor is to see who plays these keys."""
    player = Player(parts, "both", config.seed + visit.number)
    seen = [[snapshots(player), ""]]
    for key in visit.keys:
        if key != "v":
            player.press(key)
        seen.append([snapshots(player), player.moment.action])
    player.close()
    return seen


# The server.


@contextmanager
def served(
    parts: Playable, config: PlayConfig, files: int | None = None
) -> Iterator[tuple[At, Callable[[], Ended]]]:
    """A server in a process, and how to end it as Ctrl-C does. files: that it may have open,
    besides those of the process that starts it."""
    here, there = get_context("fork").Pipe()

    def serve() -> None:
        if files is not None:
            most = files + len(os.listdir("/proc/self/fd"))
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
        with suppress(KeyboardInterrupt):
            browser.serve(parts, config, "a run", lambda it: there.send((it, os.getpid())))

    with Process(serve) as process:
        assert here.poll(120), process.wait(0)
        address, number = here.recv()
        parsed = urlsplit(address)
        token = parsed.query.removeprefix("token=")

        def end() -> Ended:
            process.send(signal.SIGINT)
            return process.wait(60)

        yield At(parsed.netloc, token, number), end


def _resident(process: int) -> float:
    with suppress(OSError, ValueError, IndexError):  # it has ended
        return resident(process)
    return 0.0


def _is_encoder(process: int) -> bool:
    return "ffmpeg" in Path(f"/proc/{process}/comm").read_text()
