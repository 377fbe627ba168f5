"""Tables of benches: text to the left, numbers to the right."""

from collections.abc import Iterable, Sequence

from rich.table import Table


def table(title: str, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> Table:
    """A table whose first column is text and whose others are numbers."""
    made = Table(title=title, box=None)
    for number, column in enumerate(columns):
        made.add_column(column, justify="right" if number else "left", no_wrap=True)
    for row in rows:
        made.add_row(*row)
    return made


def rate_of(value: float | None) -> str:
    """A rate per second; empty if it was not measured."""
    return "" if value is None else f"{value:.2f}"


def whole(value: float | None) -> str:
    """A number without decimals; empty if it was not measured."""
    return "" if value is None else f"{value:,.0f}"


def bound_name(name: str, particles: int) -> str:
    """The name of a bound: exact, ELBO, IWAE-128."""
    if name == "exact":
        return name
    return name.upper() if name == "elbo" else f"{name.upper()}-{particles}"
