"""Images on disk, more than memory holds: opened lazily, drawn at random, file by file.

Only images that are drawn are read. Arrays are not mapped into memory, since mapped pages would
count as resident: each image is read from its place. Compressed arrays are unpacked first, piece
by piece, into a temporary file.
"""

import os
import shutil
import tempfile
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np
from numpy.lib import format as npy
from PIL import Image, UnidentifiedImageError

from worldmodel.experiments.images.config import ImagesConfig
from worldmodel.image_batches import Images
from worldmodel.run_folder import RunError

ARRAYS = (".npy", ".npz")
PICTURES = (".png", ".jpg", ".jpeg")
PIECE = 2**20  # bytes of a compressed file that are unpacked at once
LOCAL_HEADER = 30  # bytes of a zip member's header before its name


class ArrayImages(Images):
    """An array [N, H, W] or [N, H, W, C], uint8 or bool, that lies in a file as it is.

    Values of bool become 0 and 255.
    """

    def __init__(self, name: str, file: Any, offset: int):
        """file: open for reading bytes; offset: of the .npy in it, bytes."""
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
        order = np.argsort(indices)  # in the order on disk
        size = int(np.prod(self.shape))
        descriptor, numbers = self._file.fileno(), memoryview(cast(Any, found.reshape(-1)))
        for row, index in zip(rows[order].tolist(), indices[order].tolist(), strict=True):
            into = numbers[row * size : (row + 1) * size]
            if os.preadv(descriptor, [into], self._begin + index * size) != size:
                raise RunError(f"{self.name} ends before its image {index}: it is damaged")
        if self._truth:
            found[rows] *= np.uint8(255)


class Pictures(Images):
    """Files of one picture each, opened when they are drawn."""

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
    """Images resized to size x size pixels (0: not at all) or converted to grey, as they are
    read."""

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
    """The header of a .npy: shape and type."""

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
    """Reads the header of a .npy of images, up to its numbers. Raises RunError for others."""
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
    """Opens the images at `path`, a file or a folder (and the folders in it), in order of name.

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
    """The array of a .npz, read in place, or unpacked into a temporary file."""
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
    """The name of the array to read."""
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


def images_of(config: ImagesConfig) -> list[Prepared]:
    """The images that the options name, resized and converted to grey accordingly."""
    found = open_images(Path(config.images), config.array)
    return [Prepared(images, config.size, config.grayscale) for images in found]
