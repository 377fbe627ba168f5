"""Gymnasium spaces as JSON, so that recorded episodes carry their own description."""

from pathlib import Path
from typing import Any

import numpy as np
from gymnasium import spaces

from worldmodel.files import DamagedError, read_json, write_json

SCHEMA_VERSION = 1
FILE = "spaces.json"


def write_spaces(folder: Path, observation: spaces.Space, action: spaces.Space) -> None:
    """Writes spaces.json, which `read_spaces` reads."""
    described = {
        "schema_version": SCHEMA_VERSION,
        "observation": to_json(observation),
        "action": to_json(action),
    }
    write_json(folder / FILE, described)


def read_spaces(folder: Path) -> tuple[spaces.Space, spaces.Space]:
    """The observation space and the action space of the episodes in a folder."""
    file = folder / FILE
    if not file.is_file():
        raise ValueError(f"{folder} holds episodes, but no {FILE} that says of which spaces")
    described = read_json(file)
    try:
        version = described["schema_version"]
        if version != SCHEMA_VERSION:
            raise ValueError(f"it has schema version {version}, not {SCHEMA_VERSION}")
        return from_json(described["observation"]), from_json(described["action"])
    except Exception as error:
        raise DamagedError(f"{file} cannot be read: {error}") from error


def to_json(space: spaces.Space) -> dict[str, Any]:
    """A space as numbers, strings, lists and dicts.

    >>> to_json(spaces.Dict(speed=spaces.Box(0, np.inf, (2,)), gear=spaces.Discrete(3)))["spaces"]
    ... # doctest: +NORMALIZE_WHITESPACE
    {'speed': {'kind': 'Box', 'shape': [2], 'dtype': 'float32', 'low': 0.0, 'high': 'inf'},
     'gear': {'kind': 'Discrete', 'n': 3, 'start': 0}}
    """
    kind: dict[str, Any] = {"kind": type(space).__name__}
    if isinstance(space, spaces.Box):
        kind |= {"shape": list(space.shape), "dtype": str(space.dtype)}
        return kind | {"low": _bound(space.low), "high": _bound(space.high)}
    if isinstance(space, spaces.Discrete):
        return kind | {"n": int(space.n), "start": int(space.start)}
    if isinstance(space, spaces.MultiDiscrete):
        kind |= {"nvec": space.nvec.tolist(), "start": space.start.tolist()}
        return kind | {"dtype": str(space.dtype)}
    if isinstance(space, spaces.MultiBinary):
        return kind | {"n": space.n if isinstance(space.n, int) else list(space.shape)}
    if isinstance(space, spaces.Dict):
        return kind | {"spaces": {key: to_json(part) for key, part in space.items()}}
    if isinstance(space, spaces.Tuple):
        return kind | {"spaces": [to_json(part) for part in space]}
    raise ValueError(
        f"episodes of the space {space} cannot be described: known are Box, Discrete, "
        "MultiDiscrete, MultiBinary, and Dict and Tuple of these"
    )


def from_json(described: dict[str, Any]) -> spaces.Space:
    """The space that `to_json` described."""
    kind = described["kind"]
    if kind == "Box":
        shape, dtype = tuple(described["shape"]), np.dtype(described["dtype"])
        low, high = (_array(described[side], shape, dtype) for side in ("low", "high"))
        return spaces.Box(low, high, shape, dtype.type)
    if kind == "Discrete":
        return spaces.Discrete(described["n"], start=described["start"])
    if kind == "MultiDiscrete":
        dtype = np.dtype(described["dtype"])
        return spaces.MultiDiscrete(described["nvec"], dtype.type, start=described["start"])
    if kind == "MultiBinary":
        return spaces.MultiBinary(described["n"])
    if kind == "Dict":
        parts = described["spaces"]
        if not all(map(str.isprintable, parts)):
            raise ValueError(f"names are letters that can be printed, got {[*parts]}")
        return spaces.Dict({key: from_json(part) for key, part in parts.items()})
    if kind == "Tuple":
        return spaces.Tuple([from_json(part) for part in described["spaces"]])
    raise ValueError(f"a space of the unknown kind {kind!r}")


def _bound(bound: np.ndarray) -> Any:
    """A number if it is the same everywhere, else all of them; infinities as strings."""
    values = [v if np.isfinite(v) else str(v) for v in bound.flatten().tolist()]
    return values[0] if values and len(set(values)) == 1 else values


def _array(bound: Any, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    values = bound if isinstance(bound, list) else [bound] * int(np.prod(shape))
    numbers = [float(v) if isinstance(v, str) else v for v in values]
    return np.array(numbers, dtype).reshape(shape)
