"""Sound files, .wav and .flac, read in blocks: mono, at one rate, cut into frames of samples.

WAV is decoded here, by numpy: its header is simple, and libsndfile 1.2 can hang on damaged ones
(https://github.com/libsndfile/libsndfile/issues/1118). FLAC is decoded by soundfile.
"""

import math
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from worldmodel.experiments.data.readers.files import BadFileError, Recording
from worldmodel.run_folder import RunError

SUFFIXES = (".wav", ".flac")
LOWEST_RATE, HIGHEST_RATE = 1_000, 768_000  # Hz
PIECE = 2**24  # samples of one recording: longer files are several
BLOCK = 2**16  # samples that are read at a time
LARGEST_TERM = 20_000  # of the ratio of two rates in lowest terms: the filter is 20 times as long
MOST_CHANNELS = 64
MOST_CHUNKS = 1_000  # of a .wav, before its samples
LONGEST_FORMAT = 4_096  # bytes of a .wav's format chunk
LOUDEST = 8.0  # of a float file, where full scale is 1: 18 dB above it
NO_LENGTH = 0x7FFF0000  # or more, in a .wav: written as a stream, of unknown length
NO_FRAMES = 2**36  # or more, of a .flac: soundfile's value for an unknown length
STEP_OF_FLOATS = 2.0**-15
CONVERT = "convert it (ffmpeg -i IN OUT.wav), or leave it out"
PCM, FLOAT, EXTENSIBLE = 1, 3, 0xFFFE
CODECS = {2: "ADPCM", 6: "A-law", 7: "mu-law", 17: "ADPCM", 49: "GSM", 80: "MPEG", 85: "MP3"}


def read_audio(
    path: Path, rate: int, frame: int, dequantise: np.random.Generator | None
) -> Iterator[Recording]:
    """The frames of a .wav or .flac, float32 [T, frame], full scale being -1 to 1.

    Channels are averaged. A file of another rate than `rate` (Hz) is resampled by a windowed
    sinc (`scipy.signal.resample_poly`), which may overshoot full scale a little, as float files
    may. A rest shorter than a frame is left out. A file of more than `PIECE` samples comes in
    several recordings; no more than one of them is held in memory.

    dequantise: its uniform noise is added to every sample of every channel before anything else,
    because integers that repeat have no bounded density. The noise fills the cell of an integer,
    [k, k + 1) of its steps: so samples stay in -1 to 1, and `write_wav` finds k again. Floats are
    taken for numbers of 16 bits (`STEP_OF_FLOATS`): their own steps vanish near zero, where
    silence repeats exactly, while most were 16 bits before, or hold noise louder than that; and
    so likelihoods of float and of 16-bit files compare. A file of a lower rate than `rate` has
    nothing above its own band, where densities would have no bound: it gets such noise of 16 bits
    after it was resampled, too.

    Raises BadFileError: for a file that ends early, after the recordings that are whole.
    """
    try:
        with _opened(path) as sound:
            blocks = _mono(path, sound, BLOCK * min(sound.rate, rate) // rate, dequantise)
            blocks = resampled(blocks, *_ratio(path, sound.rate, rate))
            if dequantise is not None and sound.rate < rate:
                blocks = _filled(blocks, *dequantise.spawn(1))
            size = max(1, PIECE // frame) * frame
            number = -1
            for number, samples in enumerate(_grouped(blocks, size)):
                name = f"{path.name} from {number * size / rate:g} s"
                whole = len(samples) // frame * frame
                if whole:
                    frames = samples[:whole].reshape(-1, frame)
                    yield Recording(frames, name if number else path.name)
                elif not number:
                    raise BadFileError(
                        f"{path} has {len(samples)} samples at {rate} Hz, but one frame is "
                        f"{frame}; choose shorter frames, or leave it out"
                    )
            if number < 0:
                raise BadFileError(f"{path} has no samples; leave it out")
    except OSError as error:
        raise BadFileError(f"{path} cannot be read ({error.strerror}); leave it out") from error


class _Sound(NamedTuple):
    """An open file: fields of its header, and a reader of its samples."""

    rate: int  # Hz
    channels: int
    step: float  # between neighbouring values, where full scale is -1 to 1
    length: int | None  # samples of each channel, if the header has it
    read: Callable[[int], np.ndarray]  # that many samples or what is left, float [N, channels]


@contextmanager
def _opened(path: Path) -> Iterator[_Sound]:
    with open(path, "rb") as file:
        magic = file.read(4)
        if magic == b"fLaC":
            with _flac(path) as flac:
                yield _checked(path, _of_flac(path, flac))
        elif magic in (b"RIFF", b"RF64", b"BW64"):
            yield _checked(path, _wav(path, file))
        elif not magic:
            raise BadFileError(f"{path} is empty; leave it out")
        else:
            raise BadFileError(
                f"{path} is neither WAV nor FLAC: it begins with {magic!r}; {CONVERT}"
            )


def _checked(path: Path, sound: _Sound) -> _Sound:
    if not LOWEST_RATE <= sound.rate <= HIGHEST_RATE:
        raise BadFileError(
            f"{path} says that it has {sound.rate} samples a second, expected {LOWEST_RATE} to "
            f"{HIGHEST_RATE}; {CONVERT}"
        )
    if not 1 <= sound.channels <= MOST_CHANNELS:
        raise BadFileError(
            f"{path} says that it has {sound.channels} channels, expected 1 to {MOST_CHANNELS}; "
            f"{CONVERT}"
        )
    return sound


def _mono(
    path: Path, sound: _Sound, size: int, dequantise: np.random.Generator | None
) -> Iterator[np.ndarray]:
    """The mean of the channels, some samples at a time: float64 [N]."""
    length = 0
    while len(block := sound.read(size)):
        loud = ~(np.abs(block) <= LOUDEST)  # NaN, too
        if loud.any():
            raise BadFileError(
                f"{path} holds a sample of {block[loud][0]:g}, expected -1 to 1; scale it "
                "(integers of 16 bits by 1 / 32768), or leave it out"
            )
        length += len(block)
        samples = block.astype(np.float64)
        if dequantise is not None:
            samples += sound.step * dequantise.random(samples.shape)
        yield samples.mean(1)
    if sound.length is not None and length < sound.length:
        raise BadFileError(
            f"{path} ends after {length} of {sound.length} samples: it is not whole; copy it "
            f"again, {CONVERT}"
        )


def _filled(blocks: Iterator[np.ndarray], noise: np.random.Generator) -> Iterator[np.ndarray]:
    """Adds noise to samples, float32 [N], that fills the bands above a lower rate's."""
    for block in blocks:
        yield block + STEP_OF_FLOATS * noise.random(block.shape, np.float32)


def _ratio(path: Path, old: int, new: int) -> tuple[int, int]:
    """new / old in lowest terms.

    >>> _ratio(Path("a.wav"), 44_100, 16_000)
    (160, 441)
    """
    up, down = new // math.gcd(old, new), old // math.gcd(old, new)
    if max(up, down) > LARGEST_TERM:
        raise BadFileError(
            f"{path} has {old} samples a second, which cannot be resampled to {new}: expected "
            f"terms of their ratio up to {LARGEST_TERM}, got {up} / {down}; {CONVERT}"
        )
    return up, down


def resampled(blocks: Iterator[np.ndarray], up: int, down: int) -> Iterator[np.ndarray]:
    """`scipy.signal.resample_poly` of a signal that comes in blocks: float [N] -> float32 [M].

    Each call of it gets enough samples before and after those that it resamples; before the
    first they are zeros.
    """
    if up == down:
        yield from (block.astype(np.float32) for block in blocks)
        return
    from scipy.signal import firwin, resample_poly

    half = 10 * max(up, down)  # taps on either side, as resample_poly has it
    taps = firwin(2 * half + 1, 1 / max(up, down), window=("kaiser", 5.0))
    margin = down * math.ceil(half / (up * down))
    skip = margin // down * up
    held = np.zeros(margin)
    for block in blocks:
        held = np.concatenate([held, block])
        ready = (len(held) - 2 * margin) // down * down
        if ready > 0:
            done = resample_poly(held[: ready + 2 * margin], up, down, window=taps)
            yield done[skip : skip + ready // down * up].astype(np.float32)
            held = held[ready:]
    yield resample_poly(held, up, down, window=taps)[skip:].astype(np.float32)


def _grouped(blocks: Iterator[np.ndarray], size: int) -> Iterator[np.ndarray]:
    """Regroups samples, `size` at a time, fewer at the end.

    >>> [len(group) for group in _grouped(iter([np.zeros(3), np.zeros(4)]), 2)]
    [2, 2, 2, 1]
    """
    held: list[np.ndarray] = []
    length = 0
    for block in blocks:
        while length + len(block) >= size:
            cut = size - length
            yield np.concatenate([*held, block[:cut]])
            held, length, block = [], 0, block[cut:]
        if len(block):
            held.append(block)
            length += len(block)
    if held:
        yield np.concatenate(held)


def _wav(path: Path, file: BinaryIO) -> _Sound:
    """WAV: PCM of 8 to 32 bits and floats, with a header of 64-bit lengths (RF64) too; `file`
    is positioned after its first four bytes."""
    header, offset, size = _chunks(path, file)
    tag, channels, rate, _, width, bits = struct.unpack_from("<HHIIHH", header)
    if tag == EXTENSIBLE and len(header) >= 26:
        valid, tag = struct.unpack_from("<H", header, 18)[0], header[24] + 256 * header[25]
        bits = valid if 0 < valid <= bits else bits
    bytes_, rest = divmod(width, max(channels, 1))
    known = {PCM: (1, 2, 3, 4), FLOAT: (4, 8)}.get(tag, ())
    if bytes_ not in known or rest or not 0 < bits <= 8 * bytes_:
        raise BadFileError(
            f"{path} holds {CODECS.get(tag, 'codec')} {tag}, {bits} bits, {width} bytes for "
            f"{channels} channels, expected PCM of 8 to 32 bits or floats; {CONVERT}"
        )
    end = file.seek(0, 2)
    length = None if size >= NO_LENGTH and offset + size > end else size // width
    left = min(size, end - offset) // width * width
    file.seek(offset)

    def read(number: int) -> np.ndarray:
        nonlocal left
        data = file.read(min(number * width, left))
        data = data[: len(data) // width * width]
        left -= len(data)
        return _decoded(data, tag, bytes_).reshape(-1, channels)

    step = STEP_OF_FLOATS if tag == FLOAT else 2.0 ** (1 - bits)
    return _Sound(rate, channels, step, length, read)


def _decoded(data: bytes, tag: int, width: int) -> np.ndarray:
    """Samples of `width` bytes as floats [N], integers of full scale as -1 to 1."""
    if tag == FLOAT:
        return np.frombuffer(data, f"<f{width}")
    raw = np.frombuffer(data, np.uint8).reshape(-1, width)
    wide = np.zeros((len(raw), 4), np.uint8)
    wide[:, 4 - width :] = raw ^ 0x80 if width == 1 else raw  # one byte has no sign, but an offset
    return wide.view("<i4")[:, 0] / 2.0**31


def _chunks(path: Path, file: BinaryIO) -> tuple[bytes, int, int]:
    """The format chunk, the offset of the samples, and their declared size, both in bytes."""
    form, header, long = file.read(8)[4:], b"", None
    for _ in range(MOST_CHUNKS if form == b"WAVE" else 0):
        start = file.read(8)
        if len(start) < 8:
            break
        kind, size = struct.unpack("<4sI", start)
        begin = file.tell()
        if kind == b"data" and len(header) >= 16:
            return header, begin, size if long is None or size < 2**32 - 1 else long
        if kind == b"fmt ":
            header = file.read(min(size, LONGEST_FORMAT))
        if kind == b"ds64" and len(lengths := file.read(16)) == 16:
            long = struct.unpack("<QQ", lengths)[1]
        file.seek(begin + size + size % 2)
    raise BadFileError(
        f"{path} is a damaged WAV: expected a format and samples, got no "
        f"{'samples' if len(header) >= 16 else 'format'}; copy it again, {CONVERT}"
    )


@contextmanager
def _flac(path: Path) -> Iterator[Any]:
    """The file, opened by soundfile."""
    try:
        import soundfile
    except (ImportError, OSError) as error:  # OSError: no libsndfile
        raise RunError(
            f"reading {path} needs the package soundfile: pip install 'worldmodel-gym[audio]'"
        ) from error
    try:
        file = soundfile.SoundFile(str(path))
    except Exception as error:
        raise _damaged(path, error) from error
    with file:
        yield file


def _of_flac(path: Path, file: Any) -> _Sound:
    if file.frames >= NO_FRAMES:
        raise BadFileError(f"{path} does not say how many samples it has; {CONVERT}")

    def read(number: int) -> np.ndarray:
        try:
            return file.read(number, dtype="float64", always_2d=True)
        except Exception as error:
            raise _damaged(path, error) from error

    bits = {"PCM_S8": 8, "PCM_16": 16, "PCM_24": 24}[file.subtype]
    return _Sound(file.samplerate, file.channels, 2.0 ** (1 - bits), file.frames, read)


def _damaged(path: Path, error: Exception) -> BadFileError:
    reason = str(getattr(error, "error_string", error)).strip(" .")
    return BadFileError(f"{path} is a damaged FLAC ({reason}); copy it again, {CONVERT}")
