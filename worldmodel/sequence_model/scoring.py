"""The likelihood of whole recordings, and the stretches of recordings that validate a model."""

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from worldmodel import nested
from worldmodel.codecs import action_codec
from worldmodel.episodes import EpisodeSource
from worldmodel.likelihoods import BOUNDS
from worldmodel.model import WorldModel
from worldmodel.sequence_model.config import SequenceLearningConfig
from worldmodel.sequence_model.modality import Modality
from worldmodel.sequences import Sequences
from worldmodel.sequential_batches import SequentialBatches

ROWS_AT_ONCE = 100_000  # times particles, that are scored side by side, padding among them
VALIDATED = 1_000  # rows of a piece that validation reads, at most


class Scored(NamedTuple):
    """The likelihood of a recording."""

    episode: int
    log_prob: np.ndarray  # float64 [T], nats, of each row that counts


def row_log_probs(model: WorldModel, sequences: Sequences, bound: str, particles: int) -> Tensor:
    """A bound on the log likelihood of rows, float64 [T, B] nats; exact without latents."""
    by_key = BOUNDS[bound](model, sequences, particles if has_latents(model) else 1)
    return torch.stack([value.double() for value in by_key.values()]).sum(0)


def has_latents(model: WorldModel) -> bool:
    """True if a model has latents: without them every bound is the likelihood."""
    return bool(model.initial_state(1).core.latent.shape[-1])


def scored(
    model: WorldModel,
    modality: Modality,
    source: EpisodeSource,
    bound: str,
    particles: int,
    note: Callable[[int, int], None] = lambda done, total: None,
) -> Iterator[Scored]:
    """A bound on the likelihood of whole recordings, their first rows too, those of about the same
    length side by side.

    note: called with the numbers of rows that are scored, and of all.
    """
    actions = action_codec(modality.action_space)
    drawn = particles if has_latents(model) else 1
    done = 0
    for group in source.side_by_side(ROWS_AT_ONCE // drawn):
        sequences = source.sequences(actions, group)
        log_prob = row_log_probs(model, sequences, bound, particles).cpu().numpy()
        observation = sequences.rows.observation
        for column, episode in enumerate(group.tolist()):
            rows = (slice(0, int(source.lengths[episode])), column)
            shown = nested.map(Tensor.numpy, nested.index(observation, rows))
            nats = log_prob[rows] + modality.correction(shown)
            yield Scored(episode, nats[modality.counted(shown)])
        done += int(source.lengths[group].sum())
        note(done, source.rows)


def frame_nats(scores: Sequence[Scored]) -> tuple[float, float]:
    """The loss, nats a frame, total over total, and its standard error over recordings (nan of
    one)."""
    nats = np.array([-score.log_prob.sum() for score in scores])
    rows = np.array([len(score.log_prob) for score in scores])
    mean = nats.sum() / rows.sum()
    error = np.sqrt(np.square(nats - mean * rows).sum()) / rows.sum()
    return float(mean), float(error) if len(scores) > 1 else math.nan


class Validation:
    """Stretches of recordings, the same at every time, that a model is scored on."""

    def __init__(
        self, modality: Modality, source: EpisodeSource, config: SequenceLearningConfig, seed: int
    ):
        self.bound = config.objective if config.objective in BOUNDS else "elbo"
        self.particles = config.num_particles
        actions = action_codec(modality.action_space)
        self.blocks: list[Sequences] = []
        columns = max(1, ROWS_AT_ONCE // VALIDATED)
        reader = SequentialBatches(source, actions, columns, VALIDATED, VALIDATED, seed)
        self.rows, self.correction, read = 0, 0.0, 0
        while read < min(config.validation_rows, source.rows):
            block = next(reader)
            self.blocks.append(block)
            read += int(block.mask.sum())
            self.rows += int(modality.counted(_valid(block)).sum())
            self.correction += corrections(modality, block)

    def __call__(self, model: WorldModel) -> float:
        """The loss, nats a frame, by the bound that is learned by."""
        found = [
            row_log_probs(model, block, self.bound, self.particles).sum().item()
            for block in self.blocks
        ]
        return -(sum(found) + self.correction) / self.rows


def corrections(modality: Modality, block: Sequences) -> float:
    """The sum of the corrections of valid rows, nats."""
    each = np.broadcast_to(modality.correction(_valid(block)), int(block.mask.sum()))
    return float(each.sum())


def _valid(block: Sequences) -> Any:
    """The observations of valid rows, leaves [N, ...]."""
    return nested.map(lambda leaf: leaf[block.mask].numpy(), block.rows.observation)
