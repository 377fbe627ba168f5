"""Encoders and decoders of each kind of Gymnasium space, and of spaces made of spaces.

A part of a nested space is named by its key path: "camera.left" is `space["camera"]["left"]`,
"1.speed" is `space[1]["speed"]`, "" is the whole.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple, cast

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor

from worldmodel.codecs.base import DistModule, Encoder, Parts, is_binary
from worldmodel.codecs.convolutional import (
    ConvolutionalEncoder,
    brightest,
    image_head,
    is_image,
)
from worldmodel.codecs.heads import (
    JointHead,
    LocationScaleHead,
    MixedHead,
    NormalHead,
    are_few,
    atoms_of,
    most_of,
    room_for,
)
from worldmodel.codecs.registry import (
    BINARY,
    BOX,
    DISCRETE,
    LEVELS,
    head_for,
    named_encoder,
    register_encoder,
)
from worldmodel.codecs.standardisation import Standardisation
from worldmodel.distributions import ConcatLayout, symlog

FEW_LEVELS = 256  # up to so many, integers have a mass each; others a density
MANY_BYTES = 1024  # in rows and columns, they are pixels
MANY_NUMBERS = 1024  # so many have no atoms each: they are a picture of some kind

Head = str | tuple[str, Mapping[str, Any]] | DistModule  # a name of HEADS, with options, or a head
Encoding = str | tuple[str, Mapping[str, Any]] | Encoder  # the same, of ENCODERS


class OneHotEncoder(Encoder):
    """start..start+n-1 -> one-hot codes side by side, int [*, *shape] -> float [*, n_1 + n_2 +
    ...]."""

    offsets: Tensor
    like: Tensor

    def __init__(self, n: Any, start: Any = 0):
        """n, start: numbers, or arrays of the shape of a value."""
        super().__init__()
        n, start = np.broadcast_arrays(n, start)
        self.dimensions = n.ndim
        self.layout = ConcatLayout(n.flatten().tolist())
        self.size = self.layout.size
        offsets = self.layout.rows[:, 0] - torch.tensor(start.tolist()).flatten()
        self.register_buffer("offsets", offsets, persistent=False)
        self.register_buffer("like", torch.zeros(()), persistent=False)  # holds dtype and device

    def forward(self, x: Tensor) -> Tensor:
        leading = x.shape[: x.dim() - self.dimensions]
        places = x.long().reshape(*leading, len(self.offsets)) + self.offsets
        return self.like.new_zeros(*leading, self.size).scatter_(-1, places, 1.0)


class FlatEncoder(Encoder):
    """A vector or array, standardised, [*, *shape] -> float [*, size]."""

    def __init__(self, shape: Sequence[int], shift: Any = 0.0, scale: Any = 1.0):
        """shift, scale: numbers or arrays [*shape], until `standardise` sets them from data."""
        super().__init__()
        self.dimensions = len(shape)
        self.size = int(torch.Size(shape).numel())
        self.standard = Standardisation(shape, shift, scale)

    def forward(self, x: Tensor) -> Tensor:
        return self.standard(x).reshape(*x.shape[: x.dim() - self.dimensions], self.size)

    def standardise(self, values: Any) -> None:
        self.standard.fit(values)


class BitsEncoder(Encoder):
    """Truth values as 0 and 1, [*, *shape] -> float [*, size]."""

    like: Tensor

    def __init__(self, shape: Sequence[int]):
        super().__init__()
        self.dimensions = len(shape)
        self.size = int(torch.Size(shape).numel())
        self.register_buffer("like", torch.zeros(()), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        return x.to(self.like.dtype).reshape(*x.shape[: x.dim() - self.dimensions], self.size)


class SymlogEncoder(BitsEncoder):
    """The `symlog` of a vector or array of any scale, [*, *shape] -> float [*, size]."""

    def forward(self, x: Tensor) -> Tensor:
        return symlog(super().forward(x))


class JointEncoder(Encoder):
    """The parts of a dictionary or a tuple, encoded side by side."""

    def __init__(self, parts: Mapping[str, Encoder] | tuple[Encoder, ...]):
        super().__init__()
        self.parts = Parts(parts)
        self.size = sum(part.size for _, part in self.parts.items())

    def forward(self, x: Any) -> Tensor:
        return torch.cat([part(x[key]) for key, part in self.parts.items()], -1)

    def standardise(self, values: Any) -> None:
        for key, part in self.parts.items():
            part.standardise(values[key])


class Kind(NamedTuple):
    """A kind of space, with its default encoder and head."""

    holds: Callable[[Any], bool]
    encoder: Callable[[Any], Encoder]  # (space)
    head: Callable[[Any, int], DistModule]  # (space, input_size)


def _is(*kinds: type) -> Callable[[Any], bool]:
    return lambda space: isinstance(space, kinds)


def _scale(space: spaces.Box) -> tuple[Any, Any]:
    """The shift and scale that numbers begin with: bounded integers are within -1 and 1; the
    range of other numbers only follows from data."""
    if not (np.issubdtype(space.dtype, np.integer) and space.is_bounded()):
        return 0.0, 1.0
    low, high = space.low.astype(np.float64), space.high.astype(np.float64)
    return (low + high) / 2, np.where(high > low, (high - low) / 2, 1.0)


def _flat(space: spaces.Box) -> FlatEncoder:
    return FlatEncoder(space.shape, *_scale(space))


def _one_hot(space: spaces.Discrete | spaces.MultiDiscrete) -> OneHotEncoder:
    n = space.n if isinstance(space, spaces.Discrete) else space.nvec
    return OneHotEncoder(n, space.start)


def _bits(space: spaces.Box | spaces.MultiBinary) -> BitsEncoder:
    return BitsEncoder(space.shape)


def _convolutional(space: spaces.Box | spaces.MultiBinary, **options: Any) -> ConvolutionalEncoder:
    return ConvolutionalEncoder(space.shape, high=brightest(space), **options)


register_encoder("one-hot", _one_hot, DISCRETE.holds, DISCRETE.name)
register_encoder("flat", _flat, BOX.holds, BOX.name)
register_encoder("symlog", lambda space: SymlogEncoder(space.shape), BOX.holds, BOX.name)
register_encoder("bits", _bits, BINARY.holds, BINARY.name)
register_encoder("image", _convolutional, is_image, "images, [H, W, C] of bytes or truth values")


def _has_few_levels(space: spaces.Space) -> bool:
    if not LEVELS.holds(space) or not np.issubdtype(space.dtype, np.integer):  # type: ignore[arg-type]
        return False
    low, high = int(space.low.min()), int(space.high.max())  # type: ignore[attr-defined]
    return 1 <= high - low < FEW_LEVELS


# The first kind that holds a space is its kind.
KINDS = (
    Kind(is_image, _convolutional, image_head),
    Kind(
        _is(spaces.Discrete),
        _one_hot,
        lambda s, size: head_for("categorical", s, size),
    ),
    Kind(
        _is(spaces.MultiDiscrete),
        _one_hot,
        lambda s, size: head_for("categorical", s, size),
    ),
    Kind(
        is_binary,
        _bits,
        lambda s, size: head_for("bernoulli", s, size),
    ),
    Kind(_has_few_levels, _flat, lambda s, size: head_for("discretised-logistic", s, size)),
    Kind(_is(spaces.Box), _flat, lambda s, size: NormalHead(size, s.shape, *_scale(s))),
)
KNOWN = "Box, Discrete, MultiDiscrete, MultiBinary, and Dict and Tuple of them"
UNSUPPORTED = (spaces.Text, spaces.Graph, spaces.Sequence, spaces.OneOf)


def parts_of(space: spaces.Space) -> dict[Any, spaces.Space]:
    """The spaces that a Dict or Tuple is made of, by key or place; of other spaces, none."""
    if isinstance(space, spaces.Dict):
        return dict(space.items())
    return dict(enumerate(space)) if isinstance(space, spaces.Tuple) else {}


def are_alike(one: spaces.Space, other: spaces.Space) -> bool:
    """True if two spaces have the same structure and shapes, and as many values where these are
    counted; bounds of numbers may differ.

    >>> are_alike(spaces.Box(0, 1, (3,)), spaces.Box(-5, 5, (3,)))
    True
    >>> are_alike(spaces.Discrete(3), spaces.Discrete(4))
    False
    """
    parts, others = parts_of(one), parts_of(other)
    if parts or others:
        return parts.keys() == others.keys() and all(
            are_alike(part, others[key]) for key, part in parts.items()
        )
    if isinstance(one, spaces.Box):
        return isinstance(other, spaces.Box) and one.shape == other.shape
    return bool(one == other)


def by_path(space: spaces.Space, path: str = "") -> dict[str, spaces.Space]:
    """The space and all that it is made of, by key path.

    >>> list(by_path(spaces.Dict(arm=spaces.Tuple([spaces.Discrete(2), spaces.Discrete(3)]))))
    ['', 'arm', 'arm.0', 'arm.1']
    """
    found = {path: space}
    for key, part in parts_of(space).items():
        found |= by_path(part, _below(path, key))
    return found


def learnable(space: spaces.Space) -> spaces.Space | None:
    """The space without those of its parts that rows cannot hold; None where nothing is left. What
    is left of a Tuple is a Dict, by the places as they were, so that key paths stay.

    >>> learnable(spaces.Tuple([spaces.Text(9), spaces.Discrete(2)]))
    Dict('1': Discrete(2))
    """
    parts = parts_of(space)
    if not parts:
        return None if _is_shapeless(space) else space
    kept = {key: part for key, each in parts.items() if (part := learnable(each)) is not None}
    if all(kept.get(key) is part for key, part in parts.items()):
        return space
    if isinstance(space, spaces.Tuple) and len(kept) == len(parts):
        return spaces.Tuple([*kept.values()])
    if isinstance(space, spaces.Tuple):
        kept = {str(place): part for place, part in kept.items()}
    return spaces.Dict(kept) if kept else None


def _is_shapeless(space: spaces.Space) -> bool:
    """True if rows cannot hold its values, which are not arrays of one shape."""
    shapeless = space.shape is None and not isinstance(space, spaces.Dict | spaces.Tuple)
    return shapeless or isinstance(space, UNSUPPORTED)


def check_observations(space: spaces.Space) -> None:
    """Refuses what rows cannot hold: values that are not arrays of one shape."""
    for path, part in by_path(space).items():
        if _is_shapeless(part):
            with _named(path):
                raise ValueError(
                    f"the space {part} is not supported, only {KNOWN} are; wrap the environment "
                    "in one that leaves it out or turns it into one of these"
                )


def encoder_for(
    space: spaces.Space, encoders: Encoding | Mapping[str, Encoding] | None = None
) -> Encoder:
    """The encoder of values of `space`: images (`is_image`) by convolutions; Discrete and
    MultiDiscrete as one-hot codes; Box and MultiBinary flattened; Dict and Tuple part by part.

    encoders: another one by its name in `ENCODERS`, a name and its options, or one of your own;
    or several of those by key path, for parts of the space.
    """
    chosen = _chosen(space, encoders)

    def make(part: spaces.Space, path: str) -> Encoder:
        encoder = chosen.get(path)
        if encoder is None:
            return _kind(part, "encoder").encoder(part)
        if isinstance(encoder, Encoder):
            return encoder
        name, options = (encoder, {}) if isinstance(encoder, str) else encoder
        return named_encoder(name, part, **options)

    return _assemble(space, make, JointEncoder, chosen)


def decoder_for(
    space: spaces.Space, input_size: int, heads: Head | Mapping[str, Head] | None = None
) -> DistModule:
    """The likelihood of values of `space`, from features [*, input_size].

    Images (`is_image`): a mass of every pixel value (discretised logistic, or Bernoulli);
    Discrete and MultiDiscrete: a mass (categorical); MultiBinary and Box of bool: a mass
    (Bernoulli); Box: a density (Gaussian), but a mass (discretised logistic) for integers of few
    levels; Dict and Tuple: the product of their parts'.

    heads: another one by its name in `HEADS`, a name and its options, or a head of your own; or
    several of those by key path, for parts of the space.

    >>> space = spaces.Dict(chord=spaces.MultiBinary(88), beat=spaces.Discrete(4))
    >>> decoder = decoder_for(space, 16, {"chord": ("nade", {"hidden": 32})})
    """
    chosen = _chosen(space, heads)

    def make(part: spaces.Space, path: str) -> DistModule:
        head = chosen.get(path)
        if head is None:
            return _kind(part, "decoder").head(part, input_size)
        if isinstance(head, DistModule):
            return head
        name, options = (head, {}) if isinstance(head, str) else head
        return head_for(name, part, input_size, **options)

    return _assemble(space, make, JointHead, chosen)


def _has_density(space: spaces.Space) -> bool:
    """True if values are numbers that by default have a density."""
    return BOX.holds(space) and not is_image(space) and not _has_few_levels(space)


def number_parts(space: spaces.Space) -> list[str]:
    """The key paths of those parts of a space whose numbers by default have a density.

    >>> number_parts(spaces.Dict(arm=spaces.Box(-1, 1, (3,)), key=spaces.Discrete(2)))
    ['arm']
    """
    return [path for path, part in by_path(space).items() if _has_density(part)]


def heads_of(space: spaces.Space, values: Any, path: str = "") -> dict[str, Head]:
    """The heads of the numbers in a space that fit what was observed, leaves [N, ...], by key path
    (see `decoder_for`), instead of the default: `MixedHead` where some have few values or recur
    exactly, else `StudentHead`. Integers of few levels keep their head unless all have few values:
    these are names of things rather than amounts, such as a cell's kind and colour."""
    found: dict[str, Head] = {}
    for key, part in parts_of(space).items():
        found |= heads_of(part, values[key], _below(path, key))
    if not BOX.holds(space) or is_image(space):
        return found
    size, values = int(np.prod(cast(Any, space.shape))), np.asarray(values)
    if _has_few_levels(space) and not (size <= MANY_NUMBERS and are_few(values)):
        return found
    atoms = atoms_of(values) if 0 < size <= MANY_NUMBERS else []
    most = most_of(atoms)
    found[path] = (
        ("mixed", {"atoms": atoms, "room": room_for(most, size)}) if most else "student-t"
    )
    return found


def begin_as_before(head: DistModule, encoder: Encoder, start: int) -> None:
    """Initialises a decoder's densities at the observation before: its encoding by
    `encoder` stands in the features that `head` reads, from the column `start` on."""
    if isinstance(head, JointHead) and isinstance(encoder, JointEncoder):
        for key, part in encoder.parts.items():
            begin_as_before(head.parts[key], part, start)
            start += part.size
    elif isinstance(head, MixedHead):
        begin_as_before(head.density, encoder, start)
    elif isinstance(head, LocationScaleHead) and isinstance(encoder, FlatEncoder):
        head.begin_with(slice(start, start + encoder.size))


def _assemble(
    space: spaces.Space,
    make: Callable[[spaces.Space, str], Any],
    join: Callable[[Any], Any],
    chosen: Mapping[str, Any],
    path: str = "",
) -> Any:
    """Joins the results of `make` for the parts of a space without parts or `chosen`."""
    parts = parts_of(space)
    if path in chosen or not parts:
        with _named(path):
            return make(space, path)
    made = {
        key: _assemble(part, make, join, chosen, _below(path, key)) for key, part in parts.items()
    }
    return join(tuple(made.values()) if isinstance(space, spaces.Tuple) else made)


def _is_misshapen_image(space: spaces.Space) -> bool:
    if is_image(space) or not (isinstance(space, spaces.Box) and space.dtype == np.uint8):
        return False
    return len(space.shape) in (2, 3) and int(np.prod(space.shape)) >= MANY_BYTES


def _kind(space: spaces.Space, what: str) -> Kind:
    if _is_misshapen_image(space):
        raise ValueError(
            f"no {what} for the space {space}, which looks like an image: images are [H, W, C], "
            "channels last (where worldmodel.envs.Images puts them), and from 0 to one "
            "brightness; pass one of your own if it is none"
        )
    for kind in KINDS:
        if kind.holds(space):
            return kind
    raise ValueError(
        f"no {what} for the space {space}: known are {KNOWN}; pass one of your own, or wrap the "
        "environment in one that leaves this space out"
    )


def _chosen(space: spaces.Space, given: Any) -> dict[str, Any]:
    """The choices for the whole or for parts of a space, by key path."""
    if given is None:
        return {}
    chosen = dict(given) if isinstance(given, Mapping) else {"": given}
    paths = by_path(space)
    for path in chosen:
        if path not in paths:
            known = ", ".join(repr(known) for known in paths if known) or "none"
            raise ValueError(f"there is no observation key {path!r}; there are {known}")
    return chosen


def _below(path: str, key: Any) -> str:
    return f"{path}.{key}" if path else str(key)


@contextmanager
def _named(path: str) -> Iterator[None]:
    """Prefixes errors with the key that they are about."""
    try:
        yield
    except ValueError as error:
        if not path:
            raise
        raise ValueError(f"observation key {path!r}: {error}") from error
