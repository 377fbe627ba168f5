"""The command line, `worldmodel VERB ...`: parses, runs, prints.

`worldmodel --help` lists the commands (`worldmodel.experiments.cli.commands`).
"""

import dataclasses
import difflib
import importlib
import json
import os
import sys
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

import tyro
from rich.console import Console

import worldmodel
from worldmodel.experiments.cli import help as helps
from worldmodel.experiments.cli.commands import GROUPS, Command, TrainCommand, commands
from worldmodel.experiments.cli.errors import message_of
from worldmodel.experiments.cli.renamed import new_name
from worldmodel.experiments.cli.settings import Evaluate, NoSettings
from worldmodel.experiments.runs.registry import load_plugins
from worldmodel.experiments.runs.trained import is_run, run_at
from worldmodel.names import check_names
from worldmodel.run_folder import RunError, RunFolder

PROGRAM = "worldmodel"
ABOUT = (
    "Learn a game, dream it, train in the dream, play it, film it. `--version` says which version "
    "this is; `--plugin MODULE` imports a module of your own that registers experiments; "
    "`--debug` shows where in the program an error is from."
)
DEBUG = "--debug"
WAITING = "OMP_WAIT_POLICY"  # of threads for each other, read when PyTorch is imported
PRESET = "--preset"


def main(arguments: list[str] | None = None) -> None:
    """Runs a command; errors end with one sentence (`worldmodel.experiments.cli.errors`) and exit
    code 2, or 1 if it is the program's fault."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    os.environ.setdefault(
        WAITING, "PASSIVE"
    )  # those that spin take 30 times as long where others work
    try:
        try:
            _run([word for word in words if word != DEBUG])
        finally:
            sys.stdout.flush()
    except BrokenPipeError:  # the reader has closed the pipe, as in `... --help | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)
    except KeyboardInterrupt:
        print(f"{PROGRAM}: stopped", file=sys.stderr)
        sys.exit(130)
    except Exception as error:
        if DEBUG in words:
            traceback.print_exception(error)
        sentence, code = message_of(error)
        if _tells():
            print(f"{PROGRAM}: {sentence}", file=sys.stderr)
        sys.exit(code)


def _tells() -> bool:
    """True but for processes that torchrun has started beside the one that tells."""
    if os.environ.get("WORLD_SIZE", "1") == "1":
        return True
    from worldmodel import ranks

    return ranks.tells()


def _run(arguments: list[str]) -> None:
    command, settings = parse(arguments)
    module, _, name = command.run.partition(":")
    try:
        implementation = importlib.import_module(module)
    except ModuleNotFoundError as error:
        if not command.extra:
            raise
        hint = f"pip install 'worldmodel-gym[{command.extra}]'"
        raise RunError(f"{error}; install it with: {hint}") from error
    from worldmodel.experiments.runs.processor import keep_memory
    from worldmodel.progress import Reporter

    keep_memory()
    check_names(settings)
    result = getattr(implementation, name)(settings, Reporter())
    if result is not None:
        show(result, implementation.tables, settings.json)


def show(result: Any, tables: Any, as_json: bool) -> None:
    """Prints the result: as one JSON value, or as tables."""
    if as_json:
        print(json.dumps(result, indent=2))
    else:
        Console().print(*tables(result))


def parse(arguments: list[str]) -> tuple[Command | TrainCommand, Any]:
    """The command of the arguments, and its settings."""
    arguments = _without_plugins(arguments)
    if arguments[:1] == ["--version"]:
        print(f"{PROGRAM} {worldmodel.__version__}")
        sys.exit(0)
    if arguments and arguments[0] in GROUPS:
        group = arguments[0]
        program, rest, about = f"{PROGRAM} {group}", arguments[1:], GROUPS[group]
        return _parse_one_of(commands(group), program, rest, about, {group: commands(group)})
    listed = {"": commands(), **{group: commands(group) for group in GROUPS}}
    return _parse_one_of(commands(), PROGRAM, arguments, ABOUT, listed)


def _parse_one_of(
    known: Mapping[str, Command | TrainCommand],
    program: str,
    arguments: list[str],
    about: str,
    listed: Mapping[str, Mapping[str, Command | TrainCommand]],
) -> tuple[Command | TrainCommand, Any]:
    """The command that the first word names. about, listed: the help of all of them."""
    if not arguments or arguments[0] in helps.HELP:
        titles = {f"{PROGRAM} {group}".rstrip(): of_group for group, of_group in listed.items()}
        helps.print_commands(program, about, titles)
        sys.exit(0 if arguments else 2)
    name = arguments[0]
    if name not in known:
        _refuse(name, program, listed)
    return known[name], _settings(known[name], f"{program} {name}", arguments[1:])


def _refuse(word: str, program: str, listed: Mapping[str, Mapping[str, Any]]) -> NoReturn:
    """Raises the error of an unknown command, with the nearest one."""
    at_top = program == PROGRAM
    whole = {n: f"{group} {n}".strip() for group in reversed([*listed]) for n in listed[group]}
    whole |= {group: group for group in GROUPS if at_top}
    names = ", ".join([*listed[""], *GROUPS] if at_top else whole)
    if word.startswith("-"):
        raise RunError(f"`{program}` expects one of {names} before {word}")
    near = difflib.get_close_matches(word, whole, n=1, cutoff=0.5)
    guess = f"did you mean `{PROGRAM} {whole[near[0]]}`?" if near else f"there are {names}"
    raise RunError(f"there is no `{program} {word}`: {guess}")


def _settings(command: Command | TrainCommand, program: str, arguments: list[str]) -> Any:
    """Parses the settings of a command; prints its help if asked for."""
    kind: Any = command.settings_class
    default = dataclasses.MISSING
    if isinstance(command, TrainCommand):
        default = command.default(_value_of(PRESET, arguments))
    if kind is Evaluate:
        kind, default = _evaluation(arguments)
    if any(argument in helps.HELP for argument in arguments):
        in_full = helps.HELP_ALL in arguments
        helps.print_command(program, kind, command.about, default, in_full)
        sys.exit(0)
    short = program.removeprefix(f"{PROGRAM} ")
    for argument in arguments:
        if (name := new_name(short, argument)) is not None:
            called = "called " if name.startswith("--") else ""
            raise RunError(f"{argument.partition('=')[0]} is now {called}{name}")
    given: dict[str, Any] = {} if default is dataclasses.MISSING else {"default": default}
    return tyro.cli(kind, prog=program, args=arguments, **given)


def _value_of(option: str, arguments: list[str]) -> str | None:
    """The value that an option is given, before the arguments are parsed; None: none."""
    found = None
    for word, following in zip(arguments, [*arguments[1:], None], strict=True):
        if word == option:
            found = following
        elif word.startswith(f"{option}="):
            found = word.partition("=")[2]
    return found


def _evaluation(arguments: list[str]) -> tuple[Any, Any]:
    """The evaluation settings of the run's experiment, with the run's own defaults."""
    runs = [argument for argument in arguments if is_run(argument)]
    if not runs:
        return Evaluate[NoSettings], dataclasses.MISSING
    from worldmodel.experiments.cli.verbs import evaluation_settings

    settings = evaluation_settings(RunFolder.open(run_at(Path(runs[0]))))
    kind: Any = Evaluate[type(settings)]  # type: ignore[misc]
    return kind, kind(path=Path(runs[0]), settings=settings)


def _without_plugins(arguments: list[str]) -> list[str]:
    """The arguments without `--plugin MODULE`; imports these modules."""
    left, modules = [], []
    words = iter(arguments)
    for word in words:
        if word == "--plugin":
            modules.append(next(words, ""))
        elif word.startswith("--plugin="):
            modules.append(word.partition("=")[2])
        else:
            left.append(word)
    load_plugins(modules)
    return left


if __name__ == "__main__":
    main()
