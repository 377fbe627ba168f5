"""Arrays of images on disk, read in place.

Arrays are not mapped into memory, since mapped pages would count as resident: each image is read
from its place. Compressed arrays, and those of another layout or type than bytes [N, H, W, C], are
first written as these into a temporary file, piece by piece.
"""

import os
import shutil
import tempfile
import zipfile
from contextlib import suppress
from pathlib import Path
from typing import IO, Any, NamedTuple, cast

import numpy as np
from numpy.lib import format as npy

from worldmodel.experiments.data.readers.files import BadFileError, Report, reason_of
from worldmodel.image_batches import Images
from worldmodel.run_folder import RunError

PIECE = 2**20  # bytes of a compressed file that are unpacked at once
CONVERTED = 2**25  # bytes of an array that are brought into order at once
LOCAL_HEADER = 30  # bytes of a zip member's header before its name
MOST_CHANNELS = 16


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


class ArrayImages(Images):
    """An array [N, H, W] or [N, H, W, C], uint8 or bool, that lies in a file as it is.

    Values of bool become 0 and 255.
    """

    def __init__(self, name: str, file: Any, header: Header):
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


def open_array(path: Path, array: str, report: Report) -> ArrayImages:
    """The images of a .npy, or of the array of that name in a .npz."""
    packed = path.suffix.lower() == ".npz"
    try:
        file = _member(path, array) if packed else open(path, "rb")  # noqa: SIM115 (as long as used)
        return _images(str(path), file, report)
    except RunError:
        raise
    except Exception as error:  # zipfile, zlib and numpy raise a dozen kinds
        raise BadFileError(f"{path} cannot be read: {reason_of(error)}; leave it out") from error


def _images(name: str, file: IO[bytes], report: Report) -> ArrayImages:
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


def _member(path: Path, array: str) -> IO[bytes]:
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
