"""A tape of what torch computes, as an ONNX graph of fixed shapes.

`torch.onnx.export` takes seven seconds a graph, and what operators it writes depends on its
version. Here every operation is written as it runs (a dispatch mode sees them all), by the table
in `operators`; what no input enters is a constant. So a graph has few operators, whose meaning is
plain, and the page that dreams can compute each of them.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

OPSET = 18
IR_VERSION = 9  # of files that runtimes since 2023 read


# Their values do not depend on those of their arguments.
CONSTANT = frozenset(
    {"zeros_like", "ones_like", "full_like", "empty_like", "new_zeros", "new_ones", "new_full"}
    | {"new_empty", "empty_strided", "new_empty_strided", "fill_", "zero_", "fill", "zeros"}
    | {"ones", "full", "empty", "arange"}
    | {"_is_all_true", "_is_any_true"}  # checks of arguments, which are not repeated
)


class ExportError(ValueError):
    """An error about what cannot be written as a graph, in one sentence."""


class Tape(TorchDispatchMode):
    """Writes the operations that run inside `with tape:` as nodes of a graph."""

    def __init__(self, inputs: Mapping[str, Tensor], operators: Mapping[str, Callable[..., Any]]):
        """inputs: of the graph, by name; other tensors that operations read are constants.
        operators: by the name of a torch operation, what writes it as nodes, (tape, results,
        *arguments) -> the results' names."""
        super().__init__()
        self.operators = operators
        self.nodes: list[Any] = []
        self.constants: dict[bytes, tuple[str, np.ndarray]] = {}
        self.inputs = dict(inputs)
        self._names = {id(tensor): name for name, tensor in inputs.items()}
        self._kept: list[Tensor] = [*inputs.values()]  # an id must not be used again
        self._count = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        name = func._schema.name.removeprefix("aten::")
        is_in_place = name.endswith("_") and not name.startswith("_")
        before = args
        if is_in_place and not self.is_known(args[0]):
            before = (args[0].clone(), *args[1:])  # a constant is written as it was
        result = func(*args, **kwargs)
        if name in CONSTANT or not any(map(self.is_known, _tensors((args, kwargs)))):
            return self._forget(result)
        if name == "_local_scalar_dense":
            raise ExportError(
                "what this model does next depends on the values that it computes, which a graph "
                "cannot express: take other heads or another agent"
            )
        if is_in_place and args[0]._is_view():
            raise ExportError(f"torch's {name} on a part of a tensor cannot be exported")
        write = self.operators.get(name.removesuffix("_") if is_in_place else name)
        if write is None:
            raise ExportError(
                f"this model computes torch's {name}, for which no ONNX operators are known here: "
                "take other heads or another core"
            )
        outputs = [result] if isinstance(result, Tensor) else [*result]
        written = write(self, outputs, *before, **kwargs)
        names = [written] if isinstance(written, str) else written
        for tensor, written_name in zip(outputs, names, strict=False):
            self.know(tensor, written_name)
        return result

    def is_known(self, tensor: Tensor) -> bool:
        """True if an input of the graph enters a tensor. Of nothing nothing depends."""
        return id(tensor) in self._names and tensor.numel() > 0

    def know(self, tensor: Tensor, name: str) -> None:
        """From now on a tensor is the value of this name."""
        self._names[id(tensor)] = name
        self._kept.append(tensor)

    def _forget(self, result: Any) -> Any:
        for tensor in _tensors(result):
            self._names.pop(id(tensor), None)
            self._kept.append(tensor)
        return result

    def name(self, value: Any, like: torch.dtype | None = None) -> str:
        """The name of a value in the graph: a tensor, or a constant of the dtype `like`."""
        if isinstance(value, Tensor):
            if self.is_known(value):
                name = self._names[id(value)]
                return name if like in (None, value.dtype) else self.cast(name, like)
            value = value.detach().to(like or value.dtype)
            with torch._C._DisableTorchDispatch():
                return self.constant(value.contiguous().numpy().copy())
        return self.constant(np.asarray(value, numpy_type(like or torch.float32)))

    def constant(self, array: np.ndarray) -> str:
        """The name of a constant; equal ones have one name."""
        key = repr((array.dtype.str, array.shape)).encode() + array.tobytes()
        if key not in self.constants:
            self.constants[key] = (f"c{len(self.constants)}", array)
        return self.constants[key][0]

    def ints(self, *numbers: int) -> str:
        """The name of a constant of integers [n]."""
        return self.constant(np.asarray(numbers, np.int64))

    def op(self, kind: str, *inputs: str, outputs: int = 1, **attributes: Any) -> Any:
        """Writes a node; the name of its output, or of several."""
        from onnx import helper

        names = [f"v{self._count + n}" for n in range(outputs)]
        self._count += outputs
        self.nodes.append(helper.make_node(kind, inputs, names, **attributes))
        return names[0] if outputs == 1 else names

    def cast(self, name: str, to: torch.dtype) -> str:
        """Casts a value."""
        return str(self.op("Cast", name, to=onnx_type(to)))

    def reshape(self, name: str, shape: Sequence[int]) -> str:
        """Gives a value another shape."""
        return str(self.op("Reshape", name, self.ints(*shape)))

    def slice(self, name: str, dim: int, begin: int, end: int, step: int = 1) -> str:
        """Takes a part of a value along one dimension."""
        where = (self.ints(begin), self.ints(end), self.ints(dim), self.ints(step))
        return str(self.op("Slice", name, *where))

    def model(self, outputs: Mapping[str, Tensor]) -> Any:
        """The graph (an `onnx.ModelProto`), whose outputs are given by name."""
        from onnx import checker, helper, numpy_helper

        for name, tensor in outputs.items():
            self.nodes.append(helper.make_node("Identity", [self.name(tensor)], [name]))
        read, made = (
            [
                helper.make_tensor_value_info(name, onnx_type(tensor.dtype), tensor.shape)
                for name, tensor in given.items()
            ]
            for given in (self.inputs, outputs)
        )
        nodes = _needed(self.nodes, set(outputs))
        used = {name for node in nodes for name in node.input}
        stored = [
            numpy_helper.from_array(array, name)
            for name, array in self.constants.values()
            if name in used
        ]
        graph = helper.make_graph(nodes, "worldmodel", read, made, stored)
        opset = [helper.make_opsetid("", OPSET)]
        model = helper.make_model(graph, opset_imports=opset, producer_name="worldmodel")
        model.ir_version = IR_VERSION
        checker.check_model(model)
        return model


def _needed(nodes: Sequence[Any], wanted: set[str]) -> list[Any]:
    """The nodes that the wanted values are computed by."""
    kept = []
    for node in reversed(nodes):
        if wanted & set(node.output):
            kept.append(node)
            wanted |= set(node.input)
    return kept[::-1]


def _tensors(tree: Any) -> list[Tensor]:
    if isinstance(tree, Tensor):
        return [tree]
    if isinstance(tree, dict):
        return _tensors([*tree.values()])
    return [x for part in tree for x in _tensors(part)] if isinstance(tree, list | tuple) else []


def numpy_type(dtype: torch.dtype) -> np.dtype:
    """NumPy's type of torch's."""
    return torch.zeros((), dtype=dtype).numpy().dtype


def onnx_type(dtype: torch.dtype) -> int:
    """ONNX's number of torch's type."""
    from onnx import helper

    of: Any = helper.np_dtype_to_tensor_dtype
    return int(of(numpy_type(dtype)))


class Plain(TorchFunctionMode):
    """Computes by plain operations what torch has kernels for whose steps a tape cannot see."""

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        plain: Any = {"one_hot": _one_hot, "lstm": _lstm}.get(getattr(func, "__name__", ""))
        return (plain or func)(*args, **(kwargs or {}))


def _one_hot(index: Tensor, num_classes: int) -> Tensor:
    """torch.nn.functional.one_hot, which looks at the values first."""
    return (index[..., None] == torch.arange(num_classes)).long()


def _lstm(
    inputs: Tensor, begin: Sequence[Tensor], weights: Sequence[Tensor], *_: Any
) -> tuple[Tensor, Tensor, Tensor]:
    """torch.lstm of one layer, time first."""
    hidden, memory = (state[0] for state in begin)
    outputs = []
    for x in inputs.unbind(0):
        gates = F.linear(x, weights[0], weights[2]) + F.linear(hidden, weights[1], weights[3])
        written, forget, new, output = gates.chunk(4, -1)
        memory = forget.sigmoid() * memory + written.sigmoid() * new.tanh()
        hidden = output.sigmoid() * memory.tanh()
        outputs.append(hidden)
    return torch.stack(outputs), hidden[None], memory[None]
