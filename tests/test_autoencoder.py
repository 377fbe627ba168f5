"""Laws of VAEs of images: recordings of one row, codes and back."""

import gymnasium
import numpy as np
import pytest
import torch
from cores import fed
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from torch import distributions as td

from worldmodel import (
    ELBO,
    IWAE,
    Trainer,
    as_recordings,
    autoencoder_for,
    decode_images,
    encode_images,
    image_space,
    log_prob,
    lower_bound,
)
from worldmodel.codecs import LIKELIHOODS
from worldmodel.envs import ImageToCode

SHAPE = (8, 9, 2)
every_likelihood = pytest.mark.parametrize("likelihood", LIKELIHOODS)


def model_of(likelihood, latent=3):
    torch.manual_seed(0)
    return autoencoder_for(SHAPE, likelihood, latent, hidden=8, width=2).double().eval()


def images_for(likelihood, number=4, shape=SHAPE):
    torch.manual_seed(1)
    images = torch.randint(256, (number, *shape), dtype=torch.uint8)
    return images > 127 if likelihood == "bernoulli" else images


@every_likelihood
def test_bounds_are_those_of_the_textbook(likelihood):
    """log p(x | z) + log p(z) - log q(z | x), written out."""
    model, images = model_of(likelihood), images_for(likelihood)
    noise = torch.randn(1, 5 * 4, 3).double()
    with fed(noise):
        found = log_prob(model, as_recordings(images), 5)
    with torch.no_grad():
        raw = model.core.posterior(model.percepts.encoder.observation(images))
        mean, std = raw[:, :3], torch.nn.functional.softplus(raw[:, 3:]) + 1e-3
        z = mean + std * noise[0].unflatten(0, (5, 4))
        weight = model.percepts.predict(z).observation.log_prob(images)
        weight += td.Normal(0.0, 1.0).log_prob(z).sum(-1) - td.Normal(mean, std).log_prob(z).sum(
            -1
        )
    expected = weight.logsumexp(0) - np.log(5)
    torch.testing.assert_close(found["observation"][0], expected)


@every_likelihood
@pytest.mark.parametrize("bound", [ELBO, IWAE])
def test_an_image_is_learned(likelihood, bound):
    model, images = model_of(likelihood), images_for(likelihood, 2)
    trainer = Trainer(bound(model, particles=2), model.parameters(), 0.02)
    before = sum(lower_bound(model, as_recordings(images), 20).values()).mean()
    for _ in range(60):
        trainer.update([as_recordings(images)])
    after = sum(lower_bound(model, as_recordings(images), 20).values()).mean()
    assert after > before + 10


@every_likelihood
def test_codes_are_posterior_means_and_draw_nothing(likelihood):
    model, images = model_of(likelihood), images_for(likelihood)
    state = torch.get_rng_state()
    codes = encode_images(model, images)
    assert torch.equal(torch.get_rng_state(), state)
    inference, _ = model.infer(as_recordings(images))
    assert torch.equal(codes, inference.posterior.mean[0])
    pixels = decode_images(model, codes)
    assert pixels.shape == images.shape
    assert pixels.dtype == torch.uint8


def test_a_learned_image_can_be_looked_at():
    """What the decoder shows of a code comes near the image that the code is of."""
    torch.manual_seed(0)
    model = autoencoder_for((8, 8, 1), "mse", 2, hidden=16, width=4, std=0.05)
    images = torch.zeros(2, 8, 8, 1, dtype=torch.uint8)
    images[0, :4] = 255
    images[1, :, 4:] = 200
    trainer = Trainer(ELBO(model), model.parameters(), 0.01)
    for _ in range(150):
        trainer.update([as_recordings(images)])
    shown = decode_images(model, encode_images(model, images))
    assert (shown.double() - images).abs().mean() < 20
    assert (shown.double() - images.flip(0)).abs().mean() > 60


class Noise(gymnasium.Env):
    """Images drawn at random; an end after two steps."""

    observation_space = spaces.Box(0, 255, SHAPE, np.uint8)
    action_space = spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.steps = 0
        return self._draw(), {}

    def step(self, action):
        self.steps += 1
        return self._draw(), 0.0, self.steps == 2, False, {}

    def _draw(self):
        return self.np_random.integers(256, size=SHAPE, dtype=np.uint8)


def test_a_vector_environment_shows_codes():
    model = model_of("mse").float()
    plain, coded = (
        SyncVectorEnv([Noise] * 3, autoreset_mode=AutoresetMode.NEXT_STEP) for _ in range(2)
    )
    coded = ImageToCode(coded, model)
    images, codes = plain.reset(seed=1)[0], coded.reset(seed=1)[0]
    for _ in range(4):
        assert codes.dtype == np.float32
        assert codes.shape == (3, 3)
        assert coded.observation_space.contains(codes)
        expected = encode_images(model, torch.from_numpy(images))
        assert np.array_equal(codes, expected.numpy())
        images, codes = plain.step(np.zeros(3, int))[0], coded.step(np.zeros(3, int))[0]
    pixels = coded.pixels(codes)
    assert pixels.shape == images.shape
    assert plain.single_observation_space.contains(pixels[0])


def test_images_of_another_size_are_refused():
    model = autoencoder_for((16, 16, 3), "mse", 3, hidden=8, width=2)
    vector = SyncVectorEnv([Noise], autoreset_mode=AutoresetMode.NEXT_STEP)
    with pytest.raises(ValueError, match=r"the VAE reads .*16, 16, 3.* shows .*8, 9, 2"):
        ImageToCode(vector, model)
    assert image_space(model_of("bernoulli")) == spaces.MultiBinary(SHAPE)
