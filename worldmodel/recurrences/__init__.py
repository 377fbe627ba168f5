"""Recurrences, by name: what a core's hidden state becomes, row by row."""

from collections.abc import Callable

from worldmodel.recurrences.base import Layers, Recurrence
from worldmodel.recurrences.gated import GRU, LSTM, NormalisedGRU, SkipGRU
from worldmodel.recurrences.linear import GatedLinear
from worldmodel.registry import Registry, options_taken

RECURRENCES: Registry[Callable[..., Recurrence]] = Registry(
    "recurrence",
    {
        "gru": GRU,
        "lstm": LSTM,
        "normalised-gru": NormalisedGRU,
        "skip-gru": SkipGRU,
        "gated-linear": GatedLinear,
    },
)


def register_recurrence(name: str, make: Callable[..., Recurrence]) -> None:
    """Adds a recurrence to `RECURRENCES`, (input_size, hidden) -> Recurrence: from now on cores
    whose `recurrence` is `name` use it. If it takes `layers`, it builds them itself; if it takes
    `dropout`, it is given the rate within them."""
    RECURRENCES.register(name, make)


def recurrence(
    kind: str, input_size: int, hidden: int, layers: int = 1, dropout: float = 0.0
) -> Recurrence:
    """A recurrence by its name in `RECURRENCES`, of `layers` layers with `hidden` units each.

    dropout: within it, in training mode, where it has any.
    """
    if layers < 1:
        raise ValueError(f"a recurrence has one layer or more, got {layers}")
    make = RECURRENCES[kind]
    options = options_taken(make, {"layers": layers, "dropout": dropout})
    if layers == 1 or "layers" in options:
        return make(input_size, hidden, **options)
    built: list[Recurrence] = []
    for _ in range(layers):
        built.append(make(input_size, hidden, **options))
        input_size = built[-1].output_size
    return Layers(built)


__all__ = [
    "GRU",
    "LSTM",
    "RECURRENCES",
    "GatedLinear",
    "Layers",
    "NormalisedGRU",
    "Recurrence",
    "SkipGRU",
    "recurrence",
    "register_recurrence",
]
