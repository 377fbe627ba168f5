"""A convolutional variational autoencoder of images on disk.

    worldmodel train vae --images DIR --out RUN

The run folder gets reconstructions.png, samples.png and traversals.png;
`experiments.load(RUN).model` is the VAE, for `envs.ImageToCode` and for scripts.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from worldmodel import (
    Job,
    Learner,
    Sequences,
    Stage,
    WorldModel,
    as_recordings,
    autoencoder_for,
    cosine,
    decode_images,
    encode_images,
    objective_from,
)
from worldmodel.checkpoint import list_checkpoints
from worldmodel.codecs import explain_size
from worldmodel.devices import CPU
from worldmodel.errors import naming_damage
from worldmodel.experiments.data.readers.files import Report
from worldmodel.experiments.images.config import VAEConfig, VAELearningConfig, VAEModelConfig
from worldmodel.experiments.images.files import images_of
from worldmodel.experiments.images.grids import save_grid
from worldmodel.experiments.runs.device import device_of
from worldmodel.experiments.runs.naming import run_name
from worldmodel.experiments.runs.registry import config_of
from worldmodel.image_batches import Batches, Binarisation, HeldImages
from worldmodel.job import Metrics, Title
from worldmodel.objectives import kl_schedule
from worldmodel.progress import Reporter
from worldmodel.run_folder import RunFolder
from worldmodel.schedules import in_segments

LAST_RATE = 1 / 50  # final learning rate, relative to the first
SHOWN = 10  # images a row of a grid
REACH = 3.0  # standard deviations of the prior, to either side, that a traversal goes through


def model_of(shape: Sequence[int], config: VAEModelConfig) -> WorldModel:
    """A VAE of images of `shape` [H, W, C]."""
    return autoencoder_for(
        shape,
        config.vae_likelihood,
        config.vae_latent,
        config.vae_hidden,
        config.vae_width,
        config.first_activation,
        std=config.vae_std,
    )


class ImagesTraining(Job):
    """The training of a VAE on batches of images; writes no files."""

    titles: ClassVar[Mapping[str, Title]] = {"learn": Title("learning", "updates")}

    def __init__(
        self,
        model: VAEModelConfig,
        learning: VAELearningConfig,
        batches: Batches,
        seed: int,
        device: torch.device = CPU,
    ):
        super().__init__(seed)
        self.config = learning
        self.batches = batches
        with self.noise():
            self.model = model_of(batches.shape, model).to(device)
        self._segments: list[tuple[int, int]] = []  # of updates, see `in_segments`
        rate = learning.learning_rate
        self.kl_weight = kl_schedule(vars(learning))
        self.learner = Learner(
            self.model,
            objective_from(self.model, vars(learning)),
            in_segments(lambda length: cosine(rate, LAST_RATE * rate, length), self._segments),
            clip_norm=float(np.prod(batches.shape)),  # ten times an ordinary update's
            ema_decay=learning.ema_decay,
            autocast=learning.precision == "bfloat16",
        )

    def extend(self) -> None:
        """Plans the updates of the options, or as many as their minutes allow."""
        updates = self.config.updates
        self._segments.append((0, updates))
        if self.config.minutes:
            updates = self.learner.updates_within(self.config.minutes, self.batches, as_batch)
            self._segments[-1] = (0, updates)
        self.stages = [Stage("learn", 0, updates)]

    @property
    def modules(self) -> dict[str, nn.Module]:
        return {"model": self.model} | self.learner.modules

    def work(self, stage: Stage) -> Metrics:
        kl_weight = self.kl_weight(self.learner.updates)
        return self.learner.update(as_batch(next(self.batches))) | {"kl_weight": kl_weight}

    def note(self, stage: Stage, metrics: Metrics) -> str:
        return f"loss {metrics.get('nats', metrics['loss']):.2f} nats per image"

    def end_stage(self, stage: Stage) -> None:
        """Replaces the model's weights by their average."""
        self.learner.keep_average().eval().requires_grad_(False)

    def tensors(self) -> dict[str, Any]:
        return {"learner": self.learner.state_dict()}

    def values(self) -> dict[str, Any]:
        return {
            "batches": self.batches.state_dict(),
            "segments": self._segments,
            "stages": [list(stage) for stage in self.stages],
            "shape": self.batches.shape,
        }

    def build(self, values: Mapping[str, Any]) -> None:
        self.stages = [Stage(*stage) for stage in values["stages"]]
        self._segments[:] = [tuple(segment) for segment in values["segments"]]

    def load(self, tensors: Mapping[str, Any], values: Mapping[str, Any]) -> None:
        self.learner.load_state_dict(tensors["learner"])
        self.batches.load_state_dict(values["batches"])


def as_batch(images: Tensor) -> list[Sequences]:
    """Images [B, H, W, C] as a batch of an objective."""
    return [as_recordings(images)]


def train_autoencoder(
    images: np.ndarray,
    updates: int,
    model: VAEModelConfig | None = None,
    learning: VAELearningConfig | None = None,
    seed: int = 0,
) -> WorldModel:
    """A frozen VAE, trained on images in memory, uint8 [N, H, W, C]."""
    learning = replace(learning or VAELearningConfig(), updates=updates)
    training = training_on(images, model or VAEModelConfig(), learning, seed)
    training.extend()
    training.run()
    return training.model


def training_on(
    images: np.ndarray, model: VAEModelConfig, learning: VAELearningConfig, seed: int
) -> ImagesTraining:
    """The training of a VAE on images in memory, uint8 [N, H, W, C]."""
    truth: Binarisation | None = "dynamic" if model.vae_likelihood == "bernoulli" else None
    held = [HeldImages(images)]
    batches = Batches(held, learning.batch_size, len(images), seed=seed, truth=truth)
    return ImagesTraining(model, learning, batches, seed)


def training_in(folder: RunFolder, reporter: Reporter) -> ImagesTraining:
    """The training in a run's folder."""
    config: VAEConfig = config_of(folder)
    batches = batches_of(config, reporter.say)
    count = sum(map(len, batches.datasets))
    reporter.say(f"{count:,} images; {explain_size(batches.shape)}")
    parts = config.model, config.learning, batches, config.seed
    training = ImagesTraining(*parts, device_of(folder))
    if not list_checkpoints(folder.checkpoints):  # those hold their stages
        training.extend()
    return training


def batches_of(config: VAEConfig, report: Report) -> Batches:
    """The batches that a run learns from; what is odd about its files is reported."""
    data = config.data
    return Batches(
        images_of(data, report),
        config.learning.batch_size,
        data.super_batch,
        data.weights,
        config.seed,
        data.binarise if config.model.vae_likelihood == "bernoulli" else None,
    )


class VAERun(NamedTuple):
    """A run's VAE."""

    config: VAEConfig
    model: WorldModel  # frozen

    def __repr__(self) -> str:
        return run_name("vae", self.model)


def load(folder: RunFolder) -> VAERun:
    """A run's VAE, for `envs.ImageToCode` and for scripts."""
    config = config_of(folder)
    with naming_damage(folder.path):
        checkpoint = folder.checkpoint()
        model = model_of(checkpoint.values["shape"], config.model)
        checkpoint.load({"model": model})
    return VAERun(config, model.to(device_of(folder)).eval().requires_grad_(False))


def finish(folder: RunFolder, reporter: Reporter) -> None:
    """Writes reconstructions, samples and traversals, as grids, to the run's folder."""
    config, model = load(folder)
    torch.manual_seed(config.seed)
    images = next(batches_of(config, lambda line: None))[: 5 * SHOWN]
    for name, grid in grids(model, images).items():
        reporter.say(f"written: {save_grid(folder.path / f'{name}.png', grid)}")


@torch.no_grad()
def grids(model: WorldModel, images: Tensor) -> dict[str, Tensor]:
    """Outputs of a VAE for images [B, H, W, C], as uint8 [rows, columns, H, W, C].

    - reconstructions: rows of images, each above the row of their reconstructions;
    - samples: of the prior (the likelihood's means);
    - traversals: the code of the first image, one dimension a row from -3 to 3, those of the
      largest variance first.
    """
    codes = encode_images(model, images).cpu()
    shown = images * 255 if images.dtype == torch.bool else images
    pairs = zip(shown.split(SHOWN), decode_images(model, codes).cpu().split(SHOWN), strict=True)
    rows = [row for pair in pairs for row in pair if len(row) == min(SHOWN, len(images))]
    widest = codes.var(0).argsort(descending=True)[:SHOWN]
    walks = codes[0].repeat(len(widest), SHOWN, 1)  # [rows, columns, Z]
    for walk, number in zip(walks, widest.tolist(), strict=True):
        walk[:, number] = torch.linspace(-REACH, REACH, SHOWN)
    return {
        "reconstructions": torch.stack(rows).to(torch.uint8),
        "samples": decode_images(model, torch.randn(SHOWN, SHOWN, codes.shape[-1])).cpu(),
        "traversals": decode_images(model, walks).cpu(),
    }
