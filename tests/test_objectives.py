"""Laws of objectives and of the trainer."""

import copy
import io
import itertools
import math
from itertools import pairwise

import pytest
import torch
from cores import (
    BITS,
    CORES,
    DEAF,
    LATENT,
    SMOOTHING,
    VARIANTS,
    fed,
    make_model,
    noise_for,
    padded,
    random_rows,
)
from torch import nn

import worldmodel
from worldmodel import (
    ELBO,
    FIVO,
    IWAE,
    Row,
    Sequences,
    Trainer,
    constant,
    cosine,
    cyclical,
    kl_closed_form,
    kl_monte_carlo,
    likelihoods,
    linear,
    log_prob,
    lower_bound,
    nested,
    particle_filter,
)
from worldmodel.likelihoods import filter_particles, increments
from worldmodel.trainer import fetched

# an objective never sees the recurrence of a core
DIFFERENT = [name for name in CORES if name not in VARIANTS]
every_core = pytest.mark.parametrize("name", DIFFERENT)
every_latent_core = pytest.mark.parametrize("name", [n for n in DIFFERENT if n in LATENT])


def close(found, expected, atol=1e-12):
    torch.testing.assert_close(found, expected, rtol=0, atol=atol)


@pytest.mark.parametrize("make", [linear, cosine])
def test_schedules_go_from_start_to_end_and_stay(make):
    schedule = make(2.0, 0.5, 10)
    values = [schedule(step) for step in range(15)]
    assert values[0] == 2.0
    assert values[5] == pytest.approx(1.25)
    assert values[10:] == [0.5] * 5
    assert all(before > after for before, after in pairwise(values[:11]))
    assert make(2.0, 0.5, 0)(1) == 0.5


def test_a_linear_schedule_is_a_line_and_a_cosine_is_flat_at_its_ends():
    line, wave = linear(1.0, 0.0, 8), cosine(1.0, 0.0, 8)
    assert [line(step) for step in range(9)] == [1 - step / 8 for step in range(9)]
    assert wave(0) - wave(1) < 1 / 8 < wave(3) - wave(4)
    assert wave(7) - wave(8) < 1 / 8
    assert {constant(0.3)(step) for step in (0, 5, 999)} == {0.3}


def test_the_loss_of_a_core_without_latents_is_minus_its_log_likelihood_a_row():
    model = make_model("rnn")
    sequences = padded(random_rows(6, 4), [6, 3, 1, 5])
    loss, metrics, _ = ELBO(model)([sequences], (), 0)
    bound = worldmodel.log_prob(model, sequences)
    rows = 6 + 3 + 1 + 5
    close(-loss * rows, sum(value.sum() for value in bound.values()))
    for key, value in bound.items():
        assert metrics[f"{key}_nats"] == pytest.approx(-value.sum().item() / rows, abs=1e-12)
    assert metrics["kl_nats"] == 0
    assert metrics["nats"] == pytest.approx(loss.item(), abs=1e-12)


@every_latent_core
def test_a_weight_changes_the_loss_and_no_metric(name):
    model = make_model(name)
    sequences = padded(random_rows(6, 4), [6, 3, 1, 5])
    noise = noise_for(model, 6, 4)
    losses, metrics = [], []
    for weight in (1.0, 0.0, 0.25):
        with fed(noise):
            loss, found, state = ELBO(model, kl_weight=lambda step, w=weight: w * (step == 7))(
                [sequences], (), 7
            )
        assert state == ()
        losses.append(loss.item())
        metrics.append(fetched(found))
    assert metrics[0] == metrics[1] == metrics[2]
    kl = metrics[0]["kl_nats"]
    assert kl > 0.01
    assert losses[0] == pytest.approx(metrics[0]["nats"], abs=1e-12)
    assert losses[1] == pytest.approx(losses[0] - kl, abs=1e-12)
    assert losses[2] == pytest.approx(losses[0] - 0.75 * kl, abs=1e-12)
    parts = ("observation_nats", "reward_nats", "terminated_nats", "kl_nats")
    assert sum(metrics[0][key] for key in parts) == pytest.approx(losses[0], abs=1e-12)


@every_latent_core
def test_the_divergence_of_a_loss_is_that_of_its_scored_rows(name):
    model = make_model(name)
    sequences = padded(random_rows(5, 3), [5, 2, 4])
    sequences = sequences._replace(loss_mask=sequences.mask & (torch.arange(5)[:, None] >= 1))
    for divergence in (kl_closed_form, kl_monte_carlo):
        noise = noise_for(model, 5, 3)
        with fed(noise):
            metrics = ELBO(model, kl=divergence)([sequences], (), 0)[1]
        with fed(noise):
            inference, _ = model.infer(sequences)
        expected = divergence(model.core, inference)[sequences.loss_mask].sum() / 8
        assert metrics["kl_nats"] == pytest.approx(expected.item(), abs=1e-12)


def gradients(loss, model):
    wanted = list(model.parameters())
    return torch.autograd.grad(loss, wanted, allow_unused=True, materialize_grads=True)


@every_latent_core
@pytest.mark.parametrize("divergence", [kl_closed_form, kl_monte_carlo])
def test_half_the_balance_is_half_the_gradient(name, divergence):
    """The two shares add up to the true gradient; the loss and the metrics are the same."""
    model = make_model(name)
    sequences = padded(random_rows(4, 3), [4, 2, 3])
    found = []
    for weight, balance in ((1.0, None), (2.0, 0.5)):
        objective = ELBO(model, constant(weight), divergence, kl_balance=balance)
        with fed(noise_for(model, 4, 3)):
            loss, metrics, _ = objective([sequences], (), 0)
        rest = loss.item() - weight * metrics["kl_nats"].item()
        found.append((gradients(loss, model), metrics, rest))
    close(found[0][0], found[1][0])
    assert found[0][1] == found[1][1]
    assert found[0][2] == pytest.approx(found[1][2], abs=1e-12)


def test_a_balance_says_who_is_moved():
    model = make_model("vrnn")
    sequences = Sequences.whole(random_rows(1, 3))  # in later rows priors read posteriors' draws

    def of_divergence(balance):
        grads = []
        for weight in (0.0, 1.0):
            with fed(noise_for(model, 4, 3)):
                loss, *_ = ELBO(model, constant(weight), kl_balance=balance)([sequences], (), 0)
            grads.append(gradients(loss, model))
        moved = [name for name, _ in model.named_parameters()]
        return {k for k, a, b in zip(moved, *grads, strict=True) if (a - b).abs().max() > 1e-9}

    assert "core.posterior_out.bias" not in of_divergence(1.0)
    assert "core.prior.2.bias" in of_divergence(1.0)
    assert "core.prior.2.bias" not in of_divergence(0.0)
    assert "core.posterior_out.bias" in of_divergence(0.0)
    with pytest.raises(ValueError, match="between 0 and 1"):
        ELBO(model, kl_balance=1.5)


@every_latent_core
def test_free_nats_are_not_made_smaller(name):
    model = make_model(name)
    sequences = padded(random_rows(4, 3), [4, 2, 3])
    with fed(noise_for(model, 4, 3)):
        kl = kl_closed_form(model.core, model.infer(sequences)[0])
    free = kl[sequences.loss_mask].median().item()
    losses = {}
    for nats in (0.0, free, 1e3):
        with fed(noise_for(model, 4, 3)):
            loss, metrics, _ = ELBO(model, free_nats=nats)([sequences], (), 0)
        losses[nats] = loss
    assert metrics["nats"] == pytest.approx(losses[0.0].item(), abs=1e-12)
    unpaid = (free - kl[sequences.loss_mask]).clamp(min=0).sum() / 9
    close(losses[free] - losses[0.0], unpaid)
    with fed(noise_for(model, 4, 3)):
        weightless, *_ = ELBO(model, constant(0.0))([sequences], (), 0)
    close(gradients(losses[1e3], model), gradients(weightless, model))


def test_a_cycle_is_frozen_first_rises_and_rests():
    schedule = cyclical(0.5, half_cycle=4, freeze=3)
    assert [schedule(step) for step in range(3)] == [0.0] * 3
    for cycle in range(3):
        begin = 3 + 8 * cycle
        rising = [schedule(begin + step) for step in range(4)]
        assert rising == [0.0, 0.125, 0.25, 0.375]
        assert [schedule(begin + step) for step in range(4, 8)] == [0.5] * 4
    with pytest.raises(ValueError, match="half cycle"):
        cyclical(1.0, 0)


def alternation(time=8, batch=6):
    """Symbols that alternate; an end after the second 1, a reward for every 1."""
    start = torch.arange(batch) % 2
    observation = (torch.arange(time)[:, None] + start) % 2
    first = torch.zeros(time, batch, dtype=torch.bool)
    first[0] = True
    reward = torch.where(first, 0.0, observation.double() - 1)
    action = torch.zeros(time, batch, 2).double()
    return Sequences.whole(Row(first, action, observation, reward, torch.zeros_like(first)))


@every_core
@pytest.mark.parametrize("feedback", [True, False])
def test_the_loss_falls_on_what_can_be_learned(name, feedback):
    model = make_model(name, feedback, observations=BITS, rewards=(-1.0, 0.0))
    batch = alternation()
    torch.manual_seed(0)
    trainer = Trainer(ELBO(model), model.parameters(), learning_rate=0.05)
    metrics = [trainer.update([batch]) for _ in range(80)]
    assert all(torch.tensor(list(found.values())).isfinite().all() for found in metrics)
    losses = [found["loss"] for found in metrics]
    assert losses[0] > 0.8
    known = torch.log(torch.tensor(2.0))  # of every symbol, to who remembers none
    known = known if name in DEAF else known / 8  # only the first one is a surprise
    limit = known + 0.15 if feedback else 0.6 * losses[0]  # without: the phase must be inferred
    assert sum(losses[-10:]) / 10 < limit


@every_core
@pytest.mark.parametrize("rewards", [(-1.0, 0.0, 2.0), None])
def test_training_never_meets_nan(name, rewards):
    """Padding, ends everywhere, single rows, large rewards and a high rate: all stay finite."""
    model = make_model(name, rewards=rewards)
    trainer = Trainer(ELBO(model), model.parameters(), learning_rate=0.1)
    torch.manual_seed(0)
    for step in range(20):
        rows = random_rows(1 + step % 4, 3, rewards=rewards, seed=step)
        rows = rows._replace(terminated=~rows.first)
        if rewards is None:
            rows = rows._replace(reward=100 * rows.reward)
        lengths = [len(rows.first), 1, max(1, len(rows.first) - 1)]
        metrics = trainer.update([padded(rows, lengths)])
        assert all(torch.tensor(list(metrics.values())).isfinite())
    assert all(parameter.isfinite().all() for parameter in model.parameters())


@every_core
def test_a_batch_without_scored_rows_teaches_nothing(name):
    """As a batch of short windows may be, that begin within an episode and only burn in."""
    model = make_model(name)
    sequences = Sequences.whole(random_rows(3, 2))
    sequences = sequences._replace(loss_mask=torch.zeros_like(sequences.loss_mask))
    loss, metrics, _ = ELBO(model)([sequences], (), 0)
    assert loss == 0
    assert all(value == 0 for value in metrics.values())
    loss.backward()
    assert all(p.grad is None or (p.grad == 0).all() for p in model.parameters())


# The trainer.


class Pull:
    """Pulls a parameter towards a moving target: an objective with a carried state."""

    def __init__(self, parameter):
        self.parameter = parameter

    def initial_state(self):
        return (torch.zeros(()), {"steps": torch.zeros(())})

    def __call__(self, batch, state, step):
        target, counts = state
        loss = (self.parameter - target - batch).square().sum()
        state = (0.9 * target + 0.1 * batch, {"steps": counts["steps"] + 1})
        return loss, {"target": target.item(), "step": float(step)}, state


def test_the_trainer_carries_state_counts_and_schedules():
    parameter = nn.Parameter(torch.ones(3))
    trainer = Trainer(Pull(parameter), [parameter], learning_rate=linear(0.1, 0.0, 4))
    metrics, moves = [], []
    for _ in range(6):
        before = parameter.detach().clone()
        metrics.append(trainer.update(torch.tensor(1.0)))
        moves.append((parameter.detach() - before).abs().max().item())
    assert [found["step"] for found in metrics] == [0, 1, 2, 3, 4, 5]
    assert metrics[2]["target"] == pytest.approx(0.19)
    assert trainer.state[1]["steps"] == 6
    assert moves[0] == 0  # at its target already
    assert min(moves[1:4]) > 0
    assert moves[4:] == [0, 0]


def test_gradients_are_clipped_and_their_norm_is_reported():
    parameter = nn.Parameter(torch.zeros(2))
    trainer = Trainer(Pull(parameter), [parameter], clip_norm=0.5)
    metrics = trainer.update(torch.tensor(3.0))
    assert metrics["loss"] == 18
    assert metrics["gradient_norm"] == pytest.approx(6 * 2**0.5)
    assert parameter.grad.norm() == pytest.approx(0.5, abs=1e-5)


@every_core
@pytest.mark.parametrize("through_a_file", [False, True])
def test_a_restored_trainer_goes_on_to_the_last_bit(name, through_a_file):
    batches = [[padded(random_rows(5, 3, seed=seed), [5, 2, 4])] for seed in range(6)]

    def make():
        model = make_model(name)
        objective = ELBO(model, kl_weight=linear(0.1, 1.0, 5))
        rate = cosine(0.03, 0.001, 6)
        return model, Trainer(objective, model.parameters(), rate, weight_decay=0.1)

    model, trainer = make()
    torch.manual_seed(3)
    [trainer.update(batch) for batch in batches[:3]]
    saved = (model.state_dict(), trainer.state_dict(), torch.get_rng_state())
    if through_a_file:
        file = io.BytesIO()
        torch.save(saved, file)
        file.seek(0)
        saved = torch.load(file, weights_only=True)
    else:
        saved = copy.deepcopy(saved)
    expected = [trainer.update(batch) for batch in batches[3:]]

    other, restored = make()
    [restored.update(batch) for batch in batches[4:]]  # whatever it did before is forgotten
    other.load_state_dict(saved[0])
    restored.load_state_dict(saved[1])
    torch.set_rng_state(saved[2])
    assert [restored.update(batch) for batch in batches[3:]] == expected
    for one, two in zip(model.parameters(), other.parameters(), strict=True):
        assert torch.equal(one, two)


def test_a_restored_trainer_has_the_carried_state_of_its_objective():
    parameter = nn.Parameter(torch.ones(3))
    trainer = Trainer(Pull(parameter), [parameter])
    [trainer.update(torch.tensor(2.0)) for _ in range(4)]
    saved = copy.deepcopy(trainer.state_dict())
    twin = nn.Parameter(parameter.detach().clone())
    restored = Trainer(Pull(twin), [twin])
    restored.load_state_dict(saved)
    for _ in range(3):
        assert restored.update(torch.tensor(1.0)) == trainer.update(torch.tensor(1.0))
    assert torch.equal(twin, parameter)
    assert restored.updates == 7


def blocks_of_two():
    """Two blocks of unequal length, with padding and unscored rows."""
    short, long = padded(random_rows(3, 2), [3, 1]), padded(random_rows(6, 3, seed=1), [6, 4, 5])
    return [short, long._replace(loss_mask=long.mask & (torch.arange(6)[:, None] >= 2))]


def noise_of_blocks(model, blocks, particles):
    parts = [
        noise_for(model, *block.mask.shape, particles, seed=i) for i, block in enumerate(blocks)
    ]
    return [row for part in parts for row in part]


@every_core
def test_the_importance_weighted_loss_is_minus_the_reported_bound(name):
    model, blocks, particles = make_model(name), blocks_of_two(), 3
    noise = noise_of_blocks(model, blocks, particles)
    with fed(noise):
        loss, metrics, _ = IWAE(model, particles)(blocks, (), 0)
    with fed(noise):
        bounds = [sum(log_prob(model, block, particles).values()).sum() for block in blocks]
    rows = sum(block.loss_mask.sum() for block in blocks)
    assert loss.item() == pytest.approx(-(sum(bounds) / rows).item(), abs=1e-12)
    assert metrics["nats"] == pytest.approx(loss.item())
    assert metrics["nats"] <= metrics["elbo_nats"]
    assert 1 / particles <= metrics["effective_particles"] <= 1 + 1e-12


@every_core
def test_one_particle_makes_the_importance_weighted_bound_the_elbo(name):
    model, blocks = make_model(name), blocks_of_two()
    noise = noise_of_blocks(model, blocks, 1)
    with fed(noise):
        one = IWAE(model, 1)(blocks, (), 0)[0]
    with fed(noise):
        elbo = ELBO(model, kl=kl_monte_carlo)(blocks, (), 0)[0]
    assert one.item() == pytest.approx(elbo.item(), abs=1e-12)


@every_core
def test_several_particles_give_the_mean_of_several_elbos(name):
    model, blocks, particles = make_model(name), blocks_of_two(), 3
    noise = noise_of_blocks(model, blocks, particles)
    with fed(noise):
        mean = ELBO(model, particles=particles)(blocks, (), 0)[0]
    losses = []
    for k in range(particles):
        with fed([row.unflatten(0, (particles, -1))[k] for row in noise]):
            losses.append(ELBO(model)(blocks, (), 0)[0].item())
    assert mean.item() == pytest.approx(sum(losses) / particles, abs=1e-12)


@every_latent_core
def test_particles_are_weighted_by_what_they_explain_of_the_whole_window(name):
    """The gradient is that of the particles' own bounds, weighted by the softmax over particles
    of log w summed over time (neither negated nor averaged over time)."""
    model, particles = make_model(name), 3
    block = padded(random_rows(5, 1), [5])
    noise = noise_for(model, 5, 1, particles)
    with fed(noise):
        found = torch.autograd.grad(
            IWAE(model, particles)([block], (), 0)[0], list(model.parameters()), allow_unused=True
        )
    losses = []
    for k in range(particles):
        with fed([row[k : k + 1] for row in noise]):
            losses.append(ELBO(model, kl=kl_monte_carlo)([block], (), 0)[0])
    weights = (-5 * torch.stack(losses)).softmax(0).detach()
    assert weights.max() > 0.4
    mean = (weights * torch.stack(losses)).sum()
    expected = torch.autograd.grad(mean, list(model.parameters()), allow_unused=True)
    for gradient, other in zip(found, expected, strict=True):
        if gradient is None:
            assert other is None
        else:
            torch.testing.assert_close(gradient, other, atol=1e-11, rtol=1e-9)


def test_no_particle_is_refused():
    with pytest.raises(ValueError, match="one particle or more, got 0"):
        IWAE(make_model("rnn"), 0)


@every_core
def test_a_filter_that_never_resamples_gives_the_importance_weighted_bound(name):
    model, particles = make_model(name), 4
    block = blocks_of_two()[1]
    noise = noise_for(model, *block.mask.shape, particles)
    with fed(noise):
        found = particle_filter(model, block, particles, threshold=0.0)
    with fed(noise):
        expected = log_prob(model, block, particles)
    assert found.keys() == expected.keys()
    for key, value in expected.items():
        close(found[key], value, atol=1e-10)


@every_latent_core
def test_a_resampled_particle_goes_on_from_its_ancestor(name):
    """With all weight on one particle, every other becomes its copy: the state, not only the
    weight."""
    model, particles = make_model(name), 3
    block = padded(random_rows(4, 2), [4, 3])
    noise = noise_for(model, 4, 2, particles)
    seen = []

    def pick(weights, number, replacement):
        return torch.zeros(len(weights), number, dtype=torch.long)  # always the first

    explain = model.core.posterior_step

    def watched(prepared, state):
        seen.append(state)
        return explain(prepared, state)

    model.core.posterior_step = watched
    torch_multinomial, torch.multinomial = torch.multinomial, pick
    try:
        with fed(noise):
            particle_filter(model, block, particles, threshold=2.0)
    finally:
        torch.multinomial = torch_multinomial
    for state in seen[1:]:
        for leaf in worldmodel.nested.leaves(state):
            parts = leaf.unflatten(0, (particles, -1))
            close(parts, parts[:1].expand_as(parts))


@every_core
def test_the_filtering_loss_can_be_descended(name):
    model, blocks = make_model(name), blocks_of_two()
    torch.manual_seed(0)
    trainer = Trainer(FIVO(model, 4), model.parameters(), learning_rate=0.01)
    metrics = [trainer.update(blocks) for _ in range(30)]
    assert metrics[-1]["nats"] < metrics[0]["nats"] - 0.2
    parts = ("observation_nats", "reward_nats", "terminated_nats")
    assert sum(metrics[0][key] for key in parts) == pytest.approx(metrics[0]["nats"])


def chooser(choices, probabilities):
    """Draws the given ancestors, and notes how probable they were."""
    queue = iter(choices)

    def choose(weights, count, replacement):
        ancestors = torch.tensor([next(queue)])
        probabilities.append(weights.gather(1, ancestors).prod())
        return ancestors

    return choose


@pytest.mark.parametrize(
    ("name", "time"), [("vrnn", 3), ("srnn filtering", 2), ("rssm categorical", 2)]
)
def test_with_the_resampling_gradient_it_is_the_gradient_of_the_bound(name, time, monkeypatch):
    """All choices of ancestors enumerated: two particles, resampled after each row."""
    model = make_model(name)
    sequences = Sequences.whole(random_rows(time, 1))
    noise = noise_for(model, time, 1, particles=2)
    exact, total = 0.0, 0.0
    estimates = {True: [], False: []}
    for choices in itertools.product(itertools.product((0, 1), repeat=2), repeat=time):
        probabilities = []
        monkeypatch.setattr(torch, "multinomial", chooser(choices, probabilities))
        with fed(noise):
            gains, scores = filter_particles(model, sequences, 2, threshold=2.0)
        bound, probability = sum(x.sum() for x in gains.values()), scores.sum().exp()
        close(probability.detach(), torch.stack(probabilities).prod())
        exact = exact - probability * bound / time
        total += probability.item()
        for resampling in (True, False):
            monkeypatch.setattr(torch, "multinomial", chooser(choices, []))
            with fed(noise):
                loss, metrics, _ = FIVO(model, 2, 2.0, resampling)([sequences], (), 0)
            assert loss.item() == pytest.approx(-bound.item() / time, abs=1e-12)
            assert metrics["nats"] == pytest.approx(-bound.item() / time, abs=1e-12)
            flat = torch.cat([part.flatten() for part in gradients(loss, model)])
            estimates[resampling].append(probability.item() * flat)
    assert total == pytest.approx(1.0, abs=1e-12)
    found, plain = (torch.stack(estimates[resampling]).sum(0) for resampling in (True, False))
    close(found, torch.cat([part.flatten() for part in gradients(exact, model)]), atol=1e-10)
    assert (found - plain).abs().max() > 1e-4


@every_core
@pytest.mark.parametrize("bound", [log_prob, lower_bound])
def test_scoring_in_turn_is_scoring_at_once(name, bound):
    model, time, batch, particles = make_model(name), 6, 2, 3
    sequences = padded(random_rows(time, batch), [6, 4])
    noise = noise_for(model, time, batch, particles)
    with fed(noise):
        expected = bound(model, sequences, particles)
    in_turn = noise.unflatten(1, (particles, batch)).transpose(0, 1).flatten(0, 1)
    for at_once in (1, 4, 2 * batch * 2):
        with fed(in_turn):
            close(bound(model, sequences, particles, at_once), expected)


def regressing(name, **options):
    """A model with and one without a regression of rewards, otherwise the same."""
    with_it, without = (make_model(name, rewards=None, regression=on) for on in (True, False))
    without.load_state_dict(with_it.state_dict(), strict=False)
    return with_it, without


@every_core
def test_a_regression_is_part_of_the_loss_and_of_no_bound(name):
    with_it, without = regressing(name)
    sequences = padded(random_rows(6, 4, rewards=None), [6, 3, 1, 5])
    noise = noise_for(with_it, 6, 4, particles=2)
    found = []
    for model in (with_it, without):
        with fed(noise):
            loss, metrics, _ = ELBO(model, particles=2)([sequences], (), 0)
        with fed(noise):
            bound = log_prob(model, sequences, 2)
        found.append((loss, fetched(metrics), bound))
    (loss, metrics, bound), (plain_loss, plain_metrics, plain_bound) = found
    regression = metrics.pop("reward_regression")
    assert regression > 0.1
    assert metrics == plain_metrics
    assert loss.item() == pytest.approx(plain_loss.item() + regression, abs=1e-12)
    assert bound.keys() == plain_bound.keys()
    for key, value in bound.items():
        assert torch.equal(value, plain_bound[key])


def test_a_regression_reads_the_rows_that_are_scored():
    """By hand: the rewards after first rows, within each column's length; two particles."""
    model = regressing("vrnn")[0]
    sequences = padded(random_rows(6, 4, rewards=None), [6, 3, 1, 5])
    sequences.rows.reward[~sequences.mask] = torch.nan
    with fed(noise_for(model, 6, 4, particles=2)):
        inference, _ = model.infer(sequences, model.initial_state(4), 2)
    features = model.core.features(inference.states)
    losses = model.percepts.scores(features, sequences)[1]["reward"]
    assert losses.shape == (6, 2, 4)
    counted = sequences.mask & ~sequences.rows.first
    assert ((losses != 0) == counted[:, None]).all()
    rows = model.percepts.fill(sequences).rows
    percept = {key: x.repeat(1, 2) for key, x in rows.percept.items()}
    prediction = model.percepts.predict(features)
    said = prediction.consequences(percept["observation"]).regressions["reward"]
    close(prediction.losses(percept)["reward"], said.loss(percept["reward"]))
    expected = said.loss(percept["reward"]).unflatten(1, (2, 4))
    close(losses, torch.where(counted[:, None], expected, 0.0))
    assert said.mean.shape == (6, 8)
    losses.sum().backward()
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    assert all(gradient.isfinite().all() for gradient in gradients)


def test_a_regression_that_nothing_would_teach_is_refused():
    model = regressing("vrnn")[0]
    for bound in (IWAE, FIVO):
        with pytest.raises(ValueError, match=f"{bound.__name__} .* the decoder regresses reward"):
            bound(model, 2)


def test_a_regression_learns_the_rewards():
    torch.manual_seed(0)
    model = make_model("rnn", rewards=None, observations=BITS, regression=True)
    sequences = alternation()
    sequences = sequences._replace(
        rows=sequences.rows._replace(reward=1000 * sequences.rows.reward)
    )
    trainer = Trainer(ELBO(model), model.parameters(), 0.03)
    first = trainer.update([sequences])["reward_regression"]
    for _ in range(100):
        metrics = trainer.update([sequences])
    assert metrics["reward_regression"] < 0.5 * first
    inference, _ = model.infer(sequences, model.initial_state(6))
    prediction = model.percepts.predict(model.core.features(inference.states))
    said = prediction.consequences(sequences.rows.observation).regressions["reward"].mean
    config = sequences.rows.reward[1:]
    assert torch.corrcoef(torch.stack([said[1:].flatten(), config.flatten()]))[0, 1] > 0.9


def in_pieces(model, sequences, particles, rows):
    """log w by key of the particles, [T, K, B]: a few rows after the other, by hand."""
    state, parts = model.initial_state(sequences.mask.shape[1]), []
    for begin in range(0, len(sequences.mask), rows):
        piece = nested.index(sequences, slice(begin, begin + rows))
        inference, state = model.infer(piece, state, particles)
        parts.append(increments(model, piece, inference))
    return nested.concatenate(parts)


@every_core
@pytest.mark.parametrize("history", [1, 3])
def test_long_sequences_are_scored_in_pieces(name, history, monkeypatch):
    """Of filters the bounds are the same; of smoothers they are those of the pieces."""
    model, time, particles = make_model(name, history=history), 7, 3
    sequences = padded(random_rows(time, 3), [7, 5, 2])
    noise = noise_for(model, time, 3, particles)
    for bound in (lower_bound, log_prob, particle_filter):
        with fed(noise):
            torch.manual_seed(0)
            whole = sum(bound(model, sequences, particles).values())
        monkeypatch.setattr(likelihoods, "LONGEST", 3)
        with fed(noise):
            torch.manual_seed(0)
            found = sum(bound(model, sequences, particles).values())
        monkeypatch.undo()
        if model.core.filtering:
            close(found, whole, atol=1e-10)
        elif bound is not particle_filter:
            with fed(noise), torch.no_grad():
                weights = sum(in_pieces(model, sequences, particles, 3).values())
            expected = weights.mean(1) if bound is lower_bound else weights.sum(0).logsumexp(0)
            expected = expected if bound is lower_bound else expected - math.log(particles)
            close(found if bound is lower_bound else found.sum(0), expected, atol=1e-10)
            assert (found - whole).abs().max() > 1e-9


@pytest.mark.parametrize("name", SMOOTHING)
def test_a_smoothers_filter_that_never_resamples_is_the_bound_in_pieces(name, monkeypatch):
    monkeypatch.setattr(likelihoods, "LONGEST", 3)
    model, sequences = make_model(name, history=2), padded(random_rows(7, 3), [7, 5, 2])
    noise = noise_for(model, 7, 3, 4)
    with fed(noise):
        found = particle_filter(model, sequences, 4, threshold=0.0)
    with fed(noise):
        expected = log_prob(model, sequences, 4)
    close(sum(found.values()), sum(expected.values()), atol=1e-10)
