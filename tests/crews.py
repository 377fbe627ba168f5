"""Collectors for tests: players in this process, and episodes played again from their seeds."""

import pickle
from contextlib import contextmanager
from functools import partial

import gymnasium
import numpy as np
from gymnasium.envs.classic_control.cartpole import CartPoleEnv

from worldmodel import MemoryStore
from worldmodel.agents import AgentConfig, AgentTraining
from worldmodel.agents.collectors import Crew, LostPlayerError, Player
from worldmodel.agents.world import World
from worldmodel.envs import EnvironmentSource
from worldmodel.envs.elsewhere import Keeper
from worldmodel.options import with_options


class Distant(CartPoleEnv):
    """A pole that can be made by players and keepers alone."""

    may_be_made = False

    def __init__(self, **options):
        assert Distant.may_be_made
        super().__init__(**options)


gymnasium.register("Distant-v0", Distant, max_episode_steps=30)


@contextmanager
def there():
    """Where a `Distant` environment may be made."""
    Distant.may_be_made = True
    yield
    Distant.may_be_made = False


def keeper_of(source, config):
    """Asks a keeper of this process."""
    keeper = Keeper(pickle.loads(pickle.dumps(source)))

    def ask(method, *arguments):
        with there():
            return pickle.loads(pickle.dumps(getattr(keeper, method)(*arguments)))

    return ask


class Here(Crew):
    """Players in this process, which play when they are asked; by number, some are slow, and some
    die of a call."""

    def __init__(self):
        self.players = []
        self.calls = []  # the number of the player, the method, and its arguments
        self.slow = set()  # players whose calls are not over
        self.fatal = set()  # numbers of calls of which their players die

    def hire(self, setup):
        self.players.append(Player(pickle.loads(pickle.dumps(setup))))
        return len(self.players) - 1

    def dismiss(self, player):
        self.players[player] = None

    def publish(self, policy):
        return pickle.dumps(policy)

    def call(self, player, method, *arguments):
        number = len(self.calls)
        self.calls.append((player, method, arguments))
        plain = [pickle.loads(a) if isinstance(a, bytes) else a for a in arguments]
        try:
            with there():
                result = getattr(self.players[player], method)(*plain)
        except Exception as error:
            result = error
        return number, player, pickle.dumps(result)

    def over(self, calls, seconds):
        return [call for call in calls if call[1] not in self.slow]

    def result(self, call):
        number, player, result = call
        if number in self.fatal or self.players[player] is None:
            self.players[player] = None
            raise LostPlayerError("killed")
        result = pickle.loads(result)
        if isinstance(result, Exception):
            raise result
        return result


def training_in(env, collector=None, say=lambda text: None, num_envs=2, **options):
    """The training of an agent in an environment of an id, in memory."""
    source = EnvironmentSource(env, env_path=None)
    one = source.one()
    world = World(one.observation_space, one.action_space, source, num_envs)
    config = with_options(AgentConfig(seed=5), options)
    return AgentTraining(config, world, MemoryStore(), say=say, collector=collector)


def check_replays(episodes, seeds, make):
    """Every episode is what its environment shows for its seed and its actions, to its end.

    seeds: of each one's copy, and its number among those of the copy.
    """
    assert len(episodes) == len(seeds)
    env = make()
    for place, seed in enumerate(seeds):
        rows = episodes.select(np.array([place])).columns
        number = int(np.random.SeedSequence(tuple(seed)).generate_state(1)[0])
        shown, _ = env.reset(seed=number)
        ended = False
        for time, expected in enumerate(rows["observation"]):
            if time:
                assert not ended
                action = rows["action"][time].astype(env.action_space.dtype)
                shown, reward, terminated, truncated, _ = env.step(action)
                ended = terminated or truncated
                assert rows["reward"][time] == np.float32(reward)
                assert rows["terminated"][time] == terminated
            np.testing.assert_array_equal(np.asarray(shown, expected.dtype), expected)
        assert ended
    env.close()


def check_run(folder):
    """The episodes of a run are right, as far as its metrics say how they were played."""
    from worldmodel.experiments.data.datasets import episodes_of

    lines = [line for line in folder.metrics() if line["stage"] == "collect"]
    seeds = [seed for line in lines for seed in line["seeds"]]
    assert len({tuple(seed) for seed in seeds}) == len(seeds)
    source = episodes_of(folder)
    env = folder.description.config["environment"]["env"]
    taken = source.select(np.arange(len(seeds)))
    check_replays(taken, seeds, partial(gymnasium.make, env))
    return taken, lines
