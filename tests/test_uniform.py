"""Laws of the agent that knows nothing, which may hold on to its last action."""

import numpy as np
import pytest
import torch
from gymnasium import spaces

from worldmodel import Row
from worldmodel.agents import Uniform
from worldmodel.noise import OwnNoise

KEYS = spaces.Discrete(4)
WHEEL = spaces.Box(-2, 6, (2,))


def play(space, persistence, steps, games, firsts=()):
    """Actions [steps, games, A] of an agent whose world shows nothing; rows `firsts` are first."""
    agent = Uniform(space, persistence)
    row = Row(
        torch.ones(games, dtype=torch.bool), torch.zeros(games, agent.actions.size), *[()] * 3
    )
    state, actions = agent.initial_state(games), []
    for t in range(steps):
        thought, state = agent.step(row, state)
        assert thought.shape == (games, agent.thought_size)
        action = agent.policy(thought).sample()
        first = torch.full((games,), t + 1 in firsts)
        row = row._replace(first=first, action=action.masked_fill(first[:, None], 0.0))
        actions.append(action)
    return torch.stack(actions)


def within_four_errors(found, chance):
    """Whether claims [N] are as often true as a chance says."""
    error = (chance * (1 - chance) / found.numel()) ** 0.5
    return abs(found.double().mean().item() - chance) < 4 * error


@pytest.mark.parametrize("persistence", [0.0, 0.3, 0.9])
def test_an_action_is_repeated_as_often_as_it_should_be(persistence):
    with OwnNoise(0)():
        keys = play(KEYS, persistence, 20, 2000)
        wheel = play(WHEEL, persistence, 20, 2000)
    again = (keys[1:] == keys[:-1]).all(-1)
    assert within_four_errors(again, persistence + (1 - persistence) / 4)  # by chance, too
    again = (wheel[1:] == wheel[:-1]).all(-1)
    assert within_four_errors(again, persistence) if persistence else not again.any()


def test_whatever_is_repeated_all_actions_are_alike():
    """At each step, over games: repeating favours none."""
    with OwnNoise(0)():
        keys = play(KEYS, 0.8, 6, 40_000)
        wheel = play(WHEEL, 0.8, 6, 40_000)
    for at_once in keys:
        for key in range(4):
            assert within_four_errors(at_once[:, key], 0.25)
    for at_once in wheel.flatten(1).reshape(6, -1):
        for quarter in np.linspace(-1, 0.5, 4):
            assert within_four_errors((at_once >= quarter) & (at_once < quarter + 0.5), 0.25)


def test_runs_of_one_action_are_geometric():
    """How long the first action is held: a fresh draw never gives the same number again."""
    with OwnNoise(0)():
        wheel = play(WHEEL, 0.7, 12, 20_000)
    held = (wheel == wheel[0]).all(-1).int().cumprod(0).sum(0)
    for steps in range(1, 12):
        assert within_four_errors(held > steps, 0.7**steps)


def test_nothing_is_carried_over_a_reset():
    """The action that led to a first row is void: zero is no action that could be repeated."""
    with OwnNoise(0)():
        wheel = play(WHEEL, 0.9, 6, 5000, firsts=(3,))
    assert not (wheel[3] == wheel[2]).any()
    assert not (wheel[3] == 0).any()
    assert within_four_errors((wheel[4] == wheel[3]).all(-1), 0.9)


def test_an_agent_that_holds_on_to_nothing_thinks_nothing():
    assert Uniform(WHEEL).thought_size == 0
    assert Uniform(WHEEL, 0.5).thought_size == 3
    with OwnNoise(0)():
        one = play(WHEEL, 0.0, 3, 5)
    codes = Uniform(WHEEL).actions
    assert codes.decode(one).min() >= -2
    assert codes.decode(one).max() <= 6


@pytest.mark.parametrize("persistence", [-0.1, 1.0, 1.5])
def test_a_probability_of_repeating_is_below_one(persistence):
    with pytest.raises(
        ValueError, match=f"persistence is 0 or more and below 1, got {persistence}"
    ):
        Uniform(KEYS, persistence)
