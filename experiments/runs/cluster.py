"""The Ray cluster that a command uses: one that is there, or one of this machine, for it alone."""

import os
import signal
from typing import Any

from worldmodel.run_folder import RunError


def imported(option: str) -> Any:
    """The module `ray`, which an option needs."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # it would report its use to its makers
    try:
        import ray
    except ModuleNotFoundError as error:
        raise RunError(f"{option} needs ray: pip install 'worldmodel-gym[ray]'") from error
    return ray


def connected(address: str | None, option: str = "--ray") -> Any:
    """The module `ray`, connected to the cluster at an address, such as auto; None: to that of the
    variable RAY_ADDRESS, or to one that is started on this machine, until the process ends."""
    ray = imported(option)
    if ray.is_initialized():
        return ray
    before = signal.getsignal(signal.SIGTERM)
    place = address or os.environ.get("RAY_ADDRESS") or "local"  # never one that Ray guesses
    started: dict[str, Any] = {"include_dashboard": False} if place == "local" else {}
    try:
        ray.init(address=place, log_to_driver=False, logging_level="ERROR", **started)
    except (ConnectionError, ValueError, RuntimeError) as error:
        reason = (str(error).splitlines() or [""])[0]
        raise RunError(
            f"{option}: no cluster answers at {place}: {reason}; start one by "
            "`ray start --head`, or give its address as HOST:PORT"
        ) from error
    finally:
        signal.signal(signal.SIGTERM, before)  # Ray would end the process without saving
    return ray
