"""Ranks on this machine, for tests: forks that learn together, as torchrun starts processes."""

import os
import socket
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch
from campaigns.processes import Ended, Process

from worldmodel import ranks

HANGS = 300.0  # seconds, on a machine that does other work besides


def started(size: int, work: Callable[[], Any], restarts: int = 0) -> list[Process]:
    """Forks that do the same work, with the variables that torchrun sets."""
    variables = {
        "WORLD_SIZE": str(size),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(_free_port()),
        "TORCHELASTIC_RESTART_COUNT": str(restarts),
    }

    def of_rank(rank: int) -> Callable[[], Any]:
        def working() -> None:
            os.environ |= variables | {"RANK": str(rank), "LOCAL_RANK": str(rank)}
            work()

        return working

    return [Process(of_rank(rank)) for rank in range(size)]


def ended(processes: list[Process]) -> list[Ended]:
    """How ranks ended."""
    with ExitStack() as held:
        for process in processes:
            held.enter_context(process)
        return [process.wait(HANGS) for process in processes]


def together(size: int, work: Callable[[], Any]) -> list[Any]:
    """The results of ranks that do the same work and end well: tensors and plain values."""
    with tempfile.TemporaryDirectory() as place:

        def joined() -> None:
            with ranks.joined():
                torch.save(work(), Path(place) / str(ranks.rank()))

        for end in ended(started(size, joined)):
            assert end.code == 0, end
        return [torch.load(Path(place) / str(rank)) for rank in range(size)]


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])
