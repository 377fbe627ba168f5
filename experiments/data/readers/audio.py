"""Sound files, read in blocks: mono, at one rate, cut into frames of samples.

They are decoded by soundfile, that is libsndfile, in a process of its own: libsndfile 1.2 can hang
on damaged files (https://github.com/libsndfile/libsndfile/issues/1118).
"""

import math
import re
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from worldmodel.experiments.data.readers.confined import confined
from worldmodel.experiments.data.readers.files import BadFileError, Recording
from worldmodel.run_folder import RunError

SUFFIXES = (".wav", ".flac", ".aif", ".aiff", ".au", ".caf", ".mp3", ".ogg", ".opus")
LOWEST_RATE, HIGHEST_RATE = 1_000, 768_000  # Hz
PIECE = 2**24  # samples of one recording: longer files are several
BLOCK = 2**16  # samples that are read at a time
LARGEST_TERM = 20_000  # of the ratio of two rates in lowest terms: the filter is 20 times as long
MOST_CHANNELS = 64
LOUDEST = 8.0  # of a float file, where full scale is 1: 18 dB above it
NO_LENGTH = 0x7FFF0000  # bytes or more, of a .wav: written as a stream, of unknown length
NO_FRAMES = 2**36  # or more, of a .flac: soundfile's value for an unknown length
BITS = {"PCM_S8": 8, "PCM_U8": 8, "PCM_24": 24, "PCM_32": 32}  # others: 16, or taken for 16
STEP_OF_FLOATS = 2.0**-15
CONVERT = "convert it (ffmpeg -i IN OUT.wav), or leave it out"


def read_audio(
    path: Path, rate: int, frame: int, dequantise: np.random.Generator | None
) -> Iterator[Recording]:
    """The frames of a sound file, float32 [T, frame], full scale being -1 to 1.

    Whatever soundfile reads: WAV in all its codings, FLAC, AIFF, MP3, OGG and others.

    Channels are averaged. A file of another rate than `rate` (Hz) is resampled by a windowed
    sinc (`scipy.signal.resample_poly`), which may overshoot full scale a little, as float files
    may. A rest shorter than a frame is left out. A file of more than `PIECE` samples comes in
    several recordings; no more than one of them is held in memory.

    dequantise: its uniform noise is added to every sample of every channel before anything else,
    because integers that repeat have no bounded density. The noise fills the cell of an integer,
    [k, k + 1) of its steps: so samples stay in -1 to 1, and `write_wav` finds k again. Floats and
    what was compressed are taken for numbers of 16 bits (`STEP_OF_FLOATS`): steps of floats vanish
    near zero, where silence repeats exactly, while most were 16 bits before, or hold noise louder
    than that; and so likelihoods of all these compare. A file of a lower rate than `rate` has
    nothing above its own band, where densities would have no bound: it gets such noise of 16 bits
    after it was resampled, too.

    Raises BadFileError: for a file that ends early, after the recordings that are whole.
    """
    _check_contents(path)
    if find_spec("soundfile") is None:
        raise RunError(
            f"reading {path} needs the package soundfile: pip install 'worldmodel-gym[audio]'"
        )
    decoded = confined(_decoded, path, rate, BLOCK)
    sound: _Sound = next(decoded)
    blocks = resampled(_mono(decoded, sound.step, dequantise), *_ratio(path, sound.rate, rate))
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


def _check_contents(path: Path) -> None:
    try:
        with open(path, "rb") as file:
            if not file.read(1):
                raise BadFileError(f"{path} is empty; leave it out")
    except OSError as error:
        raise BadFileError(f"{path} cannot be read ({error.strerror}); leave it out") from error


class _Sound(NamedTuple):
    """The header of a file."""

    rate: int  # Hz
    channels: int
    step: float  # between neighbouring values, where full scale is -1 to 1
    length: int  # samples of each channel, as the header has it


def _decoded(path: Path, rate: int, block: int) -> Iterator[Any]:
    """A file's `_Sound`, then its samples, checked: float64 [N, channels], about `block` of them
    after they are resampled to `rate`."""
    import soundfile

    try:
        with soundfile.SoundFile(path) as file:
            sound = _checked(path, _header(file), rate)
            yield sound
            yield from _blocks(path, sound, file, max(1, block * min(sound.rate, rate) // rate))
    except soundfile.SoundFileError as error:
        reason = str(getattr(error, "error_string", error)).strip(" .")
        raise BadFileError(
            f"{path} is no sound that can be read ({reason}); copy it again, {CONVERT}"
        ) from error


def _header(file: Any) -> _Sound:
    """The header of an open file, some of which libsndfile tells in its log alone."""
    length, log = file.frames, file.extra_info
    declared = re.search(r"^ *(?:data|SSND|Data Size) *: (\d+) \(should be (\d+)", log, re.M)
    if declared and int(declared[1]) < NO_LENGTH:
        length = math.ceil(file.frames * int(declared[1]) / max(1, int(declared[2])))
    bits = BITS.get(file.subtype, 16)
    if valid := re.search(r"Valid Bits *: (\d+)", log):
        bits = min(bits, int(valid[1]) or bits)
    return _Sound(file.samplerate, file.channels, 2.0 ** (1 - bits), length)


def _checked(path: Path, sound: _Sound, rate: int) -> _Sound:
    if not LOWEST_RATE <= sound.rate <= HIGHEST_RATE:
        raise BadFileError(
            f"{path} says that it has {sound.rate} samples a second, expected {LOWEST_RATE} to "
            f"{HIGHEST_RATE}; {CONVERT}"
        )
    if sound.channels > MOST_CHANNELS:
        raise BadFileError(
            f"{path} says that it has {sound.channels} channels, expected 1 to {MOST_CHANNELS}; "
            f"{CONVERT}"
        )
    if sound.length >= NO_FRAMES:
        raise BadFileError(f"{path} does not say how many samples it has; {CONVERT}")
    _ratio(path, sound.rate, rate)
    return sound


def _blocks(path: Path, sound: _Sound, file: Any, size: int) -> Iterator[np.ndarray]:
    length = 0
    while len(block := file.read(size, "float64", always_2d=True)):
        loud = ~(np.abs(block) <= LOUDEST)  # NaN, too
        if loud.any():
            raise BadFileError(
                f"{path} holds a sample of {block[loud][0]:g}, expected -1 to 1; scale it "
                "(integers of 16 bits by 1 / 32768), or leave it out"
            )
        length += len(block)
        yield block
    if length < sound.length:
        raise BadFileError(
            f"{path} ends after {length} of about {sound.length} samples: it is not whole; copy "
            f"it again, {CONVERT}"
        )


def _mono(
    blocks: Iterator[np.ndarray], step: float, dequantise: np.random.Generator | None
) -> Iterator[np.ndarray]:
    """The mean of the channels: float64 [N, channels] -> [N]."""
    for samples in blocks:
        if dequantise is not None:
            samples = samples + step * dequantise.random(samples.shape)
        yield samples.mean(1)


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
