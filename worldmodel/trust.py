"""Trust in runs: code that a run names is imported only where its user has said so.

A run's configuration may name a module, `module:id`, and importing a module runs its code. Runs
that were made here are known by the SHA-256 of their configuration, which making them writes into
the user's state folder. See docs/trust.md.
"""

import hashlib
import os
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from worldmodel.files import MOST_JSON, reading

STATE = Path("worldmodel", "runs.sha256")  # under $XDG_STATE_HOME: a digest a line


class Trust(NamedTuple):
    """The trust of a user in the code that a run names; by default none."""

    is_whole: bool = False  # in all of the run: it was made here, or the user said so
    env: str | None = None  # in this module:id, which the user typed again
    env_path: str | None = None  # folder of the module, if the user typed one

    def refusal(self, run: Path, env: str, arguments: Any) -> str:
        """A sentence on why the environment of a run is not made; "" if it may be.

        env: its id; arguments: of its constructor, as JSON has them.
        """
        if self.is_whole:
            return ""
        if ":" in env and self.env is None:
            return (
                f"{run} was not made here, and its environment {env!r} is code: give --trust if "
                "you trust whoever made the run, or type it again by --env if the module is your "
                "own (in a script, trust=True)"
            )
        if has_text(arguments):
            return (
                f"{run} was not made here, and the arguments {arguments} of its environment "
                "hold texts, which may name code or files: give --trust if you trust whoever made "
                "the run (in a script, trust=True)"
            )
        return ""

    def folder(self, recorded: str | None) -> str | None:
        """The folder to search the module in, besides where packages are installed: the one that
        was typed, or that a trusted run has `recorded`, or the current one for a module that was
        typed; None: none."""
        if self.env_path is not None:
            return self.env_path
        if self.is_whole:
            return recorded if recorded and Path(recorded).is_absolute() else None
        return None if self.env is None else "."


def has_text(value: Any) -> bool:
    """True if there is a text in a value of JSON, keys aside.

    >>> has_text({"sizes": [3, 4], "sharp": True}), has_text({"map": {"file": "maps/1"}})
    (False, True)
    """
    if isinstance(value, dict):
        return has_text(list(value.values()))
    return isinstance(value, str) or (isinstance(value, list) and any(map(has_text, value)))


def remember(config: Path) -> None:
    """Remembers that the run of this config.json was made here.

    Where the state folder cannot be written, its user has to give --trust later on.
    """
    with suppress(OSError, RuntimeError):
        file = _state()
        digest = _digest(config)
        if digest not in _digests(file):
            file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            with open(file, "a") as lines:
                lines.write(f"{digest}\n")


def was_made_here(config: Path) -> bool:
    """True if the run of this config.json, or one with the same, was made here by this user."""
    try:
        return _digest(config) in _digests(_state())
    except (OSError, RuntimeError, ValueError):
        return False


def _state() -> Path:
    """The file of digests. Relative paths in the variable count as absent, as its standard has
    it: they would lie in whatever folder is current."""
    home = Path(os.environ.get("XDG_STATE_HOME", ""))
    return (home if home.is_absolute() else Path.home() / ".local" / "state") / STATE


def _digests(file: Path) -> set[str]:
    return set(file.read_text().split()) if file.is_file() else set()


def _digest(config: Path) -> str:
    with reading(config, MOST_JSON) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
