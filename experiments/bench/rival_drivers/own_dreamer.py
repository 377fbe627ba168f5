"""DreamerV3 as this package has it: the same that `bench cores --preset dreamerv3-1m` measures."""

from collections.abc import Callable
from typing import Any, cast


def build(job: dict[str, Any], facts: dict[str, Any]) -> dict[str, Any]:
    """Calls, by their figures: see `running`."""
    import torch

    from worldmodel import __version__
    from worldmodel.experiments.bench.cores import bench_rows
    from worldmodel.experiments.bench.dreamer import Dreamer
    from worldmodel.experiments.runs.processor import keep_memory
    from worldmodel.trainer import MatmulPrecision

    keep_memory()  # as the command line does
    dreamer, batch = Dreamer(), bench_rows(job["length"], job["windows"])
    facts["version"] = __version__
    facts["parameters"] = sum(parameter.numel() for parameter in dreamer.model.parameters())
    trainers = dreamer.learner, dreamer.improver

    def chosen(call: Callable[..., Any]) -> Callable[[], Any]:
        """A call of updates with the kind of products that is set outside."""

        def called() -> Any:
            precision = cast(MatmulPrecision, torch.get_float32_matmul_precision())
            for trainer in trainers:
                trainer.matmul_precision = precision
            return call(batch)

        return called

    calls = {
        "updates": (chosen(dreamer.update), 1),
        "model updates": (chosen(dreamer.learner.update), 1),
    }
    engine = dreamer.engine()
    for size in job["dreams"]:
        steps = job["horizon"] * size
        calls[f"dream steps, {size}"] = (dreamer.dreaming(size), steps)
        if engine is not None:
            calls[f"dream steps by onnxruntime, {size}"] = (dreamer.dreaming(size, engine), steps)
    return calls
