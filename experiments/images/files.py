"""Images on disk, more than memory holds: opened lazily, drawn at random, file by file.

Only images that are drawn are read. Arrays are not mapped into memory, since mapped pages would
count as resident: each image is read from its place. Compressed arrays, and those of another
layout or type than bytes [N, H, W, C], are first written as these into a temporary file, piece by
piece.
"""

import os
import shutil
import tempfile
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, Any, NamedTuple, cast

import numpy as np
from numpy.lib import format as npy
from PIL import Image

from worldmodel.experiments.data.readers.files import (
    BadFileError,
    OnError,
    Report,
    readable,
    reason_of,
)
from worldmodel.experiments.images.config import ImagesConfig
from worldmodel.image_batches import Images
from worldmodel.run_folder import RunError

ARRAYS = (".npy", ".npz")
PICTURES = (".png", ".jpg", ".jpeg")
PIECE = 2**20  # bytes of a compressed file that are unpacked at once
CONVERTED = 2**25  # bytes of an array that are brought into order at once
LOCAL_HEADER = 30  # bytes of a zip member's header before its name
MOST_CHANNELS = 16


class ArrayImages(Images):
    """An array [N, H, W] or [N, H, W, C], uint8 or bool, that lies in a file as it is.

    Values of bool become 0 and 255.
    """

    def __init__(self, name: str, file: Any, header: "Header"):
        """file: open for reading bytes, at the place where the numbers begin."""
        self.name = name
        self._file = file
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
    """Files of one picture each, opened when they are drawn.

    Where bad files are to be left out, the next one in the folder takes the place of one.
    """

    def __init__(
        self,
        folder: Path,
        files: Sequence[Path],
        on_error: OnError = "stop",
        report: Report = lambda line: None,
    ):
        self.name = str(folder)
        self.files = list(files)
        self.on_error = on_error
        self.report = report
        self.bad: set[int] = set()
        self.shape = self._picture(0).shape

    def __len__(self) -> int:
        return len(self.files)

    def read_into(self, found: np.ndarray, rows: np.ndarray, indices: np.ndarray) -> None:
        for row, index in zip(rows, indices, strict=True):
            found[row] = self._picture(index, self.shape)

    def each(self, indices: np.ndarray) -> Iterator[np.ndarray]:
        for index in indices:
            yield self._picture(index)

    def _picture(self, index: int, shape: tuple[int, ...] | None = None) -> np.ndarray:
        """A picture of that shape (None: of any), or the next one after it that is not bad."""
        for at in range(index, index + len(self.files)):
            number = at % len(self.files)
            if number not in self.bad:
                try:
                    return self._open(self.files[number], shape)
                except BadFileError as error:
                    if self.on_error == "stop":
                        raise
                    self.bad.add(number)
                    self.report(f"{error}; left out")
        raise BadFileError(f"{self.name} holds no picture that can be read; leave it out")

    def _open(self, path: Path, shape: tuple[int, ...] | None) -> np.ndarray:
        try:
            with Image.open(path) as picture:
                image = _pixels(picture)
        except Exception as error:  # Pillow raises a dozen kinds
            raise BadFileError(
                f"{path} cannot be read as a picture: {reason_of(error)}; leave it out"
            ) from error
        if shape not in (None, image.shape):
            raise BadFileError(
                f"{path} has the shape {list(image.shape)}, but the first picture of its folder "
                f"{list(self.shape)}; give them one shape by --size and --grayscale"
            )
        return image


def _pixels(picture: Image.Image) -> np.ndarray:
    """A picture as uint8 [H, W, 1 or 3]; of 16 bits, the upper 8 are kept."""
    if picture.mode.startswith("I"):
        return (np.asarray(picture) >> 8).clip(0, 255).astype(np.uint8)[..., None]
    mode = "L" if picture.mode in ("1", "L") else "RGB"
    return np.asarray(picture.convert(mode)).reshape(picture.height, picture.width, -1)


class Prepared(Images):
    """Images resized to size x size pixels (0: not at all) or converted to grey, as they are
    read."""

    def __init__(self, images: Images, size: int = 0, grayscale: bool = False):
        self.images = images
        self.name = images.name
        self.size = size
        self.grayscale = grayscale
        height, width, channels = images.shape
        channels = 1 if grayscale and channels == 3 else channels
        self.shape = (size or height, size or width, channels)

    def __len__(self) -> int:
        return len(self.images)

    def read_into(self, found: np.ndarray, rows: np.ndarray, indices: np.ndarray) -> None:
        if not (self.size or self.grayscale):
            self.images.read_into(found, rows, indices)
            return
        for row, image in zip(rows, self.images.each(indices), strict=True):
            found[row] = self._prepare(image)

    def _prepare(self, image: np.ndarray) -> np.ndarray:
        if self.grayscale and image.shape[2] == 3:
            image = np.asarray(Image.fromarray(image).convert("L"))[..., None]
        if self.size and image.shape[:2] != self.shape[:2]:
            parts = [Image.fromarray(part) for part in np.moveaxis(image, -1, 0)]
            resized = [p.resize((self.size, self.size), Image.Resampling.BOX) for p in parts]
            image = np.stack([np.asarray(part) for part in resized], -1)
        if image.shape != self.shape:
            raise BadFileError(
                f"{self.name} has an image of the shape {list(image.shape)} among those of "
                f"{list(self.shape)}; give them one shape by --size and --grayscale"
            )
        return image


class Header(NamedTuple):
    """The header of a .npy: shape and type."""

    shape: tuple[int, ...]
    fortran: bool
    dtype: np.dtype

    @property
    def code(self) -> str:
        """Kind of numbers, and bytes of each: u1, b1, u2, f2, f4, f8 are known."""
        return f"{self.dtype.kind}{self.dtype.itemsize}"

    @property
    def channels_first(self) -> bool:
        """True of [N, C, H, W], as frame stacks are."""
        return len(self.shape) == 4 and self.shape[3] > MOST_CHANNELS >= self.shape[1]

    @property
    def holds_images(self) -> bool:
        if len(self.shape) not in (3, 4) or min(self.shape) < 1:
            return False
        layout = len(self.shape) == 3 or self.shape[3] <= MOST_CHANNELS or self.channels_first
        return layout and self.code in ("u1", "b1", "u2", "f2", "f4", "f8")

    @property
    def oddities(self) -> list[str]:
        """In words, how the images differ from bytes (or truth values) [N, H, W, C]."""
        odd = {
            "channels first": self.channels_first,
            "in Fortran's order": self.fortran,
            "of 16 bits, the upper 8 of which are kept": self.code == "u2",
            "floats from 0, black, to 1, white": self.code[0] == "f",
        }
        return [words for words, holds in odd.items() if holds]


def read_header(name: str, file: Any) -> Header:
    """Reads the header of a .npy of images, up to its numbers. Raises BadFileError for others."""
    try:
        version = npy.read_magic(file)
        read = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}[version]
        header = Header(*read(file))
    except (ValueError, KeyError, EOFError) as error:
        raise BadFileError(f"{name} cannot be read as an array: {reason_of(error)}") from error
    if not header.holds_images:
        raise BadFileError(
            f"{name} expects images [N, H, W], [N, H, W, C] or [N, C, H, W] of uint8, bool, "
            f"uint16 or floats of 0 to 1, got {header.dtype} {list(header.shape)}"
        )
    return header


def open_images(
    path: Path,
    array: str = "",
    on_error: OnError = "stop",
    report: Report = lambda line: None,
) -> list[Images]:
    """Opens the images at `path`, a file or a folder (and the folders in it), in order of name.

    array: the name of the array in .npz files; by default they hold one array of images.
    on_error: whether files that cannot be read are left out, and reported.
    """

    def read(place: Path) -> Iterator[Images]:
        if place.is_dir():
            yield Pictures(place, _in(place, PICTURES), on_error, report)
        else:
            yield _open_file(place, array, report)

    if path.is_file():
        return [*read(path)]
    if not path.is_dir():
        raise RunError(f"there is neither a file nor a folder {path}; name one with --images")
    places: list[Path] = []
    for folder in sorted([path, *(p for p in path.rglob("*") if p.is_dir())]):
        places += [*_in(folder, ARRAYS), *([folder] if _in(folder, PICTURES) else [])]
    if found := list(readable(places, read, on_error, report)):
        return found
    kinds = ", ".join((*ARRAYS, *PICTURES))
    raise RunError(f"there are no images in {path}: expected files of {kinds}")


def _in(folder: Path, suffixes: Sequence[str]) -> list[Path]:
    """The files of a folder with such an ending, in order of name."""
    files = [file for file in sorted(folder.iterdir()) if file.suffix.lower() in suffixes]
    return [file for file in files if file.is_file()]


def _open_file(path: Path, array: str, report: Report) -> Images:
    if path.suffix.lower() in PICTURES:
        return Pictures(path, [path])
    if path.suffix.lower() not in ARRAYS:
        raise RunError(f"{path} is none of {', '.join((*ARRAYS, *PICTURES))}")
    try:
        # open for as long as it is used
        file = open(path, "rb") if path.suffix.lower() == ".npy" else _open_archive(path, array)  # noqa: SIM115
        return _open_array(str(path), file, report)
    except RunError:
        raise
    except Exception as error:  # zipfile, zlib and numpy raise a dozen kinds
        raise BadFileError(f"{path} cannot be read: {reason_of(error)}; leave it out") from error


def _open_array(name: str, file: IO[bytes], report: Report) -> ArrayImages:
    """The images of a .npy that begins where the file is read."""
    header = read_header(name, file)
    size = header.dtype.itemsize * int(np.prod(header.shape, dtype=object))
    if file.tell() + size > os.fstat(file.fileno()).st_size:
        raise BadFileError(f"{name} ends before its {header.shape[0]} images: it is damaged")
    if header.oddities:
        report(f"{name}: {', '.join(header.oddities)}; taken as bytes [N, H, W, C]")
        file, header = _as_bytes(name, file, header)
    return ArrayImages(name, file, header)


def _as_bytes(name: str, file: IO[bytes], header: Header) -> tuple[IO[bytes], Header]:
    """A temporary file of the images as uint8 [N, H, W, C], and its header."""
    written = tempfile.TemporaryFile()  # noqa: SIM115 (read for as long as it is used)
    begin, (number, *shape) = file.tell(), header.shape
    step = max(1, CONVERTED // (header.dtype.itemsize * int(np.prod(shape))))
    order: Any = "F" if header.fortran else "C"
    for at in range(0, number, step):
        # mapped anew each time, so that no page stays
        array = np.memmap(file, header.dtype, "r", begin, header.shape, order)[at : at + step]
        images = np.moveaxis(array, 1, -1) if header.channels_first else array
        written.write(_brightness(name, images).tobytes())
    written.seek(0)
    shape = [*shape[1:], shape[0]] if header.channels_first else shape
    return written, Header((number, *shape), False, np.dtype(np.uint8))


def _brightness(name: str, images: np.ndarray) -> np.ndarray:
    """Numbers of any known type as uint8, 255 being white."""
    if images.dtype.kind == "f":
        odd = images[~((images >= 0) & (images <= 1))]  # NaN, too
        if len(odd):
            raise BadFileError(
                f"{name} expects images of floats between 0 and 1, got {odd[0]:g}; scale them, or "
                "save uint8"
            )
        return np.rint(255 * images).astype(np.uint8)
    if images.dtype.itemsize == 2:
        return (images >> 8).astype(np.uint8)
    return images * np.uint8(255) if images.dtype == bool else images


def _open_archive(path: Path, array: str) -> IO[bytes]:
    """The .npy in a .npz, read in place, or unpacked into a temporary file."""
    with zipfile.ZipFile(path) as archive:
        member = archive.getinfo(_choose(path, archive, array) + ".npy")
        if member.compress_type == zipfile.ZIP_STORED:
            file = open(path, "rb")  # noqa: SIM115 (read for as long as it is used)
            file.seek(member.header_offset + LOCAL_HEADER - 4)
            lengths = np.frombuffer(file.read(4), "<u2")  # of the name, and of what follows
            file.seek(int(lengths.sum()), os.SEEK_CUR)
            return file
        unpacked = tempfile.TemporaryFile()  # noqa: SIM115 (as long, too)
        with archive.open(member) as packed:
            shutil.copyfileobj(packed, unpacked, PIECE)
        unpacked.seek(0)
        return unpacked


def _choose(path: Path, archive: zipfile.ZipFile, array: str) -> str:
    """The name of the array to read: of bytes rather than of other numbers."""
    names = [name.removesuffix(".npy") for name in archive.namelist() if name.endswith(".npy")]
    if array:
        if array not in names:
            raise RunError(f"{path} has no array {array!r}, only {', '.join(names) or 'nothing'}")
        return array
    found: dict[str, Header] = {}
    for name in names:
        with archive.open(name + ".npy") as file, suppress(BadFileError):
            found[name] = read_header(name, file)
    usual = [name for name, header in found.items() if not header.oddities]
    chosen = usual or list(found)
    if len(chosen) != 1:
        raise BadFileError(
            f"{path} holds {len(chosen)} arrays of images (of {', '.join(names) or 'none'}); "
            "name one with --array"
        )
    return chosen[0]


def images_of(config: ImagesConfig, report: Report) -> list[Prepared]:
    """The images that the options name, resized and converted to grey accordingly."""
    found = open_images(Path(config.images), config.array, config.on_error, report)
    return [Prepared(images, config.size, config.grayscale) for images in found]
