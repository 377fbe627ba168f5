"""Statistics, pictures and sound of piano rolls (bool [T, P]; column j is MIDI pitch low + j)."""

from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

import numpy as np

from worldmodel.experiments.data.readers.midi import notes_of
from worldmodel.experiments.runs.pictures import check_picture
from worldmodel.files import writing

OCTAVE = 12
MOST_LINES = 64  # across a picture, of beats
INCHES_A_PITCH, MARGIN = 0.055, 0.6  # of a picture's height

# A plucked sound: partials with amplitudes 1 / k, that decay the faster the higher they are.
PARTIALS = 6
DECAY = 1.5  # a second, of the first partial
ATTACK, RELEASE = 0.006, 0.04  # seconds
LOUDEST = 0.9


class Statistics(NamedTuple):
    """Statistics by which generated and recorded music are compared."""

    notes_a_frame: float
    pitch_classes: np.ndarray  # [12], shares from C on, that add up to 1; NaN where nothing sounds


def statistics(rolls: Sequence[np.ndarray], low: int) -> Statistics:
    """Statistics of all frames of all rolls, each [T, P].

    >>> statistics([np.eye(2, dtype=bool)], 60).pitch_classes[:3]
    array([0.5, 0.5, 0. ])
    """
    frames = sum(len(roll) for roll in rolls)
    counts = np.sum([roll.sum(0) for roll in rolls], axis=0)  # [P]
    classes = np.bincount((low + np.arange(len(counts))) % OCTAVE, counts, OCTAVE)
    notes = counts.sum()
    shares = classes / notes if notes else np.full(OCTAVE, np.nan)
    return Statistics(float(notes / frames), shares)


def total_variation(p: np.ndarray, q: np.ndarray) -> float:
    """Total variation distance of two distributions: the largest difference in the probability of
    any event.

    >>> total_variation(np.array([0.5, 0.5]), np.array([1.0, 0.0]))
    0.5
    """
    return float(np.abs(p - q).sum() / 2)


def draw_rolls(
    path: Path, rolls: Sequence[tuple[str, np.ndarray]], low: int, steps_per_beat: int
) -> None:
    """Draws labelled rolls under one another: pitch over time in beats, a line at each beat
    (each fourth, sixteenth, ... where there are many) and at each C. Needs matplotlib."""
    check_picture(path, "a piano roll's picture")
    from matplotlib.figure import Figure

    lowest, highest = _range([roll for _, roll in rolls], low)
    octaves = range(lowest, highest + 1, OCTAVE)
    beats = max(len(roll) for _, roll in rolls) / steps_per_beat
    spacing = 1
    while beats / spacing > MOST_LINES:
        spacing *= 4
    height = MARGIN + (highest - lowest) * INCHES_A_PITCH
    figure = Figure(figsize=(10, height * len(rolls)), layout="constrained")
    all_axes = figure.subplots(len(rolls), squeeze=False)[:, 0]
    for axes, (label, roll) in zip(all_axes, rolls, strict=True):
        for column, notes in groupby(notes_of(roll), lambda note: note[0]):
            spans = [(b / steps_per_beat, (e - b) / steps_per_beat) for _, b, e in notes]
            axes.broken_barh(spans, (low + column - 0.45, 0.9))
        axes.axvspan(len(roll) / steps_per_beat, beats, color="0.93")  # after its end
        axes.set(xlim=(0, beats), ylim=(lowest - 0.5, highest + 0.5), axisbelow=True)
        axes.set_xticks(np.arange(0, beats, spacing), minor=True)
        axes.set_xticks(np.arange(0, beats, 4 * spacing))
        axes.set_yticks(octaves, [f"C{pitch // OCTAVE - 1}" for pitch in octaves])
        axes.grid(axis="x", which="minor", color="0.88", linewidth=0.6)
        axes.grid(color="0.75", linewidth=0.6)
        axes.set_title(label, loc="left", fontsize="medium")
    all_axes[-1].set_xlabel("beats")
    with writing(path) as part:
        figure.savefig(part, dpi=120)


def _range(rolls: Sequence[np.ndarray], low: int) -> tuple[int, int]:
    """The pitches of a picture: all that sound, and whole octaves."""
    sounding = np.any([roll.any(0) for roll in rolls], axis=0).nonzero()[0]
    lowest, highest = (sounding[0], sounding[-1]) if len(sounding) else (60 - low, 60 - low)
    return (
        (low + int(lowest)) // OCTAVE * OCTAVE,
        ((low + int(highest)) // OCTAVE + 1) * OCTAVE,
    )


def synthesise(
    roll: np.ndarray, low: int, steps_per_beat: int, rate: int, tempo: float = 120.0
) -> np.ndarray:
    """The sound of a roll, float32 [samples] in [-0.9, 0.9]; tempo: quarter notes a minute.

    Each note is a sum of decaying partials (those below half the rate), faded in and out.
    """
    seconds = 60 / tempo / steps_per_beat  # a step
    samples = np.zeros(round(len(roll) * seconds * rate) + round(RELEASE * rate), np.float32)
    for column, begin, end in notes_of(roll):
        start, stop = round(begin * seconds * rate), round(end * seconds * rate)
        time = np.arange(stop - start + round(RELEASE * rate)) / rate
        frequency = 440 * 2 ** ((low + column - 69) / OCTAVE)
        samples[start : start + len(time)] += _tone(time, frequency, rate) * _envelope(time)
    loudest = np.abs(samples).max(initial=0)
    return samples * (LOUDEST / loudest) if loudest > LOUDEST else samples


def _tone(time: np.ndarray, frequency: float, rate: int) -> np.ndarray:
    partials = [k for k in range(1, PARTIALS + 1) if k * frequency < rate / 2]
    return np.sum(
        [
            np.exp(-DECAY * k * time) / k * np.sin(2 * np.pi * k * frequency * time)
            for k in partials
        ],
        axis=0,
    )


def _envelope(time: np.ndarray) -> np.ndarray:
    """Amplitudes that rise linearly from 0 to 1 and at the end fall back to 0."""
    rise = time / ATTACK
    fall = (time[-1] - time) / RELEASE
    return np.minimum(1, np.minimum(rise, fall))
