"""`bench cores`: speed of the cores alone, or of a preset's whole updates."""

from typing import Any

import torch
from rich.table import Table

from worldmodel import CORES
from worldmodel.experiments.bench import cores, dreamer
from worldmodel.experiments.bench.settings import CoresSettings
from worldmodel.progress import Reporter
from worldmodel.run_folder import RunError


def run(settings: CoresSettings, reporter: Reporter) -> dict[str, Any]:
    """Figures of the cores, or of the preset."""
    if settings.device == "cuda" and not torch.cuda.is_available():
        raise RunError("PyTorch finds no CUDA device here; measure with --device cpu")
    if settings.device != "cpu":  # as a default even "cpu" costs a microsecond a call
        torch.set_default_device(settings.device)
    torch.set_num_threads(settings.threads)
    if settings.preset != "none":
        return dreamer.bench_dreamer(settings.compile, reporter)
    chosen = list(CORES) if settings.core == "all" else [settings.core]
    return cores.bench_cores(chosen, settings.growth, settings.compile, reporter)


def tables(result: dict[str, Any]) -> list[Table]:
    """Tables of either."""
    return dreamer.tables(result) if "preset" in result else cores.tables(result)
