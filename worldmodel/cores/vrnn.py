"""The variational recurrent network of Chung et al., 2015 (https://arxiv.org/abs/1506.02216).

Graph: latents are part of the recurrence, so the state holds what was drawn.

    context_t -> h_t <- z_{t-1}     h_t = GRU(h_{t-1}, [context_t, z_{t-1}])
                  |                 p(z_t | h_t) = N(mu_p, sigma_p)
                 z_t                q(z_t | h_t, evidence_t) = N(mu_q, sigma_q)
                  |
           x_t <- (h_t, z_t)

h_t is the paper's h_{t-1}: with feedback, context_t holds x_{t-1}, so that this is its equation 7,
h_{t-1} = f(x_{t-1}, z_{t-1}, h_{t-2}), and an action besides.
"""

import torch
from torch import Tensor, nn

from worldmodel.cores.base import LatentRecurrence, LatentState
from worldmodel.nets import init_input_weights, mlp
from worldmodel.recurrences import recurrence as recurrence_of


class VRNN(LatentRecurrence):
    """A recurrence that reads its own latents: a GRU, or another of `RECURRENCES`, in
    `layers`. Prior and posterior have one hidden layer each."""

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
        self.recurrence = recurrence_of(recurrence, context_size, hidden, layers)
        output = self.recurrence.output_size
        self.feature_size = self.belief_size = output + latent
        self.latent_projection = nn.Linear(latent, self.recurrence.projected_size, bias=False)
        init_input_weights(self.latent_projection.weight, others=context_size)
        shown = self.recurrence.projected_size - self.recurrence.skip_size
        nn.init.zeros_(
            self.latent_projection.weight.data[shown:]
        )  # at first, contexts as they are
        self.prior = mlp([output, latent_hidden, 2 * latent])
        self.posterior_evidence = nn.Linear(evidence_size, latent_hidden, bias=False)
        self.posterior_hidden = nn.Linear(output, latent_hidden)
        self.posterior_out = nn.Linear(latent_hidden, 2 * latent)

    def project_context(self, contexts: Tensor) -> Tensor:
        """The input projection of contexts to the gates, [*, D]."""
        return self.recurrence.projected(contexts)

    def advance_hidden(self, projected: Tensor, state: LatentState) -> Tensor:
        gates = torch.addmm(projected, state.latent, self.latent_projection.weight.t())
        return self.recurrence.cell(gates, state.hidden)
