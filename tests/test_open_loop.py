"""Laws of open-loop errors: what is foreseen, from which rows, in which units."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from cores import CORES, make_model, padded, random_rows
from gymnasium import spaces
from torch import distributions as td

from worldmodel import ModelState, Row, Sequences, nested
from worldmodel.codecs import Consequences, Prediction
from worldmodel.distributions import Bernoulli, Categorical, Joint
from worldmodel.experiments.measure import open_loop as module
from worldmodel.experiments.measure.open_loop import (
    DREAMS,
    OBSERVED,
    STEPS,
    Windows,
    believe,
    open_loop,
)

SPACE = spaces.Dict(place=spaces.Box(-np.inf, np.inf, (2,)), remainder=spaces.Discrete(3))
LENGTHS = (70, 60, 9, 2, 1)


class Adder:
    """A model of a world where actions are added to a place; it adds `drift` besides."""

    device = torch.device("cpu")

    def __init__(self, drift=0.0):
        self.drift = drift

    def initial_state(self, batch_size):
        return ModelState(torch.zeros(batch_size, 2), torch.zeros(batch_size, 1, 1))

    def infer(self, sequences, state, particles):
        seen = sequences.rows.observation["place"][0]
        copies = particles * len(seen) // len(state.core)
        before = state.core.repeat(copies, 1)
        there = sequences.mask[0].repeat(particles)[:, None]
        core = torch.where(there, seen.repeat(particles, 1), before)
        return None, ModelState(core, torch.zeros(len(core), 1, 1))

    def predict(self, action, state):
        place = state.core + action + self.drift
        near = td.Independent(td.Normal(place, 1e-9), 1)
        logits = 1e3 * torch.nn.functional.one_hot(remainder_of(place), 3).to(place)

        def then(drawn):
            reward = td.Normal(drawn["place"].sum(-1), 1e-9)
            return Consequences(
                {"reward": reward, "terminated": Bernoulli(torch.full_like(place[:, 0], 9))}
            )

        seen = Joint({"place": near, "remainder": Categorical(logits)})
        return Prediction(lambda: seen, then, place.shape[:1]), place

    percepts = SimpleNamespace(clamp=lambda observation: observation)

    def advance(self, row, core, state):
        return ModelState(core, row.observation["place"][:, None, :1])


def remainder_of(place):
    return place[..., 0].round().long() % 3


@pytest.fixture
def sequences():
    """Whole episodes of the Adder's world, [T, B]."""
    torch.manual_seed(0)
    length, games = max(LENGTHS), len(LENGTHS)
    mask = torch.arange(length)[:, None] < torch.tensor(LENGTHS)
    action = torch.randint(-2, 3, (length, games, 2)).double()
    place = action.cumsum(0)
    observation = {"place": place, "remainder": remainder_of(place)}
    first = (torch.arange(length) == 0)[:, None].expand(length, games)
    row = Row(first, action, observation, place.sum(-1), torch.zeros_like(mask))
    return Sequences(row, mask, mask)


def recorded_of(sequences):
    """The sequences' own numbers, padding and first rows left out where they are void."""
    valid = sequences.mask
    observation = {k: v[valid].numpy() for k, v in sequences.rows.observation.items()}
    reward = sequences.rows.reward[valid & ~sequences.rows.first].numpy()
    return {"observation": observation, "reward": reward}


@pytest.fixture(autouse=True)
def float64():
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def test_a_perfect_model_is_never_off(sequences):
    found = open_loop(Adder(), sequences, SPACE, recorded_of(sequences))
    assert found["steps"] == list(STEPS)
    assert set(found["by_key"]) == {"observation.place", "observation.remainder", "reward"}
    for part in found["by_key"].values():
        assert part["error"] == pytest.approx([0.0] * len(STEPS), abs=1e-7)
        assert min(part["error_as_before"]) > 0.1


def test_a_drift_adds_up_while_nobody_looks(sequences):
    recorded = recorded_of(sequences)
    found = open_loop(Adder(drift=0.01), sequences, SPACE, recorded)["by_key"]
    inverse = 1 / recorded["observation"]["place"].std(0)
    expected = [0.01 * step * np.sqrt((inverse**2).mean()) for step in STEPS]
    assert found["observation.place"]["error"] == pytest.approx(expected)
    expected = [0.02 * step / recorded["reward"].std() for step in STEPS]
    assert found["reward"]["error"] == pytest.approx(expected)


def test_expecting_no_change_is_off_by_the_change(sequences, monkeypatch):
    monkeypatch.setattr(module, "WINDOWS", 10_000)  # all there are
    recorded = recorded_of(sequences)
    found = open_loop(Adder(), sequences, SPACE, recorded)
    scale = recorded["observation"]["place"].std(0)
    places = sequences.rows.observation["place"].numpy()
    for number, step in enumerate(STEPS):
        off, wrong = [], []
        for column, length in enumerate(LENGTHS):
            for time in range(min(OBSERVED, length - 1) - 1, length - step):
                if 0 <= time < length - 1:
                    here, there = places[time, column], places[time + step, column]
                    off.append(((there - here) / scale) ** 2)
                    wrong.append(here[0] % 3 != there[0] % 3)
        assert found["windows"][number] == len(off)
        by_key = found["by_key"]
        as_before = by_key["observation.place"]["error_as_before"][number]
        assert as_before == pytest.approx(np.sqrt(np.mean(off)))
        as_before = by_key["observation.remainder"]["error_as_before"][number]
        assert as_before == pytest.approx(np.mean(wrong))


def test_what_no_episode_lasts_for_is_left_out(sequences):
    short = nested.index(sequences, (slice(9), slice(2, None)))
    found = open_loop(Adder(), short, SPACE, recorded_of(sequences))
    assert found["windows"] == [5, 0, 0, 0]
    assert found["by_key"]["reward"]["error"][1:] == [None] * 3


def test_windows_are_spread_evenly():
    windows = Windows.of(torch.tensor([1_000, 1_000]), 20)
    assert (windows.time.diff() >= 0).all()
    for column in (0, 1):
        times = windows.time[windows.column == column]
        assert len(times) == 10
        assert times.min() >= OBSERVED - 1
        assert times.diff().max() < 120


@pytest.mark.parametrize("name", CORES)
def test_what_is_believed_is_a_function_of_the_rows_so_far(name):
    """Smoothers read the future of windows; here they must not."""
    model = make_model(name)
    rows = random_rows(7, 3)
    windows = Windows(torch.tensor([2, 2, 4]), torch.tensor([0, 2, 1]))

    def beliefs(rows):
        torch.manual_seed(0)
        with torch.no_grad():
            return model.belief(believe(model, padded(rows, [7, 3, 7]), windows))

    def changed_at(time):
        other = random_rows(7, 3, seed=1)
        here = torch.arange(7)[:, None].expand(7, 3) == time
        return nested.map(lambda a, b: torch.where(nested.broadcast(here, a), a, b), other, rows)

    before = beliefs(rows)
    assert before.shape == (DREAMS * 3, model.belief_size)
    assert torch.equal(beliefs(changed_at(5)), before)
    assert not torch.equal(beliefs(changed_at(2)), before)
