"""Speed of the cores in training and dreaming, beside a plain loop and the processor's limit.

    worldmodel bench cores [--json]

Models of vectors (16 numbers, diagonal Gaussian; a Gaussian reward; an end) under 4 discrete
actions, with one hidden layer before the heads. A training update is everything that
`Trainer.update` does; a dream step is `WorldModel.step`, the drawn percept and its encoding
included. The arithmetic is that of all matrix products (counted by PyTorch in the plain loop);
the rate that it is compared with is the best that any product reached in the same run. Everything
is measured with both kinds of products (`runs.processor.products`), and the faster counts.
"""

import time
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import torch
from gymnasium import spaces
from rich.table import Table
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode

from worldmodel import (
    CORES,
    ELBO,
    Row,
    Sequences,
    Trainer,
    WorldModel,
    core_options,
    model_for,
    nested,
)
from worldmodel.compiling import compiled
from worldmodel.experiments.bench.table import rate_of, table, whole
from worldmodel.experiments.runs.processor import PRODUCTS, Products, products, release_memory
from worldmodel.graphs.engine import GraphFunction, missing_packages
from worldmodel.progress import Reporter, StageProgress
from worldmodel.testing.exact import STEPS, ObviousELBO

OBSERVATION = spaces.Box(-10.0, 10.0, (16,))
ACTIONS = spaces.Discrete(4)
HEADS = "16 numbers, diagonal Gaussian; reward, Gaussian; end, Bernoulli"
SIZES = {64: 16, 256: 32}  # hidden units: size of the latents
TIME, BATCH = 64, 16
DREAM_STEPS = 15
DREAMS = (1, 16, 256, 1024)
GROWTH = {"time": (16, 64, 256), "batch": (4, 16, 64), "hidden": (64, 128, 256, 512)}
PARTICLES = (1, 4, 16)
LARGE = ((1024, 1024, 1024), (2048, 2048, 2048))
LEAST = 0.5  # seconds for which a call is repeated


def bench_model(core: str, hidden: int, latent: int) -> WorldModel:
    """The model that is measured, for any core of the package."""
    sizes = {"latent": latent, "latent_hidden": hidden}
    return model_for(OBSERVATION, ACTIONS, core, hidden, **core_options(core, sizes))


def bench_rows(time: int, batch_size: int, dtype: torch.dtype = torch.float32) -> Sequences:
    """Noise as rows [T, B, ...], one episode a column, all of them valid and scored."""
    first = torch.zeros(time, batch_size, dtype=torch.bool)
    first[0] = True
    action = torch.eye(4, dtype=dtype)[torch.randint(4, first.shape)]
    action = action.masked_fill(first[..., None], 0.0)
    observation = torch.randn(*first.shape, 16, dtype=dtype)
    reward = torch.randn(first.shape, dtype=dtype).masked_fill(first, 0.0)
    return Sequences.whole(Row(first, action, observation, reward, torch.zeros_like(first)))


def seconds(function: Callable[[], Any], least: float | None = None) -> float:
    """The shortest time of a call in seconds: after a warm-up call, at least three calls and
    `least` seconds."""
    least = LEAST if least is None else least
    on_processor = torch.get_default_device().type == "cpu"
    wait = (lambda: None) if on_processor else torch.accelerator.synchronize
    function()
    wait()
    best, spent, calls = float("inf"), 0.0, 0
    while spent < least or calls < 3:
        begun = time.perf_counter()
        function()
        wait()
        taken = time.perf_counter() - begun
        best, spent, calls = min(best, taken), spent + taken, calls + 1
    return best


def fastest(function: Callable[[], Any]) -> tuple[float, Products]:
    """The shortest time of a call over both kinds of products, seconds, and the faster kind."""

    def measured(kind: Products) -> tuple[float, Products]:
        with products(kind):
            return seconds(function), kind

    return min(measured(kind) for kind in PRODUCTS)


def arithmetic(function: Callable[[], Any]) -> int:
    """Floating-point operations of all matrix products of a call."""
    with FlopCounterMode(display=False) as counter:
        function()
    return counter.get_total_flops()


def kernels(function: Callable[[], Any]) -> int:
    """Kernels that a call launches on a GPU; on the processor, operators that call no other."""
    on_processor = torch.get_default_device().type == "cpu"
    activities = [ProfilerActivity.CPU] if on_processor else [ProfilerActivity.CUDA]
    with profile(activities=activities) as seen:
        function()
    events = seen.events() or []
    return sum(not (on_processor and event.cpu_children) for event in events)


def device_memory() -> float | None:
    """The most memory of the default GPU that tensors took so far, MiB; None without one."""
    is_cuda = torch.get_default_device().type == "cuda"
    return torch.cuda.max_memory_allocated() / 2**20 if is_cuda else None


@torch.no_grad()
def product_rate(rows: int, inputs: int, outputs: int) -> tuple[float, Products]:
    """Operations a second of [rows, inputs] x [inputs, outputs], and the faster kind."""
    x, weight = torch.randn(rows, inputs), torch.randn(outputs, inputs)
    taken, kind = fastest(lambda: torch.nn.functional.linear(x, weight))
    return 2 * rows * inputs * outputs / taken, kind


def product_rates(sizes: Sequence[int], batches: Sequence[int]) -> list[dict[str, Any]]:
    """The rates of large products, and of those of recurrences with `sizes` hidden units."""
    shapes = [*LARGE, *((rows, hidden, 3 * hidden) for hidden in sizes for rows in batches)]
    rates = []
    for shape in shapes:
        rate, kind = product_rate(*shape)
        rates.append({"shape": list(shape), "gflops": rate / 1e9, "products": kind})
    return rates


def learning_row(
    core: str, hidden: int, latent: int, limit: float, is_compiled: bool
) -> dict[str, Any]:
    """Figures of a training update of a core, beside a plain loop where that core has one.

    limit: the best rate, operations a second; is_compiled: measures the compiled steps, too.
    """
    torch.manual_seed(0)
    release_memory()
    model, batch = bench_model(core, hidden, latent), bench_rows(TIME, BATCH)
    ours = Trainer(ELBO(model), model.parameters())
    taken, kind = fastest(lambda: ours.update([batch]))
    is_plain = type(model.core) in STEPS
    obvious = Trainer(ObviousELBO(model), model.parameters()) if is_plain else None
    beside = obvious and fastest(lambda: obvious.update(batch))[0]
    needed = arithmetic(lambda: obvious.update(batch) if obvious else ours.update([batch]))
    with torch.autocast(torch.get_default_device().type, torch.bfloat16):
        narrow, _ = fastest(lambda: ours.update([batch]))
    after = None
    if is_compiled:
        model.core.compile_steps()
        with products(kind):  # each kind would be compiled on its own
            after = seconds(lambda: ours.update([batch]))
    return {
        "core": core,
        "hidden": hidden,
        "latent": latent,
        "products": kind,
        "updates_per_second": 1 / taken,
        "frames_per_second": TIME * BATCH / taken,
        "gflop": needed / 1e9,
        "fraction": needed / taken / limit,
        "obvious_updates_per_second": beside and 1 / beside,
        "ratio": beside and beside / taken,
        "bfloat16_updates_per_second": 1 / narrow,
        "compiled_updates_per_second": after and 1 / after,
    }


def dream_row(
    core: str, hidden: int, latent: int, batch_size: int, limit: float, is_compiled: bool
) -> dict[str, Any]:
    """Figures of a dream step in a batch, averaged over `DREAM_STEPS` steps.

    is_compiled: measures the step compiled, too.
    """
    torch.manual_seed(0)
    release_memory()
    model = bench_model(core, hidden, latent)
    begin = model.initial_state(batch_size)
    first = torch.zeros(batch_size, dtype=torch.bool)
    action = torch.eye(4)[torch.randint(4, first.shape)]

    @torch.no_grad()
    def dream(step: Callable[..., Any] = model.step) -> None:
        state = begin
        for _ in range(DREAM_STEPS):
            _, state = step(first, action, state)

    taken, kind = fastest(dream)
    needed = arithmetic(dream)
    after = by_graph = None
    if is_compiled:
        faster = compiled(model.step)
        with products(kind):  # each kind would be compiled on its own
            after = seconds(lambda: dream(faster))
    if not missing_packages():
        graph = GraphFunction(model.step, warnings.warn, [model])
        by_graph = seconds(lambda: dream(graph))
    return {
        "core": core,
        "hidden": hidden,
        "batch": batch_size,
        "products": kind,
        "steps_per_second": DREAM_STEPS * batch_size / taken,
        "microseconds_per_step": 1e6 * taken / DREAM_STEPS,
        "compiled_steps_per_second": after and DREAM_STEPS * batch_size / after,
        "onnxruntime_steps_per_second": by_graph and DREAM_STEPS * batch_size / by_graph,
        "gflop": needed / DREAM_STEPS / 1e9,
        "fraction": needed / taken / limit,
    }


def observing_row(core: str, hidden: int, latent: int) -> dict[str, Any]:
    """The time in which an agent takes in a row of one game: `WorldModel.observe`."""
    torch.manual_seed(0)
    model = bench_model(core, hidden, latent)
    row = nested.index(bench_rows(2, 1).rows, 1)
    state = model.initial_state(1)

    @torch.no_grad()
    def observe(by: Callable[..., Any] = model.observe) -> None:
        for _ in range(DREAM_STEPS):
            by(row, state)

    graph = GraphFunction(model.observe, warnings.warn, [model])
    by_graph = None if missing_packages() else seconds(lambda: observe(graph))
    return {
        "core": core,
        "hidden": hidden,
        "microseconds": 1e6 * seconds(observe) / DREAM_STEPS,
        "onnxruntime_microseconds": by_graph and 1e6 * by_graph / DREAM_STEPS,
    }


def growth_row(core: str, what: str, value: int) -> dict[str, Any]:
    """Time of an update; all but one of 64 rows, 16 columns, 64 units, 1 particle are kept."""
    torch.manual_seed(0)
    config = {"time": TIME, "batch": BATCH, "hidden": 64, "particles": 1} | {what: value}
    model = bench_model(core, config["hidden"], SIZES[64])
    trainer = Trainer(ELBO(model, particles=config["particles"]), model.parameters())
    batch = bench_rows(config["time"], config["batch"])
    taken, kind = fastest(lambda: trainer.update([batch]))
    return {
        "core": core,
        "what": what,
        "value": value,
        "products": kind,
        "milliseconds": 1e3 * taken,
    }


def bench_cores(
    cores: Sequence[str] = tuple(CORES),
    growth: bool = True,
    is_compiled: bool = False,
    reporter: Reporter | None = None,
) -> dict[str, Any]:
    """All rows for the given cores; see the module's docstring."""
    reporter = reporter or Reporter()
    grown = [(what, value) for what, values in GROWTH.items() for value in values]
    grown += [("particles", value) for value in PARTICLES]
    rows = len(SIZES) * (2 + len(DREAMS)) + growth * len(grown)
    reporter.say("measuring matrix products")
    rates = product_rates(list(SIZES), DREAMS)
    limit = 1e9 * max(rate["gflops"] for rate in rates)
    result: dict[str, Any] = {
        "device": torch.get_default_device().type,
        "threads": torch.get_num_threads(),
        "heads": HEADS,
        "best_gflops": limit / 1e9,
        "products": rates,
        "learning": [],
        "dreaming": [],
        "observing": [],
        "growth": [],
    }
    for core in cores:
        with reporter.stage(f"measuring {core}", rows, 0, "rows") as stage:
            measured = 0

            def keep(table: str, row: dict[str, Any], stage: StageProgress = stage) -> None:
                nonlocal measured
                result[table].append(row)
                measured += 1
                stage.update(measured, table)

            for hidden, latent in SIZES.items():
                keep("learning", learning_row(core, hidden, latent, limit, is_compiled))
                keep("observing", observing_row(core, hidden, latent))
                for size in DREAMS:
                    row = dream_row(core, hidden, latent, size, limit, is_compiled)
                    keep("dreaming", row)
            for what, value in grown if growth else ():
                keep("growth", growth_row(core, what, value))
    return result


def tables(result: dict[str, Any]) -> list[Table]:
    """The tables of `bench cores`."""
    learning = (
        (
            f"{row['core']} {row['hidden']}",
            f"{row['updates_per_second']:.1f}",
            f"{row['frames_per_second']:,.0f}",
            f"{row['gflop']:.2f}",
            f"{100 * row['fraction']:.0f} %",
            row["products"],
        )
        for row in result["learning"]
    )
    beside = (
        (
            f"{row['core']} {row['hidden']}",
            rate_of(row["updates_per_second"]),
            rate_of(row["obvious_updates_per_second"]),
            f"{row['ratio']:.2f}" if row["ratio"] else "",
            rate_of(row["bfloat16_updates_per_second"]),
            rate_of(row["compiled_updates_per_second"]),
        )
        for row in result["learning"]
    )
    dreaming = (
        (
            f"{row['core']} {row['hidden']}",
            str(row["batch"]),
            f"{row['steps_per_second']:,.0f}",
            whole(row["compiled_steps_per_second"]),
            whole(row["onnxruntime_steps_per_second"]),
            f"{100 * row['fraction']:.0f} %",
            row["products"],
        )
        for row in result["dreaming"]
    )
    observing = (
        (
            f"{row['core']} {row['hidden']}",
            f"{row['microseconds']:.0f}",
            whole(row["onnxruntime_microseconds"]),
        )
        for row in result["observing"]
    )
    growth = (
        (row["core"], f"{row['what']} {row['value']}", f"{row['milliseconds']:.1f}")
        for row in result["growth"]
    )
    products = (
        (" x ".join(map(str, row["shape"])), f"{row['gflops']:.0f}", row["products"])
        for row in result["products"]
    )
    shown = [
        table("matrix products", ("rows x in x out", "GFLOP/s", "by"), products),
        table(
            f"learning: updates of 64 rows x 16 columns ({result['heads']})",
            ("core", "updates/s", "frames/s", "GFLOP", "of best", "by"),
            learning,
        ),
        table(
            "updates a second, beside other ways",
            ("core", "ours", "obvious loop", "ratio", "bfloat16", "compiled"),
            beside,
        ),
        table(
            "dreaming, steps a second",
            (
                "core",
                "dreams",
                "steps/s",
                "compiled",
                "onnxruntime",
                "of best",
                "by",
            ),
            dreaming,
        ),
    ]
    shown.append(table("observing a row of one game", ("core", "us", "onnxruntime us"), observing))
    if result["growth"]:
        shown.append(table("growth of an update", ("core", "with", "ms"), growth))
    return shown
