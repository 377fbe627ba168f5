"""The sequence models written in the obvious way: a Python loop over cells and heads.

The same weights, the same noise, the same numbers as `ELBO` (a test compares the two to 1e-10);
nothing is fused over time, prepared ahead or shared between particles. It is what
`worldmodel bench cores` measures the package against, and the plainest statement of what the
package computes.
"""

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, distributions as td
from torch.nn import functional as F

from worldmodel.cores import RNN, RSSM, SRNN, VAE, VRNN, Independent
from worldmodel.cores.base import MINIMUM_STD
from worldmodel.model import FASTER, WorldModel
from worldmodel.recurrences import GRU, LSTM, NormalisedGRU, Recurrence
from worldmodel.sequences import Sequences

Draw = Callable[[Tensor], Tensor]  # like -> noise of its shape


class ObviousELBO:
    """Minus the evidence lower bound of whole windows, in nats a scored row: an `Objective`."""

    def __init__(self, model: WorldModel, draw: Draw = torch.randn_like):
        self.model = model
        self.draw = draw

    def initial_state(self) -> tuple[()]:
        return ()

    def __call__(
        self, batch: Sequences, state: Any, step: int
    ) -> tuple[Tensor, dict[str, float], Any]:
        """batch [T, B, ...], every row valid and scored, beginning with first rows."""
        loss = torch.stack(list(self.terms(batch))).sum() / batch.mask.numel()
        return loss, {"nats": loss.item()}, state

    def terms(self, batch: Sequences) -> Iterator[Tensor]:
        """The loss terms of the rows, [] nats each."""
        model = self.model
        encodings, contexts = [], []
        before = batch.rows.action.new_zeros(batch.mask.shape[1], model.percepts.size)
        if model.before is not None:
            before = before + FASTER * model.before
        for t in range(len(batch.mask)):
            row = type(batch.rows)(*(leaf[t] for leaf in batch.rows))
            encodings.append(model.percepts.encode(row))
            contexts.append(torch.cat([row.action, before], -1))
            before = encodings[-1]
        steps = STEPS[type(model.core)](model.core, contexts, encodings, self.draw)
        for t, (features, posterior, prior) in enumerate(steps):
            row = type(batch.rows)(*(leaf[t] for leaf in batch.rows))
            log_probs = model.percepts.predict(features).log_probs(row.percept)
            scored = {"observation": torch.ones_like(row.first)}
            for key, value in log_probs.items():
                yield -torch.where(scored.get(key, ~row.first), value, 0.0).sum()
            if posterior is not None:
                yield td.kl_divergence(posterior, prior).sum()


Steps = Iterator[tuple[Tensor, Any, Any]]  # features, posterior and prior of each row


def cell(recurrence: Recurrence, inputs: Tensor, state: Tensor) -> Tensor:
    """Computes one step of a recurrence, [B, I], [B, S] -> [B, S], as PyTorch's cells do."""
    if isinstance(recurrence, GRU):
        return torch.gru_cell(inputs, state, *recurrence.weights)
    if isinstance(recurrence, LSTM):
        before = state.chunk(2, -1)
        return torch.cat(torch.lstm_cell(inputs, before, *recurrence.weights), -1)
    assert isinstance(recurrence, NormalisedGRU)
    gates = recurrence.norm(recurrence.gates(torch.cat([inputs, state], -1)))
    reset, new, update = gates.chunk(3, -1)
    update = torch.sigmoid(update)
    return update * torch.tanh(torch.sigmoid(reset) * new) + (1 - update) * state


def normal(mean: Tensor, raw: Tensor) -> td.Distribution:
    """A diagonal Gaussian whose standard deviation is the softplus of `raw`."""
    return diagonal(mean, F.softplus(raw) + MINIMUM_STD)


def diagonal(mean: Tensor, std: Tensor) -> td.Distribution:
    """A diagonal Gaussian over [*, Z]."""
    return td.Independent(td.Normal(mean, std, validate_args=False), 1, validate_args=False)


def rnn(core: Any, contexts: list[Tensor], encodings: list[Tensor], draw: Draw) -> Steps:
    """d_t = GRU(d_{t-1}, context_t)"""
    hidden = core.initial_state(len(contexts[0])).hidden
    for context in contexts:
        hidden = cell(core.recurrence, context, hidden)
        yield hidden, None, None


def independent(core: Any, contexts: list[Tensor], encodings: list[Tensor], draw: Draw) -> Steps:
    """z_t ~ N(0, I) below a recurrence; forward-backward inference."""
    state = core.initial_state(len(contexts[0]))
    hidden, forward, backward = state.hidden, state.forward, torch.zeros_like(state.forward)
    forwards: list[Tensor] = []
    backwards: list[Tensor] = []
    for context in contexts:
        forward = cell(core.forward_reading, context, forward)
        forwards.append(forward)
    for context, encoding in zip(contexts[::-1], encodings[::-1], strict=True):
        backward = cell(core.backward_reading, torch.cat([context, encoding], -1), backward)
        backwards.insert(0, backward)
    for context, encoding, *read in zip(contexts, encodings, forwards, backwards, strict=True):
        posterior = normal(
            *core.posterior(torch.cat([read[0], encoding, read[1]], -1)).chunk(2, -1)
        )
        latent = posterior.mean + posterior.stddev * draw(posterior.mean)
        hidden = cell(core.recurrence, torch.cat([context, latent], -1), hidden)
        zeros = torch.zeros_like(latent)
        yield hidden, posterior, diagonal(zeros, zeros + 1)


def srnn(core: Any, contexts: list[Tensor], encodings: list[Tensor], draw: Draw) -> Steps:
    """A chain of latents above a recurrence; a backward recurrence reads for it."""
    state = core.initial_state(len(contexts[0]))
    hidden, latent = state.hidden, state.latent
    hiddens: list[Tensor] = []
    readings: list[Tensor] = []
    for context in contexts:
        hidden = cell(core.recurrence, context, hidden)
        hiddens.append(hidden)
    reading = hidden.new_zeros(len(hidden), core.latent_hidden)
    for hidden, encoding in zip(hiddens[::-1], encodings[::-1], strict=True):
        reading = cell(core.reading, torch.cat([hidden, encoding], -1), reading)
        readings.insert(0, reading)
    of_prior, of_posterior = core.from_latent.weight.chunk(2)
    for hidden, reading in zip(hiddens, readings, strict=True):
        layer = torch.tanh(core.prior_projection(hidden) + F.linear(latent, of_prior))
        mean, raw = (layer @ core.out[0] + core.out_bias[0]).chunk(2, -1)
        prior = normal(mean, raw)
        layer = torch.tanh(core.posterior_projection(reading) + F.linear(latent, of_posterior))
        shift, raw = (layer @ core.out[1] + core.out_bias[1]).chunk(2, -1)
        posterior = normal(mean + shift if core.res_q else shift, raw)
        latent = posterior.mean + posterior.stddev * draw(latent)
        yield torch.cat([hidden, core.gain * latent], -1), posterior, prior


def vrnn(core: Any, contexts: list[Tensor], encodings: list[Tensor], draw: Draw) -> Steps:
    """A recurrence that reads its own latents."""
    hidden, latent = core.initial_state(len(contexts[0]))
    recurrence = core.recurrence
    from_inputs = torch.cat([recurrence.from_input, core.latent_projection.weight], 1)
    for context, encoding in zip(contexts, encodings, strict=True):
        inputs = torch.cat([context, latent], -1)
        hidden = torch.gru_cell(inputs, hidden, from_inputs, *recurrence.weights[1:])
        prior = normal(*core.prior(hidden).chunk(2, -1))
        layer = F.silu(core.posterior_hidden(hidden) + core.posterior_evidence(encoding))
        posterior = normal(*core.posterior_out(layer).chunk(2, -1))
        latent = posterior.mean + posterior.stddev * draw(latent)
        yield torch.cat([hidden, latent], -1), posterior, prior


def rssm(core: Any, contexts: list[Tensor], encodings: list[Tensor], draw: Draw) -> Steps:
    """A normalised recurrence around Gaussian latents."""
    hidden, latent = core.initial_state(len(contexts[0]))
    for context, encoding in zip(contexts, encodings, strict=True):
        projected = core.input_norm(core.input_context(context) + core.input_latent(latent))
        hidden = cell(core.recurrence, torch.cat([context, F.silu(projected)], -1), hidden)
        prior = normal(*core.prior(hidden).chunk(2, -1))
        layer = F.silu(core.posterior_hidden(hidden) + core.posterior_evidence(encoding))
        posterior = normal(*core.posterior_out(layer).chunk(2, -1))
        latent = posterior.mean + posterior.stddev * draw(latent)
        yield torch.cat([hidden, latent], -1), posterior, prior


def vae(core: Any, contexts: list[Tensor], encodings: list[Tensor], draw: Draw) -> Steps:
    """z_t ~ N(0, I), and no memory."""
    for encoding in encodings:
        posterior = normal(*core.posterior(encoding).chunk(2, -1))
        latent = posterior.mean + posterior.stddev * draw(posterior.mean)
        zeros = torch.zeros_like(latent)
        yield latent, posterior, diagonal(zeros, zeros + 1)


STEPS: dict[type, Callable[[Any, list[Tensor], list[Tensor], Draw], Steps]] = {
    RNN: rnn,
    Independent: independent,
    SRNN: srnn,
    VRNN: vrnn,
    RSSM: rssm,
    VAE: vae,
}
