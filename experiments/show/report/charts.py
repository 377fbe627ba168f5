"""Drawings as SVG inside of a page: they take the page's colours and its type.

matplotlib draws them (the extra `plots`); without it there are none, and the page shows `MISSING`.
"""

import io
import re
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from worldmodel.experiments.measure.calibration import Reliability, Uniformity
from worldmodel.experiments.show.report.page import Html, element

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MISSING = "The drawings are left out: they need matplotlib, pip install 'worldmodel-gym[plots]'."
SIZE = (3.7, 2.8)  # inches: three of them fill a page's width
POINTS = 200  # of a line, at most

# These colours are replaced by the page's own, light or dark.
INK, MUTED, RULE = "#010101", "#010102", "#010103"
REAL, DREAM = "#010104", "#010105"
NAMES = {INK: "ink", MUTED: "muted", RULE: "rule", REAL: "real", DREAM: "dream"}

LOOK: Any = {
    "svg.fonttype": "none",
    "font.size": 10,
    "text.color": INK,
    "axes.labelcolor": MUTED,
    "axes.edgecolor": MUTED,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 10.5,
    "axes.titlelocation": "left",
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": RULE,
    "grid.linewidth": 0.7,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.major.size": 3,
    "ytick.major.size": 3,
    "legend.frameon": False,
    "legend.fontsize": 9,
    "lines.linewidth": 1.7,
}

Floats = NDArray[np.float64]


def available() -> bool:
    """True if matplotlib is installed."""
    return find_spec("matplotlib") is not None


def _drawn(
    name: str, alt: str, draw: Callable[["Axes"], None], size: tuple[float, float] = SIZE
) -> Html:
    """The drawing of `draw`. name: unique in the page; alt: the picture in words."""
    if not available():
        return Html("")
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    with rc_context(LOOK | {"svg.hashsalt": name}):
        figure = Figure(figsize=size, layout="constrained")
        draw(figure.subplots())
        file = io.StringIO()
        figure.savefig(file, format="svg", transparent=True, metadata={"Date": None})
    return _inline(file.getvalue(), name, alt)


def _inline(svg: str, name: str, alt: str) -> Html:
    """The part of matplotlib's SVG file that belongs into a page."""
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg[svg.index("<svg") :], flags=re.DOTALL)
    svg = re.sub(r'(\bid="|url\(#|href="#)', rf"\g<1>{name}-", svg)  # a page has many drawings
    for colour, variable in NAMES.items():
        svg = svg.replace(colour, f"var(--{variable})")
    svg = re.sub(r"(font: (?:\w+ )*[\d.]+px) [^;\"]*", r"\1 var(--font)", svg)
    tag, rest = svg.split(">", 1)
    title = element("title", alt, id=f"{name}-title")
    return Html(f'{tag} role="img" aria-labelledby="{name}-title">{title}{rest}')


class Line(NamedTuple):
    """A named curve."""

    name: str
    x: Sequence[float]
    y: Sequence[float]
    colour: str = REAL
    style: str = "-"


def lines(
    name: str,
    alt: str,
    title: str,
    labels: tuple[str, str],
    curves: Sequence[Line],
    steps: Sequence[int] = (),
) -> Html:
    """Curves with dots. labels: of the axes; steps: the ticks of a logarithmic axis."""

    def draw(axes: "Axes") -> None:
        for curve in curves:
            axes.plot(
                curve.x,
                curve.y,
                curve.style,
                color=curve.colour,
                marker="o",
                ms=4,
                label=curve.name,
            )
        axes.set(title=title, xlabel=labels[0], ylabel=labels[1])
        axes.margins(x=0.03)
        _count(axes)
        if steps:
            axes.set_xscale("log")
            axes.set_xticks(steps, [str(step) for step in steps])
            axes.minorticks_off()
            axes.set_ylim(bottom=0)
        if len(curves) > 1:
            axes.legend()

    return _drawn(name, alt, draw)


PALETTE = (  # told apart on a light page and on a dark one, and by most who see few colours
    *("#3b7dd8", "#d9742b", "#2a9d6f", "#c44e8c", "#8b6fd1"),
    *("#a8901a", "#2f9fb3", "#d05353", "#7d8590", "#6b8e23"),
)
STYLES = ("-", "--", ":", "-.")  # of the curves beyond as many as there are colours


class Band(NamedTuple):
    """A curve of several runs: their mean, and their range."""

    name: str
    x: Floats  # [n]
    y: Floats  # [runs, n]


def colour_of(place: int) -> str:
    """The colour of the curve at a place in a list."""
    return PALETTE[place % len(PALETTE)]


def bands(name: str, alt: str, labels: tuple[str, str], curves: Sequence[Band | None]) -> Html:
    """Mean curves, each with the range of its runs. labels: of the axes; None: a place, and so a
    colour, without a curve."""

    def draw(axes: "Axes") -> None:
        for place, curve in enumerate(curves):
            if curve is None:
                continue
            colour = colour_of(place)
            style = STYLES[place // len(PALETTE) % len(STYLES)]
            marker = "o" if len(curve.x) == 1 else ""
            axes.plot(curve.x, curve.y.mean(0), style, color=colour, marker=marker)
            axes.lines[-1].set_label(curve.name)
            if len(curve.y) > 1:
                low, high = curve.y.min(0), curve.y.max(0)
                axes.fill_between(curve.x, low, high, color=colour, alpha=0.18, linewidth=0)
        axes.set(xlabel=labels[0], ylabel=labels[1])
        axes.margins(x=0.02)
        _count(axes)
        if len(curves) > 1:
            axes.figure.legend(loc="outside lower center", ncols=2)

    rows = -(-len(curves) // 2) if len(curves) > 1 else 0
    return _drawn(name, alt, draw, (7.4, 3.9 + 0.2 * rows))


def _count(axes: "Axes") -> None:
    """Few ticks along x, in whole numbers: 10,000."""
    from matplotlib.ticker import MaxNLocator, StrMethodFormatter

    axes.xaxis.set_major_locator(MaxNLocator(4, integer=True))
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))


def blocks(values: Sequence[float], number: int = POINTS) -> tuple[Floats, Floats, Floats, Floats]:
    """Many values in few blocks of equal size: their last indices (from 1 on), means, minima and
    maxima, [blocks] each.

    >>> [part.tolist() for part in blocks([1, 3, 5, 9], 2)]
    [[2.0, 4.0], [2.0, 7.0], [1.0, 5.0], [3.0, 9.0]]
    """
    parts = np.array_split(np.asarray(values, float), min(number, len(values)))
    ends = np.cumsum([len(part) for part in parts]).astype(float)
    mean, low, high = (np.array([f(part) for part in parts]) for f in (np.mean, np.min, np.max))
    return ends, mean, low, high


def updates(
    name: str, alt: str, title: str, labels: tuple[str, str], values: Sequence[float], colour: str
) -> Html:
    """Draws measurements of each update: means of blocks, and the range of each."""

    def draw(axes: "Axes") -> None:
        ends, mean, low, high = blocks(values)
        axes.fill_between(ends, low, high, color=colour, alpha=0.2, linewidth=0)
        axes.plot(ends, mean, color=colour)
        axes.set(title=title, xlabel=labels[0], ylabel=labels[1])
        axes.margins(x=0.01)
        _count(axes)
        if len(mean) > 20:  # the first blocks may be far off
            inner = np.concatenate([low, high])[len(low) // 20 :]
            bottom, top = np.quantile(inner, (0.002, 0.998))
            axes.set_ylim(bottom - 0.05 * (top - bottom), top + 0.05 * (top - bottom) + 1e-9)

    return _drawn(name, alt, draw)


class Interval(NamedTuple):
    """A mean with its interval, and a name."""

    name: str
    mean: float
    low: float
    high: float
    colour: str


def intervals(
    name: str, alt: str, label: str, rows: Sequence[Interval], marks: dict[str, float]
) -> Html:
    """Means with intervals below each other, and marks across, with their names."""

    def draw(axes: "Axes") -> None:
        for place, row in enumerate(rows):
            axes.plot([row.low, row.high], [place, place], color=row.colour, linewidth=3)
            axes.plot([row.mean], [place], "o", color=row.colour, ms=8)
        for word, value in marks.items():
            axes.axvline(value, color=MUTED, linestyle=":", linewidth=1.2)
            axes.annotate(
                word,
                (value, 1),
                (3, -2),
                ("data", "axes fraction"),
                "offset points",
                va="top",
                color=MUTED,
                fontsize=9,
            )
        axes.set_yticks(range(len(rows)), [row.name for row in rows])
        axes.set_ylim(len(rows) - 0.4, -0.8)
        axes.set_xlabel(label)
        axes.grid(axis="y", visible=False)
        axes.margins(x=0.08)

    return _drawn(name, alt, draw, (6.4, 1.0 + 0.45 * len(rows)))


def reliability(name: str, alt: str, title: str, found: Reliability) -> Html:
    """Frequencies over probabilities; the larger a dot, the more predictions it stands for."""

    def draw(axes: "Axes") -> None:
        axes.plot([0, 1], [0, 1], "--", color=MUTED, linewidth=1, label="calibrated")
        x = [b.predicted for b in found.bins]
        y = [b.happened for b in found.bins]
        low, high = zip(*(b.interval for b in found.bins), strict=True)
        axes.vlines(x, low, high, color=REAL, linewidth=1.4, alpha=0.7)
        area = [14 + 70 * b.number / found.number for b in found.bins]
        axes.scatter(x, y, area, color=REAL, zorder=3, label="this model, 95 %")
        axes.set(title=title, xlabel="predicted probability", ylabel="share that happened")
        axes.set(xlim=(-0.03, 1.03), ylim=(-0.03, 1.03), aspect="equal")
        axes.legend(loc="upper left")

    return _drawn(name, alt, draw, (3.9, 3.7))


def transform(name: str, alt: str, title: str, found: Uniformity) -> Html:
    """The histogram of a probability integral transform, and the uniform one with its 95 %."""

    def draw(axes: "Axes") -> None:
        bins = len(found.counts)
        expected = found.number / bins
        half = 1.96 * (expected * (1 - 1 / bins)) ** 0.5
        edges = np.arange(bins) / bins
        axes.bar(edges, found.counts, 0.94 / bins, align="edge", color=REAL, alpha=0.8)
        axes.axhspan(expected - half, expected + half, color=MUTED, alpha=0.25, linewidth=0)
        axes.axhline(expected, color=MUTED, linestyle="--", linewidth=1)
        axes.set(title=title, xlabel="where the real reward lies in the prediction", ylabel="rows")
        axes.grid(axis="x", visible=False)
        axes.set_xlim(0, 1)

    return _drawn(name, alt, draw, (4.6, 3.0))
