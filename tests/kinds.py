"""Small files of every kind of recordings, made up by the tests, and runs over them."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from worldmodel.experiments.data.readers.audio_out import write_wav
from worldmodel.experiments.data.readers.midi import write_midi
from worldmodel.experiments.recordings.config import (
    AudioConfig,
    AudioDataConfig,
    MidiConfig,
    MidiDataConfig,
    StrokesConfig,
    StrokesDataConfig,
    TextConfig,
    TextDataConfig,
    quick_recordings,
)
from worldmodel.experiments.recordings.modality import modality_class

RATE, FRAME = 1_000, 5
LOW, HIGH, STEPS = 60, 67, 2
VERSE = "the cat sat on the mat\nthe dog sat on the log\n"


def write_text(file: Path, random: np.random.Generator) -> None:
    file.write_text("".join(VERSE[i:] for i in random.integers(0, 20, 3)))


def write_audio(file: Path, random: np.random.Generator) -> None:
    time = np.arange(random.integers(100, 200)) / RATE
    sound = 0.5 * np.sin(2 * np.pi * random.integers(20, 90) * time)
    write_wav(file, sound + random.normal(0, 0.02, len(time)), RATE)


def write_music(file: Path, random: np.random.Generator) -> None:
    roll = random.random((random.integers(15, 30), HIGH - LOW + 1)) < 0.3
    roll[[0, -1], 3] = True
    write_midi(file, roll, LOW, STEPS)


def drawn(random: np.random.Generator, number: int = 6) -> list[np.ndarray]:
    """Drawings in stroke-3 [T, 3], of whole offsets."""
    drawings = []
    for length in random.integers(8, 20, number):
        offset = random.integers(-2, 3, (length, 2))
        drawings.append(np.column_stack([offset, random.random(length) < 0.2]).astype(np.int16))
    return drawings


def write_drawings(file: Path, random: np.random.Generator) -> None:
    drawings = {f"drawing{number}": rows for number, rows in enumerate(drawn(random))}
    np.savez(file, **drawings)  # type: ignore[arg-type]


class Made(NamedTuple):
    """How the tests make recordings of a kind, and what they tell a run of it."""

    kind: str
    ending: str
    write: Callable[[Path, np.random.Generator], None]
    config: type
    data: Callable[..., Any]
    options: tuple[object, ...]  # the same, at the command line


MUSIC = {"low": LOW, "high": HIGH, "steps_per_beat": STEPS}
MUSIC_OPTIONS = ("--low", LOW, "--high", HIGH, "--steps-per-beat", STEPS)

MADE = {
    "text": Made("text", ".txt", write_text, TextConfig, TextDataConfig, ()),
    "audio": Made(
        "audio",
        ".wav",
        write_audio,
        AudioConfig,
        lambda *paths, **config: AudioDataConfig(
            *paths, **{"rate": RATE, "frame": FRAME} | config
        ),
        ("--rate", RATE, "--frame", FRAME),
    ),
    "midi": Made(
        "midi",
        ".mid",
        write_music,
        MidiConfig,
        lambda *paths, **config: MidiDataConfig(*paths, **MUSIC | {"beats": 3} | config),
        (*MUSIC_OPTIONS, "--beats", 3),
    ),
    "midi without a metronome": Made(
        "midi",
        ".mid",
        write_music,
        MidiConfig,
        lambda *paths, **config: MidiDataConfig(*paths, **MUSIC | {"beats": 0} | config),
        (*MUSIC_OPTIONS, "--beats", 0),
    ),
    "strokes": Made("strokes", ".npz", write_drawings, StrokesConfig, StrokesDataConfig, ()),
    "exact strokes": Made(
        "strokes",
        ".npz",
        write_drawings,
        StrokesConfig,
        lambda *paths, **config: StrokesDataConfig(*paths, **{"exact": True} | config),
        ("--exact",),
    ),
}


def write_files(made: Made, folder: Path, number: int = 4, seed: int = 0) -> Path:
    """A folder of recordings."""
    folder.mkdir(exist_ok=True)
    random = np.random.default_rng(seed)
    for file in range(number):
        made.write(folder / f"{file}{made.ending}", random)
    return folder


def kind_for(made: Made, *paths: Path, **config: Any) -> Any:
    """The kind of recordings, as far as it is known before they are read as numbers."""
    data = made.data(tuple(map(str, paths)), **config)
    make = modality_class(made.config)
    return make(data, make.first_statistics(data, lambda line: None))


def config_for(
    made: Made, *paths: Path, model: dict[str, Any] | None = None, **learning: Any
) -> Any:
    """A quick run over some paths, whose model and learning are told a few things."""
    data = made.data(tuple(map(str, paths)), held_out=0.3)
    config = quick_recordings(made.config(data=data, seed=1))
    return replace(
        config,
        model=replace(config.model, **model or {}),
        learning=replace(config.learning, **learning),
    )
