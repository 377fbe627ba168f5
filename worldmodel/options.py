"""Options: frozen dataclasses, in groups; their docstrings are the help of the command line.

Nothing here imports torch, so that `worldmodel --help` answers at once.
"""

import difflib
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any, Final, TypeVar

Settings = TypeVar("Settings")
ADVANCED: Final = object()
"""Marks a group of options, `Annotated[LearningConfig, ADVANCED]`, that a command's `--help` only
counts and `--help-all` lists."""
KL_OPTIONS = ("kl_weight", "kl_warmup", "kl_cycle", "kl_delay", "free_nats")


MOST = 2**63  # of an option: PyTorch's numbers and seeds are smaller
MOST_THREADS = 1_024


def positive(settings: object, *names: str) -> None:
    """Refuses options that are zero or less, that are no numbers, or too large to be used."""
    _check(settings, names, lambda value: 0 < value < MOST, "must be positive")


def not_negative(settings: object, *names: str) -> None:
    """Refuses options below zero, that are no numbers, or too large to be used."""
    _check(settings, names, lambda value: 0 <= value < MOST, "must be 0 or more")


def shares(settings: object, *names: str) -> None:
    """Refuses options outside [0, 1]; None is left alone."""
    given = [name for name in names if getattr(settings, name) is not None]
    _check(settings, given, lambda value: 0 <= value <= 1, "is a share between 0 and 1")


def below_one(settings: object, *names: str) -> None:
    """Refuses options outside [0, 1)."""
    _check(settings, names, lambda value: 0 <= value < 1, "must be 0 or more and below 1")


def wished_threads() -> int:
    """The number of threads in the variable OMP_NUM_THREADS; else one, which is as fast as more
    for networks of the usual sizes here."""
    first = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0]
    return int(first) if first.isdecimal() and 1 <= int(first) <= MOST_THREADS else 1


def check_threads(settings: object, name: str = "threads") -> None:
    """Refuses numbers of threads that no processor has: PyTorch dies of them, without a word."""
    words = f"must be between 1 and {MOST_THREADS:,}"
    _check(settings, [name], lambda value: 1 <= value <= MOST_THREADS, words)


@dataclass(frozen=True)
class DeviceConfig:
    """The device of networks and dreams."""

    device: str | None = None
    """auto (a GPU, where PyTorch finds one), cpu, cuda, cuda:1, mps; None: that of the run, which
    is at first the processor. A run opens on machines without its device, too."""

    def __post_init__(self) -> None:
        if self.device is not None and not re.fullmatch(r"[a-z]+(:\d+)?", self.device):
            raise ValueError(f"--device is auto, cpu, cuda, cuda:1, mps or so, got {self.device}")


def _check(
    settings: object, names: Iterable[str], holds: Callable[[Any], bool], words: str
) -> None:
    for name in names:
        value = getattr(settings, name)
        if not holds(value):
            limit = " (and below 2**63)" if value >= MOST else ""
            raise ValueError(f"--{name.replace('_', '-')} {words}{limit}, got {value}")


def check_kl(settings: Any) -> None:
    """Refuses weights of the KL divergence that contradict each other, or that have nothing to
    weigh. settings: with some of `KL_OPTIONS`, and `objective`."""
    given = {name: getattr(settings, name, None) for name in KL_OPTIONS}
    not_negative(settings, *(name for name, value in given.items() if value is not None))
    if given["kl_cycle"] and given["kl_warmup"]:
        raise ValueError("--kl-warmup rises once, --kl-cycle over and over: give one")
    if given["kl_delay"] and not given["kl_cycle"]:
        raise ValueError("--kl-delay comes before the first cycle: give --kl-cycle, too")
    weighed = given["kl_weight"] != 1 or any(given[name] for name in KL_OPTIONS[1:])
    if weighed and settings.objective in ("iwae", "fivo"):
        raise ValueError(
            f"--objective {settings.objective} has no KL divergence to weigh: leave out "
            f"{', '.join('--' + name.replace('_', '-') for name in KL_OPTIONS)}, or learn by elbo"
        )


def with_options(settings: Settings, options: Mapping[str, Any]) -> Settings:
    """`settings`, a dataclass of options and of groups of options, with some options changed.

    >>> from worldmodel.agents.config import AgentConfig
    >>> with_options(AgentConfig(), {"core": "rssm", "seed": 3}).model.core
    'rssm'

    Raises TypeError for an option that there is not.
    """
    known = dict(_places(settings))
    for name in options:
        if name not in known:
            close = difflib.get_close_matches(name, known, n=1)
            guess = f"did you mean {close[0]}?" if close else f"there are {', '.join(known)}"
            raise TypeError(f"there is no option {name!r}; {guess}")
    for group in {known[name] for name in options}:
        chosen = {name: value for name, value in options.items() if known[name] == group}
        try:
            settings = _replaced(settings, group, chosen)
        except ValueError as error:
            raise ValueError(_python_words(str(error), known)) from error
    return settings


def _replaced(settings: Any, group: tuple[str, ...], chosen: Mapping[str, Any]) -> Any:
    """The settings with some options of a group changed."""
    if group:
        chosen = {group[0]: _replaced(getattr(settings, group[0]), group[1:], chosen)}
    return replace(settings, **chosen)


def _places(settings: Any) -> Iterator[tuple[str, tuple[str, ...]]]:
    """The name of each option, and those of the groups that it is in, from the outermost."""
    for place in fields(settings):
        part = getattr(settings, place.name)
        if is_dataclass(part):
            yield from ((name, (place.name, *group)) for name, group in _places(part))
        else:
            yield place.name, ()


def _python_words(text: str, known: Mapping[str, Any]) -> str:
    """An error of the command line in Python's terms: `hidden_size`, not --hidden-size."""
    for name in sorted(known, key=len, reverse=True):
        text = text.replace(f"--{name.replace('_', '-')}", name)
    return text
