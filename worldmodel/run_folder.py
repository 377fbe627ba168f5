"""Run folders: the configuration, metrics and checkpoints of a run."""

import json
import os
from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

SCHEMA_VERSION = 2


class RunError(Exception):
    """A fault of a run that its user has to know or can fix; one sentence."""


class Description(NamedTuple):
    """The content of config.json."""

    experiment: str  # its name in the registry of experiments
    config: dict[str, Any]  # as JSON has it


class RunFolder:
    """config.json, metrics.jsonl, checkpoints/, episodes/, videos/ under one path."""

    def __init__(self, path: Path):
        self.path = path
        self.config_file = path / "config.json"
        self.metrics_file = path / "metrics.jsonl"
        self.checkpoints = path / "checkpoints"
        self.episodes = path / "episodes"
        self.videos = path / "videos"

    def __repr__(self) -> str:
        return f"RunFolder({str(self.path)!r})"

    @classmethod
    def create(cls, path: Path, experiment: str, config: Mapping[str, Any]) -> "RunFolder":
        """Makes a folder for a new run; a folder that already holds something is left alone.

        config: the settings of the experiment, for JSON.
        """
        folder = cls(path)
        if path.exists() and (not path.is_dir() or any(path.iterdir())):
            hint = (
                f"go on with it by `worldmodel resume {path}`, or " * folder.config_file.exists()
            )
            raise RunError(f"{path} already exists; {hint}choose another --out")
        for part in (folder.checkpoints, folder.episodes, folder.videos):
            part.mkdir(parents=True, exist_ok=True)
        described = {"schema_version": SCHEMA_VERSION, "experiment": experiment, "config": config}
        write_text(folder.config_file, json.dumps(described, indent=2) + "\n")
        return folder

    @classmethod
    def open(cls, path: Path) -> "RunFolder":
        """Opens an existing run."""
        folder = cls(path)
        if not path.is_dir():
            raise RunError(f"there is no run at {path}")
        if not folder.config_file.is_file():
            raise RunError(f"{path} is no run: it has no config.json")
        return folder

    @cached_property
    def description(self) -> Description:
        """The content of config.json, read once."""
        try:
            read = json.loads(self.config_file.read_text())
            version = read["schema_version"]
            description = Description(read["experiment"], read["config"])
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise RunError(f"{self.config_file} is damaged: {error}") from error
        if version != SCHEMA_VERSION:
            raise RunError(_other_schema(self.path, version))
        return description

    @property
    def experiment(self) -> str:
        """The name of the experiment that the run is of."""
        return self.description.experiment

    def log(self, record: Mapping[str, Any]) -> None:
        """Appends a line to metrics.jsonl."""
        with open(self.metrics_file, "a") as file:
            file.write(json.dumps(record) + "\n")

    def metrics(self) -> Iterator[dict[str, Any]]:
        """The lines of metrics.jsonl."""
        if self.metrics_file.exists():
            with open(self.metrics_file) as file:
                yield from (json.loads(line) for line in file)

    def metrics_size(self) -> int:
        """Bytes of metrics.jsonl, on disk."""
        if not self.metrics_file.exists():
            return 0
        with open(self.metrics_file, "rb") as file:
            os.fsync(file.fileno())
        return self.metrics_file.stat().st_size

    def truncate_metrics(self, size: int) -> None:
        """Removes the metrics logged after the checkpoint that the run resumes from."""
        if self.metrics_file.exists():
            os.truncate(self.metrics_file, size)


def _other_schema(path: Path, version: object) -> str:
    """Refuses a run of another version of the package, with advice in one sentence."""
    if version == 1:
        return (
            f"{path} was made by version 0.1 of this package, whose runs have schema 1 (this one "
            f"reads {SCHEMA_VERSION}): train it again, or check out version 0.1 to go on with it"
        )
    return (
        f"{path} has schema version {version!r}, this program reads {SCHEMA_VERSION}: train it "
        "again, or use the version of the package that made it"
    )


def write_text(path: Path, text: str) -> None:
    """Writes a file whole or not at all."""
    temporary = path.with_name(path.name + ".part")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(path)
