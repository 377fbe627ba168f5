"""The table of commands: each is a dataclass of settings and a function that runs them.

To add one, write a frozen dataclass in a module without torch (its docstrings are the help), a
module with `run(settings, reporter) -> result` and, if there is a result to show, with
`tables(result)`, and a line below. The commands of `train` come from the registry of experiments.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any, NamedTuple

import tyro

from worldmodel.experiments.cli.settings import Train
from worldmodel.experiments.runs.registry import (
    EXPERIMENTS,
    PRESETS,
    Preset,
    config_class,
    named,
    with_preset,
)


class Command(NamedTuple):
    """A command, as strings that name modules, which are imported when needed."""

    settings: str  # "module:Class", a frozen dataclass
    run: str  # "module:function", of settings and a reporter
    extra: str = ""  # the extra of the distribution that its module needs

    @property
    def settings_class(self) -> Any:
        """The type of its settings."""
        return named(self.settings)

    @property
    def about(self) -> str:
        """The help; its first paragraph is the summary."""
        return self.settings_class.__doc__


class TrainCommand(NamedTuple):
    """A command that trains runs of an experiment."""

    experiment: str
    preset: Preset | None = None
    run: str = "worldmodel.experiments.cli.verbs:train"
    extra: str = ""

    @property
    def settings_class(self) -> Any:
        """The type of its settings."""
        return Train[config_class(self.experiment)]  # type: ignore[misc]

    def default(self, preset: str | None = None) -> Any:
        """The settings of the command's preset except the folder, and those that --preset names;
        dataclasses.MISSING where there is neither."""
        config = None if self.preset is None else named(self.preset.config)
        config = with_preset(self.experiment, preset, config)
        if config is None:
            return dataclasses.MISSING
        return self.settings_class(out=tyro.MISSING, config=config)

    @property
    def about(self) -> str:
        """The help; its first paragraph is the summary."""
        if self.preset is not None:
            return self.preset.about
        return config_class(self.experiment).__doc__ or ""


def _verb(name: str, settings: str) -> Command:
    where = "worldmodel.experiments.cli"
    return Command(f"{where}.settings:{settings}", f"{where}.verbs:{name}")


def _bench(module: str, settings: str, extra: str = "") -> Command:
    where = "worldmodel.experiments.bench"
    return Command(f"{where}.settings:{settings}", f"{where}.{module}:run", extra)


VERBS = {
    "resume": _verb("resume", "Resume"),
    "evaluate": _verb("evaluate", "Evaluate"),
    "generate": _verb("generate", "Generate"),
    "forecast": _verb("forecast", "Forecast"),
    "score": _verb("score", "Score"),
    "impute": _verb("impute", "Impute"),
    "plot": _verb("plot", "Plot"),
    "compare": _verb("compare", "Compare"),
    "sweep": Command(
        "worldmodel.experiments.cli.settings:Sweep", "worldmodel.experiments.sweep.running:run"
    ),
    "report": _verb("report", "Report"),
    "play": _verb("play", "Play"),
    "video": _verb("video", "Video"),
    "export": _verb("export", "Export"),
    "repair": _verb("repair", "Repair"),
    "pack": _verb("pack", "Pack"),
    "push": _verb("push", "Push"),
    "pull": _verb("pull", "Pull"),
    "runs": Command(
        "worldmodel.experiments.cli.settings:Runs", "worldmodel.experiments.cli.listing:runs"
    ),
}
BENCHES = {
    "toy-game": _bench("toy_game", "ToyGameSettings"),
    "control": _bench("control", "ControlSettings"),
    "dream": _bench("dream", "DreamSettings"),
    "exact": _bench("exact", "ExactSettings"),
    "cores": _bench("speed", "CoresSettings"),
    "rivals": _bench("rivals", "RivalsSettings"),
    "music": _bench("music", "MusicSettings"),
    "iwae": _bench("iwae", "IWAESettings"),
    "vae": _bench("vae", "VAESettings"),
    "speech": _bench("speech", "SpeechSettings"),
    "series": _bench("series", "SeriesSettings"),
    "suite": _bench("suite", "SuiteSettings"),
    "images": _bench("images", "ImagesSettings"),
    "replay": _bench("replay", "ReplaySettings"),
    "ranks": _bench("ranks", "RanksSettings"),
    "collectors": _bench("collectors", "CollectorsSettings", "ray"),
    "play": _bench("play", "PlaySettings"),
    "visitors": _bench("visitors", "VisitorsSettings", "browser"),
}
GROUPS = {
    "train": "Train a world model, and an agent in its dream; each on what it is called by.",
    "bench": "Measure speed, memory and likelihoods, beside others and beside exact answers.",
}


def commands(group: str = "") -> Mapping[str, Command | TrainCommand]:
    """The commands of a group by name, or those without a group."""
    if group == "bench":
        return BENCHES
    if group == "train":
        trained = {name for name, experiment in EXPERIMENTS.items() if not experiment.command}
        presets = {name: TrainCommand(p.experiment, p) for name, p in PRESETS.items()}
        return presets | {name: TrainCommand(name) for name in EXPERIMENTS if name in trained}
    return VERBS
