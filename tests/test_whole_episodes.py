"""Episodes go on from one collection to the next, and after an interruption, as if nothing had
happened; those that cannot are said to end."""

from functools import partial

import games
import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces
from runs import TINY
from test_collect import config

from worldmodel import Agent, Episodes, MemoryStore
from worldmodel.agents import Uniform, WorldModelAgent
from worldmodel.distributions import Deterministic
from worldmodel.envs import EnvironmentSource, GymEnvironment
from worldmodel.envs.collector import Collector
from worldmodel.envs.resumable import Resumable

SEED = 5


class Drift(gymnasium.Env):
    """A walk for `limit` steps, or without an end: of noise of its own, or of everybody's."""

    action_space = spaces.Box(-1, 1, (2,), np.float32)
    observation_space = spaces.Dict(
        place=spaces.Box(-np.inf, np.inf, (2,), np.float64),
        steps=spaces.Box(0, np.inf, (), np.float64),
    )

    def __init__(self, limit=None, is_own=True):
        self.limit, self.is_own = limit, is_own

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.steps, self.place = 0, self.np_random.normal(size=2)
        return self.observe(), {}

    def step(self, action):
        noise = (self.np_random if self.is_own else np.random).normal(size=2)
        self.place = self.place + action + 0.1 * noise
        self.steps += 1
        return self.observe(), float(self.place[0]), False, self.steps == self.limit, {}

    def observe(self):
        return {"place": self.place, "steps": np.float64(self.steps)}


class Clockwork(Agent):
    """Acts by all rows of the episode so far: by the sum of rewards and their number."""

    thought_size = 2

    def initial_state(self, batch_size):
        return torch.zeros(batch_size, 2)

    def step(self, row, state, shared=None):
        state = torch.where(row.first[:, None], 0.0, state)
        state = state + torch.stack([row.reward, torch.ones_like(row.reward)], -1)
        return state, state

    def policy(self, thought):
        return Deterministic(torch.sin(thought))


def world(make, copies=3, workers=0, limit=None):
    vector = EnvironmentSource(make).vector(
        copies, workers, wrap=partial(Resumable, limit=limit), report=print
    )
    return GymEnvironment(vector, SEED)


def collected(make, agent, rounds, stopped=(), copies=3, workers=0):
    """All episodes of so many rounds, of different steps; after some of them everything is saved,
    and goes on elsewhere."""
    collector = Collector(copies)
    collector.open(world(make, copies, workers), SEED)
    torch.manual_seed(0)
    parts = []
    for number in range(rounds):
        parts += list(collector.play(agent, 40 + 7 * number))
        if number in stopped:
            state = collector.state_dict()
            collector.close()
            collector = Collector(copies)
            collector.load_state_dict(*state)
            assert collector.open(world(make, copies, workers), SEED) == []
    collector.close()
    return parts, collector.unfinished


GAMES = {
    "drift": (partial(Drift, 70), Clockwork()),
    "long": (partial(Drift, 500), Clockwork()),
    "counting": (games.Counting, Uniform(games.Counting.action_space)),
    "nested": (games.Nested, Uniform(games.Nested.action_space)),
    "CartPole": (partial(gymnasium.make, "CartPole-v1"), Uniform(spaces.Discrete(2))),
    "Pendulum": (partial(gymnasium.make, "Pendulum-v1"), Uniform(spaces.Box(-2, 2, (1,)))),
}


def bytes_of(episodes):
    return config(Episodes.join(episodes)) if episodes else []


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("game", [name for name in GAMES if name != "long"])
def test_an_interruption_changes_no_bit(game, workers):
    make, agent = GAMES[game]
    expected, going_on = collected(make, agent, 6)
    found, still = collected(make, agent, 6, (0, 2, 3, 5), workers=workers)
    assert bytes_of(found) == bytes_of(expected)
    assert bytes_of(still) == bytes_of(going_on)


@pytest.mark.parametrize("game", ["drift", "long"])
def test_rounds_do_not_show_in_episodes(game):
    """An agent without noise meets the same, whether it collects at once or in pieces: nothing is
    cut off, and its mind is the one that it would have."""
    make, agent = GAMES[game]
    once = Collector(3)
    once.open(world(make), SEED)
    at_once = list(once.play(agent, 360)) + once.unfinished
    in_pieces = Collector(3)
    in_pieces.open(world(make), SEED)
    pieces = [part for _ in range(6) for part in in_pieces.play(agent, 60)]
    assert config(Episodes.join(pieces + in_pieces.unfinished)) == config(Episodes.join(at_once))


def test_what_comes_out_otherwise_ends_where_it_was():
    collector = Collector(2)
    collector.open(world(partial(Drift, 70, is_own=False), 2), SEED)
    (*_, before) = [*collector.play(Clockwork(), 100), *collector.unfinished]
    collector.close()
    lost = collector.open(world(partial(Drift, 70, is_own=False), 2), SEED)
    assert [episode.rows for episode in lost] == [51, 51]
    assert config(lost[1]) == config(before)
    assert collector.unfinished == []
    list(collector.play(Clockwork(), 20))
    for episode in collector.unfinished:
        assert episode.columns["observation"]["steps"].tolist() == list(range(11))
    assert not (
        lost[0].columns["observation"]["place"][0] == before.columns["observation"]["place"][0]
    ).all()


def test_copies_that_are_fewer_begin_anew():
    collector = Collector(3)
    collector.open(world(partial(Drift, 70)), SEED)
    list(collector.play(Clockwork(), 90))
    one = Collector(1)
    one.load_state_dict(*collector.state_dict())
    assert config(Episodes.join(one.unfinished)) == config(Episodes.join(collector.unfinished))
    again = Collector(1)
    again.load_state_dict(*one.state_dict())
    lost = again.open(world(partial(Drift, 70), 1), SEED)
    assert [episode.rows for episode in lost] == [31] * 3
    assert again.unfinished == []
    list(again.play(Clockwork(), 10))
    first = again.unfinished[0].columns["observation"]["place"][0]
    assert all((first != e.columns["observation"]["place"][0]).all() for e in lost)


def test_each_episode_has_a_seed_of_its_own():
    """Known by the copy and a count, whatever was done in the episodes before."""
    starts = []
    for agent in (Clockwork(), Uniform(Drift.action_space)):
        episodes = Episodes.join(collected(partial(Drift, 9), agent, 3)[0])
        starts.append(
            {row.tobytes() for row in episodes.columns["observation"]["place"][episodes.starts]}
        )
        assert len(starts[-1]) == len(episodes)
    assert len(starts[0] ^ starts[1]) <= 3


def learned(env, *steps, say=lambda text: None, **options):
    agent = WorldModelAgent(env, seed=0, **TINY | options)
    agent.training.say = say
    for more in steps:
        agent.learn(more)
    return agent


def steps_shown(store: MemoryStore) -> list[list[int]]:
    shown = store.gather(store.starts[0] + np.arange(store.rows))["observation"]["steps"]
    return [part.tolist() for part in np.split(shown, store.starts[1:])]


@pytest.mark.parametrize("steps", [(130,), (50, 80), (70, 10, 50)])
def test_learning_goes_on_with_the_episodes_that_it_left(steps):
    shown = steps_shown(learned(partial(Drift, 40), *steps).training.store)
    assert shown == [list(range(41))] * 3 + [list(range(11))]


def test_an_environment_of_the_callers_may_be_used_between():
    env = Drift(40)
    agent = learned(env, 70)
    assert agent.evaluate(2).lengths.tolist() == [40, 40]
    env.reset(seed=9)
    agent.learn(60)
    assert steps_shown(agent.training.store) == [list(range(41))] * 3 + [list(range(11))]


def test_evaluations_within_learning_disturb_nothing():
    """They play in the same environment."""
    env, stores = Drift(40), []
    for callback in (lambda progress: None, lambda progress: progress.agent.evaluate(1)):
        agent = WorldModelAgent(env, seed=0, **TINY)
        agent.learn(110, callback)
        stores.append(agent.training.store)
    shown = [steps_shown(store) for store in stores]
    assert shown[0] == shown[1] == [list(range(41))] * 2 + [list(range(31))]


@pytest.mark.parametrize("is_own", [True, False])
def test_a_saved_agent_goes_on_with_its_episode(tmp_path, is_own):
    said = []
    agent = learned(partial(Drift, 80, is_own), 50)
    agent.save(tmp_path / "agent")
    loaded = WorldModelAgent.load(tmp_path / "agent", partial(Drift, 80, is_own))
    loaded.training.say = said.append
    loaded.learn(20)
    lengths = loaded.training.store.lengths.tolist()
    assert lengths == ([71] if is_own else [51, 21])
    assert loaded.num_timesteps == 70
    assert any("cannot be gone on with" in text for text in said) is not is_own


def test_without_a_limit_episodes_are_cut_off_and_it_is_said(monkeypatch):
    monkeypatch.setattr("worldmodel.agents.world.LONGEST_COLLECTED", 30)
    said = []
    agent = learned(Drift, 70, say=said.append)
    assert agent.training.store.lengths.tolist() == [31, 31, 11]
    assert sum("no time limit" in text and "30 steps" in text for text in said) == 1
    assert not any("time limit" in text for text in limited_said())


def limited_said():
    said = []
    learned("Limited-v0", 70, say=said.append)
    return said
