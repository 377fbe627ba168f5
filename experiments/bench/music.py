"""Polyphonic music: what cores and bounds make of piano rolls, beside what was published.

    worldmodel bench music --set JSB --data FOLDER

The protocol of Maddison et al. 2017 (FIVO, https://arxiv.org/abs/1705.09279): every frame is
scored, the first too; a figure is the total log likelihood over the total of frames; what pitches
do on average in the training set is subtracted from the inputs and initialises the outputs. When
to stop is decided on the validation set; the test set is scored once, by three bounds. What to
expect stands in docs/results.md.
"""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from experiments.evaluate import model_nats
from experiments.piano_rolls import PITCHES, Rolls, read
from worldmodel import (
    BOUNDS,
    CORES,
    ELBO,
    FIVO,
    IWAE,
    ObservationDecoder,
    PerceptEncoder,
    Sequences,
    Trainer,
    WorldModel,
    context_size,
    cosine,
)
from worldmodel.codecs import Encoder, TruthHead
from worldmodel.objectives import Bound

Note = Callable[[str, int, int, str], None]

LONGEST = 160  # frames; longer recordings are learned in pieces (none of JSB's is longer)
CHOICES = 30  # how often the validation set is asked
CHOOSING_PARTICLES = 8
SCORING_PARTICLES = 128


@dataclass(frozen=True)
class Recipe:
    """A model, what it learns by, and how."""

    core: str
    bound: Literal["elbo", "iwae", "fivo"] = "elbo"
    particles: int = 1
    hidden: int = 64
    options: dict[str, Any] = field(default_factory=dict)
    """The core's own."""
    feedback: bool = True
    updates: int = 2_000
    batch: int = 16
    learning_rate: float = 3e-3
    weight_decay: float = 0.0


LATENTS = {"latent": 32, "latent_hidden": 64}
RECIPES = {
    "rnn": Recipe("rnn"),
    "vrnn-elbo": Recipe("vrnn", options=LATENTS),
    "vrnn-iwae": Recipe("vrnn", "iwae", 16, options=LATENTS),
    "vrnn-fivo": Recipe("vrnn", "fivo", 16, options=LATENTS),
    "srnn-elbo": Recipe("srnn", options=LATENTS),
}


class CentredEncoder(Encoder):
    """A frame less what pitches do on average: bool [*, 88] -> float [*, 88]."""

    rates: Tensor
    size = PITCHES

    def __init__(self, rates: np.ndarray):
        super().__init__()
        self.register_buffer("rates", torch.from_numpy(rates).to(torch.get_default_dtype()))

    def forward(self, x: Tensor) -> Tensor:
        return x.to(self.rates.dtype) - self.rates


def roll_model(recipe: Recipe, rates: np.ndarray) -> WorldModel:
    """A model of rolls whose pitches sound at `rates`, float64 [88], in the training set."""
    encoder = PerceptEncoder(CentredEncoder(rates), rewards=False)
    core = CORES[recipe.core](
        context_size(0, encoder.size, recipe.feedback, 1),
        encoder.size,
        hidden=recipe.hidden,
        **recipe.options,
    )
    head = TruthHead(recipe.hidden, (PITCHES,))
    with torch.no_grad():
        head.logits.bias.copy_(torch.from_numpy(rates).logit())
    decoder = ObservationDecoder(core.feature_size, recipe.hidden, head)
    return WorldModel(encoder, core, decoder, action_size=0, feedback=recipe.feedback)


def objective(model: WorldModel, recipe: Recipe) -> Bound:
    """What a recipe learns by."""
    return {"elbo": ELBO, "iwae": IWAE, "fivo": FIVO}[recipe.bound](
        model, particles=recipe.particles
    )


class Choice(NamedTuple):
    """The weights that did best on the validation set."""

    weights: dict[str, Tensor]
    update: int
    nats: float


def learn(
    model: WorldModel,
    objective: Bound,
    recipe: Recipe,
    splits: dict[str, Rolls],
    seed: int,
    note: Note = lambda what, done, total, words: None,
) -> Choice:
    """Trains a model; it ends with the average of its weights that did best in validation."""
    batches = splits["train"].cut(LONGEST).batches(recipe.batch, np.random.default_rng(seed))
    valid = splits["valid"].sequences()
    rate = cosine(recipe.learning_rate, recipe.learning_rate / 50, recipe.updates)
    trainer = Trainer(objective, model.parameters(), rate, recipe.weight_decay, clip_norm=1.0)
    average = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(0.99), use_buffers=True)
    average.eval()
    best = Choice({}, 0, -math.inf)
    for update in range(1, recipe.updates + 1):
        model.train()
        metrics = trainer.update([next(batches)])
        average.update_parameters(model)
        if update % math.ceil(recipe.updates / CHOICES) == 0 or update == recipe.updates:
            nats = frame_nats(average.module, valid, recipe.bound, CHOOSING_PARTICLES)
            if nats > best.nats:
                weights = {key: leaf.clone() for key, leaf in average.module.state_dict().items()}
                best = Choice(weights, update, nats)
        words = f"{-metrics['loss']:.3f} nats a frame, best in validation {best.nats:.3f}"
        note("learning", update, recipe.updates, words)
    model.load_state_dict(best.weights)
    model.eval()
    return best


def frame_nats(model: WorldModel, sequences: Sequences, bound: str, particles: int) -> float:
    """A bound on the log likelihood of whole recordings, in nats a frame."""
    nats = model_nats(model, sequences, bound, particles)["observation"]
    return nats.double().sum().item() / int(sequences.scored.sum())


def marginal_nats(rates: np.ndarray, rolls: Rolls) -> float:
    """The log likelihood of rolls whose pitches sound by themselves at `rates`, nats a frame."""
    frames = rolls.frames
    return float(np.where(frames, np.log(rates), np.log1p(-rates)).sum() / len(frames))


def measure(
    name: str, recipe: Recipe, splits: dict[str, Rolls], seed: int, particles: int, note: Note
) -> dict[str, Any]:
    """One row: a model trained by a recipe, and what it makes of the test set."""
    begun = time.monotonic()
    torch.manual_seed(seed)
    model = roll_model(recipe, splits["train"].rates)
    choice = learn(model, objective(model, recipe), recipe, splits, seed, note)
    seconds = time.monotonic() - begun
    test = splits["test"].sequences()
    exact = not model.initial_state(1).core.latent.shape[-1]
    scores = {}
    for number, bound in enumerate(["elbo"] if exact else BOUNDS):
        note("scoring", number, len(BOUNDS), bound)
        scores[bound] = frame_nats(model, test, bound, particles)
    return {
        "model": name,
        "nats": max(scores.values()),
        "exact": exact,
        "by_bound": {} if exact else scores,
        "valid_nats": choice.nats,
        "update": choice.update,
        "seconds": seconds,
    }
