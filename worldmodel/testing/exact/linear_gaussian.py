"""Random linear-Gaussian chains: sequences whose likelihood, and the bounds on it, are known.

    z_1 ~ N(0, P),  z_t = A z_{t-1} + N(0, Q),  x_t = C z_t + N(0, R)        P, Q, R diagonal

A core's Gaussians are diagonal, so the chains are built from what has to be: P, Q, C, R diagonal
and U a rotation make

    A = (P - Q)^1/2 U F^-1/2,  F = (P^-1 + C^T R^-1 C)^-1   so that   A F A^T + Q = P:

the Kalman filter is at its steady state from the first row on, and a recurrence with constant
weights can be exact. A itself is dense. (The scale of z is free: here P = I.)
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from worldmodel.sequences import Row, Sequences

SPECTRAL_RADIUS = 0.7, 0.98  # of A: remembers, and is stable


class Chain(NamedTuple):
    """A linear-Gaussian state space model with Z latents and n numbers a row, float64."""

    transition: Tensor  # [Z, Z], A
    emission: Tensor  # [n, Z], C
    start: Tensor  # [Z], variances P of the first latents
    noise: Tensor  # [Z], variances Q
    observation_noise: Tensor  # [n], variances R

    @classmethod
    def random(cls, size: int = 2) -> "Chain":
        """A chain with `size` latents and as many observations, drawn from torch's generator."""
        while True:
            rotation = torch.linalg.qr(torch.randn(size, size, dtype=torch.float64))[0]
            share, noise, emission = 0.2 + 0.6 * torch.rand(3, size, dtype=torch.float64)
            filtered = 1 / (1 + emission.square() / noise)
            transition = (1 - share).sqrt()[:, None] * rotation * filtered.rsqrt()
            radius = torch.linalg.eigvals(transition).abs().max()
            if SPECTRAL_RADIUS[0] < radius < SPECTRAL_RADIUS[1]:
                return cls(transition, emission.diag(), torch.ones_like(share), share, noise)

    def sample(self, length: int, batch_size: int) -> tuple[Tensor, Tensor]:
        """Latents [T, B, Z] and observations [T, B, n]."""
        noise = torch.randn(length, batch_size, len(self.start), dtype=torch.float64)
        latents = [self.start.sqrt() * noise[0]]
        for t in range(1, length):
            latents.append(latents[-1] @ self.transition.T + self.noise.sqrt() * noise[t])
        latent = torch.stack(latents)
        mean = latent @ self.emission.T
        return latent, mean + self.observation_noise.sqrt() * torch.randn_like(mean)

    def log_prob(self, observations: Tensor) -> Tensor:
        """The Kalman filter's log p(x_t | x_<t), [T, B] nats, of observations [T, B, n]."""
        mean = observations.new_zeros(observations.shape[1], len(self.start))
        covariance = self.start.diag()
        increments = []
        for observation in observations:
            innovation = observation - mean @ self.emission.T  # [B, n]
            spread = self.emission @ covariance @ self.emission.T + self.observation_noise.diag()
            increments.append(_normal_log_prob(innovation, spread))
            gain = torch.linalg.solve(spread, self.emission @ covariance).T  # [Z, n]
            mean = (mean + innovation @ gain.T) @ self.transition.T
            covariance = covariance - gain @ self.emission @ covariance
            covariance = self.transition @ covariance @ self.transition.T + self.noise.diag()
        return torch.stack(increments)

    def value_log_prob(self, observations: Tensor) -> tuple[Tensor, Tensor]:
        """The Kalman filter that skips what is missing (NaN): log p(x_t | x_<t) of what is there
        of each row, [T, B] nats, and of each value by itself, [T, B, n], NaN where missing."""
        batch_size, size = observations.shape[1], len(self.start)
        mean = observations.new_zeros(batch_size, size)
        covariance = self.start.diag().expand(batch_size, size, size)
        whole, single = [], []
        for observation in observations:
            there = ~observation.isnan()  # [B, n]
            emission = self.emission * there[..., None]  # [B, n, Z], no row of what is missing
            innovation = (
                torch.where(there, observation, 0.0) - (emission @ mean[..., None])[..., 0]
            )
            noise = torch.where(there, self.observation_noise, 1 / (2 * math.pi))  # density 1 at 0
            spread = emission @ covariance @ emission.mT + torch.diag_embed(noise)
            solved = torch.linalg.solve(spread, innovation[..., None])
            distance = (innovation[..., None] * solved).sum((-1, -2))
            volume = spread.logdet() + observation.shape[-1] * math.log(2 * math.pi)
            whole.append(-0.5 * (distance + volume))
            variance = spread.diagonal(dim1=-2, dim2=-1)
            own = -0.5 * (innovation.square() / variance + (2 * math.pi * variance).log())
            single.append(torch.where(there, own, torch.nan))
            gain = covariance @ emission.mT
            mean = (mean[..., None] + gain @ solved)[..., 0] @ self.transition.T
            covariance = covariance - gain @ torch.linalg.solve(spread, gain.mT)
            covariance = self.transition @ covariance @ self.transition.T + self.noise.diag()
        return torch.stack(whole), torch.stack(single)

    def latent_covariance(self, length: int) -> Tensor:
        """The covariance of z_1 ... z_T, [T Z, T Z], row by row."""
        spread = torch.cat([self.start, self.noise.repeat(length - 1)])
        path = recursion(self.transition, length)
        return path * spread @ path.T


def _normal_log_prob(x: Tensor, covariance: Tensor) -> Tensor:
    """log N(x; 0, covariance), [B], for x [B, n]."""
    distance = (x * torch.linalg.solve(covariance, x.T).T).sum(-1)
    return -0.5 * (distance + covariance.logdet() + x.shape[-1] * math.log(2 * math.pi))


def as_sequences(observations: Tensor) -> Sequences:
    """Observations [T, B, n] as rows of one episode each, without actions, rewards or ends."""
    first = torch.zeros(observations.shape[:2], dtype=torch.bool)
    first[0] = True
    nothing = observations.new_zeros(first.shape)
    action = nothing[..., None][..., :0]
    return Sequences.whole(Row(first, action, observations, nothing, torch.zeros_like(first)))


def by_row(matrix: Tensor, length: int) -> Tensor:
    """The same matrix for every row: [T ., T .]."""
    return torch.block_diag(*[matrix] * length)


def row_before(matrix: Tensor, length: int) -> Tensor:
    """A matrix that reads the row before, which the first row lacks: [T ., T .]."""
    return torch.kron(torch.ones(length - 1, dtype=matrix.dtype).diag(-1), matrix.contiguous())


def recursion(matrix: Tensor, length: int) -> Tensor:
    """u -> y with y_t = matrix y_{t-1} + u_t, as a matrix [T Z, T Z]."""
    step = row_before(matrix, length)
    return torch.linalg.inv(torch.eye(len(step), dtype=matrix.dtype) - step)


class Filter(NamedTuple):
    """The steady Kalman filter: m_{t+1} = carry m_t + gain x_t, with x_t ~ N(C m_t, spread)."""

    carry: Tensor  # [Z, Z], A (I - K C)
    gain: Tensor  # [Z, n], A K
    spread: Tensor  # [n], variances

    @classmethod
    def of(cls, chain: Chain) -> "Filter":
        spread = chain.emission.square() @ chain.start + chain.observation_noise
        gain = chain.transition @ (chain.start[:, None] * chain.emission.T / spread)
        return cls(chain.transition - gain @ chain.emission, gain, spread)


class Reading(NamedTuple):
    """The likelihood of z_t given the rows from t on, as a steady recurrence from the end:

        log p(x_t, x_{t+1}, ... | z_t) = - z_t^T precision z_t / 2 + z_t^T message_t + constant
        message_t = information x_t + backward message_{t+1}

    A filter reads its own row only: backward is zero.
    """

    information: Tensor  # [Z, n]
    backward: Tensor  # [Z, Z]
    precision: Tensor  # [Z, Z]

    @classmethod
    def of(cls, chain: Chain, smoothing: bool, tolerance: float = 1e-14) -> "Reading":
        information = chain.emission.T / chain.observation_noise
        own = information @ chain.emission
        backward, precision = torch.zeros_like(own), own
        while smoothing:
            eye = torch.eye(len(own), dtype=torch.float64)
            backward = chain.transition.T @ torch.linalg.inv(eye + precision * chain.noise)
            before, precision = precision, own + backward @ precision @ chain.transition
            if (precision - before).abs().max() < tolerance:
                break
        return cls(information, backward, precision)

    def messages(self, length: int) -> Tensor:
        """x -> message, as a matrix [T Z, T n]."""
        from_end = recursion(self.backward.T, length).T  # the same, from the end
        return from_end @ by_row(self.information, length)


class ChainPosterior(NamedTuple):
    """q(z_t | z_{t-1}, message_t) = N(carry z_{t-1} + weight message_t, variance)

    Without smoothing it is p(z_t | z_{t-1}, x_t), the locally optimal proposal; with it,
    p(z_t | z_{t-1}, x_t, x_{t+1}, ...) with the best diagonal covariance. Two ends are left as
    they are: the first row, whose prior is another, and (smoothing) the last few, where the
    reading is not at its steady state.
    """

    reading: Reading
    carry: Tensor  # [Z, Z]
    weight: Tensor  # [Z, Z]
    variance: Tensor  # [Z]

    @classmethod
    def of(cls, chain: Chain, smoothing: bool) -> "ChainPosterior":
        reading = Reading.of(chain, smoothing)
        precision = (1 / chain.noise).diag() + reading.precision
        weight = torch.linalg.inv(precision)
        return cls(reading, weight / chain.noise @ chain.transition, weight, 1 / precision.diag())

    def gap(self, chain: Chain, length: int) -> float:
        """The expected log p(x) - ELBO of `length` rows, nats."""
        path = recursion(self.carry, length)
        mean = path @ by_row(self.weight, length) @ self.reading.messages(length)
        covariance = path * self.variance.repeat(length) @ path.T
        emission = by_row(chain.emission, length)
        prior = chain.latent_covariance(length)
        return expected_divergence(prior, emission, chain.observation_noise, mean, covariance)


class NoisePosterior(NamedTuple):
    """q(e_t | m_t, message_t) = N(from_filter m_t + from_message message_t, variance)

    of the noise that drives a chain, z_t = A z_{t-1} + Q^1/2 e_t: each row on its own. m_t is
    the Kalman filter's prediction. Mean: of the exact posterior of e_t alone (given the rows that
    the reading reads); variance: away from the end, the best one of a posterior that factorises.
    """

    reading: Reading
    from_filter: Tensor  # [Z, Z]
    from_message: Tensor  # [Z, Z]
    variance: Tensor  # [Z]

    @classmethod
    def of(cls, chain: Chain, smoothing: bool) -> "NoisePosterior":
        reading = Reading.of(chain, smoothing)
        before = (1 / chain.start).diag()
        belief = torch.linalg.inv(before + reading.precision)  # of z_t, its covariance
        share = (chain.noise.sqrt() / chain.start)[
            :, None
        ]  # the share of the noise in an innovation
        from_filter = share * (belief @ before - torch.eye(len(before), dtype=torch.float64))
        precision = 1 + chain.noise * _observability(chain).diag()
        return cls(reading, from_filter, share * belief, 1 / precision)

    def gap(self, chain: Chain, length: int) -> float:
        """The expected log p(x) - ELBO of `length` rows, nats."""
        filter_ = Filter.of(chain)
        predicted = recursion(filter_.carry, length) @ row_before(filter_.gain, length)
        mean = by_row(self.from_filter, length) @ predicted
        mean = mean + by_row(self.from_message, length) @ self.reading.messages(length)
        scale = torch.cat([chain.start, chain.noise.repeat(length - 1)]).sqrt()
        emission = by_row(chain.emission, length) @ recursion(chain.transition, length) * scale
        covariance = self.variance.repeat(length).diag()
        prior = torch.eye(len(covariance), dtype=torch.float64)
        return expected_divergence(prior, emission, chain.observation_noise, mean, covariance)


def _observability(chain: Chain, rows: int = 2_000) -> Tensor:
    """sum over s of (C A^s)^T R^-1 C A^s, [Z, Z]."""
    total, path = torch.zeros_like(chain.transition), chain.emission
    for _ in range(rows):
        total = total + path.T / chain.observation_noise @ path
        path = path @ chain.transition
    return total


def expected_divergence(
    prior: Tensor, emission: Tensor, observation_noise: Tensor, mean: Tensor, covariance: Tensor
) -> float:
    """E KL(q(z | x) || p(z | x)) over x ~ p: the expected gap of a bound by q, in nats.

    z ~ N(0, prior [N, N]), x = emission [M, N] z + noise (variances [n], for every row of x),
    q(z | x) = N(mean [N, M] x, covariance [N, N]).
    """
    noise = observation_noise.repeat(len(emission) // len(observation_noise))
    information = emission.T / noise  # [N, M]
    precision = torch.linalg.inv(prior) + information @ emission
    wrong = mean - torch.linalg.solve(precision, information)
    spread = emission @ prior @ emission.T + noise.diag()
    terms = (precision @ covariance).trace() + (precision @ wrong @ spread @ wrong.T).trace()
    logs = precision.logdet() + covariance.logdet()
    return 0.5 * (terms - logs - len(prior)).item()
