"""Long waits end: of episodes without an end, and of environments that hang."""

import signal
import threading
import time

import odd_games
import pytest
from gymnasium.vector import SyncVectorEnv

from worldmodel import GenCore
from worldmodel.agents import Uniform, world as worlds
from worldmodel.agents.world import World
from worldmodel.envs import EnvironmentSource, GymEnvironment
from worldmodel.envs.checked import BrokenEnvironmentError, patience


def world(**options):
    env = odd_games.Odd()
    source = EnvironmentSource("Odd-v0", **options)
    return World(env.observation_space, env.action_space, source)


def test_evaluations_end_though_no_episode_does(monkeypatch):
    monkeypatch.setattr(worlds, "ENDLESS", 20)
    endless = world(arguments={"how": "never"})
    assert "20 if none has ended by then" in endless.cut
    assert "--time-limit" in endless.cut
    assert endless.play(Uniform(endless.action_space), 2, 0).lengths.tolist() == [20, 20]


def test_a_time_limit_is_kept(monkeypatch):
    monkeypatch.setattr(worlds, "ENDLESS", 3)
    limited = world(arguments={"how": "never"}, time_limit=7)
    assert limited.cut == ""
    assert limited.play(Uniform(limited.action_space), 2, 0).lengths.tolist() == [7, 7]


@pytest.mark.timeout(0)  # which sets the same alarm
def test_an_environment_that_hangs_is_given_up():
    env = SyncVectorEnv([lambda: odd_games.Odd("hangs", at=2)])
    environment = GymEnvironment(env, seed=0, patience=0.2)
    core = GenCore(environment, Uniform(environment.action_space))
    begun = time.monotonic()
    with pytest.raises(BrokenEnvironmentError, match=r"0\.2 seconds.*--workers"):
        core.generate(5, core.initial_state(1))
    assert time.monotonic() - begun < 60
    assert signal.getsignal(signal.SIGALRM) is signal.SIG_DFL
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)


@pytest.mark.timeout(0)
def test_an_alarm_of_others_is_left_alone():
    """Neither a timer nor a handler of the program, nor threads, which get no signals."""

    def handler(number, frame):
        raise AssertionError

    signal.signal(signal.SIGALRM, handler)
    try:
        with patience(0.01):
            time.sleep(0.05)
        assert signal.getsignal(signal.SIGALRM) is handler
    finally:
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.setitimer(signal.ITIMER_REAL, 1_000)
    try:
        with patience(0.01):
            time.sleep(0.05)
        assert signal.getitimer(signal.ITIMER_REAL)[0] > 900
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)

    def in_a_thread():
        with patience(0.01):
            time.sleep(0.05)

    thread = threading.Thread(target=in_a_thread)
    thread.start()
    thread.join()
    assert signal.getsignal(signal.SIGALRM) is signal.SIG_DFL
