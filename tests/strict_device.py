"""A device that stands in for a GPU: it computes on the processor and refuses to be mixed with it.

Its tensors hold one of the processor's. PyTorch takes them for those of a device of their own (the
one that it keeps for backends of others, "privateuse1"), so that everything runs as on a GPU:
modules and optimizers are moved, factories make tensors there, NumPy is refused, generators are
asked for by the device. An operation that gets a tensor of the processor beside one of the device
raises `MixedError`: copies from one to the other are allowed, and counted in `crossed`.
"""

import collections
import contextlib
import os
from unittest import mock

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves, tree_map
from torch.utils.backend_registration import _setup_privateuseone_for_python_backend

import worldmodel.noise

NAME = "strict"
COPIES = {torch.ops.aten.copy_.default, torch.ops.aten._to_copy.default}
READS = (  # after which the processor has to wait for a GPU
    *("_local_scalar_dense", "nonzero", "masked_select", "is_nonzero", "equal"),
    *("_unique2", "unique_dim", "unique_consecutive", "bincount"),
)
crossed: collections.Counter[str] = collections.Counter()
"""What the device was asked for by the processor: values that it read, by operation."""


class MixedError(RuntimeError):
    """An operation on tensors of two devices."""


class Noise:
    """The generator of the device: the processor's, or one of its own."""

    own: torch.Generator | None = None

    @contextlib.contextmanager
    def drawn(self):
        """Draws inside come from the device's generator."""
        if self.own is None:
            yield
            return
        outside = torch.get_rng_state()
        torch.set_rng_state(self.own.get_state())
        try:
            yield
        finally:
            self.own.set_state(torch.get_rng_state())
            torch.set_rng_state(outside)


noise = Noise()


class Backend:
    """The functions that PyTorch asks a device's module for."""

    plugged_in = False

    def is_available(self):
        return True

    def is_initialized(self):
        return self.plugged_in

    def device_count(self):
        return 1

    def current_device(self):
        return 0

    def _is_in_bad_fork(self):
        return False

    def manual_seed_all(self, seed):
        if noise.own is not None:
            noise.own.manual_seed(seed)

    def get_rng_state(self, device=0):
        return torch.get_rng_state() if noise.own is None else noise.own.get_state()

    def set_rng_state(self, state, device=0):
        if noise.own is None:
            torch.set_rng_state(state)
        else:
            noise.own.set_state(state)

    def get_amp_supported_dtype(self):
        return [torch.bfloat16]


class OnDevice(Tensor):
    """A tensor of the device; `held`: the processor's that it stands for."""

    @staticmethod
    def __new__(cls, held):
        made = Tensor._make_wrapper_subclass(
            cls,
            held.shape,
            strides=held.stride(),
            storage_offset=held.storage_offset(),
            dtype=held.dtype,
            device=torch.device(NAME, 0),
        )
        made.held = held
        return made

    __torch_function__ = torch._C._disabled_torch_function_impl

    @classmethod
    def __torch_dispatch__(cls, operation, types, args=(), kwargs=None):
        return _run(operation, args, kwargs or {})

    def tolist(self):
        crossed["tolist"] += 1
        return self.held.tolist()

    def __repr__(self, *, tensor_contents=None):
        return f"OnDevice({self.held})"


def _run(operation, args, kwargs):
    leaves = tree_leaves((args, kwargs))
    mixed = [x for x in leaves if isinstance(x, Tensor) and not isinstance(x, OnDevice)]
    if mixed and operation not in COPIES:
        raise MixedError(
            f"{operation} got a tensor of the processor, {mixed[0].dtype} {list(mixed[0].shape)}, "
            "beside one of the device"
        )
    name = operation._schema.name.removeprefix("aten::")
    place = kwargs.get("device")
    leaves_device = place is not None and torch.device(place).type == "cpu"
    is_mask = name in ("index", "index_put", "index_put_") and any(
        x.dtype in (torch.bool, torch.uint8) for x in tree_leaves(args[1]) if x is not None
    )
    onto_processor = name == "copy_" and not isinstance(args[0], OnDevice)
    if name in READS or leaves_device or is_mask or onto_processor:
        crossed[f"{name} by a mask" if is_mask else name] += 1
    known = {id(x.held): x for x in leaves if isinstance(x, OnDevice)}
    function = STANDING_IN.get(name, operation)

    def wrap(x):
        if not isinstance(x, Tensor):
            return x
        return known[id(x)] if id(x) in known else OnDevice(x)

    # views of what was made outside of the inference mode are no tensors of that mode
    in_mode = torch.is_inference_mode_enabled()
    outside = torch.inference_mode(False) if in_mode else contextlib.nullcontext()
    with outside, torch.no_grad(), noise.drawn():
        found = function(*tree_map(_held, args), **tree_map(_held, kwargs))
        if leaves_device:
            return found
        return args[0] if onto_processor else tree_map(wrap, found)


def _held(x):
    if isinstance(x, OnDevice):
        return x.held
    return torch.device("cpu") if isinstance(x, torch.device) and x.type == NAME else x


def _gru_cell(inputs, recalled, state, input_bias=None, hidden_bias=None):
    """The fused cell that GPUs have, and what its way back needs."""
    i_reset, i_update, i_new = (inputs + input_bias).chunk(3, -1)
    h_reset, h_update, h_new = (recalled + hidden_bias).chunk(3, -1)
    reset, update = (i_reset + h_reset).sigmoid(), (i_update + h_update).sigmoid()
    new = (i_new + reset * h_new).tanh()
    return new + update * (state - new), torch.stack([reset, update, new, h_new, state])


def _gru_cell_backward(gradient, workspace, has_bias):
    reset, update, new, h_new, state = workspace
    of_new = gradient * (1 - update) * (1 - new.square())
    of_reset = of_new * h_new * reset * (1 - reset)
    of_update = gradient * (state - new) * update * (1 - update)
    of_inputs = torch.cat([of_reset, of_update, of_new], -1)
    of_recalled = torch.cat([of_reset, of_update, of_new * reset], -1)
    return of_inputs, of_recalled, gradient * update, of_inputs.sum(0), of_recalled.sum(0)


def _lstm_cell(inputs, recalled, memory, input_bias=None, hidden_bias=None):
    gates = (inputs + input_bias + recalled + hidden_bias).chunk(4, -1)
    written, forget, output = (gates[place].sigmoid() for place in (0, 1, 3))
    new = gates[2].tanh()
    after = forget * memory + written * new
    return output * after.tanh(), after, torch.stack([written, forget, new, output])


def _lstm_cell_backward(of_output, of_memory, before, after, workspace, has_bias):
    written, forget, new, output = workspace
    found = 0.0 if of_memory is None else of_memory
    if of_output is not None:
        found = found + of_output * output * (1 - after.tanh().square())
    of_gate = torch.zeros_like(output) if of_output is None else of_output * after.tanh()
    slopes = [
        found * new * written * (1 - written),
        found * before * forget * (1 - forget),
        found * written * (1 - new.square()),
        of_gate * output * (1 - output),
    ]
    of_gates = torch.cat(slopes, -1)
    return of_gates, found * forget, of_gates.sum(0)


STANDING_IN = {  # for kernels that the processor has not
    "_thnn_fused_gru_cell": _gru_cell,
    "_thnn_fused_gru_cell_backward": _gru_cell_backward,
    "_thnn_fused_lstm_cell": _lstm_cell,
    "_thnn_fused_lstm_cell_backward_impl": _lstm_cell_backward,
}


def _made(factory):
    def make(*args, device=None, layout=None, pin_memory=None, **kwargs):
        given = {key: value for key, value in kwargs.items() if value is not None}
        return OnDevice(factory(*args, **given))

    return make


def _copied(source, target, non_blocking=False):
    target.held.copy_(_held(source)) if isinstance(target, OnDevice) else target.copy_(source.held)
    return target


_kernels: list[torch.library.Library] = []


@contextlib.contextmanager
def plugged_in():
    """The device is there and in use, inside. (PyTorch forgets none that it was told of.)"""
    _make_known()
    Backend.plugged_in = True
    generators = mock.patch.object(worldmodel.noise, "fresh_state", _fresh_state)
    with generators, torch.autograd.set_multithreading_enabled(False):
        yield torch.device(NAME)
    Backend.plugged_in = False


def _make_known() -> None:
    if _kernels:
        return
    _setup_privateuseone_for_python_backend(NAME, backend_module=Backend())
    library = torch.library.Library("aten", "IMPL")
    kernels = {
        "empty.memory_format": _made(torch.empty),
        "empty_strided": _made(torch.empty_strided),
        "tril_indices": _made(torch.tril_indices),
        "_copy_from": _copied,
    }
    for name, kernel in kernels.items():
        library.impl(name, kernel, "PrivateUse1")
    _kernels.append(library)
    os.environ["TORCH_AUTOGRAD_SHUTDOWN_WAIT_LIMIT"] = "0"  # such a device's threads die loudly


def _fresh_state(device, seed):
    """PyTorch makes no generators of such a device."""
    return torch.Generator().manual_seed(seed).get_state()


@contextlib.contextmanager
def reads():
    """What the processor reads from the device inside, by operation."""
    crossed.clear()
    yield crossed
