"""The page of a comparison: curves, figures with intervals, settings that differ, runs."""

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from worldmodel.experiments.show.comparison import Compared, Estimate, Group
from worldmodel.experiments.show.report import charts
from worldmodel.experiments.show.report.charts import Band, Interval, colour_of
from worldmodel.experiments.show.report.page import (
    Html,
    contents,
    element,
    facts,
    figure,
    in_words,
    joined,
    number,
    page,
    paragraph,
    section,
    table,
)
from worldmodel.experiments.show.report.sections import value_in_words
from worldmodel.experiments.show.report.writing import moment, version_here
from worldmodel.run_folder import write_text

CURVES, FIGURES, SETTINGS, RUNS = "Learning curves", "Figures", "Settings that differ", "Runs"
TITLES = (CURVES, FIGURES, SETTINGS, RUNS)
FEW = 5  # runs, below which a bootstrap interval is too narrow


def write_comparison(found: Compared, out: Path) -> None:
    """Writes the page of a comparison, complete or not at all."""
    runs = sum(len(group.runs) for group in found.groups)
    title = f"{runs} runs of {found.about}"
    head = element(
        "header",
        element("h1", title),
        paragraph(
            f"{len(found.groups)} groups; the runs of a group differ in their seeds alone.",
            class_="what",
        ),
        facts(
            [
                ("runs", number(runs)),
                ("groups", number(len(found.groups))),
                ("compared", moment(datetime.now(UTC))),
                ("worldmodel", version_here()),
            ]
        ),
        None if charts.available() else paragraph(charts.MISSING, class_="note"),
        contents(TITLES),
    )
    body = [_curves(found), _figures(found), _settings(found.groups), _runs(found)]
    write_text(out, page(f"{title}: worldmodel compare", head, element("main", *body)))


def _curves(found: Compared) -> Html:
    curves = [
        None if g.curve is None else Band(g.curve.label, g.curve.steps, g.curve.returns)
        for g in found.groups
    ]
    there = [curve for curve in curves if curve is not None]
    if not there:
        words = "These runs were not evaluated in training, so there are no curves."
        return section(CURVES, paragraph(words))
    over, value = found.axes
    last = "; ".join(f"{c.name} {in_words(c.y.mean(0)[-1])}" for c in there)
    picture = charts.bands(
        "curves", f"{value} over {over}, at last: {last}", (over, value), curves
    )
    better = "lower" if found.less_is_better else "higher"
    caption = (
        f"{value.capitalize()} over {over}; {better} is better. Lines are means of a group's "
        "runs as far as all of them have come, bands reach from its worst run to its best."
    )
    return section(CURVES, figure(picture, caption))


def _figures(found: Compared) -> Html:
    telling = found.figures[0]
    shown = [
        Interval(group.label, e.mean, low, high, colour_of(place))
        for place, group in enumerate(found.groups)
        if (e := group.figures.get(telling)) is not None
        for low, high in [e.ci95 or (e.mean, e.mean)]
    ]
    alt = "; ".join(f"{one.name} {in_words(one.mean)}" for one in shown)
    picture = charts.intervals("figures", f"{telling}: {alt}", telling, shown, {})
    head = ["", "runs", "mean", "95 % interval", "interquartile mean", "95 % interval"]
    has_iqm = any(e.iqm is not None for group in found.groups for e in group.figures.values())
    columns = len(head) if has_iqm else 4
    fewest = min(len(group.runs) for group in found.groups)
    return section(
        FIGURES,
        figure(
            picture, f"{telling.capitalize()}: means, with 95 % intervals over seeds.", "narrow"
        ),
        *(
            table(
                name,
                head[:columns],
                [
                    _row(group.label, group.figures[name])[:columns]
                    for group in found.groups
                    if name in group.figures
                ],
            )
            for name in found.figures
        ),
        paragraph(
            "Intervals are bootstrapped (percentiles) over the runs of a group, so they tell what "
            "another draw of seeds would change."
            + " The interquartile mean leaves out the best and the worst quarter of the runs."
            * has_iqm
            + " Intervals of fewer than five runs are too narrow." * (fewest < FEW),
            class_="note",
        ),
    )


def _row(label: str, found: Estimate) -> tuple[object, ...]:
    return (
        label,
        number(sum(value is not None for value in found.values)),
        number(found.mean),
        _interval(found.ci95),
        number(found.iqm),
        _interval(found.iqm_ci95),
    )


def _interval(interval: Sequence[float] | None) -> Html:
    if interval is None:
        return Html("&ndash;")
    return joined((number(interval[0]), " to ", number(interval[1])))


def _settings(groups: Sequence[Group]) -> Html:
    names = list(groups[0].settings)
    if not names:
        words = "The runs differ in nothing but their seeds, and in what changes no result."
        return section(SETTINGS, paragraph(words))
    rows = [
        (group.label, *(value_in_words(group.settings[name]) for name in names))
        for group in groups
    ]
    caption = "settings in which groups differ, by their paths in config.json"
    return section(SETTINGS, table(caption, ("", *names), rows))


def _runs(found: Compared) -> Html:
    names = found.figures
    rows = [
        (
            folder.path,
            group.label,
            number(seed),
            *(number(e.values[place]) if (e := group.figures.get(name)) else "" for name in names),
        )
        for group in found.groups
        for place, (folder, seed) in enumerate(zip(group.runs, group.seeds, strict=True))
    ]
    return section(RUNS, table("each run", ("folder", "group", "seed", *names), rows))
