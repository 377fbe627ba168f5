"""What the verbs of the command line do."""

import json
import shlex
import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

import torch
from rich.console import Console
from rich.table import Table

from experiments.baseline_config import BaselineConfig
from experiments.config import EvaluationConfig, ExactConfig
from experiments.evaluate import evaluate as score
from experiments.progress import Interrupted, Reporter
from experiments.run import RunError, RunFolder, write_text
from experiments.toy_game import load_run
from worldmodel import CORES


def train(path: Path, config: Any) -> None:
    """A new run, to its end."""
    _go_on(RunFolder.create(path, config))


def resume(path: Path) -> None:
    """An interrupted run, to its end."""
    _go_on(RunFolder.open(path))


def _go_on(folder: RunFolder) -> None:
    reporter = Reporter()
    hint = f"worldmodel resume {shlex.quote(str(folder.path))}"
    experiment = experiment_module(folder)
    try:
        training = experiment.Training(folder, reporter)
        training.restore()
        training.run()
    except Interrupted:
        reporter.say(f"saved; go on with: {hint}")
        sys.exit(130)
    except FloatingPointError as error:
        raise RunError(f"{folder.path}: {error}") from error
    except KeyboardInterrupt:
        reporter.say(f"stopped; go on from the last checkpoint with: {hint}")
        sys.exit(130)
    reporter.say(f"trained in {training.seconds:.0f} s")
    AFTERWARDS[folder.experiment](folder, reporter)


def experiment_module(folder: RunFolder) -> ModuleType:
    """The module of a run's experiment, which has a `Training`."""
    if folder.experiment == "baseline":
        raise RunError(f"{folder.path} is a baseline, which has no model and is not gone on with")
    return import_module(f"experiments.{folder.experiment.replace('-', '_')}")


def _after_toy_game(folder: RunFolder, reporter: Reporter) -> None:
    evaluate(folder.path, folder.config().evaluation, as_json=False)
    video(folder.path, (), 60, "policy", 0, 2.0)
    reporter.say(f"step inside: worldmodel play {shlex.quote(str(folder.path))}")


def _after_vae(folder: RunFolder, reporter: Reporter) -> None:
    from experiments.vae import finish

    finish(folder, reporter)


# By experiment, what is done with a run that has been trained.
AFTERWARDS: dict[str, Callable[[RunFolder, Reporter], None]] = {
    "toy-game": _after_toy_game,
    "control": lambda folder, reporter: None,
    "vae": _after_vae,
}


def evaluate(path: Path, settings: EvaluationConfig, as_json: bool) -> None:
    """Scores a run; the result is also kept as evaluation.json."""
    folder = RunFolder.open(path)
    reporter = Reporter()

    def note(what: str, done: int, total: int) -> None:
        if not as_json:
            reporter.say(f"{what}: {done}/{total}")

    result = score(folder, settings, note)
    write_text(folder.path / "evaluation.json", json.dumps(result, indent=2) + "\n")
    if as_json:
        print(json.dumps(result, indent=2))
    else:
        _show(result)


def _show(result: dict[str, Any]) -> None:
    table = Table(title=f"seed {result['seed']}, {result['real_steps_used']} real steps")
    for column in ("", "here", "exact", "difference"):
        table.add_column(column, justify="left" if not column else "right")
    rows = {"nats a step": result} | {f"  {k}": v for k, v in result["by_key"].items()}
    for name, row in rows.items():
        here = f"{row['nats_per_step']:.4f} ± {row['nats_per_step_se']:.4f}"
        gap = f"{row['gap_nats_per_step']:.4f} ± {row['gap_se']:.4f}"
        table.add_row(name, here, f"{row['exact_nats_per_step']:.4f}", gap)
    table.add_row("bits a step", f"{result['bits_per_step']:.4f}", "", "")
    episode = f"{result['nats_per_episode']:.3f} ± {result['nats_per_episode_se']:.3f}"
    table.add_row("nats an episode", episode, "", "")
    optimal = result["optimal_mean_steps"]
    for name, key in (
        ("steps to solve, real", "policy_mean_steps"),
        ("steps to solve, dreamt", "dream_mean_steps"),
        ("steps at random", "random_mean_steps"),
    ):
        mean = result[key]
        table.add_row(name, f"{mean:.3f}", f"{optimal:.3f}", f"{mean - optimal:+.3f}")
    table.add_row("solved", f"{100 * result['policy_solved_fraction']:.2f} %", "", "")
    Console().print(table)


def play(path: Path, world: Literal["dream", "real"], seed: int) -> None:
    """The player, in the terminal."""
    from experiments.play import play as step_inside

    step_inside(load_run(RunFolder.open(path))[0], world, seed)


def video(
    path: Path,
    out: tuple[Path, ...],
    steps: int,
    agent: Literal["policy", "uniform"],
    seed: int,
    fps: float,
) -> None:
    """A film of real | dream | difference."""
    from experiments.video import film

    folder = RunFolder.open(path)
    parts, _ = load_run(folder)
    files = out or (folder.videos / "film.mp4", folder.videos / "film.gif")
    reporter = Reporter()
    with reporter.stage("filming", steps, 0, "frames") as stage:
        film(parts, files, steps, seed, agent, fps, lambda done, total: stage.update(done))
    for file in files:
        reporter.say(f"written: {file}")


def export(path: Path, out: Path, format: Literal["minari", "npz"]) -> None:
    """The episodes of a run, written for others."""
    from experiments import datasets

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
    from experiments.bench.toy_game import baseline

    try:
        result = baseline(algorithm, steps, seed, width, classes, task, last_action)
    except ImportError as error:
        raise RunError(f"{error}; install it with: pip install 'worldmodel[contrib]'") from error
    if as_json:
        print(json.dumps(result, indent=2))
    else:
        for key, value in result.items():
            print(f"{key}: {value}")


def bench_control(path: Path, config: BaselineConfig) -> None:
    """Another algorithm in the real environment."""
    from experiments.bench.control import baseline

    reporter = Reporter()
    baseline(RunFolder.create(path, config), reporter)
    reporter.say(f"written: {path / 'metrics.jsonl'}")


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
    from experiments.bench import cores, dreamer, tables

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
    from experiments.bench import tables
    from experiments.bench.exact import exact

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
    data: Path, name: str, models: Sequence[str], seed: int, quick: bool, as_json: bool
) -> None:
    """Models of polyphonic music, on one thread."""
    from experiments.bench import music, tables

    torch.set_num_threads(1)
    result = music.bench(data, name, models, seed, quick, Reporter())
    if as_json:
        print(json.dumps(result, indent=2))
    else:
        Console().print(*tables.of_music(result))


def bench_iwae(data: Path, seeds: int, picture: Path | None, quick: bool, as_json: bool) -> None:
    """Whether importance weighting helps, on one thread."""
    from experiments.bench import iwae, tables

    if picture is not None:
        iwae.check_picture(picture)
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
    seeds: int,
    minutes: float,
    threads: int,
    quick: bool,
    as_json: bool,
) -> None:
    """The convolutional VAE on MNIST."""
    from experiments.bench import tables, vae

    torch.set_num_threads(threads)
    result = vae.bench(data, models, seeds, minutes, quick, Reporter())
    if as_json:
        print(json.dumps(result, indent=2))
    else:
        Console().print(*tables.of_vae(result))


def bench_images(folder: Path | None, gigabytes: float, samples: int, as_json: bool) -> None:
    """How fast images on disk are drawn, in how much memory."""
    from experiments.bench import images, tables

    result = images.bench(folder, gigabytes, samples, Reporter())
    if as_json:
        print(json.dumps(result, indent=2))
    else:
        Console().print(tables.of_images(result))


def bench_replay(rows: int, folder: Path | None, as_json: bool) -> None:
    """What a replay on disk costs as it grows."""
    from experiments.bench import replay, tables

    result = replay.bench(rows, folder, Reporter())
    if as_json:
        print(json.dumps(result, indent=2))
    else:
        Console().print(tables.of_replay(result))
