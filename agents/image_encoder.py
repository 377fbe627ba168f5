"""Image encoders: a VAE that learns from recorded images, and episodes as it encodes them."""

from typing import Any, cast

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor

from worldmodel import (
    ELBO,
    Agent,
    AgentWrapper,
    ConvolutionalEncoder,
    Episodes,
    EpisodeSource,
    Learner,
    MemoryStore,
    ModelState,
    Row,
    WorldModel,
    as_recordings,
    autoencoder_for,
    constant,
    cosine,
    encode_images,
    image_space,
    prune_inactive,
)
from worldmodel.agent import Reads
from worldmodel.agents.config import ImageConfig
from worldmodel.codecs import by_path, explain_size, is_binary, is_image
from worldmodel.codecs.convolutional import brightest
from worldmodel.image_batches import Batches, Images
from worldmodel.objectives import Metrics

SUPER_BATCH = 4_096  # images that memory holds while learning
AT_ONCE = 256  # images that are encoded together
JUDGED = 1_024  # images by which it is judged which numbers of a code are inactive
LAST_RATE = 1 / 50  # of the learning rate, relative to the first
EMA_DECAY = 0.998


class EncodedAgent(AgentWrapper):
    """An agent of image codes that acts on images: encodes `row.observation` first."""

    def __init__(self, agent: Agent, image_encoder: WorldModel):
        """image_encoder: a VAE, of `autoencoder_for`."""
        super().__init__(agent)
        self.image_encoder = image_encoder

    def step(self, row: Row, state: Any, shared: ModelState | None = None) -> tuple[Tensor, Any]:
        return self.agent.step(self._encoded(row), state, shared)

    def expected_reward(self, row: Row, state: Any) -> Tensor:
        return self.agent.expected_reward(self._encoded(row), state)

    def _encoded(self, row: Row) -> Row:
        return row._replace(observation=encode_images(self.image_encoder, row.observation))


def is_encoded(observation_space: spaces.Space, config: ImageConfig) -> bool:
    """True if the world model reads codes: the observation is one image, not learned jointly."""
    is_one = is_image(observation_space) and not is_binary(observation_space)
    return config.vae == "frozen" and is_one


def image_encoder_for(space: spaces.Box, config: ImageConfig) -> WorldModel:
    """An untrained VAE for images of `space`."""
    model = autoencoder_for(
        space.shape,
        config.vae_likelihood,
        config.vae_latent,
        config.vae_hidden,
        config.vae_width,
        std=config.vae_std,
    ).requires_grad_(False)
    if image_space(model) != space:
        raise ValueError(
            f"a VAE reads {image_space(model)}, but the environment shows {space}: learn its "
            "images jointly, by --vae joint"
        )
    return model


def joint_options(space: spaces.Space, config: ImageConfig) -> dict[str, Any]:
    """The options of `model_for` for images that the world model learns itself, by key path.

    An image that is the whole observation reaches the state through latents alone, and reward and
    end do not depend on it: so the images that a dream could draw are never read.
    """
    images: dict[str, Any] = {p: part for p, part in by_path(space).items() if is_image(part)}
    hidden, width = config.vae_hidden, config.vae_width
    encoders = {
        path: ConvolutionalEncoder(image.shape, hidden, brightest(image), width)
        for path, image in images.items()
    }
    heads = {path: (_head_of(image), {"width": width}) for path, image in images.items()}
    alone = {"feedback": False, "separate": True} if "" in images else {}
    return {"encoder": encoders, "head": heads, **alone}


def _head_of(image: spaces.Space) -> str:
    return "image-bernoulli" if is_binary(image) else "image-discretised-logistic"


def explain(space: spaces.Space, config: ImageConfig, reads: Reads) -> str:
    """A sentence on the encoding of images; empty where there are none.

    reads: the part of the model's state that the policy acts on.
    """
    if is_encoded(space, config):
        return (
            f"{explain_size(cast(Any, space.shape))}; a VAE turns them into codes of "
            f"{config.vae_latent} numbers, which the world model predicts (--vae frozen)"
        )
    if reads == "features" and is_image(space):
        return (
            "images are learned jointly with the world (--vae joint): the policy acts on the "
            "features that a dream draws images from, in reality on the filter's, so it may know "
            "more in dreams than it will"
        )
    if any(map(is_image, by_path(space).values())):
        return "images are learned jointly with the world, and drawn in dreams"
    return ""


def code_space(image_encoder: WorldModel) -> spaces.Box:
    """The space of codes."""
    return spaces.Box(-np.inf, np.inf, (image_encoder.core.feature_size,), np.float32)


def encoded(recorded: EpisodeSource, image_encoder: WorldModel, since: int = 0) -> Episodes:
    """Episodes of images, from the one at the place `since` on, as episodes of codes.

    They are gone through some rows at a time, always the same ones of an episode together, so that
    codes are the same to the last bit whenever they are made.
    """
    parts = []
    for episode in range(since, len(recorded)):
        start, length = recorded.starts[episode], recorded.lengths[episode]
        for begin in range(0, length, AT_ONCE):
            rows = recorded.gather(start + np.arange(begin, min(length, begin + AT_ONCE)))
            codes = encode_images(image_encoder, torch.from_numpy(rows["observation"]))
            parts.append(rows | {"observation": codes.cpu().numpy()})
    columns = {key: np.concatenate([part[key] for part in parts]) for key in Episodes.KEYS}
    return Episodes(columns, recorded.lengths[since:].copy())


def encoded_store(recorded: EpisodeSource, image_encoder: WorldModel) -> MemoryStore:
    """The store of all recorded episodes, as codes."""
    store = MemoryStore()
    if len(recorded):
        store.add(encoded(recorded, image_encoder))
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


class ImageEncoderTraining:
    """The training of an image encoder on all images recorded so far."""

    def __init__(
        self, image_encoder: WorldModel, recorded: EpisodeSource, config: ImageConfig, seed: int
    ):
        self.images = RecordedImages(recorded)
        self.batches = Batches([self.images], config.vae_batch_size, SUPER_BATCH, seed=seed)
        rate = config.vae_learning_rate
        self.learner = Learner(
            image_encoder.requires_grad_(True),
            ELBO(image_encoder, constant(config.vae_kl_weight)),
            cosine(rate, LAST_RATE * rate, config.vae_updates),
            clip_norm=float(np.prod(self.images.shape)),  # ten times an ordinary update's
            ema_decay=EMA_DECAY,
        )

    def update(self) -> Metrics:
        """Makes one update; the metrics are nats an image."""
        return self.learner.update([as_recordings(next(self.batches))])

    def finish(self) -> int:
        """Freezes the average of the weights. Returns how many numbers of a code are active."""
        model = self.learner.keep_average().requires_grad_(False)
        some = np.linspace(0, len(self.images) - 1, min(JUDGED, len(self.images))).astype(int)
        inactive = prune_inactive(model, torch.from_numpy(self.images.read(some)))
        return int(model.core.feature_size) - inactive

    def tensors(self) -> dict[str, Any]:
        average = cast(Any, self.learner.average)
        return {"learner": self.learner.state_dict(), "average": average.state_dict()}

    def load(self, tensors: dict[str, Any], values: dict[str, Any]) -> None:
        self.learner.load_state_dict(tensors["learner"])
        cast(Any, self.learner.average).load_state_dict(tensors["average"])
        self.batches.load_state_dict(values)
