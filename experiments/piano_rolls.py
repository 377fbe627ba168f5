"""Piano rolls: a recording is a world that nobody steers.

Reads the four sets of Boulanger-Lewandowski et al. 2012 (https://arxiv.org/abs/1206.6392), one
.npz each: `{train,valid,test}_roll` [frames, 88] of 0 and 1 (column j is MIDI pitch 21 + j), the
recordings of a split one after another, and `{train,valid,test}_len` [recordings], their frames.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from experiments.run import RunError
from worldmodel import Row, Sequences

PITCHES = 88
SPLITS = ("train", "valid", "test")
FILES = {
    "JSB": "JSB_Chorales.npz",
    "Nottingham": "Nottingham.npz",
    "MuseData": "MuseData.npz",
    "Piano-midi": "Piano_midi.npz",
}


class Rolls:
    """Recordings, one after another."""

    def __init__(self, frames: np.ndarray, lengths: np.ndarray):
        """frames: bool [N, 88]; lengths: int64 [recordings], in frames, that add up to N."""
        self.frames = frames
        self.lengths = lengths
        self.starts = np.cumsum(lengths) - lengths

    def __len__(self) -> int:
        return len(self.lengths)

    @property
    def rates(self) -> np.ndarray:
        """How often each pitch sounds a frame, float64 [88]; half a frame with it and half a one
        without are counted too, so that no rate is 0 or 1."""
        return (self.frames.sum(0) + 0.5) / (len(self.frames) + 1)

    def cut(self, length: int) -> "Rolls":
        """The same frames in recordings of at most `length` frames, for learning from long ones.

        >>> Rolls(np.zeros((7, 88), bool), np.array([5, 2])).cut(2).lengths
        array([2, 2, 1, 2])
        """
        pieces = [np.minimum(length, n - np.arange(0, n, length)) for n in self.lengths]
        return Rolls(self.frames, np.concatenate(pieces))

    def sequences(self, chosen: np.ndarray | None = None) -> Sequences:
        """Whole recordings (all of them by default), padded: [T, B, ...].

        Nobody acts: actions have size 0. Every frame is scored, the first too.
        """
        chosen = np.arange(len(self)) if chosen is None else chosen
        lengths = self.lengths[chosen]
        times = np.arange(lengths.max())[:, None]
        index = self.starts[chosen] + np.minimum(times, lengths - 1)  # [T, B]
        mask = torch.from_numpy(times < lengths)
        nothing = torch.zeros(mask.shape)
        first = torch.from_numpy(times == 0).expand_as(mask)
        observation = torch.from_numpy(self.frames[index])  # bool [T, B, 88]
        rows = Row(first, nothing[..., None][..., :0], observation, nothing, nothing.bool())
        return Sequences(rows, mask, mask)

    def batches(self, size: int, random: np.random.Generator) -> Iterator[Sequences]:
        """Batches of `size` recordings, epoch after epoch, without end.

        Each epoch takes every recording once. Recordings of about the same length come together,
        since padding costs time; lengths are blurred, so that neighbours change.
        """
        while True:
            blurred = self.lengths * random.uniform(0.8, 1.25, len(self))
            order = np.argsort(blurred)
            parts = np.array_split(order, max(1, round(len(order) / size)))
            for number in random.permutation(len(parts)):
                yield self.sequences(parts[number])


def read(folder: Path, name: str) -> dict[str, Rolls]:
    """The splits of the set `name`, by name; what is wrong with its file is said in a sentence."""
    path = folder / FILES[name]
    if not path.is_file():
        raise RunError(
            f"there is no {path}; name the folder that holds {FILES[name]} with --data "
            "(docs/results.md says what is in it)"
        )
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = dict(file)
    except Exception as error:
        raise RunError(f"{path} cannot be read: {error}") from error
    return {split: _split(path, split, arrays) for split in SPLITS}


def _split(path: Path, split: str, arrays: dict[str, Any]) -> Rolls:
    """One split of a file, checked."""
    names = (f"{split}_roll", f"{split}_len")
    missing = [name for name in names if name not in arrays]
    if missing:
        raise RunError(
            f"{path} expects an array {missing[0]}, got only {', '.join(sorted(arrays))}"
        )
    frames, lengths = (arrays[name] for name in names)
    if frames.ndim != 2 or frames.shape[1] != PITCHES or not np.isin(frames, (0, 1)).all():
        raise RunError(
            f"{path}: {names[0]} expects 0 and 1 of shape [frames, {PITCHES}], "
            f"got {frames.dtype} {list(frames.shape)}"
        )
    if (
        lengths.ndim != 1
        or not len(lengths)
        or lengths.dtype.kind not in "iu"
        or lengths.min() < 1
    ):
        raise RunError(
            f"{path}: {names[1]} expects the frames of each recording, one or more, "
            f"got {lengths.dtype} {list(lengths.shape)}"
        )
    if lengths.sum() != len(frames):
        raise RunError(
            f"{path}: {names[1]} adds up to {lengths.sum()} frames, but {names[0]} has "
            f"{len(frames)}"
        )
    return Rolls(frames.astype(bool), lengths.astype(np.int64))
