"""One measurement of one package, in a process of its own: prints a line of JSON.

    PYTHON running.py DRIVER JOB

DRIVER is a module beside this one, and JOB an object of JSON: the sizes (see `rivals.job`), the
threads, and the seconds that each call is repeated for. A driver has a function `build(job,
facts)`. It notes the version and the parameters of the world model in `facts`, which are printed,
and returns calls by the name of their figure, each with its number of units (updates, or steps):
the figure is units a second, in the fastest call by either kind of matrix products
(`torch.set_float32_matmul_precision`).

Nothing of this project is imported here or by the drivers of others, whose interpreters lack it;
and they import their package in `build`, so that they can be read where it is missing.
"""

import json
import runpy
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

PRECISIONS = ("highest", "medium")
LEAST_CALLS = 3


def main(driver: str, words: str) -> None:
    """Prints the figures of a driver, or the error that was met."""
    facts: dict[str, Any] = {}
    printed, sys.stdout = sys.stdout, sys.stderr  # where packages may say what they like
    try:
        facts["figures"] = figures(driver, json.loads(words), facts)
    except Exception as error:
        facts["error"] = f"{type(error).__name__}: {error}"
    print(json.dumps(facts), file=printed)


def figures(driver: str, job: dict[str, Any], facts: dict[str, Any]) -> dict[str, float]:
    """The figures of all calls of a driver, units a second; fills the facts."""
    import torch

    torch.set_num_threads(job["threads"])
    torch.manual_seed(0)
    build = runpy.run_path(str(Path(__file__).with_name(f"{driver}.py")))["build"]
    rates: dict[str, float] = {}
    for name, (call, units) in build(job, facts).items():
        for precision in PRECISIONS:
            torch.set_float32_matmul_precision(precision)
            rates[name] = max(units / seconds(call, job["least"]), rates.get(name, 0.0))
    return rates


def seconds(call: Callable[[], Any], least: float) -> float:
    """The shortest time of a call in seconds: after a warm-up call, at least `LEAST_CALLS` calls
    and `least` seconds."""
    call()
    taken: list[float] = []
    while sum(taken) < least or len(taken) < LEAST_CALLS:
        begun = time.perf_counter()
        call()
        taken.append(time.perf_counter() - begun)
    return min(taken)


if __name__ == "__main__":
    main(*sys.argv[1:])
