"""The options of a `SequenceModel`: frozen dataclasses, whose docstrings are the help.

An option's name means one thing in the whole package; nothing here imports torch.
"""

from dataclasses import dataclass, field
from typing import Literal

from worldmodel.names import CoreName, HeadName, ObjectiveName, RecurrenceName
from worldmodel.options import below_one, check_kl, not_negative, positive


@dataclass(frozen=True)
class SequenceModelConfig:
    """The model of sequences."""

    core: CoreName = "rnn"
    """The sequence core, by its name in `worldmodel.CORES`."""
    hidden_size: int = 128
    """Units of the recurrence."""
    layers: int = 1
    """Layers of the recurrence."""
    recurrence: RecurrenceName = "default"
    """Recurrence of the core, by its name in `worldmodel.RECURRENCES`, or default: its own."""
    latent: int = 32
    """Size of a frame's latent (not rnn)."""
    latent_hidden: int = 64
    """Units between the recurrence and the latent's parameters (not rnn)."""
    smoothing: bool = True
    """Let the posterior read later frames, too (srnn and independent only); fivo wants one that
    does not."""
    history: int = 1
    """Frames in the context."""
    head: HeadName = "default"
    """The last layer, by its name in `worldmodel.HEADS`, such as normal, mixture, full-normal or
    autoregressive for numbers, and bernoulli, subset or nade for truth values."""
    head_options: str = "{}"
    """Options of the head, as JSON."""
    decoder_hidden: int = 128
    """Units of the decoder, which reads the recurrence and the latent."""
    input_dropout: float = 0.0
    """Dropout rate of the frames in the context."""
    dropout: float = 0.0
    """Dropout rate of the features that the decoder reads, and within a gated-linear
    recurrence."""

    def __post_init__(self) -> None:
        positive(self, "hidden_size", "layers", "latent", "latent_hidden", "history")
        positive(self, "decoder_hidden")
        below_one(self, "input_dropout", "dropout")


@dataclass(frozen=True)
class SequenceLearningConfig:
    """Learning of the model."""

    updates: int = 5_000
    """Updates of the model."""
    minutes: float = 0.0
    """Minutes of learning, instead of `updates`, by the speed measured at first; 0: `updates`."""
    objective: ObjectiveName = "elbo"
    """Objective, by its name in `worldmodel.OBJECTIVES` (all the likelihood without latents)."""
    num_particles: int = 1
    """Draws of each window's latents."""
    batch_size: int = 32
    """Windows of a batch."""
    window: int = 64
    """Frames of a training window, at most. The state is carried from window to window, but not by
    fivo; gradients are not."""
    piece: int = 2_048
    """Frames that are read in order, at most, before another place is begun at."""
    learning_rate: float = 0.003
    """Initial learning rate of Adam; it falls along a cosine to a fiftieth."""
    weight_decay: float = 0.0
    """Decoupled weight decay of Adam."""
    clip_norm: float = 1.0
    """Norm that the gradient is clipped to."""
    ema_decay: float = 0.99
    """Decay of the average of the weights, which is what is validated and kept; 0: none."""
    kl_weight: float = 1.0
    """Weight of the KL divergence (elbo only, as all that follow; no metric contains it)."""
    kl_warmup: int = 0
    """Updates within which that weight rises from 0, in a line."""
    kl_cycle: int = 0
    """Updates within which it rises, and for as many is flat, over and over; 0: it rises once."""
    kl_delay: int = 0
    """Updates before the first cycle, with a weight of 0."""
    free_nats: float = 0.0
    """KL divergence of a frame, in nats, below which it is not made smaller."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """Precision of large products while learning; weights and recurrent states stay float32."""
    matmul_precision: Literal["highest", "medium"] = "medium"
    """Precision of float32 matrix products while learning, as in PyTorch: medium is twice as fast
    on processors of AMD, and rounds to bfloat16 where a processor has units for that. Scores are
    always computed by the highest."""
    validations: int = 20
    """Validations of the average of the weights; the best is kept."""
    validation_rows: int = 50_000
    """Frames of a validation, at most."""

    def __post_init__(self) -> None:
        positive(self, "updates", "num_particles", "batch_size", "window", "piece")
        positive(self, "learning_rate", "clip_norm", "validations", "validation_rows")
        not_negative(self, "minutes", "weight_decay", "free_nats")
        below_one(self, "ema_decay")
        check_kl(self)


@dataclass(frozen=True)
class SeriesConfig:
    """The columns of a table of series."""

    time: str | None = None
    """Column of times, dates or numbers; dates give a calendar, uneven steps their lengths, which
    are known ahead."""
    by: str | None = None
    """Column that tells several series apart."""
    known: tuple[str, ...] = ()
    """Columns that are known ahead, such as prices and holidays: read, never predicted."""
    channels: tuple[str, ...] = ()
    """Columns that are predicted; by default all others."""

    def __post_init__(self) -> None:
        named = [self.time, self.by, *self.known, *self.channels]
        names = [name for name in named if name is not None]
        twice = {name for name in names if names.count(name) > 1}
        if twice:
            raise ValueError(
                f"--time, --by, --known and --channels are different columns, but "
                f"{min(twice)!r} is named twice"
            )


@dataclass(frozen=True)
class SequenceConfig:
    """The options of a `SequenceModel`, by group."""

    model: SequenceModelConfig = field(default_factory=SequenceModelConfig)
    learning: SequenceLearningConfig = field(default_factory=SequenceLearningConfig)
    seed: int = 0
    """Seed of everything that is random."""

    def __post_init__(self) -> None:
        not_negative(self, "seed")
