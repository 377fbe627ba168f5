"""The recurrent state-space model of Hafner et al., 2019 (https://arxiv.org/abs/1811.04551), with
the categorical latents of DreamerV2 (https://arxiv.org/abs/2010.02193) and the unimix and the
normalised GRU of DreamerV3 (https://arxiv.org/abs/2301.04104).

Graph: as in the VRNN latents are part of the recurrence; without feedback, they are the only way
by which a percept gets into the state.

    context_t -> h_t <- z_{t-1}     h_t = GRU(h_{t-1}, [context_t, g(context_t, z_{t-1})])
                  |                 p(z_t | h_t)
                 z_t                q(z_t | h_t, evidence_t)
                  |
           x_t <- (h_t, z_t)

z_t is a diagonal Gaussian, or `latent` categoricals over `latent_classes` values each, as one-hot
codes whose gradient goes straight through to the probabilities. The papers' context is the action
alone (no feedback), and goes through g only; with feedback it holds what must be remembered, which
behind a layer that is learned, too, takes several times as long. Layers are normalised where they
are part of the recurrence; normalised layers of prior and posterior delayed it as much.
"""

from typing import Any

import torch
from torch import Tensor, distributions as td, nn
from torch.nn import functional as F

from worldmodel.cores.base import QUIET, Gaussian, LatentRecurrence, LatentState, OneHots
from worldmodel.distributions import OneHotVectors
from worldmodel.nets import mlp
from worldmodel.recurrences import recurrence as recurrence_of


class RSSM(LatentRecurrence):
    """A recurrence around latents: a layer-normalised GRU, or another of `RECURRENCES`, in
    `layers`.

    latent_classes: 0 for Gaussian latents; unimix: the share of every categorical that is uniform.
    """

    def __init__(
        self,
        context_size: int,
        evidence_size: int,
        hidden: int = 128,
        latent: int = 16,
        latent_hidden: int = 64,
        latent_classes: int = 0,
        unimix: float = 0.01,
        recurrence: str = "normalised-gru",
        layers: int = 1,
    ):
        super().__init__()
        if latent_classes < 0 or latent_classes == 1:
            raise ValueError(
                f"latent_classes is 0 (Gaussian latents) or 2 and more, got {latent_classes}"
            )
        self.context_size = context_size
        self.evidence_size = evidence_size
        self.latent_classes = latent_classes
        self.unimix = unimix
        self.latent_size = latent * latent_classes if latent_classes else latent
        parameters = self.latent_size if latent_classes else 2 * latent
        self.input_context = nn.Linear(context_size, latent_hidden, bias=False)
        self.input_latent = nn.Linear(self.latent_size, latent_hidden, bias=False)
        self.input_latent.weight.data.mul_(QUIET)  # large latents early on delay learning
        self.input_norm = nn.LayerNorm(latent_hidden)
        self.recurrence = recurrence_of(recurrence, context_size + latent_hidden, hidden, layers)
        output = self.recurrence.output_size
        self.feature_size = self.belief_size = output + self.latent_size
        self.prior = mlp([output, latent_hidden, parameters])
        self.posterior_evidence = nn.Linear(evidence_size, latent_hidden, bias=False)
        self.posterior_hidden = nn.Linear(output, latent_hidden)
        self.posterior_out = nn.Linear(latent_hidden, parameters)

    def project_context(self, contexts: Tensor) -> tuple[Tensor, Tensor]:
        """The contexts [*, C], and their projection to g [*, M]."""
        return contexts, self.input_context(contexts)

    def advance_hidden(self, projected: tuple[Tensor, Tensor], state: LatentState) -> Tensor:
        context, inner = projected
        inner = F.silu(self.input_norm(inner + self.input_latent(state.latent)))  # [B, M], g
        return self.recurrence.step(torch.cat([context, inner], -1), state.hidden)

    def parameters_of(self, raw: Tensor) -> Gaussian | OneHots:
        if not self.latent_classes:
            return Gaussian.from_raw(raw)
        return OneHots.from_raw(raw.unflatten(-1, (self.latent_classes, -1)), self.unimix)

    def latent_distribution(self, parameters: Any) -> td.Distribution:
        if isinstance(parameters, OneHots):
            return OneHotVectors(parameters.logits)
        return super().latent_distribution(parameters)
