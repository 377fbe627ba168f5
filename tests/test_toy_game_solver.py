"""Laws of the solver: it agrees with plain enumeration, with play, and with known numbers."""

import itertools
from fractions import Fraction

import numpy as np
import pytest

from worldmodel.envs.toy_game import Action, ToyGameVector
from worldmodel.envs.toy_game_solver import (
    _Chain,
    best_memoryless_policy,
    random_policy_steps,
    solve_toy_game,
)

TASKS = ["copy", "equal"]


def successors(belief, action, classes, task):
    """What can follow from a belief (position, ((ring, probability), ...)): {belief: chance}.

    Beliefs are whole distributions over rings. The end is left out.
    """
    position, rings = belief
    turn = {Action.UP: 1, Action.DOWN: -1}.get(action, 0)
    move = {Action.RIGHT: 1, Action.LEFT: -1}.get(action, 0)
    if task == "copy" and position == 0:
        turn = 0
    reached = (position + move) % len(rings[0][0])
    by_value = {}
    for ring, chance in rings:
        cells = list(ring)
        cells[position] = (cells[position] + turn) % classes
        if len(set(cells)) > 1:
            by_value.setdefault(cells[reached], []).append((tuple(cells), chance))
    return given(by_value, reached)


def given(by_value, position):
    """Beliefs after each value seen, with the chance to see it."""
    result = {}
    for worlds in by_value.values():
        total = sum(chance for _, chance in worlds)
        normal = tuple(sorted((ring, chance / total) for ring, chance in worlds))
        result[position, normal] = float(total)
    return result


def expected_steps_by_enumeration(width, classes, task):
    """Value iteration over all beliefs that can be reached, each a distribution over rings."""
    rings = [r for r in itertools.product(range(classes), repeat=width) if len(set(r)) > 1]
    by_value = {}
    for ring in rings:
        by_value.setdefault(ring[0], []).append((ring, Fraction(1, len(rings))))
    start = given(by_value, 0)
    tree, frontier = {}, list(start)
    while frontier:
        belief = frontier.pop()
        if belief not in tree:
            tree[belief] = [successors(belief, action, classes, task) for action in Action]
            frontier += [after for branches in tree[belief] for after in branches]
    values, old = dict.fromkeys(tree, 0.0), None
    while values != old:
        old = values
        values = {
            belief: min(1 + sum(p * old[after] for after, p in b.items()) for b in branches)
            for belief, branches in tree.items()
        }
    return sum(chance * values[belief] for belief, chance in start.items())


@pytest.mark.parametrize(("width", "classes"), [(2, 2), (2, 3), (2, 4), (3, 2), (3, 3)])
@pytest.mark.parametrize("task", TASKS)
def test_solution_equals_enumeration_over_distributions(width, classes, task):
    expected = expected_steps_by_enumeration(width, classes, task)
    assert solve_toy_game(width, classes, task).expected_steps == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize(
    ("width", "classes", "task", "steps"),
    [(4, 3, "copy", 4.6923), (4, 3, "equal", 4.6923), (5, 3, "copy", 6.25)],
)
def test_known_optimal_steps(width, classes, task, steps):
    assert solve_toy_game(width, classes, task).expected_steps == pytest.approx(steps, abs=1e-4)


def steps_of_first_games(solution, copies, seed=7):
    """Number of steps [copies] that the solution's policy needs in real games."""
    games = ToyGameVector(copies, solution.width, solution.classes, solution.task)
    observation, _ = games.reset(seed=seed)
    state = solution.initial_state(copies)
    action, first = np.zeros(copies, int), np.ones(copies, bool)
    steps, alive, ended = np.zeros(copies), first, ~first
    while alive.any():
        action, state = solution.step(first, action, observation, state)
        observation, _, terminated, truncated, _ = games.step(action)
        assert not truncated.any()
        first, ended = ended, terminated
        steps, alive = steps + alive, alive & ~terminated
    return steps


@pytest.mark.parametrize(
    ("width", "classes", "task"),
    [(4, 3, "copy"), (4, 3, "equal"), (3, 4, "copy"), (2, 5, "equal"), (6, 4, "equal")],
)
def test_the_policy_needs_as_many_steps_as_promised(width, classes, task):
    solution = solve_toy_game(width, classes, task)
    steps = steps_of_first_games(solution, copies=4000)
    error = steps.std() / np.sqrt(len(steps))
    assert abs(steps.mean() - solution.expected_steps) < 4 * error < 0.25


@pytest.mark.parametrize("task", TASKS)
def test_the_policy_plays_game_after_game(task):
    solution = solve_toy_game(3, 3, task)
    games = ToyGameVector(500, 3, 3, task)
    observation, _ = games.reset(seed=1)
    state = solution.initial_state(500)
    action, first, ended = np.zeros(500, int), np.ones(500, bool), np.zeros(500, bool)
    finished, played = 0, 0
    for _ in range(300):
        action, state = solution.step(first, action, observation, state)
        played += (~ended).sum()
        observation, _, terminated, truncated, _ = games.step(action)
        assert not truncated.any()
        first, ended = ended, terminated
        finished += terminated.sum()
    assert played / finished == pytest.approx(solution.expected_steps, rel=0.02)


def test_rows_that_end_a_game_are_answered_with_noop():
    solution = solve_toy_game(2, 2, "equal")
    yes, no = np.array([True]), np.array([False])
    action, state = solution.step(yes, np.array([0]), np.array([1]), solution.initial_state(1))
    assert action[0] != Action.NOOP
    action, state = solution.step(no, np.array([Action.UP]), np.array([0]), state)
    assert action[0] == Action.NOOP


# Without a memory.


def test_gradient_of_steps_equals_numerical_differences():
    chain = _Chain(3, 3, "copy", time_limit=40)
    policy = np.random.default_rng(0).dirichlet(np.ones(5), size=3)
    _, gradient = chain.steps_and_gradient(policy)
    for entry in np.ndindex(policy.shape):
        change = np.zeros_like(policy)
        change[entry] = 1e-6
        rise, fall = (chain.steps_and_gradient(policy + s * change)[0] for s in (1, -1))
        assert gradient[entry] == pytest.approx((rise - fall) / 2e-6, rel=1e-5, abs=1e-5)


def memoryless_steps(policy, task, copies, time_limit=100):
    """Steps [copies] of real games under a policy [classes, actions]."""
    games = ToyGameVector(copies, 4, 3, task, time_limit)
    observation, _ = games.reset(seed=3)
    draws = np.random.default_rng(3)
    steps, alive = np.zeros(copies), np.ones(copies, bool)
    while alive.any():
        edges = policy.cumsum(1)[observation][:, :-1]
        action = (draws.random(copies)[:, None] > edges).sum(1)
        observation, _, terminated, truncated, _ = games.step(action)
        steps, alive = steps + alive, alive & ~(terminated | truncated)
    return steps


@pytest.mark.parametrize(("task", "steps"), [("copy", 73.7), ("equal", 63.4)])
def test_random_steps_are_known_and_equal_play(task, steps):
    exact = random_policy_steps(task=task)
    assert exact == pytest.approx(steps, abs=0.1)
    played = memoryless_steps(np.full((3, 5), 0.2), task, 3000)
    assert abs(played.mean() - exact) < 4 * played.std() / np.sqrt(3000)


@pytest.mark.parametrize(("task", "steps"), [("copy", 51.05), ("equal", 5.205)])
def test_best_memoryless_steps_are_known_and_equal_play(task, steps):
    exact, policy = best_memoryless_policy(task=task, restarts=3)
    assert exact == pytest.approx(steps, abs=0.01)
    np.testing.assert_allclose(policy.sum(1), 1, rtol=1e-12)
    played = memoryless_steps(policy, task, 3000)
    assert abs(played.mean() - exact) < 4 * played.std() / np.sqrt(3000)


@pytest.mark.parametrize("task", TASKS)
def test_memory_beats_none_and_skill_beats_chance(task):
    with_memory = solve_toy_game(3, 3, task).expected_steps
    without, _ = best_memoryless_policy(3, 3, task, restarts=2)
    assert with_memory < without < random_policy_steps(3, 3, task)


def test_free_cannot_be_solved():
    for function in (solve_toy_game, best_memoryless_policy, random_policy_steps):
        with pytest.raises(ValueError, match="neither reward nor end"):
            function(task="free")
