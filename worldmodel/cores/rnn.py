"""The recurrent network: no latents, so its likelihood is exact.

Graph:      context_t -> d_t -> x_t
                          ^
                       d_{t-1}

    d_t = GRU(d_{t-1}, context_t)          or an LSTM, or a layer-normalised GRU; in layers
    x_t ~ p(x_t | d_t)
"""

from typing import NamedTuple

from torch import Tensor

from worldmodel.cores.base import Gaussian, Inference, SequenceCore
from worldmodel.recurrences import recurrence as recurrence_of


class RNNState(NamedTuple):
    hidden: Tensor  # [B, S], d and what else the recurrence keeps
    latent: Tensor  # [B, 0]


class RNNPrepared(NamedTuple):
    hidden: Tensor  # [T, B, S]


class RNN(SequenceCore):
    """A recurrence over contexts: a GRU, or another of `RECURRENCES`, in `layers`."""

    filtering = True
    belief_of_rows = True

    def __init__(
        self,
        context_size: int,
        evidence_size: int,
        hidden: int = 128,
        recurrence: str = "gru",
        layers: int = 1,
        dropout: float = 0.0,
    ):
        super().__init__()
        self.context_size = context_size
        self.evidence_size = evidence_size
        self.recurrence = recurrence_of(recurrence, context_size, hidden, layers, dropout)
        self.feature_size = self.belief_size = self.recurrence.output_size

    def initial_state(self, batch_size: int) -> RNNState:
        like = next(self.parameters())
        hidden = like.new_zeros(batch_size, self.recurrence.state_size)
        return RNNState(hidden, hidden[:, :0])

    def step(self, context: Tensor, state: RNNState) -> RNNState:
        hidden = self.recurrence.step(context, state.hidden)
        return RNNState(hidden, state.latent)

    def prepare(
        self, contexts: Tensor, evidence: Tensor, mask: Tensor, state: RNNState
    ) -> RNNPrepared:
        return RNNPrepared(self.recurrence(contexts, state.hidden))

    def posterior_step(
        self, prepared: RNNPrepared, state: RNNState
    ) -> tuple[Gaussian, Gaussian, RNNState]:
        nothing = Gaussian(state.latent, state.latent)
        return nothing, nothing, RNNState(prepared.hidden, state.latent)

    def posterior_all(self, prepared: RNNPrepared, state: RNNState, particles: int) -> Inference:
        """Infers all rows at once: no latent is carried from row to row."""
        hidden = prepared.hidden.repeat(1, particles, 1)  # [T, K * B, S]
        states = RNNState(hidden, hidden[..., :0])
        nothing = Gaussian(states.latent, states.latent)
        return Inference(states, nothing, nothing)

    def features(self, state: RNNState) -> Tensor:
        return self.recurrence.output(state.hidden)

    def belief(self, state: RNNState) -> Tensor:
        return self.recurrence.output(state.hidden)
