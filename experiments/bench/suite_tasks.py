"""The public suite: environments of others, each with a threshold and a number of real steps.

Nothing here imports torch, so that help answers at once.
"""

import math
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

from worldmodel import Registry


class Published(NamedTuple):
    """A figure that others have published, which has a protocol of its own."""

    by: str
    value: float  # return
    steps: int | None  # of the real environment; None: not said
    source: str  # a key of `SOURCES`


class Task(NamedTuple):
    """An environment, the return that counts as solved, and the real steps that are allowed."""

    env: str  # Gymnasium id
    threshold: float  # return
    steps: int  # of the real environment
    random: float  # mean return of uniformly random actions
    options: Mapping[str, Any] = MappingProxyType({})  # of `EnvironmentConfig`
    rival: str = "PPO"  # the algorithm of stable-baselines3 that stands beside
    is_above: bool = False  # the threshold is a published figure, to be surpassed
    published: tuple[Published, ...] = ()

    def is_reached(self, value: float) -> bool:
        """True if a return reaches the threshold."""
        return value >= self.least

    @property
    def least(self) -> float:
        """The least return that reaches the threshold."""
        return math.nextafter(self.threshold, math.inf if self.is_above else self.threshold)

    def score(self, value: float) -> float:
        """A return, normalised: random play is 0, the threshold 1."""
        return (value - self.random) / (self.threshold - self.random)


SOURCES = {
    "SLM-Lab": "docs/BENCHMARKS.md@02477a9: training returns, mean of 100 episodes, 4 sessions, "
    "200,000 to 300,000 frames",
    "gymnax": "README@086ad95: at the end of training",
    "dreamerv3": "scores/dmc_proprio-dreamerv3.json.gz@e3f0224: training returns, 5 seeds",
    "tdmpc2": "results@e9f5932: evaluations, 3 seeds, actions repeated twice",
    "POPGym": "Morad et al. 2023, arXiv 2303.01859: the best epoch, 3 trials",
    "MinAtar": "README@4241f24, traced from a plot (± 3 %): training returns, 30 seeds, all 6 "
    "actions, sticky ones",
}
"""Where published figures are from, and how they were measured."""


def _slm(*rows: tuple[str, float]) -> tuple[Published, ...]:
    return tuple(Published(by, value, 300_000, "SLM-Lab") for by, value in rows)


def _gymnax(value: float) -> tuple[Published, ...]:
    return (Published("PPO", value, None, "gymnax"),)


def _minatar(dqn: float, actor_critic: float) -> tuple[Published, ...]:
    rows = (("DQN", dqn), ("AC(0.8)", actor_critic))
    return tuple(Published(by, value, 100_000, "MinAtar") for by, value in rows)


def _popgym(gru: float, best: float, name: str) -> tuple[Published, ...]:
    """name: of the best of 13 models."""
    rows = [Published("PPO-GRU", gru, 15_000_000, "POPGym")]
    if best != gru:
        rows.append(Published(f"PPO-{name}", best, 15_000_000, "POPGym"))
    return tuple(rows)


TASKS: Registry[Task] = Registry(
    "task of the public suite",
    {
        "CartPole-v1": Task(
            "CartPole-v1",
            475,
            2_500,
            21.85,
            published=_slm(("PPO", 498.9), ("SAC", 406), ("DQN", 239.9)),
        ),
        "CartPole-v1-positions": Task(
            "CartPole-v1", 450, 4_000, 21.85, {"hidden_velocities": True}, "RecurrentPPO"
        ),
        "CartPole-v1-pixels": Task("CartPole-v1", 475, 10_000, 21.85, {"pixels": 64}),
        "Acrobot-v1": Task(
            "Acrobot-v1",
            -100,
            5_500,
            -497.7,
            published=(
                *_slm(("PPO", -81.3), ("DDQN+PER", -83.9)),
                *_gymnax(-80),
            ),
        ),
        "Pendulum-v1": Task(
            "Pendulum-v1",
            -200,
            2_000,
            -1202.1,
            rival="SAC",
            published=(
                *_slm(("CrossQ", -145.7), ("SAC", -151.0), ("PPO", -174.9)),
                *_gymnax(-130),
            ),
        ),
        "MountainCar-v0": Task("MountainCar-v0", -110, 10_000, -200, published=_gymnax(-118)),
        "MountainCarContinuous-v0": Task(
            "MountainCarContinuous-v0", 90, 5_000, -33.2, rival="SAC", published=_gymnax(92)
        ),
        "LunarLander-v3": Task(
            "LunarLander-v3",
            200,
            20_000,
            -163.0,
            published=_slm(("DDQN+PER", 265.9), ("PPO", 183.3)),
        ),
        "InvertedPendulum-v5": Task("InvertedPendulum-v5", 950, 1_500, 5.05, rival="SAC"),
        "Reacher-v5": Task("Reacher-v5", -5, 5_000, -42.5, rival="SAC"),
        "Hopper-v5": Task("Hopper-v5", 1_000, 20_000, 17.2, rival="SAC"),
        "FrozenLake-v1": Task("FrozenLake-v1", 0.70, 5_000, 0.0139),
        "CliffWalking-v1": Task("CliffWalking-v1", -13, 5_000, -65_375),
        "MiniGrid-Empty-5x5-v0": Task("MiniGrid-Empty-5x5-v0", 0.9, 2_500, 0.160),
        "MiniGrid-DoorKey-5x5-v0": Task("MiniGrid-DoorKey-5x5-v0", 0.9, 20_000, 0.016),
        "MinAtar/Breakout-v1": Task(
            "MinAtar/Breakout-v1", 4.8, 100_000, 0.42, is_above=True, published=_minatar(4.8, 4.0)
        ),
        "MinAtar/SpaceInvaders-v1": Task(
            "MinAtar/SpaceInvaders-v1",
            18.5,
            100_000,
            3.93,
            is_above=True,
            published=_minatar(18.5, 7.9),
        ),
        "dm_control/cartpole-swingup-v0": Task(
            "dm_control/cartpole-swingup-v0",
            322,
            50_000,
            24.0,
            rival="SAC",
            is_above=True,
            published=(
                Published("DreamerV3", 189, 20_000, "dreamerv3"),
                Published("DreamerV3", 322, 50_000, "dreamerv3"),
                Published("DreamerV3", 528, 100_000, "dreamerv3"),
                Published("TD-MPC2", 839, 100_000, "tdmpc2"),
                Published("SAC", 835, 100_000, "tdmpc2"),
            ),
        ),
        "dm_control/pendulum-swingup-v0": Task(
            "dm_control/pendulum-swingup-v0",
            182,
            50_000,
            0,
            rival="SAC",
            is_above=True,
            published=(
                Published("DreamerV3", 0, 20_000, "dreamerv3"),
                Published("DreamerV3", 182, 50_000, "dreamerv3"),
                Published("DreamerV3", 830, 100_000, "dreamerv3"),
                Published("TD-MPC2", 724, 100_000, "tdmpc2"),
                Published("SAC", 96, 100_000, "tdmpc2"),
            ),
        ),
        "popgym-RepeatPreviousEasy-v0": Task(
            "popgym-RepeatPreviousEasy-v0",
            0.95,
            7_000,
            -0.490,
            rival="RecurrentPPO",
            published=_popgym(1.0, 1.0, "GRU"),
        ),
        "popgym-RepeatPreviousMedium-v0": Task(
            "popgym-RepeatPreviousMedium-v0",
            -0.315,
            50_000,
            -0.522,
            rival="RecurrentPPO",
            is_above=True,
            published=_popgym(-0.315, 0.789, "LMU"),
        ),
        "popgym-CountRecallEasy-v0": Task(
            "popgym-CountRecallEasy-v0",
            0.177,
            20_000,
            -0.923,
            rival="RecurrentPPO",
            is_above=True,
            published=_popgym(0.177, 0.509, "LSTM"),
        ),
        "popgym-AutoencodeEasy-v0": Task(
            "popgym-AutoencodeEasy-v0",
            -0.283,
            20_000,
            -0.505,
            rival="RecurrentPPO",
            is_above=True,
            published=_popgym(-0.283, -0.283, "GRU"),
        ),
        "popgym-PositionOnlyCartPoleEasy-v0": Task(
            "popgym-PositionOnlyCartPoleEasy-v0",
            0.95,
            20_000,
            0.109,
            rival="RecurrentPPO",
            published=_popgym(1.0, 1.0, "GRU"),
        ),
        "popgym-NoisyPositionOnlyCartPoleEasy-v0": Task(
            "popgym-NoisyPositionOnlyCartPoleEasy-v0",
            0.95,
            20_000,
            0.109,
            rival="RecurrentPPO",
            published=_popgym(0.995, 0.995, "GRU"),
        ),
    },
)
"""The tasks of the suite by name.

Random play is the mean of 100 whole episodes (20 of dm_control), and exact for FrozenLake and
CliffWalking, whose transitions are known: a random episode of the latter takes 6,453 steps on
average, and scores of agents that merely stay away from the cliff are near 1.
"""
