"""The sections of a report, each from results."""

import math
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from worldmodel.experiments.measure.calibration import Calibration, Reliability, Uniformity
from worldmodel.experiments.measure.scores import DENSITIES
from worldmodel.experiments.runs.command import NEEDED, Setting, command_of, settings
from worldmodel.experiments.show.report import charts
from worldmodel.experiments.show.report.charts import DREAM, MUTED, REAL, Interval, Line
from worldmodel.experiments.show.report.films import Shown
from worldmodel.experiments.show.report.kinds import Curve, Mean, Reached
from worldmodel.experiments.show.report.page import (
    Html,
    element,
    escaped,
    figure,
    in_words,
    joined,
    number,
    paragraph,
    section,
    share,
    side_by_side,
    table,
    video,
)

LEARNING, RETURNS, OPEN_LOOP = "Learning", "Reality and dream", "Foresight"
CALIBRATION, DREAMS, CONFIGURATION = "Calibration", "Dreams", "Configuration"
TITLES = (LEARNING, RETURNS, OPEN_LOOP, CALIBRATION, DREAMS, CONFIGURATION)

UNBROKEN = 60  # letters of an option in the command
FAR = 1_000.0  # multiple of the error by chance that is told in words
CHANCE = 2.0  # errors above this multiple of the error by chance are significant


# Learning.


def learning(
    curve: Curve | None, metrics: Sequence[Mapping[str, Any]], densities: Collection[str]
) -> Html:
    """Learning curves of model and agent. densities: keys whose losses are of densities."""
    pictures = [_curve(curve)] if curve else []
    losses = _of_stage(metrics, "learn", "loss")
    values = _of_stage(metrics, "improve", "value")
    if losses:
        pictures.append(_losses(losses, densities))
    if values:
        pictures.append(_values(values))
    there = {"real returns": curve, "losses of the model": losses, "values of the policy": values}
    missing = [name for name, found in there.items() if not found]
    words = f"Not recorded in this run: {', '.join(missing)}." if missing else None
    return section(LEARNING, side_by_side(pictures), _note(words))


def _of_stage(metrics: Sequence[Mapping[str, Any]], stage: str, key: str) -> list[float]:
    return [line[key] for line in metrics if line["stage"] == stage and key in line]


def _curve(curve: Curve) -> Html:
    last = f"{in_words(curve.values[-1])} after {in_words(curve.steps[-1])} real steps"
    picture = charts.lines(
        "curve",
        f"{curve.label} over real steps: at last {last}",
        "In reality",
        ("real steps", curve.label),
        [Line(curve.label, curve.steps, curve.values)],
    )
    return figure(picture, f"As the agent was trained: {curve.label}, {last}.")


def _losses(losses: Sequence[float], densities: Collection[str]) -> Html:
    end = f"{in_words(charts.blocks(losses)[1][-1])} nats per step after {len(losses):,} updates"
    picture = charts.updates(
        "losses",
        f"Loss of the world model over its updates: {end}",
        "World model",
        ("updates of the model", "loss, nats per step"),
        losses,
        REAL,
    )
    band = "The band is the range of some updates." * (len(losses) > charts.POINTS)
    said = f"{DENSITIES.capitalize()}. " * bool(densities)
    return figure(picture, f"What the model learns by, its loss: {end}. {said}{band}")


def _values(values: Sequence[float]) -> Html:
    end = f"{in_words(charts.blocks(values)[1][-1])} after {len(values):,} rollouts"
    picture = charts.updates(
        "values",
        f"What the policy expects of its dreams over its updates: {end}",
        "Policy",
        ("rollouts in the dream", "value, discounted reward"),
        values,
        DREAM,
    )
    return figure(picture, f"The return that the critic expects in the dream: {end}.")


# Returns.


def returns(reached: Reached) -> Html:
    """Returns of the agent in reality and in its dreams."""
    worlds = {"real": reached.real, "dreamt": reached.dreamt}
    rows = [_row_of_mean(name, mean) for name, mean in worlds.items()]
    rows += [(name, number(value), "", "") for name, value in reached.marks.items()]
    colours = {"real": REAL, "dreamt": DREAM}
    shown = [
        Interval(name, mean.mean, *mean.interval, colours[name])
        for name, mean in worlds.items()
        if mean is not None
    ]
    alt = "; ".join(f"{i.name} {in_words(i.mean)}" for i in shown)
    picture = charts.intervals("returns", f"Mean {reached.unit}: {alt}", reached.unit, shown, {})
    caption = f"{reached.unit} of the greedy agent, {reached.episodes:,} episodes each"
    columns = 4 if reached.dreamt.iqm is not None else 3
    head = ("", "mean", "95 % interval", "interquartile mean")
    return section(
        RETURNS,
        paragraph(gap_in_words(reached)),
        paragraph(reached.said) if reached.said else None,
        figure(picture, "Means with their 95 % intervals.", "narrow"),
        table(caption, head[:columns], [row[:columns] for row in rows]),
    )


def _row_of_mean(name: str, mean: Mean | None) -> tuple[Any, ...]:
    if mean is None:
        return name, "no real environment", "", ""
    interval = joined((number(mean.interval[0]), " to ", number(mean.interval[1])))
    return name, number(mean.mean), interval, number(mean.iqm)


def gap_in_words(reached: Reached) -> str:
    """Conclusion from the difference of the returns in reality and in the dream."""
    real, dreamt = reached.real, reached.dreamt
    if real is None:
        return (
            f"In its dreams the agent reaches a mean {reached.unit} of {in_words(dreamt.mean)}. "
            "There is no real environment, so it is unknown how much of it is real."
        )
    gap = dreamt.mean - real.mean
    half = (_half(real) ** 2 + _half(dreamt) ** 2) ** 0.5
    found = (
        f"Mean {reached.unit}: {in_words(dreamt.mean)} in the dream, {in_words(real.mean)} in "
        f"reality, a difference of {in_words(gap, 3)} "
        f"(95 %: {in_words(gap - half, 3)} to {in_words(gap + half, 3)})."
    )
    if abs(gap) <= half:
        return f"{found} Chance explains that much: what the dream promises, reality keeps."
    if (gap > 0) == reached.more_is_better:
        return f"{found} The dream promises more than reality keeps."
    return f"{found} The dream promises less than reality gives."


def _half(mean: Mean) -> float:
    return (mean.interval[1] - mean.interval[0]) / 2


# Open-loop errors.


def foresight(found: Mapping[str, Any]) -> Html:
    """Open-loop errors of the model."""
    steps, by_key = found["steps"], found["by_key"]
    words = [f"{step} step{'s' * (step > 1)}" for step in steps]
    return section(
        OPEN_LOOP,
        paragraph(
            "The model watches the beginning of a held-out episode, then goes on alone under the "
            "actions that were really played. Beside its error stands that of expecting no change."
        ),
        element("ul", *(element("li", words) for words in _foresight_in_words(found))),
        side_by_side(
            _of_key(place, key, steps, errors)
            for place, (key, errors) in enumerate(by_key.items())
        ),
        table(
            "errors by the number of steps that the model goes on alone",
            ("", "unit", *words),
            _rows_of_errors(found),
        ),
    )


def _foresight_in_words(found: Mapping[str, Any]) -> Iterator[str]:
    """Figures of the errors of each key, up to the longest episode."""
    for key, errors in found["by_key"].items():
        triples = zip(found["steps"], errors["error"], errors["error_as_before"], strict=True)
        known = [triple for triple in triples if triple[1] is not None]
        if not known:
            continue
        step, error, before = known[-1]
        ahead = f"{key}, {step} step{'s' * (step > 1)} ahead"
        if not error and not before:
            yield f"{ahead}: always right, as expecting no change is"
            continue
        than = "as expecting no change"
        if error != before:
            than = f"{'better' if error < before else 'worse'} than expecting no change"
        yield f"{ahead}: {in_words(error, 3)} ({errors['unit']}), {than} ({in_words(before, 3)})"


def _of_key(place: int, key: str, steps: Sequence[int], errors: Mapping[str, Any]) -> Html:
    curves = []
    for name, which, colour, style in (
        ("the model", "error", REAL, "-"),
        ("expecting no change", "error_as_before", MUTED, "--"),
    ):
        there = [(s, e) for s, e in zip(steps, errors[which], strict=True) if e is not None]
        if there:
            x, y = zip(*there, strict=True)
            curves.append(Line(name, x, y, colour, style))
    if not any(value for curve in curves for value in curve.y):
        return Html("")  # all errors are zero
    picture = charts.lines(
        f"open-loop-{place}",
        f"Error of {key} over the steps that the model goes on alone, as in the table below",
        key,
        ("steps alone", errors["unit"]),
        curves,
        steps,
    )
    return figure(picture, f"How far {key} is off.")


def _rows_of_errors(found: Mapping[str, Any]) -> Iterator[tuple[Any, ...]]:
    for key, errors in found["by_key"].items():
        yield key, errors["unit"], *(number(error, 3) for error in errors["error"])
        before = (number(error, 3) for error in errors["error_as_before"])
        yield f"{key}, no change", errors["unit"], *before
    yield "windows", "number", *map(number, found["windows"])


# Calibration.


def calibration(found: Calibration | None, whose: str, refusal: str) -> Html:
    """Calibration of the model. refusal: why its episodes could not be played, if not."""
    if found is None:
        return section(CALIBRATION, paragraph(f"Left out: {refusal}."))
    return section(
        CALIBRATION,
        paragraph(
            "Before each row of held-out episodes the model is asked what it holds of the reward "
            "and of the end, given the rows before it and the action that was taken: averaged "
            f"over what it expects to see, in {found.particles} draws. If it is calibrated, of "
            "all that it gives a probability of 20 %, a fifth happens. "
            f"The {found.episodes:,} episodes are {whose}."
        ),
        element("h3", "The end"),
        _of_end(found.end),
        element("h3", "Rewards"),
        _of_rewards(found),
        _note(
            "The error is the expected calibration error: the mean distance between probability "
            "and frequency in a bin, over all predictions. Even a calibrated model shows some in "
            "a finite sample: by chance. Intervals are 95 % (Wilson). A probability that "
            f"is a mean of {found.particles} draws is itself uncertain by up to "
            f"{in_words(0.5 / found.particles**0.5, 2)}."
        ),
    )


def _of_end(found: Reliability) -> Html:
    mean = sum(b.predicted * b.number for b in found.bins) / found.number
    rate = share(found.happened / found.number)
    words = paragraph(
        f"{found.happened:,} of {found.number:,} rows were ends ({rate}); "
        f"the model expected {share(mean)}. Calibration error ",
        number(found.error, 3),
        ", by chance ",
        number(found.by_chance, 3),
        f": {_beside_chance(found.error, found.by_chance)}",
    )
    picture = charts.reliability(
        "end", f"Reliability of the end: {_bins_in_words(found)}", "The end", found
    )
    caption = "Each dot is a bin of the table, larger where there are more predictions."
    return joined((words, _beside(figure(picture, caption), _bins("ends by probability", found))))


def _of_rewards(found: Calibration) -> Html:
    if found.density is not None:
        return _of_density(found.density)
    assert found.reward is not None
    if len(found.values) == 1:
        value = in_words(found.values[0])
        return paragraph(
            f"All rewards are {value}, and so it is held to be: nothing to calibrate."
        )
    values = ", ".join(map(in_words, found.values))
    words = paragraph(
        f"Rewards are one of {values}; the probability of each is a prediction. "
        "Calibration error ",
        number(found.reward.error, 3),
        ", by chance ",
        number(found.reward.by_chance, 3),
        f": {_beside_chance(found.reward.error, found.reward.by_chance)}",
    )
    alt = f"Reliability of rewards: {_bins_in_words(found.reward)}"
    picture = charts.reliability("reward", alt, "Rewards", found.reward)
    caption = "All values of all rewards."
    bins = _bins("rewards by probability", found.reward)
    return joined((words, _beside(figure(picture, caption), bins)))


def _of_density(found: Uniformity) -> Html:
    words = paragraph(
        f"Rewards have a density. Of {found.number:,} real ones "
        f"{share(found.within_half)} lie in the central 50 % of what was predicted, "
        f"{share(found.within_most)} in the central 90 %: {_spread_in_words(found)} "
        "Calibration error ",
        number(found.error, 3),
        ", by chance ",
        number(found.by_chance, 3),
        f": {_beside_chance(found.error, found.by_chance)}",
    )
    counts = ", ".join(map(str, found.counts))
    picture = charts.transform(
        "reward", f"Histogram of the probability integral transform: {counts}", "Rewards", found
    )
    caption = (
        "The probability integral transform: where a real reward lies in what was predicted, "
        "0 below all of it and 1 above. Flat if the density is right, U-shaped if it is too "
        "narrow, a hill if it is too wide, tilted if it is off to one side. Grey: uniform, 95 %. "
        "Here the error is the mean distance of the two distribution functions."
    )
    return joined((words, figure(picture, caption, "narrow")))


def _spread_in_words(found: Uniformity) -> str:
    if found.error <= CHANCE * found.by_chance:
        return "about as many as should."
    if found.within_half < 0.5 and found.within_most < 0.9:
        return "the predictions are too sure of themselves."
    if found.within_half > 0.5 and found.within_most > 0.9:
        return "the predictions are wider than they need to be."
    return "the predictions have another shape than the rewards."


def _beside_chance(error: float, by_chance: float) -> str:
    if error <= CHANCE * by_chance:
        return "no more than chance explains."
    times = error / by_chance if by_chance else math.inf
    if times > FAR:
        return "far more than chance explains."
    return f"{in_words(times, 2)} times as much."


def _bins(caption: str, found: Reliability) -> Html:
    rows = (
        (
            f"{in_words(b.low)} to {in_words(b.high)}",
            number(b.number),
            number(b.predicted, 3),
            number(b.happened, 3),
            f"{in_words(b.interval[0], 2)} to {in_words(b.interval[1], 2)}",
        )
        for b in found.bins
    )
    return table(caption, ("bin", "predictions", "predicted", "happened", "95 %"), rows)


def _bins_in_words(found: Reliability) -> str:
    return "; ".join(
        f"predicted {in_words(b.predicted, 2)}, happened {in_words(b.happened, 2)}"
        for b in found.bins
    )


def _beside(*parts: Html) -> Html:
    return element("div", *parts, class_="judged")


# Dreams.


def dreams(shown: Sequence[Shown], absence: str, explained: Sequence[str] = ()) -> Html:
    """Films. absence: why there is no real environment, "" if there is one; explained: what the
    game is about, and how to read its pictures."""
    films = [
        element(
            "figure",
            video(film.mp4, film.poster, film.size, f"Film: {film.words}"),
            element("figcaption", film.words.capitalize() + "."),
        )
        for film in shown
    ]
    beside = int(not absence)  # the first film, where there is reality
    wide, small = films[:beside], films[beside:]
    words = (
        f"The trained agent plays, greedily. Reality does not stand beside: {absence}."
        if absence
        else "The trained agent plays, greedily. Where reality stands beside the dream, the dream "
        "has seen the first row of each game, then hears the same actions."
    )
    about = (paragraph(text) for text in explained if text)
    return section(DREAMS, *about, paragraph(words), *wide, side_by_side(small))


# Configuration.


def configuration(config: Any) -> Html:
    """All settings of the run, and its command."""
    options = list(settings(config))
    differing = sum(setting.differs for setting in options)
    groups: dict[str, list[Setting]] = {}
    for setting in sorted(
        options, key=lambda setting: "." not in setting.path
    ):  # settings of no group last
        groups.setdefault(setting.path.rpartition(".")[0] or "run", []).append(setting)
    return section(
        CONFIGURATION,
        paragraph("The same run again, in a new folder RUN:"),
        element("pre", element("code", _command(command_of(config)))),
        _note(
            "The same seed, number of threads and processor give the same bits. Paths were made "
            "absolute when the run began."
        ),
        paragraph(
            f"{differing} of {len(options)} settings differ from their defaults: those are ",
            element("strong", "set off"),
            ".",
        ),
        element(
            "div",
            *(
                table(name, ("setting", "value"), map(_row_of_setting, group))
                for name, group in groups.items()
            ),
            class_="settings",
        ),
    )


def _command(text: str) -> Html:
    """The command with line breaks between options only."""
    options = re.split(r" (?=--)", text)
    parts = (element("span", o, class_="option") if len(o) < UNBROKEN else o for o in options)
    return Html(" ".join(map(escaped, parts)))


def _row_of_setting(setting: Setting) -> tuple[Any, Any]:
    name, value = setting.option.removeprefix("--"), value_in_words(setting.value)
    if not setting.differs:
        return name, value
    usual = (
        "no default" if setting.default is NEEDED else f"default {value_in_words(setting.default)}"
    )
    config = element("strong", value), " ", element("span", f"({usual})", class_="note")
    return name, joined(config)


def value_in_words(value: Any) -> str:
    """The value of a setting."""
    if isinstance(value, Mapping):
        return ", ".join(f"{key}: {part}" for key, part in value.items()) or "none"
    if isinstance(value, tuple):
        return ", ".join(map(str, value)) or "none"
    return {None: "none", True: "yes", False: "no"}[value] if _is_word(value) else str(value)


def _is_word(value: Any) -> bool:
    return value is None or isinstance(value, bool)


def _note(words: str | None) -> Html:
    return paragraph(words, class_="note") if words else Html("")
