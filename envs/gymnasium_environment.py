"""The real world: a Gymnasium vector environment as an Environment."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from gymnasium.vector import AutoresetMode, VectorEnv
from torch import Tensor

from worldmodel import Environment, Row, action_codec
from worldmodel.codecs import check_observations
from worldmodel.codecs.actions import DiscreteActions
from worldmodel.envs.checked import PATIENCE, patience
from worldmodel.envs.observations import (
    InvalidValueError,
    as_tensors,
    check_rewards,
    check_values,
)
from worldmodel.envs.resumable import EPISODE, GOES_ON, RUNNING, Running
from worldmodel.envs.workers import DEATHS

MASK = "action_mask"  # of an environment's info


class Tick(NamedTuple):
    """The state of a real environment, which can only be stepped from its latest tick."""

    number: Tensor  # int64 [B], rows so far
    ended: Tensor  # bool [B]; the next row is a first row
    lost: Tensor  # bool [B]; the latest row is a first row, and cut an episode off: drop its rows
    episode: Tensor  # int64 [B, 2], what a `Resumable` calls the latest row's episode; else -1


class GymEnvironment(Environment):
    """Steps a vector environment; after an end comes a first row (autoreset NEXT_STEP).

    Observations are nested as their space is; their floats have the type of the actions' codes.
    Only its first reset is seeded: later episodes differ from one another. Where a worker of a
    `WorkerVectorEnv` was replaced, a first row comes without an end before it.
    """

    def __init__(
        self, vector_env: VectorEnv, seed: int | None = None, patience: float | None = None
    ):
        """patience: seconds that a step or a reset of all copies may take; None: `PATIENCE`, or
        more where workers have that much, which are replaced first."""
        mode = vector_env.metadata.get("autoreset_mode")
        if mode != AutoresetMode.NEXT_STEP:
            raise ValueError(
                f"GymEnvironment expects autoreset_mode NEXT_STEP, but {vector_env} has {mode}; "
                "make it with autoreset_mode=AutoresetMode.NEXT_STEP"
            )
        self.vector_env = vector_env
        self.observation_space = vector_env.single_observation_space
        self.action_space = vector_env.single_action_space
        check_observations(self.observation_space)
        self.actions = action_codec(self.action_space)
        self.info: dict[str, Any] = {}  # of the latest reset or step
        self.patience = patience or max(PATIENCE, 2 * DEATHS * getattr(vector_env, "patience", 0))
        self._seed = seed
        self._ended: Tensor | None = None  # None: to be reset
        self._lost = ~self._all_games
        number = torch.zeros_like(self._lost, dtype=torch.int64)
        self._episode = number.new_full((len(number), 2), -1)
        self._tick = Tick(number, self._all_games, self._lost, self._episode)

    def initial_state(self, batch_size: int) -> Tick:
        """The tick before the first rows; the next `step` resets every game."""
        if batch_size != self.vector_env.num_envs:
            raise ValueError(
                f"this environment has {self.vector_env.num_envs} copies, but a batch of "
                f"{batch_size} was asked for; pass batch_size={self.vector_env.num_envs}"
            )
        self._ended = None
        self._lost = ~self._all_games
        return self._next_tick()

    def resume(self, running: Mapping[int, Running]) -> Tick:
        """Goes on with episodes of environments that are `Resumable`; returns the tick after their
        last rows. Those that did not come out as they were count as ended.

        running: by the seed of each copy, in order.
        """
        with patience(self.patience):
            options = {RUNNING: running}
            seeds: Any = list(running)
            _, self.info = self.vector_env.reset(seed=seeds, options=options)
        self._seed = None
        self._ended = ~torch.as_tensor(self.info[GOES_ON])
        self._lost = ~self._all_games
        self._note_episodes()
        return self._next_tick()

    def step(self, action: Tensor, state: Tick) -> tuple[Row, Tick]:
        if not torch.equal(state.number, self._tick.number):
            raise ValueError(
                "a real environment cannot be rewound: it was to be stepped from another state "
                f"than the latest (tick {int(self._tick.number[0])}); fork a Dream instead"
            )
        action = action.cpu()
        row = self._reset(action) if self._ended is None else self._step(action, self._ended)
        return row, self._next_tick()

    def allowed(self, state: Tick) -> Tensor | None:
        """The values of Discrete or MultiDiscrete actions that `info["action_mask"]` allows, one
        variable after another. A mask that allows none is none."""
        if MASK not in self.info or not isinstance(self.actions, DiscreteActions):
            return None
        given = zip(self.info[MASK], self.info[f"_{MASK}"], strict=True)
        size = self.actions.size
        return torch.stack([_mask(mask, size) if there else _all(size) for mask, there in given])

    def observe(self, row: Row, state: Tick) -> Tick:
        raise ValueError("a real environment cannot be set to a row; observe with a Dream")

    def close(self) -> None:
        """Closes the environments."""
        self.vector_env.close()

    def _reset(self, action: Tensor) -> Row:
        with patience(self.patience):
            observation, self.info = self.vector_env.reset(seed=self._seed)
        check_values(self.observation_space, observation)
        self._seed = None
        self._note_episodes()
        never = torch.zeros(len(action), dtype=torch.bool)
        self._ended = never
        nothing = torch.zeros_like(action)
        return Row(
            ~never,
            nothing,
            as_tensors(observation, action.dtype),
            nothing.new_zeros(len(action)),
            never,
        )

    def _step(self, action: Tensor, ended: Tensor) -> Row:
        actions = self.actions.decode(action.detach()).numpy().astype(self.action_space.dtype)
        with patience(self.patience):
            step = self.vector_env.step(actions)
        observation, reward, terminated, truncated, self.info = step
        check_values(self.observation_space, observation)
        check_rewards(reward)
        self._ended = torch.as_tensor(terminated | truncated)
        restarted = torch.as_tensor(self.info.get("restarted", False))
        self._lost = restarted & ~ended
        self._note_episodes()
        first = restarted | ended
        return Row(
            first,
            action.masked_fill(first[:, None], 0.0),
            as_tensors(observation, action.dtype),
            torch.as_tensor(reward, dtype=action.dtype).masked_fill(first, 0.0),
            torch.as_tensor(terminated) & ~first,
        )

    def _note_episodes(self) -> None:
        if EPISODE in self.info:
            new = torch.as_tensor(self.info[f"_{EPISODE}"])[:, None]
            self._episode = torch.where(new, torch.as_tensor(self.info[EPISODE]), self._episode)

    def _next_tick(self) -> Tick:
        ended = self._all_games if self._ended is None else self._ended
        self._tick = Tick(self._tick.number + 1, ended, self._lost, self._episode)
        return self._tick

    @property
    def _all_games(self) -> Tensor:
        return torch.ones(self.vector_env.num_envs, dtype=torch.bool)


def _mask(given: Any, size: int) -> Tensor:
    """An action mask as bool [size]."""
    parts = given if isinstance(given, tuple | list) else [given]
    mask = np.concatenate([np.ravel(part) for part in parts]).astype(bool)
    if len(mask) != size:
        raise InvalidValueError(
            f"the environment's action mask has {len(mask)} entries, but its actions have {size} "
            f'values: give info["{MASK}"] one entry for each'
        )
    return torch.from_numpy(mask) if mask.any() else _all(size)


def _all(size: int) -> Tensor:
    return torch.ones(size, dtype=torch.bool)
