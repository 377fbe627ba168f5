"""What models are trained on, and what is reported of them.

An objective is `(batch, carried state, step) -> (loss, metrics, carried state)`. Weights and
schedules change a loss; `log_prob`, which is what gets reported, knows none of them.
"""

import math
from collections.abc import Callable
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.distributions import kl_divergence

from worldmodel import nested
from worldmodel.cores import Inference
from worldmodel.model import ModelState, WorldModel
from worldmodel.sequences import Sequences

Schedule = Callable[[int], float]
Metrics = dict[str, float]


class Objective(Protocol):
    """A loss of a batch; `state` is what is carried from one update to the next."""

    def initial_state(self) -> Any: ...

    def __call__(self, batch: Any, state: Any, step: int) -> tuple[Tensor, Metrics, Any]: ...


def constant(value: float) -> Schedule:
    """The same value at every step."""
    return lambda step: value


def linear(start: float, end: float, steps: int) -> Schedule:
    """From `start` to `end` within `steps`, then `end`.

    >>> [linear(0.0, 1.0, 4)(step) for step in (0, 2, 9)]
    [0.0, 0.5, 1.0]
    """
    return lambda step: end if step >= steps else start + (end - start) * step / steps


def half_life(start: float, steps: float) -> Schedule:
    """From `start`, halved every `steps`.

    >>> [half_life(1.0, 4)(step) for step in (0, 4, 8)]
    [1.0, 0.5, 0.25]
    """
    return lambda step: start * 0.5 ** (step / steps)


def cosine(start: float, end: float, steps: int) -> Schedule:
    """From `start` to `end` within `steps` along half a cosine, then `end`."""

    def schedule(step: int) -> float:
        return end if step >= steps else end + (start - end) * _half_cosine(step / steps)

    return schedule


def cyclical(schedule: Schedule, steps: int) -> Schedule:
    """The first `steps` of a schedule, over and over.

    >>> [cyclical(linear(0.0, 1.0, 4), 4)(step) for step in (0, 3, 4)]
    [0.0, 0.75, 0.0]
    """
    return lambda step: schedule(step % steps)


def _half_cosine(x: float) -> float:
    """From 1 at x = 0 to 0 at x = 1."""
    return 0.5 * (1 + math.cos(math.pi * x))


def kl_closed_form(model: WorldModel, inference: Inference) -> Tensor:
    """KL(q || p) of each row's latent, [T, B] nats."""
    posterior = model.core.latent_distribution(inference.posterior)
    return kl_divergence(posterior, model.core.latent_distribution(inference.prior))


def kl_monte_carlo(model: WorldModel, inference: Inference) -> Tensor:
    """log q(z) - log p(z) at the latent that was drawn, [T, B] nats: its mean is the KL."""
    latent = inference.states.core.latent
    posterior = model.core.latent_distribution(inference.posterior).log_prob(latent)
    return posterior - model.core.latent_distribution(inference.prior).log_prob(latent)


def _scored_rows(batch: list[Sequences]) -> Tensor:
    """How many rows a batch of blocks scores, one at least: what a loss is divided by."""
    return torch.stack([block.scored.sum() for block in batch]).sum().clamp(min=1)


class Bound:
    """What the bounds share: a model, K particles, and that nothing is carried between updates."""

    regresses = False  # adds the losses of what the decoder regresses

    def __init__(self, model: WorldModel, particles: int):
        if particles < 1:
            raise ValueError(
                f"{type(self).__name__} expects one particle or more, got {particles}"
            )
        if model.decoder.regressed and not self.regresses:
            raise ValueError(
                f"{type(self).__name__} is a bound alone, but the decoder regresses "
                f"{', '.join(model.decoder.regressed)}, which nothing would teach it; train by "
                "the ELBO, or build the decoder without a regression"
            )
        self.model = model
        self.particles = particles

    def initial_state(self) -> tuple[()]:
        return ()


class ELBO(Bound):
    """Minus the evidence lower bound, in nats a scored row.

    With K `particles` it is the mean of K bounds (VAE_K: less noise for K times the computation).
    `kl_weight` is a schedule over updates; a weight other than 1 makes the loss no bound, and
    the metrics give the unweighted parts. What the decoder regresses (`TwoHotRegression`) is
    learned besides: its loss is added, under a metric of its own, and is no part of the bound.
    """

    regresses = True

    def __init__(
        self,
        model: WorldModel,
        kl_weight: Schedule = constant(1.0),
        kl: Callable[[WorldModel, Inference], Tensor] = kl_closed_form,
        particles: int = 1,
    ):
        super().__init__(model, particles)
        self.kl_weight = kl_weight
        self.kl = kl

    def __call__(
        self, batch: list[Sequences], state: Any, step: int
    ) -> tuple[Tensor, Metrics, Any]:
        """batch: blocks of [T, B, ...], scored as one."""
        rows = _scored_rows(batch)
        sums: dict[str, Tensor] = {}
        regressions: dict[str, Tensor] = {}
        for block in batch:
            before = self.model.initial_state(block.mask.shape[1])
            inference, _ = self.model.infer(block, before, self.particles)
            log_probs = self.model.log_probs(inference.states, block)  # [T, K, B] each
            parts = {f"{key}_nats": -value.sum() for key, value in log_probs.items()}
            scored = block.scored.repeat(1, self.particles)
            kl = torch.where(scored, self.kl(self.model, inference), 0.0)
            for key, value in (parts | {"kl_nats": kl.sum()}).items():
                sums[key] = sums.get(key, 0.0) + value / (rows * self.particles)
            for key, value in self.model.regression_losses(inference.states, block).items():
                loss = value.sum() / (rows * self.particles)
                regressions[f"{key}_regression"] = regressions.get(f"{key}_regression", 0.0) + loss
        bound = -torch.stack(list(sums.values())).sum()
        loss = (self.kl_weight(step) - 1.0) * sums["kl_nats"] - bound
        metrics = {key: value.item() for key, value in (sums | regressions).items()}
        return loss + sum(regressions.values()), metrics | {"elbo_nats": bound.item()}, state


class IWAE(Bound):
    """Minus the importance-weighted bound of whole windows, in nats a scored row
    (Burda et al. 2016, https://arxiv.org/abs/1509.00519, eq. 8):

        log 1/K sum_k exp( sum_t log w_t^k )

    The sum over time comes before the mean over particles: a window is one sample. Metrics give
    the bound, the mean of the K lower bounds, and the share of particles that count (1 / (K sum
    of squared normalised weights)).
    """

    def __call__(
        self, batch: list[Sequences], state: Any, step: int
    ) -> tuple[Tensor, Metrics, Any]:
        """batch: blocks of [T, B, ...], scored as one."""
        rows = _scored_rows(batch)
        by_block = [_increments(self.model, block, self.particles) for block in batch]
        whole = [torch.stack(list(parts.values())).sum((0, 1)) for parts in by_block]
        weights = torch.cat(whole, -1)  # [K, B], of whole windows
        bound = (weights.logsumexp(0) - math.log(self.particles)).sum() / rows
        share = 1 / (weights.softmax(0).square().sum(0) * self.particles)  # [B]
        metrics = {
            "bound_nats": bound.item(),
            "elbo_nats": (weights.mean(0).sum() / rows).item(),
            "effective_particles": share.mean().item(),
        }
        return -bound, metrics, state


class FIVO(Bound):
    """Minus the filtering bound, in nats a scored row (Maddison et al. 2017,
    https://arxiv.org/abs/1705.09279): the log of a particle filter's estimate of the likelihood,
    which is unbiased, so that its log is a lower bound in expectation.

    The gradient through the choice of ancestors is left out, as the paper does: its variance is
    far above its use. It wants a filtering posterior: with a smoother it is still a bound, but
    resampling discards particles for what they foresaw.
    """

    def __init__(self, model: WorldModel, particles: int, threshold: float = 0.5):
        """threshold: resamples where fewer than this share of the particles counts."""
        super().__init__(model, particles)
        self.threshold = threshold

    def __call__(
        self, batch: list[Sequences], state: Any, step: int
    ) -> tuple[Tensor, Metrics, Any]:
        """batch: blocks of [T, B, ...], scored as one."""
        rows = _scored_rows(batch)
        sums: dict[str, Tensor] = {}
        for block in batch:
            gains = particle_filter(self.model, block, self.particles, self.threshold)
            for key, value in gains.items():
                sums[f"{key}_nats"] = sums.get(f"{key}_nats", 0.0) - value.sum() / rows
        loss = torch.stack(list(sums.values())).sum()
        metrics = {key: value.item() for key, value in sums.items()}
        return loss, metrics | {"bound_nats": -loss.item()}, state


def particle_filter(
    model: WorldModel, sequences: Sequences, particles: int, threshold: float = 0.5
) -> dict[str, Tensor]:
    """A particle filter's estimate of log p(percepts | actions): nats by key [T, B].

    As in `log_prob` the entry of a row and key is what the estimate of everything up to it exceeds
    that of everything before it by. Where a smaller share than `threshold` of the particles counts
    (1 / (K sum of squared normalised weights)), they are drawn anew in proportion to their weights
    (multinomially); with threshold 0 never, which is `log_prob`. exp of the sum is unbiased.
    """
    batch_size = sequences.mask.shape[1]
    prepared, core = model.prepare(sequences, model.initial_state(batch_size))
    core = nested.repeat(core, particles)
    columns = torch.arange(batch_size, device=sequences.mask.device)
    level = core.latent.new_tensor(-math.log(particles))
    weights = level.expand(particles, batch_size)  # log, normalised: they sum to one
    gains = []
    for t, prepared_t in enumerate(nested.steps(prepared)):
        posterior, prior, core = model.core.explain(nested.repeat(prepared_t, particles), core)
        row = nested.index(sequences, slice(t, t + 1))
        inference = nested.map(lambda leaf: leaf[None], Inference(core, posterior, prior))
        states = ModelState(inference.states, core.latent[None])  # no history is read here
        increments = _weigh(model, inference._replace(states=states), row, particles)
        by_key = {}
        for key, increment in increments.items():
            weights = weights + increment[0]
            by_key[key] = weights.logsumexp(0)  # [B]
            weights = weights - by_key[key]
        gains.append(by_key)
        share = (-(2 * weights).logsumexp(0)).exp() / particles  # [B]
        poor = share < threshold
        if poor.any():
            drawn = torch.multinomial(weights.detach().exp().t(), particles, replacement=True).t()
            kept = torch.arange(particles, device=drawn.device)[:, None].expand_as(drawn)
            ancestors = (torch.where(poor, drawn, kept) * batch_size + columns).flatten()
            core = nested.index(core, ancestors)
            weights = torch.where(poor, level, weights)
    return nested.stack(gains)


def _weigh(
    model: WorldModel, inference: Inference, sequences: Sequences, particles: int
) -> dict[str, Tensor]:
    """The increments of log w by key, [T, K, B]; the latents' count with the observation."""
    log_probs = model.log_probs(inference.states, sequences)  # [T, K, B] each
    kl = kl_monte_carlo(model, inference).unflatten(1, (particles, -1))
    weights = torch.where(sequences.scored[:, None], kl, 0.0)
    return log_probs | {"observation": log_probs["observation"] - weights}


def _increments(model: WorldModel, sequences: Sequences, particles: int) -> dict[str, Tensor]:
    """The increments of log w by key, [T, K, B], all particles on their own."""
    start = model.initial_state(sequences.mask.shape[1])
    inference, _ = model.infer(sequences, start, particles)
    return _weigh(model, inference, sequences, particles)


@torch.no_grad()
def log_prob(model: WorldModel, sequences: Sequences, particles: int = 1) -> dict[str, Tensor]:
    """A lower bound on log p(percepts | actions), in expectation: importance sampling.

    log 1/K sum_k prod_t p(x_t | z_t) p(z_t | ...) / q(z_t | ...) with K = `particles`
    (Burda et al. 2016, eq. 8, over whole sequences): the ELBO for K = 1, rising in K towards the
    likelihood, and equal to it for cores without latents.

    Returns nats by key [T, B], which add up to the bound. The entry of a row and key is what the
    bound of everything up to it exceeds the bound of everything before it by; the latents'
    weights count with the observation. Base measure: counting for discrete parts, Lebesgue for
    continuous ones. Rows that are not scored give 0.
    """
    log_probs = _increments(model, sequences, particles)
    increments = torch.stack(list(log_probs.values()), 1)  # [T, keys, K, B]
    weights = increments.flatten(0, 1).double().cumsum(0)  # [T * keys, K, B]
    bounds = torch.logsumexp(weights, 1) - math.log(particles)  # [T * keys, B]
    before = torch.cat([torch.zeros_like(bounds[:1]), bounds[:-1]])
    gains = torch.where(before == -torch.inf, 0.0, bounds - before)  # impossible gets no worse
    gains = gains.unflatten(0, (len(sequences.mask), -1))  # [T, keys, B]
    return dict(zip(log_probs, gains.unbind(1), strict=True))


@torch.no_grad()
def lower_bound(model: WorldModel, sequences: Sequences, particles: int = 1) -> dict[str, Tensor]:
    """The evidence lower bound by key, [T, B] nats: the mean over particles, KL by Monte Carlo."""
    return {key: x.mean(1) for key, x in _increments(model, sequences, particles).items()}


BOUNDS: dict[str, Callable[[WorldModel, Sequences, int], dict[str, Tensor]]] = {
    "elbo": lower_bound,
    "iwae": log_prob,
    "fivo": torch.no_grad()(particle_filter),
}
