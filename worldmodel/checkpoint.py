"""Checkpoints: directories that are whole or absent, and that run no code when they are read.

    checkpoint-000012/
        weights.safetensors    the parameters of every module, by "module.parameter"
        state.pt               tensors and plain values (optimizers, random states), torch.save
        values.json            plain values
        checkpoint.json        schema version, and the size and the SHA-256 of the other three

That of a packed run has no state.pt: what it has learned can be used, and not gone on with.

A checkpoint is written under a temporary name, synced and renamed, so a kill at any moment leaves
the one before it in place. The newest is read or nothing is: which older one is to be used instead
is for its user to say. None that cannot be read is ever removed.
"""

import hashlib
import json
import os
import shutil
import zipfile
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from worldmodel.files import MOST_JSON, DamagedError, read_json, reading, sync

if TYPE_CHECKING:  # the command line reads run folders before it waits for PyTorch
    import torch
    from torch import nn

SCHEMA_VERSION = 4
PREFIX = "checkpoint-"
WEIGHTS, STATE, VALUES = FILES = ("weights.safetensors", "state.pt", "values.json")
DESCRIPTION = "checkpoint.json"
PART, GONE = ".part", ".gone"  # folders that are being written, and removed


class Checkpoint(NamedTuple):
    """The content of a checkpoint."""

    weights: dict[str, "torch.Tensor"]
    state: dict[str, Any]  # empty where there are weights alone
    values: dict[str, Any]

    def load(self, modules: Mapping[str, "nn.Module"]) -> None:
        """Puts the weights back into modules of the same names."""
        for name, module in modules.items():
            prefix = name + "."
            own = {
                k.removeprefix(prefix): v for k, v in self.weights.items() if k.startswith(prefix)
            }
            module.load_state_dict(own)


def save_checkpoint(
    folder: Path,
    number: int,
    modules: Mapping[str, "nn.Module"],
    state: Mapping[str, Any],
    values: Mapping[str, Any],
    keep: int = 2,
    spared: Collection[str | None] = (),
) -> Path:
    """Writes the weights of modules, and what else is given, as `write_checkpoint` does."""
    weights = {
        f"{name}.{key}": value.contiguous()
        for name, module in modules.items()
        for key, value in module.state_dict().items()
    }
    content = Checkpoint(weights, dict(state), dict(values))
    return write_checkpoint(folder, number, content, keep, spared)


def write_checkpoint(
    folder: Path,
    number: int,
    content: Checkpoint,
    keep: int = 2,
    spared: Collection[str | None] = (),
) -> Path:
    """Writes `folder`/checkpoint-`number` and removes all but the newest `keep`, and but those
    whose names are `spared`.

    Numbers are used once: a folder that is there is not written again (FileExistsError).
    content: tensors, numbers, strings, and dicts, lists, tuples of them; `values`: for JSON.
    """
    import safetensors.torch
    import torch

    folder.mkdir(parents=True, exist_ok=True)
    target = folder / checkpoint_name(number)
    if target.exists():
        raise FileExistsError(f"{target} is there already; give every checkpoint its own number")
    part = folder / PART
    for left in (part, folder / GONE):
        shutil.rmtree(left, ignore_errors=True)
    part.mkdir()
    weights, state = _on_host(content.weights), _on_host(content.state)
    with _refused_by_system(part / WEIGHTS):
        safetensors.torch.save_file(weights, part / WEIGHTS)
    names = FILES if state else (WEIGHTS, VALUES)
    if state:
        with _refused_by_system(part / STATE):
            torch.save(state, part / STATE)
    (part / VALUES).write_text(json.dumps(content.values, indent=1))
    description = {
        "schema_version": SCHEMA_VERSION,
        "sha256": {name: _sha256(part / name) for name in names},
        "bytes": {name: (part / name).stat().st_size for name in names},
    }
    (part / DESCRIPTION).write_text(json.dumps(description, indent=1))
    for path in part.iterdir():
        sync(path)
    sync(part)
    part.rename(target)
    sync(folder)
    for old in list_checkpoints(folder)[:-keep]:
        if old.name not in spared:
            _remove(old)
    return target


def _on_host(content: Any) -> Any:
    """The same content, its tensors on the processor: any machine can read them."""
    if isinstance(content, dict):
        return {key: _on_host(part) for key, part in content.items()}
    if isinstance(content, list | tuple):
        parts = [_on_host(part) for part in content]
        return parts if isinstance(content, list) else tuple(parts)
    return content.cpu() if hasattr(content, "cpu") else content


@contextmanager
def _refused_by_system(file: Path) -> Iterator[None]:
    """Raises an OSError where a library cannot write a file: they have types and wordings of their
    own for it."""
    from safetensors import SafetensorError

    try:
        yield
    except (RuntimeError, SafetensorError) as error:
        reason = str(error).partition("\n")[0]
        raise OSError(f"{file}: {reason}") from error


def _remove(checkpoint: Path) -> None:
    """Removes a checkpoint, unless it cannot be read."""
    try:
        described = _description(checkpoint)
        for name in described.sha256:
            _verify(checkpoint / name, described)
    except (DamagedError, OSError):
        return
    gone = checkpoint.rename(checkpoint.with_name(GONE))
    shutil.rmtree(gone)


def load_checkpoint(path: Path) -> Checkpoint:
    """Reads a checkpoint; raises a DamagedError that says what is wrong with it."""
    import safetensors.torch

    values, described = read_values(path), _description(path)
    names = [name for name in (WEIGHTS, STATE) if name in described.sha256]
    for name in names:
        _verify(path / name, described)
    try:
        weights = safetensors.torch.load_file(path / WEIGHTS)
        state = _read_state(path / STATE) if STATE in names else {}
        return Checkpoint(weights, state, values)
    except OSError:
        raise
    except Exception as error:
        reason = str(error).partition("\n")[0]
        raise DamagedError(f"{path} cannot be read: {reason}") from error


def read_values(path: Path) -> dict[str, Any]:
    """The plain values of a checkpoint; raises a DamagedError where they cannot be read."""
    file = path / VALUES
    _verify(file, _description(path))
    return read_json(file)


def weights_digest(path: Path) -> str:
    """The SHA-256 of a checkpoint's weights, as it is described."""
    return _description(path).sha256[WEIGHTS]


class _Description(NamedTuple):
    """The content of checkpoint.json, by the names of the other files."""

    sha256: dict[str, str]
    bytes: dict[str, int]  # empty in checkpoints from before sizes were written


def _description(path: Path) -> _Description:
    """Reads the description of a checkpoint."""
    file = path / DESCRIPTION
    try:
        described = read_json(file)
    except FileNotFoundError as error:
        raise DamagedError(f"{path} cannot be read: it has no {DESCRIPTION}") from error
    version, digests = described.get("schema_version"), described.get("sha256")
    sizes = described.get("bytes", {})
    if version != SCHEMA_VERSION:
        raise DamagedError(
            f"{path} has schema version {version}, this program reads {SCHEMA_VERSION}; use the "
            "version of the package that wrote it"
        )
    if not isinstance(digests, dict) or {*digests, STATE} != {*FILES}:
        raise DamagedError(f"{file} is damaged: it has not the SHA-256 of {', '.join(FILES)}")
    if not isinstance(sizes, dict):
        raise DamagedError(f"{file} is damaged: it has not the sizes of {', '.join(FILES)}")
    return _Description(digests, sizes)


def _verify(file: Path, described: _Description) -> None:
    """Raises a DamagedError unless a file is there, regular, and as it is described."""
    try:
        with reading(file, MOST_JSON if file.suffix == ".json" else None) as opened:
            size = os.fstat(opened.fileno()).st_size
            if size != described.bytes.get(file.name, size):
                raise DamagedError(f"{file} is damaged: it has {size:,} bytes, not its own number")
            found = hashlib.file_digest(opened, "sha256").hexdigest()
    except FileNotFoundError as error:
        raise DamagedError(f"{file.parent} cannot be read: it has no {file.name}") from error
    if found != described.sha256[file.name]:
        raise DamagedError(f"{file} is damaged (its SHA-256 differs)")


def _sha256(file: Path) -> str:
    with reading(file) as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def _read_state(file: Path) -> dict[str, Any]:
    """The content that `torch.save` wrote; raises ValueError for an archive that is compressed."""
    import torch

    with zipfile.ZipFile(file) as archive:
        if any(part.compress_type != zipfile.ZIP_STORED for part in archive.infolist()):
            raise ValueError(f"{file.name} is compressed, which this program never does")
    try:
        state = torch.load(file, weights_only=True, map_location="cpu")
    except Exception as error:  # PyTorch's message tells how to load it nevertheless
        raise ValueError(
            f"{file.name} holds more than tensors and plain values, and could run code, or is cut "
            "off"
        ) from error
    if not isinstance(state, dict):
        raise ValueError(f"{file.name} holds no values by name, but a {type(state).__name__}")
    return state


def list_checkpoints(folder: Path) -> list[Path]:
    """The checkpoints of a folder, oldest first; none, if there is no folder.

    Raises OSError where the folder may not be read.
    """
    try:
        names = os.listdir(folder)
    except FileNotFoundError:
        return []
    numbered = [name for name in names if _is_numbered(name)]
    return [folder / name for name in sorted(numbered, key=_number)]


def checkpoint_name(number: int) -> str:
    """The name of the checkpoint of a number."""
    return f"{PREFIX}{number:06d}"


def _is_numbered(name: str) -> bool:
    return name.startswith(PREFIX) and name.removeprefix(PREFIX).isdecimal()


def _number(name: str) -> int:
    return int(name.removeprefix(PREFIX))


def next_number(folder: Path) -> int:
    """A number that no checkpoint of the folder has had."""
    there = list_checkpoints(folder)
    return 1 + _number(there[-1].name) if there else 1


def set_aside(checkpoint: Path) -> Path:
    """Renames a checkpoint, so that it counts no longer; returns its new path."""
    number = 1
    while (aside := checkpoint.with_name(f"aside-{number}-{checkpoint.name}")).exists():
        number += 1
    return checkpoint.rename(aside)
