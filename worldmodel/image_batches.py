"""Batches of images, out of super-batches that are drawn across data sets."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from worldmodel import timing

Binarisation = Literal["dynamic", "threshold"]


class Images(ABC):
    """Images of one shape [H, W, C] that lie on disk, uint8."""

    name: str
    shape: tuple[int, ...]

    @abstractmethod
    def __len__(self) -> int:
        """The number of images."""

    @abstractmethod
    def read_into(self, found: np.ndarray, rows: np.ndarray, indices: np.ndarray) -> None:
        """Puts the images int64 [n] into the rows int64 [n] of `found`, uint8 [N, H, W, C],
        whose numbers lie one behind the other."""

    def read(self, indices: np.ndarray) -> np.ndarray:
        """The images int64 [n] -> uint8 [n, H, W, C]."""
        found = np.empty((len(indices), *self.shape), np.uint8)
        self.read_into(found, np.arange(len(indices)), indices)
        return found

    def each(self, indices: np.ndarray) -> Iterator[np.ndarray]:
        """The images int64 [n], one by one, each uint8 [H, W, C], of a shape of its own."""
        yield from self.read(indices)


class HeldImages(Images):
    """Images that memory holds: an array uint8 [N, H, W, C]."""

    name = "memory"

    def __init__(self, images: np.ndarray):
        self.images = images
        self.shape = images.shape[1:]

    def __len__(self) -> int:
        return len(self.images)

    def read_into(self, found: np.ndarray, rows: np.ndarray, indices: np.ndarray) -> None:
        found[rows] = self.images[indices]


def common_shape(datasets: Sequence[Images]) -> tuple[int, ...]:
    """The shape [H, W, C] that all have."""
    for images in datasets:
        if images.shape != datasets[0].shape:
            raise ValueError(
                f"{images.name} has images of {list(images.shape)}, but {datasets[0].name} of "
                f"{list(datasets[0].shape)}; give them one shape by --size and --grayscale"
            )
    return datasets[0].shape


def get_random_samples(
    datasets: Sequence[Images],
    sample_size: int,
    weights: Sequence[float] | None = None,
    random: np.random.Generator | None = None,
) -> np.ndarray:
    """Images drawn across files, uint8 [sample_size, H, W, C], in random order.

    weights: how likely an image of each file is, relative to those of others; None: all alike.
    No image comes twice before every image of its file has come once.
    """
    random = random or np.random.default_rng()
    chosen = np.ones(len(datasets)) if weights is None else np.asarray(weights, float)
    if chosen.shape != (len(datasets),) or (chosen < 0).any() or not chosen.any():
        raise ValueError(
            f"get_random_samples expects one weight for each of {len(datasets)} files, none "
            f"negative, not all zero; got {weights}"
        )
    share = chosen * [len(images) for images in datasets]
    counts = random.multinomial(sample_size, share / share.sum())
    order = random.permutation(sample_size)
    found = np.empty((sample_size, *common_shape(datasets)), np.uint8)
    begin = 0
    for images, count in zip(datasets, counts.tolist(), strict=True):
        whole, rest = divmod(count, len(images))
        indices = [np.tile(np.arange(len(images)), whole)]
        indices += [random.choice(len(images), rest, replace=False, shuffle=False)]
        images.read_into(found, order[begin : begin + count], np.concatenate(indices))
        begin += count
    return found


class Batches:
    """Batches out of super-batches that are drawn across files; without end.

    A super-batch is gone through once, in random order. Bernoulli values come from `binarise`.
    """

    def __init__(
        self,
        datasets: Sequence[Images],
        batch: int,
        super_batch: int,
        weights: Mapping[str, float] | None = None,
        seed: int = 0,
        truth: Binarisation | None = None,
    ):
        """weights: by the name of a file, or its ending; 1 for others."""
        self.datasets = list(datasets)
        self.shape = common_shape(datasets)
        self.batch = batch
        self.super_batch = max(batch, min(super_batch, sum(map(len, datasets))))
        self.weights = _weights(datasets, weights or {})
        self.truth = truth
        self.random = np.random.default_rng(seed)
        self._draw()

    def _draw(self) -> None:
        self._before = self.random.bit_generator.state
        self._at = 0
        self._images = np.empty(0)  # the one before need not be held beside the next
        self._images = get_random_samples(
            self.datasets, self.super_batch, self.weights, self.random
        )

    def __iter__(self) -> Iterator[Tensor]:
        return self

    @timing.spent(timing.READING)
    def __next__(self) -> Tensor:
        """Images [B, H, W, C], uint8, or bool where they are binarised."""
        if self._at + self.batch > self.super_batch:
            self._draw()
        images = self._images[self._at : self._at + self.batch]
        self._at += self.batch
        if self.truth is not None:
            images = binarise(images, self.truth, self.random)
        return torch.from_numpy(images)

    def state_dict(self) -> dict[str, Any]:
        """Plain values, from which `load_state_dict` goes on."""
        return {"before": self._before, "at": self._at, "now": self.random.bit_generator.state}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.random.bit_generator.state = state["before"]
        self._draw()
        self._at = state["at"]
        self.random.bit_generator.state = state["now"]


def binarise(images: np.ndarray, how: Binarisation, random: np.random.Generator) -> np.ndarray:
    """Images uint8 as truth values, bool: true where they are brighter than 127 (threshold), or
    with a probability that is the brightness (dynamic: drawn anew each time, as by Burda et al.
    2016, https://arxiv.org/abs/1509.00519)."""
    if how == "threshold":
        return images > 127
    return random.random(images.shape, np.float32) * 255 < images


def _weights(datasets: Sequence[Images], config: Mapping[str, float]) -> list[float]:
    """A weight for each file."""
    weights = [1.0] * len(datasets)
    for name, weight in config.items():
        meant = [i for i, images in enumerate(datasets) if Path(images.name).match(name)]
        if len(meant) != 1:
            raise ValueError(
                f"--weights {name} is the name of {len(meant)} of "
                f"{', '.join(images.name for images in datasets)}; name one of them"
            )
        weights[meant[0]] = weight
    return weights
