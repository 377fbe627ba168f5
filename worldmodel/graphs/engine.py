"""Functions of tensors, run by onnxruntime, which calls no Python between two operations: of few
rows most of torch's time is that."""

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from importlib.util import find_spec
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from worldmodel import nested
from worldmodel.graphs.graph import Tensors, filled, flat, graph_of, session_of
from worldmodel.noise import OwnNoise

PACKAGES = ("onnx", "onnxruntime")
MISSING = "onnxruntime runs graphs that onnx writes, and there is no {} here: {}"
INSTALL = "pip install 'worldmodel-gym[onnx]'"
DRAWS: dict[str, Callable[[int], Tensor]] = {"normal": torch.randn, "uniform": torch.rand}


def missing_packages() -> list[str]:
    """The packages that graphs are written and run by, and that are not installed."""
    return [name for name in PACKAGES if find_spec(name) is None]


def check_onnxruntime() -> None:
    """Raises ValueError where a package is missing that graphs are written and run by."""
    if missing := missing_packages():
        raise ValueError(MISSING.format(" and ".join(missing), INSTALL))


class Prepared(NamedTuple):
    """A graph that is ready to run."""

    session: Any
    names: tuple[str, ...]  # of the arguments' leaves, "" of those of size zero
    noise: tuple[tuple[str, int], ...]  # its kinds, and how many numbers of each
    weights: Mapping[str, np.ndarray]  # views of tensors that change
    outputs: tuple[Callable[[Sequence[np.ndarray]], Tensor], ...]
    fill: Callable[[Iterator[Tensor]], Any]  # the leaves of a result -> the result


class GraphFunction:
    """A function of trees of tensors, computed by onnxruntime, where no gradient is recorded.

    It is written as a graph when it is first called, which takes some hundredths of a second; for
    each shape of its arguments anew, and when a weight that it reads has changed. Noise is drawn
    by torch, and all draws are computed from it (`NoiseStream`): other draws than torch's own, of
    the same distribution. What cannot be written is computed by torch from then on, which is said.
    """

    def __init__(
        self,
        function: Callable[..., Any],
        say: Callable[[str], None],
        reads: Iterable[nn.Module],
        changing: nn.Module | None = None,
    ):
        """say: called with a sentence where torch computes it after all; reads: all modules whose
        weights the function reads; changing: the one among them that learns between two calls,
        whose weights become inputs of the graph."""
        self.function = function
        self.reads = list(reads)
        self.changing = changing
        self.say = say
        self._prepared: dict[Any, Prepared] | None = {}  # by shapes; None: torch computes it
        self._versions = -1
        self._constants: list[Tensor] = []

    def __getstate__(self) -> dict[str, Any]:
        """All but the graphs, which other processes write themselves."""
        written: dict[str, Any] = {
            "_prepared": None if self._prepared is None else {},
            "_versions": -1,
        }
        return self.__dict__ | written | {"_constants": []}

    def __call__(self, *args: Any) -> Any:
        leaves = nested.leaves(args)
        if self._prepared is None or torch.is_grad_enabled() or not all(map(_is_here, leaves)):
            return self.function(*args)
        versions = sum(tensor._version for tensor in self._constants)
        if versions != self._versions:
            self._prepared.clear()
        key = tuple((leaf.shape, leaf.dtype) for leaf in leaves)
        prepared = self._prepared.get(key)
        if prepared is None:
            try:
                check_onnxruntime()
                prepared = self._prepared[key] = self._prepare(args)
            except Exception as error:  # of any kind: the tape's, torch's, onnxruntime's
                self._prepared = None
                name = getattr(self.function, "__qualname__", "this")
                reason = str(error).strip().split("\n")[0][:200]
                self.say(f"{name} is computed by torch, not by onnxruntime ({reason})")
                return self.function(*args)
        return _run(prepared, leaves)

    def _prepare(self, args: tuple[Any, ...]) -> Prepared:
        self._constants = self._all_constants()
        self._versions = sum(tensor._version for tensor in self._constants)
        results: list[Any] = []

        def step(values: Tensors) -> Tensors:
            results.append(self.function(*filled(args, "in", values)))
            return flat(results[-1], "out")

        weights = {} if self.changing is None else dict(self.changing.named_parameters("weight"))
        inputs = flat(args, "in")
        with OwnNoise(0)():  # that of the caller goes on as if nothing had been written
            graph = graph_of(step, inputs, weights=weights)
        session, left = session_of(graph.model, torch.get_num_threads()), iter(inputs)
        used = {given.name for given in session.get_inputs()}
        places = itertools.count()
        return Prepared(
            session,
            tuple(next(left) if leaf.numel() else "" for leaf in nested.leaves(args)),
            tuple((name, len(graph.inputs[name])) for name in graph.noise),
            {name: w.detach().numpy() for name, w in weights.items() if name in used},
            tuple(
                _output(next(places)) if leaf.numel() else _always(leaf)
                for leaf in nested.leaves(results[0])
            ),
            _filler(results[0]),
        )

    def _all_constants(self) -> list[Tensor]:
        """All that is written into a graph as it is now, and must not have changed."""
        tensors = [t for module in self.reads for t in (*module.parameters(), *module.buffers())]
        changing = () if self.changing is None else self.changing.parameters()
        others = {id(tensor) for tensor in changing}
        return [tensor for tensor in tensors if id(tensor) not in others]


def _filler(tree: Any) -> Callable[[Iterator[Tensor]], Any]:
    """Makes a tree like another one of its leaves, as `nested.fill` does, many times."""
    if isinstance(tree, dict):
        keys, fillers = list(tree), [_filler(part) for part in tree.values()]
        return lambda left: {key: f(left) for key, f in zip(keys, fillers, strict=True)}
    if isinstance(tree, tuple):
        fillers = [_filler(part) for part in tree]
        make = getattr(type(tree), "_make", tuple)
        return lambda left: make([f(left) for f in fillers])
    return next


def _output(place: int) -> Callable[[Sequence[np.ndarray]], Tensor]:
    return lambda found: torch.from_numpy(found[place])


def _always(leaf: Tensor) -> Callable[[Sequence[np.ndarray]], Tensor]:
    return lambda found: leaf


def _is_here(leaf: Any) -> bool:
    return isinstance(leaf, Tensor) and leaf.is_cpu


def _run(prepared: Prepared, leaves: list[Tensor]) -> Any:
    session, names, noise, weights, outputs, fill = prepared
    feed = {name: leaf.numpy() for name, leaf in zip(names, leaves, strict=True) if name}
    for kind, number in noise:
        feed[kind] = DRAWS[kind](number).numpy()
    found = session.run(None, {**feed, **weights})
    return fill(iter([output(found) for output in outputs]))
