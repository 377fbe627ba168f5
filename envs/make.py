"""Construction of Gymnasium environments, from the options of a command line."""

import difflib
import functools
import importlib
import json
import os
import sys
import sysconfig
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import gymnasium
from gymnasium import spaces
from gymnasium.envs.registration import load_env_creator
from gymnasium.vector import AutoresetMode, SyncVectorEnv, VectorEnv
from gymnasium.wrappers import AddRenderObservation, FilterObservation

from worldmodel.codecs import by_path
from worldmodel.codecs.spaces import learnable
from worldmodel.envs.checked import Checked, checked
from worldmodel.envs.workers import WorkerVectorEnv
from worldmodel.envs.wrappers import (
    ActionRepeat,
    HideEntries,
    Images,
    LeaveOut,
    is_misshapen,
    name_of,
    velocities_of,
)

REGISTERED_BY = {
    "ALE/": ("ale_py", "atari"),
    "BabyAI-": ("minigrid", "minigrid"),
    "MinAtar/": ("minatar", "minatar"),
    "MiniGrid-": ("minigrid", "minigrid"),
    "dm_control/": ("shimmy", "dm-control"),
    "popgym-": ("popgym", "popgym"),
}
"""The module whose import registers the ids of each prefix, and the extra that installs it."""

PLUGINS = "gymnasium.envs"
"""The entry points of functions that register the ids of a namespace, by its name. Gymnasium
called them before its version 1.0, and packages such as MinAtar have no other way to register."""


def make_environment(
    id: str,
    arguments: Mapping[str, Any] | None = None,
    *,
    action_repeat: int = 1,
    time_limit: int | None = None,
    hide: Sequence[int] = (),
    hidden_velocities: bool = False,
    keys: Sequence[str] = (),
    pixels: int | None = None,
    resize: int | None = None,
    grayscale: bool = False,
    render_mode: str | None = None,
    env_path: str | None = ".",
) -> gymnasium.Env:
    """Makes one environment; what models cannot read of its observations is left out, or changed
    (`LeaveOut`, `Images`).

    id: Gymnasium's, or `module:id`, whose module is imported and registers it.
    arguments: of the environment's own constructor.
    action_repeat: how often each action is played; rewards are summed.
    time_limit: the environment's own steps (repeated actions count) after which an episode is
        truncated, instead of the limit that it is registered with.
    hide, hidden_velocities: the entries of a vector to leave out.
    keys: of a dictionary of observations, those to keep; by default all.
    pixels: the rendered image, of so many pixels a side, is the observation.
    resize, grayscale: the images among the observations; `resize` is in pixels a side.
    env_path: the folder that the module is searched in, after packages that are installed; None:
        none. Importing a module runs its code: name modules and folders that you trust.
    """
    if time_limit is not None and time_limit < 1:
        raise ValueError(f"a time limit is at least one step, got {time_limit}")
    name = _imported(id, env_path)
    if pixels is not None:
        if hide or hidden_velocities or keys or resize is not None:
            raise ValueError(
                "with pixels the rendered image alone is the observation, and of that size: it "
                "goes with none of hide, hidden velocities, keys and resize"
            )
        render_mode = _rendering(id, name, render_mode)
    if render_mode == "rgb_array":
        _without_a_screen()
    try:
        env = _registered(id, name, dict(arguments or {}), time_limit, render_mode)
        if action_repeat != 1:
            env = ActionRepeat(env, action_repeat)
        if keys:
            env = _filtered(env, keys)
        if hide or hidden_velocities:
            env = HideEntries(env, [*hide, *(velocities_of(env) if hidden_velocities else ())])
        if pixels is not None:
            env = AddRenderObservation(env)
    except gymnasium.error.DependencyNotInstalled as error:
        raise ValueError(f"{id} needs a package that is missing: {error}") from error
    if pixels is not None or resize is not None or grayscale:
        env = Images(env, pixels or resize, grayscale)
    return readable(env)


def readable(env: gymnasium.Env) -> gymnasium.Env:
    """The environment with observations that models can read, as far as they can be made so."""
    space = env.observation_space
    left = learnable(space)
    leaves_out = left is not None and left is not space
    misshapen = any(map(is_misshapen, by_path(space).values()))
    if leaves_out or misshapen:
        env = Checked(env)  # so that what is wrong is told as it came
    env = LeaveOut(env) if leaves_out else env
    return Images(env) if misshapen else env


def notes_of(env: gymnasium.Env) -> list[str]:
    """Sentences on how the observations are read otherwise than the environment shows them."""
    notes = []
    while isinstance(env, gymnasium.Wrapper):
        if isinstance(env, LeaveOut | Images) and env.note:
            notes.append(env.note)
        env = env.env
    return notes[::-1]


def make_vector_env(
    id: str,
    arguments: Mapping[str, Any] | None = None,
    *,
    copies: int = 1,
    workers: int = 0,
    patience: float | None = None,
    report: Callable[[str], None] = warnings.warn,
    **options: Any,
) -> VectorEnv:
    """`copies` of an environment side by side, for `GymEnvironment`; the same rows for the same
    seed, whatever the number of workers.

    workers: processes that share the copies; 0: this process.
    patience, report: see `WorkerVectorEnv`; without workers, `GymEnvironment` has a patience.
    options: those of `make_environment`.
    """
    if copies < 1:
        raise ValueError(f"there is at least one copy of an environment, got {copies}")
    if not 0 <= workers <= copies:
        raise ValueError(
            f"workers share the copies, so there are 0 to {copies} of them, got {workers}"
        )
    make = functools.partial(make_environment, id, arguments, **options)
    if workers:
        return WorkerVectorEnv([make] * copies, workers, patience, report)
    each = [functools.partial(checked, make)] * copies
    return SyncVectorEnv(each, autoreset_mode=AutoresetMode.NEXT_STEP)


def arguments_from_json(text: str) -> dict[str, Any]:
    """The arguments of an environment, as a command line has them.

    >>> arguments_from_json('{"g": 9.81}')
    {'g': 9.81}
    """
    example = '{"g": 9.81}'
    try:
        arguments = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(
            f"an environment's arguments are JSON, such as {example}, but {text} is not: {error}"
        ) from error
    if not isinstance(arguments, dict):
        raise ValueError(f"an environment's arguments have names, as in {example}, got {text}")
    return arguments


def _registered(
    id: str,
    name: str,
    arguments: dict[str, Any],
    time_limit: int | None,
    render_mode: str | None,
) -> gymnasium.Env:
    """Makes the environment of an id whose module has been imported."""
    if render_mode is not None:
        arguments["render_mode"] = render_mode
    try:
        return gymnasium.make(name, max_episode_steps=time_limit, **arguments)
    except gymnasium.error.DependencyNotInstalled:
        raise
    except gymnasium.error.Error as error:
        if name in gymnasium.registry:
            raise
        raise ValueError(_unknown(id, name)) from error
    except TypeError as error:
        raise ValueError(f"{id} does not take the arguments {arguments}: {error}") from error


def _imported(id: str, folder: str | None) -> str:
    """Imports the module of an id; returns the id without it."""
    module, separator, name = id.rpartition(":")
    if not separator:
        _import_known(id)
        return id
    if not name or not all(part.isidentifier() for part in module.split(".")):
        raise ValueError(
            "expected module:id with a module as Python imports it, such as lamps:Lamps-v0 or "
            f"games.lamps:Lamps-v0, got {id!r}: --env-path names a folder"
        )
    place = None if folder is None else Path(folder).resolve()
    if place is not None and place.is_dir() and str(place) not in sys.path:
        sys.path.append(str(place))  # last, so that nothing that is installed is hidden
    where = "among installed packages" if place is None else f"in {place}"
    remedy = f"is it {where}? --env-path names another folder"
    _import(module, f"the module {module!r} of {id!r}", remedy)
    return name


def _import_known(id: str) -> None:
    """Imports the package that registers an id, if it is known and has not been imported, or calls
    what an installed package declares for the id's namespace."""
    for beginning, (module, extra) in REGISTERED_BY.items():
        if id.startswith(beginning) and id not in gymnasium.registry:
            remedy = f"run pip install 'worldmodel-gym[{extra}]'"
            with _installed_alone():
                _import(module, f"{id} is registered by {module!r}, which", remedy)
    namespace, separator, _ = id.partition("/")
    if separator and id not in gymnasium.registry:
        with _installed_alone():
            for plugin in entry_points(group=PLUGINS, name=namespace):
                plugin.load()()


def folder_of(id: str) -> str | None:
    """The folder that the module of `module:id` was imported from, absolute; None of an id without
    a module, and of a module that is installed, which is found from anywhere."""
    top = id.rpartition(":")[0].partition(".")[0]
    spec = getattr(sys.modules.get(top), "__spec__", None)
    if spec is None or top == __name__.partition(".")[0]:
        return None
    places = list(spec.submodule_search_locations or [spec.origin or ""])
    folder = Path(places[0]).resolve().parent
    installed = {Path(path).resolve() for path in sysconfig.get_paths().values()}
    return None if folder in installed else str(folder)


@contextmanager
def _installed_alone() -> Iterator[None]:
    """Context manager within which modules are not found in the current directory."""
    before, here = list(sys.path), Path.cwd()
    sys.path[:] = [place for place in before if Path(place).resolve() != here]
    try:
        yield
    finally:
        sys.path[:] = before


def _import(module: str, subject: str, remedy: str) -> None:
    """Imports a module. remedy: advice, if it is not found."""
    try:
        importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module}.".startswith(f"{error.name}."):
            raise ValueError(f"{subject} cannot be imported: {error}") from error
        raise ValueError(f"{subject} was not found; {remedy}") from error


def _unknown(id: str, name: str) -> str:
    """A sentence on an unknown environment, with similar names."""
    close = difflib.get_close_matches(name, gymnasium.registry, n=3)
    module = id.rpartition(":")[0]
    guess = f"did you mean {' or '.join(close)}?" if close else "ids look like CartPole-v1."
    if module:
        file = getattr(sys.modules[module], "__file__", None)
        return f"{file or module} registers no environment {name!r}; {guess}"
    return f"there is no environment {name!r}; {guess} One of your own is named module:id"


def _rendering(id: str, name: str, render_mode: str | None) -> str:
    """The render mode of environments whose observations are rendered images."""
    if render_mode not in (None, "rgb_array"):
        raise ValueError(f"pixels need the render mode 'rgb_array', got {render_mode!r}")
    spec = gymnasium.registry.get(name)
    creator: Any = None if spec is None else spec.entry_point
    if isinstance(creator, str):
        creator = load_env_creator(creator)
    modes = getattr(creator, "metadata", {}).get("render_modes", ["rgb_array"])
    if "rgb_array" not in modes:
        raise ValueError(
            f"pixels need an environment that renders 'rgb_array', but {id} renders "
            f"{', '.join(map(str, modes)) or 'nothing'}"
        )
    return "rgb_array"


def _without_a_screen() -> None:
    """Sets pygame's dummy video driver where there is no screen, to avoid its warnings."""
    if not {"DISPLAY", "WAYLAND_DISPLAY"} & set(os.environ):
        os.environ.setdefault("SDL_VIDEODRIVER", "dummy")


def _filtered(env: gymnasium.Env, keys: Sequence[str]) -> gymnasium.Env:
    """Keeps only these keys of a dictionary of observations."""
    space = env.observation_space
    known = list(space) if isinstance(space, spaces.Dict) else []
    unknown = [key for key in keys if key not in known]
    if unknown:
        raise ValueError(
            f"{name_of(env)} shows no {', '.join(unknown)}; "
            + (f"its keys are {', '.join(known)}" if known else f"it has no keys, but {space}")
        )
    return FilterObservation(env, list(keys))
