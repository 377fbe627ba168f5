"""Options: frozen dataclasses, in groups; their docstrings are the help of the command line.

Nothing here imports torch, so that `worldmodel --help` answers at once.
"""

import difflib
from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass, replace
from typing import Any, TypeVar

Settings = TypeVar("Settings")


def positive(settings: object, *names: str) -> None:
    """Refuses options that are zero or less."""
    for name in names:
        value = getattr(settings, name)
        if value <= 0:
            raise ValueError(f"--{name.replace('_', '-')} must be positive, got {value}")


def not_negative(settings: object, *names: str) -> None:
    """Refuses options below zero."""
    for name in names:
        value = getattr(settings, name)
        if value < 0:
            raise ValueError(f"--{name.replace('_', '-')} must be 0 or more, got {value}")


def shares(settings: object, *names: str) -> None:
    """Refuses options outside [0, 1]; None is left alone."""
    for name in names:
        value = getattr(settings, name)
        if value is not None and not 0 <= value <= 1:
            raise ValueError(f"--{name.replace('_', '-')} is a share between 0 and 1, got {value}")


def below_one(settings: object, *names: str) -> None:
    """Refuses options outside [0, 1)."""
    for name in names:
        value = getattr(settings, name)
        if not 0 <= value < 1:
            raise ValueError(
                f"--{name.replace('_', '-')} must be 0 or more and below 1, got {value}"
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
        part: Any = getattr(settings, group) if group else settings
        try:
            part = replace(part, **chosen)
        except ValueError as error:
            raise ValueError(_python_words(str(error), known)) from error
        settings = _replaced(settings, group, part)
    return settings


def _replaced(settings: Any, group: str, part: Any) -> Any:
    return replace(settings, **{group: part}) if group else part


def _places(settings: Any) -> Iterator[tuple[str, str]]:
    """Each option's name and its group's; "" for options outside the groups."""
    for place in fields(settings):
        part = getattr(settings, place.name)
        if is_dataclass(part):
            yield from ((option.name, place.name) for option in fields(part))
        else:
            yield place.name, ""


def _python_words(text: str, known: Mapping[str, str]) -> str:
    """An error of the command line's in a program's words: `hidden_size`, not --hidden-size."""
    for name in sorted(known, key=len, reverse=True):
        text = text.replace(f"--{name.replace('_', '-')}", name)
    return text
