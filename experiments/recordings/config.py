"""The options of the experiments on recordings; see `worldmodel.options`."""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, ClassVar

import tyro

from worldmodel import SequenceConfig, SequenceLearningConfig, SequenceModelConfig, SeriesConfig
from worldmodel.experiments.data.readers.audio import HIGHEST_RATE, LOWEST_RATE
from worldmodel.experiments.data.readers.files import OnError
from worldmodel.names import BoundName
from worldmodel.options import (
    ADVANCED,
    DeviceConfig,
    below_one,
    check_threads,
    not_negative,
    positive,
    wished_threads,
)

OCTAVE = 12  # semitones


@dataclass(frozen=True)
class FilesConfig:
    """The recordings."""

    data: tuple[str, ...]
    """Files, or folders of them."""
    held_out: float = 0.1
    """Share of all frames that is held out for validation, in whole recordings (of a single one,
    its end); splits that the files define are kept."""
    on_error: OnError = "stop"
    """Stop at a file that cannot be read, or leave it out."""

    def __post_init__(self) -> None:
        positive(self, "held_out")
        below_one(self, "held_out")


@dataclass(frozen=True)
class TextDataConfig(FilesConfig):
    """The recordings: UTF-8, or UTF-16 with a byte order mark."""

    data: Annotated[tuple[str, ...], tyro.conf.arg(name="corpus")]
    """Text files, or folders of .txt files."""
    held_out: float = 0.1
    """Share of each file, at its end, that is held out for validation."""
    rare: int = 1
    """Characters that occur fewer times than this become one symbol."""

    def __post_init__(self) -> None:
        super().__post_init__()
        positive(self, "rare")


@dataclass(frozen=True)
class AudioDataConfig(FilesConfig):
    """The recordings: .wav, .flac, .aiff, .mp3, .ogg and others that soundfile reads."""

    rate: int = 16_000
    """Samples per second; files of another rate are resampled."""
    frame: int = 200
    """Samples per frame."""

    def __post_init__(self) -> None:
        super().__post_init__()
        positive(self, "frame")
        if not LOWEST_RATE <= self.rate <= HIGHEST_RATE:
            raise ValueError(
                f"--rate is between {LOWEST_RATE:,} and {HIGHEST_RATE:,}, got {self.rate}"
            )


@dataclass(frozen=True)
class MidiDataConfig(FilesConfig):
    """The recordings: .mid, and piano rolls as .npz, .mat or .json."""

    steps_per_beat: int = 4
    """Steps of the piano roll per quarter note."""
    beats: int = 4
    """Beats per bar of the metronome, whose actions give beat and step; 0: no metronome."""
    low: int = 21
    """The lowest pitch, a MIDI number."""
    high: int = 108
    """The highest pitch."""
    transpose: int = 0
    """Semitones by which a recording is moved up or down while it is learned from, at most and in
    every epoch anew; notes that would leave the range sound an octave nearer. 0: as it is."""

    def __post_init__(self) -> None:
        super().__post_init__()
        positive(self, "steps_per_beat")
        not_negative(self, "beats", "transpose")
        if not 0 <= self.low < self.high <= 127:
            raise ValueError(
                f"--low and --high are between 0 and 127, --low below, got {self.low} and "
                f"{self.high}"
            )
        if self.transpose and not self.transpose < OCTAVE <= self.high - self.low + 1:
            raise ValueError(
                f"--transpose is less than an octave, {OCTAVE} semitones, of a range that has "
                f"one, got {self.transpose} from {self.low} to {self.high}"
            )


@dataclass(frozen=True)
class StrokesDataConfig(FilesConfig):
    """The recordings: stroke-3 and stroke-5 as .npz, handwriting as .xml."""

    exact: bool = False
    """Offsets are whole numbers, and each has a probability, not a density."""
    growth: float = 0.0
    """Width of a class of offsets, relative to its distance from 0 (with --exact); the offsets of
    a class share its probability evenly."""

    def __post_init__(self) -> None:
        super().__post_init__()
        not_negative(self, "growth")
        if self.growth and not self.exact:
            raise ValueError("--growth is of the classes of offsets: give --exact, too")


@dataclass(frozen=True)
class SeriesDataConfig(SeriesConfig, FilesConfig):
    """The recordings: tables as .csv, .parquet (both need the extra series) or .npz."""

    held_out: float = 0.1
    """Share of each series that validates, before the share that tests."""
    tested: float = 0.1
    """Share of each series, at its end, that `evaluate` scores."""

    def __post_init__(self) -> None:
        SeriesConfig.__post_init__(self)
        FilesConfig.__post_init__(self)
        positive(self, "tested")
        if self.held_out + self.tested >= 1:
            raise ValueError(
                f"--held-out and --tested leave nothing to learn from: they add up to "
                f"{self.held_out + self.tested:g}"
            )


@dataclass(frozen=True, kw_only=True)
class RecordingsConfig:
    """The options of all modalities."""

    modality: ClassVar[str]  # its `FileModality`, "module:Class"
    data: Any
    model: Annotated[SequenceModelConfig, ADVANCED] = field(default_factory=SequenceModelConfig)
    learning: Annotated[SequenceLearningConfig, ADVANCED] = field(
        default_factory=SequenceLearningConfig
    )
    seed: int = 0
    """Seed of everything that is random."""
    threads: int = field(default_factory=wished_threads)
    """Threads of the processor, by default OMP_NUM_THREADS or 1; the same number gives the same
    bits."""
    computing: DeviceConfig = field(default_factory=DeviceConfig)
    checkpoint_seconds: float = 30.0
    """Time between checkpoints."""

    def __post_init__(self) -> None:
        check_threads(self)
        positive(self, "checkpoint_seconds")
        not_negative(self, "seed")

    @property
    def sequence(self) -> SequenceConfig:
        """The options of the model alone."""
        return SequenceConfig(self.model, self.learning, self.seed)


@dataclass(frozen=True, kw_only=True)
class TextConfig(RecordingsConfig):
    """Learn to write like a corpus, character by character."""

    modality: ClassVar[str] = "worldmodel.experiments.recordings.text:Text"
    data: TextDataConfig
    model: Annotated[SequenceModelConfig, ADVANCED] = field(
        default_factory=lambda: SequenceModelConfig(
            hidden_size=512, decoder_hidden=256, dropout=0.25
        )
    )
    learning: Annotated[SequenceLearningConfig, ADVANCED] = field(
        default_factory=lambda: SequenceLearningConfig(window=128, ema_decay=0.995)
    )


@dataclass(frozen=True, kw_only=True)
class AudioConfig(RecordingsConfig):
    """Learn to sound like recordings, frame by frame."""

    modality: ClassVar[str] = "worldmodel.experiments.recordings.audio:Audio"
    data: AudioDataConfig
    model: Annotated[SequenceModelConfig, ADVANCED] = field(
        default_factory=lambda: SequenceModelConfig(hidden_size=256, decoder_hidden=256)
    )


@dataclass(frozen=True, kw_only=True)
class MidiConfig(RecordingsConfig):
    """Learn to play like scores, step by step."""

    modality: ClassVar[str] = "worldmodel.experiments.recordings.midi:Midi"
    data: MidiDataConfig
    model: Annotated[SequenceModelConfig, ADVANCED] = field(
        default_factory=lambda: SequenceModelConfig(input_dropout=0.3, dropout=0.1)
    )


@dataclass(frozen=True, kw_only=True)
class StrokesConfig(RecordingsConfig):
    """Learn to draw like drawings, step by step."""

    modality: ClassVar[str] = "worldmodel.experiments.recordings.strokes:Strokes"
    data: StrokesDataConfig
    model: Annotated[SequenceModelConfig, ADVANCED] = field(
        default_factory=lambda: SequenceModelConfig(hidden_size=256, decoder_hidden=128)
    )
    learning: Annotated[SequenceLearningConfig, ADVANCED] = field(
        default_factory=lambda: SequenceLearningConfig(batch_size=64)
    )


@dataclass(frozen=True, kw_only=True)
class SeriesRunConfig(RecordingsConfig):
    """Learn to forecast time series, step by step."""

    modality: ClassVar[str] = "worldmodel.experiments.recordings.series:SeriesFiles"
    data: SeriesDataConfig
    model: Annotated[SequenceModelConfig, ADVANCED] = field(
        default_factory=lambda: SequenceModelConfig(
            hidden_size=32, decoder_hidden=32, history=24, dropout=0.1
        )
    )
    learning: Annotated[SequenceLearningConfig, ADVANCED] = field(
        default_factory=lambda: SequenceLearningConfig(
            updates=1_000, learning_rate=0.001, weight_decay=0.01, window=64, piece=512
        )
    )


def quick_recordings(config: Any) -> Any:
    """The options of a run so small that it ends within seconds and learns next to nothing."""
    model = replace(config.model, hidden_size=8, latent=4, latent_hidden=8, decoder_hidden=8)
    learning = replace(
        config.learning,
        updates=6,
        minutes=0.0,
        batch_size=2,
        window=8,
        validations=2,
        validation_rows=100,
    )
    return replace(config, model=model, learning=learning)


@dataclass(frozen=True)
class ScoreConfig:
    """The evaluation of a run: the likelihood of recordings."""

    data: Annotated[tuple[str, ...], tyro.conf.arg(aliases=["--corpus"])] = ()
    """Files or folders to score, instead of the recordings that the run held out."""
    bound: BoundName = "iwae"
    """Bound that is reported, by its name in `worldmodel.BOUNDS` (without latents all are the
    likelihood)."""
    bound_particles: int = 16
    """Particles of that bound, K."""
    on_error: OnError = "stop"
    """Stop at a file that cannot be read, or leave it out."""
    each: bool = False
    """List every recording; of text, every line."""

    def __post_init__(self) -> None:
        positive(self, "bound_particles")


@dataclass(frozen=True)
class SeriesScoreConfig(ScoreConfig):
    """The evaluation of a run: the likelihood of series, and forecasts beside baselines."""

    horizon: int = 0
    """Steps of a forecast; 0: a season, at least 12."""
    draws: int = 100
    """Draws of a forecast."""
    origins: int = 40
    """Places that forecasts begin at, all in all, evenly spread."""

    def __post_init__(self) -> None:
        super().__post_init__()
        not_negative(self, "horizon")
        positive(self, "draws", "origins")
        if self.draws < 2:
            raise ValueError("--draws are two or more: one alone has no spread")


@dataclass(frozen=True)
class TableConfig:
    """The series, and where to write."""

    table: Annotated[Path | None, tyro.conf.Positional, tyro.conf.arg(metavar="FILE")] = None
    """Table of series with the columns of those that were learned; by default these."""
    out: Path | None = None
    """Path to write to, without an ending; series/ in the run's folder by default."""


@dataclass(frozen=True)
class ForecastConfig(TableConfig):
    """Forecasts: columns that are known ahead are given in rows with nothing else in them."""

    horizon: int = 12
    """Steps after the last that shows anything."""
    samples: int = 500
    """Draws, whose quantiles are written."""
    seed: int = 0
    """Seed of the draws."""

    def __post_init__(self) -> None:
        positive(self, "horizon", "samples")
        not_negative(self, "seed")


@dataclass(frozen=True)
class ImputeConfig(TableConfig):
    """Imputation."""

    draws: int = 500
    """Draws, whose medians are written, of words the most frequent."""
    seed: int = 0
    """Seed of the draws."""

    def __post_init__(self) -> None:
        positive(self, "draws")
        not_negative(self, "seed")


@dataclass(frozen=True)
class GenerateConfig:
    """Samples of a run's model."""

    length: int = 1_000
    """Frames (characters of text) of each sample, without the prompt."""
    samples: int = 4
    """Samples that are generated, side by side."""
    temperature: float = 1.0
    """Temperature of sampling: below 1 closer to the most probable, above 1 more varied."""
    prompt: str | None = None
    """Beginning of each sample: the characters of a text, or else a file."""
    prompt_length: int = 100
    """Frames of that file that are the prompt, at most (not text)."""
    beside: bool = False
    """Write as many of the held-out recordings, too; drawings on the same sheet."""
    seed: int = 0
    """Seed of the samples."""
    out: str | None = None
    """Path to write to, without an ending; generated/ in the run's folder by default."""

    def __post_init__(self) -> None:
        positive(self, "length", "samples", "temperature", "prompt_length")
        not_negative(self, "seed")
