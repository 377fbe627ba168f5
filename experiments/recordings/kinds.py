"""The kinds of recordings, by the names of their experiments."""

from collections.abc import Callable

from experiments.recordings.kind import Kind


def _text() -> type[Kind]:
    from experiments.recordings.text import Text

    return Text


KINDS: dict[str, Callable[[], type[Kind]]] = {"text": _text}
