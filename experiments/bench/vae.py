"""The convolutional VAE on MNIST: VAE_K against IWAE_K, beside published figures.

    worldmodel bench vae --data FOLDER --seeds 3

Burda et al. 2016 (https://arxiv.org/abs/1509.00519), one layer of 50 latents: digits of 28 x 28
pixels, binarised anew in each batch, all 784 pixels scored. Every model is trained on the 60,000
training digits for the same time; the test digits are binarised once. The negative ELBO is over
all 10,000 of them, the negative log-likelihood over digits drawn among them, by importance
sampling with K draws. docs/results.md lists expected results.
"""

import time
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import torch
from rich.table import Table
from torch import Tensor

from worldmodel import WorldModel, as_recordings, log_prob, lower_bound
from worldmodel.experiments.bench.settings import VAESettings
from worldmodel.experiments.bench.table import table
from worldmodel.experiments.images.config import VAELearningConfig, VAEModelConfig
from worldmodel.experiments.images.training import training_on
from worldmodel.experiments.runs.interruption import stoppable
from worldmodel.image_batches import binarise
from worldmodel.progress import Reporter, StageProgress
from worldmodel.reports import UpdatesReport
from worldmodel.run_folder import RunError

FILE = "mnist.npz"
MODEL = VAEModelConfig(vae_likelihood="bernoulli", vae_latent=50)
LEARNING = VAELearningConfig(precision="bfloat16")
RECIPES = {
    "vae": LEARNING,
    "vae-5": replace(LEARNING, num_particles=5),
    "iwae-5": replace(LEARNING, num_particles=5, objective="iwae"),
}
PUBLISHED = {"vae-5": 86.47, "iwae-5": 85.54}  # table 1, one layer, k = 5: nats
TOGETHER = 8  # digits whose likelihood is estimated in one batch
AT_ONCE = 4_096  # draws in memory at a time


def run(settings: VAESettings, reporter: Reporter) -> dict[str, Any]:
    """Trains and scores models with each of the seeds."""
    torch.set_num_threads(settings.threads)
    minutes, quick = settings.minutes, settings.quick
    train, test = read(settings.data)
    digits, particles = (4, 10) if quick else (1_000, 5_000)
    random = np.random.default_rng(0)
    chosen = torch.from_numpy(random.choice(len(test), digits, replace=False))
    binary = torch.from_numpy(binarise(test, "dynamic", random))
    rows: list[dict[str, Any]] = []
    with stoppable(reporter):
        for seed in settings.chosen_seeds:
            for name in settings.models:
                learning = replace(RECIPES[name], minutes=minutes)
                if quick:
                    learning = replace(learning, minutes=0.0, updates=3, batch_size=8)
                begun = (time.monotonic(), time.process_time())
                model, updates = learn(f"{name}, seed {seed}", learning, train, seed, reporter)
                seconds, busy = time.monotonic() - begun[0], time.process_time() - begun[1]
                elbo = torch.cat([_elbo(model, part) for part in binary.split(500)])
                with reporter.stage(f"scoring {name}", digits, 0, "digits") as stage:
                    nll = negative_log_likelihood(model, binary[chosen], particles, stage)
                rows.append(
                    {
                        "model": name,
                        "seed": seed,
                        "negative_elbo": -elbo.mean().item(),
                        "negative_elbo_se": _error(elbo),
                        "nll": nll.mean().item(),
                        "nll_se": _error(nll),
                        "updates": updates,
                        "train_seconds": seconds,
                        "processor_seconds": busy,
                    }
                )
                reporter.say(
                    f"{name}, seed {seed}: negative ELBO {rows[-1]['negative_elbo']:.2f}, "
                    f"negative log-likelihood {rows[-1]['nll']:.2f} nats per digit"
                )
    return {
        "scored": "784 pixels of dynamically binarised test digits; loss, nats per digit",
        "digits": digits,
        "particles": particles,
        "minutes": minutes,
        "rows": rows,
        "published_nll": PUBLISHED,
    }


def read(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """The digits for training and for testing, uint8 [N, 28, 28, 1]."""
    path = folder / FILE
    if not path.is_file():
        raise RunError(f"there is no {path}; name the folder that holds {FILE} with --data")
    try:
        with np.load(path, allow_pickle=False) as file:
            train, test = file["x_train"], file["x_test"]
    except Exception as error:
        raise RunError(f"{path} cannot be read: {error}") from error
    for digits in (train, test):
        if digits.dtype != np.uint8 or digits.ndim != 3:
            raise RunError(
                f"{path} expects x_train and x_test, uint8 [N, 28, 28], got {digits.dtype} "
                f"{list(digits.shape)}"
            )
    return train[..., None], test[..., None]


def learn(
    title: str, learning: VAELearningConfig, images: np.ndarray, seed: int, reporter: Reporter
) -> tuple[WorldModel, int]:
    """A trained model and its number of updates."""
    training = training_on(images, MODEL, learning, seed)
    training.extend()
    updates = training.stages[0].units
    with reporter.stage(f"learning {title}", updates, 0, "updates") as stage:
        training.run(UpdatesReport(stage))
    return training.model, updates


def _elbo(model: WorldModel, images: Tensor) -> Tensor:
    """The evidence lower bound of images [B, H, W, C], [B] nats."""
    return lower_bound(model, as_recordings(images))["observation"][0]


def negative_log_likelihood(
    model: WorldModel, images: Tensor, particles: int, stage: StageProgress
) -> Tensor:
    """Log-likelihood by importance sampling of images [B, H, W, C], [B] nats."""
    found: list[Tensor] = []
    for part in images.split(TOGETHER):
        nats = log_prob(model, as_recordings(part), particles, AT_ONCE)["observation"][0]
        found.append(-nats)
        stage.update(sum(map(len, found)))
    return torch.cat(found)


def _error(values: Tensor) -> float:
    """The standard error of the mean."""
    return (values.std() / len(values) ** 0.5).item()


def tables(result: dict[str, Any]) -> list[Table]:
    """The tables of `bench vae`: means over seeds beside published figures, then every run."""
    rows = result["rows"]
    models = dict.fromkeys(row["model"] for row in rows)
    means = (
        (
            model,
            *(
                f"{fmean(row[key] for row in rows if row['model'] == model):.2f}"
                for key in ("negative_elbo", "nll")
            ),
            f"{result['published_nll'][model]:.2f}" if model in result["published_nll"] else "",
        )
        for model in models
    )
    details = (
        (
            f"{row['model']}, seed {row['seed']}",
            f"{row['negative_elbo']:.2f} ± {row['negative_elbo_se']:.2f}",
            f"{row['nll']:.2f} ± {row['nll_se']:.2f}",
            str(row["updates"]),
            f"{row['train_seconds']:.0f}",
            f"{row['processor_seconds']:.0f}",
        )
        for row in rows
    )
    nll = f"-log p (K = {result['particles']:,}, {result['digits']:,} digits)"
    return [
        table(result["scored"], ("model", "-ELBO", nll, "published"), means),
        table("in detail", ("run", "-ELBO", "-log p", "updates", "s", "CPU s"), details),
    ]
