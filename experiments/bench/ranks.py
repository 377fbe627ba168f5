"""Speed of updates that ranks share.

    OMP_NUM_THREADS=1 torchrun --nproc-per-node 2 -m worldmodel bench ranks [--json]
    OMP_NUM_THREADS=1 torchrun --nproc-per-node 1 -m worldmodel bench ranks [--json]

A batch is 64 x 64 rows of noise (see `bench cores`), whatever the number of ranks; each has one
thread. An update is everything that `Trainer.update` does: the share of the batch, forward and
backward pass, the sum of the gradients, the step.
"""

import statistics
import time
from typing import Any

import torch
from rich.table import Table

from worldmodel import ELBO, Trainer, ranks
from worldmodel.experiments.bench.cores import bench_model, bench_rows
from worldmodel.experiments.bench.settings import RanksSettings
from worldmodel.experiments.bench.table import table
from worldmodel.progress import Reporter

TIME, BATCH, LATENT = 64, 64, 32
WARM_UP = 2  # updates


def run(settings: RanksSettings, reporter: Reporter) -> dict[str, Any] | None:
    """The figures, of the first rank; None of the others."""
    with ranks.joined():
        torch.set_num_threads(1)
        torch.manual_seed(0)
        model = bench_model(settings.core, settings.hidden, LATENT)
        trainer, batch = Trainer(ELBO(model), model.parameters()), [bench_rows(TIME, BATCH)]
        seconds = []
        for _ in range(WARM_UP + settings.updates):
            ranks.wait()
            begun = time.perf_counter()
            trainer.update(batch)
            seconds.append(time.perf_counter() - begun)
        if not ranks.is_first():
            return None
        median = statistics.median(seconds[WARM_UP:])
        return {
            "ranks": ranks.size(),
            "core": settings.core,
            "hidden": settings.hidden,
            "rows": TIME * BATCH,
            "parameters": sum(parameter.numel() for parameter in model.parameters()),
            "seconds_per_update": median,
            "rows_per_second": TIME * BATCH / median,
        }


def tables(result: dict[str, Any]) -> list[Table]:
    """The table of `bench ranks`."""
    row = (
        f"{result['core']}, {result['hidden']} hidden",
        f"{result['ranks']}",
        f"{result['parameters']:,}",
        f"{result['seconds_per_update']:.3f}",
        f"{result['rows_per_second']:,.0f}",
    )
    columns = ("core", "ranks", "weights", "s an update", "rows/s")
    return [table(f"updates of {result['rows']:,} rows, one thread a rank", columns, [row])]
