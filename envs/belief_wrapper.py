"""A real environment whose observations are a world model's beliefs."""

from typing import Any, cast

import gymnasium
import numpy as np
import torch

from worldmodel import BeliefAgent, ModelState, Row, WorldModel, action_codec, nested
from worldmodel.agent import Reads, no_action
from worldmodel.codecs import check_observations
from worldmodel.envs.dream_env import belief_space
from worldmodel.envs.observations import as_tensors
from worldmodel.noise import OwnNoise


class BeliefWrapper(gymnasium.Wrapper):
    """Observations become the thoughts of a `BeliefAgent` of `model`, float32 [F].

    The same numbers as `DreamEnv(dream, observe="belief")` gives of a dream: a policy trained
    there acts here. So does one trained with `observe="features"`, given `reads="features"`:
    the filter's features stand for the generator's.
    """

    def __init__(self, env: gymnasium.Env, model: WorldModel, reads: Reads = "belief"):
        super().__init__(env)
        check_observations(env.observation_space)
        self.agent = BeliefAgent(model, no_action, reads)
        self.observation_space = belief_space(self.agent.thought_size)
        self.actions = action_codec(env.action_space)
        self._noise = OwnNoise(0)
        self._mind: ModelState | None = None

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Begins an episode; the belief [F] after its first row, and info."""
        observation, info = self.env.reset(seed=seed, options=options)
        if seed is not None or self._mind is None:
            self._noise = OwnNoise(int(np.random.SeedSequence(seed).generate_state(1)[0]))
        self._mind = self.agent.initial_state(1)
        nothing = torch.zeros(1, self.actions.size)
        return self._believe(True, nothing, observation, 0.0, False), info

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """Plays an action; the belief [F] after it, reward, terminated, truncated, info."""
        observation, reward, terminated, truncated, info = self.env.step(action)
        code = self.actions.encode(torch.as_tensor(np.asarray(action))[None])
        belief = self._believe(False, code, observation, float(reward), bool(terminated))
        return belief, reward, terminated, truncated, info

    @torch.no_grad()
    def _believe(
        self, first: bool, code: torch.Tensor, observation: Any, reward: float, terminated: bool
    ) -> np.ndarray:
        row = Row(
            torch.tensor([first]),
            code,
            nested.map(lambda leaf: leaf[None], as_tensors(observation, code.dtype)),
            torch.tensor([reward], dtype=code.dtype),
            torch.tensor([terminated]),
        )
        with self._noise():
            thought, self._mind = self.agent.step(row, cast(ModelState, self._mind))
        return thought[0].cpu().numpy().astype(np.float32)
