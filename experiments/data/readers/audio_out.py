"""Generated sound: written as .wav, drawn as spectrograms."""

import wave
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from worldmodel.experiments.runs.pictures import check_picture
from worldmodel.files import RunError, writing

WINDOW = 0.032  # seconds of one column of a spectrogram, about
COLUMNS = 2_000  # of a long signal, at most
RANGE = 80.0  # dB below the loudest that are distinguished


def write_wav(path: Path, samples: np.ndarray, rate: int) -> float:
    """Writes samples, float [N] in -1 to 1, as 16-bit PCM, mono, the whole file or none.

    A sample becomes the integer in whose cell it lies, [k, k + 1) / 32768, as in `read_audio`.
    Returns the share of samples that had to be clipped, those beyond -1 to 1.
    """
    if not np.isfinite(samples).all():
        raise RunError(f"{path} is not written: its samples are not all finite numbers")
    integers = np.clip(np.floor(samples * 32768.0), -32768, 32767).astype("<i2")
    with writing(path) as part, wave.open(str(part), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(integers.tobytes())
    return float(np.mean(np.abs(samples) > 1)) if len(samples) else 0.0


def draw_spectrogram(path: Path, signals: Sequence[tuple[str, np.ndarray]], rate: int) -> None:
    """Draws the power of signals, each a label and float [N], N >= 1, over time and frequency.

    They stand under one another on one scale: dB below the loudest of them all. A full-scale
    sine is 0 dB at most. Needs matplotlib.
    """
    check_picture(path, "a spectrogram")
    from matplotlib.figure import Figure

    pictures = [decibels(samples, rate) for _, samples in signals]  # each [F, T]
    loudest = max(picture.max() for picture in pictures)
    longest = max(len(samples) for _, samples in signals) / rate
    figure = Figure(figsize=(9, 0.6 + 2.4 * len(signals)), layout="constrained")
    rows = figure.subplots(len(signals), squeeze=False, sharex=True)[:, 0]
    for axes, (label, samples), picture in zip(rows, signals, pictures, strict=True):
        image = axes.imshow(
            picture,
            origin="lower",
            aspect="auto",
            extent=(0, len(samples) / rate, 0, rate / 2000),
            vmin=loudest - RANGE,
            vmax=loudest,
            cmap="magma",
        )
        axes.set(title=label, ylabel="frequency, kHz", xlim=(0, longest))
    rows[-1].set_xlabel("time, s")
    figure.colorbar(image, ax=rows, label="power, dB")
    with writing(path) as part:
        figure.savefig(part, dpi=120)


def decibels(samples: np.ndarray, rate: int) -> np.ndarray:
    """Power in dB, [F, T], of windows of about `WINDOW` seconds, frequencies 0 to rate / 2; a
    sine of amplitude 1 at the frequency of a row has 0 dB there. Silence is -200 dB."""
    size = min(2 ** round(np.log2(WINDOW * rate)), len(samples))
    hop = max(size // 4, len(samples) // COLUMNS, 1)
    shape = np.hanning(size + 2)[1:-1]
    windows = np.lib.stride_tricks.sliding_window_view(samples, size)[::hop]  # [T, size]
    amplitude = 2 * np.abs(np.fft.rfft(windows * shape)) / shape.sum()
    return 20 * np.log10(np.maximum(amplitude, 1e-10)).T
