"""What the verbs of the command line do."""

import json
import shlex
import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import torch
from rich.console import Console
from rich.table import Table

from worldmodel import CORES
from worldmodel.disk_store import StoreInUseError
from worldmodel.envs.observations import StrangeValueError
from worldmodel.experiments.recordings.config import GenerateConfig, ScoreConfig
from worldmodel.experiments.rl.baseline_config import BaselineConfig
from worldmodel.experiments.rl.config import AgentName
from worldmodel.experiments.rl.toy_game_config import ExactConfig
from worldmodel.experiments.runs.progress import Interrupted, Reporter
from worldmodel.experiments.runs.stages import Training, newest_checkpoint
from worldmodel.experiments.show.config import PlayConfig, VideoConfig
from worldmodel.run_folder import RunError, RunFolder, experiment_of, write_text

if TYPE_CHECKING:
    from worldmodel.experiments.show.report import Kind

Note = Callable[[str, int, int], None]  # told of (what, done, total)


class Experiment(NamedTuple):
    """What the verbs do with the runs of an experiment. Some experiments lack some verbs."""

    training: Callable[[RunFolder, Reporter], Training] | None = None
    finish: Callable[[RunFolder, Reporter], None] = lambda folder, reporter: None  # when trained
    check: Callable[[Any], None] = lambda config: None  # raises what is wrong with a configuration
    settings: Callable[[Any], Any] | None = None  # of a configuration: how a run is evaluated
    evaluate: Callable[[RunFolder, Any, Note], dict[str, Any]] | None = None
    tables: Callable[[dict[str, Any]], Sequence[Table]] | None = None  # of what was evaluated
    load: Callable[[RunFolder], Any] | None = None  # what `play` and `video` show
    generate: Callable[[RunFolder, GenerateConfig, Reporter], list[Path]] | None = None
    report: "Callable[[], Kind] | None" = None  # what a report shows


def _toy_game() -> Experiment:
    from worldmodel.experiments.rl import toy_game
    from worldmodel.experiments.rl import toy_game_evaluation as evaluate

    def finish(folder: RunFolder, reporter: Reporter) -> None:
        _evaluate(folder, folder.config().evaluation, as_json=False)
        films = [folder.videos / f"film{suffix}" for suffix in (".mp4", ".gif")]
        video(folder.path, VideoConfig(), films)
        reporter.say(f"step inside: worldmodel play {shlex.quote(str(folder.path))}")

    return Experiment(
        toy_game.Training,
        finish,
        settings=lambda config: config.evaluation,
        evaluate=evaluate.evaluate,
        tables=evaluate.tables,
        load=lambda folder: toy_game.load_run(folder)[0],
        report=lambda: _reports().TOY_GAME,
    )


def _control() -> Experiment:
    from worldmodel.experiments.rl import evaluation as protocol
    from worldmodel.experiments.rl import parts as control_parts
    from worldmodel.experiments.rl import training as control

    return Experiment(
        control.Training,
        lambda folder, reporter: _evaluate(
            folder, folder.config().returns.protocol, as_json=False
        ),
        check=control.check,
        settings=lambda config: config.returns.protocol,
        evaluate=protocol.evaluate,
        tables=protocol.tables,
        load=lambda folder: control_parts.load_run(folder)[0],
        report=lambda: _reports().CONTROL,
    )


def _vae() -> Experiment:
    from worldmodel.experiments.images import training as vae

    return Experiment(vae.Training, vae.finish)


def _recordings() -> Experiment:
    from worldmodel.experiments.recordings import dreaming, scoring, training

    def finish(folder: RunFolder, reporter: Reporter) -> None:
        _evaluate(folder, ScoreConfig(), as_json=False)
        reporter.say(f"go on dreaming: worldmodel generate {shlex.quote(str(folder.path))}")

    return Experiment(
        training.Training,
        finish,
        check=training.check,
        settings=lambda config: ScoreConfig(),
        evaluate=scoring.evaluate,
        tables=scoring.tables,
        generate=dreaming.generate,
    )


# By name, those of `runs.folder.EXPERIMENTS`; each is imported when a run of it is met.
EXPERIMENTS: dict[str, Callable[[], Experiment]] = {
    "toy-game": _toy_game,
    "control": _control,
    "vae": _vae,
    "text": _recordings,
    "audio": _recordings,
    "midi": _recordings,
    "strokes": _recordings,
    "baseline": Experiment,
}


def experiment_of_run(folder: RunFolder) -> Experiment:
    """What the verbs do with a run."""
    return EXPERIMENTS[folder.experiment]()


def train(path: Path, config: Any) -> None:
    """A new run, to its end."""
    EXPERIMENTS[experiment_of(config)]().check(config)
    _go_on(RunFolder.create(path, config))


def resume(path: Path) -> None:
    """An interrupted run, to its end."""
    _go_on(RunFolder.open(path))


def _go_on(folder: RunFolder) -> None:
    reporter = Reporter()
    hint = f"worldmodel resume {shlex.quote(str(folder.path))}"
    experiment = experiment_of_run(folder)
    if experiment.training is None:
        raise _no_such_verb("resume", folder)
    try:
        training = experiment.training(folder, reporter)
        training.restore()
        training.run()
    except Interrupted:
        reporter.say(f"saved; go on with: {hint}")
        sys.exit(130)
    except (FloatingPointError, StrangeValueError, StoreInUseError) as error:
        raise RunError(f"{folder.path}: {error}") from error
    except KeyboardInterrupt:
        reporter.say(f"stopped; go on from the last checkpoint with: {hint}")
        sys.exit(130)
    reporter.say(f"trained in {training.seconds:.0f} s")
    experiment.finish(folder, reporter)


def evaluation_settings(path: Path) -> Any:
    """How a run is evaluated unless something else is asked for: as it was told in training."""
    folder = RunFolder.open(path)
    settings = experiment_of_run(folder).settings
    if settings is None:
        raise _no_such_verb("evaluate", folder)
    return settings(folder.config())


def evaluate(path: Path, settings: Any, as_json: bool) -> None:
    """Scores a run; the result is also kept as evaluation.json, and in metrics.jsonl."""
    _evaluate(RunFolder.open(path), settings, as_json)


def _evaluate(folder: RunFolder, settings: Any, as_json: bool) -> None:
    reporter = Reporter()
    experiment = experiment_of_run(folder)
    if experiment.evaluate is None or experiment.tables is None:
        raise _no_such_verb("evaluate", folder)

    def note(what: str, done: int, total: int) -> None:
        if not as_json:
            reporter.note(what, done, total)

    result = _evaluated(folder, experiment.evaluate, settings, note)
    if as_json:
        print(json.dumps(result, indent=2))
    else:
        Console().print(*experiment.tables(result))


def _evaluated(
    folder: RunFolder,
    evaluate: Callable[[RunFolder, Any, Note], dict[str, Any]],
    settings: Any,
    note: Note,
) -> dict[str, Any]:
    """All figures of a run, which are kept in its folder, too."""
    result = evaluate(folder, settings, note)
    write_text(folder.path / "evaluation.json", json.dumps(result, indent=2) + "\n")
    folder.log({"stage": "final"} | result)
    return result


def _no_such_verb(verb: str, folder: RunFolder) -> RunError:
    return RunError(f"there is no `{verb}` for runs of {folder.experiment}, such as {folder.path}")


def _to_be_shown(verb: str, folder: RunFolder) -> Any:
    """What a run holds, for verbs that show it."""
    load = experiment_of_run(folder).load
    if load is None:
        raise _no_such_verb(verb, folder)
    torch.set_num_threads(1)  # one game is small work, over which threads only meet
    return load(folder)


def generate(path: Path, told: GenerateConfig) -> None:
    """Dreamt recordings, written for people."""
    folder = RunFolder.open(path)
    experiment = experiment_of_run(folder)
    if experiment.generate is None:
        raise _no_such_verb("generate", folder)
    reporter = Reporter()
    for file in experiment.generate(folder, told, reporter):
        reporter.say(f"written: {file}")


def plot(paths: Sequence[Path], out: Path, thresholds: Sequence[float]) -> None:
    """Learning curves of runs, as a picture."""
    from worldmodel.experiments.show import curves

    curves.check_picture(out, "--out")
    curves.plot([RunFolder.open(path) for path in paths], out, thresholds)
    Reporter().say(f"written: {out}")


def _reports() -> Any:
    return import_module("worldmodel.experiments.show.report")


def report(path: Path, out: Path | None) -> None:
    """One page that shows all of a run."""
    folder = RunFolder.open(path)
    experiment = experiment_of_run(folder)
    if experiment.report is None or experiment.evaluate is None or experiment.settings is None:
        raise _no_such_verb("report", folder)
    from worldmodel.experiments.show.report import check_page, evaluated, write_report

    out = out or folder.path / "report.html"
    check_page(out)
    parts, checkpoint, reporter = (
        _to_be_shown("report", folder),
        newest_checkpoint(folder),
        Reporter(),
    )
    result = evaluated(folder, checkpoint)
    if result is None:
        reporter.say("there is no evaluation of the newest checkpoint: evaluating")
        settings = experiment.settings(folder.config())
        result = _evaluated(folder, experiment.evaluate, settings, reporter.note)
    write_report(folder, experiment.report(), parts, checkpoint, result, out, reporter)
    reporter.say(f"written: {out}")


def play(path: Path, told: PlayConfig) -> None:
    """A run's worlds, with a person at the controls."""
    folder = RunFolder.open(path)
    parts = _to_be_shown("play", folder)
    torch.set_num_threads(1)  # one game at a time is too little work to be shared
    face = import_module(f"worldmodel.experiments.show.play.{told.view}")
    face.play(parts, told, folder.videos)


def video(path: Path, told: VideoConfig, out: Sequence[Path] = ()) -> None:
    """A film of a run's worlds, with an agent at the controls."""
    folder = RunFolder.open(path)
    parts = _to_be_shown("video", folder)
    from worldmodel.experiments.show.video import check_files, film, plan_of

    plan = plan_of(parts, told)
    files = out or [folder.videos / f"{plan.kind}{suffix}" for suffix in (".mp4", ".gif")]
    check_files(files, plan.fps)
    reporter = Reporter()
    with reporter.stage("filming", plan.steps, 0, "frames") as stage:
        film(parts, plan, files, stage.update)
    for file in files:
        reporter.say(f"written: {file}")


def export(path: Path, out: Path, format: Literal["minari", "npz"]) -> None:
    """The episodes of a run, written for others."""
    from worldmodel.experiments.data import datasets

    data = datasets.open_data(path)
    count = datasets.export(*data, out, format)
    Reporter().say(f"written: {count} episodes, {data.episodes.steps} steps, {out}")


def bench_toy_game(
    algorithm: Literal["ppo", "recurrent-ppo"],
    steps: int,
    last_action: bool,
    width: int,
    classes: int,
    task: Literal["copy", "equal"],
    seed: int,
    as_json: bool,
) -> None:
    """Another algorithm on the real game."""
    from worldmodel.experiments.bench.toy_game import baseline

    try:
        result = baseline(algorithm, steps, seed, width, classes, task, last_action)
    except ImportError as error:
        raise RunError(
            f"{error}; install it with: pip install 'worldmodel-gym[contrib]'"
        ) from error
    if as_json:
        print(json.dumps(result, indent=2))
    else:
        for key, value in result.items():
            print(f"{key}: {value}")


def bench_control(path: Path, config: BaselineConfig) -> None:
    """Another algorithm in the real environment."""
    from worldmodel.experiments.bench.control import baseline

    reporter = Reporter()
    baseline(RunFolder.create(path, config), reporter)
    reporter.say(f"written: {path / 'metrics.jsonl'}")


def bench_dream(
    path: Path,
    agents: Sequence[AgentName],
    arguments: str,
    rollouts: int,
    episodes: int,
    horizon: int,
    seed: int,
    as_json: bool,
) -> None:
    """Several agents in the dream of one run."""
    from worldmodel.experiments.bench import dream, tables

    folder = RunFolder.open(path)
    rows = dream.bench(folder, agents, arguments, rollouts, episodes, horizon, seed, Reporter())
    if as_json:
        print(json.dumps(rows, indent=2))
    else:
        Console().print(tables.of_dream(rows))


def bench_cores(
    core: str,
    preset: str,
    growth: bool,
    compiled: bool,
    device: str,
    threads: int,
    as_json: bool,
) -> None:
    """How fast the cores are, or a preset's whole updates."""
    from worldmodel.experiments.bench import cores, dreamer, tables

    if device == "cuda" and not torch.cuda.is_available():
        raise RunError("PyTorch finds no CUDA device here; measure with --device cpu")
    if device != "cpu":  # as a default even "cpu" costs a microsecond a call
        torch.set_default_device(device)
    torch.set_num_threads(threads)
    if preset == "none":
        chosen = list(CORES) if core == "all" else [core]
        result = cores.bench_cores(chosen, growth, compiled, Reporter())
        shown = tables.of_cores(result)
    else:
        result = dreamer.bench_dreamer(compiled, Reporter())
        shown = tables.of_dreamer(result)
    if as_json:
        print(json.dumps(result, indent=2))
    else:
        Console().print(*shown)


def bench_exact(config: ExactConfig, as_json: bool) -> None:
    """Every core beside exact likelihoods; shown when all is measured, or at Ctrl-C."""
    from worldmodel.experiments.bench import tables
    from worldmodel.experiments.bench.exact import exact

    figures: list[dict[str, Any]] = []
    reporter = Reporter()
    stopped = False
    try:
        for figure in exact(config, reporter):
            figures.append(figure._asdict())
    except KeyboardInterrupt:
        stopped = True
    if as_json:
        print(json.dumps(figures, indent=2))
    else:
        Console().print(*tables.of_exact(figures))
    if stopped:
        reporter.say(f"stopped; {len(figures)} figures were measured until then")
        sys.exit(130)


def bench_music(
    data: Path,
    names: Sequence[str],
    models: Sequence[str],
    seed: int,
    bounds: Sequence[str],
    minutes: float,
    particles: int,
    quick: bool,
    as_json: bool,
) -> None:
    """Models of polyphonic music, on one thread."""
    from worldmodel.experiments.bench import music, tables

    torch.set_num_threads(1)
    results = music.bench(data, names, models, seed, bounds, minutes, particles, quick, Reporter())
    if as_json:
        print(json.dumps(results, indent=2))
    else:
        Console().print(*(shown for result in results for shown in tables.of_music(result)))


def bench_iwae(data: Path, seeds: int, picture: Path | None, quick: bool, as_json: bool) -> None:
    """Whether importance weighting helps, on one thread."""
    from worldmodel.experiments.bench import iwae, tables
    from worldmodel.experiments.show.curves import check_picture

    if picture is not None:
        check_picture(picture, "--plot")
    torch.set_num_threads(1)
    result = iwae.experiment(data, seeds, quick, Reporter())
    if picture is not None:
        iwae.plot(result, picture)
    if as_json:
        print(json.dumps(result, indent=2))
    else:
        Console().print(tables.of_iwae(result))


def bench_vae(
    data: Path,
    models: Sequence[str],
    seeds: Sequence[int],
    minutes: float,
    threads: int,
    quick: bool,
    as_json: bool,
) -> None:
    """The convolutional VAE on MNIST."""
    from worldmodel.experiments.bench import tables, vae

    torch.set_num_threads(threads)
    result = vae.bench(data, models, seeds, minutes, quick, Reporter())
    if as_json:
        print(json.dumps(result, indent=2))
    else:
        Console().print(*tables.of_vae(result))


def bench_speech(
    data: Path,
    models: Sequence[str],
    seeds: Sequence[int],
    minutes: float,
    bounds: Sequence[str],
    quick: bool,
    as_json: bool,
) -> None:
    """Models of spoken digits, on one thread."""
    from worldmodel.experiments.bench import speech, tables

    torch.set_num_threads(1)
    result = speech.bench(data, models, seeds, minutes, bounds, quick, Reporter())
    if as_json:
        print(json.dumps(result, indent=2))
    else:
        Console().print(*tables.of_speech(result))


def bench_images(folder: Path | None, gigabytes: float, samples: int, as_json: bool) -> None:
    """How fast images on disk are drawn, in how much memory."""
    from worldmodel.experiments.bench import images, tables

    result = images.bench(folder, gigabytes, samples, Reporter())
    if as_json:
        print(json.dumps(result, indent=2))
    else:
        Console().print(tables.of_images(result))


def bench_play(path: Path | None, steps: int, threads: int, as_json: bool) -> None:
    """How long a step and a frame of the player take."""
    from worldmodel.experiments.bench import play, tables

    torch.set_num_threads(threads)
    parts = None if path is None else _to_be_shown("bench play", RunFolder.open(path))
    result = play.bench(parts, str(path), steps, Reporter())
    if as_json:
        print(json.dumps(result, indent=2))
    else:
        Console().print(tables.of_play(result))


def bench_replay(rows: int, folder: Path | None, as_json: bool) -> None:
    """What a replay on disk costs as it grows."""
    from worldmodel.experiments.bench import replay, tables

    result = replay.bench(rows, folder, Reporter())
    if as_json:
        print(json.dumps(result, indent=2))
    else:
        Console().print(tables.of_replay(result))


def bench_visitors(path: Path, visitors: int, seconds: float, rate: float, as_json: bool) -> None:
    """How soon many visitors of the browser's face see what they have done."""
    try:
        from worldmodel.experiments.bench import tables
        from worldmodel.experiments.bench import visitors as measured
    except ModuleNotFoundError as error:
        raise RunError(
            f"{error}; install it with: pip install 'worldmodel-gym[browser]'"
        ) from error
    result = measured.bench(RunFolder.open(path).path, visitors, seconds, rate, Reporter())
    if as_json:
        print(json.dumps(result, indent=2))
    else:
        Console().print(tables.of_visitors(result))
