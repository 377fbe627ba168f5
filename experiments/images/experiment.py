"""Images as an experiment: the functions that the registry expects of it."""

from dataclasses import replace
from pathlib import Path

import torch

from worldmodel.experiments.images.config import VAEConfig
from worldmodel.experiments.images.training import finish, load, training_in
from worldmodel.experiments.runs.registry import config_of
from worldmodel.experiments.runs.training import Training
from worldmodel.progress import Reporter
from worldmodel.run_folder import RunFolder

__all__ = ["absolute", "finish", "load", "quick", "training"]


def training(folder: RunFolder, reporter: Reporter) -> Training:
    """A run in progress."""
    config: VAEConfig = config_of(folder)
    torch.set_num_threads(config.threads)
    return Training(folder, reporter, training_in(folder, reporter), config.checkpoint_seconds)


def absolute(config: VAEConfig) -> VAEConfig:
    """The options with an absolute path of the images."""
    images = str(Path(config.data.images).resolve())
    return replace(config, data=replace(config.data, images=images))


def quick(config: VAEConfig) -> VAEConfig:
    """The options of a run so small that it ends within seconds and learns next to nothing."""
    model = replace(config.model, vae_latent=4, vae_hidden=8, vae_width=2)
    return replace(config, model=model, learning=replace(config.learning, updates=6, batch_size=8))
