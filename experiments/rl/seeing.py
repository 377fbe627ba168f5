"""Eyes: a VAE that learns from recorded images, and the recordings as it sees them."""

from typing import Any, cast

import numpy as np
import torch
from gymnasium import spaces

from worldmodel import (
    ConvolutionalEncoder,
    Episodes,
    EpisodeSource,
    MemoryStore,
    WorldModel,
    encode_images,
    image_space,
    silence,
)
from worldmodel.codecs import by_path, explain_size, is_image
from worldmodel.codecs.convolutional import brightest
from worldmodel.experiments.images.config import VAELearningConfig, VAEModelConfig
from worldmodel.experiments.images.files import Batches, Images
from worldmodel.experiments.images.training import Learner, model_of
from worldmodel.experiments.rl.config import SeeingConfig
from worldmodel.experiments.runs.folder import RunError
from worldmodel.objectives import Metrics

SUPER_BATCH = 4_096  # images that memory holds while learning
AT_ONCE = 256  # images that are encoded together
JUDGED = 1_024  # images by which it is judged what a number of a code tells


def sees_codes(observation_space: spaces.Space, told: SeeingConfig) -> bool:
    """Whether the world is one of codes: the observation is one image, and not learned jointly."""
    is_one = isinstance(observation_space, spaces.Box) and is_image(observation_space)
    return told.vae == "frozen" and is_one


def eyes_for(space: spaces.Box, told: SeeingConfig) -> WorldModel:
    """A VAE that has learned nothing yet."""
    config = VAEModelConfig(
        latent=told.vae_latent,
        hidden=told.vae_hidden,
        width=told.vae_width,
        likelihood=told.vae_likelihood,
        std=told.vae_std,
    )
    model = model_of(space.shape, config).requires_grad_(False)
    if image_space(model) != space:
        raise RunError(
            f"a VAE reads {image_space(model)}, but the environment shows {space}: learn its "
            "images jointly, by --vae joint"
        )
    return model


def jointly(space: spaces.Space, told: SeeingConfig) -> dict[str, Any]:
    """What `model_for` is told of images that the world model learns itself, by key path. One that
    is the whole observation reaches the state through latents alone, and reward and end do not
    depend on it: so nobody reads the images that a dream could draw."""
    images: dict[str, Any] = {p: part for p, part in by_path(space).items() if is_image(part)}
    hidden, width = told.vae_hidden, told.vae_width
    encoders = {
        path: ConvolutionalEncoder(image.shape, hidden, brightest(image), width)
        for path, image in images.items()
    }
    heads = {path: (_head_of(image), {"width": width}) for path, image in images.items()}
    alone = {"feedback": False, "separate": True} if "" in images else {}
    return {"encoder": encoders, "head": heads, **alone}


def _head_of(image: spaces.Space) -> str:
    binary = isinstance(image, spaces.MultiBinary)
    return "image-bernoulli" if binary else "image-discretised-logistic"


def explain(space: spaces.Space, told: SeeingConfig, reveals: bool) -> str:
    """How images are taken in, in words; nothing where there are none.

    reveals: the policy acts on the features of dreams.
    """
    if sees_codes(space, told):
        return (
            f"{explain_size(cast(Any, space.shape))}; a VAE turns them into codes of "
            f"{told.vae_latent} numbers, which the world model predicts (--vae frozen)"
        )
    if reveals:
        return (
            "images are learned jointly with the world (--vae joint): the policy acts on the "
            "features that a dream draws images from (privileged), in reality on the filter's, so it "
            "may know more in dreams than it will"
        )
    if any(map(is_image, by_path(space).values())):
        return "images are learned jointly with the world, and drawn in dreams"
    return ""


def code_space(eyes: WorldModel) -> spaces.Box:
    """The space of codes."""
    return spaces.Box(-np.inf, np.inf, (eyes.core.feature_size,), np.float32)


def coded(recorded: EpisodeSource, eyes: WorldModel, since: int = 0) -> Episodes:
    """Episodes of images, from the one at the place `since` on, as episodes of codes.

    They are gone through some rows at a time, always the same ones of an episode together, so that
    codes are the same to the last bit whenever they are made.
    """
    parts = []
    for episode in range(since, len(recorded)):
        start, length = recorded.starts[episode], recorded.lengths[episode]
        for begin in range(0, length, AT_ONCE):
            rows = recorded.gather(start + np.arange(begin, min(length, begin + AT_ONCE)))
            codes = encode_images(eyes, torch.from_numpy(rows["observation"]))
            parts.append(rows | {"observation": codes.numpy()})
    columns = {key: np.concatenate([part[key] for part in parts]) for key in Episodes.KEYS}
    return Episodes(columns, recorded.lengths[since:].copy())


def seen(recorded: EpisodeSource, eyes: WorldModel) -> MemoryStore:
    """All that was recorded, as the eyes see it."""
    store = MemoryStore()
    store.add(coded(recorded, eyes))
    return store


class RecordedImages(Images):
    """The images of episodes."""

    name = "episodes"

    def __init__(self, recorded: EpisodeSource):
        self.recorded = recorded
        self.shape = recorded.gather(recorded.starts[:1])["observation"].shape[1:]

    def __len__(self) -> int:
        return self.recorded.rows

    def read_into(self, found: np.ndarray, rows: np.ndarray, indices: np.ndarray) -> None:
        found[rows] = self.recorded.gather(self.recorded.starts[0] + indices)["observation"]


class Sight:
    """Eyes that learn, from all that was recorded until now."""

    def __init__(self, eyes: WorldModel, recorded: EpisodeSource, told: SeeingConfig, seed: int):
        self.images = RecordedImages(recorded)
        self.batches = Batches([self.images], told.vae_batch, SUPER_BATCH, seed=seed)
        learning = VAELearningConfig(
            batch=told.vae_batch, learning_rate=told.vae_rate, beta=told.vae_beta
        )
        self.learner = Learner(eyes, learning, told.vae_updates)

    def update(self) -> Metrics:
        return self.learner.update(next(self.batches))

    def finish(self) -> int:
        """Fixes what was learned. How many numbers of a code tell something."""
        eyes = self.learner.finish()
        some = np.linspace(0, len(self.images) - 1, min(JUDGED, len(self.images))).astype(int)
        silent = silence(eyes, torch.from_numpy(self.images.read(some)))
        return int(eyes.core.feature_size) - silent

    def tensors(self) -> dict[str, Any]:
        return {
            "trainer": self.learner.trainer.state_dict(),
            "average": self.learner.average.state_dict(),
        }

    def load(self, tensors: dict[str, Any], values: dict[str, Any]) -> None:
        self.learner.trainer.load_state_dict(tensors["trainer"])
        self.learner.average.load_state_dict(tensors["average"])
        self.batches.load_state_dict(values)
