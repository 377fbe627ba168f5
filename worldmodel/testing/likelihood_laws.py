"""Laws of the likelihoods of a world model around a core: they are probabilities, and bounds."""

import itertools
from collections.abc import Sequence
from functools import cache
from typing import cast

import torch
from torch import Tensor, nn

from worldmodel import nested
from worldmodel.codecs import PerceptDecoder
from worldmodel.likelihoods import kl_closed_form, kl_monte_carlo, log_prob, particle_filter
from worldmodel.model import WorldModel
from worldmodel.objectives import ELBO
from worldmodel.schedules import constant
from worldmodel.sequences import Row, Sequences
from worldmodel.testing.core_laws import AROUND, CoreCase, has_latents
from worldmodel.testing.law import SIGMAS, Laws, agree, close, cross, demand, finite
from worldmodel.testing.material import (
    BITS,
    Blind,
    core_states,
    fed,
    noise_for,
    padded,
    random_rows,
    sum_of,
)
from worldmodel.trainer import Trainer

LIKELIHOOD_LAWS = Laws()
"""Laws of the bounds of cores."""
# The weights of a decoder, the first of which is taken that gives precise estimates: latents
# matter much, and all rows are possible.
STRENGTHS = (3.0, 2.0, 1.0, 0.5)


def has_none(case: CoreCase) -> bool:
    return not has_latents(case)


def all_sequences(time: int, rewards: Sequence[float] = (-1.0, 0.0), seed: int = 0) -> Sequences:
    """The sequences of all percepts of `time` rows over two symbols, two rewards and ends, for
    actions drawn once."""
    steps = list(itertools.product((0, 1), rewards, (False, True)))
    sequences = [
        [(start, 0.0, False), *rest]
        for start in (0, 1)
        for rest in itertools.product(steps, repeat=time - 1)
    ]
    observation, reward, terminated = (
        torch.tensor([[row[part] for row in rows] for rows in sequences]).t() for part in range(3)
    )
    actions = random_rows(time, 1, seed=seed).action.expand(-1, len(sequences), -1)
    first = torch.zeros(time, len(sequences), dtype=torch.bool)
    first[0] = True
    return Sequences.whole(Row(first, actions, observation, reward.double(), terminated))


def repeated(one: Sequences, times: int) -> Sequences:
    """Copies of a sequence [T, 1, ...], side by side."""
    return nested.map(lambda leaf: leaf.expand(-1, times, *leaf.shape[2:]), one)


def scale(module: torch.nn.Module, factor: float) -> None:
    """Multiplies all parameters."""
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.mul_(factor)


@LIKELIHOOD_LAWS.add(cross(AROUND, [{"time": 1}, {"time": 2}, {"time": 3}]), has_none)
def probabilities_of_all_sequences_sum_to_one(
    case: CoreCase, feedback: bool, history: int, time: int
) -> None:
    """Checked for a core without latents, exactly."""
    model = case.model(feedback, history, observations=BITS, rewards=(-1.0, 0.0))
    for seed in range(3):
        sequences = all_sequences(time, seed=seed)
        demand(sequences.mask.shape[1] == 2 * 8 ** (time - 1), "not all sequences")
        probabilities = sum_of(log_prob(model, sequences)).sum(0).exp()
        off = abs(float(probabilities.sum()) - 1)
        demand(off < 1e-10, f"the sum is {float(probabilities.sum())}")
        demand(probabilities.max() < 0.9, "one sequence has nearly all probability")


@LIKELIHOOD_LAWS.add()
def text_has_neither_actions_nor_rewards(case: CoreCase) -> None:
    """Sizes are zero, keys are absent, and everything works as ever."""
    model = case.model(observations=BITS, silent=True, actions=0)
    strings = torch.tensor(list(itertools.product((0, 1), repeat=4))).t()  # [4, 16]
    first = torch.zeros(4, 16, dtype=torch.bool)
    first[0] = True
    nothing = torch.full((4, 16), torch.nan).double()  # never read
    sequences = Sequences.whole(Row(first, nothing[..., None][..., :0], strings, nothing, ~first))
    noise = noise_for(model, 4, 16)
    with fed(noise):
        log_probs = log_prob(model, sequences)
    demand(list(log_probs) == ["observation"], f"log probabilities of {list(log_probs)}")
    if has_none(case):
        total = float(log_probs["observation"].sum(0).exp().sum())
        demand(abs(total - 1) < 1e-10, f"probabilities of all strings add up to {total}")
    with fed(noise):
        loss, metrics, _ = ELBO(model)([sequences], (), 0)
    finite(loss, "the loss")
    expected = {"observation_nats", "kl_nats", "nats"}
    demand(metrics.keys() == expected, f"metrics {set(metrics)}, expected {expected}")
    row, state = model.step(first[0], sequences.rows.action[0], model.initial_state(16))
    row, _ = model.step(first[1], sequences.rows.action[1], state)
    demand(not row.reward.any() and not row.terminated.any(), "text with rewards or ends")
    demand(row.action.shape == (16, 0), f"actions of shape {tuple(row.action.shape)}")


def gentle_model(case: CoreCase, **options: object) -> WorldModel:
    """A model whose posteriors are not far from its priors: importance weights stay moderate."""
    model = case.model(**options)  # type: ignore[arg-type]
    scale(model.core, 0.4)
    return model


def sharpen(model: WorldModel, factor: float) -> None:
    """Makes predictions surer by a factor; ends no longer read rewards, or few draws of latents
    would have all of the weight."""
    decoder = cast(PerceptDecoder, model.percepts.decoder)
    scale(decoder, factor)
    nn.init.zeros_(decoder.after)


@cache
def fitted_model(case: CoreCase) -> WorldModel:
    """A model with latents that matter, and posteriors that are fitted to them."""
    divergences = []
    for weight, updates in case.fits:
        model = gentle_model(case, observations=BITS, rewards=(-1.0, 0.0))
        sharpen(model, 3.0)
        torch.manual_seed(0)
        objective = ELBO(model, kl_weight=constant(weight))
        trainer = Trainer(objective, model.core.parameters(), learning_rate=0.03)
        metrics = [trainer.update([all_sequences(3)]) for _ in range(updates)]
        divergences.append(metrics[-1]["kl_nats"])
        if divergences[-1] > case.says:
            return model
    raise AssertionError(
        f"trained in the ways {case.fits} (a KL weight, and updates), its latents say only "
        f"{', '.join(f'{nats:.4f}' for nats in divergences)} nats a row, not {case.says}"
    )


LENGTHS = [
    {"time": 1, "particles": 1000},
    {"time": 2, "particles": 100},
    {"time": 3, "particles": 50},
]


@LIKELIHOOD_LAWS.add(LENGTHS, has_latents, slow=True)
def estimated_probabilities_of_all_sequences_sum_to_one(
    case: CoreCase, time: int, particles: int
) -> None:
    """Checked by importance sampling, within standard errors. Without latents' weights sums of a
    fitted model lie between 1.3 and 7: prior, posterior and their densities belong together."""
    model = fitted_model(case)
    sequences = all_sequences(time)
    number, repeats = sequences.mask.shape[1], 24
    many = nested.map(lambda leaf: torch.cat([leaf] * repeats, 1), sequences)
    torch.manual_seed(0)
    log_probs = sum_of(log_prob(model, many, particles)).sum(0)
    sums = log_probs.exp().unflatten(0, (repeats, number)).sum(1)
    agree(sums, 1.0, "the sum of all probabilities")
    error = float(sums.std() / repeats**0.5)
    demand(error < 0.04, f"a standard error of {error:.3f}: too much to tell anything")


@cache
def blind_model(case: CoreCase) -> tuple[WorldModel, Sequences, Tensor]:
    """A model whose posterior is its prior, so that no weight exceeds one; a sequence [T, 1, ...],
    and estimates [8] of its likelihood by importance sampling."""
    one = Sequences.whole(random_rows(4, 1))
    for strength in STRENGTHS:
        model = case.model()
        sharpen(model, strength)
        model.core = Blind(model.core)
        torch.manual_seed(0)
        runs = [sum_of(log_prob(model, one, 40_000)).sum().exp() for _ in range(8)]
        found = torch.stack(runs)
        if found.std() / 8**0.5 < 0.07 * found.mean():
            break
    return model, one, found


@LIKELIHOOD_LAWS.add([{"threshold": 0.6}, {"threshold": 2.0}], has_latents, slow=True)
def the_filter_estimates_the_likelihood_without_bias(case: CoreCase, threshold: float) -> None:
    """A particle filter, resampling sometimes or always, beside plain importance sampling."""
    draws = 20_000
    model, one, exact = blind_model(case)
    torch.manual_seed(1)
    with torch.no_grad():
        found = sum_of(particle_filter(model, repeated(one, draws), 4, threshold)).sum(0).exp()
    error = (exact.var() / len(exact) + found.var() / draws).sqrt()
    demand(error < 0.1 * exact.mean(), f"a standard error of {float(error):.3g}: nothing is told")
    agree(found, exact.mean(), "the filter's estimate of the likelihood", error)


@LIKELIHOOD_LAWS.add(concerns=has_latents)
def closed_and_sampled_divergences_agree(case: CoreCase) -> None:
    """The divergence of the distributions is the mean of log q - log p at the latents drawn: what
    `posterior_step` draws is drawn from the posterior that it gives."""
    time, particles = 3, 20_000
    model = case.model()
    sequences = Sequences.whole(random_rows(time, 1))
    torch.manual_seed(0)
    with torch.no_grad():
        inference, _ = model.infer(sequences, model.initial_state(1), particles)
    inference = inference._replace(states=core_states(inference))
    closed = kl_closed_form(model.core, inference)
    sampled = kl_monte_carlo(model.core, inference)
    demand((closed > 0).all(), f"divergences {closed.mean(1).tolist()}: posterior and prior agree")
    agree((sampled - closed).t(), torch.zeros(time), "sampled minus closed divergence")
    error = (sampled - closed).std(1) / particles**0.5
    demand((error < 0.1 * closed.mean(1)).all(), "errors too large to tell anything")


@LIKELIHOOD_LAWS.add(concerns=has_latents, slow=True)
def bounds_rise_with_particles_towards_the_likelihood(case: CoreCase) -> None:
    """The importance-weighted bound rises in K, stays below the likelihood, and begins with the
    evidence lower bound."""
    time, draws, most = 4, 3000, 25
    model = gentle_model(case)
    one = Sequences.whole(random_rows(time, 1))
    many = repeated(one, draws)
    noise = noise_for(model, time, draws, most)

    def bound(particles: int) -> Tensor:
        with fed(noise[:, : particles * draws]):
            return sum_of(log_prob(model, many, particles, at_once=noise.numel())).sum(0)

    bounds = [bound(particles) for particles in (1, 5, most)]  # [draws] each, paired
    for lower, higher in itertools.pairwise(bounds):
        gain = higher - lower
        rises = gain.mean() > SIGMAS * gain.std() / draws**0.5
        demand(rises, f"more particles gain {float(gain.mean()):.4g} nats")
    torch.manual_seed(1)
    exact = torch.stack([sum_of(log_prob(model, one, 20_000)).sum() for _ in range(5)])
    first, last = bounds[0], bounds[-1]
    error = (exact.var() / 5 + last.var() / draws).sqrt()
    found = f"bounds of {float(first.mean()):.4f} and {float(last.mean()):.4f} nats"
    found += f", a log likelihood of {float(exact.mean()):.4f}"
    demand(last.mean() < exact.mean() + SIGMAS * error, f"a bound above the likelihood: {found}")
    near = exact.mean() - last.mean() < 0.5 * (last.mean() - first.mean())
    demand(near, f"{most} particles do not come near: {found}")
    with fed(noise[:, :draws]):
        closed = -ELBO(model)([many], (), 0)[1]["nats"] * time
    agree(first, closed, "the bound of one particle, beside the ELBO")


@LIKELIHOOD_LAWS.add([{"particles": 1}, {"particles": 4}])
def entries_by_key_add_up_to_the_bound(case: CoreCase, particles: int) -> None:
    """log 1/K sum_k p(x, z_k) / q(z_k), and so for every shorter sequence."""
    time, batch = 4, 3
    model = case.model()
    sequences = padded(random_rows(time, batch), [4, 2, 3])
    noise = noise_for(model, time, batch, particles)
    with fed(noise):
        entries = log_prob(model, sequences, particles)
    with fed(noise):
        inference, _ = model.infer(sequences, model.initial_state(batch), particles)
    density, states = model.core.latent_distribution, core_states(inference)
    weights = density(inference.prior).log_prob(states.latent)
    weights = weights - density(inference.posterior).log_prob(states.latent)
    weights = weights.unflatten(1, (particles, batch)).masked_fill(~sequences.mask[:, None], 0)
    weights = weights + sum_of(model.log_probs(states, sequences))  # [T, K, B]
    for t in range(time):
        bound = weights[: t + 1].sum(0).exp().mean(0).log()
        close(sum_of(entries)[: t + 1].sum(0), bound, f"the bound of the first {t + 1} rows")
    for key in ("reward", "terminated"):
        demand((entries[key][0] == 0).all(), f"a first row has an entry of {key}")


@LIKELIHOOD_LAWS.add()
def a_broken_model_is_not_reported_as_a_perfect_one(case: CoreCase) -> None:
    """Parameters that are NaN give likelihoods that are NaN."""
    model = case.model()
    with torch.no_grad():
        for parameter in model.percepts.decoder.parameters():
            parameter.fill_(torch.nan)
    reported = sum_of(log_prob(model, Sequences.whole(random_rows(3, 2)))).sum(0)
    demand(reported.isnan().all(), f"a broken model is reported with {reported.tolist()} nats")
