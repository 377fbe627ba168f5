"""Images on disk, more than memory holds: opened lazily, drawn at random, file by file.

Only images that are drawn are read.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from worldmodel.experiments.data.readers.files import (
    BadFileError,
    OnError,
    Report,
    readable,
    reason_of,
)
from worldmodel.experiments.images.arrays import open_array
from worldmodel.experiments.images.config import ImagesConfig
from worldmodel.image_batches import Images
from worldmodel.run_folder import RunError

ARRAYS = (".npy", ".npz")
PICTURES = (".png", ".jpg", ".jpeg")


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
    if path.suffix.lower() in ARRAYS:
        return open_array(path, array, report)
    raise RunError(f"{path} is none of {', '.join((*ARRAYS, *PICTURES))}")


def images_of(config: ImagesConfig, report: Report) -> list[Prepared]:
    """The images that the options name, resized and converted to grey accordingly."""
    found = open_images(Path(config.images), config.array, config.on_error, report)
    return [Prepared(images, config.size, config.grayscale) for images in found]
