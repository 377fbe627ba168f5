"""The time that goes into reading and waiting, wherever a program does so."""

import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager

READING, RANKS, COLLECTORS = "reading", "waiting for other ranks", "waiting for collectors"

seconds: defaultdict[str, float] = defaultdict(float)
"""Seconds of this process so far, by what they went into."""


@contextmanager
def spent(what: str) -> Iterator[None]:
    """Context manager whose time is added to `seconds`."""
    begun = time.monotonic()
    try:
        yield
    finally:
        seconds[what] += time.monotonic() - begun
