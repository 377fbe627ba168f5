"""Frozen image encoders: images become the codes of a VAE, and are decoded for display."""

from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from gymnasium.vector import VectorEnv, VectorObservationWrapper
from gymnasium.vector.utils import batch_space

from worldmodel import Row, WorldModel, decode_images, encode_images, image_space
from worldmodel.envs.showing import as_picture


class ImageToCode(VectorObservationWrapper):
    """Observations, images [B, H, W, C], become the posterior means of a VAE, float32 [B, Z],
    all in one go. A world model then models codes, and `pixels` decodes them.
    """

    def __init__(self, env: VectorEnv, model: WorldModel):
        """model: of `autoencoder_for`, or of a run of `worldmodel train vae`."""
        super().__init__(env)
        expected, found = image_space(model), env.single_observation_space
        if found != expected:
            raise ValueError(
                f"the VAE reads {expected}, but the environment shows {found}; resize its images, "
                "or train a VAE on its own"
            )
        self.model = model
        self.images = np.zeros((env.num_envs, *expected.shape), np.uint8)  # the latest ones
        size = (model.core.feature_size,)
        self.single_observation_space = spaces.Box(-np.inf, np.inf, size, np.float32)
        self.observation_space = batch_space(self.single_observation_space, env.num_envs)

    def observations(self, observations: np.ndarray) -> np.ndarray:
        """Images [B, H, W, C] -> codes, float32 [B, Z]; draws nothing."""
        self.images = observations
        images = torch.from_numpy(np.ascontiguousarray(observations))
        return encode_images(self.model, images).cpu().numpy()

    @property
    def render_mode(self) -> str:
        """The render mode: images decoded from the latest codes."""
        return "rgb_array"

    def render(self) -> tuple[np.ndarray, ...]:
        """Decodes the latest codes, uint8 [H, W, 3] each."""
        return tuple(as_picture(image) for image in self.images)

    def pixels(self, codes: np.ndarray) -> np.ndarray:
        """Codes [*, Z] -> images to display, the likelihood's means, uint8 [*, H, W, C]."""
        return decode_images(self.model, torch.as_tensor(codes)).cpu().numpy()


class CodeView:
    """Draws games whose observations are codes: the likelihood's means of the latest one.
    A `View` of dreams; nothing else decodes a pixel of them."""

    modes: tuple[str, ...] = ("rgb_array",)

    def __init__(self, model: WorldModel):
        """model: of `autoencoder_for`."""
        self.model = model

    def initial_state(self, batch_size: int) -> Any:
        """The state is the last row's codes, [B, Z]; at first there are none."""
        return torch.zeros(batch_size, self.model.core.feature_size)

    def step(self, row: Row, state: Any) -> Any:
        """The codes after a row [B, ...]."""
        return row.observation

    def draw(self, state: Any, mode: str) -> list[np.ndarray]:
        """An image of every game, uint8 [H, W, 3]."""
        if mode not in self.modes:
            raise ValueError(f"images are drawn as 'rgb_array', not as {mode!r}")
        return [as_picture(image) for image in decode_images(self.model, state).cpu().numpy()]
