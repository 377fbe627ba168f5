"""Arrays of untrusted .npz files: declared sizes and types are checked before they are used.

Arrays of arrays (drawings of different lengths) are pickled, and a pickle is a program. Here it
is never run: `pickletools` parses it, and only what numpy writes into one is rebuilt.
"""

import io
import math
import pickletools
import re
import warnings
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib import format as npy

from worldmodel.experiments.data.readers.files import BadFileError, reason_of

MOST_TIMES = 100  # a file may be packed to this part of its size,
SPARE_BYTES = 2**20  # and be this much larger: so small files always pass
METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)  # numpy's; others may allocate any memory
NUMBERS = "iuf"  # kinds of numpy's types
MOST_DIMENSIONS = 4
LONGEST_NAME = 80

Arrays = dict[str, np.ndarray | list[np.ndarray]]


def read_arrays(path: Path, most: int = 0) -> Arrays:
    """The arrays of numbers of an .npz file by name, and lists of those that are arrays of arrays.

    most: bytes that arrays may have however tightly they are packed. Truth values are read as 0
    and 1. Raises BadFileError, and nothing else, for whatever is in the file.
    """
    try:
        with warnings.catch_warnings(), zipfile.ZipFile(path) as archive:
            warnings.simplefilter("ignore")  # numpy's on headers that an old Python wrote
            members = [member for member in archive.infolist() if member.filename.endswith(".npy")]
            _check(path, members, most)
            return {m.filename[:-4]: _array(archive.read(m)) for m in members}
    except BadFileError:
        raise
    except Exception as error:  # zipfile, zlib, numpy and pickletools raise a dozen kinds
        raise BadFileError(
            f"{path} expects the arrays of an .npz file and cannot be read: {reason_of(error)}; "
            f"it is damaged or no .npz, so write or fetch it again"
        ) from error


def cut(path: Path, arrays: Arrays, name: str, lengths_name: str) -> list[np.ndarray]:
    """The recordings [T, ...] that are concatenated in the array `name` [N, ...]; the array
    `lengths_name` [recordings] has the rows of each, checked to add up to N."""
    rows, lengths = arrays[name], arrays.get(lengths_name)
    what = f"{path} expects in {lengths_name} the rows of each recording of {name}, one or more"
    if lengths is None:
        raise BadFileError(f"{what}, got only {', '.join(sorted(arrays))[:200]}; add it")
    if isinstance(lengths, list) or lengths.ndim != 1 or lengths.dtype.kind not in "iu":
        got = "a list" if isinstance(lengths, list) else f"{lengths.dtype} {list(lengths.shape)}"
        raise BadFileError(f"{what}, got {got}; give whole numbers [recordings]")
    sizes: list[int] = lengths.tolist()
    if min(sizes, default=0) < 1:
        got = str(min(sizes, default="none"))
        raise BadFileError(f"{what}, got {got}; leave empty recordings out")
    if sum(sizes) != len(rows):
        raise BadFileError(
            f"{what}, but they add up to {sum(sizes)} of its {len(rows)} rows; give every row to "
            f"one recording"
        )
    return np.split(rows, np.cumsum(sizes)[:-1])


def _check(path: Path, members: list[zipfile.ZipInfo], most: int) -> None:
    """Raises BadFileError for arrays that are too large, oddly packed or oddly named."""
    size = path.stat().st_size
    unpacked = sum(member.file_size for member in members)
    if unpacked > max(most, MOST_TIMES * size + SPARE_BYTES):
        raise BadFileError(
            f"{path} expects arrays of at most {MOST_TIMES} times its {size:,} bytes"
            f"{f' or {most:,} bytes' * bool(most)}, but would unpack to {unpacked:,}; if they are "
            f"meant, write it again with np.savez"
        )
    for member in members:
        if len(member.filename) > LONGEST_NAME or not member.filename.isprintable():
            raise BadFileError(
                f"{path} expects arrays with names of at most {LONGEST_NAME} letters, got "
                f"{member.filename[:LONGEST_NAME]!r}; write it again with np.savez"
            )
        if member.compress_type not in METHODS:
            raise BadFileError(
                f"{path} expects arrays packed as numpy packs them, got method "
                f"{member.compress_type} for {member.filename}; write it again with "
                f"np.savez_compressed"
            )


def _array(data: bytes) -> np.ndarray | list[np.ndarray]:
    """The array of one .npy, whose size is checked before any memory is allocated."""
    file = io.BytesIO(data)
    version = npy.read_magic(file)
    read = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}
    shape, fortran, dtype = read[version](file)
    rest = data[file.tell() :]
    if dtype.hasobject:
        return unpickle(rest)
    return _numbers(rest, dtype, shape, fortran)


def _numbers(data: bytes, dtype: np.dtype, shape: tuple[int, ...], fortran: bool) -> np.ndarray:
    """An array of numbers, checked. shape: as declared."""
    dtype = np.dtype(np.uint8) if dtype.kind == "b" else dtype
    if dtype.kind not in NUMBERS or dtype.itemsize > 8:
        raise ValueError(f"expected an array of numbers, got one of {dtype}")
    if len(shape) > MOST_DIMENSIONS or min(shape, default=0) < 0:
        raise ValueError(f"expected at most {MOST_DIMENSIONS} dimensions, got {list(shape)}")
    if math.prod(shape) * dtype.itemsize != len(data):
        raise ValueError(f"{dtype} {list(shape)} does not fit into its {len(data)} bytes")
    return np.frombuffer(data, dtype).reshape(shape, order="F" if fortran else "C")


class _Type:
    """Stands for `numpy.dtype` in a pickle."""

    def __init__(self, arguments: tuple):
        self.code = arguments[0]
        self.order = "="

    def build(self, state: tuple) -> None:
        self.order = state[1]

    @property
    def dtype(self) -> np.dtype:
        if not re.fullmatch(r"[<>=|][iuf][1248]", self.order + self.code):
            raise ValueError(f"expected numbers in a pickled array, got type {self.code!r}")
        return np.dtype(self.order + self.code)


class _Array:
    """Stands for `numpy.ndarray` in a pickle. Its content is checked when all is read."""

    shape: tuple
    type: _Type
    fortran: bool
    data: bytes | str | list = b""  # str: the bytes of Python 2

    def __init__(self, arguments: tuple):
        """arguments: of numpy's empty array, ignored."""

    def build(self, state: tuple) -> None:
        _, self.shape, self.type, self.fortran, self.data = state

    def numbers(self) -> np.ndarray:
        data = self.data.encode("latin-1") if isinstance(self.data, str) else self.data
        if not isinstance(data, bytes):
            raise ValueError("expected an array of arrays of numbers, but it goes on deeper")
        return _numbers(data, self.type.dtype, self.shape, bool(self.fortran))


def _bytes(arguments: tuple) -> str:
    """Stands for `codecs.encode`, by which Python 3 pickles bytes for Python 2."""
    return arguments[0]


KNOWN = {
    "numpy.core.multiarray _reconstruct": _Array,
    "numpy._core.multiarray _reconstruct": _Array,
    "numpy ndarray": _Array,
    "numpy dtype": _Type,
    "_codecs encode": _bytes,
}
CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False, "EMPTY_TUPLE": ()}


def unpickle(data: bytes) -> list[np.ndarray]:
    """The arrays of numbers in a pickled array of arrays, in order.

    Raises ValueError (or what any lookup raises) if that is not what is pickled.
    """
    top = _rebuild(data)
    if not (isinstance(top, _Array) and isinstance(top.data, list)):
        raise ValueError(f"expected an array of arrays, got a pickled {type(top).__name__}")
    arrays = [item for item in top.data if isinstance(item, _Array)]
    if len(arrays) != len(top.data):
        raise ValueError("expected an array of arrays of numbers, but it holds something else")
    if sum(len(array.data) for array in arrays) > len(data):
        raise ValueError("its arrays say the same bytes again and again")
    return [array.numbers() for array in arrays]


def _rebuild(data: bytes) -> Any:
    """The object of a pickle that has only opcodes and names that numpy writes for arrays."""
    stack: list[Any] = []
    below: list[list[Any]] = []  # what lies under each mark
    memo: dict[int, Any] = {}
    value: Any
    for opcode, value, _ in pickletools.genops(data):
        match opcode.name:
            case "PROTO" | "FRAME" | "STOP":
                pass
            case "INT" | "BININT" | "BININT1" | "BININT2" | "LONG1":
                stack.append(value)
            case "BINSTRING" | "SHORT_BINSTRING" | "BINUNICODE" | "SHORT_BINUNICODE":
                stack.append(value)
            case "BINBYTES" | "SHORT_BINBYTES" | "BINBYTES8":
                stack.append(value)
            case "NONE" | "NEWTRUE" | "NEWFALSE" | "EMPTY_TUPLE":
                stack.append(CONSTANTS[opcode.name])
            case "EMPTY_LIST":
                stack.append([])
            case "MARK":
                below.append(stack)
                stack = []
            case "TUPLE":
                items, stack = stack, below.pop()
                stack.append(tuple(items))
            case "TUPLE1" | "TUPLE2" | "TUPLE3":
                size = int(opcode.name[-1])
                stack[-size:] = [tuple(stack[-size:])]
            case "APPEND":
                item = stack.pop()
                stack[-1].append(item)
            case "APPENDS":
                items, stack = stack, below.pop()
                stack[-1].extend(items)
            case "MEMOIZE":
                memo[len(memo)] = stack[-1]
            case "PUT" | "BINPUT" | "LONG_BINPUT":
                memo[value] = stack[-1]
            case "GET" | "BINGET" | "LONG_BINGET":
                stack.append(memo[value])
            case "GLOBAL":
                stack.append(_known(value))
            case "STACK_GLOBAL":
                stack[-2:] = [_known(" ".join(stack[-2:]))]
            case "REDUCE":
                function, arguments = stack[-2:]
                stack[-2:] = [function(arguments)]
            case "BUILD":
                state = stack.pop()
                stack[-1].build(state)
            case other:
                raise ValueError(f"its pickle says {other}, which no array of numpy needs")
    (top,) = stack
    return top


def _known(name: str) -> Any:
    if name not in KNOWN:
        raise ValueError(f"its pickle asks for {name!r}, which no array of numpy needs")
    return KNOWN[name]
