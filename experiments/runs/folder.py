"""Run folders: what a run was told, what it measured, where it stands."""

import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import cattrs

from worldmodel.experiments.images.config import VAEConfig
from worldmodel.experiments.recordings.config import (
    AudioConfig,
    MidiConfig,
    StrokesConfig,
    TextConfig,
)
from worldmodel.experiments.rl.baseline_config import BaselineConfig
from worldmodel.experiments.rl.config import ControlConfig
from worldmodel.experiments.rl.toy_game_config import ToyGameConfig

SCHEMA_VERSION = 1

# What has run folders, by name.
EXPERIMENTS: dict[str, type] = {
    "toy-game": ToyGameConfig,
    "control": ControlConfig,
    "vae": VAEConfig,
    "text": TextConfig,
    "audio": AudioConfig,
    "midi": MidiConfig,
    "strokes": StrokesConfig,
    "baseline": BaselineConfig,
}


class RunError(Exception):
    """Something about a run folder that its user has to know; one sentence."""


class RunFolder:
    """config.json, metrics.jsonl, checkpoints/, episodes/, videos/ under one path."""

    def __init__(self, path: Path):
        self.path = path
        self.config_file = path / "config.json"
        self.metrics_file = path / "metrics.jsonl"
        self.checkpoints = path / "checkpoints"
        self.episodes = path / "episodes"
        self.videos = path / "videos"

    @classmethod
    def create(cls, path: Path, config: Any) -> "RunFolder":
        """A new folder for what `config`, one of `EXPERIMENTS`, tells to do; a folder that
        already holds something is left alone."""
        folder = cls(path)
        if path.exists() and (not path.is_dir() or any(path.iterdir())):
            hint = (
                f"go on with it by `worldmodel resume {path}`, or " * folder.config_file.exists()
            )
            raise RunError(f"{path} already exists; {hint}choose another --out")
        for part in (folder.checkpoints, folder.episodes, folder.videos):
            part.mkdir(parents=True, exist_ok=True)
        description = {
            "schema_version": SCHEMA_VERSION,
            "experiment": experiment_of(config),
            "config": cattrs.unstructure(config),
        }
        write_text(folder.config_file, json.dumps(description, indent=2) + "\n")
        return folder

    @classmethod
    def open(cls, path: Path) -> "RunFolder":
        """An existing run."""
        folder = cls(path)
        if not path.is_dir():
            raise RunError(f"there is no run at {path}")
        if not folder.config_file.is_file():
            raise RunError(f"{path} is no run: it has no config.json")
        return folder

    @property
    def experiment(self) -> str:
        """The name of what was run, one of `EXPERIMENTS`."""
        return experiment_of(self.config())

    def config(self) -> Any:
        """What the run was told."""
        try:
            description = json.loads(self.config_file.read_text())
            version, experiment = description["schema_version"], description["experiment"]
        except (ValueError, KeyError, TypeError) as error:
            raise RunError(f"{self.config_file} is damaged: {error}") from error
        if version != SCHEMA_VERSION:
            raise RunError(
                f"{self.config_file} has schema version {version}, this program reads "
                f"{SCHEMA_VERSION}; use the version of the package that wrote it"
            )
        if experiment not in EXPERIMENTS:
            raise RunError(
                f"{self.config_file} is of the experiment {experiment!r}; this program knows "
                f"{', '.join(EXPERIMENTS)}"
            )
        converter = cattrs.Converter(forbid_extra_keys=True)
        try:
            return converter.structure(description["config"], EXPERIMENTS[experiment])
        except Exception as error:
            reasons = "; ".join(cattrs.transform_error(error))
            raise RunError(
                f"{self.config_file} is no configuration of a run: {reasons}"
            ) from error

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
        """Forgets what was logged after the checkpoint that the run goes on from."""
        if self.metrics_file.exists():
            os.truncate(self.metrics_file, size)


def experiment_of(config: Any) -> str:
    """The name in `EXPERIMENTS` of what a configuration tells to do."""
    return next(name for name, kind in EXPERIMENTS.items() if type(config) is kind)


def write_text(path: Path, text: str) -> None:
    """Writes a file whole or not at all."""
    temporary = path.with_name(path.name + ".part")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(path)
