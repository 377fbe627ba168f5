"""Environments in processes of their own give the same rows, and outlive their processes."""

import os
import re
import signal
import subprocess
import sys
import textwrap
import time
from functools import partial
from pathlib import Path

import games
import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from worldmodel.envs import WorkerVectorEnv

GAMES = {
    "counting": games.Counting,
    "nested": games.Nested,
    "pole": partial(gymnasium.make, "CartPole-v1"),
}


def same(found, expected):
    """Compares nested structures of arrays."""
    assert type(found) is type(expected)
    if isinstance(expected, dict):
        assert found.keys() == expected.keys()
        [same(found[key], expected[key]) for key in expected]
    elif isinstance(expected, tuple):
        [same(a, b) for a, b in zip(found, expected, strict=True)]
    else:
        assert found.dtype == expected.dtype
        np.testing.assert_array_equal(found, expected)


@pytest.fixture
def vector_env():
    """Makes WorkerVectorEnvs that are closed in the end."""
    made = []

    def make(*arguments, **options):
        made.append(WorkerVectorEnv(*arguments, **options))
        return made[-1]

    yield make
    [env.close() for env in made]


@pytest.mark.parametrize("workers", [1, 2, 5])
@pytest.mark.parametrize("name", GAMES)
def test_workers_give_the_rows_of_one_process(name, workers, vector_env):
    """Observations, rewards, ends and infos, over resets with and without seeds."""
    ours = vector_env([GAMES[name]] * 5, workers)
    theirs = SyncVectorEnv([GAMES[name]] * 5, autoreset_mode=AutoresetMode.NEXT_STEP)
    assert ours.observation_space == theirs.observation_space
    assert ours.action_space == theirs.action_space
    assert ours.metadata == theirs.metadata
    ours.action_space.seed(1)
    ends = 0
    for seed in (7, None, [3, 1, 4, 1, 5]):
        same(ours.reset(seed=seed), theirs.reset(seed=seed))
        for _ in range(12):
            action = ours.action_space.sample()
            after = ours.step(action)
            same(after, theirs.step(action))
            ends += (after[2] | after[3]).sum()
    assert ends > 2


def test_rows_are_not_overwritten_by_later_ones(vector_env):
    env = vector_env([games.Nested] * 2, 1)
    first = env.reset(seed=0)[0]
    env.step(env.action_space.sample())
    assert (first["vector"][:, 0] == 0).all()
    assert (first["image"][..., 0] == 0).all()


def test_processes_may_be_spawned(vector_env):
    env = vector_env([games.Counting] * 2, 1, context="spawn")
    expected = SyncVectorEnv([games.Counting] * 2).reset(seed=5)
    same(env.reset(seed=5), expected)


@pytest.fixture
def lives(tmp_path):
    """A folder of lives to be lost."""

    def give(number):
        for life in range(number):
            (tmp_path / str(life)).touch()
        return tmp_path

    return give


SAID = {
    "killed": "exit code -9",
    "exits": "exit code 3",
    "hangs": "no answer for 2 seconds",
    "raises": "ValueError: out of luck, in .*games.py:",
}


@pytest.mark.parametrize("how", SAID)
def test_a_worker_that_dies_is_replaced(how, vector_env, lives):
    """Two workers of two copies; the second dies at the fifth step, when copy 2 has just begun its
    second episode, and copy 3 has made two steps of its second."""
    long = partial(games.Counting, (9,))
    ending = partial(games.Counting, (3, 9))
    fatal = partial(games.Mortal, how, lives(1), at=3, episode=1, lengths=(2, 9))
    said = []
    env = vector_env([long, long, ending, fatal], 2, patience=2.0, report=said.append)
    env.reset(seed=3)
    for step in range(1, 10):
        observation, reward, terminated, truncated, info = env.step(np.array([1, 2, 3, 0]))
        count = observation[:, 0]
        assert count[0] == count[1] == step  # copies of the living go on
        if step < 6:
            assert "restarted" not in info
        if step == 6:  # the third copy had 1 + 1 steps of its second episode, the fourth 2
            assert info["restarted"].tolist() == [False, False, True, True]
            assert (observation[2:, :2] == [0, -1]).all()
            assert (reward[2:] == 0).all()
            assert not (terminated | truncated).any()
            assert len(said) == 1
        if step > 6:
            assert count[2] == min(step - 6, 3)
            assert "restarted" not in info
    assert len(said) == 1
    assert re.fullmatch(
        rf"worker 1 died \({SAID[how]}.*\); restarted, its unfinished episodes of 1 and 2 steps "
        "are dropped",
        said[0],
    ), said


def fates(vector_env, folder, seed):
    """The rows of a copy that dies twice."""
    for life in range(2):
        (folder / str(life)).touch()
    said = []
    env = vector_env([partial(games.Mortal, "exits", folder)], 1, report=said.append)
    rows = [env.reset(seed=seed)[0]] + [env.step(np.array([0]))[0] for _ in range(20)]
    assert len(said) == 2
    return np.stack(rows)[:, 0]  # [21, 3]


def test_a_new_workers_seeds_follow_from_the_old_ones(vector_env, tmp_path):
    rows = fates(vector_env, tmp_path, 0)
    np.testing.assert_array_equal(fates(vector_env, tmp_path, 0), rows)
    assert (fates(vector_env, tmp_path, 1)[:, 2] != rows[:, 2]).all()
    assert len(set(rows[:, 2])) == len(rows)  # no episode is played twice


def test_what_had_ended_is_not_dropped(vector_env, lives):
    """One copy dies at the step that would have reset the other."""
    dying = partial(games.Mortal, "raises", lives(1), at=4, lengths=(9,))
    said = []
    env = vector_env([partial(games.Counting, (3,)), dying], 1, report=said.append)
    env.reset(seed=0)
    for _ in range(4):
        *_, info = env.step(np.array([0, 0]))
    assert info["restarted"].all()
    assert said[0].endswith("restarted, its unfinished episode of 3 steps is dropped")


def test_a_worker_may_die_at_a_reset(vector_env, lives):
    said = []
    env = vector_env([partial(games.Mortal, "killed", lives(2), at=0)], 1, report=said.append)
    observation, info = env.reset(seed=0)
    assert "restarted" not in info  # the first rows of a reset cut nothing off
    assert (observation[0, :2] == [0, -1]).all()
    assert said == ["worker 0 died (exit code -9); restarted, nothing is dropped"] * 2


@pytest.mark.parametrize("at", [0, 1])
def test_workers_that_die_without_a_step_in_between_are_given_up(at, vector_env, lives):
    env = vector_env(
        [partial(games.Mortal, "raises", lives(99), at=at)], 1, report=lambda sentence: None
    )

    def play():
        env.reset(seed=0)
        for _ in range(9):
            env.step(np.array([0]))

    with pytest.raises(RuntimeError, match=r"worker 0 died 3 times.*out of luck") as caught:
        play()
    assert "in die" in caught.value.__notes__[0]  # the trace of the environment's own error
    assert len(list(lives(0).iterdir())) == 96


def test_those_that_step_in_between_are_not(vector_env, lives):
    said = []
    env = vector_env(
        [partial(games.Mortal, "exits", lives(5), at=3, lengths=(9,))], 1, report=said.append
    )
    env.reset(seed=2)
    for _ in range(30):
        env.step(np.array([0]))
    assert len(said) == 5


def test_those_that_end_no_episode_are_given_up(vector_env, lives):
    """Though they step in between."""
    dying = partial(games.Mortal, "exits", lives(99), at=3, lengths=(9,))
    env = vector_env([dying], 1, report=lambda sentence: None)

    def play():
        env.reset(seed=2)
        for _ in range(99):
            env.step(np.array([0]))

    with pytest.raises(RuntimeError, match=r"died 20 times without a whole episode.*exit code 3"):
        play()


def test_a_death_between_two_steps_is_noticed(vector_env):
    said = []
    env = vector_env([partial(games.Counting, (9,))] * 2, 2, report=said.append)
    env.reset(seed=0)
    victim = env._workers[1]._process
    os.kill(victim.pid, signal.SIGKILL)
    victim.join()
    assert env.step(np.array([0, 0]))[-1]["restarted"].tolist() == [False, True]
    assert said == [
        "worker 1 died (exit code -9); restarted, its unfinished episode of 0 steps is dropped"
    ]


def test_by_default_deaths_are_warned_of(vector_env, lives):
    env = vector_env([partial(games.Mortal, "exits", lives(1), at=1)], 1)
    env.reset(seed=0)
    with pytest.warns(UserWarning, match=r"worker 0 died \(exit code 3\)"):
        env.step(np.array([0]))


def test_closing_ends_the_processes(vector_env):
    env = vector_env([games.Counting] * 2, 2)
    env.reset(seed=0)
    processes = [worker._process for worker in env._workers]
    env.close()
    assert [process.exitcode for process in processes] == [0, 0]
    env.close()


def test_workers_are_deaf_to_ctrl_c(vector_env):
    """A terminal sends it to all of its processes; what becomes of it is the parent's affair."""
    env = vector_env([games.Counting], 1)
    env.reset(seed=0)
    os.kill(env._workers[0]._process.pid, signal.SIGINT)
    assert "restarted" not in env.step(np.array([0]))[-1]


def test_environments_may_use_torch_though_their_parent_has(vector_env):
    class Thinking(games.Counting):
        def observe(self):
            torch.ones(300, 300) @ torch.ones(300, 300)
            return super().observe()

    before = torch.get_num_threads()
    torch.set_num_threads(2)
    torch.ones(300, 300) @ torch.ones(300, 300)
    env = vector_env([Thinking], 1, patience=10.0, report=pytest.fail)
    env.reset(seed=0)
    torch.set_num_threads(before)


def test_workers_end_with_their_parent():
    """Even if it is killed, and whichever of them inherited whose pipe."""
    program = """
        import os, signal
        import games
        from worldmodel.envs import WorkerVectorEnv
        env = WorkerVectorEnv([games.Counting] * 3, 3)
        env.reset(seed=0)
        print(*(worker._process.pid for worker in env._workers), flush=True)
        os.kill(os.getpid(), signal.SIGKILL)
    """
    tests = Path(__file__).parent
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": f"{tests.parent}{os.pathsep}{tests}"},
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    left = [int(pid) for pid in done.stdout.split()]
    assert len(left) == 3
    for _ in range(200):
        left = [pid for pid in left if alive(pid)]
        if not left:
            return
        time.sleep(0.05)
    raise AssertionError(f"{len(left)} workers outlived their parent")


def alive(pid):
    """Whether a process runs (one that nobody has waited for does not)."""
    status = Path(f"/proc/{pid}/stat")
    return status.exists() and status.read_text().rpartition(")")[2].split()[0] != "Z"


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"seed": [1, 2, 3]}, "each of the 2 copies, got 3"),
        ({"options": {"reset_mask": 1}}, "no reset_mask"),
    ],
)
def test_what_cannot_be_is_said(wrong, sentence, vector_env):
    with pytest.raises(ValueError, match=sentence):
        vector_env([games.Counting] * 2, 2).reset(**wrong)
