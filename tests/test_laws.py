"""The laws that every core, and every world model around one, obeys."""

import importlib
import inspect
import itertools
import pkgutil
from pathlib import Path

import numpy as np
import pytest
import torch
from cores import (
    CASES,
    CORES,
    FILTERING,
    PLANE,
    VARIANTS,
    fed,
    make_core,
    make_model,
    noise_for,
    random_rows,
)
from gymnasium import spaces
from laws import every_law_of
from perfect import perfect_model

import worldmodel
import worldmodel.cores
from worldmodel import Agent, Dream, GenCore, Row, SequenceCore, Sequences
from worldmodel.distributions import OneHot
from worldmodel.testing import CORE_LAWS, LIKELIHOOD_LAWS
from worldmodel.testing.core_laws import core_states
from worldmodel.testing.law import close as nearly, jacobian


@every_law_of([*CORE_LAWS, *LIKELIHOOD_LAWS], CASES, VARIANTS)
def test_every_core_obeys(law, case, setting):
    law(case, **setting)


def close(found, expected, atol=1e-12):
    nearly(found, expected, "found", atol)


# Lists.


def test_every_core_is_in_the_list():
    modules = [
        importlib.import_module(info.name)
        for info in pkgutil.walk_packages(worldmodel.__path__, "worldmodel.")
        if "testing" not in info.name
    ]
    found = {
        thing
        for module in modules
        for thing in vars(module).values()
        if inspect.isclass(thing)
        and issubclass(thing, SequenceCore)
        and not inspect.isabstract(thing)
    }
    assert found
    assert found == {type(make_core(name)) for name in CORES}
    assert found == {type(make(3, 2)) for make in worldmodel.CORES.values()}


def test_no_batch_normalisation_anywhere():
    sources = [
        path
        for path in Path(worldmodel.__file__).parent.rglob("*.py")
        if "testing" not in path.parts
    ]
    assert not [path for path in sources if "batchnorm" in path.read_text().lower()]
    assert not [path for path in sources if "batch_norm" in path.read_text().lower()]


@pytest.mark.parametrize("name", CORES)
def test_filtering_is_what_the_core_says(name):
    assert make_core(name).filtering == (name in FILTERING)


@pytest.mark.parametrize("history", [1, 2])
@pytest.mark.parametrize("name", ["rnn", "srnn filtering"])
def test_dropout_takes_the_past_from_contexts_in_training_and_from_nothing_else(name, history):
    model = make_model(name, history=history, observations=PLANE, rewards=None)
    model.dropout.p = 1.0
    rows = random_rows(4, 2, PLANE, rewards=None)
    rows.observation.requires_grad_()
    for training in (True, False):
        model.train(training)
        with fed(noise_for(model, 4, 2)):
            inference, last = model.infer(Sequences.whole(rows), model.initial_state(2))
        heard = jacobian(core_states(inference).hidden, rows.observation)
        assert (heard == 0).all() == training
        assert (jacobian(last.history, rows.observation) != 0).any()


# A perfect core.


def all_games(time, classes):
    """Every sequence of `time` rows: all actions, all percepts."""
    steps = np.array(list(itertools.product(range(5), range(classes), (-1, 0), (0, 1))))  # [M, 4]
    choices = [np.arange(classes)] + [np.arange(len(steps))] * (time - 1)
    index = np.stack([part.ravel() for part in np.meshgrid(*choices, indexing="ij")])  # [T, B]
    rows = steps[index]
    rows[0] = 0
    rows[0, :, 1] = index[0]
    action, observation, reward, terminated = rows.transpose(2, 0, 1)
    first = np.zeros(action.shape, bool)
    first[0] = True
    return first, action, observation, reward.astype(float), terminated.astype(bool)


def as_sequences(first, action, observation, reward, terminated):
    code = torch.nn.functional.one_hot(torch.from_numpy(action), 5).double()
    leaves = map(torch.from_numpy, (first, observation, reward, terminated))
    first, observation, reward, terminated = leaves
    code = code.masked_fill(first[..., None], 0.0)
    return Sequences.whole(Row(first, code, observation, reward, terminated))


GAMES = [(2, 2, 4), (2, 3, 3), (3, 2, 3)]
every_game = pytest.mark.parametrize(
    ("width", "classes", "time", "task"),
    [(*game, task) for game in GAMES for task in ("free", "copy", "equal")],
)


@every_game
def test_a_perfect_core_gives_every_game_its_probability(width, classes, time, task):
    model = perfect_model(width, classes, task)
    arrays = all_games(time, classes)
    sequences = as_sequences(*arrays)
    exact = model.core.exact.log_prob(*arrays)
    total = torch.from_numpy(sum(exact.values()).sum(0))
    possible = total > -torch.inf
    assert abs(total.exp().sum() - 5 ** (time - 1)) < 1e-9
    inference, _ = model.infer(sequences, model.initial_state(len(total)))
    parts = model.log_probs(inference.states, sequences)
    assert not any(part.isnan().any() for part in parts.values())
    close(sum(parts.values()).sum((0, 1)), total)
    reported = worldmodel.log_prob(model, sequences)
    for key, value in exact.items():
        close(reported[key][:, possible], torch.from_numpy(value)[:, possible])


@every_game
def test_impossible_sequences_have_probability_zero(width, classes, time, task):
    model = perfect_model(width, classes, task)
    arrays = all_games(time, classes)
    total = torch.from_numpy(sum(model.core.exact.log_prob(*arrays).values()).sum(0))
    reported = sum(worldmodel.log_prob(model, as_sequences(*arrays)).values()).sum(0)
    close(reported, total)


class Coin(Agent):
    """Plays anything, and thinks nothing."""

    thought_size = 0

    def initial_state(self, batch_size):
        return ()

    def step(self, row, state, shared=None):
        return row.reward.new_zeros(len(row.first), 0), state

    def policy(self, thought):
        return OneHot(torch.zeros(len(thought), 5).double())


@pytest.mark.parametrize("task", ["free", "copy", "equal"])
def test_dreams_of_a_perfect_model_have_the_frequencies_of_the_game(task):
    """Over restarts too: of five rows, ended games begin anew."""
    time, games = 4, 20000
    model = perfect_model(2, 2, task)
    dream = Dream(model, 100, spaces.Discrete(2), spaces.Discrete(5))
    core = GenCore(dream, Coin())
    torch.manual_seed(0)
    sequences, _, _ = core.generate(time, core.initial_state(games))
    rows = sequences.rows
    action = core.actions.decode(rows.action).masked_fill(rows.first, 0)
    parts = (rows.first, action, rows.observation, rows.reward, rows.terminated)
    arrays = [part.numpy() for part in parts]
    log_prob = sum(model.core.exact.log_prob(*arrays).values()).sum(0)
    assert np.isfinite(log_prob).all()  # nothing impossible is dreamt
    assert (rows.first[1:] == rows.terminated[:-1]).all()
    assert rows.first[0].all()
    log_prob = log_prob - np.log(5) * (~arrays[0]).sum(0)
    histories = np.concatenate(arrays).T  # [games, 5 * T]
    _, which, counts = np.unique(histories, axis=0, return_index=True, return_counts=True)
    expected = games * np.exp(log_prob[which])
    assert abs(expected.sum() / games - 1) < 1e-9  # all that is possible was dreamt
    z = (counts - expected) / np.sqrt(expected * (1 - expected / games))
    assert np.abs(z).max() < 4.5
    chi_square, freedom = ((counts - expected) ** 2 / expected).sum(), len(counts) - 1
    assert abs(chi_square - freedom) < 4 * np.sqrt(2 * freedom)
