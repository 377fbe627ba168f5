"""Training objectives of world models.

An objective is `(batch, carried state, step) -> (loss, metrics, carried state)`. Weights and
schedules change a loss; the reported `likelihoods` depend on none of them.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import torch
from torch import Tensor

from worldmodel import nested, ranks
from worldmodel.cores import Inference, SequenceCore
from worldmodel.likelihoods import filter_particles, increments, kl_closed_form
from worldmodel.model import WorldModel
from worldmodel.registry import Registry, check_options, options_taken
from worldmodel.schedules import Schedule, constant, cyclical, linear
from worldmodel.sequences import Sequences

Metrics = dict[str, float]
Figures = dict[str, Any]
"""The metrics of an objective: numbers, or tensors [] without a history, which `Trainer.update`
reads all at once, as a GPU has to finish its work for each reading."""


class Objective(Protocol):
    """A loss of a batch; `state` is what is carried from one update to the next."""

    def initial_state(self) -> Any:
        """The state to begin with."""

    def __call__(self, batch: Any, state: Any, step: int) -> tuple[Tensor, Figures, Any]: ...


def _scored_rows(batch: list[Sequences]) -> Tensor:
    """The number of scored rows in a batch of blocks, at least one: the divisor of a loss."""
    return torch.stack([block.loss_mask.sum() for block in batch]).sum().clamp(min=1)


class Bound:
    """The base of bounds: a model, K particles, and a state carried between updates.

    With `carries`, a batch is one block of windows that go on from those of the batch before (see
    `SequentialBatches`): each column begins with the state that it ended with, and so does each
    particle, but no gradient goes back further.
    """

    regresses = False  # adds the losses of what the decoder regresses

    def __init__(self, model: WorldModel, particles: int, carries: bool = False):
        if particles < 1:
            raise ValueError(
                f"{type(self).__name__} expects one particle or more, got {particles}"
            )
        if model.percepts.regressed and not self.regresses:
            raise ValueError(
                f"{type(self).__name__} is a bound alone, but the decoder regresses "
                f"{', '.join(model.percepts.regressed)}, which nothing would teach it; train by "
                "the ELBO, or build the decoder without a regression"
            )
        self.model = model
        self.particles = particles
        self.carries = carries

    def initial_state(self) -> Any:
        """The state to begin with: of no columns, or empty where none is carried."""
        return self.model.initial_state(0) if self.carries else ()

    def _fill(self, batch: list[Sequences]) -> list[Sequences]:
        """The blocks with placeholders, as the model reads and scores them."""
        return [self.model.fill(block) for block in batch]

    def _explain(self, batch: list[Sequences], state: Any) -> tuple[list[Inference], Any]:
        """The core's inference of each block, and the state to carry."""
        if not self.carries:
            infer, blocks = self.model.infer, ranks.in_turn(batch)
            return [infer(block, particles=self.particles)[0] for block in blocks], state
        (block,) = batch
        size = block.mask.shape[1]
        if len(state.history) != self.particles * size:  # other columns, which all begin anew
            state = self.model.initial_state(size)
        inference, state = self.model.infer(block, state, self.particles)
        return [inference], nested.map(Tensor.detach, state)


class ELBO(Bound):
    """Minus the evidence lower bound, in nats a scored row.

    With K `particles` it is the mean of K bounds (VAE_K: less noise for K times the computation).
    What the decoder regresses (`TwoHotRegression`) is learned besides: its loss is added, under a
    metric of its own, and is no part of the bound. The metric `nats` is minus the bound, the sum
    of its parts (`observation_nats`, `kl_nats` and so on): lower is better. What makes the loss no
    bound, and changes no metric:

    - kl_weight: of the divergence, a schedule over updates;
    - free_nats: a row's divergence below it is not made smaller (Kingma et al. 2016,
      https://arxiv.org/abs/1606.04934, section C.8);
    - kl_balance: how much of the divergence's gradient goes to the prior, the rest going to the
      posterior (Hafner et al. 2021, https://arxiv.org/abs/2010.02193, algorithm 2: 0.8); None:
      the true gradient. 1 and 0.1 of DreamerV3 are a weight of 1.1 and a balance of 1 / 1.1.
    """

    regresses = True

    def __init__(
        self,
        model: WorldModel,
        kl_weight: Schedule = constant(1.0),
        kl: Callable[[SequenceCore, Inference], Tensor] = kl_closed_form,
        particles: int = 1,
        free_nats: float = 0.0,
        kl_balance: float | None = None,
        carries: bool = False,
    ):
        super().__init__(model, particles, carries)
        if kl_balance is not None and not 0 <= kl_balance <= 1:
            raise ValueError(f"kl_balance is a share between 0 and 1, got {kl_balance}")
        self.kl_weight = kl_weight
        self.kl = kl
        self.free_nats = free_nats
        self.kl_balance = kl_balance

    def __call__(
        self, batch: list[Sequences], state: Any, step: int
    ) -> tuple[Tensor, Figures, Any]:
        """batch: blocks of [T, B, ...], scored as one."""
        batch = self._fill(batch)
        inferences, state = self._explain(batch, state)
        return *self.loss(batch, inferences, step), state

    def loss(
        self, batch: list[Sequences], inferences: list[Inference], step: int
    ) -> tuple[Tensor, Figures]:
        """The loss of blocks that `WorldModel.infer` has inferred."""
        rows = _scored_rows(batch)
        sums: dict[str, Tensor] = {}
        regressions: dict[str, Tensor] = {}
        for block, inference in zip(ranks.in_turn(batch), inferences, strict=True):
            features = self.model.core.features(inference.states)
            log_probs, losses = self.model.percepts.scores(features, block)  # [T, K, B] each
            parts = {f"{key}_nats": -value.sum() for key, value in log_probs.items()}
            scored = block.loss_mask.repeat(1, self.particles)
            kl = self.kl(self.model.core, inference)
            parts["kl_nats"] = torch.where(scored, kl, 0.0).sum()
            parts["penalty"] = torch.where(scored, self._penalty(kl, inference), 0.0).sum()
            for key, value in parts.items():
                sums[key] = sums.get(key, 0.0) + value / (rows * self.particles)
            for key, value in losses.items():
                loss = value.sum() / (rows * self.particles)
                regressions[f"{key}_regression"] = regressions.get(f"{key}_regression", 0.0) + loss
        penalty = sums.pop("penalty")
        negative = torch.stack(list(sums.values())).sum()
        metrics = {key: value.detach() for key, value in (sums | regressions).items()}
        loss = negative - sums["kl_nats"] + self.kl_weight(step) * penalty
        loss = loss + sum(regressions.values())
        return loss, metrics | {"nats": negative.detach()}

    def _penalty(self, kl: Tensor, inference: Inference) -> Tensor:
        """The divergence term of the loss, [T, K * B] nats before its weight."""
        if self.kl_balance is not None:
            drawn = nested.map(torch.Tensor.detach, (inference.states, inference.posterior))
            of_prior = self.kl(self.model.core, Inference(*drawn, inference.prior))
            fixed = nested.map(torch.Tensor.detach, inference.prior)
            of_posterior = self.kl(self.model.core, inference._replace(prior=fixed))
            kl = torch.lerp(of_posterior, of_prior, self.kl_balance)
        return kl.clamp(min=self.free_nats) if self.free_nats else kl


class IWAE(Bound):
    """Minus the importance-weighted bound of whole windows, in nats a scored row
    (Burda et al. 2016, https://arxiv.org/abs/1509.00519, eq. 8):

        log 1/K sum_k exp( sum_t log w_t^k )

    The sum over time comes before the mean over particles: a window is one sample (also where
    states are carried on: weights are not). Metrics give
    minus the bound (`nats`), minus the mean of the K lower bounds (`elbo_nats`), and the share of
    particles that count (1 / (K sum of squared normalised weights)).
    """

    def __call__(
        self, batch: list[Sequences], state: Any, step: int
    ) -> tuple[Tensor, Figures, Any]:
        """batch: blocks of [T, B, ...], scored as one."""
        batch = self._fill(batch)
        rows = _scored_rows(batch)
        inferences, state = self._explain(batch, state)
        pairs = zip(ranks.in_turn(batch), inferences, strict=True)
        by_block = [increments(self.model, block, inference) for block, inference in pairs]
        whole = [torch.stack(list(parts.values())).sum((0, 1)) for parts in by_block]
        weights = torch.cat(whole, -1)  # [K, B], of whole windows
        bound = (weights.logsumexp(0) - math.log(self.particles)).sum() / rows
        share = 1 / (weights.softmax(0).square().sum(0) * self.particles)  # [B]
        metrics = {
            "nats": -bound.detach(),
            "elbo_nats": -(weights.mean(0).sum() / rows).detach(),
            "effective_particles": share.mean().detach(),
        }
        return -bound, metrics, state


class FIVO(Bound):
    """Minus the filtering bound, in nats a scored row (Maddison et al. 2017,
    https://arxiv.org/abs/1705.09279): the log of a particle filter's estimate of the likelihood,
    which is unbiased, so that its log is a lower bound in expectation.
    The metric `nats` is minus the bound.

    It wants a filtering posterior: with a smoother it is still a bound, but resampling discards
    particles for information on later rows.
    """

    def __init__(
        self,
        model: WorldModel,
        particles: int,
        threshold: float = 0.5,
        resampling_gradient: bool = False,
    ):
        """threshold: resamples where fewer than this share of the particles counts.

        resampling_gradient: without it the gradient through the choice of ancestors is left out,
        as the paper does, because its variance is far above its use; with it the gradient is the
        bound's (section 3.2: the score function of each choice, times what is gained after it).
        """
        super().__init__(model, particles)
        self.threshold = threshold
        self.resampling_gradient = resampling_gradient

    def __call__(
        self, batch: list[Sequences], state: Any, step: int
    ) -> tuple[Tensor, Figures, Any]:
        """batch: blocks of [T, B, ...], scored as one."""
        batch = self._fill(batch)
        rows = _scored_rows(batch)
        surrogate: Tensor | float = 0.0  # zero, with the gradient of the choices
        sums: dict[str, Tensor] = {}
        for block in ranks.in_turn(batch):
            gains, choices = filter_particles(self.model, block, self.particles, self.threshold)
            for key, value in gains.items():
                sums[f"{key}_nats"] = sums.get(f"{key}_nats", 0.0) - value.sum() / rows
            if self.resampling_gradient:
                total = torch.stack(list(gains.values())).sum(0).detach()  # [T, B]
                score = (choices * (total.sum(0) - total.cumsum(0))).sum()
                surrogate = surrogate - (score - score.detach()) / rows
        metrics = {key: value.detach() for key, value in sums.items()}
        loss = torch.stack(list(sums.values())).sum()
        return loss + surrogate, metrics | {"nats": loss.detach()}, state


OBJECTIVES: Registry[Callable[..., Objective]] = Registry(
    "objective", {"elbo": ELBO, "iwae": IWAE, "fivo": FIVO}
)
"""Objectives of world models by name: (model, particles=K, **options) -> objective."""


def register_objective(name: str, objective: Callable[..., Objective]) -> None:
    """Adds an objective of world models to `OBJECTIVES`, (model, particles=K, **options) ->
    Objective: from now on options that name one train by it.

    One that carries states from batch to batch takes the option `carries`.
    """
    OBJECTIVES.register(name, objective)


def make_objective(name: str, model: WorldModel, particles: int = 1, **options: Any) -> Objective:
    """The objective `name` of `OBJECTIVES`; an option that it does not take is refused by name."""
    objective = OBJECTIVES[name]
    check_options(f"the objective {name!r}", objective, options, ("model", "particles"))
    return objective(model, particles=particles, **options)


def objective_from(model: WorldModel, options: Mapping[str, Any]) -> Objective:
    """The objective of the given options, under the names that they have everywhere.

    objective, num_particles; kl_weight, kl_warmup, kl_cycle, kl_delay (see `kl_schedule`);
    free_nats, kl_balance, carries. An objective gets those that it takes; other options are left
    alone.
    """
    name = options["objective"]
    known = ("free_nats", "kl_balance", "carries")
    given = {key: options[key] for key in known if key in options}
    taken = options_taken(OBJECTIVES[name], {"kl_weight": kl_schedule(options)} | given)
    return make_objective(name, model, options["num_particles"], **taken)


def kl_schedule(options: Mapping[str, Any]) -> Schedule:
    """The weight of the divergence over updates: `kl_weight`, within `kl_warmup` updates from 0 in
    a line, or over and over in cycles of `kl_cycle` updates, `kl_delay` updates after the first.

    >>> weight = kl_schedule({"kl_weight": 2.0, "kl_warmup": 4})
    >>> [weight(update) for update in (0, 2, 9)]
    [0.0, 1.0, 2.0]
    """
    if cycle := options.get("kl_cycle", 0):
        return cyclical(options["kl_weight"], cycle, options.get("kl_delay", 0))
    return linear(0.0, options.get("kl_weight", 1.0), options.get("kl_warmup", 0))
