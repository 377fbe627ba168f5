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

from worldmodel.cores.base import Gaussian, Inference, SequenceCore, priors_at_once
from worldmodel.nets import hear, mlp
from worldmodel.nets import recurrence as recurrence_of


class VRNNState(NamedTuple):
    hidden: Tensor  # [B, S], h and what else the recurrence keeps
    latent: Tensor  # [B, Z], z


class VRNNPrepared(NamedTuple):
    drive: Tensor  # [T, B, D], what the context gives to the recurrence
    evidence: Tensor  # [T, B, M], what the evidence gives to the posterior's hidden layer


class VRNN(SequenceCore):
    """A recurrence that hears its own latents: a GRU, or another of `nets.RECURRENCES`, in
    `layers`. Prior and posterior have one hidden layer each."""

    filtering = True
    steps = ("step", "explain", "_explain")

    def __init__(
        self,
        context_size: int,
        evidence_size: int,
        hidden: int = 128,
        latent: int = 16,
        latent_hidden: int = 64,
        recurrence: str = "gru",
        layers: int = 1,
    ):
        super().__init__()
        self.context_size = context_size
        self.evidence_size = evidence_size
        self.latent_size = latent
        self.feature_size = hidden + latent
        self.belief_size = hidden + latent
        self.recurrence = recurrence_of(recurrence, context_size, hidden, layers)
        self.latent_drive = nn.Linear(latent, self.recurrence.drive_size, bias=False)
        hear(self.latent_drive.weight, others=context_size)
        self.prior = mlp([hidden, latent_hidden, 2 * latent])
        self.posterior_evidence = nn.Linear(evidence_size, latent_hidden, bias=False)
        self.posterior_hidden = nn.Linear(hidden, latent_hidden)
        self.posterior_out = nn.Linear(latent_hidden, 2 * latent)

    def initial_state(self, batch_size: int) -> VRNNState:
        like = self.posterior_out.weight
        return VRNNState(
            like.new_zeros(batch_size, self.recurrence.state_size),
            like.new_zeros(batch_size, self.latent_size),
        )

    def step(self, context: Tensor, state: VRNNState) -> VRNNState:
        after = state._replace(hidden=self._recur(self.recurrence.drive(context), state))
        return after._replace(latent=self._prior(after).draw())

    def prepare(
        self, contexts: Tensor, evidence: Tensor, mask: Tensor, state: VRNNState
    ) -> VRNNPrepared:
        return VRNNPrepared(self.recurrence.drive(contexts), self.posterior_evidence(evidence))

    def explain(
        self, prepared: VRNNPrepared, state: VRNNState
    ) -> tuple[Gaussian, Gaussian, VRNNState]:
        posterior, state = self._explain(prepared, state)
        return posterior, self._prior(state), state

    def explain_all(self, prepared: VRNNPrepared, state: VRNNState, particles: int) -> Inference:
        return priors_at_once(self._explain, self._prior, prepared, state, particles)

    def features(self, state: VRNNState) -> Tensor:
        return torch.cat([self.recurrence.output(state.hidden), state.latent], -1)

    def belief(self, state: VRNNState) -> Tensor:
        """(h, z) of the filter."""
        return self.features(state)

    def _explain(self, prepared: VRNNPrepared, state: VRNNState) -> tuple[Gaussian, VRNNState]:
        hidden = self._recur(prepared.drive, state)
        output = self.recurrence.output(hidden)
        layer = F.silu(self.posterior_hidden(output) + prepared.evidence)
        posterior = Gaussian.from_raw(self.posterior_out(layer))
        return posterior, VRNNState(hidden, posterior.draw())

    def _prior(self, state: VRNNState) -> Gaussian:
        return Gaussian.from_raw(self.prior(self.recurrence.output(state.hidden)))

    def _recur(self, drive: Tensor, state: VRNNState) -> Tensor:
        """One step of the recurrence, which hears the context's share and the last latent."""
        heard = torch.addmm(drive, state.latent, self.latent_drive.weight.t())
        return self.recurrence.cell(heard, state.hidden)
