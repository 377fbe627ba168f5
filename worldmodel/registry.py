"""Registries by name: cores, heads, bounds and their like, which a program can extend."""

import inspect
from collections.abc import Callable, Collection, Mapping
from difflib import get_close_matches
from typing import Any, NoReturn, TypeVar

Thing = TypeVar("Thing")


class UnknownNameError(ValueError, KeyError):
    """A name that a registry does not have."""

    def __str__(self) -> str:
        return str(self.args[0])  # KeyError's own is quoted


class Registry(dict[str, Thing]):
    """Things of one kind by name; `register` adds one, an unknown name raises.

    >>> shapes = Registry("shape", {"circle": 0, "square": 4})
    >>> shapes.register("triangle", 3)
    >>> shapes["sqare"]
    Traceback (most recent call last):
    worldmodel.registry.UnknownNameError: there is no shape 'sqare'; there are circle, square, \
triangle; did you mean 'square'?
    """

    def __init__(self, kind: str, things: Mapping[str, Thing]):
        """kind: what a thing is called in sentences, such as "core"."""
        super().__init__(things)
        self.kind = kind

    def register(self, name: str, thing: Thing) -> None:
        """Adds a thing. A name is given once: nothing that stands here can be replaced."""
        if not name or not isinstance(name, str):
            raise ValueError(f"the name of a {self.kind} is a word, got {name!r}")
        if name in self and self[name] is not thing:
            raise ValueError(
                f"there is a {self.kind} {name!r} already, {self[name]}; register {thing} by "
                "another name"
            )
        self[name] = thing

    def __missing__(self, name: str) -> NoReturn:
        close = get_close_matches(str(name), self, 1)
        hint = f"; did you mean {close[0]!r}?" if close else ""
        raise UnknownNameError(
            f"there is no {self.kind} {name!r}; there are {', '.join(self)}{hint}"
        )


def options_taken(make: Callable[..., Any], options: Mapping[str, Any]) -> dict[str, Any]:
    """The options that a function or a class takes by name.

    >>> options_taken(sorted, {"key": len, "size": 3})
    {'key': <built-in function len>}
    """
    known = _names(make)
    return {name: value for name, value in options.items() if known is None or name in known}


def check_options(
    what: str, make: Callable[..., Any], options: Collection[str], given: Collection[str] = ()
) -> None:
    """Refuses options that a function or a class does not take.

    what: its name in sentences; given: parameters that are passed anyway, not to be listed.
    """
    known = _names(make)
    if known is None:
        return
    unknown = [name for name in options if name not in known]
    if unknown:
        takes = ", ".join(name for name in known if name not in given) or "no options"
        raise ValueError(f"{what} does not take {', '.join(unknown)}; it takes {takes}")


def _names(make: Callable[..., Any]) -> list[str] | None:
    """The parameters that can be passed by name; None where any can."""
    parameters = inspect.signature(make).parameters.values()
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters):
        return None
    by_name = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    return [parameter.name for parameter in parameters if parameter.kind in by_name]
