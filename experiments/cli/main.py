"""The command line: verbs over run folders.

worldmodel train toy-game --out RUN     collect, learn, dream, improve, evaluate, film
worldmodel train control --env ID       any Gymnasium environment, with --out RUN
worldmodel train vae --images DIR       learn codes of images, with --out RUN
worldmodel train text --corpus FILE     learn to write like it, with --out RUN
worldmodel train audio --data DIR       learn to sound like .wav and .flac files
worldmodel train midi --data DIR        learn to play like .mid files and piano rolls
worldmodel train strokes --data FILE    learn to draw like drawings
worldmodel resume RUN                   go on exactly where a run stopped
worldmodel evaluate RUN [--json]        what model and agent are worth
worldmodel generate RUN                 dream text, music, speech or strokes
worldmodel plot RUN... --out FILE       learning curves
worldmodel report RUN [--out FILE]      all of a run on one page
worldmodel play RUN [--view browser]    step inside
worldmodel video RUN [--kind KIND]      real | dream | difference, and other films
worldmodel export RUN --out PATH        its episodes, as a Minari data set or as .npz files
worldmodel bench toy-game               other algorithms on the same game
worldmodel bench control --env ID       stable-baselines3 in the real environment
worldmodel bench dream RUN              agents that learn in the same dream
worldmodel bench exact [--json]         every core and bound beside exact likelihoods
worldmodel bench cores                  how fast the cores learn and dream
worldmodel bench music --set JSB        cores and bounds on polyphonic music
worldmodel bench play [RUN]             how long a step and a frame of the player take
worldmodel bench replay                 memory and time of ever more episodes on disk
worldmodel bench iwae                   does importance weighting help?
worldmodel bench vae                    the convolutional VAE on MNIST
worldmodel bench speech                 cores and heads on spoken digits
worldmodel bench images                 images on disk: how fast, in how much memory
worldmodel bench visitors RUN           many players at once: how soon they see what they do
"""

import sys
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, Generic, Literal, TypeVar, get_args

import tyro

from worldmodel.experiments.images.config import VAEConfig
from worldmodel.experiments.recordings.config import (
    AudioConfig,
    GenerateConfig,
    MidiConfig,
    StrokesConfig,
    TextConfig,
    quick_recordings,
)
from worldmodel.experiments.rl.baseline_config import BaselineConfig
from worldmodel.experiments.rl.config import AgentName, ControlConfig, quick_control
from worldmodel.experiments.rl.toy_game_config import (
    ExactConfig,
    LearningBound,
    ToyGameConfig,
    not_negative,
    positive,
    quick,
    quick_exact,
)
from worldmodel.experiments.show.config import PlayConfig, VideoConfig
from worldmodel.run_folder import RunError

RunPath = Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]


@dataclass(frozen=True)
class TrainToyGame:
    """Learn the toy game from play, dream it, train a policy in the dream, evaluate, film.

    Takes about four minutes on two cores. Ctrl-C saves; `worldmodel resume RUN` goes on from
    there, to the last bit.
    """

    out: Path
    """The run's folder, to be made."""
    quick: bool = False
    """Make everything so small that it ends within seconds: to try an installation."""
    config: tyro.conf.OmitArgPrefixes[ToyGameConfig] = field(default_factory=ToyGameConfig)

    def run(self) -> None:
        from worldmodel.experiments.cli import jobs

        jobs.train(self.out, quick(self.config) if self.quick else self.config)


@dataclass(frozen=True)
class TrainControl:
    """Any Gymnasium environment: collect, learn a world model, train a policy in its dream.

    Ctrl-C saves; `worldmodel resume RUN` goes on from there, to the last bit.
    """

    out: Path
    """The run's folder, to be made."""
    config: tyro.conf.OmitArgPrefixes[ControlConfig]
    quick: bool = False
    """Make everything so small that it ends within seconds: to try an environment."""

    def run(self) -> None:
        from worldmodel.experiments.cli import jobs

        config = quick_control(self.config) if self.quick else self.config
        if config.data is not None:
            config = replace(config, data=str(Path(config.data).resolve()))
        jobs.train(self.out, config)


@dataclass(frozen=True)
class TrainVAE:
    """Learn a convolutional variational autoencoder of images; write what it makes of them.

    Ctrl-C saves; `worldmodel resume RUN` goes on from there, to the last bit.
    """

    out: Path
    """The run's folder, to be made."""
    config: tyro.conf.OmitArgPrefixes[VAEConfig]

    def run(self) -> None:
        from worldmodel.experiments.cli import jobs

        data = replace(self.config.data, images=str(Path(self.config.data.images).resolve()))
        jobs.train(self.out, replace(self.config, data=data))


Told = TypeVar("Told")


@dataclass(frozen=True)
class TrainRecordings(Generic[Told]):
    """Learn from recordings, frame by frame, and show from time to time what is dreamt.

    Ctrl-C saves; `worldmodel resume RUN` goes on from there, to the last bit.
    """

    out: Path
    """The run's folder, to be made."""
    config: tyro.conf.OmitArgPrefixes[Told]
    quick: bool = False
    """Make everything so small that it ends within seconds: to try some files."""

    def run(self) -> None:
        from worldmodel.experiments.cli import jobs

        config: Any = quick_recordings(self.config) if self.quick else self.config
        paths = tuple(str(Path(path).resolve()) for path in config.data.data)
        jobs.train(self.out, replace(config, data=replace(config.data, data=paths)))


@dataclass(frozen=True)
class Generate:
    """Dream recordings from what a run has learned, from nothing or from a prompt."""

    path: RunPath
    """The run's folder."""
    config: tyro.conf.OmitArgPrefixes[GenerateConfig] = field(default_factory=GenerateConfig)

    def run(self) -> None:
        from worldmodel.experiments.cli import jobs

        jobs.generate(self.path, self.config)


@dataclass(frozen=True)
class Resume:
    """Go on with a run exactly where it stopped."""

    path: RunPath
    """The run's folder."""

    def run(self) -> None:
        from worldmodel.experiments.cli import jobs

        jobs.resume(self.path)


@dataclass(frozen=True)
class Unknown:
    """What a run can be evaluated by: `worldmodel evaluate RUN --help` lists it."""


Settings = TypeVar("Settings")


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

    def run(self) -> None:
        from worldmodel.experiments.cli import jobs

        jobs.evaluate(self.path, self.settings, self.json)


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

    def run(self) -> None:
        from worldmodel.experiments.cli import jobs

        jobs.plot(self.paths, self.out, self.threshold)


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

    def run(self) -> None:
        from worldmodel.experiments.cli import jobs

        jobs.report(self.path, self.out)


@dataclass(frozen=True)
class Play:
    """Step inside: reality, the dream of it, and where the two differ, under the same keys.

    Arrow keys and digits act; every face lists its keys. Re-sync the dream, fork it and come back,
    let the trained agent take over, record a film.
    """

    path: RunPath
    """The run's folder."""
    config: tyro.conf.OmitArgPrefixes[PlayConfig] = field(default_factory=PlayConfig)

    def run(self) -> None:
        from worldmodel.experiments.cli import jobs

        jobs.play(self.path, self.config)


@dataclass(frozen=True)
class Video:
    """Film a run: reality, dreams, and where the two differ, under the same actions."""

    path: RunPath
    """The run's folder."""
    out: tuple[Path, ...] = ()
    """Files to write, .mp4, .gif or .webp; by default videos/<kind>.mp4 and .gif in the run."""
    config: tyro.conf.OmitArgPrefixes[VideoConfig] = field(default_factory=VideoConfig)

    def run(self) -> None:
        from worldmodel.experiments.cli import jobs

        jobs.video(self.path, self.config, self.out)


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

    def run(self) -> None:
        from worldmodel.experiments.cli import jobs

        jobs.export(self.path, self.out, self.format)


@dataclass(frozen=True)
class BenchToyGame:
    """Train another algorithm on the real toy game, and count its steps as `evaluate` does."""

    algorithm: Literal["ppo", "recurrent-ppo"] = "ppo"
    """Of stable-baselines3 or sb3-contrib."""
    steps: int = 50_000
    """Steps of the real game."""
    last_action: bool = False
    """Let the algorithm see its last action, too."""
    width: int = 4
    """Cells of the ring."""
    classes: int = 3
    """Values that a cell can have."""
    task: Literal["copy", "equal"] = "copy"
    """What is to be done in the game."""
    seed: int = 0
    """Of everything that is random."""
    json: bool = False
    """Print one JSON object and nothing else."""

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise ValueError(f"--steps must be 1 or more, got {self.steps}")

    def run(self) -> None:
        from worldmodel.experiments.cli import jobs

        jobs.bench_toy_game(
            self.algorithm,
            self.steps,
            self.last_action,
            self.width,
            self.classes,
            self.task,
            self.seed,
            self.json,
        )


@dataclass(frozen=True)
class BenchControl:
    """Train an algorithm of stable-baselines3 in the real environment, for its learning curve."""

    out: Path
    """The run's folder, to be made."""
    config: tyro.conf.OmitArgPrefixes[BaselineConfig]

    def run(self) -> None:
        from worldmodel.experiments.cli import jobs

        jobs.bench_control(self.out, self.config)


@dataclass(frozen=True)
class BenchDream:
    """Train agents in the dream of a finished run, each from the beginning; compare them."""

    path: RunPath
    """The run's folder, which is left as it is."""
    agents: tuple[AgentName, ...] = ("own", "sb3:PPO")
    """Our own (the toy game's as its run left it), and algorithms of stable-baselines3."""
    agent_arguments: str = "{}"
    """Of the algorithms' own constructors, as JSON, instead of those chosen here."""
    rollouts: int = 1_000
    """For each, of the run's size."""
    episodes: int = 100
    """Dreamt and real ones, played greedily in the end."""
    horizon: int = 200
    """Steps after which these dreamt episodes are over."""
    seed: int = 0
    """Of what the agents begin with and draw."""
    json: bool = False
    """Print one JSON list and nothing else."""

    def __post_init__(self) -> None:
        positive(self, "rollouts", "horizon")
        if self.episodes < 2 or not self.agents:
            raise ValueError("--episodes must be 2 or more, and --agents one or more")

    def run(self) -> None:
        from worldmodel.experiments.cli import jobs

        jobs.bench_dream(
            self.path,
            self.agents,
            self.agent_arguments,
            self.rollouts,
            self.episodes,
            self.horizon,
            self.seed,
            self.json,
        )


@dataclass(frozen=True)
class BenchCores:
    """Measure how fast the cores learn and dream, beside the obvious loop and matrix products.

    Takes about four minutes; let nothing else run. With --preset, whole updates of an agent.
    """

    core: Literal["all", "rnn", "independent", "vrnn", "srnn", "rssm", "vae"] = "all"
    """Which core."""
    preset: Literal["none", "dreamerv3-1m"] = "none"
    """dreamerv3-1m: instead, the update of a world model and an actor-critic of those sizes."""
    growth: bool = True
    """Measure, too, how the cost grows with rows, columns, hidden units and particles."""
    compile: bool = False
    """Measure, too, what torch.compile makes of the cores' steps (some minutes more)."""
    device: Literal["cpu", "cuda"] = "cpu"
    """Where to compute."""
    threads: int = 2
    """Of the processor."""
    json: bool = False
    """Print one JSON object and nothing else."""

    def __post_init__(self) -> None:
        if self.threads < 1:
            raise ValueError(f"--threads must be 1 or more, got {self.threads}")

    def run(self) -> None:
        from worldmodel.experiments.cli import jobs

        jobs.bench_cores(
            self.core,
            self.preset,
            self.growth,
            self.compile,
            self.device,
            self.threads,
            self.json,
        )


@dataclass(frozen=True)
class BenchExact:
    """Measure what bounds and training lose, for every core, where the likelihood is known.

    Ctrl-C shows what was measured until then.
    """

    json: bool = False
    """Print one JSON list and nothing else."""
    quick: bool = False
    """Make everything so small that it ends within seconds: to try an installation."""
    config: tyro.conf.OmitArgPrefixes[ExactConfig] = field(default_factory=ExactConfig)

    def run(self) -> None:
        from worldmodel.experiments.cli import jobs

        jobs.bench_exact(quick_exact(self.config) if self.quick else self.config, self.json)


@dataclass(frozen=True)
class BenchMusic:
    """Train cores by several bounds on polyphonic music, beside every published figure.

    Each model takes up to ten minutes on one thread for JSB, and longer for the other sets.
    """

    set: tuple[Literal["JSB", "Nottingham", "MuseData", "Piano-midi"], ...] = ("JSB",)
    """Of Boulanger-Lewandowski et al. 2012, one or more; the recipes were found on JSB."""
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
    """What to train, and by which bound."""
    data: Path = Path("data/polymusic")
    """The folder that holds JSB_Chorales.npz and its like."""
    seed: int = 0
    """Of everything that is random."""
    bounds: tuple[LearningBound, ...] = get_args(LearningBound)
    """What models with latents are scored by; the best counts."""
    particles: int = 128
    """Of those bounds."""
    minutes: float = 0.0
    """Learn for about so long each, at most; 0: all the updates that were found good."""
    quick: bool = False
    """Make everything so small that it ends within seconds: to try an installation."""
    json: bool = False
    """Print one JSON list, of the sets, and nothing else."""

    def __post_init__(self) -> None:
        if not self.set or not self.models or not self.bounds:
            raise ValueError("--set, --models and --bounds are one or more")
        positive(self, "particles")
        not_negative(self, "minutes")

    def run(self) -> None:
        from worldmodel.experiments.cli import jobs

        jobs.bench_music(
            self.data,
            self.set,
            self.models,
            self.seed,
            self.bounds,
            self.minutes,
            self.particles,
            self.quick,
            self.json,
        )


@dataclass(frozen=True)
class BenchIWAE:
    """Does importance weighting help? VAE_5 against IWAE_5 on Bach chorales, some seeds each.

    Takes about twelve minutes a seed on one thread.
    """

    data: Path = Path("data/polymusic")
    """The folder that holds JSB_Chorales.npz."""
    seeds: int = 3
    """How many, from 0 on."""
    plot: Path | None = None
    """A picture to write (.png, .svg); needs matplotlib."""
    quick: bool = False
    """Make everything so small that it ends within seconds: to try an installation."""
    json: bool = False
    """Print one JSON object and nothing else."""

    def __post_init__(self) -> None:
        if self.seeds < 2:
            raise ValueError(
                f"--seeds must be 2 or more (there is no standard error of one), got {self.seeds}"
            )

    def run(self) -> None:
        from worldmodel.experiments.cli import jobs

        jobs.bench_iwae(self.data, self.seeds, self.plot, self.quick, self.json)


@dataclass(frozen=True)
class BenchVAE:
    """Train the convolutional VAE on MNIST, by the ELBO and by the IWAE, some seeds each."""

    data: Path = Path("data/mnist")
    """The folder that holds mnist.npz, with the arrays x_train and x_test."""
    models: tuple[Literal["vae", "vae-5", "iwae-5"], ...] = ("vae", "vae-5", "iwae-5")
    """One draw, the mean of five bounds, the importance-weighted bound of five."""
    seeds: int = 3
    """How many, from 0 on."""
    seed: int | None = None
    """This one alone."""
    minutes: float = 10.0
    """That each model learns for; to score it takes some minutes more."""
    threads: int = 2
    """Of the processor."""
    quick: bool = False
    """Make everything so small that it ends within seconds: to try an installation."""
    json: bool = False
    """Print one JSON object and nothing else."""

    def __post_init__(self) -> None:
        if self.seed is not None:
            not_negative(self, "seed")
        if self.seeds < 1 or self.threads < 1 or self.minutes <= 0:
            raise ValueError(
                "--seeds, --threads and --minutes must be positive, got "
                f"{self.seeds}, {self.threads} and {self.minutes}"
            )

    def run(self) -> None:
        from worldmodel.experiments.cli import jobs

        seeds = range(self.seeds) if self.seed is None else [self.seed]
        jobs.bench_vae(
            self.data, self.models, seeds, self.minutes, self.threads, self.quick, self.json
        )


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
class BenchSpeech:
    """Train cores with several heads on spoken digits, beside Gaussians that are fitted at once.

    Each model takes some minutes a seed on one thread.
    """

    data: Path = Path("data/fsdd")
    """The folder that holds fsdd.npz, with the arrays wave, length, index and rate."""
    models: tuple[SpeechModel, ...] = get_args(SpeechModel)
    """Which core, and which head."""
    seeds: int = 3
    """How many, from 0 on."""
    seed: int | None = None
    """This one alone."""
    minutes: float = 0.0
    """Learn for about so long each, instead of the updates that were found good."""
    bounds: tuple[LearningBound, ...] = get_args(LearningBound)
    """What models with latents are scored by; the best counts."""
    quick: bool = False
    """Make everything so small that it ends within seconds: to try an installation."""
    json: bool = False
    """Print one JSON object and nothing else."""

    def __post_init__(self) -> None:
        positive(self, "seeds")
        not_negative(self, "minutes")
        if not self.models or not self.bounds:
            raise ValueError("--models and --bounds are one or more")
        if self.seed is not None:
            not_negative(self, "seed")

    def run(self) -> None:
        from worldmodel.experiments.cli import jobs

        seeds = range(self.seeds) if self.seed is None else [self.seed]
        jobs.bench_speech(
            self.data, self.models, seeds, self.minutes, self.bounds, self.quick, self.json
        )


@dataclass(frozen=True)
class BenchImages:
    """Draw images from files larger than memory: how fast, beside numpy, and how much is resident.

    The files are made first, and removed again.
    """

    dir: Path | None = None
    """Where to make them; a temporary folder by default."""
    gigabytes: float = 4.4
    """How much of them."""
    samples: int = 200_000
    """Images that are drawn."""
    json: bool = False
    """Print one JSON object and nothing else."""

    def __post_init__(self) -> None:
        if self.gigabytes <= 0 or self.samples < 1:
            raise ValueError(
                "--gigabytes and --samples must be positive, "
                f"got {self.gigabytes} and {self.samples}"
            )

    def run(self) -> None:
        from worldmodel.experiments.cli import jobs

        if self.dir is not None and not self.dir.is_dir():
            raise RunError(f"there is no folder {self.dir}; make it, or leave out --dir")
        jobs.bench_images(self.dir, self.gigabytes, self.samples, self.json)


@dataclass(frozen=True)
class BenchPlay:
    """Play and show one game, as a person does: how long a step and a frame take."""

    path: Annotated[Path | None, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")] = None
    """A run's folder; without it, CartPole from images of 64 x 64 pixels, by models that have
    learned nothing."""
    steps: int = 500
    """That are timed."""
    threads: int = 1
    """Threads of the processor; `play` takes one."""
    json: bool = False
    """Print one JSON list and nothing else."""

    def __post_init__(self) -> None:
        positive(self, "steps", "threads")

    def run(self) -> None:
        from worldmodel.experiments.cli import jobs

        jobs.bench_play(self.path, self.steps, self.threads, self.json)


@dataclass(frozen=True)
class BenchReplay:
    """Measure what a replay on disk costs as it grows: resident memory, and time a batch.

    Takes about a minute and 30 bytes of disk a row, which are given back.
    """

    rows: int = 10_000_000
    """Small rows, at most; a tenth and a hundredth of them are measured, too."""
    folder: Path | None = None
    """Where to write; a temporary place by default."""
    json: bool = False
    """Print one JSON list and nothing else."""

    def __post_init__(self) -> None:
        if self.rows < 1:
            raise ValueError(f"--rows must be 1 or more, got {self.rows}")

    def run(self) -> None:
        from worldmodel.experiments.cli import jobs

        jobs.bench_replay(self.rows, self.folder, self.json)


@dataclass(frozen=True)
class BenchVisitors:
    """Let many visitors play a run's game in the browser's face at once; how soon each sees what
    a key has done, in how much memory, and whether any game touches another's.

    Takes about a minute; let nothing else run.
    """

    path: RunPath
    """The run's folder."""
    visitors: int = 20
    """How many."""
    seconds: float = 20.0
    """That they play for."""
    rate: float = 5.0
    """Keys a second of each."""
    json: bool = False
    """Print one JSON object and nothing else."""

    def __post_init__(self) -> None:
        positive(self, "visitors", "seconds", "rate")

    def run(self) -> None:
        from worldmodel.experiments.cli import jobs

        jobs.bench_visitors(self.path, self.visitors, self.seconds, self.rate, self.json)


@dataclass(frozen=True)
class Train:
    """Train a world model and an agent in its dream; `worldmodel train --help` lists on what."""


@dataclass(frozen=True)
class Bench:
    """Measure; `worldmodel bench --help` lists what."""


DESCRIPTION = "Learn a game, dream it, train in the dream, play it, film it."

VERBS: dict[str, Any] = {
    "train": Train,
    "resume": Resume,
    "evaluate": Evaluate[Unknown],
    "generate": Generate,
    "plot": Plot,
    "report": Report,
    "play": Play,
    "video": Video,
    "export": Export,
    "bench": Bench,
}
GROUPS: dict[str, dict[str, Any]] = {
    "train": {
        "toy-game": TrainToyGame,
        "control": TrainControl,
        "vae": TrainVAE,
        "text": TrainRecordings[TextConfig],
        "audio": TrainRecordings[AudioConfig],
        "midi": TrainRecordings[MidiConfig],
        "strokes": TrainRecordings[StrokesConfig],
    },
    "bench": {
        "toy-game": BenchToyGame,
        "control": BenchControl,
        "dream": BenchDream,
        "exact": BenchExact,
        "cores": BenchCores,
        "music": BenchMusic,
        "iwae": BenchIWAE,
        "vae": BenchVAE,
        "speech": BenchSpeech,
        "images": BenchImages,
        "replay": BenchReplay,
        "play": BenchPlay,
        "visitors": BenchVisitors,
    },
}


def main(arguments: list[str] | None = None) -> None:
    """Runs a command; what a user can mend ends with one sentence and exit code 2."""
    arguments = sys.argv[1:] if arguments is None else arguments
    try:
        command = parse(arguments)
        from worldmodel.experiments.runs.processor import keep_memory

        keep_memory()
        command.run()
    except (RunError, FloatingPointError) as error:
        print(f"worldmodel: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("worldmodel: stopped", file=sys.stderr)
        sys.exit(130)


def parse(arguments: list[str]) -> Any:
    """What is asked for, as one of the classes above."""
    verbs, program = VERBS, "worldmodel"
    if arguments[:1] == ["evaluate"]:
        for run in filter(is_run, arguments[1:]):
            return parse_evaluate(Path(run), arguments[1:])
    if arguments and arguments[0] in GROUPS:
        verbs, program = GROUPS[arguments[0]], f"worldmodel {arguments[0]}"
        arguments = arguments[1:]
    return tyro.extras.subcommand_cli_from_dict(
        verbs, prog=program, description=DESCRIPTION, args=arguments
    )


def parse_evaluate(run: Path, arguments: list[str]) -> Any:
    """With the options of the run's experiment; what is not given is as the run was told."""
    from worldmodel.experiments.cli import jobs

    settings = jobs.evaluation_settings(run)
    command: Any = Evaluate[type(settings)]  # type: ignore[misc]
    default = command(path=run, settings=settings)
    return tyro.cli(command, prog="worldmodel evaluate", default=default, args=arguments)


def is_run(argument: str) -> bool:
    return (Path(argument) / "config.json").is_file()


if __name__ == "__main__":
    main()
