"""What the benches measured, as tables for people."""

from collections.abc import Iterable, Sequence
from typing import Any

from rich.table import Table


def table(title: str, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> Table:
    """A table whose first column is text and whose others are numbers."""
    made = Table(title=title, box=None)
    for number, column in enumerate(columns):
        made.add_column(column, justify="right" if number else "left", no_wrap=True)
    for row in rows:
        made.add_row(*row)
    return made


def of_cores(result: dict[str, Any]) -> list[Table]:
    """The tables of `bench cores`."""
    learning = (
        (
            f"{row['core']} {row['hidden']}",
            f"{row['updates_per_second']:.1f}",
            f"{row['frames_per_second']:,.0f}",
            f"{row['gflop']:.2f}",
            f"{100 * row['fraction']:.0f} %",
            row["products"],
            f"{row['obvious_updates_per_second']:.1f}",
            f"{row['ratio']:.2f}",
        )
        for row in result["learning"]
    )
    dreaming = (
        (
            f"{row['core']} {row['hidden']}",
            str(row["batch"]),
            f"{row['steps_per_second']:,.0f}",
            f"{row['microseconds_per_step']:.0f}",
            f"{row['gflop']:.4f}",
            f"{100 * row['fraction']:.0f} %",
            row["products"],
        )
        for row in result["dreaming"]
    )
    growth = (
        (row["core"], f"{row['what']} {row['value']}", f"{row['milliseconds']:.1f}")
        for row in result["growth"]
    )
    products = (
        (" x ".join(map(str, row["shape"])), f"{row['gflops']:.0f}", row["products"])
        for row in result["products"]
    )
    shown = [
        table("matrix products", ("rows x in x out", "GFLOP/s", "by"), products),
        table(
            "learning: updates of 64 rows x 16 columns",
            ("core", "updates/s", "frames/s", "GFLOP", "of best", "by", "obvious/s", "ratio"),
            learning,
        ),
        table(
            "dreaming",
            ("core", "dreams", "steps/s", "us a step", "GFLOP", "of best", "by"),
            dreaming,
        ),
    ]
    if result["growth"]:
        shown.append(table("growth of an update", ("core", "with", "ms"), growth))
    return shown


def of_dreamer(result: dict[str, Any]) -> list[Table]:
    """The tables of `bench cores --preset dreamerv3-1m`."""
    figures = (
        ("parameters of the world model", f"{result['parameters']:,}"),
        ("whole updates a second", f"{result['updates_per_second']:.2f}"),
        ("updates of the world model a second", f"{result['model_updates_per_second']:.2f}"),
        ("GFLOP a whole update", f"{result['gflop']:.1f}"),
        ("matrix products", result["products"]),
    )
    dreaming = (
        (
            str(row["batch"]),
            f"{row['steps_per_second']:,.0f}",
            f"{row['microseconds_per_step']:.0f}",
        )
        for row in result["dreaming"]
    )
    return [
        table(result["preset"], ("", ""), figures),
        table("dreams with their actor", ("dreams", "steps/s", "us a step"), dreaming),
    ]
