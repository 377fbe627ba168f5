"""Polyphonic music: what cores and bounds make of piano rolls, beside what was published.

    worldmodel bench music --set JSB --data FOLDER

The protocol of Maddison et al. 2017 (FIVO, https://arxiv.org/abs/1705.09279): every frame is
scored, the first too; a figure is the total log likelihood over the total of frames; what pitches
do on average in the training set is subtracted from the inputs and initialises the outputs. When
to stop is decided on the validation set; the test set is scored once, by three bounds. What to
expect stands in docs/results.md.
"""

import copy
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, NamedTuple, cast

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from experiments.bench.published import PUBLISHED
from experiments.piano_rolls import PITCHES, Rolls, read
from experiments.progress import Reporter
from experiments.scores import model_nats
from worldmodel import (
    BOUNDS,
    CORES,
    ELBO,
    FIVO,
    IWAE,
    Encoder,
    Objective,
    ObservationDecoder,
    PerceptEncoder,
    Sequences,
    Trainer,
    WorldModel,
    cosine,
    head_for,
)

OBJECTIVES: dict[str, Callable[..., Objective]] = {"elbo": ELBO, "iwae": IWAE, "fivo": FIVO}
LONGEST = 160  # frames; longer recordings are learned in pieces (none of JSB's is longer)
CHOICES = 20  # how often the validation set is asked
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
    dropout: float = 0.0
    """Of what the recurrence hears of the frame before."""
    head: str = "bernoulli"
    """Pitches are independent (bernoulli), or depend on each other (nade)."""
    updates: int = 2_000
    batch: int = 16
    learning_rate: float = 6e-3


LATENTS = {"latent": 32, "latent_hidden": 64}
RNN = Recipe("rnn", hidden=128, dropout=0.6)
VRNN = Recipe("vrnn", options=LATENTS, dropout=0.3)
RECIPES = {
    "rnn": RNN,
    "rnn-nade": replace(RNN, head="nade"),
    "vrnn-elbo": VRNN,
    "vrnn-iwae": replace(VRNN, bound="iwae", particles=16, updates=1_000),
    "vrnn-fivo": replace(VRNN, bound="fivo", particles=16, batch=8),
    "srnn-elbo": Recipe("srnn", options=LATENTS, dropout=0.5),
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
    core = CORES[recipe.core](encoder.size, encoder.size, hidden=recipe.hidden, **recipe.options)
    pitches = spaces.MultiBinary(PITCHES)
    head = head_for(recipe.head, pitches, recipe.hidden, bias=torch.from_numpy(rates).logit())
    decoder = ObservationDecoder(core.feature_size, recipe.hidden, head)
    return WorldModel(encoder, core, decoder, action_size=0, dropout=recipe.dropout)


class Learned(NamedTuple):
    """How validation went, in nats a frame."""

    update: int  # that the model ended with
    nats: float
    curve: list[tuple[int, float]]  # (update, nats) of every choice


def learn(
    model: WorldModel,
    objective: Objective,
    recipe: Recipe,
    splits: dict[str, Rolls],
    seed: int,
    chosen_by: str = "elbo",
    note: Callable[[int, str], None] = lambda done, words: None,
) -> Learned:
    """Trains a model, which ends with the average of its weights that did best in validation,
    by the bound `chosen_by`."""
    batches = splits["train"].cut(LONGEST).batches(recipe.batch, np.random.default_rng(seed))
    valid = splits["valid"].sequences()
    rate = cosine(recipe.learning_rate, recipe.learning_rate / 50, recipe.updates)
    trainer = Trainer(objective, model.parameters(), rate, clip_norm=1.0)
    average = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(0.99), use_buffers=True)
    averaged = cast(WorldModel, average.module.eval())
    best, weights = Learned(0, -math.inf, []), averaged.state_dict()
    for update in range(1, recipe.updates + 1):
        model.train()
        metrics = trainer.update([next(batches)])
        average.update_parameters(model)
        if update % math.ceil(recipe.updates / CHOICES) == 0 or update == recipe.updates:
            nats = frame_nats(averaged, valid, chosen_by, CHOOSING_PARTICLES)
            best.curve.append((update, nats))
            if nats > best.nats:
                best = Learned(update, nats, best.curve)
                weights = copy.deepcopy(averaged.state_dict())
        chosen = f", best in validation {best.nats:.3f}" if best.update else ""
        note(update, f"{-metrics['loss']:.3f} nats a frame{chosen}")
    model.load_state_dict(weights)
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


def bench(
    folder: Path,
    name: str,
    models: Sequence[str],
    seed: int = 0,
    quick: bool = False,
    reporter: Reporter | None = None,
) -> dict[str, Any]:
    """Trains and scores `models` on the set `name`; `quick`: so small that nothing is learned."""
    splits = read(folder, name)
    particles = 4 if quick else SCORING_PARTICLES
    rows = []
    for model in models:
        recipe = quickly(RECIPES[model]) if quick else RECIPES[model]
        rows.append(measure(model, recipe, splits, seed, particles, reporter or Reporter()))
    return {
        "set": name,
        "seed": seed,
        "frames": {split: int(rolls.lengths.sum()) for split, rolls in splits.items()},
        "scored": "every frame, the first too; nats a frame of the test set",
        "particles": particles,
        "marginal_nats": marginal_nats(splits["train"].rates, splits["test"]),
        "rows": rows,
        "published": [
            {
                "model": row.name,
                "nats": row.nats[name],
                "scored": row.scored,
                "checked": row.checked,
            }
            for row in PUBLISHED
            if name in row.nats
        ],
    }


def quickly(recipe: Recipe) -> Recipe:
    """The same recipe made so small that it ends within seconds and learns next to nothing."""
    return replace(
        recipe,
        hidden=8,
        options=dict.fromkeys(recipe.options, 4),
        particles=min(2, recipe.particles),
        updates=3,
        batch=4,
    )


def measure(
    name: str,
    recipe: Recipe,
    splits: dict[str, Rolls],
    seed: int,
    particles: int,
    reporter: Reporter,
) -> dict[str, Any]:
    """One row: a model trained by a recipe, and what it makes of the test set."""
    begun = (time.monotonic(), time.process_time())
    torch.manual_seed(seed)
    model = roll_model(recipe, splits["train"].rates)
    with reporter.stage(f"learning {name}", recipe.updates, 0, "updates") as stage:
        objective = OBJECTIVES[recipe.bound](model, particles=recipe.particles)
        learned = learn(model, objective, recipe, splits, seed, recipe.bound, stage.update)
    seconds, busy = time.monotonic() - begun[0], time.process_time() - begun[1]
    by_bound = score(model, splits["test"], particles, name, reporter)
    best = max(by_bound, key=by_bound.__getitem__)
    return {
        "model": name,
        "test_nats": by_bound[best],
        "best": best,
        "by_bound": by_bound,
        "valid_nats": learned.nats,
        "update": learned.update,
        "train_seconds": seconds,
        "processor_seconds": busy,
        "recipe": asdict(recipe),
    }


def score(
    model: WorldModel, rolls: Rolls, particles: int, name: str, reporter: Reporter
) -> dict[str, float]:
    """What each bound makes of whole recordings, nats a frame; {"exact": ...} without latents."""
    sequences = rolls.sequences()
    if not model.initial_state(1).core.latent.shape[-1]:
        return {"exact": frame_nats(model, sequences, "elbo", 1)}
    found = {}
    with reporter.stage(f"scoring {name}", len(BOUNDS), 0, "bounds") as stage:
        for number, bound in enumerate(BOUNDS, 1):
            found[bound] = frame_nats(model, sequences, bound, particles)
            stage.update(number, f"{bound} {found[bound]:.3f}")
    return found
