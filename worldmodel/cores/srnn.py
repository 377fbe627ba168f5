"""The stochastic recurrent network of Fraccaro et al., 2016 (https://arxiv.org/abs/1605.07571).

Graph: a deterministic recurrence below, a chain of latents above it, a backward recurrence for
inference.

    context_t -> d_t        d_t = GRU(d_{t-1}, context_t)
                  |
    z_{t-1} ---> z_t        p(z_t | z_{t-1}, d_t) = N(mu_p, sigma_p)
                  |
           x_t <- (d_t, z_t)

    a_t = GRU(a_{t+1}, [d_t, evidence_t])                          smoothing
    a_t = g([d_t, evidence_t])                                     filtering
    q(z_t | z_{t-1}, a_t) = N(mu_p + mu_q, sigma_q)                with res_q

d carries no latent, so it and a are computed for all rows at once; only the chain of z is a loop.
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.amp import custom_bwd, custom_fwd
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from worldmodel.cores.base import (
    MINIMUM_STD,
    QUIET,
    Gaussian,
    Inference,
    SequenceCore,
    noise_of_steps,
    reverse,
)
from worldmodel.nets import mlp, tanh
from worldmodel.recurrences import GRU, recurrence as recurrence_of


class SRNNState(NamedTuple):
    hidden: Tensor  # [B, S], d and what else the recurrence keeps
    latent: Tensor  # [B, Z], z


class SRNNPrepared(NamedTuple):
    hidden: Tensor  # [T, B, S]
    projected: (
        Tensor  # [T, B, 2 M], what d gives to the prior's hidden layer, and a to the posterior's
    )


class SRNN(SequenceCore):
    """A recurrence (a GRU, or another of `RECURRENCES`, in `layers`) with a chain of Gaussian
    latents on top.

    The networks of prior and posterior have one hidden layer of `latent_hidden` units each; they
    run side by side, as one product of two blocks.
    """

    belief_of_rows = True

    def __init__(
        self,
        context_size: int,
        evidence_size: int,
        hidden: int = 128,
        latent: int = 16,
        latent_hidden: int = 64,
        smoothing: bool = True,
        res_q: bool = True,
        recurrence: str = "gru",
        layers: int = 1,
        dropout: float = 0.0,
    ):
        super().__init__()
        self.context_size = context_size
        self.evidence_size = evidence_size
        self.latent_size = latent
        self.latent_hidden = latent_hidden
        self.filtering = not smoothing
        self.res_q = res_q
        self.recurrence = recurrence_of(recurrence, context_size, hidden, layers, dropout)
        output = self.belief_size = self.recurrence.output_size
        self.feature_size = output + latent
        if smoothing:
            self.reading: nn.Module = GRU(output + evidence_size, latent_hidden)
        else:
            self.reading = mlp([output + evidence_size, latent_hidden, latent_hidden])
        self.prior_projection = nn.Linear(output, latent_hidden)
        self.posterior_projection = nn.Linear(latent_hidden, latent_hidden)
        self.from_latent = nn.Linear(latent, 2 * latent_hidden, bias=False)
        self.out = nn.Parameter(torch.randn(2, latent_hidden, 2 * latent))
        self.out_bias = nn.Parameter(torch.zeros(2, 1, 2 * latent))
        self.gain = nn.Parameter(torch.full((latent,), QUIET))
        self.reset_latents()

    @torch.no_grad()
    def reset_latents(self) -> None:
        """Initialises latents with little weight: posterior and prior are nearly the same, and
        features hardly depend on them. Large ones are learned first, and unlearned later, which
        delays what the recurrence has to remember (in the toy game by some 300 updates)."""
        self.from_latent.weight.mul_(QUIET)
        self.out.mul_(QUIET * self.latent_hidden**-0.5)
        if self.res_q:
            self.out[1] = 0.0

    def initial_state(self, batch_size: int) -> SRNNState:
        return SRNNState(
            self.out.new_zeros(batch_size, self.recurrence.state_size),
            self.out.new_zeros(batch_size, self.latent_size),
        )

    def step(self, context: Tensor, state: SRNNState) -> SRNNState:
        hidden = self.recurrence.step(context, state.hidden)
        from_latent = F.linear(state.latent, self.from_latent.weight[: self.latent_hidden])
        layer = tanh(self.prior_projection(self.recurrence.output(hidden)) + from_latent)  # [B, M]
        prior = Gaussian.from_raw(layer @ self.out[0] + self.out_bias[0])
        return SRNNState(hidden, prior.draw())

    def prepare(
        self, contexts: Tensor, evidence: Tensor, mask: Tensor, state: SRNNState
    ) -> SRNNPrepared:
        hidden = self.recurrence(contexts, state.hidden)  # [T, B, S]
        output = self.recurrence.output(hidden)  # [T, B, H]
        reading = self._read(torch.cat([output, evidence], -1), mask)  # [T, B, M]
        projected = torch.cat(
            [self.prior_projection(output), self.posterior_projection(reading)], -1
        )
        return SRNNPrepared(hidden, projected)

    def posterior_step(
        self, prepared: SRNNPrepared, state: SRNNState
    ) -> tuple[Gaussian, Gaussian, SRNNState]:
        layer = torch.addmm(prepared.projected, state.latent, self.from_latent.weight.t())
        layer = tanh(layer).unflatten(-1, (2, -1)).transpose(0, 1)  # [2, B, M]
        posterior, prior = self._gaussians(torch.baddbmm(self.out_bias, layer, self.out))
        return posterior, prior, SRNNState(prepared.hidden, posterior.draw())

    def posterior_all(self, prepared: SRNNPrepared, state: SRNNState, particles: int) -> Inference:
        """Runs the loop with its backward pass written by hand, where there is one."""
        if not torch.is_grad_enabled():
            return super().posterior_all(prepared, state, particles)
        projected = prepared.projected.repeat(1, particles, 1)
        noise = noise_of_steps(len(projected), state.latent)
        weights = (self.from_latent.weight, self.out, self.out_bias)
        latent, raw = _Chain.apply(projected, state.latent, noise, *weights, self.res_q)
        states = SRNNState(prepared.hidden.repeat(1, particles, 1), latent)
        return Inference(states, *self._gaussians(raw.transpose(0, 1)))

    def _gaussians(self, raw: Tensor) -> tuple[Gaussian, Gaussian]:
        """Posterior and prior from what the two blocks of networks give, [2, *, 2 Z]."""
        mean, std = Gaussian.from_raw(raw)
        posterior = Gaussian(mean[0] + mean[1] if self.res_q else mean[1], std[1])
        return posterior, Gaussian(mean[0], std[0])

    def features(self, state: SRNNState) -> Tensor:
        return torch.cat([self.recurrence.output(state.hidden), self.gain * state.latent], -1)

    def belief(self, state: SRNNState) -> Tensor:
        """d, never z: what the generator drew is the dream's hidden truth."""
        return self.recurrence.output(state.hidden)

    def _read(self, x: Tensor, mask: Tensor) -> Tensor:
        """a, [T, B, M], from [d, evidence]."""
        if self.filtering:
            return self.reading(x)
        nothing = x.new_zeros(x.shape[1], self.latent_hidden)
        return reverse(self.reading(reverse(x, mask), nothing), mask)


class _Chain(torch.autograd.Function):
    """z_t from z_{t-1}, for all t: (projected [T, B, 2 M], z_0 [B, Z], noise [T, B, Z], weights)
    -> z [T, B, Z] and the raw parameters of prior and posterior [T, 2, B, 2 Z].

    Autograd would record some ten small operations a step; here the way back takes seven, and the
    weights' gradients are one product each for all steps.
    """

    @staticmethod
    @custom_fwd(device_type="cpu", cast_inputs=torch.float32)
    def forward(
        ctx: Any,
        projected: Tensor,
        first: Tensor,
        noise: Tensor,
        from_latent: Tensor,
        out: Tensor,
        bias: Tensor,
        res_q: bool,
    ) -> tuple[Tensor, Tensor]:
        size = first.shape[-1]
        latents, layers, raws = [first], [], []
        for t in range(len(projected)):
            layer = torch.addmm(projected[t], latents[-1], from_latent.t()).tanh_()
            layer = layer.unflatten(-1, (2, -1)).transpose(0, 1)  # [2, B, M]
            raw = torch.baddbmm(bias, layer, out)
            prior, posterior = raw[..., :size].unbind(0)
            mean = prior + posterior if res_q else posterior
            std = F.softplus(raw[1, :, size:]) + MINIMUM_STD
            latents.append(torch.addcmul(mean, std, noise[t]))
            layers.append(layer)
            raws.append(raw)
        latent, raw = torch.stack(latents), torch.stack(raws)
        ctx.res_q = res_q
        ctx.save_for_backward(latent, raw, torch.stack(layers), noise, from_latent, out)
        return latent[1:], raw

    @staticmethod
    @custom_bwd(device_type="cpu")
    @once_differentiable
    def backward(ctx: Any, of_latent: Tensor, of_raw: Tensor) -> Any:  # type: ignore[override]
        latent, raw, layer, noise, from_latent, out = ctx.saved_tensors
        back_out = out.transpose(1, 2)
        back_latent = from_latent.unflatten(0, (2, -1))  # [2, M, Z]
        slope = 1 - layer.square()  # [T, 2, B, M]
        by_posterior = torch.cat(  # what the raw parameters do to z
            [torch.ones_like(noise), noise * raw[:, 1, :, noise.shape[-1] :].sigmoid()], -1
        )
        by_prior = torch.zeros_like(by_posterior)
        if ctx.res_q:
            by_prior[..., : noise.shape[-1]] = 1.0
        of_draw = torch.stack([by_prior, by_posterior], 1)  # [T, 2, B, 2 Z]
        carried = torch.zeros_like(of_latent[0])
        of_raws, of_layers = [], []
        for t in reversed(range(len(of_latent))):
            total = of_latent[t] + carried
            of_raws.append(torch.addcmul(of_raw[t], of_draw[t], total.repeat(1, 2)))
            of_layers.append(torch.bmm(of_raws[-1], back_out) * slope[t])
            carried = torch.bmm(of_layers[-1], back_latent).sum(0)
        over_time = torch.stack(of_raws[::-1]).transpose(0, 1).flatten(1, 2)  # [2, T * B, 2 Z]
        of_layer = torch.stack(of_layers[::-1])  # [T, 2, B, M]
        of_weight = of_layer.transpose(0, 1).flatten(1, 2).transpose(1, 2) @ latent[:-1].flatten(
            0, 1
        )
        return (
            of_layer.transpose(1, 2).flatten(2),
            carried,
            None,
            of_weight.flatten(0, 1),
            layer.transpose(0, 1).flatten(1, 2).transpose(1, 2) @ over_time,
            over_time.sum(1, keepdim=True),
            None,
        )
