"""Likelihoods of whole episodes."""

import numpy as np
import torch

from worldmodel import BOUNDS, ActionCodec, EpisodeSource, WorldModel

ROWS_AT_ONCE = 16_384  # that are scored side by side, padding among them


@torch.no_grad()
def log_prob(
    model: WorldModel,
    actions: ActionCodec,
    episodes: EpisodeSource,
    bound: str = "elbo",
    num_particles: int = 1,
) -> np.ndarray:
    """log p(percepts | actions) of episodes as the model reads them, or a lower bound of it,
    [episodes] nats. bound, num_particles: of `worldmodel.BOUNDS`."""
    found = np.empty(len(episodes))
    for group in episodes.side_by_side(ROWS_AT_ONCE):
        by_key = BOUNDS[bound](model, episodes.sequences(actions, group), num_particles)
        nats = torch.stack([value.double() for value in by_key.values()]).sum((0, 1))
        found[group] = nats.cpu().numpy()
    return found
