"""The sources that an agent learns from, and the protocol of its evaluations."""

import math
import warnings
from collections.abc import Callable
from typing import NamedTuple

import gymnasium
import numpy as np
from gymnasium import spaces
from gymnasium.vector import VectorEnv

from worldmodel import Agent, EpisodeSource, EpisodeStats, play_episodes
from worldmodel.codecs.spaces import are_alike
from worldmodel.envs import EnvironmentSource, GymEnvironment
from worldmodel.noise import OwnNoise
from worldmodel.run_folder import RunError

EVALUATION_SEED = 2**32  # apart from the seeds of training, which are drawn from smaller ones
SIDE_BY_SIDE = 20  # real episodes that are played side by side
LONGEST = 27_000  # steps of an evaluated episode without a time limit; no game of Atari is longer
ENDLESS = 5_000  # steps after which such episodes are cut off if not one has ended by then
AS_MANY, SHORT = 5, 250  # times as many are watched, if episodes have fewer steps on average
LONGEST_COLLECTED = 1_000  # steps of a collected episode without a time limit


class World(NamedTuple):
    """The sources that an agent learns from: a real environment, recorded episodes, or both."""

    observation_space: spaces.Space
    action_space: spaces.Space
    source: EnvironmentSource | None = None
    num_envs: int = 1  # side by side, while collecting
    workers: int = 0  # processes that share them
    is_recorded: bool = False  # learned from recorded episodes, instead of playing
    data: EpisodeSource | None = None  # these, until they have been read
    chosen: np.ndarray | None = None  # indices of those to learn from; None: all

    def environment(
        self,
        copies: int = 1,
        seed: int | None = None,
        workers: int = 0,
        report: Callable[[str], None] = warnings.warn,
        wrap: Callable[[gymnasium.Env], gymnasium.Env] | None = None,
    ) -> GymEnvironment:
        """The real environment, `copies` side by side; wrap: around each."""
        if self.source is None:
            raise ValueError(
                "there is no real environment: the agent was learned from recorded episodes, or "
                "loaded without one; pass env="
            )
        made = self.source.vector(copies, workers, report, wrap=wrap)
        self.check_fit(made)
        return GymEnvironment(made, seed, None if workers else self.source.patience)

    def check_fit(self, made: VectorEnv) -> None:
        """Raises RunError, and closes an environment, if it is not like that learned from."""
        pairs = (
            ("observations", self.observation_space, made.single_observation_space),
            ("actions", self.action_space, made.single_action_space),
        )
        for name, learned, its in pairs:
            if not are_alike(learned, its):
                made.close()
                raise RunError(
                    f"the {name} of the real environment are {its}, but {learned} was learned "
                    "from: it is another environment, or has other options"
                )

    @property
    def time_limit(self) -> int | None:
        """Steps after which the real environment truncates; None where it does not, or where there
        is none."""
        return None if self.source is None else self.source.time_limit

    def play(
        self,
        agent: Agent,
        episodes: int,
        seed: int,
        note: Callable[[int], None] = lambda done: None,
    ) -> EpisodeStats:
        """Plays whole episodes in the real environment; if that does not truncate, they are cut
        after `LONGEST` steps, or after `ENDLESS` if not one has ended by then. note: called with
        the number of episodes that are over."""
        limit = self.time_limit
        copies = self.side_by_side(min(episodes, SIDE_BY_SIDE) if limit else episodes)
        endless = math.inf if limit else ENDLESS
        environment = self.environment(copies, seed)
        with OwnNoise(seed)():
            stats = play_episodes(
                environment, agent, episodes, copies, max(LONGEST, limit or 0), note, endless
            )
        environment.close()
        return stats

    def watch(self, agent: Agent, episodes: int, seed: int) -> EpisodeStats:
        """Plays whole episodes as `play` does; where they are short, so many more that they have
        some `SHORT` steps for each that was asked for, and `AS_MANY` times as many at most: the
        mean of 20 games that are won or lost is known to within a fifth."""
        stats = self.play(agent, episodes, seed)
        each = max(1.0, float(stats.lengths.mean()))
        more = int(episodes * min(AS_MANY - 1, SHORT / each - 1))
        if more < 1:
            return stats
        other = int(np.random.SeedSequence(seed).generate_state(1)[0])
        return stats.and_those_of(self.play(agent, more, other))

    @property
    def collected_limit(self) -> int | None:
        """Steps after which a collected episode is cut off; None where the environment does."""
        return None if self.time_limit else LONGEST_COLLECTED

    @property
    def cut(self) -> str:
        """A clause on where `play` cuts episodes off; "" where the environment truncates them."""
        if self.time_limit:
            return ""
        return (
            f", each cut off after {LONGEST:,} steps, or {ENDLESS:,} if none has ended by then, "
            "for want of a --time-limit"
        )

    def side_by_side(self, wanted: int) -> int:
        """The number of copies: `wanted`, or as many as can be made."""
        most = None if self.source is None else self.source.most_copies
        return wanted if most is None else min(wanted, most)


def evaluation_seeds(seed: int) -> list[int]:
    """Seeds that training by `seed` never uses: of evaluations while training; after it of real
    and of dreamt episodes, and of those that the model is scored on."""
    sequence = np.random.SeedSequence([seed, EVALUATION_SEED])
    return [int(number) for number in sequence.generate_state(4)]
