"""Devices by name. Networks, beliefs and dreams are where the weights are; rows of real
environments, recordings and files stay with the processor, and whoever reads rows moves them.
"""

from collections.abc import Callable

import torch
from torch import nn

CPU = torch.device("cpu")


def find_device(name: str | None, say: Callable[[str], None] | None = None) -> torch.device:
    """The device of a name: None or "cpu" is the processor, "auto" a GPU where PyTorch finds one.

    say: called with a sentence where the processor stands in for a device that is not here;
    without it ValueError is raised, but for "auto".
    """
    here = torch.accelerator.current_accelerator(check_available=True)
    if name in (None, "cpu"):
        return CPU
    if name == "auto":
        if here is None and say is not None:
            say("PyTorch finds no GPU here: the processor computes")
        return CPU if here is None else here
    try:
        wanted = torch.device(name)
    except RuntimeError as error:
        raise ValueError(
            f"a device is auto, cpu, cuda, cuda:1, mps or so, got {name!r}"
        ) from error
    number = 0 if here is None or here.type != wanted.type else torch.accelerator.device_count()
    if (wanted.index or 0) < number:
        return wanted
    found = f"{number} of {wanted.type}" if number else f"no {wanted.type}"
    if say is None:
        raise ValueError(
            f"PyTorch finds {found} here, but the device is to be {name}: take auto, or cpu"
        )
    say(f"PyTorch finds {found} here, but the device is {name}: the processor computes")
    return CPU


def device_of(module: nn.Module) -> torch.device:
    """The device of a module's weights, or of its buffers where it has none."""
    for tensor in module.parameters():
        return tensor.device
    return next((buffer.device for buffer in module.buffers()), CPU)
