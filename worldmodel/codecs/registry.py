"""Heads and encoders by name, where more than one fits a space."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from gymnasium import spaces

from worldmodel.codecs.base import DistModule, Encoder, is_binary
from worldmodel.codecs.convolutional import image_head, is_image
from worldmodel.codecs.heads import (
    BernoulliHead,
    BetaHead,
    BivariateMixtureHead,
    CategoricalHead,
    DiscretisedLogisticHead,
    FrameHead,
    FullNormalHead,
    JointHead,
    LowRankNormalHead,
    MixedHead,
    MixtureHead,
    NADEHead,
    NormalHead,
    StudentHead,
    SubsetHead,
    SymlogNormalHead,
)
from worldmodel.registry import Registry


class Fit(NamedTuple):
    """The spaces that a head fits."""

    name: str
    holds: Callable[[Any], bool]


class NamedHead(NamedTuple):
    """A head and what it is for."""

    fit: Fit
    make: Callable[..., DistModule]  # (space, input_size, **options)


class NamedEncoder(NamedTuple):
    """An encoder and what it is for."""

    fit: Fit
    make: Callable[..., Encoder]  # (space, **options)


def _is_vector(space: spaces.Space) -> bool:
    return isinstance(space, spaces.Box | spaces.MultiBinary) and len(space.shape) == 1


def _has_one_range(space: spaces.Space) -> bool:
    if not isinstance(space, spaces.Box) or is_binary(space):
        return False
    if not (space.is_bounded() and space.low.size):
        return False
    return bool((space.low == space.low.min()).all() and (space.high == space.high.max()).all())


def _is_stroke(space: spaces.Space) -> bool:
    if not (isinstance(space, spaces.Dict) and set(space) == {"offset", "pen"}):
        return False
    offset, pen = space["offset"], space["pen"]
    is_plane = BOX.holds(offset) and offset.shape == (2,)
    return is_plane and isinstance(pen, spaces.Discrete)


DISCRETE = Fit(
    "Discrete and MultiDiscrete spaces",
    lambda s: isinstance(s, spaces.Discrete | spaces.MultiDiscrete),
)
BINARY = Fit("spaces of truth values, MultiBinary or Box of bool", is_binary)
BITS = Fit("spaces of truth values of one dimension", lambda s: BINARY.holds(s) and _is_vector(s))
BOX = Fit("Box spaces of numbers", lambda s: isinstance(s, spaces.Box) and not is_binary(s))
VECTOR = Fit("Box spaces of one dimension", lambda s: BOX.holds(s) and _is_vector(s))
BOUNDED = Fit("bounded Box spaces", lambda s: BOX.holds(s) and s.is_bounded())
LEVELS = Fit("Box spaces whose numbers have the same finite bounds", _has_one_range)
PIXELS = Fit(
    "images, Box spaces [H, W, C] of 8-bit integers from 0 up, 8 or more pixels a side",
    lambda s: BOX.holds(s) and is_image(s),
)
SILHOUETTE = Fit(
    "images of truth values, [H, W, C], 8 or more pixels a side",
    lambda s: BINARY.holds(s) and is_image(s),
)
STROKE = Fit("Dict spaces of an offset, Box (2,), and a pen, Discrete", _is_stroke)


def _categorical(
    space: spaces.Discrete | spaces.MultiDiscrete, input_size: int
) -> CategoricalHead:
    n = space.n if isinstance(space, spaces.Discrete) else space.nvec
    return CategoricalHead(input_size, n, space.start)


def _discretised(
    space: spaces.Box, input_size: int, levels: int | None = None, **options: Any
) -> DiscretisedLogisticHead:
    if levels is None and not np.issubdtype(space.dtype, np.integer):
        raise ValueError(
            f"the head 'discretised-logistic' expects integers or a number of levels, but the "
            f"space is {space}; pass levels=..., how many equally spaced values it has"
        )
    low, high = space.low.min().item(), space.high.max().item()
    return DiscretisedLogisticHead(input_size, space.shape, low, high, levels, **options)


def _strokes(space: spaces.Dict, input_size: int, **options: Any) -> JointHead:
    offset = BivariateMixtureHead(input_size, **options)
    return JointHead({"offset": offset, "pen": _categorical(space["pen"], input_size)})  # type: ignore


HEADS: Registry[NamedHead] = Registry(
    "head",
    {
        "categorical": NamedHead(DISCRETE, _categorical),
        "bernoulli": NamedHead(BINARY, lambda s, size, **o: BernoulliHead(size, s.shape, **o)),
        "nade": NamedHead(BITS, lambda s, size, **o: NADEHead(size, s.shape[0], **o)),
        "subset": NamedHead(BITS, lambda s, size, **o: SubsetHead(size, s.shape[0], **o)),
        "normal": NamedHead(BOX, lambda s, size, **o: NormalHead(size, s.shape, **o)),
        "student-t": NamedHead(BOX, lambda s, size, **o: StudentHead(size, s.shape, **o)),
        "symlog-normal": NamedHead(BOX, lambda s, size, **o: SymlogNormalHead(size, s.shape, **o)),
        "mixed": NamedHead(BOX, lambda s, size, **o: MixedHead(size, s.shape, **o)),
        "full-normal": NamedHead(VECTOR, lambda s, size: FullNormalHead(size, s.shape[0])),
        "low-rank-normal": NamedHead(
            VECTOR, lambda s, size, **o: LowRankNormalHead(size, s.shape[0], **o)
        ),
        "mixture": NamedHead(BOX, lambda s, size, **o: MixtureHead(size, s.shape, **o)),
        "discretised-logistic": NamedHead(LEVELS, _discretised),
        "autoregressive": NamedHead(VECTOR, lambda s, size, **o: FrameHead(size, s.shape[0], **o)),
        "beta": NamedHead(BOUNDED, lambda s, size: BetaHead(size, s.low, s.high)),
        "image-mse": NamedHead(PIXELS, lambda s, size, **o: image_head(s, size, "mse", **o)),
        "image-bernoulli": NamedHead(
            SILHOUETTE, lambda s, size, **o: image_head(s, size, "bernoulli", **o)
        ),
        "image-discretised-logistic": NamedHead(
            PIXELS, lambda s, size, **o: image_head(s, size, "discretised-logistic", **o)
        ),
        "strokes": NamedHead(STROKE, _strokes),
    },
)
"""Heads by name: which spaces each fits, and what makes it."""


def register_head(
    name: str,
    make: Callable[..., DistModule],
    holds: Callable[[Any], bool] = lambda space: True,
    fits: str = "spaces of its own kind",
) -> None:
    """Adds a head to `HEADS`: from now on `head_for(name, ...)` and `--head NAME` make one.

    make: (space, input_size, **options) -> DistModule; holds: whether a space is one that it
    fits; fits: what these are called, as in "Box spaces".
    """
    HEADS.register(name, NamedHead(Fit(fits, holds), make))


def head_for(name: str, space: spaces.Space, input_size: int, **options: Any) -> DistModule:
    """The head `name` of `HEADS` for values of `space`, from features [*, input_size].

    options: the head's own, such as `hidden` of "nade" or `components` of the mixtures.

    >>> type(head_for("nade", spaces.MultiBinary(88), 16, hidden=32)).__name__
    'NADEHead'
    """
    _check_fit(HEADS, name, space)
    return HEADS[name].make(space, input_size, **options)


ENCODERS: Registry[NamedEncoder] = Registry("encoder", {})  # `codecs.spaces` adds the library's
"""Encoders of observations by name: which spaces each fits, and what makes it."""


def register_encoder(
    name: str,
    make: Callable[..., Encoder],
    holds: Callable[[Any], bool] = lambda space: True,
    fits: str = "spaces of its own kind",
) -> None:
    """Adds an encoder to `ENCODERS`: from now on `encoder_for(space, name)` makes one.

    make: (space, **options) -> Encoder; holds: whether a space is one that it fits; fits: what
    these are called, as in "Box spaces".
    """
    ENCODERS.register(name, NamedEncoder(Fit(fits, holds), make))


def named_encoder(name: str, space: spaces.Space, **options: Any) -> Encoder:
    """The encoder `name` of `ENCODERS` for values of `space`; options: the encoder's own."""
    _check_fit(ENCODERS, name, space)
    return ENCODERS[name].make(space, **options)


def _check_fit(registry: Registry[Any], name: str, space: spaces.Space) -> None:
    """Refuses a thing of a registry that does not fit a space."""
    fit = registry[name].fit
    if not fit.holds(space):
        fitting = ", ".join(other for other, thing in registry.items() if thing.fit.holds(space))
        raise ValueError(
            f"the {registry.kind} {name!r} expects {fit.name}, but the space is {space}; "
            f"{registry.kind}s that fit it: {fitting or 'none'}"
        )
