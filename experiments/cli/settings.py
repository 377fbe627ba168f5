"""Settings of the verbs: frozen dataclasses, whose docstrings are the command's help.

Nothing here imports torch, so that help answers at once.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Generic, Literal, TypeVar

import tyro

from worldmodel.experiments.recordings.config import (
    ForecastConfig,
    GenerateConfig,
    ImputeConfig,
    TableConfig,
)
from worldmodel.experiments.runs.cards import CardConfig
from worldmodel.experiments.runs.trust import TrustConfig
from worldmodel.experiments.show.config import PlayConfig, VideoConfig
from worldmodel.names import EngineName
from worldmodel.options import ADVANCED, DeviceConfig, positive

LoggerName = Literal["tensorboard", "wandb", "mlflow"]
RunPath = Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
FromCheckpoint = Annotated[str | None, tyro.conf.arg(name="from", metavar="CHECKPOINT")]
Config = TypeVar("Config")
Settings = TypeVar("Settings")


@dataclass(frozen=True)
class WatchConfig:
    """Reports of training besides its progress."""

    log: tuple[LoggerName, ...] = ()
    """Log scalars, films and the final evaluation to these, too, into OUT.logs; each needs the
    extra of its name."""
    profile: bool = False
    """Write traces of a few updates, for Perfetto or Chrome, into profile/ of the run."""
    every_rank: bool = False
    """Let every process that torchrun started say at the end where its time went, not the first
    alone."""


Watching = Annotated[tyro.conf.OmitArgPrefixes[WatchConfig], ADVANCED]


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
    watching: Watching = field(default_factory=WatchConfig)


@dataclass(frozen=True)
class Resume:
    """Go on with a run exactly where it stopped, or with more steps where it has ended."""

    path: RunPath
    """The run's folder."""
    steps: int | None = None
    """Additional steps of the real environment to play and to learn from; runs of
    `worldmodel train control` and `toy-game` only."""
    stop_at: float | None = None
    """As of `train control`, from now on, as the four that follow; inf: no such end."""
    keep: Literal["last", "best"] | None = None
    """What is loaded of the run: its last policy and model, or the best."""
    episodes: int | None = None
    """Episodes of its evaluation."""
    threads: int | None = None
    """Threads of the processor; another number may give other bits."""
    engine: EngineName | None = None
    """What computes steps that nothing is learned through; it draws other numbers."""
    computing: tyro.conf.OmitArgPrefixes[DeviceConfig] = field(default_factory=DeviceConfig)
    watching: Watching = field(default_factory=WatchConfig)
    from_checkpoint: FromCheckpoint = None
    """Older checkpoint to go on from, such as checkpoint-000012; newer ones are set aside."""
    trust: tyro.conf.OmitArgPrefixes[TrustConfig] = field(default_factory=TrustConfig)

    def __post_init__(self) -> None:
        if self.steps is not None:
            positive(self, "steps")

    @property
    def changes(self) -> dict[str, Any]:
        """The options of the run that are changed, by name."""
        names = ("stop_at", "keep", "episodes", "threads", "engine")
        given = {name: getattr(self, name) for name in names}
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
    """The run's folder, its packed file, or the name of one that comes with the package."""
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
    """The run's folder, its packed file, or the name of one that comes with the package."""
    config: tyro.conf.OmitArgPrefixes[GenerateConfig] = field(default_factory=GenerateConfig)
    computing: tyro.conf.OmitArgPrefixes[DeviceConfig] = field(default_factory=DeviceConfig)
    from_checkpoint: FromCheckpoint = None
    """Older checkpoint to use instead of the newest, such as checkpoint-000012."""


@dataclass(frozen=True)
class Forecast:
    """Forecast time series by a run's model: quantiles as .csv, fan charts as .png."""

    path: RunPath
    """The run's folder, its packed file, or the name of one that comes with the package."""
    config: tyro.conf.OmitArgPrefixes[ForecastConfig] = field(default_factory=ForecastConfig)
    from_checkpoint: FromCheckpoint = None
    """Older checkpoint to use instead of the newest, such as checkpoint-000012."""


@dataclass(frozen=True)
class Score:
    """Score every value of time series, given all before it: the least likely are anomalies."""

    path: RunPath
    """The run's folder, its packed file, or the name of one that comes with the package."""
    config: tyro.conf.OmitArgPrefixes[TableConfig] = field(default_factory=TableConfig)
    from_checkpoint: FromCheckpoint = None
    """Older checkpoint to use instead of the newest, such as checkpoint-000012."""


@dataclass(frozen=True)
class Impute:
    """Fill the missing values of time series, given all before them and after."""

    path: RunPath
    """The run's folder, its packed file, or the name of one that comes with the package."""
    config: tyro.conf.OmitArgPrefixes[ImputeConfig] = field(default_factory=ImputeConfig)
    from_checkpoint: FromCheckpoint = None
    """Older checkpoint to use instead of the newest, such as checkpoint-000012."""


@dataclass(frozen=True)
class Plot:
    """Draw learning curves: real returns over real steps; of recordings, losses over updates.

    Runs that differ only in their seeds are one curve: their mean and range.
    """

    paths: Annotated[tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="RUN...")]
    """The runs' folders."""
    out: Path
    """The picture to write: .png, .svg or .pdf."""
    threshold: tuple[float, ...] = ()
    """Values that are drawn as dashed lines."""

    def __post_init__(self) -> None:
        if not self.paths:
            raise ValueError("there is nothing to draw: name one run or more")


@dataclass(frozen=True)
class Compare:
    """Compare runs: one page and a table of learning curves, final figures, settings that differ.

    Runs that differ only in their seeds are one group: its figures are means with intervals.
    """

    paths: Annotated[tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="RUN...")]
    """The runs' folders, or folders of runs, such as that of a sweep."""
    out: Path = Path("compare.html")
    """The page to write."""
    json: bool = False
    """Print one JSON object and nothing else."""

    def __post_init__(self) -> None:
        if not self.paths:
            raise ValueError("there is nothing to compare: name one run or more")


@dataclass(frozen=True)
class Sweep:
    """Train many runs by a plan: seeds times options, side by side.

    Each is a run folder of its own, OUT/OPTIONS/SEED: what is finished is read, what was
    interrupted goes on, what failed is tried again. Ctrl-C saves, and the same command goes on. At
    the end there are a table, OUT/compare.html and OUT/curves.png. See docs/sweeps.md.
    """

    spec: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="PLAN")]
    """The plan, a file of TOML: command, seeds, [options], and [grid], [random] or [optuna]."""
    out: Path
    """Folder of all runs."""
    jobs: int | None = None
    """Runs at a time; None: as many as the machine has cores and GPUs for, by what each needs."""
    launcher: Literal["local", "slurm"] = "local"
    """local: processes on this machine. slurm: jobs of a cluster (needs the extra slurm)."""
    ray: str | None = None
    """Address of a Ray cluster whose tasks the runs are instead, such as auto (the extra ray)."""
    json: bool = False
    """Print one JSON object and nothing else."""

    def __post_init__(self) -> None:
        if self.jobs is not None:
            positive(self, "jobs")
        if self.ray is not None and self.launcher != "local":
            raise ValueError("--ray and --launcher are two places to run at: give one")


@dataclass(frozen=True)
class Report:
    """Write one page that shows a run: learning curves, returns in reality and in dreams,
    calibration and errors of the model, films, settings; of recordings, likelihood and samples.

    The page is self-contained.
    """

    path: RunPath
    """The run's folder, its packed file, or the name of one that comes with the package."""
    out: Path | None = None
    """The page to write; report.html in the run's folder by default."""
    computing: tyro.conf.OmitArgPrefixes[DeviceConfig] = field(default_factory=DeviceConfig)
    from_checkpoint: FromCheckpoint = None
    """Older checkpoint to use instead of the newest, such as checkpoint-000012."""
    trust: tyro.conf.OmitArgPrefixes[TrustConfig] = field(default_factory=TrustConfig)


@dataclass(frozen=True)
class Play:
    """Play reality, the dream of it, or both side by side under the same keys.

    Arrow keys and digits act; every face lists its keys. Re-sync the dream, fork it and go back,
    let the agent play, record a film.
    """

    path: RunPath
    """The run's folder, its packed file, or the name of one that comes with the package."""
    config: tyro.conf.OmitArgPrefixes[PlayConfig] = field(default_factory=PlayConfig)
    computing: tyro.conf.OmitArgPrefixes[DeviceConfig] = field(default_factory=DeviceConfig)
    from_checkpoint: FromCheckpoint = None
    """Older checkpoint to use instead of the newest, such as checkpoint-000012."""
    trust: tyro.conf.OmitArgPrefixes[TrustConfig] = field(default_factory=TrustConfig)


@dataclass(frozen=True)
class Video:
    """Film a run: reality, dreams, and where the two differ, under the same actions."""

    path: RunPath
    """The run's folder, its packed file, or the name of one that comes with the package."""
    out: tuple[Path, ...] = ()
    """Files to write, .mp4, .gif or .webp; by default videos/<kind>.mp4 and .gif in the run."""
    config: tyro.conf.OmitArgPrefixes[VideoConfig] = field(default_factory=VideoConfig)
    computing: tyro.conf.OmitArgPrefixes[DeviceConfig] = field(default_factory=DeviceConfig)
    from_checkpoint: FromCheckpoint = None
    """Older checkpoint to use instead of the newest, such as checkpoint-000012."""
    trust: tyro.conf.OmitArgPrefixes[TrustConfig] = field(default_factory=TrustConfig)


@dataclass(frozen=True)
class Pack:
    """Pack a run into one file to pass on: configuration, weights, figures and a card.

    Every command that reads runs takes the file, too. It holds no code and no path of this
    machine; what it was learned from only with --episodes. What learning goes on from is left out.
    """

    path: RunPath
    """The run's folder."""
    out: Path
    """The file to write, NAME.wm."""
    episodes: bool = False
    """Pack the episodes or recordings, too, those that the run is scored on among them."""
    card: tyro.conf.OmitArgPrefixes[CardConfig] = field(default_factory=CardConfig)
    from_checkpoint: FromCheckpoint = None
    """Older checkpoint to use instead of the newest, such as checkpoint-000012."""


@dataclass(frozen=True)
class Push:
    """Put a run on the Hugging Face Hub, with a card made of its evaluation.

    It needs the extra: pip install 'worldmodel-gym[hub]', and you to be logged in there.
    """

    path: RunPath
    """The run's folder, or a packed file, which is put there as it is."""
    hub_id: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="HUB_ID")]
    """Its name there, such as you/your-run."""
    private: bool = False
    """Show it to nobody else, if it is new there."""
    episodes: bool = False
    """Pack the episodes or recordings, too."""
    card: tyro.conf.OmitArgPrefixes[CardConfig] = field(default_factory=CardConfig)


@dataclass(frozen=True)
class Pull:
    """Get a run from the Hugging Face Hub, as a packed file.

    It needs the extra: pip install 'worldmodel-gym[hub]'. The file is checked before it is
    written; see docs/trust.md.
    """

    hub_id: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="HUB_ID")]
    """Its name there, such as you/your-run."""
    out: Path | None = None
    """The file to write; your-run.wm by default."""
    revision: str | None = None
    """Commit, branch or tag there, instead of the newest."""


@dataclass(frozen=True)
class Runs:
    """List the trained runs that come with the package, with their figures.

    Their names stand wherever a command expects a run; a folder or file of that name is meant
    first.
    """


@dataclass(frozen=True)
class Export:
    """Export a run: its episodes, its model for machines without torch, or a page that dreams.

    npz and minari write episodes to a new folder with its own description of the data. onnx writes
    the agent and the dream as ONNX graphs to a new folder, html one page that plays the dream in
    any browser (docs/export.md). A Minari data set, named like games/mine-v0, is found by its id,
    mine-v0, where MINARI_DATASETS_PATH=games.
    """

    path: RunPath
    """The run's folder, or any folder of episodes."""
    out: Path
    """The folder to make, or the page."""
    format: Literal["npz", "minari", "onnx", "html"] = "npz"
    """minari, onnx and html need an extra: pip install 'worldmodel-gym[minari,onnx]'."""
