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
    """Of the recurrence."""
    recurrence: RecurrenceName = "default"
    """Of the core, by its name in `worldmodel.RECURRENCES`; "default": the core's own."""
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
    """The head's own, as JSON."""
    decoder_hidden: int = 128
    """Units of the decoder, which reads the recurrence and the latent."""
    input_dropout: float = 0.0
    """Dropout rate of the frames in the context."""
    dropout: float = 0.0
    """Dropout rate of the features that the decoder reads."""

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
    """Learn for about so long instead, at the speed that is measured at first."""
    objective: ObjectiveName = "elbo"
    """By its name in `worldmodel.OBJECTIVES` (without latents all are the likelihood)."""
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
    """Adam's, at first; it falls along a cosine to a fiftieth."""
    weight_decay: float = 0.0
    """Adam's, decoupled."""
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
    """A frame's KL divergence below this is not made smaller."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """Of large products while learning; weights and recurrent states are float32 anyway."""
    matmul_precision: Literal["highest", "medium"] = "medium"
    """Of products of float32 matrices while learning, as PyTorch has it: medium is twice as fast
    on processors of AMD, and rounds to bfloat16 where a processor has units for that. Scores are
    always computed by the highest."""
    validations: int = 20
    """How often the average is validated; the best is kept."""
    validation_rows: int = 50_000
    """Frames that it is validated on, at most."""

    def __post_init__(self) -> None:
        positive(self, "updates", "num_particles", "batch_size", "window", "piece")
        positive(self, "learning_rate", "clip_norm", "validations", "validation_rows")
        not_negative(self, "minutes", "weight_decay", "free_nats")
        below_one(self, "ema_decay")
        check_kl(self)


@dataclass(frozen=True)
class SequenceConfig:
    """The options of a `SequenceModel`, by group."""

    model: SequenceModelConfig = field(default_factory=SequenceModelConfig)
    learning: SequenceLearningConfig = field(default_factory=SequenceLearningConfig)
    seed: int = 0
    """Of everything that is random."""

    def __post_init__(self) -> None:
        not_negative(self, "seed")
