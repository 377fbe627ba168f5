"""Reports of what learned from recordings: curves, likelihood, samples, settings."""

import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from worldmodel.errors import naming_damage
from worldmodel.experiments.measure.scores import DENSITIES
from worldmodel.experiments.recordings.config import RecordingsConfig
from worldmodel.experiments.recordings.training import Samples
from worldmodel.experiments.runs.registry import config_of, experiment_of, named
from worldmodel.experiments.show.curves import curves_of
from worldmodel.experiments.show.report import charts, sections
from worldmodel.experiments.show.report.charts import DREAM, REAL, Line
from worldmodel.experiments.show.report.page import (
    Html,
    element,
    figure,
    image,
    in_words,
    number,
    paragraph,
    section,
    side_by_side,
    sound,
    table,
)
from worldmodel.experiments.show.report.writing import ReportSpec
from worldmodel.files import DamagedError, reading
from worldmodel.progress import Reporter
from worldmodel.run_folder import RunError, RunFolder

LIKELIHOOD, SAMPLES = "Likelihood", "Samples"
TITLES = (sections.LEARNING, LIKELIHOOD, SAMPLES, sections.CONFIGURATION)
LETTERS = 1_500  # of a text that is shown
MOST = 2**23  # bytes of a picture or a sound


def _what(config: RecordingsConfig) -> str:
    frame = named(config.modality).frame
    return f"A model of {experiment_of(config)}, learned from recordings, {frame} by {frame}."


def _facts(config: RecordingsConfig, values: Mapping[str, Any]) -> list[tuple[str, Html]]:
    updates = values["curve"][-1][0] if values["curve"] else 0
    return [("seed", number(config.seed)), ("updates", number(updates))]


def _sections(
    folder: RunFolder, parts: Any, result: Mapping[str, Any], reporter: Reporter
) -> list[Html]:
    with naming_damage(folder.evaluation_file):
        shown = [_learning(folder, result), _likelihood(result)]
    return [
        *shown,
        section(SAMPLES, *_samples(folder)),
        sections.configuration(config_of(folder)),
    ]


def _learning(folder: RunFolder, result: Mapping[str, Any]) -> Html:
    metrics, pictures = folder.metrics(), []
    label = f"loss, nats per {result['frame']}"
    try:
        (curve,) = curves_of([folder])
        last = f"{in_words(curve.returns[0, -1])} after {in_words(curve.steps[-1])} updates"
        best = in_words(curve.returns[0].min())
        line = Line("validation", curve.steps.tolist(), curve.returns[0].tolist(), DREAM)
        picture = charts.lines(
            "validation",
            f"Loss of the held-out recordings over updates: {last}",
            "Held-out recordings",
            ("updates", label),
            [line],
        )
        pictures.append(
            figure(
                picture, f"In validation, at last {last}; the model of the best, {best}, is kept."
            )
        )
        missing = ""
    except RunError:
        missing = "The run was not validated while it learned."
    losses = [line["loss"] for line in metrics if line["stage"] == "learn" and "loss" in line]
    if losses:
        end = in_words(charts.blocks(losses)[1][-1])
        picture = charts.updates(
            "losses",
            f"Loss over updates: {end} at last",
            "Training",
            ("updates", label),
            losses,
            REAL,
        )
        pictures.append(figure(picture, f"What the model learns by: {end} at last."))
    note = paragraph(missing, class_="note") if missing else None
    return section(sections.LEARNING, side_by_side(pictures), note)


def _likelihood(result: Mapping[str, Any]) -> Html:
    frame = result["frame"]
    loss, error = result[f"nats_per_{frame}"], result[f"nats_per_{frame}_se"]
    spread = "" if error is None else f" (standard error {in_words(error, 2)})"
    kind = "exact" if result["bound"] == "exact" else f"a bound, {result['bound']}"
    rows = [(f"this model, nats per {frame}", number(loss))]
    rows += [
        (name.replace("_", " "), number(result[name]))
        for name in (f"bits_per_{frame}", "perplexity")
        if name in result
    ]
    counted = result.get("counting", {})
    rows += [(f"by counting, {name}, nats per {frame}", number(n)) for name, n in counted.items()]
    return section(
        LIKELIHOOD,
        paragraph(
            f"The loss is {in_words(loss)} nats per {frame}{spread}, {kind}: of "
            f"{result['recordings']:,} {result['scored_on']}, {result[frame + 's']:,} {frame}s. "
            "Lower is better."
        ),
        table("losses of the held-out recordings", ("", "value"), rows),
        paragraph(f"{DENSITIES.capitalize()}.", class_="note") if result["density"] else None,
    )


def _samples(folder: RunFolder) -> Iterator[Html]:
    """The samples that were generated after the last validation."""
    place = folder.path / "samples"
    checksums = Samples.checksums(place)
    names = sorted(checksums or (f.name for f in place.glob("*") if f.name[:3].isdigit()))
    last = {name: checksums.get(name) for name in names if name[:3] == names[-1][:3]}
    shown = list(_shown(place, last))
    if shown:
        yield paragraph("Generated after the last validation, from nothing.")
        yield from shown
    else:
        yield paragraph("None was written yet.")


def _shown(folder: Path, checksums: Mapping[str, int | None]) -> Iterator[Html]:
    for name, checksum in checksums.items():
        file = folder / name
        with reading(file) as content:
            read = content.read(MOST)
        if len(read) == MOST:
            continue
        if checksum not in (None, zlib.crc32(read)):
            raise DamagedError(f"{file} is damaged: its checksum differs; put it back from a copy")
        words = f"Sample: {file.name}"
        if file.suffix == ".txt":
            text = read.decode(errors="replace")
            yield element(
                "pre", text[:LETTERS] + "\N{HORIZONTAL ELLIPSIS}" * (len(text) > LETTERS)
            )
        elif file.suffix == ".png":
            yield figure(image(read, words), file.name)
        elif file.suffix == ".wav":
            yield figure(sound(read, words), file.name)


RECORDINGS = ReportSpec(_what, _facts, TITLES, _sections, has_worlds=False)
