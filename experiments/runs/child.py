"""A command of `worldmodel` that ends with the process that started it.

    python -m worldmodel.experiments.runs.child DESCRIPTOR WORD...

The descriptor is the reading end of a pipe whose writing end the parent alone has: it closes when
the parent ends, by whatever signal, and then the command is told to save and to end.
"""

import os
import signal
import sys
import threading
import time

from worldmodel.__main__ import main

SECONDS = 60.0  # in which it saves


def end_with(parent: int) -> None:
    """Ends this process after the one that has the other end of a pipe."""
    os.set_inheritable(parent, False)
    threading.Thread(target=_wait, args=[parent], daemon=True).start()


def _wait(parent: int) -> None:
    os.read(parent, 1)
    os.kill(os.getpid(), signal.SIGTERM)  # which saves, as Ctrl-C does
    time.sleep(SECONDS)
    os._exit(128 + signal.SIGTERM)


if __name__ == "__main__":
    end_with(int(sys.argv.pop(1)))
    main()
