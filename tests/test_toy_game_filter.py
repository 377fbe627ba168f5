"""Laws of the exact filter: it agrees with counting rings, and its probabilities sum to one."""

import itertools

import numpy as np
import pytest

from worldmodel.envs.toy_game import TASKS, Action, ToyGameVector
from worldmodel.envs.toy_game_filter import ToyGameFilter

SMALL = [(2, 2), (2, 3), (3, 2)]
KEYS = ["observation", "reward", "terminated"]


def rules(ring, position, action, classes, task):
    """The game once more, in plain Python: the ring (a tuple) and the position after an action."""
    turn = {Action.UP: 1, Action.DOWN: -1}.get(action, 0)
    move = {Action.RIGHT: 1, Action.LEFT: -1}.get(action, 0)
    if task == "copy" and position == 0:
        turn = 0
    cells = list(ring)
    cells[position] = (cells[position] + turn) % classes
    return tuple(cells), (position + move) % len(ring)


def solved(ring, task):
    return task != "free" and len(set(ring)) == 1


def count_rings(rows, width, classes, task):
    """Probabilities of the parts of every row by counting the rings that agree.

    `rows` are (action, observation, reward, terminated); the first has neither of the last two.
    One list for each row, which stops at the first part that is impossible.
    """
    rings = itertools.product(range(classes), repeat=width)
    worlds = [(ring, 0) for ring in rings if not solved(ring, task)]
    chances = []
    for t, (action, observation, reward, terminated) in enumerate(rows):
        if t:
            worlds = [rules(ring, place, action, classes, task) for ring, place in worlds]
        agree = [(ring, place) for ring, place in worlds if ring[place] == observation]
        chances.append([len(agree) / len(worlds)])
        if not agree:
            break
        worlds = agree
        if t:
            agree = [world for world in worlds if solved(world[0], task) == terminated]
            right = float(reward == (0 if task == "free" else -1))
            chances[-1] += [right, len(agree) / len(worlds)]
        if not agree:
            break
        worlds = agree
    return chances


def all_histories(length, classes, task):
    """Every (action, observation, reward, terminated) history of `length` steps, one by one.

    A history that ends early is cut there and continues with zeros, so each appears once.
    """
    reward = 0 if task == "free" else -1
    for actions in itertools.product(range(5), repeat=length):
        for end in range(1, length + 2):  # the step that ends the game; length + 1 for none
            steps = min(end, length)
            for seen in itertools.product(range(classes), repeat=steps + 1):
                rows = [(0, seen[0], 0, False)]
                for t in range(1, steps + 1):
                    rows.append((actions[t - 1], seen[t], reward, t == end))
                yield actions, rows


def as_arrays(histories, length):
    """Histories as arrays [T, B], padded with zeros, and which rows count."""
    padded = [[*rows, *[(0, 0, 0, False)] * (length + 1 - len(rows))] for rows in histories]
    action, observation, reward, terminated = np.array(padded).transpose(2, 1, 0)
    counts = np.arange(length + 1)[:, None] < np.array([len(rows) for rows in histories])
    first = np.zeros(counts.shape, bool)
    first[0] = True
    return (first, action, observation, reward.astype(float), terminated.astype(bool)), counts


def play_at_random(copies, length, task, width=4, classes=3, seed=0):
    """Rows [T, B] of uniformly random play, with the true rings [T, B, width]."""
    games = ToyGameVector(copies, width, classes, task)
    actions = np.random.default_rng(seed).integers(5, size=(length, copies))
    nothing = np.zeros(copies, bool)
    observation, info = games.reset(seed=seed)
    rows = [(~nothing, actions[0], observation, np.zeros(copies), nothing)]
    rings, ended = [info["ring"]], nothing
    for action in actions[1:]:
        observation, reward, terminated, truncated, info = games.step(action)
        rows.append((ended, action, observation, reward, terminated))
        rings.append(info["ring"])
        ended = terminated | truncated
    return [np.stack(part) for part in zip(*rows, strict=True)], np.stack(rings)


@pytest.mark.parametrize(("width", "classes"), SMALL)
@pytest.mark.parametrize("task", TASKS)
def test_every_probability_equals_a_count_of_rings(width, classes, task):
    histories = [rows for _, rows in all_histories(2, classes, task)]
    arrays, _ = as_arrays(histories, 2)
    log_probs = ToyGameFilter(width, classes, task).log_prob(*arrays)
    for b, rows in enumerate(histories):
        for t, chances in enumerate(count_rings(rows, width, classes, task)):
            found = [np.exp(log_probs[key][t, b]) for key in KEYS[: len(chances)]]
            np.testing.assert_allclose(found, chances, rtol=0, atol=1e-12)


@pytest.mark.parametrize(("width", "classes"), SMALL)
@pytest.mark.parametrize("task", TASKS)
def test_probabilities_of_all_sequences_sum_to_one(width, classes, task):
    actions, histories = zip(*all_histories(3, classes, task), strict=True)
    arrays, counts = as_arrays(histories, 3)
    log_probs = ToyGameFilter(width, classes, task).log_prob(*arrays)
    total = np.where(counts, sum(log_probs.values()), 0.0).sum(0)
    _, index = np.unique(actions, axis=0, return_inverse=True)
    sums = np.bincount(index.ravel(), weights=np.exp(total))
    assert len(sums) == 5**3
    np.testing.assert_allclose(sums, 1, rtol=0, atol=1e-12)


def test_in_free_the_loss_is_the_entropy_of_the_cells_seen_for_the_first_time():
    rows, _ = play_at_random(2000, 33, "free")
    loss = -ToyGameFilter(4, 3, "free").log_prob(*rows)["observation"]
    moves = np.array([0, 1, -1, 0, 0])[rows[1]]
    moves[0] = 0
    position = moves.cumsum(0) % 4
    visited = (position[:, None] == np.arange(4)[:, None]).cumsum(0)  # [T, width, B]
    new = (visited[-1] > 0).sum(0)
    np.testing.assert_allclose(loss.sum(0), new * np.log(3), rtol=0, atol=1e-9)
    assert loss[1:].mean() == pytest.approx(0.101, abs=0.001)


# The expected losses follow exactly from the solver's chain of beliefs under random actions: the
# summed entropies of an episode's rows after the first, divided by their expected number.
@pytest.mark.parametrize(("task", "loss"), [("copy", 0.044228), ("equal", 0.051419)])
def test_known_loss_under_random_play(task, loss):
    rows, _ = play_at_random(4000, 101, task)
    first = rows[0]
    episode = (first.cumsum(0) == 1) & ~first  # the first game of each copy, without its first row
    nats = -sum(ToyGameFilter(4, 3, task).log_prob(*rows).values())
    totals, steps = (nats * episode).sum(0), episode.sum(0)
    mean = totals.sum() / steps.sum()
    error = np.std(totals - mean * steps) / np.sqrt(len(steps)) / steps.mean()
    assert abs(mean - loss) < 4 * error < 0.003


@pytest.mark.parametrize("task", TASKS)
def test_beliefs_are_distributions_that_never_exclude_the_truth(task):
    rows, rings = play_at_random(50, 150, task)
    exact = ToyGameFilter(4, 3, task)
    state = exact.initial_state(50)
    for t in range(150):
        predicted = exact.predict(rows[1][t], rows[0][t], state)
        chances = exact.observation_probabilities(predicted)
        log_probs, state = exact.step(*(part[t] for part in rows), state)
        seen = chances[np.arange(50), rows[2][t]]
        np.testing.assert_allclose(np.exp(log_probs["observation"]), seen, rtol=1e-12)
        cells = exact.ring_probabilities(state)
        assert cells.shape == (50, 4, 3)
        np.testing.assert_allclose(chances.sum(1), 1, rtol=1e-12)
        np.testing.assert_allclose(cells.sum(2), 1, rtol=1e-12)
        assert (np.take_along_axis(cells, rings[t][..., None], 2) > 0).all()
        here = cells[np.arange(50), state.position, rows[2][t]]
        np.testing.assert_allclose(here, 1, rtol=1e-12)
        assert all(np.isfinite(part).all() for part in log_probs.values())


@pytest.mark.parametrize("task", ["copy", "equal"])
def test_an_episode_forgets_the_one_before(task):
    rows, _ = play_at_random(12, 101, task, width=2, classes=3)
    first = rows[0]
    exact = ToyGameFilter(2, 3, task)
    whole = sum(exact.log_prob(*rows).values())
    for copy in range(12):
        for start in np.flatnonzero(first[:, copy])[1:]:
            alone = [part[start:, copy : copy + 1] for part in rows]
            part = sum(exact.log_prob(*alone).values())[:, 0]
            np.testing.assert_allclose(part, whole[start:, copy], rtol=0, atol=1e-12)


def test_impossible_evidence_scores_minus_infinity_and_leaves_a_distribution():
    exact = ToyGameFilter(3, 2, "copy")
    no, yes = np.array([False]), np.array([True])
    noop, reward = np.array([0]), np.array([-1.0])
    _, known = exact.step(yes, noop, np.array([0]), reward, no, exact.initial_state(1))
    for observation, given, terminated, culprit in [
        (1, -1.0, no, "observation"),
        (0, 0.0, no, "reward"),
        (0, -1.0, yes, "terminated"),
    ]:
        evidence = (np.array([observation]), np.array([given]), terminated)
        log_probs, state = exact.step(no, noop, *evidence, known)
        assert [key for key in KEYS if log_probs[key] == -np.inf] == [culprit]
        assert np.isfinite(state.belief).all()
        np.testing.assert_allclose(state.belief, known.belief, rtol=1e-12)


def test_a_first_row_has_no_reward_no_end_and_no_action():
    exact = ToyGameFilter(3, 2, "equal")
    yes = np.ones(10, bool)
    scores = [
        exact.step(yes, np.arange(10) % 5, np.ones(10, int), np.full(10, reward), yes, state)
        for reward in (0.0, -7.0)
        for state in (exact.initial_state(10), exact.initial_state(10))
    ]
    for log_probs, state in scores:
        np.testing.assert_allclose(log_probs["observation"], np.log(0.5), rtol=1e-12)
        assert (log_probs["reward"] == 0).all()
        assert (log_probs["terminated"] == 0).all()
        assert (state.position == 0).all()
