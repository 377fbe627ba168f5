"""Checkpoints: directories that are whole or absent, and that run no code when they are read.

    checkpoint-000012/
        weights.safetensors    the parameters of every module, by "module.parameter"
        state.pt               tensors and plain values (optimizers, random states), torch.save
        checkpoint.json        schema version, plain values, the SHA-256 of the other two

A checkpoint is written under a temporary name, synced and renamed, so a kill at any moment leaves
the one before it in place.
"""

import hashlib
import json
import os
import pickle
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import safetensors.torch
import torch
from torch import nn

SCHEMA_VERSION = 1
PREFIX = "checkpoint-"


class Checkpoint(NamedTuple):
    """The content of a checkpoint."""

    weights: dict[str, torch.Tensor]
    state: dict[str, Any]
    values: dict[str, Any]

    def load(self, modules: Mapping[str, nn.Module]) -> None:
        """Puts the weights back into modules of the same names."""
        for name, module in modules.items():
            prefix = name + "."
            own = {
                k.removeprefix(prefix): v for k, v in self.weights.items() if k.startswith(prefix)
            }
            module.load_state_dict(own)


class DamagedCheckpointError(ValueError):
    """A checkpoint that cannot be read back."""


def save_checkpoint(
    folder: Path,
    number: int,
    modules: Mapping[str, nn.Module],
    state: Mapping[str, Any],
    values: Mapping[str, Any],
    keep: int = 2,
) -> Path:
    """Writes `folder`/checkpoint-`number` and removes all but the newest `keep`.

    Numbers are used once: a folder that is there is not written again (FileExistsError).
    state: tensors, numbers, strings, and dicts, lists, tuples of them; values: for JSON.
    """
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / f"{PREFIX}{number:06d}"
    if target.exists():
        raise FileExistsError(f"{target} is there already; give every checkpoint its own number")
    temporary = folder / f".{target.name}.part"
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir()
    weights = {
        f"{name}.{key}": value.contiguous()
        for name, module in modules.items()
        for key, value in module.state_dict().items()
    }
    safetensors.torch.save_file(weights, temporary / "weights.safetensors")
    torch.save(dict(state), temporary / "state.pt")
    hashes = {name: _sha256(temporary / name) for name in ("weights.safetensors", "state.pt")}
    description = {"schema_version": SCHEMA_VERSION, "sha256": hashes, "values": dict(values)}
    (temporary / "checkpoint.json").write_text(json.dumps(description, indent=1))
    for path in temporary.iterdir():
        sync(path)
    sync(temporary)
    temporary.rename(target)
    sync(folder)
    for old in list_checkpoints(folder)[:-keep]:
        shutil.rmtree(old)
    return target


def load_checkpoint(path: Path) -> Checkpoint:
    """Reads a checkpoint; raises a `DamagedCheckpointError` that describes any damage."""
    try:
        description = json.loads((path / "checkpoint.json").read_text())
        version = description["schema_version"]
        if version != SCHEMA_VERSION:
            raise DamagedCheckpointError(
                f"{path} has schema version {version}, this program reads {SCHEMA_VERSION}; "
                "use the version of the package that wrote it"
            )
        for name, digest in description["sha256"].items():
            if _sha256(path / name) != digest:
                raise DamagedCheckpointError(f"{path / name} is damaged (its SHA-256 differs)")
        weights = safetensors.torch.load_file(path / "weights.safetensors")
        state = torch.load(path / "state.pt", weights_only=True)
    except DamagedCheckpointError:
        raise
    except pickle.UnpicklingError as error:  # PyTorch's message tells how to load it nevertheless
        raise DamagedCheckpointError(
            f"{path / 'state.pt'} is not read: it holds more than tensors and plain values, and "
            "could run code"
        ) from error
    except Exception as error:
        raise DamagedCheckpointError(f"{path} cannot be read: {error}") from error
    return Checkpoint(weights, state, description["values"])


def load_newest(folder: Path) -> tuple[Checkpoint, list[str]]:
    """The newest readable checkpoint, and the errors of newer ones.

    Raises FileNotFoundError where there is none.
    """
    problems: list[str] = []
    for path in reversed(list_checkpoints(folder)):
        try:
            return load_checkpoint(path), problems
        except DamagedCheckpointError as error:
            problems.append(str(error))
    raise FileNotFoundError("; ".join(problems) or f"there is no checkpoint in {folder}")


def list_checkpoints(folder: Path) -> list[Path]:
    """The checkpoints of a folder, oldest first."""
    numbered = [p for p in folder.glob(PREFIX + "*") if p.name.removeprefix(PREFIX).isdigit()]
    return sorted(numbered, key=lambda path: int(path.name.removeprefix(PREFIX)))


def next_number(folder: Path) -> int:
    """A number that no checkpoint of the folder has had."""
    there = list_checkpoints(folder)
    return 1 + int(there[-1].name.removeprefix(PREFIX)) if there else 1


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def sync(path: Path) -> None:
    """Waits until a file, or what a folder lists, is on disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
