"""What is collected is what happened, whole, and nothing that was cut off."""

from functools import partial

import games
import numpy as np
import pytest
import torch
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from worldmodel import Episodes, GenCore, Script, action_codec, nested
from worldmodel.agents import Exploring, Uniform
from worldmodel.envs import GymEnvironment, WorkerVectorEnv, collect


def world(makers, workers=0, report=None, seed=3):
    if workers:
        return GymEnvironment(WorkerVectorEnv(makers, workers, report=report), seed)
    return GymEnvironment(SyncVectorEnv(makers, autoreset_mode=AutoresetMode.NEXT_STEP), seed)


def collected(makers, steps, ticks=64, **options):
    """Episodes, and how many came at a time."""
    environment = world(makers, **options)
    torch.manual_seed(0)
    parts = list(collect(environment, Uniform(environment.action_space), steps, ticks))
    environment.close()
    return Episodes.join(parts), [len(part) for part in parts]


def config(episodes):
    """Each episode's bytes, in an order of their own."""
    columns = nested.leaves(episodes.columns)
    return sorted(
        b"".join(column[start : start + length].tobytes() for column in columns)
        for start, length in zip(episodes.starts, episodes.lengths, strict=True)
    )


every_game = pytest.mark.parametrize("game", [games.Counting, games.Nested])


@every_game
@pytest.mark.parametrize("ticks", [1, 7, 30, 10_000])
def test_collecting_in_pieces_is_cutting_one_long_run(game, ticks):
    """All episodes of a run of 40 rows of 3 copies, whatever is played at a time."""
    environment = world([game] * 3)
    core = GenCore(environment, Uniform(environment.action_space))
    torch.manual_seed(0)
    with torch.no_grad():
        run, _, _ = core.generate(40, core.initial_state(3))
    expected = Episodes.cut(run, core.actions)
    found, _ = collected([game] * 3, expected.steps, ticks)
    assert config(found) == config(expected)


@pytest.mark.parametrize("steps", [1, 5, 50, 333])
@pytest.mark.parametrize("copies", [1, 4])
def test_as_many_steps_are_taken_as_were_asked_for(steps, copies):
    """Or fewer than one a copy more."""
    episodes, _ = collected([games.Counting] * copies, steps)
    assert steps <= episodes.steps < steps + copies


def test_episodes_come_as_they_end():
    episodes, sizes = collected([partial(games.Counting, (4,))] * 2, 80, ticks=5)
    assert len(sizes) > 8
    assert max(sizes) <= 4
    columns, starts = episodes.columns, episodes.starts
    assert episodes.lengths.tolist() == [5] * len(episodes)
    for count in range(5):
        assert (columns["observation"][starts + count, 0] == count).all()
    np.testing.assert_array_equal(columns["observation"][:, 1][1:5], columns["action"][1:5])


def test_unfinished_episodes_come_last_as_truncations():
    episodes, sizes = collected([partial(games.Counting, (7,))] * 2, 20)
    assert sizes == [2, 2]
    assert episodes.lengths.tolist() == [8, 8, 4, 4]
    ends = episodes.starts + episodes.lengths - 1
    assert episodes.columns["terminated"][ends].tolist() == [True, True, False, False]


@every_game
@pytest.mark.parametrize("workers", [1, 3])
def test_workers_collect_what_one_process_does(game, workers):
    expected, _ = collected([game] * 3, 200)
    found, _ = collected([game] * 3, 200, workers=workers)
    assert config(found) == config(expected)


@pytest.mark.parametrize("ticks", [1, 4, 10_000])
@pytest.mark.parametrize("how", ["killed", "raises"])
def test_what_a_death_cut_off_is_dropped(how, ticks, tmp_path):
    """The second copy, in a worker of its own, dies at the third step of its second episode: of
    the first two nothing remains, and all other episodes are there."""
    (tmp_path / "life").touch()
    long = partial(games.Counting, (10,))
    mortal = partial(games.Mortal, how, tmp_path, at=3, episode=1, lengths=(10,))
    said = []
    episodes, _ = collected([long, mortal], 90, ticks, workers=2, report=said.append)
    assert len(said) == 1
    assert "its unfinished episode of 2 steps is dropped" in said[0]
    assert 90 <= episodes.steps + 2 < 92
    assert (episodes.lengths == 11).sum() == len(episodes) - 2
    counts = episodes.columns["observation"][:, 0]
    for start, length in zip(episodes.starts, episodes.lengths, strict=True):
        np.testing.assert_array_equal(counts[start : start + length], np.arange(length))
    healthy, _ = collected([long, long], 90, ticks)
    common = set(config(healthy)) & set(config(episodes))
    assert len(common) == 4 + 1  # those of the first copy, and the second's before its death


def test_a_lost_row_is_a_first_row_without_an_end(tmp_path):
    (tmp_path / "life").touch()
    makers = [
        partial(games.Counting, (3,)),
        partial(games.Mortal, "exits", tmp_path, lengths=(4,)),
    ]
    environment = world(makers, workers=1, report=lambda sentence: None)
    state = environment.initial_state(2)
    action = torch.eye(4)[[1, 2]]
    ticks, rows = [], []
    for _ in range(6):
        row, state = environment.step(action, state)
        rows.append(row)
        ticks.append(state)
    environment.close()
    first = [row.first.tolist() for row in rows]
    assert first == [[True] * 2, [False] * 2, [True] * 2, [False] * 2, [False] * 2, [False] * 2]
    assert [tick.lost.tolist() for tick in ticks] == [[t == 2] * 2 for t in range(6)]
    assert (rows[2].action == 0).all()
    assert (rows[2].reward == 0).all()
    assert not any(tick.ended.any() for tick in ticks[:5])


def test_a_game_that_had_ended_is_not_lost(tmp_path):
    (tmp_path / "life").touch()
    makers = [
        partial(games.Counting, (1, 8)),
        partial(games.Mortal, "exits", tmp_path, lengths=(8,)),
    ]
    environment = world(makers, workers=1, report=lambda sentence: None)
    state = environment.initial_state(2)
    for t in range(3):
        row, state = environment.step(torch.eye(4)[[1, 2]], state)
        assert state.ended.tolist() == [t == 1, False]
    assert row.first.all()
    assert state.lost.tolist() == [False, True]
    environment.close()


def test_at_least_one_step_is_collected():
    with pytest.raises(ValueError, match="at least one step is collected, got 0"):
        collected([games.Counting], 0)


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_a_share_of_actions_is_random(share):
    """Of a script of one action among four: three quarters of the share are others."""
    space = spaces.Discrete(4)
    agent = Exploring(Script.of(torch.full((9,), 2), space), space, share)
    thought = agent.agent.codes[:1].expand(200, -1)
    torch.manual_seed(0)
    actions = action_codec(space).decode(agent.policy(thought).sample((50,)))
    assert actions.shape == (50, 200)
    others = (actions != 2).double().mean()
    assert others == pytest.approx(0.75 * share, abs=0.02)
