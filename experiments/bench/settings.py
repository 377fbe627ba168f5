"""Settings of the benches: frozen dataclasses, whose docstrings are the command's help.

Nothing here imports torch, so that help answers at once.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Literal, get_args

import tyro

from worldmodel.experiments.rl.baseline_config import BaselineConfig
from worldmodel.experiments.runs.trust import TrustConfig
from worldmodel.names import BOUND_NAMES, AgentName, BoundName, CoreName, NameOf, ObjectiveName
from worldmodel.options import ADVANCED, DeviceConfig, check_threads, not_negative, positive

RunPath = Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]


@dataclass(frozen=True)
class ToyGameSettings:
    """Train another algorithm on the real toy game, and count its steps as `evaluate` does."""

    algorithm: Literal["ppo", "recurrent-ppo"] = "ppo"
    """Algorithm of stable-baselines3 or sb3-contrib."""
    steps: int = 50_000
    """Steps of the real game."""
    last_action: bool = False
    """Include the last action in observations."""
    width: int = 4
    """Cells of the ring."""
    classes: int = 3
    """Values that a cell can have."""
    task: Literal["copy", "equal"] = "copy"
    """Task of the game."""
    seed: int = 0
    """Seed of everything that is random."""
    json: bool = False
    """Print one JSON object and nothing else."""

    def __post_init__(self) -> None:
        positive(self, "steps", "width", "classes")
        not_negative(self, "seed")


@dataclass(frozen=True)
class ControlSettings:
    """Train an algorithm of stable-baselines3 in the real environment, for its learning curve."""

    out: Path
    """The run's folder, to be made."""
    config: tyro.conf.OmitArgPrefixes[BaselineConfig]


@dataclass(frozen=True)
class DreamSettings:
    """Train agents in the dream of a finished run, each from the beginning; compare them."""

    path: RunPath
    """The run's folder, which is left as it is."""
    agents: tuple[AgentName, ...] = ("own", "sb3:PPO")
    """Our own (the toy game's as its run left it), the same by planning, and algorithms of
    stable-baselines3."""
    agent_arguments: str = "{}"
    """Arguments of the algorithms' constructors, as JSON, instead of those chosen here."""
    rollouts: int = 1_000
    """Rollouts to train each agent on, of the run's size."""
    episodes: int = 100
    """Episodes of the final evaluation, in the dream and in reality; agents are greedy."""
    horizon: int = 200
    """Steps after which the dreamt episodes are truncated."""
    seed: int = 0
    """Seed of the agents' initial weights and random draws."""
    json: bool = False
    """Print one JSON list and nothing else."""
    trust: tyro.conf.OmitArgPrefixes[TrustConfig] = field(default_factory=TrustConfig)

    def __post_init__(self) -> None:
        positive(self, "rollouts", "horizon", "episodes")
        not_negative(self, "seed")
        if self.episodes < 2 or not self.agents:
            raise ValueError("--episodes must be 2 or more, and --agents one or more")


@dataclass(frozen=True)
class ExactLearning:
    """Learning of the models that are measured."""

    learning_particles: int = 4
    """K of the IWAE and of FIVO in training."""
    fit_updates: int = 800
    """Updates of a model of the chain, each on 1,024 fresh rows."""
    fit_rate: float = 0.005
    """Adam's initial learning rate for the chain; cosine decay."""
    fit_hidden: int = 32
    """Units of a model of the chain."""
    game_updates: int = 2_000
    """Updates of a model of the toy game, each on 1,024 fresh rows."""
    game_rate: float = 0.015
    """Adam's initial learning rate for the toy game; cosine decay."""
    game_hidden: int = 128
    """Units of a model of the toy game."""

    def __post_init__(self) -> None:
        positive(self, "learning_particles", "fit_updates", "fit_rate", "fit_hidden")
        positive(self, "game_updates", "game_rate", "game_hidden")


@dataclass(frozen=True)
class ExactSettings:
    """Measure the gaps of bounds and of training, for every core, to exact likelihoods.

    Ctrl-C shows the figures measured so far.
    """

    on: Literal["chain", "toy-game", "all"] = "all"
    """A random linear-Gaussian chain with its Kalman filter, or the toy game with its filter."""
    core: tuple[CoreName, ...] = ("rnn", "independent", "vrnn", "srnn", "rssm")
    """The sequence cores."""
    lengths: tuple[int, ...] = (10, 100)
    """Rows of the chain's sequences; trained models are scored on the longest."""
    sequences: int = 400
    """Held-out sequences of the chain."""
    learning_bounds: tuple[ObjectiveName, ...] = BOUND_NAMES
    """Objectives of training on the chain (models of the toy game are trained by the ELBO)."""
    learning: Annotated[tyro.conf.OmitArgPrefixes[ExactLearning], ADVANCED] = field(
        default_factory=ExactLearning
    )
    episodes: int = 400
    """Held-out episodes of the toy game."""
    seed: int = 0
    """Seed of everything that is random."""
    threads: int = 1
    """Threads of the processor."""
    quick: bool = False
    """Make everything so small that it ends within seconds, to try an installation."""
    json: bool = False
    """Print one JSON list and nothing else."""

    def __post_init__(self) -> None:
        check_threads(self)
        not_negative(self, "seed")
        for name in ("core", "lengths", "learning_bounds"):
            if not getattr(self, name):
                raise ValueError(f"--{name.replace('_', '-')} expects one or more, got none")
        if min(self.lengths) < 1:
            raise ValueError(f"--lengths must be positive, got {min(self.lengths)}")
        if self.sequences < 2 or self.episodes < 2:
            raise ValueError(
                "--sequences and --episodes must be 2 or more (there is no standard error of "
                f"one), got {self.sequences} and {self.episodes}"
            )


def quick_exact(config: ExactSettings) -> ExactSettings:
    """Settings so small that the bench ends within seconds; models learn next to nothing."""
    return replace(
        config,
        lengths=(5,),
        sequences=20,
        learning=replace(
            config.learning, fit_updates=3, fit_hidden=8, game_updates=3, game_hidden=8
        ),
        episodes=4,
    )


@dataclass(frozen=True)
class CoresSettings:
    """Measure the cores' speed in training and dreaming, beside a plain loop and matrix products.

    Takes about four minutes; let nothing else run. With --preset, whole updates of an agent.
    """

    core: Annotated[str, NameOf("worldmodel:CORES", ("all",))] = "all"
    """The core, or all."""
    preset: Literal["none", "dreamerv3-1m", "dreamerv3-12m"] = "none"
    """dreamerv3-1m, dreamerv3-12m: instead, the update of a world model and an actor-critic of
    these sizes."""
    growth: bool = True
    """Also measure how the cost grows with rows, columns, hidden units and particles."""
    compile: bool = False
    """Also measure the steps of cores and dreams under torch.compile (many minutes more)."""
    computing: tyro.conf.OmitArgPrefixes[DeviceConfig] = field(default_factory=DeviceConfig)
    threads: int = 2
    """Threads of the processor."""
    json: bool = False
    """Print one JSON object and nothing else."""

    def __post_init__(self) -> None:
        check_threads(self)


@dataclass(frozen=True)
class RivalsSettings:
    """Measure DreamerV3's updates and dreams beside sheeprl's and torchrl's, at equal sizes.

    Nothing is installed: name the interpreter of an environment that has sheeprl (0.5 to 0.8) or
    torchrl (0.14). Takes some minutes; let nothing else run.
    """

    sheeprl: Annotated[str | None, tyro.conf.arg(metavar="PYTHON")] = None
    """The Python interpreter of an environment with sheeprl, such as venv/bin/python."""
    torchrl: Annotated[str | None, tyro.conf.arg(metavar="PYTHON")] = None
    """The Python interpreter of an environment with torchrl."""
    repeats: int = 5
    """Processes of each package, in alternation with ours."""
    threads: int = 2
    """Threads of the processor."""
    quick: bool = False
    """Make everything so small that it ends within seconds, to try an installation."""
    json: bool = False
    """Print one JSON object and nothing else."""

    def __post_init__(self) -> None:
        positive(self, "repeats")
        check_threads(self)
        if self.sheeprl is None and self.torchrl is None:
            raise ValueError(
                "`bench rivals` expects --sheeprl or --torchrl, or both: the path of the Python "
                "interpreter of an environment that has that package"
            )


@dataclass(frozen=True)
class MusicSettings:
    """Train cores by several bounds on polyphonic music, beside every published figure.

    Each model takes up to ten minutes on one thread for JSB, and longer for the other sets.
    """

    set: tuple[Literal["JSB", "Nottingham", "MuseData", "Piano-midi"], ...] = ("JSB",)
    """Data sets of Boulanger-Lewandowski et al. 2012; the recipes were tuned on JSB."""
    models: tuple[
        Literal[
            "rnn",
            "rnn-nade",
            "rnn-subset",
            "vrnn-elbo",
            "vrnn-iwae",
            "vrnn-fivo",
            "srnn-elbo",
            "srnn-fivo",
        ],
        ...,
    ] = (
        "rnn",
        "rnn-nade",
        "rnn-subset",
        "vrnn-elbo",
        "vrnn-iwae",
        "vrnn-fivo",
        "srnn-elbo",
        "srnn-fivo",
    )
    """Models to train, each with its bound."""
    data: Path = Path("data/polymusic")
    """The folder that holds JSB_Chorales.npz and the other sets' files."""
    seed: int = 0
    """Seed of everything that is random."""
    bound: tuple[BoundName, ...] = BOUND_NAMES
    """Bounds that models with latents are scored by; the best counts."""
    bound_particles: int = 128
    """K of those bounds."""
    minutes: float = 0.0
    """Minutes of training of each model, at most; 0: all updates of its recipe."""
    quick: bool = False
    """Make everything so small that it ends within seconds, to try an installation."""
    json: bool = False
    """Print one JSON list, of the sets, and nothing else."""

    def __post_init__(self) -> None:
        if not self.set or not self.models or not self.bound:
            raise ValueError("--set, --models and --bound are one or more")
        positive(self, "bound_particles")
        not_negative(self, "minutes")


@dataclass(frozen=True)
class IWAESettings:
    """Does importance weighting help? VAE_5 against IWAE_5 on Bach chorales, some seeds each.

    Takes about twelve minutes a seed on one thread.
    """

    data: Path = Path("data/polymusic")
    """The folder that holds JSB_Chorales.npz."""
    seeds: int = 3
    """Number of seeds, from 0 on."""
    plot: Path | None = None
    """A picture to write (.png, .svg); needs matplotlib."""
    quick: bool = False
    """Make everything so small that it ends within seconds, to try an installation."""
    json: bool = False
    """Print one JSON object and nothing else."""

    def __post_init__(self) -> None:
        if self.seeds < 2:
            raise ValueError(
                f"--seeds must be 2 or more (there is no standard error of one), got {self.seeds}"
            )


@dataclass(frozen=True)
class VAESettings:
    """Train the convolutional VAE on MNIST, by the ELBO and by the IWAE, some seeds each."""

    data: Path = Path("data/mnist")
    """The folder that holds mnist.npz, with the arrays x_train and x_test."""
    models: tuple[Literal["vae", "vae-5", "iwae-5"], ...] = ("vae", "vae-5", "iwae-5")
    """Models: one draw, the mean of five bounds, the importance-weighted bound of five."""
    seeds: int = 3
    """Number of seeds, from 0 on."""
    seed: int | None = None
    """A single seed instead."""
    minutes: float = 10.0
    """Minutes of training of each model; scoring takes some minutes more."""
    threads: int = 2
    """Threads of the processor."""
    quick: bool = False
    """Make everything so small that it ends within seconds, to try an installation."""
    json: bool = False
    """Print one JSON object and nothing else."""

    def __post_init__(self) -> None:
        if self.seed is not None:
            not_negative(self, "seed")
        positive(self, "seeds", "minutes")
        check_threads(self)

    @property
    def chosen_seeds(self) -> Sequence[int]:
        """The seeds to run."""
        return range(self.seeds) if self.seed is None else [self.seed]


SpeechModel = Literal[
    "rnn-gauss",
    "rnn-gmm",
    "vrnn-gauss",
    "vrnn-gmm",
    "srnn",
    "rnn-autoregressive",
    "rnn-full",
]


@dataclass(frozen=True)
class SpeechSettings:
    """Train cores with several heads on spoken digits, beside Gaussians fitted in closed form.

    Each model takes some minutes a seed on one thread.
    """

    data: Path = Path("data/fsdd")
    """The folder that holds fsdd.npz, with the arrays wave, length, index and rate."""
    models: tuple[SpeechModel, ...] = get_args(SpeechModel)
    """Models to train: core and head."""
    seeds: int = 3
    """Number of seeds, from 0 on."""
    seed: int | None = None
    """A single seed instead."""
    minutes: float = 0.0
    """Minutes of training of each model; 0: all updates of its recipe."""
    bound: tuple[BoundName, ...] = BOUND_NAMES
    """Bounds that models with latents are scored by; the best counts."""
    quick: bool = False
    """Make everything so small that it ends within seconds, to try an installation."""
    json: bool = False
    """Print one JSON object and nothing else."""

    def __post_init__(self) -> None:
        positive(self, "seeds")
        not_negative(self, "minutes")
        if not self.models or not self.bound:
            raise ValueError("--models and --bound are one or more")
        if self.seed is not None:
            not_negative(self, "seed")

    @property
    def chosen_seeds(self) -> Sequence[int]:
        """The seeds to run."""
        return range(self.seeds) if self.seed is None else [self.seed]


@dataclass(frozen=True)
class ImagesSettings:
    """Draw images from files larger than memory: throughput, beside numpy, and resident memory.

    The files are made first, and removed again.
    """

    dir: Path | None = None
    """Folder for the files; a temporary one by default."""
    gigabytes: float = 4.4
    """Total size of the files, GB."""
    samples: int = 200_000
    """Images to draw."""
    json: bool = False
    """Print one JSON object and nothing else."""

    def __post_init__(self) -> None:
        positive(self, "gigabytes", "samples")


@dataclass(frozen=True)
class PlaySettings:
    """Measure how long a step and a frame of one game take, as a person plays it."""

    path: Annotated[Path | None, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")] = None
    """A run's folder; without it, CartPole from images of 64 x 64 pixels, by untrained
    models."""
    steps: int = 500
    """Steps to time."""
    threads: int = 1
    """Threads of the processor; `play` takes one."""
    json: bool = False
    """Print one JSON list and nothing else."""

    def __post_init__(self) -> None:
        positive(self, "steps")
        check_threads(self)


@dataclass(frozen=True)
class ReplaySettings:
    """Measure the costs of a replay on disk as it grows: resident memory, and time a batch.

    Takes about a minute and 30 bytes of disk a row, freed at the end.
    """

    rows: int = 10_000_000
    """Small rows of the largest store; a tenth and a hundredth of them are measured, too."""
    folder: Path | None = None
    """Folder to write to; a temporary one by default."""
    json: bool = False
    """Print one JSON list and nothing else."""

    def __post_init__(self) -> None:
        positive(self, "rows")


SERIES = ("chain", "elnino", "equipment", "weather", "co2", "sunspots")
SeriesName = Literal["chain", "elnino", "equipment", "weather", "co2", "sunspots"]


@dataclass(frozen=True)
class SeriesSettings:
    """Learn time series of a known law and of public sets, and forecast them beside baselines.

    chain: an oscillation with noise, linear-Gaussian, a third of its values missing, beside its
    Kalman filter: likelihood and anomalies. elnino and equipment (monthly), co2 (weekly) and
    sunspots (yearly) come with statsmodels, weather (daily, a word among the numbers) with
    vega_datasets: pip install 'worldmodel-gym[bench-series]'.
    """

    on: tuple[SeriesName, ...] = SERIES  # type: ignore[assignment]
    """Sets."""
    seeds: int = 3
    """Number of seeds, from 0 on."""
    updates: int = 0
    """Updates of each model; 0: those of the set's recipe."""
    valid: bool = False
    """Score the part that validates instead of the part that tests, to find a recipe."""
    threads: int = 1
    """Threads of the processor."""
    quick: bool = False
    """Make everything so small that it ends within seconds."""
    json: bool = False
    """Print one JSON object and nothing else."""

    def __post_init__(self) -> None:
        positive(self, "seeds")
        not_negative(self, "updates")
        check_threads(self)


@dataclass(frozen=True)
class CollectorsSettings:
    """Measure the speed of collectors, processes of Ray, on an environment whose steps sleep.

    Takes about a minute.
    """

    collectors: tuple[int, ...] = (1, 2, 4)
    """Numbers of collectors; 0: this process plays."""
    milliseconds: float = 5.0
    """Sleep of a step."""
    steps: int = 2_000
    """Steps that are timed, of each number."""
    ray: str | None = None
    """Address of the Ray cluster, such as auto; by default one is started on this machine."""
    json: bool = False
    """Print one JSON list and nothing else."""

    def __post_init__(self) -> None:
        positive(self, "steps")
        not_negative(self, "milliseconds")
        if not self.collectors or min(self.collectors) < 0:
            raise ValueError(f"--collectors are 0 or more, one number or more: {self.collectors}")


@dataclass(frozen=True)
class RanksSettings:
    """Measure the speed of updates that several processes share: `torchrun --nproc-per-node 2 -m
    worldmodel bench ranks`, beside the same with 1.

    Takes about a minute; let nothing else run.
    """

    core: CoreName = "srnn"
    """The sequence core, by its name in `worldmodel.CORES`."""
    hidden: int = 512
    """Hidden units."""
    updates: int = 10
    """Updates that are timed; the median counts."""
    json: bool = False
    """Print one JSON object and nothing else."""

    def __post_init__(self) -> None:
        positive(self, "hidden", "updates")


@dataclass(frozen=True)
class VisitorsSettings:
    """Let many visitors play a run's game in the browser's face at once; measure the latency from
    key to frame and the memory, and check that no game affects another.

    Takes about a minute; let nothing else run.
    """

    path: RunPath
    """The run's folder."""
    visitors: int = 20
    """Number of visitors."""
    seconds: float = 20.0
    """Seconds of play."""
    rate: float = 5.0
    """Keys a second of each visitor."""
    json: bool = False
    """Print one JSON object and nothing else."""

    def __post_init__(self) -> None:
        positive(self, "visitors", "seconds", "rate")


@dataclass(frozen=True)
class SuiteSettings:
    """Train on the public suite by one recipe, the defaults; beside stable-baselines3 at the same
    real steps, and beside published figures.

    A run is a run folder of its own, OUT/TASK/METHOD/SEED: what is there is read, or gone on with,
    so that the same command goes on after Ctrl-C. All of it takes days on two cores. Environments
    come with pip install 'worldmodel-gym[suite]'; those that are missing are listed.
    """

    envs: tuple[Annotated[str, NameOf("worldmodel.experiments.bench.suite_tasks:TASKS")], ...] = ()
    """Tasks by name, such as CartPole-v1 and CartPole-v1-positions; by default all."""
    methods: tuple[str, ...] = ("own", "sb3")
    """own: `train control`; sb3: the algorithm of stable-baselines3 that fits the task; sb3:SAC:
    that one. With options of their commands in the same word, a method of its own: 'own
    --core rssm'."""
    seeds: int = 5
    """Number of seeds, from 0 on."""
    out: Path = Path("runs/suite")
    """Folder of all runs, and of scores/, the evaluations of those that are finished."""
    jobs: int = 1
    """Runs at a time, a process each."""
    table: Path | None = None
    """A page of tables to write (.md)."""
    plot: Path | None = None
    """A picture to write (.png, .svg); needs matplotlib."""
    show: bool = False
    """Train nothing: show what is there."""
    quick: bool = False
    """Make two tasks so small that they end within seconds, in OUT/quick, to try it."""
    json: bool = False
    """Print one JSON object and nothing else."""

    def __post_init__(self) -> None:
        positive(self, "seeds", "jobs")
        if not self.methods:
            raise ValueError("--methods are one or more, such as own and sb3")
        for method in self.methods:
            if not re.fullmatch(r"(own|sb3|sb3:\w+)( .*)?", method):
                raise ValueError(
                    "--methods are own, sb3 or sb3:NAME, each with options of its command in the "
                    f"same word, such as 'own --core rssm', got {method!r}"
                )
        if self.table is not None and not (
            self.table.suffix == ".md" and self.table.parent.is_dir()
        ):
            raise ValueError(f"--table expects a .md in a folder that exists, got {self.table}")
