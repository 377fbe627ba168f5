"""Images as an experiment: the functions that the registry promises of it."""

from dataclasses import replace
from pathlib import Path

from worldmodel.experiments.images.config import VAEConfig
from worldmodel.experiments.images.training import Training, finish, load
from worldmodel.progress import Reporter
from worldmodel.run_folder import RunFolder

__all__ = ["absolute", "finish", "load", "quick", "training"]


def training(folder: RunFolder, reporter: Reporter) -> Training:
    """A run in progress."""
    return Training(folder, reporter)


def absolute(config: VAEConfig) -> VAEConfig:
    """The same with an absolute path of its images."""
    images = str(Path(config.data.images).resolve())
    return replace(config, data=replace(config.data, images=images))


def quick(config: VAEConfig) -> VAEConfig:
    """The same made so small that it ends within seconds and learns next to nothing."""
    model = replace(config.model, latent=4, hidden=8, width=2)
    return replace(config, model=model, learning=replace(config.learning, updates=6, batch=8))
