"""Process-level settings: glibc's allocator, matmul precision, resident memory."""

import ctypes
import gc
import os
import statistics
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Literal, get_args

Products = Literal["exact", "fast"]
PRODUCTS: tuple[Products, ...] = get_args(Products)

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # from glibc's malloc.h
NEVER = 2**31 - 1  # bytes
TRIES = 5  # of some threads and of one, in alternation
FAR_TOO_MANY = 2.0  # times as long as one thread takes


def keep_memory() -> None:
    """Reuses freed memory instead of returning it to the system.

    glibc asks the system for each large array anew, and the system clears it page by page: in a
    dream of 1,024 games that takes as long as all matrix products. No effect without glibc.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError):
        return
    mallopt(M_MMAP_MAX, 0)
    mallopt(M_TRIM_THRESHOLD, NEVER)


def release_memory() -> None:
    """Returns all freed memory, so that a measurement does not begin with a fragmented heap."""
    gc.collect()
    try:
        ctypes.CDLL(None).malloc_trim(0)
    except (AttributeError, OSError):
        return


def products(kind: Products) -> AbstractContextManager[None]:
    """Matrix products of float32 inside: `exact` by PyTorch's default library, or `fast` (see
    `worldmodel.trainer.using_matmul_precision`)."""
    from worldmodel.trainer import using_matmul_precision  # imports PyTorch

    return using_matmul_precision("medium" if kind == "fast" else "highest")


def paying_threads(wished: int, say: Callable[[str], None]) -> int:
    """The wished number of threads, or one where so many take more than twice as long, as they do
    beside other work that has the cores: products such as networks are made of are timed with
    both, for about a second."""
    if wished == 1:
        return 1
    by_threads: dict[int, list[float]] = {wished: [], 1: []}
    for _ in range(TRIES):
        for threads, taken in by_threads.items():
            taken.append(_seconds_with(threads))
    ratio = statistics.median(by_threads[wished]) / statistics.median(by_threads[1])
    if ratio <= FAR_TOO_MANY:
        return wished
    say(
        f"{wished} threads take {ratio:.1f} times as long as one on this machine, whose cores are "
        "busy or fewer: one is used, and saved with the run"
    )
    return 1


def _seconds_with(threads: int) -> float:
    """The time of a small network's products and gradients with so many threads."""
    import torch

    x, weight = torch.ones(1024, 256), torch.ones(256, 256, requires_grad=True)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        begun = time.perf_counter()
        for _ in range(10):
            (x @ weight).sigmoid().sum().backward()
        return time.perf_counter() - begun
    finally:
        torch.set_num_threads(before)


def resident(process: int | None = None) -> int:
    """Resident memory of a process, this one by default, bytes."""
    number = os.getpid() if process is None else process
    lines = Path(f"/proc/{number}/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("VmRSS"))
