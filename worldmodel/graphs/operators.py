"""torch's operations in ONNX operators: a table, (tape, results, *arguments) -> names.

Shapes are fixed, so everything that only looks at a tensor another way is a Reshape, a Slice or a
Transpose. What runtimes do not compute in small integers is computed in int32.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from worldmodel.graphs.tape import ExportError, Tape

Write = Callable[..., Any]
COMPUTED = (torch.float32, torch.float64, torch.int32, torch.int64)  # by all runtimes


def _working(*dtypes: torch.dtype) -> torch.dtype:
    """The type that values of these types are computed in."""
    wide = dtypes[0]
    for dtype in dtypes[1:]:
        wide = torch.promote_types(wide, dtype)
    return wide if wide in COMPUTED else torch.int32


def _type_of(value: Any) -> list[torch.dtype]:
    return [value.dtype] if isinstance(value, Tensor) and value.dim() else []


def _result(tape: Tape, name: str, dtype: torch.dtype, out: Tensor) -> str:
    return name if dtype == out.dtype else tape.cast(name, out.dtype)


def _unary(kind: str) -> Write:
    def write(tape: Tape, outs: list[Tensor], x: Tensor, *_: Any, **__: Any) -> str:
        (out,) = outs
        dtype = _working(out.dtype)
        return _result(tape, tape.op(kind, tape.name(x, dtype)), dtype, out)

    return write


def _binary(kind: str) -> Write:
    def write(
        tape: Tape, outs: list[Tensor], a: Any, b: Any, *_: Any, alpha: Any = 1, **more: Any
    ) -> str:
        if more.get("rounding_mode") is not None:
            raise ExportError("divisions that are rounded cannot be exported")
        (out,) = outs
        dtype = _working(out.dtype)
        second = tape.name(b, dtype)
        if alpha != 1:
            second = tape.op("Mul", second, tape.name(alpha, dtype))
        return _result(tape, tape.op(kind, tape.name(a, dtype), second), dtype, out)

    return write


def _compared(kind: str) -> Write:
    def write(tape: Tape, outs: list[Tensor], a: Any, b: Any) -> str:
        dtypes = [*_type_of(a), *_type_of(b)] or [x.dtype for x in (a, b) if hasattr(x, "dtype")]
        if isinstance(b, float):
            dtypes.append(torch.float32)
        dtype = _working(*dtypes)
        name = "Equal" if kind == "Different" else kind
        found = tape.op(name, tape.name(a, dtype), tape.name(b, dtype))
        return str(tape.op("Not", found) if kind == "Different" else found)

    return write


def _truths(kind: str) -> Write:
    def write(tape: Tape, outs: list[Tensor], *values: Any) -> str:
        if outs[0].dtype != torch.bool:
            raise ExportError("bits of integers cannot be exported")
        return str(tape.op(kind, *(tape.name(x, torch.bool) for x in values)))

    return write


def _viewed(tape: Tape, outs: list[Tensor], x: Tensor, *_: Any, **__: Any) -> str:
    return tape.reshape(tape.name(x), outs[0].shape)


def _same(tape: Tape, outs: list[Tensor], x: Tensor, *_: Any, **__: Any) -> str:
    return tape.name(x)


def _cast(tape: Tape, outs: list[Tensor], x: Tensor, *_: Any, **__: Any) -> str:
    return tape.name(x, outs[0].dtype)


def _copied(tape: Tape, outs: list[Tensor], x: Tensor, source: Tensor, *_: Any) -> str:
    return _expanded(tape, outs, source)


def _expanded(tape: Tape, outs: list[Tensor], x: Tensor, *_: Any, **__: Any) -> str:
    name = tape.name(x, outs[0].dtype)
    if x.shape == outs[0].shape:
        return name
    return str(tape.op("Expand", name, tape.ints(*outs[0].shape)))


def _repeated(tape: Tape, outs: list[Tensor], x: Tensor, repeats: Sequence[int]) -> str:
    shape = [1] * (len(repeats) - x.dim()) + list(x.shape)
    beside = [n for times, size in zip(repeats, shape, strict=True) for n in (times, size)]
    apart = [n for size in shape for n in (1, size)]
    name = tape.op("Expand", tape.reshape(tape.name(x), apart), tape.ints(*beside))
    return tape.reshape(name, outs[0].shape)


def _permuted(tape: Tape, outs: list[Tensor], x: Tensor, dims: Sequence[int]) -> str:
    return str(tape.op("Transpose", tape.name(x), perm=[d % x.dim() for d in dims]))


def _transposed(tape: Tape, outs: list[Tensor], x: Tensor, a: int = 0, b: int = 1) -> str:
    order = [*range(x.dim())]
    if order:
        order[a], order[b] = order[b], order[a]
    return _permuted(tape, outs, x, order)


def _sliced(
    tape: Tape,
    outs: list[Tensor],
    x: Tensor,
    dim: int = 0,
    start: int | None = None,
    end: int | None = None,
    step: int = 1,
) -> str:
    if x.shape == outs[0].shape:
        return tape.name(x)
    begin, stop, _ = slice(start, end).indices(x.shape[dim])
    return tape.slice(tape.name(x), dim % x.dim(), begin, stop, step)


def _selected(tape: Tape, outs: list[Tensor], x: Tensor, dim: int, index: int) -> str:
    place = index % x.shape[dim]
    name = tape.name(x)
    if x.shape[dim] > 1:
        name = tape.slice(name, dim % x.dim(), place, place + 1)
    return tape.reshape(name, outs[0].shape)


def _split(
    tape: Tape, outs: list[Tensor], x: Tensor, _sizes: Any, dim: int = 0, **__: Any
) -> list[str]:
    names, begin = [], 0
    for out in outs:
        size = out.shape[dim]
        names.append(tape.slice(tape.name(x), dim % x.dim(), begin, begin + size))
        begin += size
    return names


def _unbound(tape: Tape, outs: list[Tensor], x: Tensor, dim: int = 0) -> list[str]:
    return [_selected(tape, [out], x, dim, place) for place, out in enumerate(outs)]


def _joined(tape: Tape, outs: list[Tensor], parts: Sequence[Tensor], dim: int = 0) -> str:
    (out,) = outs
    names = [tape.name(part, out.dtype) for part in parts if part.numel()]
    return str(tape.op("Concat", *names, axis=dim % out.dim()) if len(names) > 1 else names[0])


def _stacked(tape: Tape, outs: list[Tensor], parts: Sequence[Tensor], dim: int = 0) -> str:
    (out,) = outs
    dim = dim % out.dim()
    shape = [1 if place == dim else size for place, size in enumerate(out.shape)]
    names = [tape.reshape(tape.name(part, out.dtype), shape) for part in parts]
    return str(tape.op("Concat", *names, axis=dim))


def _where(tape: Tape, outs: list[Tensor], condition: Any, a: Any, b: Any) -> str:
    (out,) = outs
    dtype = _working(out.dtype)
    name = tape.op("Where", tape.name(condition), tape.name(a, dtype), tape.name(b, dtype))
    return _result(tape, name, dtype, out)


def _masked(tape: Tape, outs: list[Tensor], x: Tensor, mask: Tensor, value: Any) -> str:
    return _where(tape, outs, mask, value, x)


def _clamped(
    tape: Tape, outs: list[Tensor], x: Tensor, low: Any = None, high: Any = None, **__: Any
) -> str:
    low, high = __.get("min", low), __.get("max", high)
    dtype = _working(outs[0].dtype)
    name = tape.name(x, dtype)
    if low is not None:
        name = tape.op("Max", name, tape.name(low, dtype))
    if high is not None:
        name = tape.op("Min", name, tape.name(high, dtype))
    return _result(tape, name, dtype, outs[0])


def _clamped_above(tape: Tape, outs: list[Tensor], x: Tensor, high: Any) -> str:
    return _clamped(tape, outs, x, None, high)


def _in_double(kind: str, before: float, after: float) -> Write:
    """A function whose steps would lose a small number, computed in float64."""

    def write(tape: Tape, outs: list[Tensor], x: Tensor) -> str:
        name = tape.name(x, torch.float64)
        if before:
            name = tape.op("Add", name, tape.name(before, torch.float64))
        name = tape.op(kind, name)
        if after:
            name = tape.op("Add", name, tape.name(after, torch.float64))
        return tape.cast(name, outs[0].dtype)

    return write


def _steps(*steps: Any) -> Write:
    """A chain of operators, each on what came before: names, or (name, number that is read)."""

    def write(tape: Tape, outs: list[Tensor], x: Tensor, *_: Any, **__: Any) -> str:
        dtype = _working(outs[0].dtype)
        name = tape.name(x, dtype)
        for step in steps:
            if isinstance(step, str):
                name = tape.op(step, name)
            else:
                name = tape.op(step[0], name, tape.name(step[1], dtype))
        return _result(tape, name, dtype, outs[0])

    return write


def _silu(tape: Tape, outs: list[Tensor], x: Tensor) -> str:
    name = tape.name(x)
    return str(tape.op("Mul", name, tape.op("Sigmoid", name)))


def _square(tape: Tape, outs: list[Tensor], x: Tensor, power: Any = 2) -> str:
    name = tape.name(x, outs[0].dtype)
    if power == 2:
        return str(tape.op("Mul", name, name))
    return str(tape.op("Pow", name, tape.name(power, outs[0].dtype)))


def _log_sigmoid(tape: Tape, outs: list[Tensor], x: Tensor) -> list[str]:
    return [tape.op("Neg", tape.op("Softplus", tape.op("Neg", tape.name(x))))]


def _logit(tape: Tape, outs: list[Tensor], x: Tensor, eps: float | None = None) -> str:
    if eps is not None:
        name = _clamped(tape, outs, x, eps, 1 - eps)
    else:
        name = tape.name(x)
    rest = tape.op("Sub", tape.name(1.0, outs[0].dtype), name)
    return str(tape.op("Log", tape.op("Div", name, rest)))


def _finite(
    tape: Tape,
    outs: list[Tensor],
    x: Tensor,
    nan: float | None = None,
    posinf: float | None = None,
    neginf: float | None = None,
) -> str:
    ends = torch.finfo(x.dtype)
    name = tape.name(x)
    nothing = tape.name(nan or 0.0, x.dtype)
    name = tape.op("Where", tape.op("IsNaN", name), nothing, name)
    low = ends.min if neginf is None else neginf
    high = ends.max if posinf is None else posinf
    name = tape.op("Max", name, tape.name(low, x.dtype))
    return str(tape.op("Min", name, tape.name(high, x.dtype)))


def _lerp(tape: Tape, outs: list[Tensor], a: Tensor, b: Tensor, weight: Any) -> str:
    first = tape.name(a)
    way = tape.op("Sub", tape.name(b), first)
    return str(tape.op("Add", first, tape.op("Mul", tape.name(weight, a.dtype), way)))


def _add_product(
    tape: Tape, outs: list[Tensor], x: Tensor, a: Tensor, b: Tensor, *, value: float = 1
) -> str:
    dtype = outs[0].dtype
    product = tape.op("Mul", tape.name(a, dtype), tape.name(b, dtype))
    if value != 1:
        product = tape.op("Mul", product, tape.name(value, dtype))
    return str(tape.op("Add", tape.name(x, dtype), product))


def _multiplied(tape: Tape, outs: list[Tensor], a: Tensor, b: Tensor) -> str:
    return str(tape.op("MatMul", tape.name(a), tape.name(b)))


def _multiplied_and_added(
    tape: Tape,
    outs: list[Tensor],
    x: Tensor,
    a: Tensor,
    b: Tensor,
    *,
    beta: Any = 1,
    alpha: Any = 1,
) -> str:
    if (beta, alpha) != (1, 1):
        raise ExportError("a product with a factor cannot be exported")
    return str(tape.op("Add", _multiplied(tape, outs, a, b), tape.name(x)))


def _linear(
    tape: Tape, outs: list[Tensor], x: Tensor, weight: Tensor, bias: Tensor | None = None
) -> str:
    name = tape.op("MatMul", tape.name(x), _transposed(tape, outs, weight))
    return name if bias is None else str(tape.op("Add", name, tape.name(bias)))


def _dims(x: Tensor, dim: Any) -> list[int]:
    if dim is None or dim == []:
        return [*range(x.dim())]
    return [d % x.dim() for d in ([dim] if isinstance(dim, int) else dim)]


def _reduced(kind: str) -> Write:
    def write(
        tape: Tape,
        outs: list[Tensor],
        x: Tensor,
        dim: Any = None,
        keepdim: bool = False,
        **__: Any,
    ) -> str:
        dtype = _working(torch.promote_types(x.dtype, outs[0].dtype))
        axes = tape.ints(*_dims(x, dim))
        name = tape.op(kind, tape.name(x, dtype), axes, keepdims=int(keepdim))
        return _result(tape, name, dtype, outs[0])

    return write


def _truths_reduced(kind: str) -> Write:
    """any and all, as the greatest and the least of 0 and 1."""

    def write(
        tape: Tape, outs: list[Tensor], x: Tensor, dim: Any = None, keepdim: bool = False
    ) -> str:
        name = tape.name(x, torch.int32)
        name = tape.op(kind, name, tape.ints(*_dims(x, dim)), keepdims=int(keepdim))
        return tape.cast(name, torch.bool)

    return write


def _best(kind: str) -> Write:
    def write(
        tape: Tape, outs: list[Tensor], x: Tensor, dim: int | None = None, keepdim: bool = False
    ) -> str:
        name = tape.name(x, _working(x.dtype))
        if dim is None:
            name, dim = tape.reshape(name, [x.numel()]), 0
        axis = dim % max(1, x.dim())
        return str(tape.op(kind, name, axis=axis, keepdims=int(keepdim)))

    return write


def _summed_up(tape: Tape, outs: list[Tensor], x: Tensor, dim: int, **__: Any) -> str:
    axis = tape.constant(np.asarray(dim % x.dim(), np.int64))
    dtype = _working(outs[0].dtype)
    return _result(tape, tape.op("CumSum", tape.name(x, dtype), axis), dtype, outs[0])


def _softmax(kind: str) -> Write:
    def write(tape: Tape, outs: list[Tensor], x: Tensor, dim: int, *_: Any) -> str:
        return str(tape.op(kind, tape.name(x), axis=dim % x.dim()))

    return write


def _layer_norm(
    tape: Tape,
    outs: list[Tensor],
    x: Tensor,
    shape: Sequence[int],
    weight: Tensor | None,
    bias: Tensor | None,
    eps: float,
) -> list[str]:
    scale = tape.name(torch.ones(list(shape)) if weight is None else weight)
    given = [] if bias is None else [tape.name(bias)]
    axis = x.dim() - len(shape)
    named = [tape.name(x), scale, *given]
    return [tape.op("LayerNormalization", *named, axis=axis, epsilon=eps)]


def _gathered(tape: Tape, outs: list[Tensor], x: Tensor, dim: int, index: Tensor, **_: Any) -> str:
    return str(tape.op("GatherElements", tape.name(x), tape.name(index), axis=dim % x.dim()))


def _picked(tape: Tape, outs: list[Tensor], x: Tensor, dim: int, index: Tensor) -> str:
    return str(tape.op("Gather", tape.name(x), tape.name(index), axis=dim % x.dim()))


def _embedded(tape: Tape, outs: list[Tensor], x: Tensor, index: Tensor, *_: Any) -> str:
    return _picked(tape, outs, x, 0, index)


def _indexed(tape: Tape, outs: list[Tensor], x: Tensor, indices: Sequence[Tensor | None]) -> str:
    """Rows of a tensor at places in its first dimensions, or in one of the others."""
    given = [(place, index) for place, index in enumerate(indices) if index is not None]
    if any(index.dtype == torch.bool for _, index in given):
        raise ExportError("a choice by truth values has no fixed shape, so it cannot be exported")
    if len(given) == 1:
        return _picked(tape, outs, x, *given[0])
    if len(given) < len(indices):
        raise ExportError("indices beside a whole dimension cannot be exported")
    shape = torch.broadcast_shapes(*(index.shape for _, index in given))
    places = []
    for place, index in given:
        name = tape.name(index, torch.int64)
        if index.shape != shape:
            name = tape.op("Expand", name, tape.ints(*shape))
        size = tape.constant(np.asarray(x.shape[place], np.int64))
        below = tape.op("Less", name, tape.constant(np.asarray(0, np.int64)))
        name = tape.op("Where", below, tape.op("Add", name, size), name)
        places.append(tape.reshape(name, [*shape, 1]))
    return str(tape.op("GatherND", tape.name(x), tape.op("Concat", *places, axis=len(shape))))


def _scattered(
    tape: Tape, outs: list[Tensor], x: Tensor, dim: int, index: Tensor, source: Any, **_: Any
) -> str:
    dtype = outs[0].dtype
    if isinstance(source, Tensor):
        values = tape.name(source, dtype)
    else:
        values = tape.name(torch.full(index.shape, source, dtype=dtype))
    named = (tape.name(x, dtype), tape.name(index), values)
    return str(tape.op("ScatterElements", *named, axis=dim % x.dim()))


def _padded(
    tape: Tape, outs: list[Tensor], x: Tensor, pad: Sequence[int], value: Any = 0, **_: Any
) -> str:
    before, after = [0] * x.dim(), [0] * x.dim()
    for place in range(len(pad) // 2):
        before[-1 - place], after[-1 - place] = pad[2 * place : 2 * place + 2]
    cut = any(n < 0 for n in pad)
    if cut:
        raise ExportError("a negative padding cannot be exported")
    fill = tape.name(value, x.dtype)
    return str(tape.op("Pad", tape.name(x), tape.ints(*before, *after), fill))


def _convolved(
    tape: Tape,
    outs: list[Tensor],
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    transposed: bool,
    output_padding: Sequence[int],
    groups: int,
) -> str:
    if x.dim() != 4:
        raise ExportError("only convolutions of images can be exported")
    named = [tape.name(x), tape.name(weight), *([] if bias is None else [tape.name(bias)])]
    options: dict[str, Any] = {"strides": [*stride], "pads": [*padding, *padding]}
    options |= {"dilations": [*dilation], "group": groups, "kernel_shape": [*weight.shape[2:]]}
    if transposed:
        return str(tape.op("ConvTranspose", *named, output_padding=[*output_padding], **options))
    return str(tape.op("Conv", *named, **options))


def _shuffled(tape: Tape, outs: list[Tensor], x: Tensor, factor: int) -> str:
    return str(tape.op("DepthToSpace", tape.name(x), blocksize=factor, mode="CRD"))


def _flipped(tape: Tape, outs: list[Tensor], x: Tensor, dims: Sequence[int]) -> str:
    name = tape.name(x)
    for dim in dims:
        size = x.shape[dim]
        order = tape.ints(*reversed(range(size)))
        name = tape.op("Gather", name, order, axis=dim % x.dim())
    return name


def _sorted(
    tape: Tape, outs: list[Tensor], x: Tensor, dim: int = -1, descending: bool = False, **_: Any
) -> list[str]:
    size = tape.ints(x.shape[dim])
    options = {"axis": dim % x.dim(), "largest": int(descending), "sorted": 1}
    return list(tape.op("TopK", tape.name(x), size, outputs=2, **options))


def _unfolded(tape: Tape, outs: list[Tensor], x: Tensor, dim: int, size: int, step: int) -> str:
    (out,) = outs
    dim = dim % x.dim()
    windows = []
    for place in range(out.shape[dim]):
        part = tape.slice(tape.name(x), dim, place * step, place * step + size)
        order = [d for d in range(x.dim()) if d != dim] + [dim]
        part = tape.op("Transpose", part, perm=order)
        shape = [*out.shape]
        shape[dim] = 1
        windows.append(tape.reshape(part, shape))
    return str(tape.op("Concat", *windows, axis=dim) if len(windows) > 1 else windows[0])


def _reversed_difference(tape: Tape, outs: list[Tensor], x: Tensor, y: Any, *_: Any) -> str:
    dtype = _working(outs[0].dtype)
    name = tape.op("Sub", tape.name(y, dtype), tape.name(x, dtype))
    return _result(tape, name, dtype, outs[0])


OPERATORS: dict[str, Write] = {
    **{name: _unary(kind) for name, kind in {
        "neg": "Neg", "abs": "Abs", "sign": "Sign", "exp": "Exp", "log": "Log", "sqrt": "Sqrt",
        "reciprocal": "Reciprocal", "sin": "Sin", "cos": "Cos", "tanh": "Tanh", "asinh": "Asinh",
        "erf": "Erf", "sigmoid": "Sigmoid", "relu": "Relu", "softplus": "Softplus",
        "floor": "Floor", "ceil": "Ceil", "round": "Round",
    }.items()},
    **{name: _binary(kind) for name, kind in {
        "add": "Add", "sub": "Sub", "mul": "Mul", "div": "Div", "maximum": "Max", "minimum": "Min",
    }.items()},
    **{name: _compared(kind) for name, kind in {
        "eq": "Equal", "ne": "Different", "lt": "Less", "le": "LessOrEqual", "gt": "Greater",
        "ge": "GreaterOrEqual",
    }.items()},
    **{name: _truths(kind) for name, kind in {
        "logical_and": "And", "logical_or": "Or", "logical_not": "Not", "bitwise_and": "And",
        "bitwise_or": "Or", "bitwise_not": "Not", "__and__": "And", "__or__": "Or",
    }.items()},
    **dict.fromkeys(
        ["view", "_unsafe_view", "reshape", "_reshape_alias", "unsqueeze", "squeeze"], _viewed
    ),
    **dict.fromkeys(["clone", "alias", "detach", "lift_fresh", "contiguous", "positive"], _same),
    **{name: _reduced(kind) for name, kind in {
        "sum": "ReduceSum", "mean": "ReduceMean", "amax": "ReduceMax", "amin": "ReduceMin",
        "logsumexp": "ReduceLogSumExp",
    }.items()},
    "_to_copy": _cast, "copy": _copied, "expand": _expanded, "repeat": _repeated,
    "permute": _permuted, "transpose": _transposed, "t": _transposed, "slice": _sliced,
    "select": _selected, "split": _split, "split_with_sizes": _split, "unsafe_split": _split,
    "unbind": _unbound,
    "cat": _joined, "stack": _stacked, "where": _where, "masked_fill": _masked,
    "clamp": _clamped, "clamp_min": _clamped, "clamp_max": _clamped_above,
    "expm1": _in_double("Exp", 0, -1), "log1p": _in_double("Log", 1, 0),
    "rsqrt": _steps("Sqrt", "Reciprocal"), "isnan": lambda tape, outs, x: tape.op(
        "IsNaN", tape.name(x)
    ),
    "special_ndtr": _steps(("Mul", math.sqrt(0.5)), "Erf", ("Add", 1.0), ("Mul", 0.5)),
    "silu": _silu, "pow": _square, "square": _square, "log_sigmoid_forward": _log_sigmoid,
    "logit": _logit, "nan_to_num": _finite, "lerp": _lerp, "addcmul": _add_product,
    "rsub": _reversed_difference, "mm": _multiplied, "bmm": _multiplied, "mv": _multiplied,
    "dot": _multiplied, "addmm": _multiplied_and_added, "baddbmm": _multiplied_and_added,
    "linear": _linear, "any": _truths_reduced("ReduceMax"), "all": _truths_reduced("ReduceMin"),
    "argmax": _best("ArgMax"), "argmin": _best("ArgMin"), "cumsum": _summed_up,
    "_softmax": _softmax("Softmax"), "_log_softmax": _softmax("LogSoftmax"),
    "native_layer_norm": _layer_norm, "gather": _gathered, "index_select": _picked,
    "embedding": _embedded, "index": _indexed, "scatter": _scattered,
    "constant_pad_nd": _padded, "convolution": _convolved, "pixel_shuffle": _shuffled,
    "flip": _flipped, "sort": _sorted, "unfold": _unfolded,
}  # fmt: skip
