"""Films as files: frames in, an .mp4, .gif or .webp out, complete or not at all."""

from collections.abc import Generator
from pathlib import Path
from typing import Protocol

import imageio_ffmpeg
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from worldmodel.run_folder import RunError

Frame = NDArray[np.uint8]  # [H, W, 3], even sides, the same in all frames of a film

GRID = 12  # a gif's colours are multiples of it: few of them, the same in every frame
LEVEL = np.rint(np.arange(256) / GRID).astype(np.uint16)  # of a colour, in that grid
LEVELS = int(LEVEL.max()) + 1
CRF = "18"  # x264's constant quality, visually lossless


class Writer(Protocol):
    """A writer of frames into a file of one format."""

    def write(self, frame: Frame) -> None: ...

    def close(self) -> None: ...


class MP4:
    """H.264, frame by frame: memory does not grow with the film's length."""

    def __init__(self, path: Path, fps: float):
        self.path, self.fps = path, fps
        self.pipe: Generator[None, Frame | None, None] | None = None

    def write(self, frame: Frame) -> None:
        if self.pipe is None:
            parameters = ["-crf", CRF, "-movflags", "+faststart", "-f", "mp4"]
            self.pipe = imageio_ffmpeg.write_frames(
                str(self.path),
                (frame.shape[1], frame.shape[0]),
                fps=self.fps,
                macro_block_size=1,
                ffmpeg_log_level="error",
                output_params=parameters,
            )
            self.pipe.send(None)
        self.pipe.send(np.ascontiguousarray(frame))

    def close(self) -> None:
        if self.pipe is not None:
            self.pipe.close()


class Pictures:
    """Formats that Pillow writes, of all frames at once."""

    format: str

    def __init__(self, path: Path, fps: float):
        self.path = path
        self.milliseconds = max(20, round(100 / fps) * 10)  # a gif counts hundredths of a second
        self.images: list[Image.Image] = []

    def write(self, frame: Frame) -> None:
        self.images.append(self.picture(frame))

    def picture(self, frame: Frame) -> Image.Image:
        return Image.fromarray(frame)

    def close(self) -> None:
        if self.images:
            self.images[0].save(
                self.path,
                self.format,
                save_all=True,
                append_images=self.images[1:],
                duration=self.milliseconds,
                loop=0,
                **self.options(),
            )

    def options(self) -> dict[str, object]:
        return {}


class GIF(Pictures):
    """A palette for each frame: exact (up to the grid) where 256 colours are enough."""

    format = "GIF"

    def picture(self, frame: Frame) -> Image.Image:
        level = LEVEL[frame]
        codes = (level[..., 0] * LEVELS + level[..., 1]) * LEVELS + level[..., 2]  # [H, W]
        used = np.flatnonzero(np.bincount(codes.ravel()))
        if len(used) > 256:
            image = Image.fromarray((level * GRID).astype(np.uint8))
            return image.quantize(256, dither=Image.Dither.NONE)
        place = np.zeros(LEVELS**3, np.uint8)
        place[used] = np.arange(len(used))
        palette = np.stack(np.unravel_index(used, (LEVELS,) * 3), -1) * GRID
        image = Image.fromarray(place[codes])
        image.putpalette(palette.astype(np.uint8).tobytes())
        return image


class WebP(Pictures):
    """WebP: all colours, lossless."""

    format = "WEBP"

    def options(self) -> dict[str, object]:
        return {"lossless": True, "method": 2}


FORMATS: dict[str, type[MP4] | type[Pictures]] = {".mp4": MP4, ".gif": GIF, ".webp": WebP}


class Film:
    """A film being written; its file appears, complete, when it is closed, or not at all.

    `with Film(path, fps) as film: film.write(frame)`; an exception leaves no file.
    """

    def __init__(self, path: Path, fps: float):
        """path: its suffix is one of `FORMATS`, its folder exists; fps: frames a second."""
        check_film(path, fps)
        self.path = path
        self.frames = 0
        self._size: tuple[int, int] | None = None
        self._temporary = path.with_name(path.name + ".part")
        self._writer: Writer = FORMATS[path.suffix.lower()](self._temporary, fps)

    def write(self, frame: Frame) -> None:
        """Appends a frame, uint8 [H, W, 3]; one that is not of the first one's size is cut, or
        gets a margin of its first pixel's colour, on the right and below."""
        self._size = self._size or (frame.shape[0], frame.shape[1])
        try:
            self._writer.write(_fitted(frame, self._size))
        except OSError as error:
            raise self._failure(error) from error
        self.frames += 1

    def close(self) -> None:
        """Ends the film; writes no file if there is no frame."""
        try:
            self._writer.close()
            if self.frames:
                self._temporary.replace(self.path)
        except OSError as error:
            raise self._failure(error) from error
        finally:
            self._temporary.unlink(missing_ok=True)

    def discard(self) -> None:
        """Ends the film and leaves no file."""
        if isinstance(self._writer, MP4):  # others have written nothing yet
            self._writer.close()
        self._temporary.unlink(missing_ok=True)

    def __enter__(self) -> "Film":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self.close() if kind is None else self.discard()

    def _failure(self, error: OSError) -> RunError:
        return RunError(f"the film {self.path} could not be written: {error}")


def _fitted(frame: Frame, size: tuple[int, int]) -> Frame:
    if frame.shape[:2] == size:
        return frame
    fitted = np.empty((*size, 3), np.uint8)
    fitted[:] = frame[0, 0]
    height, width = np.minimum(frame.shape[:2], size)
    fitted[:height, :width] = frame[:height, :width]
    return fitted


def check_film(path: Path, fps: float) -> None:
    """Raises the errors of writing before the work."""
    if path.suffix.lower() not in FORMATS:
        raise RunError(f"a film is a {', '.join(FORMATS)} file, but {path} is none of these")
    if not path.parent.is_dir():
        raise RunError(f"the film {path} cannot be written: there is no folder {path.parent}")
    if not 0.1 <= fps <= 100:
        raise RunError(f"a film has 0.1 to 100 frames a second, got --fps {fps:g}")
