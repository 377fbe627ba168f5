"""Does importance weighting help? VAE_K against IWAE_K, at equal computation and equal data.

    worldmodel bench iwae --data FOLDER --plot docs/iwae.png

A VRNN learns the Bach chorales by the ELBO of one draw, by the mean of five (VAE_5), by the
importance-weighted bound of five (IWAE_5, Burda et al. 2016, https://arxiv.org/abs/1509.00519),
and by the weights that github.com/szcom/nips2015_vrnn gave them, whose finding that IWAE does not
help is tested here. IWAE has to sample the divergence of posterior and prior, so VAE_5 does it
both ways. docs/iwae.md has the answer.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.table import Table
from torch import Tensor

from worldmodel import BOUNDS, ELBO, IWAE, Objective, Sequences, WorldModel, kl_monte_carlo
from worldmodel.experiments.bench.music import (
    RECIPES,
    SCORING_PARTICLES,
    Music,
    learn_music,
    read,
)
from worldmodel.experiments.bench.sequences import Recipe, score
from worldmodel.experiments.bench.settings import IWAESettings
from worldmodel.experiments.bench.table import bound_name, table
from worldmodel.experiments.recordings.config import quick_recordings
from worldmodel.experiments.runs.pictures import check_picture
from worldmodel.files import writing
from worldmodel.likelihoods import increments
from worldmodel.objectives import Bound, Metrics
from worldmodel.progress import Reporter

CHOSEN_BY = "fivo"  # the tightest of the bounds


class InvertedIWAE(Bound):
    """Minus the mean of K bounds of each window, weighted by the softmax of *minus* log w averaged
    over time: as szcom/nips2015_vrnn did. It prefers the draw that explains least, but only a
    little: the means over time of two draws hardly differ."""

    def __call__(
        self, batch: list[Sequences], state: Any, step: int
    ) -> tuple[Tensor, Metrics, Any]:
        """batch: blocks of [T, B, ...], scored as one."""
        wholes = torch.cat([self._whole(block) for block in batch], -1)  # [K, B]
        frames = torch.cat([block.loss_mask.sum(0) for block in batch])  # [B]
        weights = (-wholes / frames).softmax(0).detach()
        loss = -(weights * wholes).sum() / frames.sum()
        share = 1 / (weights.square().sum(0) * self.particles)
        return loss, {"effective_particles": share.mean().item()}, state

    def _whole(self, block: Sequences) -> Tensor:
        """log w of whole windows, [K, B]."""
        block = self.model.percepts.fill(block)
        inference, _ = self.model.infer(block, particles=self.particles)
        parts = increments(self.model, block, inference)  # [T, K, B] each
        return torch.stack(list(parts.values())).sum((0, 1))


@dataclass(frozen=True)
class Arm:
    """An arm of the comparison: an objective of five draws."""

    objective: Callable[[WorldModel], Objective]
    batches: int = 1
    """Recordings of a batch, as a multiple of the other arms'."""


K = 5
VRNN = RECIPES["vrnn-elbo"]
RECIPE = Recipe(VRNN.model, replace(VRNN.learning, updates=700))
ARMS = {
    "VAE": Arm(lambda model: ELBO(model)),
    f"VAE, batch x {K}": Arm(lambda model: ELBO(model), batches=K),
    f"VAE_{K}": Arm(lambda model: ELBO(model, particles=K)),
    f"VAE_{K}, sampled KL": Arm(lambda model: ELBO(model, kl=kl_monte_carlo, particles=K)),
    f"IWAE_{K}": Arm(lambda model: IWAE(model, K)),
    f"inverted IWAE_{K}": Arm(lambda model: InvertedIWAE(model, K)),
}


def run(settings: IWAESettings, reporter: Reporter) -> dict[str, Any]:
    """Figures of every arm with every seed, on JSB and one thread; the arms of a seed share their
    initial weights."""
    if settings.plot is not None:
        check_picture(settings.plot, "--plot")
    torch.set_num_threads(1)
    music = read(settings.data, "JSB")
    particles = 4 if settings.quick else SCORING_PARTICLES
    rows = [
        measure(name, seed, music, settings.quick, particles, reporter)
        for seed in range(settings.seeds)
        for name in ARMS
    ]
    result = {
        "set": music.name,
        "seeds": settings.seeds,
        "particles": particles,
        "summary": {name: summary([r for r in rows if r["arm"] == name]) for name in ARMS},
        "rows": rows,
    }
    if settings.plot is not None:
        plot(result, settings.plot)
    return result


def measure(
    name: str,
    seed: int,
    music: Music,
    quick: bool,
    particles: int,
    reporter: Reporter,
) -> dict[str, Any]:
    """Figures of one arm with one seed."""
    arm = ARMS[name]
    recipe = quick_recordings(RECIPE) if quick else RECIPE
    learning = replace(recipe.learning, batch_size=arm.batches * recipe.learning.batch_size)
    recipe = Recipe(recipe.model, learning)
    begun = time.monotonic()
    title = f"{name}, seed {seed}"
    learned = learn_music(title, recipe, music, seed, CHOSEN_BY, reporter, arm.objective)
    seconds = time.monotonic() - begun
    test = music.splits["test"]
    by_bound = score(learned.model, music.modality, test, particles, seed, title, reporter)
    said = ", ".join(f"{bound} {nats:.3f}" for bound, nats in by_bound.items())
    reporter.say(f"{title}: loss, {said} nats per frame of the test set")
    return {
        "arm": name,
        "seed": seed,
        "by_bound": by_bound,
        "valid_nats": learned.nats,
        "update": learned.update,
        "curve": learned.curve,
        "train_seconds": seconds,
    }


def summary(rows: list[dict[str, Any]]) -> dict[str, tuple[float, float]]:
    """The mean over seeds and its standard error, by bound, of losses on the test set,
    nats a frame."""
    found = {}
    for bound in rows[0]["by_bound"]:
        values = np.array([row["by_bound"][bound] for row in rows])
        error = values.std(ddof=1) / len(values) ** 0.5
        found[bound] = (float(values.mean()), float(error))
    return found


def plot(result: dict[str, Any], path: Path) -> None:
    """Draws validation losses by update, and test losses by bound; needs matplotlib."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 4), layout="constrained")
    curves, bounds = figure.subplots(1, 2)
    for number, name in enumerate(ARMS):
        rows = [row for row in result["rows"] if row["arm"] == name]
        colour = f"C{number}"
        updates = [update for update, _ in rows[0]["curve"]]
        nats = np.array([[nats for _, nats in row["curve"]] for row in rows])  # [seeds, choices]
        curves.plot(updates, nats.T, color=colour, alpha=0.25, linewidth=0.8)
        curves.plot(updates, nats.mean(0), color=colour, label=name)
        for place, bound in enumerate(BOUNDS):
            values = [row["by_bound"][bound] for row in rows]
            across = place + 0.15 * (number - len(ARMS) / 2 + 0.5)
            bounds.plot([across] * len(values), values, "o", color=colour, alpha=0.5, markersize=4)
            bounds.plot(across, np.mean(values), "_", color=colour, markersize=14)
    low, high = np.quantile([nats for r in result["rows"] for _, nats in r["curve"]], [0, 0.7])
    curves.set(ylim=(low - 0.05, high), xlabel="update", ylabel="loss, nats per frame, validation")
    curves.legend()
    bounds.set(ylabel="loss, nats per frame, test")
    titles = [bound_name(bound, result["particles"]) for bound in BOUNDS]
    bounds.set_xticks(range(len(titles)), titles)
    with writing(path) as part:
        figure.savefig(part, dpi=120)


def tables(result: dict[str, Any]) -> list[Table]:
    """The table of `bench iwae`: means over seeds with their standard errors."""
    bounds = (bound_name(key, result["particles"]) for key in BOUNDS)
    rows = (
        (name, *(f"{mean:.3f} ± {error:.3f}" for mean, error in by_bound.values()))
        for name, by_bound in result["summary"].items()
    )
    title = f"{result['set']}: loss, nats per frame of the test set, {result['seeds']} seeds"
    return [table(title, ("learned by", *bounds), rows)]
