"""Laws of calibration: right probabilities are found right, wrong ones wrong by what they are."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from cores import CORES, REWARDS, make_model, padded, random_rows
from gymnasium import spaces
from scipy.stats import norm
from torch import distributions as td

from worldmodel import ModelState, Row, Sequences, log_prob, nested
from worldmodel.codecs import Consequences, Prediction
from worldmodel.distributions import Bernoulli, Categorical, FiniteSupport
from worldmodel.experiments.measure import calibration as module
from worldmodel.experiments.measure.calibration import (
    OF_IMAGES,
    Predictions,
    calibration,
    distance_to_uniform,
    particles_for,
    predictions,
    rank_of,
    reliability,
    reliability_of_rewards,
    uniformity,
)

VALUES = (-1.0, 0.0, 2.0)
LENGTHS = (90, 60, 60, 9, 2)
COPIES = 30  # of each length


class Teller:
    """A model that hears from the action how probable things are, and repeats it, changed.

    action [*, 3]: how probable it is that the observation is 1, and not 0, and the end then, and
    the end else. Rewards take VALUES, as probable as the same numbers say, or have a density.
    """

    device = torch.device("cpu")

    def __init__(self, change=lambda p: p, density=None, separate=False, box=False):
        self.change, self.density, self.box = change, density, box
        self.percepts = SimpleNamespace(separate=separate)

    def initial_state(self, batch_size):
        return ModelState(torch.zeros(batch_size, 1), torch.zeros(batch_size, 1, 1))

    def infer(self, sequences, state, particles):
        count = particles * sequences.mask.shape[1]
        assert len(state.core) in (count, count // particles)
        return None, ModelState(torch.zeros(count, 1), torch.zeros(count, 1, 1))

    def predict(self, action, state):
        assert len(action) == len(state.core)

        def then(observation):
            one = observation == 1 if observation is not None else True
            end = self.change(torch.where(torch.as_tensor(one), action[:, 1], action[:, 2]))
            if self.density is None:
                reward = FiniteSupport(of_values(action).log(), torch.tensor(VALUES))
            else:
                reward = td.Normal(action[:, 0], self.density)
            return Consequences({"reward": reward, "terminated": Bernoulli(end.logit())})

        seen = Categorical(torch.stack([1 - action[:, 0], action[:, 0]], -1).log())
        if self.box:
            seen = td.Bernoulli(action[:, 0])
        separate = self.percepts.separate
        return Prediction(lambda: seen, then, action.shape[:1], separate), state.core


def of_values(action):
    """The probabilities of VALUES, [*, 3]."""
    return torch.nn.functional.softmax(3 * action, -1)


@pytest.fixture(autouse=True)
def float64():
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def world(seed=0, density=False):
    """Episodes of what a Teller with nothing to change tells, [T, B]."""
    torch.manual_seed(seed)
    lengths = torch.tensor(LENGTHS * COPIES)
    shape = (max(LENGTHS), len(lengths))
    action = torch.rand(*shape, 3) * 0.98 + 0.01
    one = torch.rand(shape) < action[..., 0]
    ended = torch.rand(shape) < torch.where(one, action[..., 1], action[..., 2])
    reward = torch.tensor(VALUES)[Categorical(of_values(action).log()).sample()]
    if density:
        reward = td.Normal(action[..., 0], 1.0).sample()
    time = torch.arange(shape[0])[:, None]
    first = (time == 0).expand(shape)
    mask = time < lengths
    return Sequences(Row(first, action, one.long(), reward, ended), mask, mask)


COUNT = COPIES * (sum(LENGTHS) - len(LENGTHS))


def within(reliable, amount=0.0):
    """Each bin is off by the amount, within four standard errors of its frequency."""
    for b in reliable.bins:
        error = math.sqrt(max(b.predicted * (1 - b.predicted), 1e-3) / b.number)
        assert abs(b.happened - b.predicted) == pytest.approx(amount, abs=4 * error + 1e-3)


@pytest.mark.parametrize("box", [False, True])
def test_right_probabilities_are_calibrated(box):
    found = calibration(Teller(box=box), world(), particles=4 if not box else 200)
    assert found.end.number == COUNT
    assert found.reward.number == 3 * COUNT
    assert found.values == list(VALUES)
    assert found.density is None
    within(found.reward)
    assert found.reward.error < 2 * found.reward.by_chance
    within(found.end, 0.0)
    assert found.end.error < 2 * found.end.by_chance + (0.02 if box else 0)  # of 200 draws


def test_overconfidence_shows_by_its_very_amount():
    """Of an end that does not depend on what is seen: all that is past a half is past it more."""
    sequences = world()
    action = sequences.rows.action.clone()
    action[..., 1:] = 0.2 + 0.6 * action[..., 1:2]  # from 0.2 to 0.8
    torch.manual_seed(1)
    ended = torch.rand(action.shape[:2]) < action[..., 1]
    rows = sequences.rows._replace(action=action, terminated=ended)
    sequences = sequences._replace(rows=rows)

    def overconfident(p):
        return torch.where(p < 0.5, p - 0.15, p + 0.15)

    wrong = calibration(Teller(overconfident), sequences, 2).end
    within(wrong, 0.15)
    assert wrong.error == pytest.approx(0.15, abs=4 * 0.5 / COUNT**0.5)
    assert wrong.by_chance < 0.02
    assert max(b.predicted for b in wrong.bins) > 0.9
    right = calibration(Teller(), sequences, 2).end
    within(right)
    assert right.error < 0.02


def test_a_separate_decoder_is_asked_without_an_observation():
    sequences = world()
    action = sequences.rows.action
    rows = sequences.rows._replace(terminated=torch.rand(action.shape[:2]) < action[..., 1])
    found = calibration(Teller(separate=True), sequences._replace(rows=rows), 2)
    within(found.end)


@pytest.mark.parametrize("separate", [False, True])
@pytest.mark.parametrize("std", [1.0, 0.5, 3.0])
def test_a_density_is_judged_by_its_transform(std, separate):
    sequences = world(density=True)
    found = calibration(Teller(density=std, separate=separate), sequences, 100).density
    assert found.number == sum(found.counts) == COUNT
    errors = 4 * 0.5 / COUNT**0.5
    for share, within_ in ((0.5, found.within_half), (0.9, found.within_most)):
        covered = 2 * norm.cdf(std * norm.ppf(0.5 + share / 2)) - 1
        assert within_ == pytest.approx(covered, abs=errors + 0.015)  # of 100 draws
    x = np.linspace(0, 1, 100_002)[1:-1]
    off = np.abs(norm.cdf(std * norm.ppf(x)) - x).mean()
    assert found.error == pytest.approx(off, abs=0.01)
    assert found.by_chance < 0.02


def test_what_was_held_impossible_is_counted():
    sequences = world()
    reward = sequences.rows.reward.clone()
    reward[3] = 7.0
    sequences = sequences._replace(rows=sequences.rows._replace(reward=reward))
    found = predictions(Teller(), sequences, 2)
    assert found.values.tolist() == [*VALUES, 7.0]
    assert (found.probability[:, 3] == 0).all()
    assert (found.reward == 7).sum() == COPIES * 4  # episodes that last so long


@pytest.mark.parametrize("name", ["rnn", "rnn skip layers"])
def test_without_latents_probabilities_are_exact(name):
    """The sum of the likelihoods of all that could be seen and earned, with the end."""
    model = make_model(name)
    rows = random_rows(4, 2)
    found = predictions(model, padded(rows, [4, 4]), 3)
    last = slice(-2, None)  # the last row of either episode

    def probability(column, observation, reward, ended):
        row = nested.index(rows, (slice(None), slice(column, column + 1)))
        for leaf, value in zip(row[2:], (observation, reward, ended), strict=True):
            leaf[-1] = value
        whole, before = padded(row, [4]), nested.index(padded(row, [4]), slice(3))
        totals = [sum(log_prob(model, s).values()).sum() for s in (whole, before)]
        return (totals[0] - totals[1]).exp().item()

    for column in (0, 1):
        table = np.array(
            [
                [[probability(column, o, r, e) for e in (False, True)] for r in REWARDS]
                for o in (1, 2, 3)
            ]
        )
        assert table.sum() == pytest.approx(1)
        assert found.end[last][column] == pytest.approx(table[..., 1].sum())
        assert found.probability[last][column] == pytest.approx(table.sum((0, 2)))


@pytest.mark.parametrize("name", CORES)
def test_predictions_know_nothing_of_what_they_predict(name):
    """Nor of what comes after it: smoothers, too, go row by row."""
    model = make_model(name)

    def ends(changed_from):
        rows, other = random_rows(6, 2), random_rows(6, 2, seed=1)
        late = torch.arange(6)[:, None].expand(6, 2) >= changed_from
        mixed = nested.map(lambda a, b: torch.where(nested.broadcast(late, a), a, b), other, rows)
        mixed = mixed._replace(action=rows.action)  # which is known before
        torch.manual_seed(0)
        return predictions(model, padded(mixed, [6, 6]), 2).end.reshape(5, 2)

    before, after = ends(6), ends(3)
    assert np.array_equal(before[:3], after[:3])  # of the rows 1, 2 and 3
    if name != "vae":  # which remembers nothing
        assert not np.array_equal(before[3:], after[3:])


def test_episodes_that_are_over_leave_the_others_alone():
    model = make_model("rnn")
    rows = random_rows(7, 3)
    every = predictions(model, padded(rows, [3, 7, 5]), 2)
    assert len(every.end) == 2 + 6 + 4
    alone = [
        predictions(model, nested.index(padded(rows, [3, 7, 5]), (slice(None), [b])), 2).end
        for b in range(3)
    ]
    assert sorted(every.end) == pytest.approx(sorted(np.concatenate(alone)))


def test_bins_hold_what_they_should():
    probability = np.array([0.0, 0.005, 0.05, 0.05, 0.55, 1.0])
    happened = np.array([False, False, True, False, True, True])
    found = reliability(probability, happened)
    assert [(b.low, b.high, b.number) for b in found.bins] == [
        (0, 0.01, 2),
        (0.03, 0.1, 2),
        (0.5, 0.6, 1),
        (0.99, 1, 1),
    ]
    assert [b.happened for b in found.bins] == [0, 0.5, 1, 1]
    assert found.error == pytest.approx((2 * 0.0025 + 2 * 0.45 + 0.45) / 6)
    assert found.happened == 3
    for b in found.bins:
        assert b.interval[0] <= b.happened <= b.interval[1]


def test_the_error_of_rewards_by_chance_knows_that_one_value_comes():
    """What right predictions were off by in worlds that follow them."""
    random = np.random.default_rng(0)
    probability = random.dirichlet(np.ones(3), 300)
    values = np.array([-1.0, 0.0, 2.0])
    none, off = np.zeros(0), []
    for _ in range(100):
        place = (random.random((300, 1)) > probability.cumsum(1)[:, :-1]).sum(1)
        held = Predictions(none, none, values[place], values, probability, none)
        off.append(reliability_of_rewards(held))
    assert np.mean([one.error for one in off]) == pytest.approx(off[0].by_chance, rel=0.1)
    assert {one.happened for one in off} == {300}
    assert {one.number for one in off} == {900}


def test_ranks_among_draws_of_the_same_are_uniform():
    """Also where many are alike, and among few."""
    torch.manual_seed(0)
    for draw in (torch.randn, lambda *shape: torch.randint(3, shape).double()):
        rank = rank_of(draw(4_000), draw(3, 4_000)).numpy()
        found = uniformity(rank)
        assert found.error < 3 * found.by_chance
        assert sum(found.counts) == 4_000


def test_the_distance_to_uniform_by_chance_is_what_it_is_said_to_be():
    random = np.random.default_rng(0)
    off = [distance_to_uniform(random.random(400)) for _ in range(400)]
    by_chance = uniformity(random.random(400)).by_chance
    assert np.mean(off) == pytest.approx(by_chance, rel=0.1)


def test_images_have_fewer_particles():
    model = SimpleNamespace(percepts=SimpleNamespace(separate=False))
    image = spaces.Box(0, 255, (16, 16, 3), np.uint8)
    assert particles_for(model, image, 2) == OF_IMAGES
    assert particles_for(model, spaces.Discrete(3), 2) == module.MOST
    assert particles_for(model, spaces.Discrete(3), 10**6) == module.FEWEST
    model.percepts.separate = True
    assert particles_for(model, image, 2) == module.MOST
