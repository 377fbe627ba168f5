"""Process-level settings: glibc's allocator, matmul precision, resident memory."""

import ctypes
import gc
import os
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Literal, get_args

Products = Literal["exact", "fast"]
PRODUCTS: tuple[Products, ...] = get_args(Products)

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # from glibc's malloc.h
NEVER = 2**31 - 1  # bytes


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


def resident(process: int | None = None) -> int:
    """Resident memory of a process, this one by default, bytes."""
    number = os.getpid() if process is None else process
    lines = Path(f"/proc/{number}/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("VmRSS"))
