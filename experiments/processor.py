"""What a program tells the processor before it computes."""

import ctypes
from typing import Literal

import torch

Products = Literal["exact", "fast"]

KEPT = 2**25  # bytes; glibc takes no larger threshold
M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_THRESHOLD = -1, -2, -3  # of glibc's malloc.h


def keep_memory() -> None:
    """Lets freed memory be used again instead of giving it back to the system.

    glibc asks the system for each array of more than 128 kB anew, and the system clears it page
    by page: of a dream of 1,024 games that is a quarter of the time. Elsewhere nothing happens.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError):
        return
    for setting, value in ((M_MMAP_THRESHOLD, KEPT), (M_TRIM_THRESHOLD, 2**31 - 1)):
        mallopt(setting, value)
