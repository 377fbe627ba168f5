"""The variational recurrent network of Chung et al., 2015 (https://arxiv.org/abs/1506.02216).

Graph: latents are part of the recurrence, so what was drawn is remembered.

    context_t -> h_t <- z_{t-1}     h_t = GRU(h_{t-1}, [context_t, z_{t-1}])
                  |                 p(z_t | h_t) = N(mu_p, sigma_p)
                 z_t                q(z_t | h_t, evidence_t) = N(mu_q, sigma_q)
                  |
           x_t <- (h_t, z_t)

h_t is the paper's h_{t-1}: with feedback, context_t holds x_{t-1}, so that this is its equation 7,
h_{t-1} = f(x_{t-1}, z_{t-1}, h_{t-2}), and an action besides.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from worldmodel.cores.base import Gaussian, SequenceCore
from worldmodel.nets import gru, mlp


class VRNNState(NamedTuple):
    hidden: Tensor  # [B, H], h
    latent: Tensor  # [B, Z], z


class VRNNPrepared(NamedTuple):
    drive: Tensor  # [T, B, 3 H], what the context gives to the recurrence
    evidence: Tensor  # [T, B, M], what the evidence gives to the posterior's hidden layer


class VRNN(SequenceCore):
    """A GRU that hears its own latents; prior and posterior have one hidden layer each."""

    filtering = True

    def __init__(
        self,
        context_size: int,
        evidence_size: int,
        hidden: int = 128,
        latent: int = 16,
        latent_hidden: int = 64,
    ):
        super().__init__()
        self.context_size = context_size
        self.evidence_size = evidence_size
        self.hidden_size = hidden
        self.latent_size = latent
        self.feature_size = hidden + latent
        self.belief_size = hidden + latent
        self.recurrence = gru(context_size + latent, hidden)
        self.prior = mlp([hidden, latent_hidden, 2 * latent])
        self.posterior_evidence = nn.Linear(evidence_size, latent_hidden, bias=False)
        self.posterior_hidden = nn.Linear(hidden, latent_hidden)
        self.posterior_out = nn.Linear(latent_hidden, 2 * latent)

    def initial_state(self, batch_size: int) -> VRNNState:
        like = self.posterior_out.weight
        return VRNNState(
            like.new_zeros(batch_size, self.hidden_size),
            like.new_zeros(batch_size, self.latent_size),
        )

    def step(self, context: Tensor, state: VRNNState) -> VRNNState:
        hidden = self._recur(self._drive(context), state)
        return VRNNState(hidden, Gaussian.from_raw(self.prior(hidden)).draw())

    def prepare(
        self, contexts: Tensor, evidence: Tensor, mask: Tensor, state: VRNNState
    ) -> VRNNPrepared:
        return VRNNPrepared(self._drive(contexts), self.posterior_evidence(evidence))

    def explain(
        self, prepared: VRNNPrepared, state: VRNNState
    ) -> tuple[Gaussian, Gaussian, VRNNState]:
        hidden = self._recur(prepared.drive, state)
        prior = Gaussian.from_raw(self.prior(hidden))
        layer = F.silu(self.posterior_hidden(hidden) + prepared.evidence)
        posterior = Gaussian.from_raw(self.posterior_out(layer))
        return posterior, prior, VRNNState(hidden, posterior.draw())

    def features(self, state: VRNNState) -> Tensor:
        return torch.cat([state.hidden, state.latent], -1)

    def belief(self, state: VRNNState) -> Tensor:
        """(h, z) of the filter."""
        return self.features(state)

    def _drive(self, context: Tensor) -> Tensor:
        """The context's share of the gates, [*, C] -> [*, 3 H]."""
        weight = self.recurrence.weight_ih_l0[:, : self.context_size]
        return F.linear(context, weight, self.recurrence.bias_ih_l0)

    def _recur(self, drive: Tensor, state: VRNNState) -> Tensor:
        """One step of the GRU, whose input is the context's share and the last latent."""
        weights = self.recurrence
        from_latent = weights.weight_ih_l0[:, self.context_size :]
        heard = torch.addmm(drive, state.latent, from_latent.t())
        recalled = F.linear(state.hidden, weights.weight_hh_l0, weights.bias_hh_l0)
        size = 2 * self.hidden_size
        reset, update = (heard[:, :size] + recalled[:, :size]).sigmoid().chunk(2, -1)
        new = torch.addcmul(heard[:, size:], reset, recalled[:, size:]).tanh()
        return torch.lerp(new, state.hidden, update)
