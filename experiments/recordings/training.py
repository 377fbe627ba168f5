"""Runs that learn sequences: text, music, speech, pen strokes, all in the same way.

    worldmodel train text --corpus FILE --out RUN

Reads everything once into the run's folder, learns, and from time to time validates the average of
its weights, keeps the best, and writes a sample. Results stand in docs/results.md.
"""

import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, cast

import torch

from worldmodel import Job, SequenceTraining, Stage, Watcher
from worldmodel.checkpoint import list_checkpoints
from worldmodel.devices import CPU
from worldmodel.experiments.recordings.config import RecordingsConfig
from worldmodel.experiments.recordings.modality import FileModality, modality_class
from worldmodel.experiments.recordings.storage import import_recordings, split_stores
from worldmodel.experiments.runs.device import device_of
from worldmodel.experiments.runs.registry import config_of
from worldmodel.files import DamagedError, crc32_of, read_json, write_json
from worldmodel.job import Metrics
from worldmodel.noise import OwnNoise
from worldmodel.progress import Reporter
from worldmodel.run_folder import RunError, RunFolder
from worldmodel.sequence_model.generation import dream

SHOWN_LOG = 200  # characters of a sample, for the log


def check(config: RecordingsConfig) -> None:
    """Raises RunError if recordings or model cannot be used, before a run's folder is made."""
    make = modality_class(config)
    statistics = make.first_statistics(config.data, lambda line: None)
    training_of(config, make(config.data, statistics))


def training_of(
    config: RecordingsConfig, modality: FileModality, device: torch.device = CPU
) -> SequenceTraining:
    """The training of a model of recordings; ValueError and TypeError become RunError."""
    try:
        return SequenceTraining(config.sequence, modality, device=device)
    except (ValueError, TypeError) as error:
        raise RunError(str(error)) from error


def training_in(folder: RunFolder, reporter: Reporter) -> SequenceTraining:
    """The training in a run's folder, after its recordings have been read into it."""
    modality = import_recordings(folder, reporter)
    training = training_of(config_of(folder), modality, device_of(folder))
    stores = split_stores(folder)
    training.learn_from(stores["train"], stores["valid"])
    if not list_checkpoints(folder.checkpoints):  # those hold their stages
        learning = training.config.learning
        validations, minutes = learning.validations, learning.minutes
        if minutes:
            each = minutes_of_validation(training)
            validations, minutes = shared(minutes, validations, each)
        training.extend(minutes=minutes, validations=validations)
    return training


def minutes_of_validation(training: SequenceTraining) -> float:
    """Minutes that a validation takes, and the sample after it."""
    begun = time.monotonic()
    with OwnNoise(0)():
        if training.score is not None:
            training.score(training.learner.averaged)
        sample_of(training)
    return (time.monotonic() - begun) / 60


def shared(minutes: float, validations: int, each: float) -> tuple[int, float]:
    """The number of validations of `each` minutes, which take half of all minutes at most, but
    there is one; and the minutes that are left to learn in.

    >>> shared(30.0, 20, 0.1), shared(1.0, 20, 0.125), shared(1.0, 20, 3.0)
    ((20, 28.0), (4, 0.5), (1, 0.5))
    """
    validations = max(1, min(validations, int(minutes / 2 / each)))
    return validations, max(minutes / 2, minutes - validations * each)


def sample_of(training: SequenceTraining) -> Any:
    """A sample of the averaged weights."""
    modality = cast(FileModality, training.modality)
    (sample,) = dream(training.learner.averaged, modality, modality.shown, 1)
    return sample


class Samples(Watcher):
    """Writes and reports a sample of the averaged weights after every validation.

    `checksums.json`, beside the files, has the CRC-32 of each.
    """

    CHECKSUMS = "checksums.json"

    def __init__(self, folder: Path, reporter: Reporter):
        self.folder = folder
        self.reporter = reporter

    def unit(self, job: Job, stage: Stage, metrics: Metrics) -> bool:
        if stage.kind == "validate":
            self._show(cast(SequenceTraining, job), stage)
        return True

    def _show(self, training: SequenceTraining, stage: Stage) -> None:
        modality = cast(FileModality, training.modality)
        with OwnNoise(training.seeds[2] + stage.round)():
            sample = sample_of(training)
        self.folder.mkdir(exist_ok=True)
        stem = self.folder / f"{stage.round + 1:03d}"
        files = modality.write([sample], stem, lambda line: None)
        self._note(files)
        if words := modality.words(sample):
            self.reporter.say(f"dreams: {words[:SHOWN_LOG]!r}")

    def _note(self, files: Sequence[Path]) -> None:
        known: dict[str, int] = {}
        with suppress(DamagedError):  # those of earlier samples, which are no reason to end
            known = self.checksums(self.folder)
        known |= {file.name: crc32_of(file, 0, file.stat().st_size) for file in files}
        write_json(self.folder / self.CHECKSUMS, known)

    @classmethod
    def checksums(cls, folder: Path) -> dict[str, int]:
        """The CRC-32 of every file of samples in a folder, by name; empty where none was noted."""
        file = folder / cls.CHECKSUMS
        found = read_json(file) if file.exists() else {}
        for name in found:
            if not name[:3].isdigit() or Path(name).name != name:
                raise DamagedError(f"{file} is damaged: {name!r} is no file of samples")
        return found
