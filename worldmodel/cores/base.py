"""The contract of sequence cores: a latent-variable recurrence with a prior and a posterior."""

from abc import ABC, abstractmethod
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor, distributions as td, nn
from torch.nn import functional as F

from worldmodel import nested
from worldmodel.distributions import OneHotVectors, standard_normal
from worldmodel.recurrences import Recurrence

MINIMUM_STD = 1e-3
QUIET = 0.1  # of latents' first weights, relative to those of other layers


class State(Protocol):
    """The state of a core: a NamedTuple of [B, ...] with a field `latent`."""

    latent: Tensor  # [B, Z]; Z = 0 where a core has no latents


class Gaussian(NamedTuple):
    """The parameters of a diagonal Gaussian over latents."""

    mean: Tensor  # [*, Z]
    std: Tensor  # [*, Z], positive

    @classmethod
    def from_raw(cls, raw: Tensor) -> "Gaussian":
        """Parameters from unconstrained numbers [*, 2 Z]."""
        mean, scale = raw.chunk(2, -1)
        return cls(mean, F.softplus(scale.contiguous()) + MINIMUM_STD)  # strided: ten times slower

    def draw(self) -> Tensor:
        """A reparametrised sample [*, Z]."""
        return torch.addcmul(self.mean, self.std, standard_normal(self.mean))


class OneHots(NamedTuple):
    """The parameters of independent categorical latents; a sum over C runs along memory's rows,
    which is several times faster than within them."""

    logits: Tensor  # [*, C, V], log probabilities

    @classmethod
    def from_raw(cls, raw: Tensor, unimix: float) -> "OneHots":
        """Parameters from unconstrained numbers [*, C, V]; `unimix`: the share that is uniform,
        which keeps the KL divergence finite."""
        if not unimix:
            return cls(F.log_softmax(raw, -2))
        return cls(torch.log((1 - unimix) * F.softmax(raw, -2) + unimix / raw.shape[-2]))

    def draw(self) -> Tensor:
        """Codes [*, C * V], with the gradient of the probabilities.

        One normal number a categorical, so that all latents have one source of noise: where its
        distribution function lies among the sums of probabilities.
        """
        probs = self.logits.exp()
        with torch.no_grad():
            uniform = torch.special.ndtr(standard_normal(self.logits[..., 0, :]))
            below = probs[..., :-1, :].cumsum(-2) < uniform[..., None, :]
            code = OneHotVectors.code(below.sum(-2), probs.shape[-2]).to(probs.dtype)
        if not torch.is_grad_enabled():
            return code
        probs = probs.flatten(-2)
        return code + probs - probs.detach()


class Inference(NamedTuple):
    """The result of `infer`: states, and the distributions that their latents were drawn by."""

    states: Any  # [T, B, ...]
    posterior: Any  # parameters [T, B, ...] of q(z_t | ...)
    prior: Any  # parameters [T, B, ...] of p(z_t | ...)


class SequenceCore(nn.Module, ABC):
    """p(z_t | z_<t, contexts_<=t) and q(z_t | z_<t, contexts, evidence), step by step.

    The context of row t [B, C] holds what led to it (its action and, with feedback, the encoding
    of the percept before); the evidence of row t [B, E] is the encoding of its own percept.
    A core does not decode, nor detect where an episode begins: the model passes `initial_state`.
    """

    context_size: int
    evidence_size: int
    feature_size: int
    belief_size: int
    filtering: bool  # the posterior of row t reads no row after t
    belief_of_rows: bool = False  # no latent enters the belief: rows alone give it
    steps: tuple[str, ...] = ("step", "posterior_step")  # the methods that loops run

    @abstractmethod
    def initial_state(self, batch_size: int) -> Any:
        """The state before the first row, leaves [B, ...]."""

    @abstractmethod
    def step(self, context: Tensor, state: Any) -> Any:
        """Takes one step of the prior: the state of the next row, its latent drawn from the prior.

        context [B, C], state leaves [B, ...] -> state leaves [B, ...]
        """

    @abstractmethod
    def prepare(self, contexts: Tensor, evidence: Tensor, mask: Tensor, state: Any) -> Any:
        """Computes everything that the posterior needs and no latent enters, fused over time.

        contexts [T, B, C], evidence [T, B, E], mask bool [T, B] (a prefix of each column),
        state leaves [B, ...] -> a NamedTuple with leaves [T, B, ...]
        """

    @abstractmethod
    def posterior_step(self, prepared: Any, state: Any) -> tuple[Any, Any, Any]:
        """Takes one step of the posterior.

        prepared leaves [B, ...], state leaves [B, ...] -> (posterior parameters, prior
        parameters, state), the state's latent drawn from the posterior.
        """

    @abstractmethod
    def features(self, state: Any) -> Tensor:
        """The inputs of the decoder, [*, F], from state leaves [*, ...]."""

    @abstractmethod
    def belief(self, state: Any) -> Tensor:
        """The belief, [*, belief_size]: a function of rows up to now only."""

    def compile_steps(self, backend: str = "inductor") -> None:
        """Compiles the methods that loops run, by torch.compile: needs a C++ compiler, and a
        minute at first (not with the backend "eager", which compiles nothing).

        An RSSM learns several times as fast on a processor; cores whose loops are fused or written
        by hand gain nothing. Do it after copying a model, not before: a copy would run the
        original's steps.
        """
        for name in self.steps:
            setattr(self, name, torch.compile(getattr(self, name), backend=backend))

    def latent_distribution(self, parameters: Any) -> td.Distribution:
        """The distribution of latents [*, Z] with the given parameters."""
        mean, std = parameters
        normal = td.Normal(mean, std, validate_args=False)
        return td.Independent(normal, 1, validate_args=False)

    def infer(
        self, contexts: Tensor, evidence: Tensor, mask: Tensor, state: Any, particles: int = 1
    ) -> tuple[Inference, Any]:
        """Infers latents of rows: `prepare`, then one loop over `posterior_step`.

        With K particles the latents are drawn K times: the loop runs on [K * B], particle after
        particle. `state` has B rows (or K * B, from an earlier chunk).

        Returns the inference, leaves [T, K * B, ...], and the state of each column's last valid
        row, leaves [K * B, ...].
        """
        batch_size = contexts.shape[1]
        if nested.leaves(state)[0].shape[0] not in (batch_size, particles * batch_size):
            raise ValueError(
                f"{particles} particles of {batch_size} columns go on from {batch_size} or "
                f"{particles * batch_size} states, got {nested.leaves(state)[0].shape[0]}"
            )
        prepared = self.prepare(contexts, evidence, mask, nested.index(state, slice(batch_size)))
        if nested.leaves(state)[0].shape[0] == batch_size:
            state = nested.repeat(state, particles)
        inference = self.posterior_all(prepared, state, particles)
        return inference, last_valid(inference.states, mask.repeat(1, particles), state)

    def posterior_all(self, prepared: Any, state: Any, particles: int) -> Inference:
        """The loop over `posterior_step`; a core whose loop carries no latent overrides it.

        prepared leaves [T, B, ...], state leaves [K * B, ...] -> leaves [T, K * B, ...]
        """

        def step(prepared_t: Any, state: Any) -> tuple[Inference, Any]:
            posterior, prior, state = self.posterior_step(
                nested.repeat(prepared_t, particles), state
            )
            return Inference(state, posterior, prior), state

        return nested.unroll(step, nested.steps(prepared), state)[0]


class LatentState(NamedTuple):
    hidden: Tensor  # [B, S], h and what else the recurrence keeps
    latent: Tensor  # [B, Z], z


class LatentPrepared(NamedTuple):
    context: Any  # leaves [T, B, ...], input projections of the context
    evidence: Tensor  # [T, B, M], the evidence's projection to the posterior's hidden layer


class LatentRecurrence(SequenceCore):
    """A recurrence that reads its own latents, with p(z_t | h_t) and q(z_t | h_t, evidence_t).

    The base of VRNN and RSSM, which define its inputs and build the networks.
    """

    filtering = True
    steps = ("step", "posterior_step", "_posterior_step")
    latent_size: int  # Z
    recurrence: Recurrence
    prior: nn.Sequential  # [*, H] -> raw parameters
    posterior_evidence: nn.Linear  # [*, E] -> [*, M]
    posterior_hidden: nn.Linear  # [*, H] -> [*, M]
    posterior_out: nn.Linear  # [*, M] -> raw parameters

    @abstractmethod
    def project_context(self, contexts: Tensor) -> Any:
        """Input projections of contexts [*, C] for the recurrence, leaves [*, ...]."""

    @abstractmethod
    def advance_hidden(self, projected: Any, state: LatentState) -> Tensor:
        """Takes one step of the recurrence: projected leaves [B, ...], state before -> [B, S]."""

    def parameters_of(self, raw: Tensor) -> Any:
        """A distribution's parameters from unconstrained numbers [*, P]."""
        return Gaussian.from_raw(raw)

    def initial_state(self, batch_size: int) -> LatentState:
        like = self.posterior_out.weight
        return LatentState(
            like.new_zeros(batch_size, self.recurrence.state_size),
            like.new_zeros(batch_size, self.latent_size),
        )

    def step(self, context: Tensor, state: LatentState) -> LatentState:
        after = state._replace(hidden=self.advance_hidden(self.project_context(context), state))
        return after._replace(latent=self._prior(after).draw())

    def prepare(
        self, contexts: Tensor, evidence: Tensor, mask: Tensor, state: LatentState
    ) -> LatentPrepared:
        return LatentPrepared(self.project_context(contexts), self.posterior_evidence(evidence))

    def posterior_step(
        self, prepared: LatentPrepared, state: LatentState
    ) -> tuple[Any, Any, LatentState]:
        posterior, state = self._posterior_step(prepared, state)
        return posterior, self._prior(state), state

    def posterior_all(
        self, prepared: LatentPrepared, state: LatentState, particles: int
    ) -> Inference:
        """Infers without priors in the loop, since no latent depends on them."""

        def step(prepared_t: LatentPrepared, state: LatentState) -> tuple[Any, LatentState]:
            posterior, state = self._posterior_step(nested.repeat(prepared_t, particles), state)
            return (posterior, state), state

        (posterior, states), _ = nested.unroll(step, nested.steps(prepared), state)
        return Inference(states, posterior, self._prior(states))

    def features(self, state: LatentState) -> Tensor:
        return torch.cat([self.recurrence.output(state.hidden), state.latent], -1)

    def belief(self, state: LatentState) -> Tensor:
        """The filter's (h, z)."""
        return self.features(state)

    def _posterior_step(
        self, prepared: LatentPrepared, state: LatentState
    ) -> tuple[Any, LatentState]:
        hidden = self.advance_hidden(prepared.context, state)
        output = self.recurrence.output(hidden)
        layer = F.silu(self.posterior_hidden(output) + prepared.evidence)
        posterior = self.parameters_of(self.posterior_out(layer))
        return posterior, LatentState(hidden, posterior.draw())

    def _prior(self, state: LatentState) -> Any:
        return self.parameters_of(self.prior(self.recurrence.output(state.hidden)))


def noise_of_steps(steps: int, latent: Tensor) -> Tensor:
    """The noise of `steps` successive draws of a latent [B, Z]: [T, B, Z]."""
    return torch.stack([standard_normal(latent) for _ in range(steps)])


def last_valid(states: Any, mask: Tensor, before: Any) -> Any:
    """The states [T, B, ...] of the last valid rows, or `before` [B, ...] where there are none."""
    lengths = mask.sum(0)
    columns = torch.arange(len(lengths), device=mask.device)
    last = nested.map(lambda leaf: leaf[(lengths - 1).clamp(min=0), columns], states)
    return nested.where(lengths > 0, last, before)


def reverse(x: Tensor, mask: Tensor) -> Tensor:
    """Reverses the valid prefix of each column of x [T, B, ...]; padding stays where it is."""
    times = torch.arange(len(x), device=x.device)[:, None]
    order = torch.where(mask, mask.sum(0) - 1 - times, times)  # [T, B]
    return x[order, torch.arange(x.shape[1], device=x.device)]
