"""Arrays of MATLAB's files, as far as recordings need them: matrices in cell arrays.

The format is that of "MAT-File Format" (The MathWorks), level 5, which `save -v7` and
`scipy.io.savemat` write: elements of a tag (data type, bytes) and data, padded to 8 bytes.
scipy.io.loadmat is not used, since it trusts declared sizes: on a damaged file of 1.4 kB it spends
five minutes and gigabytes.
"""

import math
import zlib
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

HEADER = 128  # bytes: 124 of text, 2 of version, 2 of byte order
LEVEL_5 = {b"\x00\x01IM": "<", b"\x01\x00MI": ">"}
MATRIX, COMPRESSED = 14, 15  # data types that hold others
NUMBERS = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8"}
NUMBERS |= {12: "i8", 13: "u8"}
CELLS, NUMERIC = 1, range(6, 16)  # classes of arrays
COMPLEX = 0x08  # in the byte of flags
INT32, UINT32 = 5, 6


class DamageError(Exception):
    """Damage of a file, as a message after its name: "expects ..., got ...: do ..."."""


class Matrix(NamedTuple):
    """An array whose content is not parsed yet."""

    name: str
    shape: tuple[int, ...]
    kind: int  # class of the array
    flags: int
    content: memoryview
    order: str  # of bytes


def matrices(data: bytes, most: int) -> Iterator[Matrix]:
    """The variables of a file, each at most `most` bytes long when uncompressed."""
    order = LEVEL_5.get(data[124:HEADER])
    if order is None:
        raise DamageError(
            "expects a MAT-file of level 5, got another or a damaged one; save it by `save -v7` "
            "(not -v7.3, which is HDF5), or by scipy.io.savemat"
        )
    at = HEADER
    view = memoryview(data)
    while at < len(data):
        kind, content, at = _element(view, at, order)
        if kind == COMPRESSED:
            kind, content, _ = _element(_inflated(content, most), 0, order)
        if kind == MATRIX:
            yield _matrix(content, order)


def cells(matrix: Matrix) -> Iterator[np.ndarray]:
    """The matrices that a cell array holds, in the order of memory."""
    if matrix.kind != CELLS:
        raise DamageError(
            f"expects a cell array, got an array of class {matrix.kind}; save it as one"
        )
    at = 0
    for _ in range(math.prod(matrix.shape)):
        kind, content, at = _element(matrix.content, at, matrix.order)
        if kind != MATRIX:
            raise DamageError(f"expects matrices in cells, got data of type {kind}; save it anew")
        yield numbers(_matrix(content, matrix.order))


def numbers(matrix: Matrix) -> np.ndarray:
    """A matrix of real numbers."""
    if matrix.kind not in NUMERIC or matrix.flags & COMPLEX or len(matrix.shape) != 2:
        raise DamageError(
            f"expects matrices of real numbers, got an array of class {matrix.kind} in "
            f"{len(matrix.shape)} dimensions; save it as one"
        )
    kind, content, _ = _element(matrix.content, 0, matrix.order)
    values = _numbers(kind, content, matrix.order)
    if len(values) != math.prod(matrix.shape):
        raise DamageError(
            f"expects numbers of shape {matrix.shape}, got {len(values)} of them; save it anew"
        )
    return values.reshape(matrix.shape, order="F")


def _matrix(content: memoryview, order: str) -> Matrix:
    kind, flags, at = _element(content, 0, order)
    if kind != UINT32 or len(flags) != 8:
        raise DamageError("expects the flags of an array, got something else; save it anew")
    word = int(_numbers(UINT32, flags, order)[0])
    kind, shape, at = _element(content, at, order)
    if kind not in (INT32, UINT32):
        raise DamageError("expects the shape of an array, got something else; save it anew")
    sizes = tuple(_numbers(kind, shape, order).tolist())
    if len(sizes) < 2 or min(sizes) < 0:
        raise DamageError(f"expects the shape of an array, got {sizes[:8]}; save it anew")
    _, name, at = _element(content, at, order)
    text = bytes(name).decode("latin-1")
    return Matrix(text, sizes, word & 0xFF, word >> 8 & 0xFF, content[at:], order)


def _element(data: memoryview, at: int, order: str) -> tuple[int, memoryview, int]:
    """Data type and content of the element at a place, and the place after it."""
    if at + 8 > len(data):
        raise DamageError("ends too early; it is cut off or damaged, save it anew")
    kind, size = _numbers(UINT32, data[at : at + 8], order).tolist()
    begin = at + 8
    if kind >> 16:  # four bytes or less are within the tag
        kind, size, begin = kind & 0xFFFF, kind >> 16, at + 4
        after = at + 8
    else:
        after = begin + size if kind == COMPRESSED else begin + (size + 7) // 8 * 8
    if begin + size > min(after, len(data)):
        raise DamageError("ends too early; it is cut off or damaged, save it anew")
    return kind, data[begin : begin + size], after


def _numbers(kind: int, content: memoryview, order: str) -> np.ndarray:
    if kind not in NUMBERS:
        raise DamageError(f"expects numbers, got data of type {kind}; save it anew")
    dtype = np.dtype(order + NUMBERS[kind])
    if len(content) % dtype.itemsize:
        raise DamageError(f"expects whole numbers of {dtype.itemsize} bytes each; save it anew")
    return np.frombuffer(content, dtype)


def _inflated(content: memoryview, most: int) -> memoryview:
    inflater = zlib.decompressobj()
    try:
        data = inflater.decompress(content, most)
    except zlib.error as error:
        raise DamageError(f"is damaged ({error}); save it anew") from error
    if not inflater.eof:
        if inflater.unconsumed_tail:
            raise DamageError(f"expects variables of at most {most:,} bytes; save smaller ones")
        raise DamageError("ends too early; it is cut off or damaged, save it anew")
    return memoryview(data)
