"""Laws of images: scaled once, padded where nothing is scored, read and painted pixel by pixel."""

import itertools
import math

import numpy as np
import pytest
import torch
from gymnasium import spaces
from torch import distributions as td, nn
from torch.nn import functional as F

from worldmodel import decoder_for, encoder_for
from worldmodel.codecs import (
    LIKELIHOODS,
    ConvolutionalEncoder,
    ImageHead,
    explain_size,
    is_image,
)
from worldmodel.codecs.convolutional import _Last

SHAPES = [(8, 9, 1), (16, 16, 3), (28, 28, 1), (33, 20, 2), (64, 64, 3)]
every_shape = pytest.mark.parametrize("shape", SHAPES)


def images(shape, *leading):
    torch.manual_seed(0)
    return torch.randint(256, (*leading, *shape), dtype=torch.uint8)


def encoder(shape, **options):
    torch.manual_seed(0)
    return ConvolutionalEncoder(shape, size=6, width=2, **options).double()


def head(shape, likelihood, **options):
    torch.manual_seed(0)
    return ImageHead(5, shape, likelihood, width=2, **options).double()


def features(*leading):
    torch.manual_seed(1)
    return torch.randn(*leading, 5).double()


@every_shape
@pytest.mark.parametrize("leading", [(), (0,), (3,), (2, 1, 3)])
def test_any_leading_dimensions(shape, leading):
    encode = encoder(shape)
    x = images(shape, *leading)
    assert encode(x).shape == (*leading, 6)
    for likelihood in LIKELIHOODS:
        distribution = head(shape, likelihood)(features(*leading))
        assert distribution.batch_shape == leading
        assert distribution.event_shape == shape
        assert distribution.sample().shape == (*leading, *shape)
    one_by_one = [encode(image) for image in x.reshape(-1, *shape)]
    if one_by_one:
        torch.testing.assert_close(encode(x).reshape(-1, 6), torch.stack(one_by_one))


@pytest.mark.parametrize("n", [16, 32, 64, 128, 256])
def test_every_power_of_two_ends_at_the_same_few_pixels(n):
    shape = (n - 5, n, 1)
    encode, paint = encoder(shape), head(shape, "mse")
    assert encode(images(shape, 1)).shape == (1, 6)
    assert encode.out.in_features == paint.begin.out_features == 16 * 2 * min(4, n // 8)
    assert paint(features(1)).sample().shape == (1, *shape)


@every_shape
def test_brightness_is_scaled_once(shape):
    x = images(shape, 2)
    expected = encoder(shape, high=1.0)(x.double() / 255)
    torch.testing.assert_close(encoder(shape)(x), expected)
    dark = x > 99
    torch.testing.assert_close(encoder(shape, high=1.0)(dark), encoder(shape)(dark * 255))


@every_shape
def test_every_pixel_is_read_and_every_pixel_is_painted(shape):
    x = images(shape).double().requires_grad_()
    encoding = encoder(shape, first_activation=True)(x)
    (gradient,) = torch.autograd.grad(encoding.square().sum(), x)
    assert (gradient != 0).all()
    means = [head(shape, "mse")(features(40)).mean for _ in range(2)]
    assert (means[0].std(0) > 0).all()
    assert torch.equal(*means)


@every_shape
@pytest.mark.parametrize("likelihood", LIKELIHOODS)
def test_only_real_pixels_are_scored(shape, likelihood):
    """As many terms as an image has numbers: they are those of torch's own distributions."""
    distribution = head(shape, likelihood)(features(2))
    x = images(shape, 2)
    if likelihood == "bernoulli":
        x = x > 127
        terms = td.Bernoulli(distribution.mean).log_prob(x.double())
    elif likelihood == "mse":
        terms = td.Normal(distribution.mean, 25.5).log_prob(x.double())
    else:
        inner = distribution.base_dist
        cell = td.TransformedDistribution(
            td.Uniform(torch.zeros(()).double(), 1.0),
            [
                td.SigmoidTransform().inv,
                td.AffineTransform(inner.component_mean[..., 0], inner.scale[..., 0]),
            ],
        )
        above = torch.where(x < 255, cell.cdf(x + 0.5), 1.0)
        terms = (above - torch.where(x > 0, cell.cdf(x - 0.5), 0.0)).log()
    assert terms.shape == x.shape
    torch.testing.assert_close(distribution.log_prob(x), terms.sum((-1, -2, -3)))


def test_a_squared_error_is_a_density_with_its_constant():
    shape = (9, 10, 3)
    distribution = head(shape, "mse", std=0.2, high=10)(features())
    expected = -math.prod(shape) * math.log(2.0 * math.sqrt(2 * math.pi))
    assert distribution.log_prob(distribution.mean).item() == pytest.approx(expected)


def test_the_last_layer_is_a_transposed_convolution():
    torch.manual_seed(0)
    last = _Last(3, 2).double()
    nn.init.zeros_(last.squares.bias)
    squares = last.squares.weight.unflatten(0, (2, 2, 2))  # [after, a, b, before, i, j]
    weight = torch.zeros(3, 2, 4, 4).double()
    for a, b, i, j in itertools.product(range(2), repeat=4):
        weight[:, :, a + 2 - 2 * i, b + 2 - 2 * j] = squares[:, a, b, :, i, j].T
    x = torch.randn(2, 3, 5, 5).double()
    torch.testing.assert_close(last(x), F.conv_transpose2d(x, weight, stride=2, padding=1))


def test_the_first_nonlinearity_is_optional():
    kinds = [
        [type(layer) for layer in encoder((16, 16, 1), first_activation=f).layers] for f in (0, 1)
    ]
    assert kinds == [
        [nn.Conv2d, nn.Conv2d, nn.SiLU],
        [nn.Conv2d, nn.SiLU, nn.Conv2d, nn.SiLU],
    ]


@pytest.mark.parametrize(
    ("shape", "words"),
    [
        ((64, 64, 3), "64 x 64 images are taken as they are"),
        ((28, 28, 1), "28 x 28 images are padded with black to 32 x 32"),
        ((210, 160, 3), "210 x 160 images are padded with black to 256 x 256"),
        ((8, 8, 1), "8 x 8 images are padded with black to 16 x 16"),
    ],
)
def test_what_happens_to_a_size_is_said(shape, words):
    assert words in explain_size(shape)


@pytest.mark.parametrize("shape", [(257, 8, 1), (8, 300, 3)])
def test_images_that_are_too_large_get_a_sentence(shape):
    for make in (ConvolutionalEncoder, explain_size, lambda s: ImageHead(3, s)):
        with pytest.raises(ValueError, match=f"at most, got {shape[0]} x {shape[1]}; resize them"):
            make(shape)
    with pytest.raises(ValueError, match=r"images are \[H, W, C\]"):
        explain_size((8, 8))
    with pytest.raises(ValueError, match="there is no likelihood 'huber'"):
        ImageHead(3, (8, 8, 1), "huber")


@pytest.mark.parametrize(
    ("space", "image"),
    [
        (spaces.Box(0, 255, (8, 12, 3), np.uint8), True),
        (spaces.Box(0, 9, (8, 12, 1), np.uint8), True),
        (spaces.MultiBinary((28, 28, 1)), True),
        (spaces.Box(0, 1, (10, 10, 4), bool), True),
        (spaces.Box(0, 255, (7, 12, 3), np.uint8), False),
        (spaces.Box(0, 255, (8, 12), np.uint8), False),
        (spaces.Box(1, 255, (8, 12, 3), np.uint8), False),
        (spaces.Box(0, 255, (8, 12, 3), np.float32), False),
        (spaces.MultiBinary((28, 28)), False),
        (spaces.Box(0, 1, (10, 10), bool), False),
    ],
)
def test_images_are_told_from_other_arrays(space, image):
    assert is_image(space) == image
    assert isinstance(encoder_for(space), ConvolutionalEncoder) == image
    decoder = decoder_for(space, 4)
    assert isinstance(decoder, ImageHead) == image
    if image:
        space.seed(0)
        value = torch.from_numpy(np.stack([space.sample() for _ in range(2)]))
        assert encoder_for(space)(value).shape == (2, 256)
        drawn = decoder(torch.randn(2, 4)).sample()
        assert drawn.shape == value.shape
        assert space.contains(drawn[0].numpy().astype(space.dtype))
        assert decoder(torch.randn(2, 4)).log_prob(value).isfinite().all()
