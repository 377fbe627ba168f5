"""The help of commands: options in titled groups, the most needed ones first.

`--help` counts the options of advanced groups (`worldmodel.options.ADVANCED`), `--help-all` lists
them.

Written from the settings: docstrings of classes are titles, those of fields describe options.
"""

import ast
import inspect
import re
import textwrap
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import MISSING, fields, is_dataclass
from functools import cache
from itertools import pairwise
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, NamedTuple, Union, get_args, get_origin, get_type_hints

import tyro
from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from worldmodel.options import ADVANCED

# The most needed options; a command's help begins with the first six of these that it has.
FIRST = (
    *("out", "env", "images", "corpus", "data", "quick"),
    *("steps", "minutes", "updates", "seed", "threads", "core"),
)
SIX, FEW = 6, 15  # more options than a few are grouped
OPTIONS, FIRST_OF_ALL = "options", "first of all"
NAMES = 30  # columns of options' names
WORDS: dict[Any, str] = {int: "INT", float: "NUMBER", str: "TEXT", Path: "PATH"}
HELP_ALL = "--help-all"
HELP = ("-h", "--help", HELP_ALL)


class Option(NamedTuple):
    """An option or a positional argument."""

    name: str  # "--time-limit", "--no-growth", "RUN"
    value: str  # placeholder of its value; "" for a switch
    text: str
    group: str
    is_required: bool
    is_advanced: bool

    @property
    def usage(self) -> str:
        """The option as typed."""
        return f"{self.name} {self.value}".rstrip()


def options_of(
    settings: Any,
    default: Any = MISSING,
    group: str = OPTIONS,
    depth: int = 0,
    is_advanced: bool = False,
) -> Iterator[Option]:
    """All options of a dataclass and of nested dataclasses.

    default: of these settings, if there is one; depth: of nested settings, whose options come
    under titles of their own; is_advanced: whether they are a part of advanced ones.
    """
    kind = get_origin(settings) or settings
    variables = dict(zip(getattr(kind, "__parameters__", ()), get_args(settings), strict=True))
    hints, texts = get_type_hints(kind, include_extras=True), field_docs(kind)
    for field in fields(kind):
        hint, notes = _unannotated(hints[field.name])
        hint = variables.get(hint, hint)
        value = getattr(default, field.name, _default(field))
        value = MISSING if value is tyro.MISSING else value  # required settings of a preset
        if is_dataclass(hint):
            title = _title(hint) if depth or ADVANCED in notes else group
            advanced = is_advanced or ADVANCED in notes
            yield from options_of(hint, value, title, depth + 1, advanced)
        else:
            text = texts.get(field.name, "")
            yield _option(field.name, hint, notes, text, value, group, is_advanced)


def _unannotated(hint: Any) -> tuple[Any, tuple[Any, ...]]:
    if get_origin(hint) is Annotated:
        return hint.__origin__, hint.__metadata__
    return hint, ()


def _default(field: Any) -> Any:
    return field.default if field.default_factory is MISSING else field.default_factory()


def _title(kind: Any) -> str:
    return in_short(kind.__doc__ or "").rstrip(".")


def _option(
    field: str,
    hint: Any,
    notes: Iterable[Any],
    text: str,
    default: Any,
    group: str,
    is_advanced: bool,
) -> Option:
    value, choices = _values(hint)
    config = {key: word for note in notes for key, word in _told(note)}
    value = config.get("metavar", value)
    text = in_words(text or config.get("help", ""))
    text = " ".join(part for part in (text, choices, _shown(default)) if part)
    if tyro.conf.Positional in notes:
        shown = value if default is MISSING else f"[{value}]"
        return Option(shown, "", text, group, False, is_advanced)
    name = config.get("name", field).replace("_", "-")
    if hint is bool and default is True:  # a sentence on what the option does turns it off
        name, text = f"no-{name}", f"Do not {text[0].lower()}{text[1:]}"
    name = f"--{name}"
    return Option(name, value, text, group, default is MISSING, is_advanced)


def _told(note: Any) -> Iterator[tuple[str, str]]:
    """(attribute, text) of an option's annotation: its name, its placeholder, its help."""
    for key in ("name", "metavar", "help"):
        word = getattr(note, key, None)
        if isinstance(word, str):
            yield key, word


def _values(hint: Any) -> tuple[str, str]:
    """The placeholder of an option's value, and its choices in words."""
    origin, parts = get_origin(hint), [part for part in get_args(hint) if part is not NoneType]
    if hint is bool:
        return "", ""
    if origin in (Union, UnionType):
        return _values(parts[0])
    if origin is Literal:
        return "NAME", f"One of {', '.join(map(str, parts))}."
    if origin is tuple:
        value, choices = _values(parts[0])
        return f"{value} ...", choices
    if origin in (dict, Mapping):
        return " ".join(_values(part)[0] for part in parts) + " ...", ""
    return WORDS.get(hint, "VALUE"), ""


def _shown(default: Any) -> str:
    """The default as typed; "" if there is none."""
    if default is MISSING:
        return "(required)"
    if default is None or isinstance(default, bool) or default in ((), "", {}):
        return ""
    if isinstance(default, tuple):
        default = " ".join(map(str, default))
    return f"(default: {default})"


def in_words(text: str) -> str:
    """A docstring as help: Python's None becomes an option that is not given.

    >>> in_words("Steps; None: as it is registered. None: all.")
    'Steps; if not given: as it is registered. If not given: all.'
    """
    text = re.sub(r"(?<![;,] )\bNone: ", "If not given: ", text)
    return text.replace("None: ", "if not given: ")


@cache
def field_docs(kind: type) -> dict[str, str]:
    """The docstrings of a dataclass's fields, in one line each; {} without its source."""
    found: dict[str, str] = {}
    for base in filter(is_dataclass, reversed(kind.__mro__)):
        try:
            source = textwrap.dedent(inspect.getsource(base))
        except OSError:
            continue
        (definition,) = ast.parse(source).body
        for field, doc in pairwise(definition.body):  # type: ignore[attr-defined]
            if isinstance(field, ast.AnnAssign) and isinstance(doc, ast.Expr):
                text = getattr(doc.value, "value", "")
                found[ast.unparse(field.target)] = " ".join(str(text).split())
    return found


def in_short(docstring: str) -> str:
    """The first paragraph of a docstring, in one line."""
    return " ".join(docstring.split("\n\n")[0].split())


def grouped(options: Iterable[Option]) -> list[tuple[str, list[Option]]]:
    """Titles and options; if there are many, the most needed ones are a group."""
    options = list(options)
    first: list[Option] = []
    if len(options) > FEW:
        by_name = {option.name.removeprefix("--"): option for option in options}
        first = [by_name[name] for name in FIRST if name in by_name][:SIX]
    groups: dict[str, list[Option]] = {FIRST_OF_ALL: first, OPTIONS: []}
    for option in options:
        if option not in first:
            groups.setdefault(option.group, []).append(option)
    return [(title, group) for title, group in groups.items() if group]


def print_command(
    program: str, settings: Any, about: str, default: Any = MISSING, in_full: bool = False
) -> None:
    """Prints the help of a command. about: its description; in_full: with advanced options."""
    options = list(options_of(settings, default))
    given = [o.usage for o in options if o.is_required or not o.name.startswith("-")]
    console = Console(highlight=False)
    _say(console, " ".join(["usage:", program, *given, "[options]"]))
    for paragraph in inspect.cleandoc(about).split("\n\n"):
        _say(console, " ".join(paragraph.split()))
    more = []
    for title, group in grouped(options):
        if in_full or title == FIRST_OF_ALL or not all(option.is_advanced for option in group):
            _section(console, title, [(option.usage, option.text) for option in group])
        else:
            more.append((title, f"{len(group)} options"))
    if more:
        _section(console, f"more, which {HELP_ALL} lists", more)


def print_commands(program: str, about: str, groups: Mapping[str, Mapping[str, Any]]) -> None:
    """Prints the list of commands. groups: by title, commands by name."""
    console = Console(highlight=False)
    _say(console, f"usage: {program} COMMAND ...")
    _say(console, about)
    for title, commands in groups.items():
        rows = [(name, in_short(command.about)) for name, command in commands.items()]
        _section(console, title, rows)


def _say(console: Console, text: str) -> None:
    console.print(Text(text), end="\n\n")


def _section(console: Console, title: str, rows: Iterable[tuple[str, str]]) -> None:
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(max_width=NAMES)
    table.add_column(ratio=1)
    for name, text in rows:
        table.add_row(Text(name), Text(text))
    console.print(Text(f"{title}:", style="bold"))
    console.print(Padding(table, (0, 0, 1, 2)))
