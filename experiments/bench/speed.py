"""`bench cores`: speed of the cores alone, or of a preset's whole updates."""

from typing import Any

import torch
from rich.table import Table

from worldmodel import CORES
from worldmodel.devices import CPU, find_device
from worldmodel.experiments.bench import cores, dreamer
from worldmodel.experiments.bench.settings import CoresSettings
from worldmodel.progress import Reporter


def run(settings: CoresSettings, reporter: Reporter) -> dict[str, Any]:
    """Figures of the cores, or of the preset."""
    device = find_device(settings.computing.device)
    if device != CPU:  # as a default even "cpu" costs a microsecond a call
        torch.set_default_device(device)
    torch.set_num_threads(settings.threads)
    if settings.preset != "none":
        return dreamer.bench_dreamer(settings.preset, settings.compile, reporter)
    chosen = list(CORES) if settings.core == "all" else [settings.core]
    return cores.bench_cores(chosen, settings.growth, settings.compile, reporter)


def tables(result: dict[str, Any]) -> list[Table]:
    """Tables of either."""
    return dreamer.tables(result) if "preset" in result else cores.tables(result)
