"""Ranks for tests: processes on this machine that run one function together."""

import os
import socket
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import multiprocessing

from worldmodel import ranks


def together(size: int, function: Callable[..., Any], *arguments: Any) -> list[Any]:
    """What a function of a module returns on each of `size` ranks, tensors and plain values."""
    with tempfile.TemporaryDirectory() as place:
        environment = {"WORLD_SIZE": str(size), "MASTER_ADDR": "127.0.0.1"}
        environment["MASTER_PORT"] = str(_free_port())
        started = (environment, Path(place), function, arguments)
        multiprocessing.spawn(_run, started, nprocs=size)  # type: ignore[no-untyped-call]
        return [torch.load(Path(place) / str(rank), weights_only=False) for rank in range(size)]


def _run(
    rank: int,
    environment: dict[str, str],
    place: Path,
    function: Callable[..., Any],
    arguments: tuple[Any, ...],
) -> None:
    torch.set_num_threads(1)
    os.environ |= environment | {"RANK": str(rank), "LOCAL_RANK": str(rank)}
    with ranks.joined():
        torch.save(function(*arguments), place / str(rank))


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])
