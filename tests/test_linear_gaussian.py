"""Laws of the linear-Gaussian chains, and of every core whose weights are set to one by hand."""

import itertools
from functools import cache

import pytest
import torch
from torch.distributions import MultivariateNormal, kl_divergence

from worldmodel import BOUNDS, CORES, particle_filter
from worldmodel.testing.exact import (
    BY_HAND,
    Chain,
    ChainPosterior,
    Filter,
    NoisePosterior,
    as_sequences,
    expected_divergence,
    expected_gap,
    model_by_hand,
    recursion,
)

CASES = [
    ("rnn", None),
    ("independent", False),
    ("independent", True),
    ("vrnn", None),
    ("srnn", False),
    ("srnn", True),
    ("rssm", None),
]
every_model = pytest.mark.parametrize(("core", "smoothing"), CASES)
every_latent_model = pytest.mark.parametrize(("core", "smoothing"), CASES[1:])


def chain(seed=0, size=2):
    torch.manual_seed(seed)
    return Chain.random(size)


def close(found, expected, atol=1e-10):
    torch.testing.assert_close(found, expected, rtol=0, atol=atol)


def zeros(*shape):
    return torch.zeros(shape, dtype=torch.float64)


def observation_covariance(chain, length):
    """By sums over the powers of A: Cov(x_s, x_t) = C A^(s-t) V_t C^T + R for s = t."""
    size, variances = len(chain.observation_noise), [chain.start.diag()]
    for _ in range(length - 1):
        before = chain.transition @ variances[-1] @ chain.transition.T
        variances.append(before + chain.noise.diag())
    whole = torch.zeros(length, size, length, size, dtype=torch.float64)
    for t, s in itertools.combinations_with_replacement(range(length), 2):
        path = torch.linalg.matrix_power(chain.transition, s - t)
        block = chain.emission @ path @ variances[t] @ chain.emission.T
        whole[s, :, t], whole[t, :, s] = block, block.T
    return whole.flatten(2).flatten(0, 1) + chain.observation_noise.repeat(length).diag()


# The chain and its filter.


@pytest.mark.parametrize("size", [1, 2, 3])
def test_the_kalman_filter_gives_the_density_of_all_rows_together(size):
    one, length = chain(size, size), 8
    _, observations = one.sample(length, 50)
    whole = MultivariateNormal(zeros(length * size), observation_covariance(one, length))
    expected = whole.log_prob(observations.transpose(0, 1).flatten(1))
    close(one.log_prob(observations).sum(0), expected)
    shorter = MultivariateNormal(zeros(3 * size), observation_covariance(one, 3))
    expected = shorter.log_prob(observations[:3].transpose(0, 1).flatten(1))
    close(one.log_prob(observations)[:3].sum(0), expected)


def test_any_chain_has_a_likelihood_not_only_those_at_their_steady_state():
    torch.manual_seed(0)
    other = chain()._replace(
        emission=torch.randn(1, 2, dtype=torch.float64),
        start=torch.tensor([3.0, 0.1], dtype=torch.float64),
        observation_noise=torch.tensor([0.4], dtype=torch.float64),
    )
    _, observations = other.sample(5, 20)
    whole = MultivariateNormal(zeros(5), observation_covariance(other, 5))
    close(other.log_prob(observations).sum(0), whole.log_prob(observations[..., 0].T))


def test_samples_have_the_moments_of_the_chain():
    one, length, number = chain(), 6, 40_000
    latents, observations = one.sample(length, number)
    for found, expected in (
        (latents, one.latent_covariance(length)),
        (observations, observation_covariance(one, length)),
    ):
        flat = found.transpose(0, 1).flatten(1)
        products = flat[:, :, None] * flat[:, None]  # [B, T n, T n]
        error = products.std(0) / number**0.5
        assert ((products.mean(0) - expected).abs() < 4.5 * error).all()
        assert (flat.mean(0).abs() < 4.5 * flat.std(0) / number**0.5).all()


@pytest.mark.parametrize("seed", range(5))
def test_random_chains_are_at_their_steady_state_stable_and_dense(seed):
    one = chain(seed)
    precision = (1 / one.start).diag()
    precision = precision + one.emission.T / one.observation_noise @ one.emission
    after = one.transition @ torch.linalg.inv(precision) @ one.transition.T + one.noise.diag()
    close(after, one.start.diag())
    assert 0.7 < torch.linalg.eigvals(one.transition).abs().max() < 0.98
    assert (one.transition.abs() > 1e-3).all()
    assert not torch.equal(one.transition, chain(seed + 1).transition)


def test_the_steady_filter_predicts_as_the_kalman_filter_does():
    one = chain()
    _, observations = one.sample(12, 7)
    steady, mean, found = Filter.of(one), zeros(7, 2), []
    for observation in observations:
        normal = torch.distributions.Normal(mean @ one.emission.T, steady.spread.sqrt())
        found.append(normal.log_prob(observation).sum(-1))
        mean = mean @ steady.carry.T + observation @ steady.gain.T
    close(torch.stack(found), one.log_prob(observations))


# Theory.


def test_the_smoothers_mean_is_exact_away_from_the_ends():
    one, length = chain(1), 120
    posterior = ChainPosterior.of(one, smoothing=True)
    weight = torch.block_diag(*[posterior.weight] * length)
    found = recursion(posterior.carry, length) @ weight @ posterior.reading.messages(length)
    emission = torch.block_diag(*[one.emission] * length)
    covariance = one.latent_covariance(length) @ emission.T
    expected = covariance @ torch.linalg.inv(observation_covariance(one, length))
    close(found[100:140], expected[100:140], atol=1e-6)
    assert (found[-2:] - expected[-2:]).abs().max() > 1e-3


def test_the_expected_divergence_is_the_mean_of_divergences():
    one, length, number = chain(2), 3, 4_000
    size = 2 * length
    torch.manual_seed(0)
    mean = 0.3 * torch.randn(size, size, dtype=torch.float64)
    root = torch.randn(size, size, dtype=torch.float64)
    covariance = root @ root.T + torch.eye(size, dtype=torch.float64)
    prior = one.latent_covariance(length)
    emission = torch.block_diag(*[one.emission] * length)
    spread = observation_covariance(one, length)
    x = MultivariateNormal(zeros(size), spread).sample((number,))
    gain = prior @ emission.T @ torch.linalg.inv(spread)
    exact = MultivariateNormal(x @ gain.T, prior - gain @ emission @ prior)
    divergences = kl_divergence(MultivariateNormal(x @ mean.T, covariance), exact)
    found = expected_divergence(prior, emission, one.observation_noise, mean, covariance)
    assert abs(found - divergences.mean()) < 4 * divergences.std() / number**0.5


@pytest.mark.parametrize(
    ("kind", "smoothing"),
    [(ChainPosterior, True), (NoisePosterior, False), (NoisePosterior, True)],
)
def test_no_other_variance_would_lose_less_away_from_the_ends(kind, smoothing):
    one = chain(1)
    posterior = kind.of(one, smoothing)

    def lost(variance):
        """By twenty rows more, ends being equal."""
        other = posterior._replace(variance=variance)
        return other.gap(one, 80) - other.gap(one, 60)

    for i, factor in itertools.product(range(2), (0.99, 1.01)):
        scale = torch.ones_like(posterior.variance)
        scale[i] = factor
        assert lost(posterior.variance * scale) > lost(posterior.variance)


def test_the_filtering_posterior_is_exact_given_the_latent_before_and_its_own_row():
    one = chain(3)
    posterior = ChainPosterior.of(one, smoothing=False)
    spread = one.emission @ one.noise.diag() @ one.emission.T + one.observation_noise.diag()
    gain = one.noise.diag() @ one.emission.T @ torch.linalg.inv(spread)
    kept = torch.eye(2, dtype=torch.float64) - gain @ one.emission
    close(posterior.weight @ posterior.reading.information, gain)
    close(posterior.carry, kept @ one.transition)
    close(posterior.variance.diag(), kept @ one.noise.diag())


def test_reading_ahead_brings_the_bound_nearer():
    one = chain()
    for core in ("independent", "srnn"):
        near, far = (expected_gap(one, core, smoothing, 50) for smoothing in (True, False))
        assert 0 < near < far
    assert expected_gap(one, "srnn", True, 51) - expected_gap(one, "srnn", True, 50) < 0.01


# Weights set by hand.


def test_every_core_is_set_by_hand():
    remembers_nothing = {"vae"}
    assert {core for core, _ in CASES} == set(BY_HAND) == set(CORES) - remembers_nothing


@cache
def played(length, number):
    torch.manual_seed(7)
    observations = chain().sample(length, number)[1]
    return as_sequences(observations), chain().log_prob(observations).sum(0)


def bound(model, sequences, name, particles):
    """[B] nats."""
    torch.manual_seed(1)
    return sum(BOUNDS[name](model, sequences, particles).values()).sum(0)


def test_the_recurrent_network_is_the_kalman_filter():
    sequences, _ = played(40, 300)
    found = BOUNDS["iwae"](model_by_hand(chain(), "rnn"), sequences, 1)["observation"]
    close(found, chain().log_prob(sequences.rows.observation), atol=1e-7)


def messages(reading, observations):
    """[T, B, Z], from the end."""
    found = [observations[-1] @ reading.information.T]
    for observation in observations.flip(0)[1:]:
        found.append(observation @ reading.information.T + found[-1] @ reading.backward.T)
    return torch.stack(found[::-1])


@every_latent_model
def test_every_part_of_a_model_is_that_of_the_chain(core, smoothing):
    """Prior, posterior and likelihood given the latents that it drew, not only on average."""
    one, sequences = chain(), played(9, 20)[0]
    observations = sequences.rows.observation
    model = model_by_hand(one, core, smoothing)
    with torch.no_grad():
        inference, _ = model.infer(sequences, model.initial_state(20))
        found = model.log_probs(inference.states, sequences)["observation"][:, 0]
    latent = inference.states.latent
    spread = torch.cat([one.start[None], one.noise.expand(8, -1)])[:, None]  # [T, 1, Z]
    if core == "independent":  # of the noise that drives the chain
        posterior = NoisePosterior.of(one, bool(smoothing))
        noise, latent = spread.sqrt() * latent, []
        for row in noise:
            latent.append(row + (latent[-1] @ one.transition.T if latent else 0))
        latent, prior_mean, spread = torch.stack(latent), torch.zeros_like(noise), zeros(1) + 1
        steady, predicted = Filter.of(one), [torch.zeros_like(noise[0])]
        for row in observations[:-1]:
            predicted.append(predicted[-1] @ steady.carry.T + row @ steady.gain.T)
        mean = torch.stack(predicted) @ posterior.from_filter.T
        mean = mean + messages(posterior.reading, observations) @ posterior.from_message.T
    else:
        posterior = ChainPosterior.of(one, bool(smoothing))
        before = torch.cat([torch.zeros_like(latent[:1]), latent[:-1]])
        prior_mean = before @ one.transition.T
        mean = before @ posterior.carry.T
        mean = mean + messages(posterior.reading, observations) @ posterior.weight.T
    close(inference.prior.mean, prior_mean, atol=1e-7)
    close(inference.prior.std, spread.sqrt().expand_as(latent), atol=1e-7)
    close(inference.posterior.mean, mean, atol=1e-7)
    close(inference.posterior.std, posterior.variance.sqrt().expand_as(latent), atol=1e-7)
    normal = torch.distributions.Normal(latent @ one.emission.T, one.observation_noise.sqrt())
    close(found, normal.log_prob(observations).sum(-1), atol=1e-6)


@every_model
def test_a_model_dreams_the_chain(core, smoothing):
    length, number = 4, 40_000
    model = model_by_hand(chain(), core, smoothing)
    state, observations = model.initial_state(number), []
    torch.manual_seed(3)
    with torch.no_grad():
        for t in range(length):
            first = torch.full((number,), t == 0)
            row, state = model.step(first, zeros(number, 0), state)
            observations.append(row.observation)
    flat = torch.cat(observations, -1)
    products = flat[:, :, None] * flat[:, None]
    error = products.std(0) / number**0.5
    expected = observation_covariance(chain(), length)
    assert ((products.mean(0) - expected).abs() < 4.5 * error).all()


@every_latent_model
@pytest.mark.parametrize("length", [1, 2, 15])
def test_the_bound_loses_what_theory_says(core, smoothing, length):
    sequences, exact = played(length, 3_000)
    model = model_by_hand(chain(), core, smoothing)
    lost = exact - bound(model, sequences, "elbo", 1)
    error = lost.std() / len(lost) ** 0.5
    assert abs(lost.mean() - expected_gap(chain(), core, smoothing, length)) < 4 * error
    assert error < 0.15


@every_latent_model
def test_bounds_rise_with_particles_and_stay_below_the_likelihood(core, smoothing):
    sequences, exact = played(12, 600)
    model = model_by_hand(chain(), core, smoothing)
    bounds = [
        bound(model, sequences, name, particles)
        for name, particles in (("elbo", 1), ("iwae", 10), ("iwae", 100))
    ]
    for lower, higher in itertools.pairwise([*bounds, exact]):
        gain = higher - lower
        assert gain.mean() > -2 * gain.std() / len(gain) ** 0.5
    first, last = ((exact - found).mean() for found in (bounds[0], bounds[-1]))
    assert first > 0
    assert last < 0.5 * first


@every_latent_model
@pytest.mark.parametrize("threshold", [0.5, 2.0])
def test_the_filtering_estimate_is_unbiased(core, smoothing, threshold):
    """E p-hat / p = 1 for every sequence, here over the sequences, too."""
    sequences, exact = played(4, 6_000)
    model = model_by_hand(chain(), core, smoothing)
    torch.manual_seed(2)
    with torch.no_grad():
        found = particle_filter(model, sequences, 4, threshold)["observation"].sum(0)
    ratio = (found - exact).exp()
    error = ratio.std() / len(ratio) ** 0.5
    assert abs(ratio.mean() - 1) < 4 * error
    assert error < 0.05


@pytest.mark.parametrize("size", [1, 3])
def test_any_number_of_latents_can_be_set(size):
    one = chain(4, size)
    observations = one.sample(10, 500)[1]
    for core, smoothing in CASES:
        model = model_by_hand(one, core, smoothing)
        lost = one.log_prob(observations).sum(0) - bound(
            model, as_sequences(observations), "elbo", 1
        )
        error = lost.std() / len(lost) ** 0.5 + 1e-6
        assert abs(lost.mean() - expected_gap(one, core, smoothing, 10)) < 4 * error


def test_rows_of_chains_are_silent():
    sequences, _ = played(4, 3)
    assert sequences.rows.action.shape == (4, 3, 0)
    assert sequences.rows.first.sum(0).tolist() == [1, 1, 1]
    assert sequences.loss_mask.all()
