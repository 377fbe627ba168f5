"""Settings of the verbs: frozen dataclasses, whose docstrings are the command's help.

Nothing here imports torch, so that help answers at once.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Generic, Literal, TypeVar

import tyro

from worldmodel.experiments.recordings.config import GenerateConfig
from worldmodel.experiments.show.config import PlayConfig, VideoConfig
from worldmodel.options import positive

RunPath = Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
Config = TypeVar("Config")
Settings = TypeVar("Settings")


@dataclass(frozen=True)
class Train(Generic[Config]):
    """Train.

    Ctrl-C saves; `worldmodel resume RUN` goes on from there, to the last bit.
    """

    out: Path
    """The run's folder, to be made."""
    config: tyro.conf.OmitArgPrefixes[Config]
    quick: bool = False
    """Make everything so small that it ends within seconds: to try something out."""


@dataclass(frozen=True)
class Resume:
    """Go on with a run exactly where it stopped, or with more steps where it has ended."""

    path: RunPath
    """The run's folder."""
    steps: int | None = None
    """Steps of the real environment that are played, and learned from, after those of the run;
    runs of `worldmodel train control` and `toy-game` only."""
    env_path: Path | None = None
    """Folder of the environment's module, if it has moved since the training."""

    def __post_init__(self) -> None:
        if self.steps is not None:
            positive(self, "steps")


@dataclass(frozen=True)
class NoSettings:
    """Nothing but the run."""


@dataclass(frozen=True)
class Evaluate(Generic[Settings]):
    """Score a run: its model, and its agent in the dream and in reality.

    `worldmodel evaluate RUN --help` lists the options that its experiment has besides.
    """

    path: RunPath
    """The run's folder."""
    settings: tyro.conf.OmitArgPrefixes[Settings]
    json: bool = False
    """Print one JSON object and nothing else."""
    env_path: Path | None = None
    """Folder of the environment's module, if it has moved since the training."""


@dataclass(frozen=True)
class Generate:
    """Dream recordings from what a run has learned, from nothing or from a prompt."""

    path: RunPath
    """The run's folder."""
    config: tyro.conf.OmitArgPrefixes[GenerateConfig] = field(default_factory=GenerateConfig)


@dataclass(frozen=True)
class Plot:
    """Draw learning curves: real returns over real steps, as they were evaluated in training.

    Runs that differ in their seeds alone are one curve, their mean and the range of all.
    """

    paths: Annotated[tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="RUN...")]
    """The runs' folders."""
    out: Path
    """The picture to be written: .png, .svg or .pdf."""
    threshold: tuple[float, ...] = ()
    """Returns that are drawn as dashed lines."""

    def __post_init__(self) -> None:
        if not self.paths:
            raise ValueError("there is nothing to draw: name one run or more")


@dataclass(frozen=True)
class Report:
    """Write one page that shows a run: how it learned, what agent and dream are worth, how far the
    model can be taken at its word, films, settings.

    The page needs nothing but itself. Runs of the toy game and of control have one.
    """

    path: RunPath
    """The run's folder."""
    out: Path | None = None
    """The page to be written; report.html in the run's folder by default."""
    env_path: Path | None = None
    """Folder of the environment's module, if it has moved since the training."""


@dataclass(frozen=True)
class Play:
    """Step inside: reality, the dream of it, and where the two differ, under the same keys.

    Arrow keys and digits act; every face lists its keys. Re-sync the dream, fork it and come back,
    let the trained agent take over, record a film.
    """

    path: RunPath
    """The run's folder."""
    config: tyro.conf.OmitArgPrefixes[PlayConfig] = field(default_factory=PlayConfig)
    env_path: Path | None = None
    """Folder of the environment's module, if it has moved since the training."""


@dataclass(frozen=True)
class Video:
    """Film a run: reality, dreams, and where the two differ, under the same actions."""

    path: RunPath
    """The run's folder."""
    out: tuple[Path, ...] = ()
    """Files to write, .mp4, .gif or .webp; by default videos/<kind>.mp4 and .gif in the run."""
    config: tyro.conf.OmitArgPrefixes[VideoConfig] = field(default_factory=VideoConfig)
    env_path: Path | None = None
    """Folder of the environment's module, if it has moved since the training."""


@dataclass(frozen=True)
class Export:
    """Write a run's episodes for others: a new folder that says by itself what it holds.

    A Minari data set, named like games/mine-v0, is found by its id, mine-v0, where
    MINARI_DATASETS_PATH=games.
    """

    path: RunPath
    """The run's folder, or any folder of episodes."""
    out: Path
    """The folder to be made."""
    format: Literal["minari", "npz"] = "npz"
    """minari needs the extra: pip install 'worldmodel-gym[minari]'."""
