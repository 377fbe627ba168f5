"""Readers in a process of their own, with limits of processor time and memory.

Libraries of others read more formats than we could, but a damaged file may hang them, crash them,
or make them ask for all memory there is. In a process of its own, none of this is more than one
bad file. The process waits a while for the next file, since to start one takes a part of a second.
"""

import atexit
import os
import resource
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import suppress
from multiprocessing.connection import Connection, Pipe
from pathlib import Path
from typing import Any

from worldmodel.experiments.data.readers.files import BadFileError, reason_of

SECONDS = 10.0  # of the processor, from one item to the next
MEMORY = 2**31  # bytes of addresses, those of the libraries included
PATIENCE = 60.0  # seconds that a process waits for the next file
PROGRAM = """
import sys
from multiprocessing.connection import Connection
pipe = Connection(int(sys.argv[1]))
sys.path[:], memory = pipe.recv()
from worldmodel.experiments.data.readers.confined import serve
serve(pipe, memory)
"""


def confined(read: Callable[..., Iterator[Any]], path: Path, *arguments: Any) -> Iterator[Any]:
    """The items of `read(path, *arguments)`, a generator of a module, from another process.

    Raises BadFileError: the reader's own, and for whatever else happens to it, which is another
    exception, a crash, more than `SECONDS` of work for an item, or more than `MEMORY`.
    """
    helper = _helper()
    try:
        helper.pipe.send((SECONDS, read, path, arguments))
        while isinstance(answer := helper.pipe.recv(), tuple):
            yield answer[0]
    except (EOFError, ConnectionError) as error:
        reason = helper.cause_of_death()
        raise BadFileError(f"{path} cannot be read: {reason}; leave it out") from error
    except BaseException:  # GeneratorExit above all: nobody wants the rest
        helper.kill()
        raise
    helper.since = time.monotonic()
    _idle.append(helper)
    if answer is not None:
        raise BadFileError(answer)


class _Helper:
    """A process that reads one file after another, and the pipe to it."""

    since: float  # the time at which it began to wait for the next

    def __init__(self) -> None:
        self.pipe, there = Pipe()
        with there:
            self.process = subprocess.Popen(
                [sys.executable, "-I", "-c", PROGRAM, str(there.fileno())],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                env=os.environ | {"OPENBLAS_NUM_THREADS": "1"},  # each would take addresses
                pass_fds=[there.fileno()],
            )
        self.pipe.send((sys.path, MEMORY))

    def kill(self) -> None:
        self.pipe.close()
        self.process.kill()
        self.process.wait()

    def cause_of_death(self) -> str:
        self.pipe.close()
        code = self.process.wait()
        if code == -signal.SIGPROF:
            return f"that takes more than {SECONDS:g} seconds"
        return f"its reader ended with {signal.Signals(-code).name if code < 0 else code}"


_idle: list[_Helper] = []


def _helper() -> _Helper:
    """A process that waits, and will for long enough, or a new one."""
    while _idle:
        helper = _idle.pop()
        if time.monotonic() - helper.since < PATIENCE / 2:
            return helper
        helper.kill()
    return _Helper()


@atexit.register
def _end_idle() -> None:
    while _idle:
        _idle.pop().kill()


def serve(pipe: Connection, memory: int) -> None:
    """Reads for `confined`, whose process is at the other end of the pipe, until that ends."""
    resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the other one
    warnings.simplefilter("ignore")
    with suppress(EOFError, ConnectionError):
        while pipe.poll(PATIENCE):
            seconds, read, path, arguments = pipe.recv()
            pipe.send(_send(pipe, seconds, read(path, *arguments), path))


def _send(pipe: Connection, seconds: float, items: Iterator[Any], path: Path) -> str | None:
    """Sends items, each as a tuple; returns a sentence about what is wrong with the file."""
    try:
        while True:
            signal.setitimer(signal.ITIMER_PROF, seconds)  # ends this process
            pipe.send((next(items),))
    except StopIteration:
        return None
    except BadFileError as error:
        return str(error)
    except ConnectionError:
        raise
    except Exception as error:
        return f"{path} cannot be read: {reason_of(error)}; copy it again, or leave it out"
