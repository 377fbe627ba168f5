"""Mutations of files: the accidents of disks and copies, and contents that nothing has written.

A mutation changes one file, at places and in ways that a generator draws.
"""

import io
import json
import os
import shutil
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib import format as npy

from worldmodel.checkpoint import DESCRIPTION, FILES, VALUES, list_checkpoints
from worldmodel.files import CHECKSUM

Random = np.random.Generator
Mutation = Callable[[Path, Random, Sequence[Path]], None]  # the last: files of others, same name

HUGE = 2**40  # bytes
DEEP = 100_000
PLACE = "a place of its own"
WRONG: tuple[Any, ...] = (
    *(None, True, -1, 0, 3, 0.5, 2**31, 2**70, -(2**63), 1e308, 10**400, float("nan")),
    *(float("inf"), "", "x", "nan", "../x", "/dev/zero", "x:y", "os:system", "x" * 100_000),
    *([], {}, [None], [[1, [2]]], {"x": None}, ["x", 3], [0.5] * 1_000),
)
"""Values that may stand where another is expected."""


# Accidents.


def flipped(file: Path, random: Random, others: Sequence[Path]) -> None:
    """Changes one bit."""
    raw = bytearray(file.read_bytes())
    raw[random.integers(len(raw))] ^= 1 << random.integers(8)
    file.write_bytes(raw)


def cut(file: Path, random: Random, others: Sequence[Path]) -> None:
    """Leaves a beginning."""
    os.truncate(file, random.integers(file.stat().st_size))


def emptied(file: Path, random: Random, others: Sequence[Path]) -> None:
    os.truncate(file, 0)


def zeroed(file: Path, random: Random, others: Sequence[Path]) -> None:
    """Puts zeros in the place of the end, as a file system does after a loss of power."""
    size = file.stat().st_size
    os.truncate(file, random.integers(size))
    os.truncate(file, size)


def with_garbage(file: Path, random: Random, others: Sequence[Path]) -> None:
    """Appends bytes."""
    with open(file, "ab") as end:
        end.write(random.bytes(random.integers(1, 200)))


def swapped(file: Path, random: Random, others: Sequence[Path]) -> None:
    """Swaps two blocks."""
    raw = file.read_bytes()
    size = int(random.integers(1, max(2, min(512, len(raw) // 2))))
    blocks = [raw[begin : begin + size] for begin in range(0, len(raw), size)]
    one, other = random.integers(len(blocks), size=2)
    blocks[one], blocks[other] = blocks[other], blocks[one]
    file.write_bytes(b"".join(blocks))


def removed(file: Path, random: Random, others: Sequence[Path]) -> None:
    file.unlink()


def of_another(file: Path, random: Random, others: Sequence[Path]) -> None:
    """Puts a file of another run, or of an older checkpoint, in its place."""
    shutil.copyfile(others[random.integers(len(others))], file)


def piped(file: Path, random: Random, others: Sequence[Path]) -> None:
    file.unlink()
    os.mkfifo(file)


def made_a_folder(file: Path, random: Random, others: Sequence[Path]) -> None:
    file.unlink()
    file.mkdir()


def dangling(file: Path, random: Random, others: Sequence[Path]) -> None:
    """Makes it a link to nothing."""
    file.unlink()
    file.symlink_to("nowhere")


def linked(file: Path, random: Random, others: Sequence[Path]) -> None:
    """Makes it a link to what it was, out of the folder."""
    away = file.parents[-1] / "tmp" / f"away-{os.getpid()}"
    shutil.move(file, away)
    file.symlink_to(away)


def huge(file: Path, random: Random, others: Sequence[Path]) -> None:
    """Makes it a terabyte, of nothing."""
    os.truncate(file, HUGE)


def forbidden(file: Path, random: Random, others: Sequence[Path]) -> None:
    """Takes all permissions."""
    file.chmod(0)


ACCIDENTS = (
    *(flipped, cut, emptied, zeroed, with_garbage, swapped, removed, of_another, piped),
    *(made_a_folder, dangling, linked, huge, forbidden),
)


# JSON.


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The paths of all that is in a value of JSON, itself included."""
    yield path
    pairs: Any = ()
    if isinstance(value, dict):
        pairs = value.items()
    elif isinstance(value, list):
        pairs = enumerate(value)
    for key, part in pairs:
        yield from places(part, (*path, key))


def put(value: Any, path: tuple[Any, ...], leaf: Any) -> Any:
    """The value with another part at a path."""
    if not path:
        return leaf
    part = value
    for key in path[:-1]:
        part = part[key]
    part[path[-1]] = leaf
    return value


def _described(change: Callable[[Any, Random], Any]) -> Mutation:
    """A mutation of one object of JSON of a file, or of a line of it."""

    def mutation(file: Path, random: Random, others: Sequence[Path]) -> None:
        text = file.read_text()
        lines = text.splitlines() if file.suffix == ".jsonl" else [text]
        line = int(random.integers(len(lines)))
        changed = json.dumps(change(json.loads(lines[line]), random))
        deep = DEEP * "[" + DEEP * "]"
        lines[line] = changed.replace(json.dumps(PLACE), deep)
        file.write_text("\n".join(lines) + "\n")

    mutation.__name__ = getattr(change, "__name__", "").strip("_")
    return mutation


def _any_place(value: Any, random: Random) -> tuple[Any, ...]:
    paths = [path for path in places(value) if path]
    return paths[random.integers(len(paths))] if paths else ()


def _of_wrong_type(value: Any, random: Random) -> Any:
    return put(value, _any_place(value, random), WRONG[random.integers(len(WRONG))])


def _nested_deep(value: Any, random: Random) -> Any:
    return put(value, _any_place(value, random), PLACE)


def _without_a_key(value: Any, random: Random) -> Any:
    *path, key = _any_place(value, random)
    part = value
    for step in path:
        part = part[step]
    del part[key]
    return value


def _with_a_key(value: Any, random: Random) -> Any:
    dicts = []
    for path in places(value):
        part = value
        for step in path:
            part = part[step]
        dicts += [part] if isinstance(part, dict) else []
    dicts[random.integers(len(dicts))]["unknown"] = 1
    return value


def _of_another_version(value: Any, random: Random) -> Any:
    versions = (0, 1, 3, 99, -1, 2.5, "2", None, [2], {"x": 1})
    return {**value, "schema_version": versions[random.integers(len(versions))]}


def _no_object(value: Any, random: Random) -> Any:
    return (None, 3, "x", [value], [])[random.integers(5)]


JSON = tuple(
    map(
        _described,
        (
            *(_of_wrong_type, _nested_deep, _without_a_key, _with_a_key),
            *(_of_another_version, _no_object),
        ),
    )
)


# Arrays.


def _archive(file: Path, change: Callable[[dict[str, bytes]], None], method: int) -> None:
    with zipfile.ZipFile(file) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    change(parts)
    with zipfile.ZipFile(file, "w", method) as archive:
        for name, content in parts.items():
            archive.writestr(name, content)


def _header(shape: tuple[int, ...], dtype: str = "<f4") -> bytes:
    file = io.BytesIO()
    npy.write_array_header_1_0(file, {"descr": dtype, "fortran_order": False, "shape": shape})
    return file.getvalue()


def with_objects(file: Path, random: Random, others: Sequence[Path]) -> None:
    """Makes one of its arrays pickled objects."""
    pickled = io.BytesIO()
    np.save(pickled, np.array([{"x": 1}, None], object))
    _replaced(file, random, pickled.getvalue())


def lying(file: Path, random: Random, others: Sequence[Path]) -> None:
    """Lets the header of an array say that it has ten terabytes."""
    _replaced(file, random, _header((10**13 // 4,)) + bytes(64))


def misshapen(file: Path, random: Random, others: Sequence[Path]) -> None:
    """Gives an array another shape or type."""
    kinds = (
        ((0,), "<f4"),
        ((3, 5), "<f8"),
        ((2,), "|S9"),
        ((), "<i8"),
        ((7,), "|b1"),
        ((4,), "<c8"),
    )
    shape, dtype = kinds[random.integers(len(kinds))]
    content = np.zeros(shape, dtype).tobytes()
    _replaced(file, random, _header(shape, dtype) + content)


def bomb(file: Path, random: Random, others: Sequence[Path]) -> None:
    """Packs zeros: 300 MB in 300 KB."""
    size = 3 * 10**8
    _replaced(file, random, _header((size // 4,)) + bytes(size), zipfile.ZIP_DEFLATED)


def without_an_array(file: Path, random: Random, others: Sequence[Path]) -> None:
    _replaced(file, random, None)


def _replaced(
    file: Path, random: Random, content: bytes | None, method: int = zipfile.ZIP_STORED
) -> None:
    def change(parts: dict[str, bytes]) -> None:
        name = sorted(parts)[random.integers(len(parts))]
        del parts[name]
        if content is not None:
            parts[name] = content

    _archive(file, change, method)


NPZ = (with_objects, lying, misshapen, bomb, without_an_array)


# Weights and states.


def _safetensors(change: Callable[[dict[str, Any], Random], Any]) -> Mutation:
    """A mutation of the header of a file of weights."""

    def mutation(file: Path, random: Random, others: Sequence[Path]) -> None:
        raw = file.read_bytes()
        (size,) = struct.unpack("<Q", raw[:8])
        header = change(json.loads(raw[8 : 8 + size]), random)
        text = header if isinstance(header, bytes) else json.dumps(header).encode()
        said = 2**60 if header == b"" else len(text)
        file.write_bytes(struct.pack("<Q", said) + text + raw[8 + size :])

    mutation.__name__ = getattr(change, "__name__", "").strip("_")
    return mutation


def _some_tensor(header: dict[str, Any], random: Random) -> str:
    names = sorted(set(header) - {"__metadata__"})
    return names[random.integers(len(names))]


def _lying_header(header: dict[str, Any], random: Random) -> Any:
    tensor = header[_some_tensor(header, random)]
    match random.integers(5):
        case 0:
            tensor["shape"] = [10**13]
        case 1:
            tensor["data_offsets"] = [0, 10**13]
        case 2:
            tensor["dtype"] = "F64"
        case 3:
            tensor["shape"] = [-1]
        case 4:
            return b""
    return header


def _without_a_tensor(header: dict[str, Any], random: Random) -> Any:
    del header[_some_tensor(header, random)]
    return header


def _with_renamed_tensor(header: dict[str, Any], random: Random) -> Any:
    header["x.y"] = header.pop(_some_tensor(header, random))
    return header


def with_nan(file: Path, random: Random, others: Sequence[Path]) -> None:
    """Puts a NaN among the numbers."""
    raw = bytearray(file.read_bytes())
    (size,) = struct.unpack("<Q", raw[:8])
    at = 8 + size + 4 * int(random.integers((len(raw) - 8 - size) // 4))
    raw[at : at + 4] = struct.pack("<f", float("nan"))
    file.write_bytes(raw)


WEIGHTS = (
    *map(_safetensors, (_lying_header, _without_a_tensor, _with_renamed_tensor)),
    with_nan,
)


def packed(file: Path, random: Random, others: Sequence[Path]) -> None:
    """Compresses the archive."""
    _archive(file, lambda parts: None, zipfile.ZIP_DEFLATED)


def without_a_part(file: Path, random: Random, others: Sequence[Path]) -> None:
    _replaced(file, random, None)


def of_other_content(file: Path, random: Random, others: Sequence[Path]) -> None:
    """Saves something else in its place."""
    import torch

    contents = ({}, [], {"noise": 3}, torch.zeros(3), None, {"noise": torch.zeros(4)})
    torch.save(contents[random.integers(len(contents))], file)


STATE = (packed, without_a_part, of_other_content)


def mutations_for(file: Path, others: Sequence[Path]) -> list[Mutation]:
    """All that fit a file. others: files of the same name of other runs."""
    found: list[Mutation] = [*ACCIDENTS] if file.stat().st_size else [*ACCIDENTS[6:]]
    if not others:
        found.remove(of_another)
    if not file.stat().st_size:
        return found
    by_suffix: dict[str, Sequence[Mutation]] = {
        ".json": JSON,
        ".jsonl": JSON,
        ".npz": NPZ,
        ".safetensors": WEIGHTS,
        ".pt": STATE,
    }
    return [*found, *by_suffix.get(file.suffix, ())]


# Checksums.


def sign(run: Path, file: Path) -> bool:
    """Makes the checksums of a changed file right, so that its content is read; whether it could.

    Other results are then no fault: it is what somebody has written.
    """
    if not file.is_file() or file.is_symlink() or file.stat().st_size > 2**26:
        return False
    if file.name in FILES:
        return _sign_part(file)
    if file.suffix == ".json":
        return _sign_json(file)
    if file.name == "metrics.jsonl" and list_checkpoints(run / "checkpoints"):
        values = list_checkpoints(run / "checkpoints")[-1] / VALUES
        raw = file.read_bytes()
        logged = {"metrics_size": len(raw), "metrics_crc32": zlib.crc32(raw)}
        values.write_text(json.dumps(json.loads(values.read_text()) | logged))
        return _sign_part(values)
    return False


def _sign_part(file: Path) -> bool:
    import hashlib

    described = file.with_name(DESCRIPTION)
    value = json.loads(described.read_text())
    value["sha256"][file.name] = hashlib.sha256(file.read_bytes()).hexdigest()
    if "bytes" in value:
        value["bytes"][file.name] = file.stat().st_size
    value.pop(CHECKSUM, None)
    described.write_text(json.dumps(value))
    return True


def _sign_json(file: Path) -> bool:
    """Removes the checksum; of a text that is too deep, or no JSON, as text."""
    try:
        value = dict(json.loads(file.read_text()))
        value.pop(CHECKSUM, None)
        file.write_text(json.dumps(value))
    except (ValueError, TypeError, RecursionError):
        text = file.read_text(errors="replace")
        file.write_text(text.replace(f'"{CHECKSUM}"', '"unchecked"'))
    return True
