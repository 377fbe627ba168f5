"""Latents that are independent over time: the baseline of VAE-Seq
(https://github.com/google/vae-seq).

Graph: nothing connects latents but the recurrence that reads them.

    z_t ~ N(0, I)                       d_t = GRU(d_{t-1}, [context_t, z_t])
     |                                  x_t ~ p(x_t | d_t)
    d_{t-1} -> d_t <- context_t
                |                       f_t = GRU(f_{t-1}, context_t)
               x_t                      b_t = GRU(b_{t+1}, [context_t, evidence_t])    smoothing
                                        q(z_t | f_t, evidence_t, b_t) = N(mu_q, sigma_q)

The posterior of one latent does not depend on the draws of others, so all are drawn at once and
nothing is a loop over time but the fused recurrences. The past reaches the posterior through the
contexts: with feedback they hold all percepts so far.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from worldmodel import nested
from worldmodel.cores.base import (
    Gaussian,
    Inference,
    SequenceCore,
    noise_of_steps,
    reverse,
)
from worldmodel.nets import mlp
from worldmodel.recurrences import GRU, recurrence as recurrence_of


class IndependentState(NamedTuple):
    hidden: Tensor  # [B, S], d and what else the recurrence keeps
    forward: Tensor  # [B, M], f
    latent: Tensor  # [B, Z], z


class IndependentPrepared(NamedTuple):
    contexts: Tensor  # [T, B, C]
    forward: Tensor  # [T, B, M], f
    raw: Tensor  # [T, B, 2 Z], of the posterior


class Independent(SequenceCore):
    """Standard normal latents below a recurrence (a GRU, or another of `RECURRENCES`, in
    `layers`), with forward-backward inference or, without
    `smoothing`, forward inference only."""

    def __init__(
        self,
        context_size: int,
        evidence_size: int,
        hidden: int = 128,
        latent: int = 16,
        latent_hidden: int = 64,
        smoothing: bool = True,
        recurrence: str = "gru",
        layers: int = 1,
        dropout: float = 0.0,
    ):
        super().__init__()
        self.context_size = context_size
        self.evidence_size = evidence_size
        self.latent_size = latent
        self.latent_hidden = latent_hidden
        self.filtering = not smoothing
        self.recurrence = recurrence_of(recurrence, context_size + latent, hidden, layers, dropout)
        self.feature_size = self.recurrence.output_size
        self.belief_size = latent_hidden if smoothing else self.feature_size
        self.forward_reading = GRU(context_size, latent_hidden)
        reading = latent_hidden + evidence_size
        if smoothing:
            self.backward_reading = GRU(context_size + evidence_size, latent_hidden)
            reading += latent_hidden
        self.posterior = mlp([reading, latent_hidden, 2 * latent])

    def initial_state(self, batch_size: int) -> IndependentState:
        like = next(self.parameters())
        return IndependentState(
            like.new_zeros(batch_size, self.recurrence.state_size),
            like.new_zeros(batch_size, self.latent_hidden),
            like.new_zeros(batch_size, self.latent_size),
        )

    def step(self, context: Tensor, state: IndependentState) -> IndependentState:
        latent = Gaussian(torch.zeros_like(state.latent), torch.ones_like(state.latent)).draw()
        hidden = self._recur(context[None], latent[None], state.hidden)[0]
        forward = self.forward_reading(context[None], state.forward)
        return IndependentState(hidden, forward[0], latent)

    def prepare(
        self, contexts: Tensor, evidence: Tensor, mask: Tensor, state: IndependentState
    ) -> IndependentPrepared:
        forward = self.forward_reading(contexts, state.forward)
        read = [forward, evidence]
        if not self.filtering:
            rows = reverse(torch.cat([contexts, evidence], -1), mask)
            nothing = torch.zeros_like(state.forward)
            read.append(reverse(self.backward_reading(rows, nothing), mask))
        return IndependentPrepared(contexts, forward, self.posterior(torch.cat(read, -1)))

    def posterior_step(
        self, prepared: IndependentPrepared, state: IndependentState
    ) -> tuple[Gaussian, Gaussian, IndependentState]:
        posterior = Gaussian.from_raw(prepared.raw)
        latent = posterior.draw()
        hidden = self._recur(prepared.contexts[None], latent[None], state.hidden)[0]
        after = IndependentState(hidden, prepared.forward, latent)
        return posterior, self._prior(posterior), after

    def posterior_all(
        self, prepared: IndependentPrepared, state: IndependentState, particles: int
    ) -> Inference:
        """Draws all latents at once: no posterior depends on another latent."""
        prepared = nested.map(lambda leaf: leaf.repeat(1, particles, 1), prepared)
        posterior = Gaussian.from_raw(prepared.raw)
        noise = noise_of_steps(len(prepared.raw), state.latent)
        latent = torch.addcmul(posterior.mean, posterior.std, noise)
        hidden = self._recur(prepared.contexts, latent, state.hidden)
        states = IndependentState(hidden, prepared.forward, latent)
        return Inference(states, posterior, self._prior(posterior))

    def features(self, state: IndependentState) -> Tensor:
        return self.recurrence.output(state.hidden)

    def belief(self, state: IndependentState) -> Tensor:
        """The filter's d; for a smoother f, since its d has read latents, and those the future."""
        return self.recurrence.output(state.hidden) if self.filtering else state.forward

    def _recur(self, contexts: Tensor, latents: Tensor, hidden: Tensor) -> Tensor:
        return self.recurrence(torch.cat([contexts, latents], -1), hidden)

    def _prior(self, posterior: Gaussian) -> Gaussian:
        return Gaussian(torch.zeros_like(posterior.mean), torch.ones_like(posterior.std))
