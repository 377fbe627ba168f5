"""The variational autoencoder (Kingma & Welling 2014, https://arxiv.org/abs/1312.6114): a core
without memory, whose rows have nothing to do with each other.

Graph:      z_t -> x_t

    z_t ~ N(0, I)
    x_t ~ p(x_t | z_t)
    q(z_t | evidence_t) = N(mu_q, sigma_q)

A collection of images is a set of recordings of one row each, without actions.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from worldmodel import nested
from worldmodel.cores.base import Gaussian, Inference, SequenceCore, noise_of_steps
from worldmodel.nets import mlp


class VAEState(NamedTuple):
    latent: Tensor  # [B, Z], z


class VAE(SequenceCore):
    """Standard normal latents and nothing else; contexts are ignored. `hidden` units stand
    between the evidence and the posterior."""

    filtering = True

    def __init__(self, context_size: int, evidence_size: int, hidden: int = 128, latent: int = 16):
        super().__init__()
        self.context_size = context_size
        self.evidence_size = evidence_size
        self.feature_size = latent
        self.belief_size = 0
        self.latent_size = latent
        self.posterior = mlp([evidence_size, hidden, 2 * latent])

    def initial_state(self, batch_size: int) -> VAEState:
        return VAEState(next(self.parameters()).new_zeros(batch_size, self.latent_size))

    def step(self, context: Tensor, state: VAEState) -> VAEState:
        return VAEState(self._prior(state.latent).draw())

    def prepare(
        self, contexts: Tensor, evidence: Tensor, mask: Tensor, state: VAEState
    ) -> Gaussian:
        return Gaussian.from_raw(self.posterior(evidence))

    def posterior_step(
        self, prepared: Gaussian, state: VAEState
    ) -> tuple[Gaussian, Gaussian, VAEState]:
        return prepared, self._prior(prepared.mean), VAEState(prepared.draw())

    def posterior_all(self, prepared: Gaussian, state: VAEState, particles: int) -> Inference:
        """Draws all latents at once: no posterior depends on another latent."""
        posterior = nested.map(lambda leaf: leaf.repeat(1, particles, 1), prepared)
        noise = noise_of_steps(len(posterior.mean), state.latent)
        states = VAEState(torch.addcmul(posterior.mean, posterior.std, noise))
        return Inference(states, posterior, self._prior(posterior.mean))

    def features(self, state: VAEState) -> Tensor:
        return state.latent

    def belief(self, state: VAEState) -> Tensor:
        """An empty belief, [*, 0]: rows before the last one carry no information on the next."""
        return state.latent[..., :0]

    def _prior(self, like: Tensor) -> Gaussian:
        return Gaussian(torch.zeros_like(like), torch.ones_like(like))
