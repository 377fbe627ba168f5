"""Maps, stacks and indexes over nested structures of tensors, and drives any recurrence.

A nested structure is a tensor, or a dict, tuple or NamedTuple of nested structures.
"""

from collections.abc import Callable, Iterable
from typing import Any, TypeVar
from urllib.parse import quote

import torch
from torch import Tensor

Nested = Any
T = TypeVar("T")


def map(function: Callable[..., Any], tree: T, *others: Nested) -> T:
    """Applies `function` to the leaves of structures that share one shape.

    >>> map(lambda a, b: a + b, {"x": 1, "y": (2,)}, {"x": 10, "y": (20,)})
    {'x': 11, 'y': (22,)}
    """
    if isinstance(tree, dict):
        for other in others:
            if other.keys() != tree.keys():
                raise ValueError(
                    f"nested.map expects the same keys, got {sorted(tree)} and {sorted(other)}"
                )
        return {key: map(function, tree[key], *(o[key] for o in others)) for key in tree}  # type: ignore
    if isinstance(tree, tuple):
        parts = [map(function, *leaves) for leaves in zip(tree, *others, strict=True)]
        return type(tree)(*parts) if hasattr(tree, "_fields") else tuple(parts)  # type: ignore
    return function(tree, *others)


def leaves(tree: Nested) -> list[Any]:
    """The leaves, in the order of `map`."""
    found: list[Any] = []
    map(found.append, tree)
    return found


def fill(tree: T, values: Iterable[Any]) -> T:
    """A structure like `tree` with the given leaves, in the order of `leaves`."""
    following = iter(values)
    return map(lambda _: next(following), tree)


def names(tree: Nested, place: str = "") -> Nested:
    """A structure like `tree` whose leaves are the names of their places, fit for files.

    >>> names({"camera": 1, "arms": (2, 3), "a/b": 4})
    {'camera': 'camera', 'arms': ('arms.0', 'arms.1'), 'a/b': 'a%2Fb'}
    """
    if isinstance(tree, dict | tuple):
        parts = tree.items() if isinstance(tree, dict) else enumerate(tree)
        prefix = f"{place}." if place else ""
        named = {
            key: names(part, prefix + quote(str(key), safe="").replace(".", "%2E"))
            for key, part in parts
        }
        return named if isinstance(tree, dict) else tuple(named.values())
    return place


def from_json(tree: Any) -> Nested:
    """A structure of dicts and tuples that JSON has made dicts and lists of."""
    if isinstance(tree, dict):
        return {key: from_json(part) for key, part in tree.items()}
    return tuple(from_json(part) for part in tree) if isinstance(tree, list) else tree


def stack(trees: Iterable[T], dim: int = 0) -> T:
    """Stacks structures leaf by leaf: T times [B, ...] -> [T, B, ...]."""
    trees = list(trees)
    if not trees:
        raise ValueError("nested.stack expects at least one structure, got none")
    return map(lambda *tensors: torch.stack(tensors, dim), *trees)


def concatenate(trees: Iterable[T], dim: int = 0) -> T:
    """Concatenates structures leaf by leaf."""
    return map(lambda *tensors: torch.cat(tensors, dim), *trees)


def index(tree: T, key: Any) -> T:
    """`leaf[key]` for every leaf."""
    return map(lambda leaf: leaf[key], tree)


def to(tree: T, device: torch.device | str) -> T:
    """The same structure, its tensors on a device."""
    return map(lambda leaf: leaf.to(device), tree)


def broadcast(condition: Tensor, like: Tensor) -> Tensor:
    """Appends dimensions of size one to `condition` until it has those of `like`."""
    return condition.reshape(condition.shape + (1,) * (like.dim() - condition.dim()))


def where(condition: Tensor, chosen: T, other: Nested) -> T:
    """Leaf by leaf `torch.where`; `condition` [B] is aligned with the leading dimensions."""
    return map(lambda a, b: torch.where(broadcast(condition, a), a, b), chosen, other)


def repeat(tree: T, times: int) -> T:
    """Repeats the batch dimension, copy after copy: [B, ...] -> [times * B, ...]."""
    if times == 1:
        return tree
    return map(lambda leaf: leaf.repeat(times, *(1,) * (leaf.dim() - 1)), tree)


def steps(tree: T) -> list[T]:
    """Cuts [T, B, ...] into T structures of [B, ...], one `unbind` a leaf."""
    unbound = [leaf.unbind(0) for leaf in leaves(tree)]

    return [fill(tree, values) for values in zip(*unbound, strict=True)]


def unroll(
    step: Callable[[Any, Any], tuple[Any, Any]], inputs: Iterable[Any], state: Any
) -> tuple[Any, Any]:
    """Drives a recurrence `step(input, state) -> (output, state)` over T inputs.

    Returns the outputs, stacked [T, ...], and the last state.

    >>> unroll(lambda x, total: (total + x, total + x), torch.tensor([1, 2, 3]), torch.tensor(0))
    (tensor([1, 3, 6]), tensor(6))
    """
    outputs = []
    for value in inputs:
        output, state = step(value, state)
        outputs.append(output)
    return stack(outputs), state
