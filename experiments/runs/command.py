"""The command of a configuration, as typed."""

import shlex
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, Field, fields, is_dataclass
from pathlib import Path
from typing import Any, NamedTuple, get_type_hints

from worldmodel.experiments.runs.registry import (
    EXPERIMENTS,
    PRESETS,
    experiment_of,
    named,
    with_preset,
)

NEEDED = MISSING  # default of a required setting


class Setting(NamedTuple):
    """One setting of a configuration."""

    path: str  # "world.memory"
    option: str  # "--memory"
    value: Any
    default: Any  # `NEEDED` if there is none

    @property
    def differs(self) -> bool:
        """True if the setting is required, or its value differs from the default."""
        return self.default is NEEDED or self.value != self.default


def settings(config: Any) -> Iterator[Setting]:
    """All settings of a configuration, in the order of `--help`."""
    yield from _settings(config, NEEDED, "")


def _settings(config: Any, default: Any, path: str) -> Iterator[Setting]:
    kinds = get_type_hints(type(config), include_extras=True)
    for field in fields(config):
        value = getattr(config, field.name)
        usual = _default(field) if default is NEEDED else getattr(default, field.name)
        if is_dataclass(value):
            yield from _settings(value, usual, f"{path}{field.name}.")
        else:
            option = "--" + _name(field.name, kinds[field.name]).replace("_", "-")
            yield Setting(path + field.name, option, value, usual)


def _default(field: Field) -> Any:
    if field.default_factory is not MISSING:
        return field.default_factory()
    return field.default


def _name(name: str, kind: Any) -> str:
    """The command line's name of a field, which an annotation may set."""
    config = (getattr(note, "name", None) for note in getattr(kind, "__metadata__", ()))
    return next((other for other in config if other), name)


def arguments_of(config: Any, out: Path | str) -> list[str]:
    """The arguments of `worldmodel`: only those that differ from the defaults, or from the nearest
    preset."""
    name = experiment_of(config)
    bases = [(EXPERIMENTS[name].command or f"train {name}", NEEDED)]
    presets = [(key, preset) for key, preset in PRESETS.items() if preset.experiment == name]
    bases += [(f"train {key}", named(preset.config)) for key, preset in presets]
    chosen = getattr(getattr(config, "agent", None), "preset", None)
    if chosen is not None:
        begun = with_preset(name, chosen, None)
        bases.append((f"{bases[0][0]} --preset {chosen}", begun))
    return min((_arguments(config, out, *base) for base in bases), key=len)


def _arguments(config: Any, out: Path | str, command: str, default: Any) -> list[str]:
    words = command.split()
    for setting in _settings(config, default, ""):
        if setting.differs:
            words += words_of(setting.option, setting.value)
    return [*words, *words_of("--out", str(out))]


def words_of(option: str, value: Any) -> list[str]:
    """An option with its value, as typed."""
    if isinstance(value, bool):
        return [option if value else f"--no-{option.removeprefix('--')}"]
    if isinstance(value, Mapping):
        value = [part for pair in value.items() for part in pair]
    elif not isinstance(value, tuple):
        value = [value]
    given = [str(part) for part in value]
    if given and given[0].startswith("-"):  # a positional argument first
        return [f"{option}={given[0]}", *given[1:]]
    return [option, *given]


def command_of(config: Any, out: Path | str = "RUN") -> str:
    """The command that starts the same run again, for a shell.

    >>> from dataclasses import replace
    >>> from worldmodel.experiments.rl.config import TOY_GAME
    >>> command_of(replace(TOY_GAME, threads=2), "runs/my game")
    "worldmodel train toy-game --threads 2 --out 'runs/my game'"

    Paths in a run's configuration are absolute: the command works in any folder.
    """
    return shlex.join(["worldmodel", *arguments_of(config, out)])
