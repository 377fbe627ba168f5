"""The device that a run is computed on: the one that is asked for, or its own, where it is."""

import warnings
from collections.abc import Callable
from typing import Any

import torch

from worldmodel.devices import find_device
from worldmodel.experiments.runs.registry import config_of
from worldmodel.run_folder import RunFolder


def placed(folder: RunFolder, asked: str | None, say: Callable[[str], None]) -> RunFolder:
    """The run on the device that its user asks for, which has to be here, or on its own (None),
    which the processor stands in for, and `say` says so."""
    if asked is not None:
        return folder.on(str(find_device(asked)))
    return folder.on(str(find_device(own_device(config_of(folder)), say)))


def own_device(config: Any) -> str | None:
    """The device that the options of a run name; those of some experiments know none."""
    return getattr(getattr(config, "computing", None), "device", None)


def device_of(folder: RunFolder) -> torch.device:
    """The device that a run is to be computed on."""
    if folder.device is not None:
        return find_device(folder.device)
    return find_device(own_device(config_of(folder)), warnings.warn)
