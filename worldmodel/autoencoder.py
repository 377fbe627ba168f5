"""A variational autoencoder of images: a world model of recordings of one row each."""

import math
from collections.abc import Sequence
from typing import Any, cast

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor, nn

from worldmodel.codecs import (
    ConvolutionalEncoder,
    ImageHead,
    Likelihood,
    ObservationDecoder,
    PerceptEncoder,
)
from worldmodel.cores import VAE
from worldmodel.cores.base import MINIMUM_STD
from worldmodel.model import WorldModel
from worldmodel.percepts import Percepts
from worldmodel.sequences import Row, Sequences

WHITE = 255


def autoencoder_for(
    shape: Sequence[int],
    likelihood: Likelihood = "discretised-logistic",
    latent: int = 50,
    hidden: int = 256,
    width: int = 32,
    first_activation: bool = True,
    **head_options: Any,
) -> WorldModel:
    """A VAE of images of `shape` [H, W, C]: truth values with the likelihood "bernoulli", uint8
    with others.

    latent: numbers of a code; hidden: units between convolutions and code, both ways; width:
    channels at the highest resolution; head_options: more of `ImageHead`.
    """
    high = 1 if likelihood == "bernoulli" else WHITE
    observation = ConvolutionalEncoder(shape, hidden, high, width, first_activation)
    encoder = PerceptEncoder(observation, rewards=False)
    core = VAE(0, encoder.size, hidden, latent)
    head = ImageHead(hidden, shape, likelihood, high, width, **head_options)
    decoder = ObservationDecoder(core.feature_size, hidden, head)
    return WorldModel(Percepts(encoder, decoder), core, action_size=0, feedback=False)


def image_space(model: WorldModel) -> spaces.Box | spaces.MultiBinary:
    """The space of the images that a VAE of `autoencoder_for` reads."""
    head = _head(model)
    if head.likelihood == "bernoulli":
        return spaces.MultiBinary(head.shape)
    return spaces.Box(0, head.high, head.shape, np.uint8)


def as_recordings(images: Tensor) -> Sequences:
    """Images [B, H, W, C] as sequences [1, B, ...] without actions."""
    nothing = torch.zeros(1, len(images), device=images.device)
    first = torch.ones_like(nothing, dtype=torch.bool)
    return Sequences.whole(Row(first, nothing[..., None][..., :0], images[None], nothing, ~first))


@torch.no_grad()
def encode_images(model: WorldModel, images: Tensor) -> Tensor:
    """The codes of images [B, H, W, C]: the posteriors' means, float [B, Z]. Draws nothing."""
    return _prepared(model, images).mean[0]


@torch.no_grad()
def decode_images(model: WorldModel, codes: Tensor) -> Tensor:
    """Codes [*, Z] -> images to display, the likelihood's means: uint8 [*, H, W, C]."""
    means = model.percepts.predict(codes.to(model.device)).observation.mean
    return (means * (WHITE / _head(model).high)).round().clamp(0, WHITE).to(torch.uint8)


@torch.no_grad()
def prune_inactive(model: WorldModel, images: Tensor, nats: float = 0.1) -> int:
    """Prunes inactive latents: those whose mean KL divergence over images [B, H, W, C] is below
    `nats` get the prior as their posterior, mean 0, so that a model of codes need not model them.

    Returns how many there are. Further training may reactivate them.
    """
    prepared = _prepared(model, images)
    mean, std = prepared.mean[0], prepared.std[0]
    config = (0.5 * (mean.square() + std.square() - 1) - std.log()).mean(0)  # [Z], KL divergences
    silent = (config < nats).nonzero().flatten()
    assert isinstance(model.core, VAE)
    last = cast(nn.Linear, model.core.posterior[-1])
    for rows in (silent, silent + len(config)):
        last.weight[rows] = 0.0
        last.bias[rows] = 0.0
    last.bias[silent + len(config)] = math.log(math.expm1(1 - MINIMUM_STD))  # a std of 1
    return len(silent)


def _prepared(model: WorldModel, images: Tensor) -> Any:
    """The posteriors' parameters, leaves [1, B, Z]."""
    contexts, evidence, mask, _, core = model.read(as_recordings(images))
    return model.core.prepare(contexts, evidence, mask, core)


def _head(model: WorldModel) -> ImageHead:
    head = model.percepts.decoder.observation
    assert isinstance(head, ImageHead)
    return head
