"""The recurrent network: no latents, so its likelihood is exact.

Graph:      context_t -> d_t -> x_t
                          ^
                       d_{t-1}

    d_t = GRU(d_{t-1}, context_t)
    x_t ~ p(x_t | d_t)
"""

from typing import NamedTuple

from torch import Tensor

from worldmodel.cores.base import Gaussian, Inference, SequenceCore
from worldmodel.nets import gru


class RNNState(NamedTuple):
    hidden: Tensor  # [B, H]
    latent: Tensor  # [B, 0]


class RNNPrepared(NamedTuple):
    hidden: Tensor  # [T, B, H]


class RNN(SequenceCore):
    """A GRU over contexts."""

    filtering = True

    def __init__(self, context_size: int, evidence_size: int, hidden: int = 128):
        super().__init__()
        self.context_size = context_size
        self.evidence_size = evidence_size
        self.feature_size = hidden
        self.belief_size = hidden
        self.recurrence = gru(context_size, hidden)

    def initial_state(self, batch_size: int) -> RNNState:
        like = next(self.parameters())
        hidden = like.new_zeros(batch_size, self.feature_size)
        return RNNState(hidden, hidden[:, :0])

    def step(self, context: Tensor, state: RNNState) -> RNNState:
        hidden, _ = self.recurrence(context[None], state.hidden[None])
        return RNNState(hidden[0], state.latent)

    def prepare(
        self, contexts: Tensor, evidence: Tensor, mask: Tensor, state: RNNState
    ) -> RNNPrepared:
        return RNNPrepared(self.recurrence(contexts, state.hidden[None])[0])

    def explain(
        self, prepared: RNNPrepared, state: RNNState
    ) -> tuple[Gaussian, Gaussian, RNNState]:
        nothing = Gaussian(state.latent, state.latent)
        return nothing, nothing, RNNState(prepared.hidden, state.latent)

    def explain_all(self, prepared: RNNPrepared, state: RNNState, particles: int) -> Inference:
        """All at once: no latent is carried from row to row."""
        hidden = prepared.hidden.repeat(1, particles, 1)  # [T, K * B, H]
        states = RNNState(hidden, hidden[..., :0])
        nothing = Gaussian(states.latent, states.latent)
        return Inference(states, nothing, nothing)

    def features(self, state: RNNState) -> Tensor:
        return state.hidden

    def belief(self, state: RNNState) -> Tensor:
        return state.hidden
