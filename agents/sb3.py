"""Algorithms of stable-baselines3, unchanged: they learn in a dream and act in every world.

`Games` is a vector of dreams as a `VecEnv`, `Head` their learnt policy, as that of an `Agent`.
They are imported with this module, which takes two seconds: import it where it is needed.
"""

import copy
import inspect
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any, NamedTuple, cast

import numpy as np
import torch
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, VectorEnv
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.logger import Logger
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from stable_baselines3.common.vec_env import VecEnv
from stable_baselines3.common.vec_env.base_vec_env import VecEnvStepReturn
from torch import Tensor, distributions as td, nn
from torch.distributions import Distribution
from torch.nn import functional as F

from worldmodel import (
    Agent,
    AgentWrapper,
    DistModule,
    ModelState,
    Registry,
    Row,
    action_codec,
    nested,
)
from worldmodel.codecs.actions import BoxActions, DiscreteActions
from worldmodel.devices import CPU
from worldmodel.distributions import IMPOSSIBLE, Bits, ClippedNormal, OneHot, OneHots, TanhNormal

STANDING = ("_last_obs", "_last_episode_starts", "_last_lstm_states")  # where a learner stands
COUNTS = ("num_timesteps", "_n_updates", "_n_calls", "_episode_num", "exploration_rate")


class Games(VecEnv):
    """A Gymnasium vector environment, which restarts its games in the same step, as a
    `VecEnv` of stable-baselines3."""

    def __init__(self, games: VectorEnv, reward_unit: float = 1.0):
        """reward_unit: what rewards are divided by, for algorithms that want them near one."""
        mode = games.metadata.get("autoreset_mode")
        if mode != AutoresetMode.SAME_STEP:
            raise ValueError(
                f"stable-baselines3 expects autoreset_mode SAME_STEP, but {games} has {mode}; "
                "make it with autoreset_mode=AutoresetMode.SAME_STEP"
            )
        self.games = games
        self.reward_unit = reward_unit
        self._actions: np.ndarray | None = None
        super().__init__(games.num_envs, games.single_observation_space, games.single_action_space)

    def reset(self) -> Any:
        observation, _ = self.games.reset(seed=self._seeds[0])
        self._reset_seeds()
        return observation

    def step_async(self, actions: np.ndarray) -> None:
        self._actions = actions

    def step_wait(self) -> VecEnvStepReturn:
        """Steps all games. At an end the observation is the next episode's first, and the last one
        is in `terminal_observation` of info; `TimeLimit.truncated` requests bootstrapping."""
        observation, reward, terminated, truncated, info = self.games.step(self._actions)
        ended = terminated | truncated
        infos: list[dict[str, Any]] = [{} for _ in range(self.num_envs)]
        for game in np.flatnonzero(ended):
            infos[game] = {
                "terminal_observation": info["final_obs"][game],
                "TimeLimit.truncated": bool(truncated[game] and not terminated[game]),
            }
        return observation, (reward / self.reward_unit).astype(np.float32), ended, infos

    def close(self) -> None:
        self.games.close()

    def get_attr(self, attr_name: str, indices: Any = None) -> list[Any]:
        return [getattr(self.games, attr_name) for _ in self._get_indices(indices)]

    def set_attr(self, attr_name: str, value: Any, indices: Any = None) -> None:
        raise AttributeError(f"games side by side have no {attr_name} of their own")

    def env_method(
        self, method_name: str, *method_args: Any, indices: Any = None, **method_kwargs: Any
    ) -> list[Any]:
        raise AttributeError(f"games side by side have no {method_name} of their own")

    def env_is_wrapped(self, wrapper_class: Any, indices: Any = None) -> list[bool]:
        return [False for _ in self._get_indices(indices)]


Parameters = tuple[Callable[..., Distribution], tuple[Tensor, ...]]  # of a distribution, [N, ...]


def _of_actor(algorithm: Any, thought: Tensor) -> Parameters:
    return _as_codes(algorithm, algorithm.policy.get_distribution(thought).distribution)


def _of_remembering_actor(algorithm: Any, thought: Tensor) -> Parameters:
    """thought: the output of the memory, see `Remembering`."""
    policy = algorithm.policy
    latent = policy.mlp_extractor.forward_actor(thought)
    return _as_codes(algorithm, policy._get_action_dist_from_latent(latent).distribution)


def _as_codes(algorithm: Any, actor: Any) -> Parameters:
    """The distribution of codes that an actor's distribution of actions is."""
    actions = action_codec(algorithm.action_space)
    if isinstance(actor, list):  # of MultiDiscrete's categoricals
        layout = cast(DiscreteActions, actions).encoder.layout
        logits = torch.cat([part.logits for part in actor], -1)
        return lambda logits: OneHots(logits, layout), (logits,)
    if isinstance(actions, BoxActions):
        ends = actions.middle, actions.half
        middle, half = (end.to(actor.mean.device).float().flatten() for end in ends)
        return ClippedNormal, ((actor.mean - middle) / half, actor.stddev / half)
    return (Bits if isinstance(actor, td.Bernoulli) else OneHot), (actor.logits,)


def _of_values(algorithm: Any, thought: Tensor) -> Parameters:
    """The epsilon-greedy policy: the best action, or a random one at the exploration rate."""
    best = algorithm.policy.q_net(thought).argmax(-1)
    number, chance = int(algorithm.action_space.n), algorithm.exploration_rate
    probs = (1 - chance) * F.one_hot(best, number) + chance / number
    return OneHot, (probs.log().clamp(min=IMPOSSIBLE),)


def _of_squashed_actor(algorithm: Any, thought: Tensor) -> Parameters:
    mean, log_std, _ = algorithm.policy.actor.get_action_dist_params(thought)
    return TanhNormal, (mean, log_std.exp())


class Kind(NamedTuple):
    """An algorithm: its module, policy class, action spaces, and a reader of its policy."""

    module: str
    policy: str
    takes: tuple[type[spaces.Space], ...]
    read: Callable[[Any, Tensor], Parameters]  # its policy, given thoughts [N, F]


NUMBERED = (spaces.Box, spaces.Discrete, spaces.MultiDiscrete)
ANY = (*NUMBERED, spaces.MultiBinary)
ALGORITHMS: Registry[Kind] = Registry(
    "algorithm of stable-baselines3",
    {
        "PPO": Kind("stable_baselines3", "MlpPolicy", ANY, _of_actor),
        "A2C": Kind("stable_baselines3", "MlpPolicy", ANY, _of_actor),
        "DQN": Kind("stable_baselines3", "MlpPolicy", (spaces.Discrete,), _of_values),
        "SAC": Kind("stable_baselines3", "MlpPolicy", (spaces.Box,), _of_squashed_actor),
        "RecurrentPPO": Kind("sb3_contrib", "MlpLstmPolicy", NUMBERED, _of_remembering_actor),
    },
)
"""(RecurrentPPO 2.9 keeps bits as int8, of which its own loss cannot be computed.)"""


def check(name: str, space: spaces.Space, options: Mapping[str, Any]) -> None:
    """Refuses actions and options that an algorithm does not take, before anything is played."""
    unknown = set(options) - set(inspect.signature(constructor_of(name)).parameters)
    if unknown:
        raise ValueError(f"{name} takes no {', '.join(sorted(unknown))}; see its documentation")
    takes = ALGORITHMS[name].takes
    if not isinstance(space, takes):
        able = [other for other, kind in ALGORITHMS.items() if isinstance(space, kind.takes)]
        raise ValueError(
            f"{name} takes {' or '.join(kind.__name__ for kind in takes)} actions, but the "
            f"environment's are {space}; "
            + (f"{', '.join(able)} take these" if able else "no algorithm takes these")
        )
    if isinstance(space, spaces.Box):
        fits = np.issubdtype(space.dtype, np.floating)
    else:
        fits = len(space.shape or ()) < 2 and not np.any(getattr(space, "start", 0))
    if not fits:
        raise ValueError(
            "stable-baselines3 takes a Box of floats, and other actions that count from 0, in one "
            f"row, but the environment's are {space}; our own agent takes these"
        )


class Rewards(BaseCallback):
    """Adds up the rewards of a call of `learn`."""

    def __init__(self) -> None:
        super().__init__()
        self.total, self.number = 0.0, 0

    def _on_step(self) -> bool:
        self.total += float(self.locals["rewards"].sum())
        self.number += len(self.locals["rewards"])
        return True


class Learner:
    """An algorithm, by name, that learns in the games it is given, some steps at a time."""

    def __init__(
        self,
        name: str,
        games: VectorEnv,
        options: Mapping[str, Any],
        reward_unit: float = 1.0,
        device: torch.device = CPU,
    ):
        """games: of the kind that it will be given; options: of the algorithm's constructor."""
        self.reward_unit = reward_unit
        self.algorithm = constructor_of(name)(
            ALGORITHMS[name].policy,
            Games(games, reward_unit),
            device=device,
            **copy.deepcopy(dict(options)),  # some algorithms write into theirs
        )
        self.algorithm.set_logger(Logger(None, []))

    @property
    def has_begun(self) -> bool:
        """True if it is in the midst of games."""
        return self.algorithm._last_obs is not None

    def begin(self, games: VectorEnv, seed: int) -> None:
        """Begins other games; the algorithm's state of those before is dropped."""
        seen = Games(games, self.reward_unit)
        self.algorithm.set_env(seen, force_reset=True)
        seen.seed(seed)
        if isinstance(self.algorithm, OffPolicyAlgorithm) and self.algorithm.replay_buffer:
            self.algorithm.replay_buffer.reset()

    def learn(self, steps: int, share: float, seed: int) -> dict[str, float]:
        """Learns for so many steps, all games together, at this share of its learning rate;
        returns the algorithm's metrics.

        Seeds numpy's own generator, from which it draws its batches.
        """
        np.random.seed(seed)
        self.algorithm.action_space.seed(seed)
        rate = share * cast(float, self.algorithm.learning_rate)
        self.algorithm.lr_schedule = lambda _: rate
        rewards = Rewards()
        self.algorithm.learn(steps, rewards, log_interval=2**62, reset_num_timesteps=False)
        config = self.algorithm.logger.name_to_value
        metrics = {name.removeprefix("train/"): float(value) for name, value in config.items()}
        self.algorithm.logger.dump()
        return metrics | {"reward": self.reward_unit * rewards.total / rewards.number}

    def state_dict(self) -> dict[str, Any]:
        """The state of `learn` besides games and the policy's weights, as tensors and
        numbers: optimizers, other learnt values, counts, the games' last observations.

        The replay of DQN and SAC is not among it.
        """
        algorithm = self.algorithm
        names, others = algorithm._get_torch_save_params()
        parameters = algorithm.get_parameters()
        return {
            "optimizers": {name: parameters[name] for name in names if name != "policy"},
            "others": {name: getattr(algorithm, name).detach() for name in others},
            "counts": {
                name: getattr(algorithm, name) for name in COUNTS if hasattr(algorithm, name)
            },
            "standing": {
                name: [torch.as_tensor(leaf) for leaf in nested.leaves(getattr(algorithm, name))]
                for name in STANDING
                if getattr(algorithm, name, None) is not None
            },
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Resumes from a `state_dict`; DQN and SAC keep the replay they have."""
        algorithm = self.algorithm
        algorithm.set_parameters(dict(state["optimizers"]), exact_match=False)
        for name, value in state["others"].items():
            getattr(algorithm, name).data.copy_(value)
        for name, value in state["counts"].items():
            setattr(algorithm, name, value)
        for name, leaves in state["standing"].items():
            if name == "_last_lstm_states":
                there = nested.fill(getattr(algorithm, name), leaves)
                setattr(algorithm, name, nested.to(there, algorithm.device))
            else:
                setattr(algorithm, name, leaves[0].numpy())


def constructor_of(name: str) -> Callable[..., BaseAlgorithm]:
    """The class of the algorithm."""
    module = ALGORITHMS[name].module
    try:
        return cast(Callable[..., BaseAlgorithm], getattr(import_module(module), name))
    except ImportError as error:
        raise ValueError(
            f"{name} needs a package that is missing: {error}; "
            "pip install 'worldmodel-gym[contrib]'"
        ) from error


class Head(DistModule):
    """The learnt policy of an algorithm: thought [*, F] -> a distribution over action codes."""

    def __init__(self, algorithm: BaseAlgorithm):
        super().__init__()
        self.algorithm = algorithm
        self.policy: nn.Module = algorithm.policy
        self.read = ALGORITHMS[type(algorithm).__name__].read
        self.size = action_codec(algorithm.action_space).size

    @property
    def placeholder(self) -> Tensor:
        return torch.zeros(self.size)

    def forward(self, features: Tensor) -> Distribution:
        leading = features.shape[:-1]
        flat = features.reshape(-1, features.shape[-1])
        kind, parameters = self.read(self.algorithm, flat)
        return kind(*(p.reshape(*leading, p.shape[-1]) for p in parameters))


class Remembered(NamedTuple):
    """The mind of a `Remembering` agent."""

    mind: Any  # of the agent whose thoughts are remembered
    hidden: Tensor  # [B, layers, H]
    cell: Tensor  # [B, layers, H]


class Remembering(AgentWrapper):
    """An agent whose thoughts pass through the memory of a RecurrentPPO.

    A thought is the output of that memory, which the algorithm's `Head` reads.
    """

    def __init__(self, agent: Agent, head: Head):
        super().__init__(agent)
        self.head = head
        self.memory = cast(nn.LSTM, head.policy.lstm_actor)
        self.thought_size = self.memory.hidden_size

    def initial_state(self, batch_size: int) -> Remembered:
        like = next(self.memory.parameters())
        nothing = like.new_zeros(batch_size, self.memory.num_layers, self.memory.hidden_size)
        return Remembered(self.agent.initial_state(batch_size), nothing, nothing)

    def step(
        self, row: Row, state: Remembered, shared: ModelState | None = None
    ) -> tuple[Tensor, Remembered]:
        thought, mind = self.agent.step(row, state.mind, shared)
        before = tuple(part.transpose(0, 1).contiguous() for part in state[1:])
        policy = cast(Any, self.head.policy)
        first = row.first.to(thought.device).float()
        _, (hidden, cell) = policy.get_distribution(thought, before, first)
        return hidden[-1], Remembered(mind, hidden.transpose(0, 1), cell.transpose(0, 1))

    def expected_reward(self, row: Row, state: Remembered) -> Tensor:
        return self.agent.expected_reward(row, state.mind)

    def policy(self, thought: Tensor) -> Distribution:
        return self.head(thought)


def is_remembering(head: Head) -> bool:
    """True if its algorithm has a memory of its own, so that the agent is `Remembering`."""
    return hasattr(head.policy, "lstm_actor")
