"""The registry of experiments by name; each is imported when it is needed."""

import importlib
import os
import sys
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from importlib.metadata import entry_points
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import cattrs
import cattrs.v

from worldmodel.errors import is_raised_by_us
from worldmodel.options import with_options
from worldmodel.run_folder import RunError, RunFolder
from worldmodel.trust import remember, was_made_here

PLUGINS = "worldmodel.plugins"  # the group of entry points
PLUGINS_VARIABLE = "WORLDMODEL_PLUGINS"  # modules, separated by commas


class Experiment(NamedTuple):
    """An experiment: the modules of its configuration and of its implementation.

    The module of the configuration imports no torch, so that help answers at once. The module of
    the implementation has functions of these names, all optional; a verb of the command line whose
    function is missing raises a RunError.

    - training(folder, reporter) -> Training: the job that `train` and `resume` run to its end
    - quick(config) -> config: so small that the run ends within seconds
    - absolute(config) -> config: with absolute paths, so that a run can be moved
    - check(config): raises a RunError before a folder is made
    - remember(config) -> config: with facts found while checking
    - load(folder) -> the contents of the newest checkpoint, for scripts
    - playable(folder, picture) -> Playable: the worlds that `play` and `video` show, dreams by
      the view `picture` of `worldmodel.envs.VIEWS` (auto: its own)
    - settings(config) -> settings, evaluate(folder, settings, note) -> result, tables(result)
    - generate(folder, settings, reporter) -> files; so are forecast, score and impute
    - packed(folder, values, place, episodes) -> the values of a checkpoint that is to be packed,
      after what is read of a run's episodes folder was written into `place`; episodes: whether
      they themselves are wanted
    - shown(values, names) -> the name of the one module of a checkpoint, by its values and the
      names of all, whose weights are packed (by default all are)
    - repaired(folder, values, counts) -> the values of a checkpoint, after episodes were left out;
      counts: of those that are left, by the path of their store
    - anywhere(config) -> config, without machines that the run has used, when it is packed
    - exported(folder) -> Exported: graphs of the model, for `export --format onnx` and html
    - finish(folder, reporter): called when a run is trained and evaluated
    """

    config: str  # "module:Class", a frozen dataclass
    implementation: str  # "module"
    command: str = ""  # starts a run; "": `train NAME`
    preset: str = ""  # "module:function", (config, name) -> config: what --preset NAME begins with
    report: str = ""  # "module:SPEC", the texts of its reports (see `show.report`)
    curve: str = "worldmodel.experiments.show.curves:RETURNS"  # "module:SPEC", its learning curve


_HERE = "worldmodel.experiments"
_RECORDINGS = f"{_HERE}.recordings"


def _of_recordings(config: str, implementation: str = "experiment") -> Experiment:
    return Experiment(
        f"{_RECORDINGS}.config:{config}",
        f"{_RECORDINGS}.{implementation}",
        report=f"{_HERE}.show.report:RECORDINGS",
        curve=f"{_HERE}.show.curves:LOSSES",
    )


EXPERIMENTS: dict[str, Experiment] = {
    "control": Experiment(
        f"{_HERE}.rl.config:RLConfig",
        f"{_HERE}.rl.experiment",
        preset=f"{_HERE}.rl.config:with_preset",
        report=f"{_HERE}.show.report:RL",
    ),
    "vae": Experiment(f"{_HERE}.images.config:VAEConfig", f"{_HERE}.images.experiment"),
    "text": _of_recordings("TextConfig"),
    "audio": _of_recordings("AudioConfig"),
    "midi": _of_recordings("MidiConfig"),
    "strokes": _of_recordings("StrokesConfig"),
    "series": _of_recordings("SeriesRunConfig", "series_experiment"),
    "baseline": Experiment(
        f"{_HERE}.rl.baseline_config:BaselineConfig", f"{_HERE}.bench.control", "bench control"
    ),
}


class Preset(NamedTuple):
    """A command `train NAME` for an experiment with other defaults."""

    experiment: str
    config: str  # "module:CONSTANT", a configuration of the experiment
    about: str  # the help


PRESETS: dict[str, Preset] = {
    "toy-game": Preset(
        "control",
        f"{_HERE}.rl.config:TOY_GAME",
        "Learn the toy game from play, dream it, train a policy in the dream, evaluate both "
        "beside the exact answers, film. Takes some minutes.",
    )
}


def register_experiment(name: str, experiment: Experiment) -> None:
    """Adds an experiment under a new name (registering the same one again has no effect).

    In a module of your own, which `worldmodel --plugin MODULE` imports (so do the environment
    variable WORLDMODEL_PLUGINS and an entry point of the group `worldmodel.plugins`):

    register_experiment("birds", Experiment("birds.config:BirdConfig", "birds.experiment"))
    """
    there = EXPERIMENTS.setdefault(name, experiment)
    if there != experiment:
        raise ValueError(f"the experiment {name!r} is there already: {there}; choose another name")


def experiment_named(name: str) -> Experiment:
    """An experiment by name; plugins are imported if it is not registered yet."""
    if name not in EXPERIMENTS:
        load_plugins()
    if name not in EXPERIMENTS:
        raise RunError(
            f"there is no experiment {name!r}, only {', '.join(EXPERIMENTS)}; if a module of your "
            f"own registers it, name that module by --plugin or in {PLUGINS_VARIABLE}"
        )
    return EXPERIMENTS[name]


def config_class(name: str) -> type:
    """The configuration of the experiment `name`."""
    return named(experiment_named(name).config)


def with_preset(name: str, preset: str | None, config: Any) -> Any:
    """A configuration of the experiment `name`, None: the default one, with the options of a
    preset, if there is one and the experiment has such."""
    given = EXPERIMENTS[name].preset
    if preset is None or not given:
        return config
    return named(given)(config_class(name)() if config is None else config, preset)


def experiment_of(config: Any) -> str:
    """The name of a configuration's experiment."""
    kind = type(config)
    path = f"{kind.__module__}:{kind.__qualname__}"
    found = [name for name, experiment in EXPERIMENTS.items() if experiment.config == path]
    if not found:
        raise RunError(f"{path} is the configuration of no experiment: register it")
    return found[0]


def new_run(path: Path, config: Any) -> RunFolder:
    """Makes the folder of a new run of `config`'s experiment, and remembers that it is ours."""
    folder = RunFolder.create(path, experiment_of(config), cattrs.unstructure(config))
    remember(folder.config_file)
    return folder


@lru_cache(maxsize=16)
def config_of(folder: RunFolder) -> Any:
    """The configuration of a run."""
    converter = cattrs.Converter(forbid_extra_keys=True)
    described, kind = folder.description.config, config_class(folder.experiment)
    try:
        return converter.structure(described, kind)
    except Exception as error:
        reasons = "; ".join(cattrs.transform_error(error, format_exception=_reason))
        raise RunError(f"{folder.config_file} is no configuration of a run: {reasons}") from error


def changed(folder: RunFolder, changes: Mapping[str, Any]) -> RunFolder:
    """A run some of whose options have been changed, in its config.json; it is trusted as before.

    Raises RunError for options that its experiment does not have, or that do not fit.
    """
    try:
        config = with_options(config_of(folder), changes)
    except TypeError as error:
        names = ", ".join(f"--{name.replace('_', '-')}" for name in changes)
        raise RunError(
            f"{folder.said} is a run of {folder.experiment}, which has not all of these options: "
            f"{names}; leave them out"
        ) from error
    except ValueError as error:
        raise RunError(str(error.__cause__ or error)) from error
    was_ours = was_made_here(folder.config_file)
    folder = folder.described(cattrs.unstructure(config))
    if was_ours:
        remember(folder.config_file)
    return folder


def _reason(error: BaseException, kind: type | None) -> str:
    """The reason why a value is refused, in our own words where an option refuses it."""
    return str(error) if is_raised_by_us(error) else cattrs.v.format_exception(error, kind)


def implementation(name: str) -> ModuleType:
    """The module that implements the experiment `name`."""
    return importlib.import_module(experiment_named(name).implementation)


def offers(folder: RunFolder, *names: str) -> bool:
    """True if the experiment of a run implements all of these functions."""
    return all(hasattr(implementation(folder.experiment), name) for name in names)


def offered(folder: RunFolder, name: str, verb: str = "") -> Callable[..., Any]:
    """A function of a run's experiment, which the command `verb` needs."""
    function = getattr(implementation(folder.experiment), name, None)
    if function is None:
        raise RunError(
            f"there is no `{verb or name}` for runs of {folder.experiment}, such as {folder.said}"
        )
    return function


def named(path: str) -> Any:
    """The object that "module:name" names."""
    module, _, name = path.partition(":")
    return getattr(importlib.import_module(module), name)


def load_plugins(modules: Iterable[str] = ()) -> None:
    """Imports the modules that register experiments from outside the package.

    modules: besides those of the environment variable and of entry points. Child processes import
    the same.
    """
    listed = [*os.environ.get(PLUGINS_VARIABLE, "").split(","), *modules]
    names = list(dict.fromkeys(name.strip() for name in listed if name.strip()))
    if names and os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())
    for name in names:
        try:
            importlib.import_module(name)
        except ModuleNotFoundError as error:
            raise RunError(
                f"the plugin {name} cannot be imported: {error}; is it installed, or in "
                f"{os.getcwd()}?"
            ) from error
        except Exception as error:
            raise RunError(
                f"the plugin {name} raised {type(error).__name__} when it was imported: {error}"
            ) from error
    if names:
        os.environ[PLUGINS_VARIABLE] = ",".join(names)
    for plugin in entry_points(group=PLUGINS):
        try:
            plugin.load()
        except Exception as error:
            raise RunError(
                f"the plugin {plugin.name} ({plugin.value}), which is installed, cannot be "
                f"imported: {type(error).__name__}: {error}"
            ) from error
