"""Reported likelihoods of models: lower bounds, and unbiased estimates.

All give nats by key [T, B], which add up to the bound of a whole sequence: the entry of a row and
key is what the bound of everything up to it exceeds the bound of everything before it by. The
latents' weights count with the observation. Base measure: counting for discrete parts, Lebesgue
for continuous ones. Rows that are not scored give 0. No weight or schedule of a loss enters.

Sequences of more than `LONGEST` rows are read in pieces, with states that are carried, so that
memory does not grow with them. To filters that makes no difference; a smoother's posterior does
not read rows after a piece, and what it gives is a bound as well, hardly a looser one.
"""

import math
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.distributions import kl_divergence

from worldmodel import nested, ranks
from worldmodel.cores import Inference, SequenceCore
from worldmodel.model import ModelState, WorldModel
from worldmodel.registry import Registry
from worldmodel.sequences import Sequences

AT_ONCE = 2**18  # rows times columns times particles that are held at once
LONGEST = 2**14  # rows that are read at once: longer sequences come in pieces, states are carried
DECODED = 2**24  # numbers that the decoder's widest layer gives of those that are decoded at once


def kl_closed_form(core: SequenceCore, inference: Inference) -> Tensor:
    """KL(q || p) of each row's latent, [T, B] nats."""
    posterior = core.latent_distribution(inference.posterior)
    return kl_divergence(posterior, core.latent_distribution(inference.prior))


def kl_monte_carlo(core: SequenceCore, inference: Inference) -> Tensor:
    """log q(z) - log p(z) at the latent that was drawn, [T, B] nats: its mean is the KL."""
    latent = inference.states.latent
    posterior = core.latent_distribution(inference.posterior).log_prob(latent)
    return posterior - core.latent_distribution(inference.prior).log_prob(latent)


def increments(model: WorldModel, sequences: Sequences, inference: Inference) -> dict[str, Tensor]:
    """The increments of log w = log p(x, z) - log q(z) by key, [T, K, B] nats.

    inference: of the core, leaves [T, K * B, ...].
    """
    log_probs = model.log_probs(inference.states, sequences)  # [T, K, B] each
    kl = kl_monte_carlo(model.core, inference).unflatten(1, (-1, sequences.mask.shape[1]))
    weights = torch.where(sequences.loss_mask[:, None], kl, 0.0)
    return log_probs | {"observation": log_probs["observation"] - weights}


@torch.no_grad()
def log_prob(
    model: WorldModel, sequences: Sequences, particles: int = 1, at_once: int = AT_ONCE
) -> dict[str, Tensor]:
    """A lower bound on log p(percepts | actions), in expectation: importance sampling.

    log 1/K sum_k prod_t p(x_t | z_t) p(z_t | ...) / q(z_t | ...) with K = `particles`
    (Burda et al. 2016, https://arxiv.org/abs/1509.00519, eq. 8, over whole sequences): the ELBO
    for K = 1, rising in K towards the likelihood, and equal to it for cores without latents.

    at_once: how many rows x columns x particles are held in memory; more are done in turn (but of
    a smoother at least a piece of `LONGEST` rows).
    """
    totals: dict[str, Tensor] = {}
    for parts in _in_groups(model, sequences, particles, at_once):
        weights = torch.stack(list(parts.values()), 1).double()  # [T, keys, K', B]
        sums = weights.flatten(0, 1).cumsum(0).logsumexp(1).unflatten(0, weights.shape[:2])
        for key, value in zip(parts, sums.unbind(1), strict=True):
            totals[key] = torch.logaddexp(totals[key], value) if key in totals else value
    bounds = torch.stack(list(totals.values()), 1).flatten(0, 1)  # [T * keys, B]
    bounds = bounds - math.log(particles)
    before = torch.cat([torch.zeros_like(bounds[:1]), bounds[:-1]])
    gains = torch.where(before == -torch.inf, 0.0, bounds - before)  # impossible gets no worse
    gains = gains.unflatten(0, (len(sequences.mask), -1))  # [T, keys, B]
    return dict(zip(totals, gains.unbind(1), strict=True))


@torch.no_grad()
def lower_bound(
    model: WorldModel, sequences: Sequences, particles: int = 1, at_once: int = AT_ONCE
) -> dict[str, Tensor]:
    """The evidence lower bound: the mean over particles, KL by Monte Carlo. at_once: see
    `log_prob`."""
    sums: dict[str, Tensor] = {}
    for parts in _in_groups(model, sequences, particles, at_once):
        for key, value in parts.items():
            sums[key] = sums.get(key, 0.0) + value.sum(1) / particles
    return sums


def particle_filter(
    model: WorldModel, sequences: Sequences, particles: int, threshold: float = 0.5
) -> dict[str, Tensor]:
    """A particle filter's estimate of log p(percepts | actions), whose exp is unbiased
    (Maddison et al. 2017, https://arxiv.org/abs/1705.09279, algorithm 1).

    Where a smaller share than `threshold` of the particles counts (1 / (K sum of squared
    normalised weights)), they are drawn anew in proportion to their weights (multinomially); with
    threshold 0 never, which is `log_prob`.
    """
    return filter_particles(model, sequences, particles, threshold)[0]


def filter_particles(
    model: WorldModel, sequences: Sequences, particles: int, threshold: float
) -> tuple[dict[str, Tensor], Tensor]:
    """`particle_filter`, and the log probability of the ancestors chosen after each row, [T, B]
    nats, zero where none were."""
    sequences = model.fill(sequences)
    time, batch_size = sequences.mask.shape
    state = model.initial_state(batch_size)
    core = nested.repeat(state.core, particles)
    columns = torch.arange(batch_size, device=sequences.mask.device)
    level = core.latent.new_tensor(-math.log(particles))
    weights = level.expand(particles, batch_size)  # log, normalised: they sum to one
    gains, choices = [], []
    for t in range(time):
        if t % LONGEST == 0:
            piece = nested.index(sequences, slice(t, t + LONGEST))
            reading = model.read(piece, state)
            arguments = reading.contexts, reading.evidence, reading.mask, reading.core
            prepared = nested.steps(model.core.prepare(*arguments))
        prepared_t = nested.repeat(prepared[t % LONGEST], particles)
        posterior, prior, core = model.core.posterior_step(prepared_t, core)
        inference = nested.map(lambda leaf: leaf[None], Inference(core, posterior, prior))
        parts = increments(model, nested.index(sequences, slice(t, t + 1)), inference)
        by_key = {}
        for key, increment in parts.items():
            weights = weights + increment[0]
            by_key[key] = weights.logsumexp(0)  # [B]
            weights = weights - by_key[key]
        gains.append(by_key)
        share = (-(2 * weights).logsumexp(0)).exp() / particles  # [B]
        poor = share < threshold
        chosen = torch.zeros_like(share)
        if ranks.any_column(poor):
            shares = weights.detach().exp().t()  # [B, K]
            drawn = ranks.drawn(partial(_chosen, number=particles), shares).t()
            chosen = torch.where(poor, weights.gather(0, drawn).sum(0), 0.0)
            kept = torch.arange(particles, device=drawn.device)[:, None].expand_as(drawn)
            ancestors = (torch.where(poor, drawn, kept) * batch_size + columns).flatten()
            core = nested.index(core, ancestors)
            weights = torch.where(poor, level, weights)
        choices.append(chosen)
        if (t + 1) % LONGEST == 0:
            state = ModelState(nested.index(core, slice(batch_size)), reading.last_history)
    return nested.stack(gains), torch.stack(choices)


def _chosen(weights: Tensor, number: int) -> Tensor:
    """Places of `number` draws by weights [B, K], int64 [B, number]."""
    return torch.multinomial(weights, number, replacement=True)


def _in_groups(
    model: WorldModel, sequences: Sequences, particles: int, at_once: int
) -> Iterator[dict[str, Tensor]]:
    """The increments of log w by key, [T, K', B], of one group of particles after another."""
    sequences = model.fill(sequences)
    time, batch_size = sequences.mask.shape
    width = max([1, *(x.shape[0] for x in model.percepts.decoder.parameters() if x.dim() > 1)])
    length = min(time, LONGEST)
    group = min(particles, max(1, at_once // (length * batch_size)))
    if model.core.filtering:
        length = min(length, max(1, at_once // (group * batch_size)))
    for begin in range(0, particles, group):
        drawn = min(group, particles - begin)
        decoded = max(1, DECODED // (width * drawn * batch_size))  # rows
        state: Any = model.initial_state(batch_size)
        chunks = []
        for t in range(0, time, length):
            rows = nested.index(sequences, slice(t, t + length))
            inference, state = model.infer(rows, state, drawn)
            for at in range(0, len(rows.mask), decoded):
                some = nested.index((rows, inference), slice(at, at + decoded))
                chunks.append(increments(model, *some))
        yield nested.concatenate(chunks)


BOUNDS: Registry[Callable[[WorldModel, Sequences, int], dict[str, Tensor]]] = Registry(
    "bound",
    {"elbo": lower_bound, "iwae": log_prob, "fivo": torch.no_grad()(particle_filter)},
)
"""Reportable bounds by name: (model, sequences [T, B, ...], particles) -> nats by key [T, B]."""


def register_bound(
    name: str, bound: Callable[[WorldModel, Sequences, int], dict[str, Tensor]]
) -> None:
    """Adds a reportable bound to `BOUNDS`: (model, sequences [T, B, ...], particles) -> nats by
    key [T, B], which add up to the bound."""
    BOUNDS.register(name, bound)
