"""Modalities: the data of sequences, and the first and last layers of their models."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np
from gymnasium import spaces

from worldmodel import nested
from worldmodel.agent import Agent, NullAgent
from worldmodel.codecs import DistModule, Encoder, decoder_for, encoder_for, is_binary
from worldmodel.codecs.spaces import by_path, parts_of
from worldmodel.episodes import Episodes, EpisodeSource
from worldmodel.model import WorldModel
from worldmodel.sequential_batches import Vary
from worldmodel.space_json import to_json

NOBODY = spaces.Box(-1.0, 1.0, (0,))
RARE = "\N{REPLACEMENT CHARACTER}"  # stands for all characters that were never learned


class Modality(ABC):
    """A kind of sequences: a space of frames, first and last layers, and how recordings of the
    user's become arrays and come back."""

    frame = "frame"  # the name of a row
    default_head = "default"
    default_recurrence = "default"  # of the core
    skips = False  # the last layer reads a `SkipGRU`'s output, and so the context, itself
    action_space: spaces.Space = NOBODY

    @property
    @abstractmethod
    def observation_space(self) -> spaces.Space:
        """The space of a frame."""

    @property
    def has_density(self) -> bool:
        """True if losses are of densities: a frame has real numbers."""
        return any(map(_is_real, by_path(self.observation_space).values()))

    def agent(self) -> Agent:
        """The agent that acts in recordings and in dreams; most have none."""
        return NullAgent()

    def actions(self, length: int) -> np.ndarray:
        """The agent's actions over `length` frames, [T, ...]; entry 0 is a placeholder."""
        return np.zeros((length, 0), np.float32)

    def separated(self, data: Any) -> list[Any]:
        """The recordings of a user's data."""
        return recordings_of(data)

    def steering(self, recording: Any, beyond: int = 0) -> np.ndarray | None:
        """The actions of a recording of the user's and of the frames `beyond` it, [T, ...]; None:
        those of the agent."""
        return None

    def counted(self, observation: Any) -> np.ndarray:
        """True for the frames that losses are means over, leaves [N, ...] -> bool [N]: all, but
        those that are read alone."""
        return np.ones(len(nested.leaves(observation)[0]), bool)

    def begin(self, model: WorldModel, train: EpisodeSource) -> None:
        """Sets the first weights by the training recordings; most begin at random."""
        return

    @property
    def vary(self) -> Vary | None:
        """The maker of other recordings, as likely as those that there are, to learn from (see
        `SequentialBatches`); most have nothing of the kind."""
        return None

    def encoder(self) -> Encoder:
        """The encoder of frames."""
        return encoder_for(self.observation_space)

    def head(self, name: str, input_size: int, **options: Any) -> DistModule:
        """The last layer, by its name in `HEADS`, or "default"."""
        name = self.default_head if name == "default" else name
        head = None if name == "default" else (name, options)
        return decoder_for(self.observation_space, input_size, head)

    def correction(self, observation: Any) -> Any:
        """Nats that are added to the log likelihoods of frames, leaves [*, ...] -> a number or
        [*], where figures are of other values than those that the model reads."""
        return 0.0

    def encode(self, recording: Any) -> Any:
        """A recording of the user's as observations, numpy leaves [T, ...]."""
        return recording

    def decode(self, observation: Any) -> Any:
        """Observations, numpy leaves [T, ...], as a recording of the user's."""
        return observation


class Characters(Modality):
    """Text: strings, character by character. Unknown characters are one symbol, the first."""

    frame = "character"

    def __init__(self, symbols: str):
        """symbols: the characters that have a number of their own, `RARE` first."""
        self.symbols = symbols
        self.numbers = {symbol: number for number, symbol in enumerate(symbols)}
        self.dtype = np.min_scalar_type(len(symbols) - 1)

    @classmethod
    def of(cls, texts: Sequence[str]) -> "Characters":
        """The characters of some texts."""
        return cls(RARE + "".join(sorted(set().union(*texts) - {RARE})))

    @property
    def observation_space(self) -> spaces.Discrete:
        return spaces.Discrete(len(self.symbols))

    def encode(self, recording: str) -> np.ndarray:
        if not isinstance(recording, str):
            raise ValueError(f"this model learned text, but got {type(recording).__name__}")
        numbers = (self.numbers.get(character, 0) for character in recording)
        return np.fromiter(numbers, self.dtype, len(recording))

    def decode(self, observation: np.ndarray) -> str:
        return "".join(self.symbols[number] for number in observation)


class Arrays(Modality):
    """Arrays [T, ...] of classes (integers), truth values or real numbers, or nested ones.

    Real numbers are a mixture of Gaussians by default, truth values Bernoulli, integers
    categorical.
    """

    def __init__(self, space: spaces.Space, dtype: str | None = None):
        """dtype: of the user's arrays, to which samples are converted; None: that of the
        space."""
        self.space = space
        self.dtype = dtype

    @classmethod
    def of(cls, arrays: Sequence[np.ndarray]) -> "Arrays":
        """The space of some arrays [T, ...]: the range of integers is that of what they hold."""
        if len({array.shape[1:] for array in arrays}) > 1 or not arrays[0].ndim:
            shapes = ", ".join(sorted({str(list(array.shape)) for array in arrays}))
            raise ValueError(
                f"recordings are arrays [T, ...] whose frames have one shape, got {shapes}"
            )
        whole = np.concatenate(arrays)
        return cls(space_of(whole), str(whole.dtype))

    @property
    def observation_space(self) -> spaces.Space:
        return self.space

    def head(self, name: str, input_size: int, **options: Any) -> DistModule:
        if name != "default":
            return super().head(name, input_size, **options)
        real = {path: part for path, part in by_path(self.space).items() if _is_real(part)}
        heads = dict.fromkeys(real, ("mixture", options))
        return decoder_for(self.space, input_size, heads or None)

    def encode(self, recording: Any) -> Any:
        if self.dtype is None:
            return recording
        array = np.asarray(recording)
        expected, space = _like(self.space), self.space
        if array.shape[1:] != expected.shape[1:] or not array.ndim:
            raise ValueError(
                f"this model learned frames of shape {list(expected.shape[1:])}, but a recording "
                f"came of shape {list(array.shape)}"
            )
        if _is_real(space) != (array.dtype.kind == "f") or not np.isfinite(array).all():
            raise ValueError(
                f"this model learned {self.dtype} of {space}, but {array.dtype} came, or numbers "
                "that are not finite"
            )
        converted = array.astype(expected.dtype)
        low, high = _range(space)
        if ((array < low) | (array > high)).any():
            raise ValueError(
                f"this model learned values within {space}, but some lie between {array.min()} "
                f"and {array.max()}: pass observation_space= with all that may come"
            )
        return converted

    def decode(self, observation: Any) -> Any:
        return observation if self.dtype is None else observation.astype(self.dtype)

    def to_json(self) -> dict[str, Any]:
        """The modality as JSON."""
        return {"space": to_json(self.space), "dtype": self.dtype}


def recordings_of(data: Any) -> list[Any]:
    """The recordings of data: the items of a list, or of an array [N, T, ...] with frames of one
    dimension or more; else the data itself is one.

    >>> len(recordings_of("abc")), len(recordings_of(["abc", "de"])), len(recordings_of([1, 2, 3]))
    (1, 2, 1)
    """
    is_list = isinstance(data, list | tuple)
    if is_list and not any(isinstance(item, str) or np.ndim(item) for item in data):
        is_list, data = False, np.asarray(data)
    found = list(data) if is_list or np.ndim(data) > 2 else [data]
    if not found or any(not len(recording) for recording in found):
        raise ValueError(
            "expected one recording or more, of one frame or more each, got recordings of "
            f"{list(map(len, found))} frames"
        )
    return found


def space_of(column: Any) -> spaces.Space:
    """The space of observations, numpy leaves [N, ...]: classes from the lowest integer to the
    highest, truth values, numbers without bounds."""
    if isinstance(column, dict):
        return spaces.Dict({key: space_of(part) for key, part in column.items()})
    if isinstance(column, tuple):
        return spaces.Tuple([space_of(part) for part in column])
    kind, shape = column.dtype.kind, column.shape[1:]
    if kind == "f":
        return spaces.Box(-np.inf, np.inf, shape)
    if kind not in "biu":
        raise ValueError(f"sequences hold numbers, integers or truth values, got {column.dtype}")
    if shape and (kind == "b" or set(np.unique(column)) <= {0, 1}):
        return spaces.MultiBinary(shape[0] if len(shape) == 1 else list(shape))
    low, high = column.min(0).astype(np.int64), column.max(0).astype(np.int64)
    if not shape:
        return spaces.Discrete(max(2, int(high - low + 1)), start=int(low))
    return spaces.MultiDiscrete(np.maximum(high - low + 1, 2), start=low)


def as_episodes(
    modality: Modality, observations: list[Any], actions: Sequence[Any] | None = None
) -> Episodes:
    """Recordings, numpy leaves [T, ...] each, as episodes without rewards and ends. actions: of
    each, [T, ...]; None: those of the modality's agent."""
    lengths = np.array([len(nested.leaves(o)[0]) for o in observations])
    rows = int(lengths.sum())
    given = actions or [None] * len(lengths)
    steered = [
        modality.actions(length) if action is None else action
        for length, action in zip(lengths.tolist(), given, strict=True)
    ]
    columns = {
        "action": np.concatenate(steered),
        "observation": nested.map(lambda *leaves: np.concatenate(leaves), *observations),
        "reward": np.zeros(rows, np.float32),
        "terminated": np.zeros(rows, bool),
    }
    return Episodes(columns, lengths)


def _is_real(space: spaces.Space) -> bool:
    is_leaf = not parts_of(space)
    return is_leaf and isinstance(space, spaces.Box) and np.issubdtype(space.dtype, np.floating)


def _like(space: spaces.Space) -> np.ndarray:
    """An array of no frames, as a model of `space` reads them."""
    shape: Any = space.shape
    dtype: Any = space.dtype if _is_real(space) else bool if is_binary(space) else np.int64
    return np.empty((0, *shape), dtype)


def _range(space: Any) -> tuple[Any, Any]:
    """The lowest and the highest value of a space without parts."""
    if isinstance(space, spaces.Discrete):
        return space.start, space.start + space.n - 1
    if isinstance(space, spaces.MultiDiscrete):
        return space.start, space.start + space.nvec - 1
    return (0, 1) if is_binary(space) else (space.low, space.high)
