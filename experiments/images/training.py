"""A convolutional variational autoencoder of images on disk.

    worldmodel train vae --images DIR --out RUN

The run folder gets reconstructions.png, samples.png and traversals.png;
`experiments.load(RUN).model` is the VAE, for `envs.ImageToCode` and for scripts.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from worldmodel import (
    ELBO,
    Objective,
    Trainer,
    WorldModel,
    as_recordings,
    autoencoder_for,
    constant,
    cosine,
    cyclical,
    decode_images,
    encode_images,
    image_space,
    make_objective,
)
from worldmodel.checkpoint import list_checkpoints
from worldmodel.codecs import explain_size
from worldmodel.experiments.images.config import VAEConfig, VAELearningConfig, VAEModelConfig
from worldmodel.experiments.images.files import images_of
from worldmodel.experiments.images.grids import save_grid
from worldmodel.experiments.runs.naming import run_name
from worldmodel.experiments.runs.registry import config_of
from worldmodel.experiments.runs.training import Stage, Told, Training as Run, newest_checkpoint
from worldmodel.image_batches import Batches, Binarisation, HeldImages
from worldmodel.objectives import Metrics
from worldmodel.progress import Reporter
from worldmodel.run_folder import RunFolder

WARM_UP, TIMED = 3, 30  # updates, by which the speed is measured
SHOWN = 10  # images a row of a grid
REACH = 3.0  # standard deviations of the prior, to either side, that a traversal goes through


def model_of(shape: Sequence[int], told: VAEModelConfig) -> WorldModel:
    """A VAE of images of `shape` [H, W, C]."""
    return autoencoder_for(
        shape,
        told.likelihood,
        told.latent,
        told.hidden,
        told.width,
        told.first_activation,
        std=told.std,
    )


class ScaledLoss:
    """An objective whose loss is divided by a number; metrics stay in nats."""

    def __init__(self, objective: Objective, divisor: float):
        self.objective = objective
        self.divisor = divisor

    def initial_state(self) -> Any:
        return self.objective.initial_state()

    def __call__(self, batch: Any, state: Any, step: int) -> tuple[Tensor, Metrics, Any]:
        loss, metrics, state = self.objective(batch, state, step)
        return loss / self.divisor, metrics, state


def rising_average(decay: float) -> Callable[[Any, Any, Any], None]:
    """An average of weights that forgets the first ones early, so that short runs have one, too:
    after n updates its decay is (1 + n) / (10 + n), `decay` at the most."""

    def average(averaged: Any, current: Any, number: Any) -> None:
        kept = min(decay, (1 + int(number)) / (10 + int(number)))
        get_ema_multi_avg_fn(kept)(averaged, current, number)

    return average


class Learner:
    """A VAE and how it learns, from batches of images; without files."""

    def __init__(self, model: WorldModel, told: VAELearningConfig, updates: int):
        """model: of `autoencoder_for`; updates: within which the learning rate falls."""
        self.model = model.requires_grad_(True).train()
        self.updates = updates
        self.beta = constant(told.beta)
        if told.half_beta_cycle:
            self.beta = cyclical(told.beta, told.half_beta_cycle, told.batch_freeze)
        values = int(np.prod(image_space(model).shape))
        self.trainer = Trainer(
            self._objective(told, values),
            self.model.parameters(),
            lambda step: cosine(told.learning_rate, told.learning_rate / 50, self.updates)(step),
            clip_norm=1.0 if told.scale_losses else values,  # ten times an ordinary update's
            autocast=told.precision == "bfloat16",
        )
        self.average = AveragedModel(
            self.model, multi_avg_fn=rising_average(told.averaging), use_buffers=True
        )

    def _objective(self, told: VAELearningConfig, values: int) -> Objective:
        """`scale_losses`: (reconstruction / values + beta KL / latent) is a KL weight of
        beta values / latent, and all of it divided by values."""
        if told.bound != "elbo":
            return make_objective(told.bound, self.model, told.particles)
        if not told.scale_losses:
            return ELBO(self.model, self.beta, particles=told.particles)
        weight = values / self.model.core.feature_size
        scaled = ELBO(self.model, lambda t: weight * self.beta(t), particles=told.particles)
        return ScaledLoss(scaled, values)

    def update(self, images: Tensor) -> Metrics:
        """One step, on images [B, H, W, C]; nats an image."""
        metrics = self.trainer.update([as_recordings(images)])
        self.average.update_parameters(self.model)
        return metrics

    def finish(self) -> WorldModel:
        """The model, with the average of its weights, which do not change any more."""
        self.model.load_state_dict(self.average.module.state_dict())
        return self.model.eval().requires_grad_(False)


def train_autoencoder(
    images: np.ndarray,
    updates: int,
    model: VAEModelConfig | None = None,
    learning: VAELearningConfig | None = None,
    seed: int = 0,
) -> WorldModel:
    """A frozen VAE, trained on images that memory holds, uint8 [N, H, W, C].

    Weights and codes are drawn from torch's global generator, batches by `seed`.
    """
    model, learning = model or VAEModelConfig(), learning or VAELearningConfig()
    truth: Binarisation | None = "dynamic" if model.likelihood == "bernoulli" else None
    batches = Batches([HeldImages(images)], learning.batch, len(images), seed=seed, truth=truth)
    learner = Learner(model_of(batches.shape, model), learning, updates)
    for _ in range(updates):
        learner.update(next(batches))
    return learner.finish()


class Training(Run):
    """A run in progress."""

    told: ClassVar[dict[str, Told]] = {"learn": Told("learning", "updates")}
    rounds = 1

    def __init__(self, folder: RunFolder, reporter: Reporter):
        self.config: VAEConfig = config_of(folder)
        super().__init__(folder, reporter, self.config.checkpoint_seconds)
        torch.set_num_threads(self.config.threads)
        self.batches = batches_of(self.config)
        reporter.say(
            f"{sum(map(len, self.batches.datasets)):,} images; {explain_size(self.batches.shape)}"
        )
        learning = self.config.learning
        timed = learning.minutes and not list_checkpoints(folder.checkpoints)  # those know
        updates = self._in_minutes() if timed else learning.updates
        torch.manual_seed(self.config.seed)
        self.learner = self._learner(updates)
        self._plan(updates)

    @property
    def modules(self) -> dict[str, torch.nn.Module]:
        return {"model": self.learner.model, "average": self.learner.average}

    def work(self, stage: Stage) -> str:
        metrics = self.learner.update(next(self.batches))
        beta = self.learner.beta(self.done)
        self.log(stage, **metrics, beta=beta)
        return f"loss {metrics['nats']:.2f} nats per image"

    def end_stage(self) -> None:
        self.learner.finish()

    def tensors(self) -> dict[str, Any]:
        return {"trainer": self.learner.trainer.state_dict()}

    def values(self) -> dict[str, Any]:
        return {
            "batches": self.batches.state_dict(),
            "updates": self.learner.updates,
            "shape": self.batches.shape,
        }

    def load(self, tensors: dict[str, Any], values: dict[str, Any]) -> None:
        self.learner.trainer.load_state_dict(tensors["trainer"])
        self.batches.load_state_dict(values["batches"])
        self._plan(values["updates"])

    def _plan(self, updates: int) -> None:
        self.learner.updates = updates
        self.stages = [Stage("learn", 0, updates)]

    def _learner(self, updates: int) -> Learner:
        model = model_of(self.batches.shape, self.config.model)
        return Learner(model, self.config.learning, updates)

    def _in_minutes(self) -> int:
        timed = self._learner(1)
        return updates_within(self.config.learning.minutes, timed, batches_of(self.config))


def updates_within(minutes: float, learner: Learner, batches: Iterator[Tensor]) -> int:
    """How many updates take so long, by the speed of some that are made now."""
    for number in range(WARM_UP + TIMED):
        if number == WARM_UP:
            begun = time.monotonic()
        learner.update(next(batches))
    return max(1, round(60 * minutes * TIMED / (time.monotonic() - begun)))


def batches_of(config: VAEConfig) -> Batches:
    """The batches that a run learns from."""
    told = config.data
    return Batches(
        images_of(told),
        config.learning.batch,
        told.super_batch,
        told.weights,
        config.seed,
        told.binarise if config.model.likelihood == "bernoulli" else None,
    )


class VAERun(NamedTuple):
    """What a run has made."""

    config: VAEConfig
    model: WorldModel  # frozen

    def __repr__(self) -> str:
        return run_name("vae", self.model)


def load(folder: RunFolder) -> VAERun:
    """A run's VAE, for `envs.ImageToCode` and for scripts."""
    config = config_of(folder)
    checkpoint = newest_checkpoint(folder)
    model = model_of(checkpoint.values["shape"], config.model)
    checkpoint.load({"model": model})
    return VAERun(config, model.eval().requires_grad_(False))


def finish(folder: RunFolder, reporter: Reporter) -> None:
    """Reconstructions, samples and traversals, as grids in the run's folder."""
    config, model = load(folder)
    torch.manual_seed(config.seed)
    images = next(batches_of(config))[: 5 * SHOWN]
    for name, grid in grids(model, images).items():
        reporter.say(f"written: {save_grid(folder.path / f'{name}.png', grid)}")


@torch.no_grad()
def grids(model: WorldModel, images: Tensor) -> dict[str, Tensor]:
    """What a VAE makes of images [B, H, W, C], as uint8 [rows, columns, H, W, C].

    - reconstructions: rows of images, each above the row of what its codes stand for;
    - samples: of the prior (the likelihood's means);
    - traversals: the code of the first image, one of its numbers a row from -3 to 3, those first
      that say most of images.
    """
    codes = encode_images(model, images)
    shown = images * 255 if images.dtype == torch.bool else images
    pairs = zip(shown.split(SHOWN), decode_images(model, codes).split(SHOWN), strict=True)
    rows = [row for pair in pairs for row in pair if len(row) == min(SHOWN, len(images))]
    said = codes.var(0).argsort(descending=True)[:SHOWN]
    walks = codes[0].repeat(len(said), SHOWN, 1)  # [rows, columns, Z]
    for walk, number in zip(walks, said.tolist(), strict=True):
        walk[:, number] = torch.linspace(-REACH, REACH, SHOWN)
    return {
        "reconstructions": torch.stack(rows).to(torch.uint8),
        "samples": decode_images(model, torch.randn(SHOWN, SHOWN, codes.shape[-1])),
        "traversals": decode_images(model, walks),
    }
