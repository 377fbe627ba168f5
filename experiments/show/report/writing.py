"""Gathers the contents of a report and writes it."""

import os
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, NamedTuple

import torch

from worldmodel.checkpoint import Checkpoint
from worldmodel.errors import naming_damage
from worldmodel.experiments.runs.places import make_parent
from worldmodel.experiments.runs.registry import config_of
from worldmodel.experiments.show.report import charts
from worldmodel.experiments.show.report.page import (
    Html,
    contents,
    element,
    escaped,
    facts,
    in_words,
    page,
    paragraph,
)
from worldmodel.packed import SUFFIX
from worldmodel.progress import Reporter
from worldmodel.run_folder import RunError, RunFolder, write_text


class ReportSpec(NamedTuple):
    """The report of an experiment."""

    what: Callable[[Any], str]  # of a configuration: a sentence on the run
    facts: Callable[[Any, Mapping[str, Any]], list[tuple[str, Html]]]
    """Of a configuration and the values of a checkpoint: names and values for the header."""
    titles: tuple[str, ...]  # of the sections
    sections: Callable[[RunFolder, Any, Mapping[str, Any], Reporter], list[Html]]
    """Of a run, its worlds, the result of `evaluate`, and a reporter."""
    has_worlds: bool = True  # to play in; else None stands in their place


def check_page(path: Path) -> None:
    """Raises the errors of writing before the work, and makes the folder."""
    if path.is_dir():
        raise RunError(
            f"--out is the page to be written, such as report.html, but {path} is a folder"
        )
    make_parent(path)


def evaluated(folder: RunFolder, checkpoint: Checkpoint) -> dict[str, Any] | None:
    """The run's own evaluation, if it is of this very checkpoint; None otherwise."""
    found, values = folder.evaluation(), checkpoint.values
    if found is None:
        return None
    if "real_steps" not in values:
        return found if found.get("checkpoint") == folder.checkpoint_path.name else None
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
    """Writes the report of a run to `out`, complete or not at all. parts: its worlds; result: of
    `evaluate` for its checkpoint."""
    config = config_of(folder)
    torch.set_num_threads(config.threads)
    body = spec.sections(folder, parts, result, reporter)
    if not charts.available():
        reporter.say(charts.MISSING)
    title = Path(os.path.abspath(folder.said)).name.removesuffix(SUFFIX)  # of a link, its own
    with naming_damage(folder.checkpoint_path):
        head = header(title, spec, folder, checkpoint)
    write_text(out, page(f"{title}: worldmodel report", head, element("main", *body)))


def header(title: str, spec: ReportSpec, folder: RunFolder, checkpoint: Checkpoint) -> Html:
    """The page's header: facts of the run."""
    values, config = checkpoint.values, config_of(folder)
    return element(
        "header",
        element("h1", title),
        paragraph(spec.what(config), class_="what"),
        facts(
            [
                ("experiment", folder.experiment),
                ("learned until", _learned_until(checkpoint)),
                ("reported", moment(datetime.now(UTC))),
                ("worldmodel", version_here()),
                *spec.facts(config, values),
                ("wall-clock time", duration(values["seconds"])),
            ]
        ),
        None if charts.available() else paragraph(charts.MISSING, class_="note"),
        contents(spec.titles),
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


def moment(when: datetime) -> Html:
    """A time, for people and for machines."""
    return element("time", f"{when:%Y-%m-%d %H:%M} UTC", datetime=when.isoformat("T", "seconds"))


def _learned_until(checkpoint: Checkpoint) -> Html:
    """When the checkpoint was written, by its own record: files' times change with every copy."""
    saved = checkpoint.values.get("saved")
    return moment(datetime.fromisoformat(saved)) if saved else escaped("not recorded")


def version_here() -> str:
    """The version of this package."""
    try:
        return version("worldmodel-gym")
    except PackageNotFoundError:  # run from its sources
        return "not installed"
