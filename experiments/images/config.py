"""The options of the experiment on images; see `worldmodel.options`."""

from dataclasses import dataclass, field
from typing import Annotated, Literal

from worldmodel.experiments.data.readers.files import OnError
from worldmodel.names import ObjectiveName
from worldmodel.options import (
    ADVANCED,
    DeviceConfig,
    below_one,
    check_kl,
    check_threads,
    not_negative,
    positive,
    wished_threads,
)


@dataclass(frozen=True)
class ImagesConfig:
    """Images on disk, of which there may be more than memory holds."""

    images: str
    """Folder of .npy, .npz, .png, .jpg (or of folders of them), or one such file. Arrays are
    [N, H, W], [N, H, W, C] or [N, C, H, W], of bytes, of truth values, of 16 bits or of floats of
    0 to 1."""
    array: str = ""
    """Name of the array in .npz files that hold several arrays of images."""
    size: int = 0
    """Resize to so many pixels a side, 16 to 256; 0: leave them as they are, padded to the next
    power of two inside of the networks."""
    grayscale: bool = False
    """Make images of three channels grey."""
    binarise: Literal["dynamic", "threshold"] = "dynamic"
    """Binarisation of pixels (bernoulli only). dynamic: 1 with a probability that is the
    brightness, drawn anew each time; threshold: 1 if brighter than 127 of 255."""
    super_batch: int = 4_096
    """Images that are drawn across all files at once, and then gone through in batches."""
    weights: dict[str, float] = field(default_factory=dict)
    """Sampling weights of the images of a file, by its name, relative to others (1)."""
    on_error: OnError = "stop"
    """Stop at a file that cannot be read, or leave it out."""

    def __post_init__(self) -> None:
        positive(self, "super_batch")
        if self.size and not 16 <= self.size <= 256:
            raise ValueError(f"--size must be between 16 and 256, or 0, got {self.size}")
        if min(self.weights.values(), default=0) < 0:
            raise ValueError(f"--weights must be 0 or more, got {self.weights}")


@dataclass(frozen=True)
class VAEModelConfig:
    """The convolutional variational autoencoder."""

    vae_latent: int = 50
    """Size of a code."""
    vae_hidden: int = 256
    """Units between convolutions and code, both ways."""
    vae_width: int = 16
    """Channels at the highest resolution; they double with each halving, up to four times."""
    vae_likelihood: Literal["mse", "bernoulli", "discretised-logistic"] = "discretised-logistic"
    """Likelihood of pixels: a Gaussian of fixed scale, Bernoulli, or a probability of each of 256
    levels."""
    vae_std: float = 0.1
    """Scale of mse, as a share of the full brightness."""
    first_activation: bool = True
    """Apply the nonlinearity after the first layer, too."""

    def __post_init__(self) -> None:
        positive(self, "vae_latent", "vae_hidden", "vae_width", "vae_std")


@dataclass(frozen=True)
class VAELearningConfig:
    """Learning of the variational autoencoder."""

    updates: int = 20_000
    """Updates of the model."""
    minutes: float = 0.0
    """Learn for about so long instead, at the speed that is measured at first."""
    batch_size: int = 128
    """Images of an update."""
    learning_rate: float = 0.003
    """Adam's learning rate, at first; it falls along a cosine to a fiftieth."""
    objective: ObjectiveName = "elbo"
    """Objective, by its name in `worldmodel.OBJECTIVES`: the mean of the particles' bounds (elbo),
    or their importance-weighted one (iwae)."""
    num_particles: int = 1
    """Draws of each image's code, K."""
    kl_weight: float = 1.0
    """Weight of the KL divergence (elbo only, as all that follow; no metric contains it)."""
    kl_warmup: int = 0
    """Updates over which that weight rises linearly from 0."""
    kl_cycle: int = 0
    """Updates over which it rises, then is constant for as many, repeatedly; 0: it rises once."""
    kl_delay: int = 0
    """Updates before the first cycle, with a weight of 0."""
    ema_decay: float = 0.998
    """Decay of an average of the weights, which learning ends with; 0: none."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """Precision of large products in training; weights are float32 anyway."""

    def __post_init__(self) -> None:
        positive(self, "updates", "batch_size", "learning_rate", "num_particles")
        not_negative(self, "minutes")
        below_one(self, "ema_decay")
        check_kl(self)


@dataclass(frozen=True)
class VAEConfig:
    """Train a convolutional variational autoencoder on images; draw its reconstructions."""

    data: ImagesConfig
    model: Annotated[VAEModelConfig, ADVANCED] = field(default_factory=VAEModelConfig)
    learning: Annotated[VAELearningConfig, ADVANCED] = field(default_factory=VAELearningConfig)
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
