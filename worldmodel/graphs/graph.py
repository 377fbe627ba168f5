"""Steps as graphs: each is of tensors in and tensors out.

State and noise are among them, so that whoever runs a graph holds all that it depends on.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

from worldmodel import nested
from worldmodel.graphs.operators import OPERATORS
from worldmodel.graphs.tape import Plain, Tape
from worldmodel.noise import Noise, NoiseStream

NOISE = {"normal": "standard normal", "uniform": "uniform on [0, 1)"}
Tensors = dict[str, Tensor]
Step = Callable[[Tensors], Tensors]


class Graph(NamedTuple):
    """A step as ONNX, and as torch computes it."""

    model: Any  # an onnx.ModelProto
    step: Step  # inputs by name, the noise among them -> outputs by name
    inputs: Tensors  # examples: of the state those that a game begins with
    outputs: Tensors
    state: tuple[str, ...]  # the names of inputs whose values after the step are outputs

    @property
    def noise(self) -> tuple[str, ...]:
        """The names of inputs that are noise."""
        return tuple(name for name in NOISE if name in self.inputs)

    def described(self) -> dict[str, Any]:
        """Names, shapes and types of inputs and outputs, as JSON has them."""
        inputs = [
            _described(name, tensor)
            | ({"initial": _initial(tensor), "next": next_of(name)} if name in self.state else {})
            | ({"noise": NOISE[name]} if name in self.noise else {})
            for name, tensor in self.inputs.items()
        ]
        outputs = [_described(name, tensor) for name, tensor in self.outputs.items()]
        return {"inputs": inputs, "outputs": outputs}


def _described(name: str, tensor: Tensor) -> dict[str, Any]:
    return {"name": name, "shape": [*tensor.shape], "type": str(tensor.numpy().dtype)}


def _initial(tensor: Tensor) -> Any:
    """The number that fills a tensor, or the numbers in it."""
    numbers = tensor.flatten().tolist()
    return numbers[0] if len(set(numbers)) == 1 else tensor.tolist()


def names_of(tree: Any, prefix: str) -> Any:
    """The names of the leaves of a tree, nested as it is; a tree that is a leaf has the prefix."""
    if isinstance(tree, Tensor):
        return prefix
    if isinstance(tree, Mapping):
        return {key: names_of(part, f"{prefix}.{key}") for key, part in tree.items()}
    keys = getattr(tree, "_fields", range(len(tree)))
    parts = [names_of(part, f"{prefix}.{key}") for key, part in zip(keys, tree, strict=True)]
    return type(tree)(*parts) if hasattr(tree, "_fields") else type(tree)(parts)


def flat(tree: Any, prefix: str) -> Tensors:
    """The leaves of a tree by name; those of size zero are left out."""
    named = zip(nested.leaves(names_of(tree, prefix)), nested.leaves(tree), strict=True)
    return {name: leaf for name, leaf in named if leaf.numel()}


def next_of(name: str) -> str:
    """The name of the output that a part of the state becomes."""
    return name.replace("state", "next", 1)


def filled(tree: Any, prefix: str, values: Mapping[str, Tensor]) -> Any:
    """A tree like another one, with values by name."""
    names = names_of(tree, prefix)
    return nested.map(lambda leaf, name: values.get(name, leaf), tree, names)


@torch.no_grad()
def graph_of(
    step: Step,
    inputs: Tensors,
    state: tuple[str, ...] = (),
    weights: Mapping[str, Tensor] | None = None,
) -> Graph:
    """Records a step as a graph. Draws become functions of the noise `normal` and `uniform`.

    weights: tensors that the step reads by itself and that are to be inputs of the graph, too;
    all others are constants.
    """
    with NoiseStream() as stream:
        step(inputs)
    taken = stream.taken
    inputs = inputs | {name: x for name, x in taken._asdict().items() if len(x)}

    def with_noise(values: Tensors) -> Tensors:
        given = Noise(*(values.get(name, torch.zeros(0)) for name in Noise._fields))
        with torch.no_grad(), NoiseStream(given):
            return step(values)

    copies = {name: tensor.clone() for name, tensor in inputs.items()}
    tape = Tape(copies | dict(weights or {}), OPERATORS)
    with Plain(), tape:
        outputs = with_noise(copies)
    return Graph(tape.model(outputs), with_noise, inputs, outputs, state)


def session_of(model: Any, threads: int = 1) -> Any:
    """A session of onnxruntime, whose threads sleep while there is nothing to do."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3
    data = model.SerializeToString()
    return onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
