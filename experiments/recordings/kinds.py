"""The kinds of recordings, by the names of their experiments; each is imported when it is met."""

from importlib import import_module

from worldmodel.experiments.recordings.kind import Kind

KINDS = {"text": "Text", "audio": "Audio", "midi": "Midi", "strokes": "Strokes"}


def kind_named(name: str) -> type[Kind]:
    """The kind of the experiment `name`."""
    return getattr(import_module(f"worldmodel.experiments.recordings.{name}"), KINDS[name])
