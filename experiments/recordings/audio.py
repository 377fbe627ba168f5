"""Sound, frame by frame: the samples of a frame are one observation."""

import math
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from gymnasium import spaces

from worldmodel import EpisodeSource
from worldmodel.experiments.data.readers.audio import SUFFIXES, read_audio
from worldmodel.experiments.data.readers.audio_out import draw_spectrogram, write_wav
from worldmodel.experiments.data.readers.files import OnError, Recording, files_of, readable
from worldmodel.experiments.recordings.modality import FileModality, Report

NOISE = 0  # seed of the dequantisation noise: a file is the same whenever it is read


class Audio(FileModality):
    """Frames of sound; losses are of standardised samples.

    statistics: {"mean", "std"} of the training samples, which standardise.
    """

    frame = "frame"
    default_head = "autoregressive"
    shown = 80
    suffixes = SUFFIXES

    def __init__(self, data: Any, statistics: dict[str, Any]):
        super().__init__(data, statistics)
        self.log_std = math.log(statistics.get("std", 1.0))  # of samples

    @property
    def observation_space(self) -> spaces.Box:
        return spaces.Box(-np.inf, np.inf, (self.data.frame,), np.float32)

    def recordings(
        self, paths: Sequence[str], on_error: OnError, report: Report
    ) -> Iterator[Recording]:
        def read(file: Path) -> Iterator[Recording]:
            noise = np.random.default_rng(NOISE)
            return read_audio(file, self.data.rate, self.data.frame, noise)

        files = files_of([Path(path) for path in paths], self.suffixes)
        return readable(files, read, on_error, report)

    def statistics_of(self, train: EpisodeSource) -> dict[str, Any]:
        count, total, squares = 0, 0.0, 0.0
        for part in train.portions():
            samples = part.columns["observation"].astype(np.float64)
            count += samples.size
            total += samples.sum()
            squares += np.square(samples).sum()
        mean = total / count
        return {"mean": mean, "std": math.sqrt(squares / count - mean**2)}

    def correction(self, observation: np.ndarray) -> float:
        return self.data.frame * self.log_std

    def write(self, samples: list[np.ndarray], stem: Path, report: Report) -> list[Path]:
        files = []
        for number, sample in enumerate(samples, 1):
            files.append(stem.with_name(f"{stem.name}-{number}.wav"))
            clipped = write_wav(files[-1], sample.ravel(), self.data.rate)
            if clipped:
                report(f"{files[-1]}: {clipped:.2%} of the samples were too loud, and are clipped")
        if find_spec("matplotlib") is None:
            report("no spectrogram without matplotlib: pip install 'worldmodel-gym[plots]'")
            return files
        picture = stem.with_name(f"{stem.name}.png")
        labelled = [(f"sample {n}", sample.ravel()) for n, sample in enumerate(samples, 1)]
        draw_spectrogram(picture, labelled, self.data.rate)
        return [*files, picture]
