"""Films as files: frames in, an .mp4, .gif or .webp out, complete or not at all."""

import subprocess
import tempfile
from contextlib import ExitStack, suppress
from fractions import Fraction
from pathlib import Path
from typing import IO, Protocol, cast

import imageio_ffmpeg
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from worldmodel.experiments.runs.places import make_parent
from worldmodel.files import RunError, writing

Frame = NDArray[np.uint8]  # [H, W, 3], even sides, the same in all frames of a film

GRID = 12  # a gif's colours are multiples of it: few of them, the same in every frame
LEVEL = np.rint(np.arange(256) / GRID).astype(np.uint16)  # of a colour, in that grid
LEVELS = int(LEVEL.max()) + 1
CRF = "18"  # x264's constant quality, visually lossless


class Writer(Protocol):
    """A writer of frames into a file of one format."""

    def write(self, frame: Frame) -> None: ...

    def close(self) -> None:
        """Ends the file; raises an OSError unless all of it was written."""

    def abandon(self) -> None:
        """Ends writing, whatever becomes of the file."""


class MP4:
    """H.264, frame by frame: memory does not grow with the film's length."""

    def __init__(self, path: Path, fps: float):
        self.path, self.fps = path, fps
        self.encoder: subprocess.Popen[bytes] | None = None

    def write(self, frame: Frame) -> None:
        if self.encoder is None:
            self.said = tempfile.TemporaryFile()  # noqa: SIM115 (open as long as the encoder)
            self.encoder = subprocess.Popen(
                self._command(*frame.shape[:2]),
                stdin=subprocess.PIPE,
                stderr=self.said,
                process_group=0,  # Ctrl-C is ours to answer
            )
        self._input.write(np.ascontiguousarray(frame).data)

    def _command(self, height: int, width: int) -> list[str]:
        return [
            *(imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-y"),
            *("-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{width}x{height}"),
            *("-r", str(Fraction(self.fps).limit_denominator()), "-i", "-"),
            *("-vcodec", "libx264", "-pix_fmt", "yuv420p", "-crf", CRF),
            *("-movflags", "+faststart", "-f", "mp4", str(self.path)),
        ]

    @property
    def _input(self) -> IO[bytes]:
        return cast(IO[bytes], cast(subprocess.Popen, self.encoder).stdin)

    def close(self) -> None:
        if self.encoder is None:
            return
        with suppress(BrokenPipeError):  # it has ended already, and says why
            self._input.close()
        if self.encoder.wait():
            self.said.seek(0)
            raise OSError(self.said.read().decode(errors="replace").strip().rpartition("\n")[2])

    def abandon(self) -> None:
        if self.encoder is not None:
            self.encoder.kill()
            with suppress(OSError):
                self._input.close()
            self.encoder.wait()


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

    def abandon(self) -> None:
        """Does nothing: nothing has been written yet."""

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
        """path: its suffix is one of `FORMATS`; fps: frames a second."""
        check_film(path, fps)
        self.path = path
        self.frames = 0
        self._size: tuple[int, int] | None = None
        self._file = ExitStack()
        part = self._file.enter_context(writing(path))
        self._writer: Writer = FORMATS[path.suffix.lower()](part, fps)

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
        if not self.frames:
            self.discard()
            return
        try:
            with self._file:
                self._writer.close()
        except OSError as error:
            raise self._failure(error) from error

    def discard(self) -> None:
        """Ends the film and leaves no file."""
        self._writer.abandon()
        with suppress(_Discarded), self._file:
            raise _Discarded

    def __enter__(self) -> "Film":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self.close() if kind is None else self.discard()

    def _failure(self, error: OSError) -> RunError:
        """The error of a film that could not be written; the encoder's own words, where it has
        ended."""
        reason: OSError = error
        if isinstance(error, BrokenPipeError):
            try:
                self._writer.close()
            except OSError as said:
                reason = said
        return RunError(f"the film {self.path} could not be written: {reason.strerror or reason}")


class _Discarded(Exception):  # noqa: N818 (an order, not an error)
    """Leaves a file unwritten."""


def _fitted(frame: Frame, size: tuple[int, int]) -> Frame:
    if frame.shape[:2] == size:
        return frame
    fitted = np.empty((*size, 3), np.uint8)
    fitted[:] = frame[0, 0]
    height, width = np.minimum(frame.shape[:2], size)
    fitted[:height, :width] = frame[:height, :width]
    return fitted


def check_film(path: Path, fps: float) -> None:
    """Raises the errors of writing before the work, and makes the folder."""
    if path.suffix.lower() not in FORMATS:
        raise RunError(f"a film is a {', '.join(FORMATS)} file, but {path} is none of these")
    if not 0.1 <= fps <= 100:
        raise RunError(f"a film has 0.1 to 100 frames a second, got --fps {fps:g}")
    make_parent(path)
