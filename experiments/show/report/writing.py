"""Gathers the contents of a report and writes it."""

from collections.abc import Mapping
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from worldmodel import nested
from worldmodel.checkpoint import Checkpoint
from worldmodel.errors import naming_damage
from worldmodel.experiments.measure.calibration import Calibration, calibration, particles_for
from worldmodel.experiments.measure.scores import densities_of
from worldmodel.experiments.rl.run import HELD_OUT
from worldmodel.experiments.runs.registry import config_of
from worldmodel.experiments.show.report import charts, films, sections
from worldmodel.experiments.show.report.films import Shown
from worldmodel.experiments.show.report.kinds import ReportSpec, held_out
from worldmodel.experiments.show.report.page import (
    Html,
    contents,
    element,
    escaped,
    facts,
    in_words,
    number,
    page,
    paragraph,
)
from worldmodel.files import read_json
from worldmodel.packed import SUFFIX
from worldmodel.progress import Reporter
from worldmodel.run_folder import RunError, RunFolder, write_text

EPISODES = 200  # at most, for the calibration


def check_page(path: Path) -> None:
    """Raises the errors of writing before the work."""
    if path.is_dir():
        raise RunError(
            f"--out is the page to be written, such as report.html, but {path} is a folder"
        )
    if not path.parent.is_dir():
        raise RunError(f"the report {path} cannot be written: there is no folder {path.parent}")


def evaluated(folder: RunFolder, checkpoint: Checkpoint) -> dict[str, Any] | None:
    """The run's own evaluation, if it is of this very checkpoint; None otherwise."""
    if not folder.evaluation_file.exists():
        return None
    found, values = read_json(folder.evaluation_file), checkpoint.values
    of = found.get("real_steps_used"), found.get("wall_seconds")
    return found if of == (values["real_steps"], values["seconds"]) else None


def write_report(
    folder: RunFolder,
    spec: ReportSpec,
    parts: Any,
    checkpoint: Checkpoint,
    result: Mapping[str, Any],
    out: Path,
    reporter: Reporter,
) -> None:
    """Writes the report of a run to `out`, complete or not at all. parts: of the run; result: of
    `evaluate` for its checkpoint."""
    config = config_of(folder)
    torch.set_num_threads(config.threads)
    reporter.say("dreaming on without looking")
    off = result["open_loop"]
    judged = _calibration(folder, parts, reporter)
    shown = _films(parts, reporter)
    if not charts.available():
        reporter.say(charts.MISSING)
    body = [
        sections.learning(
            spec.curve(folder),
            list(folder.metrics()),
            densities_of(parts.model, parts.observation_space),
        ),
        sections.returns(spec.reached(result)),
        sections.foresight(off),
        sections.calibration(judged, spec.whose(config), parts.refusal),
        sections.dreams(shown, parts.absence),
        sections.configuration(config),
    ]
    title = folder.said.resolve().name.removesuffix(SUFFIX)
    with naming_damage(folder.checkpoint_path):
        head = header(title, spec.what(config), folder, checkpoint)
    write_text(out, page(f"{title}: worldmodel report", head, element("main", *body)))


def header(title: str, what: str, folder: RunFolder, checkpoint: Checkpoint) -> Html:
    """The page's header: facts of the run."""
    values = checkpoint.values
    return element(
        "header",
        element("h1", title),
        paragraph(what, class_="what"),
        facts(
            [
                ("experiment", folder.experiment),
                ("learned until", _learned_until(checkpoint)),
                ("reported", _moment(datetime.now(UTC))),
                ("worldmodel", _version()),
                ("seed", number(config_of(folder).agent.seed)),
                ("real steps", number(values["real_steps"])),
                ("wall-clock time", duration(values["seconds"])),
            ]
        ),
        None if charts.available() else paragraph(charts.MISSING, class_="note"),
        contents(sections.TITLES),
    )


def duration(seconds: float) -> str:
    """
    >>> duration(7.94), duration(1312), duration(7325)
    ('7.9 s', '21 min 52 s', '2 h 2 min')
    """
    if seconds < 60:
        return f"{in_words(seconds, 2)} s"
    minutes, hours = int(seconds) // 60, int(seconds) // 3600
    return f"{hours} h {minutes % 60} min" if hours else f"{minutes} min {int(seconds) % 60} s"


def _moment(moment: datetime) -> Html:
    return element(
        "time", f"{moment:%Y-%m-%d %H:%M} UTC", datetime=moment.isoformat("T", "seconds")
    )


def _learned_until(checkpoint: Checkpoint) -> Html:
    """When the checkpoint was written, by its own record: files' times change with every copy."""
    saved = checkpoint.values.get("saved")
    return _moment(datetime.fromisoformat(saved)) if saved else escaped("not recorded")


def _version() -> str:
    try:
        return version("worldmodel-gym")
    except PackageNotFoundError:  # run from its sources
        return "not installed"


def _calibration(folder: RunFolder, parts: Any, reporter: Reporter) -> Calibration | None:
    """None where its episodes would be played in an environment that may not be made."""
    if parts.refusal and not (folder.path / HELD_OUT).exists():
        return None
    sequences = nested.index(held_out(folder, parts), (slice(None), slice(EPISODES)))
    episodes = sequences.mask.shape[1]
    particles = particles_for(parts.model, parts.observation_space, episodes)
    with reporter.stage("asking for probabilities", len(sequences.mask), 0, "rows") as stage:
        return calibration(
            parts.model,
            sequences,
            particles,
            parts.config.agent.seed,
            lambda done, total: stage.update(done),
        )


def _films(parts: Any, reporter: Reporter) -> list[Shown]:
    shown: list[Shown] = []
    total = films.DREAMS + parts.has_environment
    with reporter.stage("filming", total, 0, "films") as stage:
        for film in films.filmed(parts):
            shown.append(film)
            stage.update(len(shown))
    return shown
