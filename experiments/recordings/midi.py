"""Music as piano rolls, step by step, with a metronome that counts beats and bars."""

from collections.abc import Iterator, Sequence
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor

from worldmodel import (
    Agent,
    DistModule,
    Encoder,
    EpisodeSource,
    Metronome,
    NullAgent,
    head_for,
)
from worldmodel.experiments.data.readers.audio_out import write_wav
from worldmodel.experiments.data.readers.files import OnError, Recording, files_of, readable
from worldmodel.experiments.data.readers.midi import MIDI_SUFFIXES, read_midi, write_midi
from worldmodel.experiments.data.readers.piano_roll import (
    draw_rolls,
    statistics,
    synthesise,
    total_variation,
)
from worldmodel.experiments.data.readers.roll_files import ROLL_SUFFIXES, read_rolls
from worldmodel.experiments.recordings.config import OCTAVE
from worldmodel.experiments.recordings.modality import FileModality, Report
from worldmodel.sequence_model.modality import NOBODY
from worldmodel.sequential_batches import Vary

RATE = 22_050  # samples a second of the sound of a score
WITH_RATES = ("bernoulli", "nade", "subset")  # heads whose bias may be the pitches' rates


class Midi(FileModality):
    """Steps of a piano roll.

    statistics: {"rates"}, the share of training steps in which each pitch sounds, [P]; half a step
    with it and half a step without are added, so that no rate is 0 or 1.
    """

    frame = "step"
    default_head = "nade"
    suffixes = (*MIDI_SUFFIXES, *ROLL_SUFFIXES)

    def __init__(self, data: Any, statistics: dict[str, Any]):
        super().__init__(data, statistics)
        self.pitches = data.high - data.low + 1
        self.rates = np.array(statistics.get("rates", [0.5] * self.pitches))
        if data.beats:
            self.metronome = Metronome(data.steps_per_beat, data.beats)

    @property
    def action_space(self) -> spaces.Space:
        return self.metronome.action_space if self.data.beats else NOBODY

    @property
    def observation_space(self) -> spaces.MultiBinary:
        return spaces.MultiBinary(self.pitches)

    def recordings(
        self, paths: Sequence[str], on_error: OnError, report: Report
    ) -> Iterator[Recording]:
        data = self.data

        def read(file: Path) -> Iterator[Recording]:
            if file.suffix.lower() in ROLL_SUFFIXES:
                return read_rolls(file, data.low, data.high)
            return read_midi(file, data.steps_per_beat, data.low, data.high)

        files = files_of([Path(path) for path in paths], self.suffixes)
        return readable(files, read, on_error, report)

    def statistics_of(self, train: EpisodeSource) -> dict[str, Any]:
        sounding = sum(part.columns["observation"].sum(0) for part in train.portions())
        return {"rates": ((sounding + 0.5) / (train.rows + 1)).tolist()}

    @property
    def vary(self) -> Vary | None:
        most = self.data.transpose
        return partial(transposed, most=most) if most else None

    def agent(self) -> Agent:
        return self.metronome if self.data.beats else NullAgent()

    def actions(self, length: int) -> np.ndarray:
        if not self.data.beats:
            return super().actions(length)
        return self.metronome.at(torch.arange(length)).numpy()

    def encoder(self) -> Encoder:
        return CentredEncoder(self.rates)

    def head(self, name: str, input_size: int, **options: Any) -> DistModule:
        name = self.default_head if name == "default" else name
        if name in WITH_RATES:
            options = {"bias": torch.from_numpy(self.rates).logit()} | options
        return head_for(name, self.observation_space, input_size, **options)

    def write(self, samples: list[np.ndarray], stem: Path, report: Report) -> list[Path]:
        files: list[Path] = []
        for number, sample in enumerate(samples, 1):
            score, sound = (stem.with_name(f"{stem.name}-{number}{s}") for s in (".mid", ".wav"))
            write_midi(score, sample, self.data.low, self.data.steps_per_beat)
            played = synthesise(sample, self.data.low, self.data.steps_per_beat, RATE)
            write_wav(sound, played, RATE)
            files += [score, sound]
        notes, apart = self.beside(samples)
        report(
            f"{notes:.2f} notes a step (learned from: {self.rates.sum():.2f}); pitch classes "
            f"differ by {apart:.3f} (total variation)"
        )
        if find_spec("matplotlib") is None:
            report("no picture without matplotlib: pip install 'worldmodel-gym[plots]'")
            return files
        picture = stem.with_name(f"{stem.name}.png")
        labelled = [(f"sample {n}", sample) for n, sample in enumerate(samples, 1)]
        draw_rolls(picture, labelled, self.data.low, self.data.steps_per_beat)
        return [*files, picture]

    def beside(self, samples: list[np.ndarray]) -> tuple[float, float]:
        """Notes per step, and the total variation distance between the pitch classes of samples
        and of the training data."""
        found = statistics(samples, self.data.low)
        learned = statistics([self.rates[None]], self.data.low)
        return found.notes_a_frame, total_variation(found.pitch_classes, learned.pitch_classes)


def transposed(roll: Tensor, draws: Tensor, most: int) -> Tensor:
    """Piano rolls [T, B, P], the columns moved by up to `most` semitones up or down, all of these
    equally likely for uniform draws [B] in 0..1. Notes that leave the range sound an octave
    nearer."""
    moved = (draws * (2 * most + 1)).long() - most  # [B]
    places = torch.arange(roll.shape[-1]) + moved[:, None]  # [B, P]
    places += OCTAVE * (places < 0) - OCTAVE * (places >= roll.shape[-1]).long()
    sounding = torch.zeros_like(roll, dtype=torch.int8)
    sounding.scatter_add_(-1, places.expand(roll.shape), roll.to(torch.int8))
    return (sounding > 0).to(roll.dtype)


class CentredEncoder(Encoder):
    """Subtracts the pitches' rates from a frame: bool [*, P] -> float [*, P]."""

    rates: Tensor

    def __init__(self, rates: np.ndarray):
        super().__init__()
        self.size = len(rates)
        self.register_buffer("rates", torch.from_numpy(rates).to(torch.get_default_dtype()))

    def forward(self, x: Tensor) -> Tensor:
        return x.to(self.rates.dtype) - self.rates
