"""Laws of the toy game: its rules, its starts, its vector and its pictures."""

import itertools

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from stable_baselines3.common.env_checker import check_env as check_env_sb3

from worldmodel.envs.toy_game import (
    PALETTE,
    TASKS,
    Action,
    ToyGame,
    ToyGameVector,
    _draw_start,
    draw_ring,
    is_solved,
    number_from_ring,
    ring_from_number,
    ring_text,
)

SIZES = [(4, 3), (2, 2), (3, 5)]


def rules(ring, position, action, classes, task):
    """The game once more, in plain Python: the ring and the position after an action."""
    ring, width = list(ring), len(ring)
    home_frozen = task == "copy" and position == 0
    if action == Action.UP and not home_frozen:
        ring[position] = ring[position] + 1 if ring[position] < classes - 1 else 0
    if action == Action.DOWN and not home_frozen:
        ring[position] = ring[position] - 1 if ring[position] > 0 else classes - 1
    if action == Action.RIGHT:
        position = 0 if position == width - 1 else position + 1
    if action == Action.LEFT:
        position = width - 1 if position == 0 else position - 1
    return ring, position


@pytest.mark.parametrize(("width", "classes"), SIZES)
@pytest.mark.parametrize("task", TASKS)
def test_the_game_follows_its_rules(width, classes, task):
    game = ToyGame(width, classes, task, time_limit=30)
    actions = np.random.default_rng(1)
    for seed in range(20):
        observation, info = game.reset(seed=seed)
        ring, position = info["ring"].tolist(), info["position"]
        assert position == 0
        assert observation == ring[0]
        for step in range(1, 31):
            action = actions.integers(5)
            observation, reward, terminated, truncated, info = game.step(action)
            ring, position = rules(ring, position, action, classes, task)
            assert (info["ring"].tolist(), info["position"]) == (ring, position)
            assert observation == ring[position]
            assert reward == (0 if task == "free" else -1)
            assert terminated == (task != "free" and len(set(ring)) == 1)
            assert truncated == (step == 30 and not terminated)
            if terminated:
                break


@pytest.mark.parametrize(("width", "classes"), SIZES)
@pytest.mark.parametrize("task", TASKS)
def test_starts_are_every_allowed_ring_exactly_once(width, classes, task):
    class Counter:
        """A generator whose draws go through all their values, one after another."""

        def __init__(self):
            self.draws = 0

        def integers(self, high):
            self.high, self.draws = high, self.draws + 1
            return self.draws - 1

    counter = Counter()
    starts = [_draw_start(counter, width, classes, task)]
    starts += [_draw_start(counter, width, classes, task) for _ in range(counter.high - 1)]
    rings = itertools.product(range(classes), repeat=width)
    allowed = [list(ring) for ring in rings if task == "free" or len(set(ring)) > 1]
    assert ring_from_number(starts, width, classes).tolist() == allowed


def test_rings_and_numbers_are_inverse():
    numbers = np.arange(3**4)
    rings = ring_from_number(numbers, 4, 3)
    assert (number_from_ring(rings, 3) == numbers).all()
    assert is_solved(rings).sum() == 3


@pytest.mark.parametrize("task", TASKS)
def test_games_end_by_default_after_100_steps_unless_free(task):
    game = ToyGame(task=task)
    game.reset(seed=0)
    ends = [game.step(Action.NOOP)[3] for _ in range(100)]
    assert ends == [False] * 99 + [task != "free"]


def test_home_is_frozen_in_copy_only():
    for task, turned in [("copy", 0), ("equal", 1), ("free", 1)]:
        game = ToyGame(task=task)
        before, _ = game.reset(seed=3)
        assert game.step(Action.UP)[0] == (before + turned) % 3


@pytest.mark.parametrize("task", TASKS)
def test_same_seed_same_game(task):
    def play(seed):
        game = ToyGame(task=task)
        rings = [game.reset(seed=seed)[1]["ring"].tolist()]
        return rings + [game.reset()[1]["ring"].tolist() for _ in range(20)]

    assert play(5) == play(5)
    assert play(5) != play(6)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("task", TASKS)
def test_both_environment_checkers_are_content(task):
    game = gymnasium.make("worldmodel/ToyGame-v0", task=task, render_mode="rgb_array")
    check_env(game.unwrapped)
    check_env_sb3(game.unwrapped)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"width": 1}, "at least 2 cells"),
        ({"classes": 1}, "at least 2 values"),
        ({"task": "chess"}, "free, copy, equal"),
        ({"time_limit": 0}, "positive number"),
        ({"time_limit": "never"}, "positive number"),
        ({"render_mode": "human"}, "ansi, rgb_array"),
        ({"width": 99}, "smaller width"),
    ],
)
def test_wrong_parameters_are_explained(arguments, message):
    with pytest.raises(ValueError, match=message):
        ToyGame(**arguments)
    with pytest.raises(ValueError, match=message):
        ToyGameVector(2, **arguments)


def test_wrong_calls_are_explained():
    game, games = ToyGame(), ToyGameVector(3)
    with pytest.raises(RuntimeError, match="reset"):
        game.step(0)
    with pytest.raises(RuntimeError, match="reset"):
        games.step(np.zeros(3, int))
    game.reset(seed=0)
    games.reset(seed=0)
    with pytest.raises(ValueError, match=r"0\.\.4"):
        game.step(5)
    with pytest.raises(ValueError, match=r"0\.\.4"):
        games.step(np.array([0, -1, 2]))
    with pytest.raises(ValueError, match="one for each copy"):
        games.step(np.zeros(2, int))
    with pytest.raises(ValueError, match="seeds"):
        games.reset(seed=[1, 2])


# The vector.


def assert_same(one, other):
    """Equal values, shapes and types, through tuples and dictionaries."""
    assert type(one) is type(other)
    if isinstance(one, dict):
        assert one.keys() == other.keys()
        one, other = one.values(), other.values()
    if isinstance(one, np.ndarray):
        assert one.dtype == other.dtype
        np.testing.assert_array_equal(one, other)
        return
    for a, b in zip(one, other, strict=True):
        assert_same(a, b)


@pytest.mark.parametrize(("width", "classes"), SIZES)
@pytest.mark.parametrize("task", TASKS)
def test_the_vector_is_many_single_games_bit_for_bit(width, classes, task):
    fast = ToyGameVector(7, width, classes, task, time_limit=25)
    slow = SyncVectorEnv([lambda: ToyGame(width, classes, task, time_limit=25)] * 7)
    assert fast.observation_space == slow.observation_space
    assert fast.action_space == slow.action_space
    assert fast.metadata == slow.metadata
    actions = np.random.default_rng(0)
    ends = 0
    for seed in [3, None, [5, 4, None, 2, 1, 0, None]]:
        assert_same(fast.reset(seed=seed), slow.reset(seed=seed))
        for _ in range(120):
            action = actions.integers(5, size=7)
            result = fast.step(action)
            assert_same(result, slow.step(action))
            ends += result[2].sum() + result[3].sum()
    assert ends > 50
    assert fast.np_random_seed == slow.np_random_seed
    masks = [np.arange(7) % 2 == 0] * 2
    results = [
        games.reset(options={"reset_mask": mask})
        for games, mask in zip((fast, slow), masks, strict=True)
    ]
    assert_same(*results)


def test_the_registered_game_comes_alone_and_as_a_vector():
    name, arguments = "worldmodel/ToyGame-v0", {"width": 3, "classes": 2, "task": "equal"}
    game = gymnasium.make(name, **arguments)
    games = gymnasium.make_vec(name, num_envs=2, **arguments)
    assert isinstance(game.unwrapped, ToyGame)
    assert isinstance(games.unwrapped, ToyGameVector)
    assert games.reset(seed=4)[1]["ring"][0].tolist() == game.reset(seed=4)[1]["ring"].tolist()


def test_the_vector_declares_that_it_resets_at_the_next_step():
    games = ToyGameVector(50, width=2, classes=2, task="equal")
    assert games.metadata["autoreset_mode"] is AutoresetMode.NEXT_STEP
    games.reset(seed=0)
    _, rewards, terminated, _, _ = games.step(np.full(50, Action.UP))
    assert terminated.all()
    assert (rewards == -1).all()
    _, rewards, terminated, _, infos = games.step(np.full(50, Action.UP))
    assert not terminated.any()
    assert (rewards == 0).all()
    assert not is_solved(infos["ring"]).any()


def test_what_the_vector_returned_stays_as_it_was():
    games = ToyGameVector(8, time_limit=5)
    kept = [games.reset(seed=0)]
    kept += [games.step(np.full(8, action % 5)) for action in range(30)]
    again = ToyGameVector(8, time_limit=5)
    assert_same(kept[0], again.reset(seed=0))
    for action in range(30):
        assert_same(kept[action + 1], again.step(np.full(8, action % 5)))


def test_the_vector_renders_one_frame_for_each_copy():
    games = ToyGameVector(3, render_mode="rgb_array")
    games.reset(seed=0)
    singles = [ToyGame(render_mode="rgb_array") for _ in range(3)]
    for seed, single in enumerate(singles):
        single.reset(seed=seed)
    for frame, single in zip(games.render(), singles, strict=True):
        np.testing.assert_array_equal(frame, single.render())


# Pictures.


def test_pictures_fit_a_video():
    for width, classes in [*SIZES, (7, 12)]:
        certain = np.eye(classes)[np.arange(width) % classes]
        image = draw_ring(certain, 1, caption="step 1")
        assert image.dtype == np.uint8
        assert image.ndim == 3
        assert image.shape[0] % 2 == image.shape[1] % 2 == 0
        assert image.shape == draw_ring(certain, 0).shape


def test_bands_are_as_high_as_the_values_are_probable():
    image = draw_ring(np.array([[1, 0, 0], [0.5, 0.3, 0.2]]), position=0)
    column = image[:, 112]  # inside the second cell, left of its digits
    heights = [int((column == colour).all(1).sum()) for colour in PALETTE[:3]]
    assert heights == [40, 24, 16]


def test_unseen_cells_are_dimmed_and_the_player_is_framed():
    certain = np.eye(3)[[0, 1, 2, 0]]
    bright, dim = draw_ring(certain, 1), draw_ring(certain, 1, dim_unseen=True)
    changed = np.flatnonzero((bright != dim).any((0, 2)))
    assert set(changed) & set(range(20, 100))
    assert not set(changed) & set(range(104, 192))  # the player's cell and its frame
    elsewhere = draw_ring(certain, 2)
    assert (bright != elsewhere).any()


def test_the_environment_draws_its_truth():
    game = ToyGame(render_mode="rgb_array")
    _, info = game.reset(seed=2)
    certain = np.eye(3)[info["ring"]]
    expected = draw_ring(certain, 0, True, f"step 0   sees {info['ring'][0]}")
    np.testing.assert_array_equal(game.render(), expected)


def test_text_shows_digits_bars_and_the_player():
    rows = np.array([[0, 1, 0], [1 / 3] * 3, [0, 0, 1]])
    assert ring_text(rows, 2) == "  1   ▃▃▃ [ 2 ]"
    assert ring_text(rows, 0, "dream").splitlines()[0] == "dream"
    game = ToyGame(render_mode="ansi")
    _, info = game.reset(seed=0)
    assert f"[ {info['ring'][0]} ]" in game.render()


def test_drawings_refuse_what_is_no_distribution():
    with pytest.raises(ValueError, match="sum to 1"):
        draw_ring(np.ones((4, 3)), 0)
    with pytest.raises(ValueError, match="position"):
        ring_text(np.eye(3), 3)
