"""Settings of the verbs: frozen dataclasses, whose docstrings are the command's help.

Nothing here imports torch, so that help answers at once.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Generic, Literal, TypeVar

import tyro

from worldmodel.experiments.recordings.config import GenerateConfig
from worldmodel.experiments.runs.trust import TrustConfig
from worldmodel.experiments.show.config import PlayConfig, VideoConfig
from worldmodel.options import DeviceConfig, positive

RunPath = Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
FromCheckpoint = Annotated[str | None, tyro.conf.arg(name="from", metavar="CHECKPOINT")]
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
    """Make everything so small that it ends within seconds, to try something out."""
    profile: bool = False
    """Write traces of a few updates, for Perfetto or Chrome, into profile/ of the run."""


@dataclass(frozen=True)
class Resume:
    """Go on with a run exactly where it stopped, or with more steps where it has ended."""

    path: RunPath
    """The run's folder."""
    steps: int | None = None
    """Additional steps of the real environment to play and to learn from; runs of
    `worldmodel train control` and `toy-game` only."""
    stop_at: float | None = None
    """As of `train control`, from now on, as the three that follow; inf: no such end."""
    keep: Literal["last", "best"] | None = None
    """What is loaded of the run: its last policy and model, or the best."""
    episodes: int | None = None
    """Episodes of its evaluation."""
    threads: int | None = None
    """Threads of the processor; another number may give other bits."""
    computing: tyro.conf.OmitArgPrefixes[DeviceConfig] = field(default_factory=DeviceConfig)
    from_checkpoint: FromCheckpoint = None
    """Older checkpoint to go on from, such as checkpoint-000012; newer ones are set aside."""
    trust: tyro.conf.OmitArgPrefixes[TrustConfig] = field(default_factory=TrustConfig)

    def __post_init__(self) -> None:
        if self.steps is not None:
            positive(self, "steps")

    @property
    def changes(self) -> dict[str, Any]:
        """The options of the run that are changed, by name."""
        given = {name: getattr(self, name) for name in ("stop_at", "keep", "episodes", "threads")}
        given["device"] = self.computing.device
        return {name: value for name, value in given.items() if value is not None}


@dataclass(frozen=True)
class Repair:
    """Leave out episodes and lines of metrics that are not as they were written.

    Says which, and changes nothing without --yes. What is replaced is kept under another name; the
    run then goes on from a checkpoint that knows of it.
    """

    path: RunPath
    """The run's folder."""
    yes: bool = False
    """Do it."""
    from_checkpoint: FromCheckpoint = None
    """Older checkpoint to go on from, such as checkpoint-000012, if the newest is damaged."""


@dataclass(frozen=True)
class NoSettings:
    """The run alone."""


@dataclass(frozen=True)
class Evaluate(Generic[Settings]):
    """Score a run: its model, and its agent in the dream and in reality.

    The run is left as it is, unless you --save. `worldmodel evaluate RUN --help` lists the options
    that its experiment has besides.
    """

    path: RunPath
    """The run's folder."""
    settings: tyro.conf.OmitArgPrefixes[Settings]
    json: bool = False
    """Print one JSON object and nothing else."""
    save: bool = False
    """Make this the run's own evaluation: write it to evaluation.json and metrics.jsonl."""
    computing: tyro.conf.OmitArgPrefixes[DeviceConfig] = field(default_factory=DeviceConfig)
    from_checkpoint: FromCheckpoint = None
    """Older checkpoint to use instead of the newest, such as checkpoint-000012."""
    trust: tyro.conf.OmitArgPrefixes[TrustConfig] = field(default_factory=TrustConfig)


@dataclass(frozen=True)
class Generate:
    """Generate recordings from a run's model, unconditionally or from a prompt."""

    path: RunPath
    """The run's folder."""
    config: tyro.conf.OmitArgPrefixes[GenerateConfig] = field(default_factory=GenerateConfig)
    computing: tyro.conf.OmitArgPrefixes[DeviceConfig] = field(default_factory=DeviceConfig)
    from_checkpoint: FromCheckpoint = None
    """Older checkpoint to use instead of the newest, such as checkpoint-000012."""


@dataclass(frozen=True)
class Plot:
    """Draw learning curves: real returns over real steps, as they were evaluated in training.

    Runs that differ only in their seeds are one curve: their mean and range.
    """

    paths: Annotated[tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="RUN...")]
    """The runs' folders."""
    out: Path
    """The picture to write: .png, .svg or .pdf."""
    threshold: tuple[float, ...] = ()
    """Returns that are drawn as dashed lines."""

    def __post_init__(self) -> None:
        if not self.paths:
            raise ValueError("there is nothing to draw: name one run or more")


@dataclass(frozen=True)
class Report:
    """Write one page that shows a run: learning curves, returns in reality and in dreams,
    calibration and errors of the model, films, settings.

    The page is self-contained. Runs of the toy game and of control have one.
    """

    path: RunPath
    """The run's folder."""
    out: Path | None = None
    """The page to write; report.html in the run's folder by default."""
    computing: tyro.conf.OmitArgPrefixes[DeviceConfig] = field(default_factory=DeviceConfig)
    from_checkpoint: FromCheckpoint = None
    """Older checkpoint to use instead of the newest, such as checkpoint-000012."""
    trust: tyro.conf.OmitArgPrefixes[TrustConfig] = field(default_factory=TrustConfig)


@dataclass(frozen=True)
class Play:
    """Play reality, the dream of it, or both side by side under the same keys.

    Arrow keys and digits act; every face lists its keys. Re-sync the dream, fork it and come back,
    let the trained agent take over, record a film.
    """

    path: RunPath
    """The run's folder."""
    config: tyro.conf.OmitArgPrefixes[PlayConfig] = field(default_factory=PlayConfig)
    computing: tyro.conf.OmitArgPrefixes[DeviceConfig] = field(default_factory=DeviceConfig)
    from_checkpoint: FromCheckpoint = None
    """Older checkpoint to use instead of the newest, such as checkpoint-000012."""
    trust: tyro.conf.OmitArgPrefixes[TrustConfig] = field(default_factory=TrustConfig)


@dataclass(frozen=True)
class Video:
    """Film a run: reality, dreams, and where the two differ, under the same actions."""

    path: RunPath
    """The run's folder."""
    out: tuple[Path, ...] = ()
    """Files to write, .mp4, .gif or .webp; by default videos/<kind>.mp4 and .gif in the run."""
    config: tyro.conf.OmitArgPrefixes[VideoConfig] = field(default_factory=VideoConfig)
    computing: tyro.conf.OmitArgPrefixes[DeviceConfig] = field(default_factory=DeviceConfig)
    from_checkpoint: FromCheckpoint = None
    """Older checkpoint to use instead of the newest, such as checkpoint-000012."""
    trust: tyro.conf.OmitArgPrefixes[TrustConfig] = field(default_factory=TrustConfig)


@dataclass(frozen=True)
class Export:
    """Export a run's episodes: a new folder with its own description of the data.

    A Minari data set, named like games/mine-v0, is found by its id, mine-v0, where
    MINARI_DATASETS_PATH=games.
    """

    path: RunPath
    """The run's folder, or any folder of episodes."""
    out: Path
    """The folder to make."""
    format: Literal["minari", "npz"] = "npz"
    """minari needs the extra: pip install 'worldmodel-gym[minari]'."""
