"""The verbs of the command line, for runs of any experiment.

A verb gets the functions of a run's experiment from the registry, and names no experiment.
"""

import json
import os
import shlex
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, redirect_stdout
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from types import MappingProxyType
from typing import Any

import cattrs
import torch
from rich.console import Console

from worldmodel import Watcher, ranks
from worldmodel.checkpoint import list_checkpoints, weights_digest
from worldmodel.devices import find_device
from worldmodel.envs.observations import InvalidValueError
from worldmodel.errors import naming_damage
from worldmodel.experiments.cli import settings as of
from worldmodel.experiments.runs import cards, hub, packing, registry
from worldmodel.experiments.runs.device import own_device, placed
from worldmodel.experiments.runs.interruption import Interrupted
from worldmodel.experiments.runs.loggers import LOGGERS, Logging, logging
from worldmodel.experiments.runs.pictures import check_picture
from worldmodel.experiments.runs.processor import paying_threads
from worldmodel.experiments.runs.profile import Profile
from worldmodel.experiments.runs.registry import config_of, offered, offers
from worldmodel.experiments.runs.trained import run_at
from worldmodel.experiments.runs.trust import TrustConfig
from worldmodel.experiments.show.config import VideoConfig
from worldmodel.files import write_json
from worldmodel.packed import SUFFIX, Manifest
from worldmodel.progress import Reporter
from worldmodel.reports import TimeReport
from worldmodel.run_folder import RunError, RunFolder

NONE: Mapping[str, Any] = MappingProxyType({})


def train(settings: of.Train[Any], reporter: Reporter) -> None:
    """Makes a new run and trains it to its end; of several ranks, started again, goes on."""
    with ranks.joined():
        reporter = _of_rank(reporter)
        begun = settings.out / "config.json"
        is_new = ranks.of_first(lambda: not (ranks.is_restarted() and begun.exists()))
        config = configured(settings) if is_new else None
        for logger in settings.watching.log:
            LOGGERS[logger].imported()  # or nothing is made

        def made() -> RunFolder:
            if not (is_new and ranks.is_first()):
                return RunFolder.open(begun.parent)
            return registry.new_run(begun.parent, _with_paying_threads(config, reporter))

        folder = placed(ranks.first_then_others(made), None, reporter.say)
        _go_on(folder, reporter, is_new=is_new, watching=settings.watching)


def _of_rank(reporter: Reporter) -> Reporter:
    """The reporter of the first rank; the others are silent."""
    return reporter if ranks.is_first() else Reporter(Console(quiet=True))


def _with_paying_threads(config: Any, reporter: Reporter) -> Any:
    """The configuration, with one thread where those that it wishes cost more than they bring."""
    wished = getattr(config, "threads", 1)
    paying = paying_threads(wished, reporter.say)
    return config if paying == wished else replace(config, threads=paying)


def configured(settings: of.Train[Any]) -> Any:
    """The configuration of a new run; RunError, before a folder is made, if it cannot be."""
    config, name = settings.config, registry.experiment_of(settings.config)
    find_device(own_device(config))
    experiment = registry.implementation(name)
    if settings.quick:
        if not hasattr(experiment, "quick"):
            raise RunError(f"there is no --quick for runs of {name}: leave it out")
        config = experiment.quick(config)
    if hasattr(experiment, "absolute"):
        config = experiment.absolute(config)
    if hasattr(experiment, "check"):
        experiment.check(config)
    if hasattr(experiment, "remember"):
        config = experiment.remember(config)
    return config


def resume(settings: of.Resume, reporter: Reporter) -> None:
    """Resumes an interrupted run to its end, or beyond it with more steps."""
    with ranks.joined():
        reporter = _of_rank(reporter)
        folder = ranks.first_then_others(lambda: _opened(settings, reporter, settings.trust))
        steps = None if ranks.is_restarted() else settings.steps  # they were added before
        _go_on(folder, reporter, steps, changes=settings.changes, watching=settings.watching)


def _opened(settings: Any, reporter: Reporter, trust: TrustConfig = TrustConfig()) -> RunFolder:
    """The run that settings name, as the checkpoint that they name left it."""
    folder = trust.open(settings.path).at(settings.from_checkpoint)
    if folder.chosen is not None:
        reporter.say(f"{folder.said} as {folder.chosen} left it")
    if hasattr(settings, "computing"):
        folder = placed(folder, settings.computing.device, reporter.say)
    return folder


def _go_on(
    folder: RunFolder,
    reporter: Reporter,
    steps: int | None = None,
    is_new: bool = False,
    changes: Mapping[str, Any] = NONE,
    watching: of.WatchConfig = of.WatchConfig(),
) -> None:
    """Trains a run to its end, evaluates it, and calls its experiment's `finish`.

    steps: to add first; is_new: nothing of the run was written before, which could be damaged;
    changes: of its options, by name.
    """
    with folder.locked() if ranks.is_first() else nullcontext():
        if changes and ranks.is_first():
            folder = registry.changed(folder, changes)
        ranks.wait()
        folder = folder.at(folder.chosen)  # as it is described now
        with logging(folder, watching.log if ranks.is_first() else ()) as logs:
            watchers: list[Watcher] = [logs] if watching.log else []
            if watching.profile:
                watchers.append(Profile(folder.path / "profile"))
            _train(folder, reporter, steps, is_new, watchers, watching.every_rank)
            if ranks.is_first():
                with ranks.alone():
                    _finish(folder.at(None).kept(), reporter, logs)


def _finish(folder: RunFolder, reporter: Reporter, logs: Logging) -> None:
    """Evaluates a trained run, and films it if that is wanted."""
    if folder.chosen is not None:
        reporter.say(f"of the run the best is kept: {folder.chosen}")
    if offers(folder, "evaluate"):
        result = _evaluated(folder, evaluation_settings(folder), reporter)
        _save(folder, result)
        logs.evaluation(result)
        _show(folder, result, as_json=False)
    if getattr(config_of(folder), "film", False):
        for film in _film(folder, reporter):
            logs.film(film)
    if offers(folder, "finish"):
        offered(folder, "finish")(folder, reporter)


def _train(
    folder: RunFolder,
    reporter: Reporter,
    steps: int | None,
    is_new: bool,
    watchers: Sequence[Watcher],
    every_rank: bool,
) -> None:
    """Trains a run to its end."""
    hint = f"worldmodel resume {shlex.quote(str(folder.path))}"
    begin = offered(folder, "training", "resume")
    try:
        with nullcontext() if is_new else naming_damage(folder.path):
            training = begin(folder, reporter)
            training.restore()
        if watchers or every_rank:
            if not hasattr(training, "watchers"):
                raise RunError(
                    f"runs of {folder.experiment} take no watchers: "
                    "leave --log, --profile and --every-rank out"
                )
            training.watchers = [*training.watchers, *watchers]
        if every_rank:
            training.time_report = TimeReport(Reporter(), f"rank {ranks.rank()}: ")
        if steps is not None:
            _extend(training, steps, folder)
        training.run()
    except Interrupted:
        reporter.say(f"saved; go on with: {hint}")
        sys.exit(130)
    except (FloatingPointError, InvalidValueError) as error:
        raise RunError(f"{folder.path}: {error}") from error
    except KeyboardInterrupt:
        reporter.say(f"stopped; go on from the last checkpoint with: {hint}")
        sys.exit(130)
    reporter.say(f"trained in {training.seconds:.0f} s")


def _extend(training: Any, steps: int, folder: RunFolder) -> None:
    """Adds steps to a run, if its experiment counts steps."""
    extend = getattr(training, "extend", None)
    if extend is None or not extend(steps):
        raise RunError(
            f"{folder.path} is a run of {folder.experiment}, which cannot be given more steps: "
            "leave out --steps, or train a longer run"
        )


def _film(folder: RunFolder, reporter: Reporter) -> list[Path]:
    """Films a trained run for the first time; returns the files."""
    from worldmodel.experiments.show.video import write_film

    files = [folder.videos / f"film{suffix}" for suffix in (".mp4", ".gif")]
    write_film(_playable(folder, "video", reporter), VideoConfig(), files, folder.videos, reporter)
    return files


def evaluation_settings(folder: RunFolder) -> Any:
    """The default evaluation settings of a run."""
    offered(folder, "evaluate")
    return offered(folder, "settings", "evaluate")(config_of(folder))


def evaluate(settings: of.Evaluate[Any], reporter: Reporter) -> None:
    """Scores a run; the run is changed only if the result is to be saved."""
    folder = _opened(settings, reporter, settings.trust)
    if settings.save:
        folder.check_writable()
    with _aside() if settings.json else nullcontext():
        result = _evaluated(folder, settings.settings, Quiet() if settings.json else reporter)
    if settings.save:
        with folder.locked():
            _save(folder, result)
    _show(folder, result, settings.json)


@contextmanager
def _aside() -> Iterator[None]:
    """Context manager in which all that is printed, such as by an environment, goes to stderr."""
    sys.stdout.flush()
    out = os.dup(1)
    os.dup2(2, 1)  # for what does not print by Python
    try:
        with redirect_stdout(sys.stderr):
            yield
    finally:
        os.dup2(out, 1)
        os.close(out)


def _show(folder: RunFolder, result: dict[str, Any], as_json: bool) -> None:
    """Prints an evaluation."""
    if as_json:
        print(json.dumps(result, indent=2))
    else:
        Console().print(*offered(folder, "tables", "evaluate")(result))


class Quiet(Reporter):
    """Discards progress."""

    def note(self, what: str, done: int, total: int) -> None:
        """Does nothing."""


def _evaluated(folder: RunFolder, settings: Any, reporter: Reporter) -> dict[str, Any]:
    """All figures of a run, and what they are of."""
    folder, of = folder.kept(), {"settings": cattrs.unstructure(settings)}
    if list_checkpoints(folder.checkpoints):
        folder = folder.at(folder.checkpoint_path.name)  # the same, should the run go on
        of["weights"] = weights_digest(folder.checkpoint_path)
    result = offered(folder, "evaluate")(folder, settings, reporter.note)
    return result | of | {"checkpoint": folder.chosen}


def repair(settings: of.Repair, reporter: Reporter) -> None:
    """Says what of a run is damaged, and leaves it out if that is wanted."""
    from worldmodel.experiments.runs.repair import damage_of, repair

    folder = _opened(settings, reporter)
    with folder.locked():
        damage = damage_of(folder)
        for sentence in damage.sentences() or ["no episode is damaged, nor are the metrics"]:
            reporter.say(sentence)
        if damage and settings.yes:
            for aside in repair(folder, damage):
                reporter.say(f"left out; what was there is kept as {aside}")
        elif damage:
            path = shlex.quote(str(folder.path))
            reporter.say(f"nothing is changed; to leave it out: worldmodel repair {path} --yes")


def _save(folder: RunFolder, result: dict[str, Any]) -> None:
    """Makes an evaluation the run's own."""
    write_json(folder.evaluation_file, result)
    folder.log({"stage": "final"} | result)


def generate(settings: of.Generate, reporter: Reporter) -> None:
    """Writes generated recordings as files."""
    folder = _opened(settings, reporter)
    for file in offered(folder, "generate")(folder, settings.config, reporter):
        reporter.say(f"written: {file}")


def forecast(settings: of.Forecast, reporter: Reporter) -> None:
    """Writes forecasts of series."""
    _write_by("forecast", settings, reporter)


def score(settings: of.Score, reporter: Reporter) -> None:
    """Writes the likelihood of every value of series."""
    _write_by("score", settings, reporter)


def impute(settings: of.Impute, reporter: Reporter) -> None:
    """Writes series with what was missing."""
    _write_by("impute", settings, reporter)


def _write_by(verb: str, settings: Any, reporter: Reporter) -> None:
    folder = _opened(settings, reporter)
    for file in offered(folder, verb)(folder, settings.config, reporter):
        reporter.say(f"written: {file}")


def plot(settings: of.Plot, reporter: Reporter) -> None:
    """Draws learning curves of runs."""
    from worldmodel.experiments.show import curves

    check_picture(settings.out, "--out")
    folders = [RunFolder.open(run_at(path)) for path in settings.paths]
    curves.plot(folders, settings.out, settings.threshold)
    reporter.say(f"written: {settings.out}")


def compare(settings: of.Compare, reporter: Reporter) -> None:
    """Compares runs on a page and in a table."""
    from worldmodel.experiments.show import comparison
    from worldmodel.experiments.show.report import check_page, write_comparison

    check_page(settings.out)
    found = comparison.compared(comparison.folders_in(settings.paths))
    write_comparison(found, settings.out)
    reporter.say(f"written: {settings.out}")
    result = comparison.as_json(found)
    if settings.json:
        print(json.dumps(result, indent=2))
    else:
        Console().print(*comparison.tables(result))


def report(settings: of.Report, reporter: Reporter) -> None:
    """Writes one page that shows a run."""
    folder = _opened(settings, reporter, settings.trust).kept()
    spec = registry.experiment_named(folder.experiment).report
    if not spec:
        raise RunError(
            f"there is no `report` for runs of {folder.experiment}, such as {folder.said}"
        )
    from worldmodel.experiments.show.report import check_page, evaluated, write_report

    out = settings.out or folder.place("report.html")
    check_page(out)
    described, checkpoint = registry.named(spec), folder.checkpoint()
    parts = _playable(folder, "report", reporter) if described.has_worlds else None
    result = evaluated(folder, checkpoint)
    if result is None:
        reporter.say("there is no evaluation of this checkpoint: evaluating")
        result = _evaluated(folder, evaluation_settings(folder), reporter)
    with naming_damage(folder.path / "evaluation.json"):
        offered(folder, "tables", "report")(result)  # has all figures, or is damaged
    write_report(folder, described, parts, checkpoint, result, out, reporter)
    reporter.say(f"written: {out}")


def play(settings: of.Play, reporter: Reporter) -> None:
    """Plays a run's worlds, controlled by a person."""
    folder = _opened(settings, reporter, settings.trust)
    parts = _playable(folder, "play", reporter, settings.config.picture)
    face = import_module(f"worldmodel.experiments.show.play.{settings.config.view}")
    face.play(parts, settings.config, folder.videos)


def video(settings: of.Video, reporter: Reporter) -> None:
    """Films a run's worlds, controlled by an agent."""
    folder = _opened(settings, reporter, settings.trust)
    parts = _playable(folder, "video", reporter, settings.config.picture)
    from worldmodel.experiments.show.video import write_film

    if not settings.out:
        folder.videos.mkdir(exist_ok=True)
    write_film(parts, settings.config, settings.out, folder.videos, reporter)


def _playable(folder: RunFolder, verb: str, reporter: Reporter, picture: str = "auto") -> Any:
    """The worlds of a run to show, on one thread: a single game is too little work for more.
    picture: the view that draws the dream."""
    load = offered(folder, "playable", verb)
    torch.set_num_threads(1)
    parts = load(folder, picture)
    if refusal := getattr(parts, "refusal", ""):
        reporter.say(f"the dream alone is shown: {refusal}")
    return parts


def pack(settings: of.Pack, reporter: Reporter) -> None:
    """Writes a run into one file."""
    folder = _opened(settings, reporter)
    manifest = packing.pack_run(folder, settings.out, settings.card, settings.episodes)
    _say_packed(manifest, settings.out, reporter)


def push(settings: of.Push, reporter: Reporter) -> None:
    """Puts a run on the Hub."""
    folder = RunFolder.open(run_at(settings.path))
    where = hub.push(folder, settings.hub_id, settings.card, settings.episodes, settings.private)
    reporter.say(f"it is at {where}; others get it by: worldmodel pull {settings.hub_id}")


def pull(settings: of.Pull, reporter: Reporter) -> None:
    """Gets a run from the Hub."""
    out = settings.out or Path(f"{settings.hub_id.rpartition('/')[2]}{SUFFIX}")
    _say_packed(hub.pull(settings.hub_id, out, settings.revision), out, reporter)


def _say_packed(manifest: Manifest, file: Path, reporter: Reporter) -> None:
    """Says what a packed run holds."""
    reporter.say(
        f"written: {file}, {file.stat().st_size / 1e6:.1f} MB, a run of {manifest.experiment}: "
        f"{cards.in_short(manifest.card.get('figures', {}))}"
    )


def export(settings: of.Export, reporter: Reporter) -> None:
    """Exports the episodes of a run, or its model."""
    if settings.format in ("npz", "minari"):
        from worldmodel.experiments.data import datasets

        path = run_at(settings.path)
        data, spec = datasets.open_data(path), datasets.spec_of(path)
        count = datasets.export(*data, settings.out, settings.format, spec)
        reporter.say(f"written: {count} episodes, {data.episodes.steps} steps, {settings.out}")
        if (others := len(data.episodes) - count) > 0:
            reporter.say(
                f"{others} episode{'s' * (others != 1)} of no step, solved as they began or cut "
                f"off, are left out: {settings.format} holds none"
            )
        return
    from worldmodel.experiments.export.writing import WRITERS, exporting

    writer = WRITERS[settings.format]
    writer.check(settings.out)
    folder = placed(RunFolder.open(run_at(settings.path)).kept(), None, reporter.say)
    build = offered(folder, "exported", "export")
    with exporting(folder.path):
        contents = build(folder)
    writer.write(contents, settings.out)
    reporter.say(f"written: {settings.out}")
