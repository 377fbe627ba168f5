"""Options that name a thing of a registry, and their check, which waits until a command runs.

Registries grow: a plugin adds to them. So configurations hold plain names, and import neither
torch nor what the names stand for.
"""

from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from importlib import import_module
from typing import Annotated, Any, Literal, NamedTuple, get_args, get_origin, get_type_hints

from worldmodel.registry import Registry, UnknownNameError


class NameOf(NamedTuple):
    """The registry of names that an option takes, and words that are allowed besides."""

    registry: str  # module:variable
    also: tuple[str, ...] = ()  # words that are no names, such as "auto"
    prefix: str = ""  # before every name

    def check(self, option: str, value: str) -> None:
        """Refuses a value that is neither one of the words nor a name."""
        if value in self.also:
            return
        module, _, variable = self.registry.partition(":")
        registry = getattr(import_module(module), variable)
        names = [*self.also, *(self.prefix + name for name in registry)]
        known = Registry(registry.kind, dict.fromkeys(names))
        try:
            known[value]
        except UnknownNameError as error:
            raise UnknownNameError(f"{option} {value}: {error}") from error


CoreName = Annotated[str, NameOf("worldmodel:CORES")]
RecurrenceName = Annotated[str, NameOf("worldmodel.recurrences:RECURRENCES", ("default",))]
HeadName = Annotated[str, NameOf("worldmodel:HEADS", ("default",))]
ObjectiveName = Annotated[str, NameOf("worldmodel:OBJECTIVES")]
BoundName = Annotated[str, NameOf("worldmodel:BOUNDS")]
MethodName = Annotated[str, NameOf("worldmodel.agents:METHODS")]
AlgorithmName = Annotated[str, NameOf("worldmodel.agents.sb3:ALGORITHMS")]
AgentName = Annotated[str, NameOf("worldmodel.agents.sb3:ALGORITHMS", ("own", "planning"), "sb3:")]
PictureName = Annotated[str, NameOf("worldmodel.envs:VIEWS", ("auto",))]
EngineName = Literal["torch", "onnxruntime"]
BOUND_NAMES = ("elbo", "iwae", "fivo")  # those of the library


def check_names(config: Any) -> None:
    """Refuses a configuration, or a command that holds some, with a name not in its registry."""
    for name, hint, value in _options(config):
        for note in _notes(hint):
            for one in value if isinstance(value, tuple) else [value]:
                note.check(f"--{name.replace('_', '-')}", one)


def _options(config: Any) -> Iterator[tuple[str, Any, Any]]:
    """The name, type and value of each option of a dataclass and of those inside it."""
    hints = get_type_hints(type(config), include_extras=True)
    for field in fields(config):
        value = getattr(config, field.name)
        if is_dataclass(value):
            yield from _options(value)
        elif value is not None:
            yield field.name, hints[field.name], value


def _notes(hint: Any) -> list[NameOf]:
    """The `NameOf` of a type: `Annotated[str, NameOf(...)]`, or a tuple of those."""
    if get_origin(hint) is tuple:
        return _notes(get_args(hint)[0])
    return [note for note in getattr(hint, "__metadata__", ()) if isinstance(note, NameOf)]
