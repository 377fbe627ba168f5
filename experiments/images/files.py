"""Images on disk, more than memory holds: opened lazily, drawn at random, file by file.

Nothing is read but what is drawn. Arrays are not mapped into memory, whose pages would count as
resident: rows are read where they lie. What is compressed is unpacked first, piece by piece, into
a temporary file.
"""

import os
import shutil
import tempfile
import zipfile
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple, cast

import numpy as np
import torch
from numpy.lib import format as npy
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from worldmodel.experiments.images.config import ImagesConfig
from worldmodel.run_folder import RunError

ARRAYS = (".npy", ".npz")
PICTURES = (".png", ".jpg", ".jpeg")
PIECE = 2**20  # bytes of a compressed file that are unpacked at once
Binarisation = Literal["dynamic", "threshold"]
LOCAL_HEADER = 30  # bytes of a zip member's header before its name


class Images(ABC):
    """Images of one shape [H, W, C] that lie on disk, uint8."""

    name: str
    shape: tuple[int, ...]

    @abstractmethod
    def __len__(self) -> int:
        """How many."""

    @abstractmethod
    def read_into(self, found: np.ndarray, rows: np.ndarray, indices: np.ndarray) -> None:
        """Puts the images int64 [n] into the rows int64 [n] of `found`, uint8 [N, H, W, C],
        whose numbers lie one behind the other."""

    def read(self, indices: np.ndarray) -> np.ndarray:
        """The images int64 [n] -> uint8 [n, H, W, C]."""
        found = np.empty((len(indices), *self.shape), np.uint8)
        self.read_into(found, np.arange(len(indices)), indices)
        return found


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


class ArrayImages(Images):
    """An array [N, H, W] or [N, H, W, C], uint8 or bool, that lies in a file as it is.

    Truth values become 0 and 255.
    """

    def __init__(self, name: str, file: Any, offset: int):
        """file: open for reading bytes; offset: where in it the .npy begins."""
        self.name = name
        self._file = file
        file.seek(offset)
        header = read_header(name, file)
        self._begin = file.tell()
        self._truth = header.dtype == bool
        self._length = header.shape[0]
        self.shape = (*header.shape[1:], 1)[:3]

    def __len__(self) -> int:
        return self._length

    def read_into(self, found: np.ndarray, rows: np.ndarray, indices: np.ndarray) -> None:
        order = np.argsort(indices)  # as they lie on the disk
        size = int(np.prod(self.shape))
        descriptor, numbers = self._file.fileno(), memoryview(cast(Any, found.reshape(-1)))
        for row, index in zip(rows[order].tolist(), indices[order].tolist(), strict=True):
            into = numbers[row * size : (row + 1) * size]
            if os.preadv(descriptor, [into], self._begin + index * size) != size:
                raise RunError(f"{self.name} ends before its image {index}: it is damaged")
        if self._truth:
            found[rows] *= np.uint8(255)


class Pictures(Images):
    """Files of one picture each, that are opened when they are drawn."""

    def __init__(self, folder: Path, files: Sequence[Path]):
        self.name = str(folder)
        self.files = list(files)
        self.shape = self._open(self.files[0]).shape

    def __len__(self) -> int:
        return len(self.files)

    def read_into(self, found: np.ndarray, rows: np.ndarray, indices: np.ndarray) -> None:
        for row, index in zip(rows, indices, strict=True):
            picture = self._open(self.files[index])
            if picture.shape != self.shape:
                raise RunError(
                    f"{self.files[index]} has the shape {list(picture.shape)}, but "
                    f"{self.files[0]} {list(self.shape)}; give them one size by --size"
                )
            found[row] = picture

    def _open(self, path: Path) -> np.ndarray:
        try:
            with Image.open(path) as picture:
                mode = "L" if picture.mode in ("1", "L") else "RGB"
                return np.asarray(picture.convert(mode)).reshape(picture.height, picture.width, -1)
        except (OSError, UnidentifiedImageError) as error:
            raise RunError(f"{path} cannot be read as a picture: {error}") from error


class Prepared(Images):
    """Images resized to size x size pixels (0: not at all) or made grey, as they are read."""

    def __init__(self, images: Images, size: int = 0, grayscale: bool = False):
        self.images = images
        self.name = images.name
        self.size = size
        self.grayscale = grayscale and images.shape[2] == 3
        height, width, channels = images.shape
        self.shape = (size or height, size or width, 1 if self.grayscale else channels)

    def __len__(self) -> int:
        return len(self.images)

    def read_into(self, found: np.ndarray, rows: np.ndarray, indices: np.ndarray) -> None:
        if self.shape == self.images.shape:
            self.images.read_into(found, rows, indices)
            return
        for row, image in zip(rows, self.images.read(indices), strict=True):
            found[row] = self._prepare(image)

    def _prepare(self, image: np.ndarray) -> np.ndarray:
        if self.grayscale:
            image = np.asarray(Image.fromarray(image).convert("L"))[..., None]
        if self.size:
            parts = [Image.fromarray(part) for part in np.moveaxis(image, -1, 0)]
            resized = [p.resize((self.size, self.size), Image.Resampling.BOX) for p in parts]
            image = np.stack([np.asarray(part) for part in resized], -1)
        return image


class Header(NamedTuple):
    """What a .npy says of itself."""

    shape: tuple[int, ...]
    dtype: np.dtype

    @property
    def holds_images(self) -> bool:
        return (
            len(self.shape) in (3, 4)
            and min(self.shape) > 0
            and self.dtype in (np.uint8, np.bool_)
            and (len(self.shape) == 3 or self.shape[3] <= 16)
        )


def read_header(name: str, file: Any) -> Header:
    """The header of a .npy, after which its numbers begin; what is wrong is said in a sentence."""
    try:
        version = npy.read_magic(file)
        read = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}[version]
        shape, fortran, dtype = read(file)
    except (ValueError, KeyError, EOFError) as error:
        raise RunError(f"{name} cannot be read as an array: {error}") from error
    header = Header(shape, dtype)
    if fortran or not header.holds_images:
        order = ", in Fortran's order" * fortran
        raise RunError(
            f"{name} expects images, uint8 or bool [N, H, W] or [N, H, W, C], got {dtype} "
            f"{list(shape)}{order}"
        )
    return header


def open_images(path: Path, array: str = "") -> list[Images]:
    """What lies at `path`, a file or a folder (and the folders in it), by name.

    array: the name of the array in .npz files; by default they hold one array of images.
    """
    if path.is_file():
        return [_open_file(path, array)]
    if not path.is_dir():
        raise RunError(f"there is neither a file nor a folder {path}; name one with --images")
    found: list[Images] = []
    for folder in sorted([path, *(p for p in path.rglob("*") if p.is_dir())]):
        files = sorted(file for file in folder.iterdir() if file.is_file())
        found += [_open_file(file, array) for file in files if file.suffix.lower() in ARRAYS]
        pictures = [file for file in files if file.suffix.lower() in PICTURES]
        found += [Pictures(folder, pictures)] if pictures else []
    if not found:
        kinds = ", ".join((*ARRAYS, *PICTURES))
        raise RunError(f"there are no images in {path}: expected files of {kinds}")
    return found


def _open_file(path: Path, array: str) -> Images:
    if path.suffix.lower() == ".npy":
        return ArrayImages(str(path), open(path, "rb"), 0)
    if path.suffix.lower() == ".npz":
        return _open_archive(path, array)
    if path.suffix.lower() in PICTURES:
        return Pictures(path, [path])
    raise RunError(f"{path} is none of {', '.join((*ARRAYS, *PICTURES))}")


def _open_archive(path: Path, array: str) -> Images:
    """The array of a .npz: where it lies, or unpacked into a temporary file."""
    try:
        with zipfile.ZipFile(path) as archive:
            member = archive.getinfo(_choose(path, archive, array) + ".npy")
            if member.compress_type == zipfile.ZIP_STORED:
                file = open(path, "rb")  # noqa: SIM115 (read for as long as it is used)
                file.seek(member.header_offset + LOCAL_HEADER - 4)
                lengths = np.frombuffer(file.read(4), "<u2")  # of the name, and of what follows
                offset = member.header_offset + LOCAL_HEADER + int(lengths.sum())
                return ArrayImages(str(path), file, offset)
            unpacked = tempfile.TemporaryFile()  # noqa: SIM115 (as long, too)
            with archive.open(member) as packed:
                shutil.copyfileobj(packed, unpacked, PIECE)
            unpacked.flush()
            return ArrayImages(str(path), unpacked, 0)
    except (zipfile.BadZipFile, OSError, EOFError) as error:
        raise RunError(f"{path} cannot be read: {error}") from error


def _choose(path: Path, archive: zipfile.ZipFile, array: str) -> str:
    """The name of the array to take."""
    names = [name.removesuffix(".npy") for name in archive.namelist() if name.endswith(".npy")]
    if array:
        if array not in names:
            raise RunError(f"{path} has no array {array!r}, only {', '.join(names) or 'nothing'}")
        return array
    found = []
    for name in names:
        with archive.open(name + ".npy") as file:
            try:
                read_header(name, file)
            except RunError:
                continue
        found.append(name)
    if len(found) != 1:
        raise RunError(
            f"{path} holds {len(found)} arrays of images (of {', '.join(names) or 'none'}); "
            "name one with --array"
        )
    return found[0]


def images_of(told: ImagesConfig) -> list[Prepared]:
    """What a configuration names, resized and made grey as it says."""
    found = open_images(Path(told.images), told.array)
    return [Prepared(images, told.size, told.grayscale) for images in found]


def common_shape(datasets: Sequence[Images]) -> tuple[int, ...]:
    """The shape [H, W, C] that all have."""
    for images in datasets:
        if images.shape != datasets[0].shape:
            raise RunError(
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

    A super-batch is gone through once, in random order. Truth values come from `binarise`.
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
        """weights: by the name of a file, or the end of it; of others 1."""
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


def _weights(datasets: Sequence[Images], told: Mapping[str, float]) -> list[float]:
    """A weight for each file."""
    weights = [1.0] * len(datasets)
    for name, weight in told.items():
        meant = [i for i, images in enumerate(datasets) if Path(images.name).match(name)]
        if len(meant) != 1:
            raise RunError(
                f"--weights {name} is the name of {len(meant)} of "
                f"{', '.join(images.name for images in datasets)}; name one of them"
            )
        weights[meant[0]] = weight
    return weights
