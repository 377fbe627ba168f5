"""What the benches measured, as tables for people."""

from collections.abc import Iterable, Sequence
from typing import Any

from rich.table import Table

from worldmodel import BOUNDS


def table(title: str, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> Table:
    """A table whose first column is text and whose others are numbers."""
    made = Table(title=title, box=None)
    for number, column in enumerate(columns):
        made.add_column(column, justify="right" if number else "left", no_wrap=True)
    for row in rows:
        made.add_row(*row)
    return made


def _rate(value: float | None) -> str:
    """A number a second, if it was measured."""
    return "" if value is None else f"{value:.2f}"


def of_cores(result: dict[str, Any]) -> list[Table]:
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
            _rate(row["updates_per_second"]),
            _rate(row["obvious_updates_per_second"]),
            f"{row['ratio']:.2f}" if row["ratio"] else "",
            _rate(row["bfloat16_updates_per_second"]),
            _rate(row["compiled_updates_per_second"]),
        )
        for row in result["learning"]
    )
    dreaming = (
        (
            f"{row['core']} {row['hidden']}",
            str(row["batch"]),
            f"{row['steps_per_second']:,.0f}",
            f"{row['microseconds_per_step']:.0f}",
            f"{row['gflop']:.4f}",
            f"{100 * row['fraction']:.0f} %",
            row["products"],
        )
        for row in result["dreaming"]
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
            "dreaming",
            ("core", "dreams", "steps/s", "us a step", "GFLOP", "of best", "by"),
            dreaming,
        ),
    ]
    if result["growth"]:
        shown.append(table("growth of an update", ("core", "with", "ms"), growth))
    return shown


def of_exact(figures: Sequence[dict[str, Any]]) -> list[Table]:
    """The tables of `bench exact`, one for each thing that was learned."""

    def cells(row: dict[str, Any]) -> tuple[str, ...]:
        return (
            row["core"],
            row["trained_by"] or "",
            str(row["length"]),
            row["bound"] if row["particles"] == 1 else f"{row['bound']} {row['particles']}",
            f"{row['exact']:.4f}",
            f"{row['gap']:.4f} ± {row['se']:.4f}",
            "" if row["expected"] is None else f"{row['expected']:.4f}",
        )

    return [
        table(
            f"{what}: nats a row beside the exact likelihood",
            ("core", "trained by", "rows", "bound", "exact", "gap", "theory"),
            (cells(row) for row in figures if row["what"] == what),
        )
        for what in dict.fromkeys(row["what"] for row in figures)
    ]


def of_dreamer(result: dict[str, Any]) -> list[Table]:
    """The tables of `bench cores --preset dreamerv3-1m`."""
    figures = (
        ("parameters of the world model", f"{result['parameters']:,}"),
        ("whole updates a second", f"{result['updates_per_second']:.2f}"),
        ("the same, compiled", _rate(result["compiled_updates_per_second"])),
        ("updates of the world model a second", f"{result['model_updates_per_second']:.2f}"),
        ("GFLOP a whole update", f"{result['gflop']:.1f}"),
        ("matrix products", result["products"]),
    )
    dreaming = (
        (
            str(row["batch"]),
            f"{row['steps_per_second']:,.0f}",
            f"{row['microseconds_per_step']:.0f}",
        )
        for row in result["dreaming"]
    )
    return [
        table(result["preset"], ("", ""), figures),
        table("dreams with their actor", ("dreams", "steps/s", "us a step"), dreaming),
    ]


def of_music(result: dict[str, Any]) -> list[Table]:
    """The tables of a set of `bench music`: ours beside what was published, ours in detail, and
    the music that they make."""
    particles = result["particles"]
    ours = [
        (row["model"], f"{row['test_nats']:.3f}", bound(row["best"], particles))
        for row in result["rows"]
    ]
    published = [
        (row["model"] + ("" if row["checked"] else " *"), f"{row['nats']:.2f}", row["scored"])
        for row in result["published"]
    ]
    details = (
        (
            row["model"],
            *(f"{row['by_bound'][key]:.3f}" if key in row["by_bound"] else "" for key in BOUNDS),
            f"{row['valid_nats']:.3f}",
            str(row["update"]),
            f"{row['train_seconds']:.0f}",
            f"{row['processor_seconds']:.0f}",
        )
        for row in result["rows"]
    )
    played = (
        (
            row["model"],
            f"{row['generated']['notes_a_frame']:.2f}",
            f"{row['generated']['corpus_notes_a_frame']:.2f}",
            f"{row['generated']['pitch_class_tv']:.3f}",
        )
        for row in result["rows"]
    )
    music = ("model", "notes a frame", "learned from", "pitch classes apart")
    bounds = (bound(key, particles) for key in BOUNDS)
    title = f"{result['set']}, seed {result['seed']}, nats a frame (* quoted from memory)"
    return [
        table(title, ("model", "nats", "which is"), ours + published),
        table("in detail", ("model", *bounds, "valid", "update", "s", "CPU s"), details),
        table("generated music beside what was learned from", music, played),
    ]


def of_iwae(result: dict[str, Any]) -> Table:
    """The table of `bench iwae`: means over seeds with their standard errors."""
    bounds = (bound(key, result["particles"]) for key in BOUNDS)
    rows = (
        (name, *(f"{mean:.3f} ± {error:.3f}" for mean, error in by_bound.values()))
        for name, by_bound in result["summary"].items()
    )
    title = f"{result['set']}, nats a frame of the test set, {result['seeds']} seeds"
    return table(title, ("learned by", *bounds), rows)


def of_vae(result: dict[str, Any]) -> list[Table]:
    """The tables of `bench vae`: means over seeds beside what was published, then every run."""
    rows = result["rows"]
    models = dict.fromkeys(row["model"] for row in rows)
    means = (
        (
            model,
            *(
                f"{_mean(row[key] for row in rows if row['model'] == model):.2f}"
                for key in ("negative_elbo", "nll")
            ),
            f"{result['published_nll'][model]:.2f}" if model in result["published_nll"] else "",
        )
        for model in models
    )
    details = (
        (
            f"{row['model']}, seed {row['seed']}",
            f"{row['negative_elbo']:.2f} ± {row['negative_elbo_se']:.2f}",
            f"{row['nll']:.2f} ± {row['nll_se']:.2f}",
            str(row["updates"]),
            f"{row['train_seconds']:.0f}",
            f"{row['processor_seconds']:.0f}",
        )
        for row in rows
    )
    nll = f"-log p (K = {result['particles']:,}, {result['digits']:,} digits)"
    return [
        table(result["scored"], ("model", "-ELBO", nll, "published"), means),
        table("in detail", ("run", "-ELBO", "-log p", "updates", "s", "CPU s"), details),
    ]


def of_speech(result: dict[str, Any]) -> list[Table]:
    """The tables of `bench speech`: means over seeds beside floors, then every run."""
    bounds = {bound: None for found in result["summary"].values() for bound in found}
    floors = [(name, f"{nats:.1f}") for name, nats in result["floors"].items()]

    def cell(figure: dict[str, Any] | None) -> str:
        if figure is None:
            return ""
        error = "" if figure["se"] is None else f" ± {figure['se']:.1f}"
        return f"{figure['mean']:.1f}{error}"

    means = [
        (model, *(cell(found.get(bound)) for bound in bounds))
        for model, found in result["summary"].items()
    ]
    details = (
        (
            f"{row['model']}, seed {row['seed']}",
            *(f"{row['by_bound'][key]:.1f}" if key in row["by_bound"] else "" for key in bounds),
            f"{row['valid_nats']:.1f}",
            f"{row['train_nats']:.1f}",
            f"{row['update']}/{row['updates']}",
            f"{row['processor_seconds']:.0f}",
        )
        for row in result["rows"]
    )
    titles = [bound(name, result["particles"]) for name in bounds]
    columns = ("run", *titles, "valid", "train", "update", "CPU s")
    seeds = f"{len(result['seeds'])} seed{'s' if len(result['seeds']) > 1 else ''}"
    return [
        table(f"{result['set']}: {result['scored']}", ("fitted at once", "exact"), floors),
        table(f"learned, {seeds}", ("model", *titles), means),
        table("in detail", columns, details),
    ]


def of_images(result: dict[str, Any]) -> Table:
    """The table of `bench images`."""
    figures = (
        ("GB in files", f"{result['bytes'] / 1e9:.2f}"),
        ("files", str(result["files"])),
        ("images", f"{result['images']:,}"),
        ("GiB resident before", f"{result['resident_before_bytes'] / 2**30:.2f}"),
        ("GiB resident, at the most", f"{result['resident_bytes'] / 2**30:.2f}"),
        ("samples a second", f"{result['samples_per_second']:,.0f}"),
        ("numpy's own", f"{result['numpy_samples_per_second']:,.0f}"),
    )
    return table("images on disk", ("", ""), figures)


def of_visitors(result: dict[str, Any]) -> Table:
    """The table of `bench visitors`."""
    figures = (
        ("keys", f"{result['keys']:,}"),
        ("frames a second, of the slowest", f"{result['slowest_frames_per_second']:.2f}"),
        ("ms from key to frame, half", f"{result['latency_p50_ms']:.0f}"),
        ("99 of 100", f"{result['latency_p99_ms']:.0f}"),
        ("all", f"{result['latency_max_ms']:.0f}"),
        ("the server's CPU ms a frame", f"{result['server_processor_ms_per_frame']:.1f}"),
        ("resident MB, begun", f"{result['resident_megabytes_begun']:.0f}"),
        ("ended", f"{result['resident_megabytes_ended']:.0f}"),
        ("games as if played alone", f"{result['games_as_if_alone']} of {result['visitors']}"),
    )
    title = f"{result['visitors']} visitors, {result['keys_per_second']:g} keys a second each"
    return table(title, ("", ""), figures)


def _mean(values: Iterable[float]) -> float:
    found = list(values)
    return sum(found) / len(found)


def of_replay(result: Sequence[dict[str, Any]]) -> Table:
    """The table of `bench replay`."""
    rows = (
        (
            f"{row['rows']:,}",
            f"{row['episodes']:,}",
            f"{row['megabytes']:.0f}",
            f"{row['resident_megabytes_before']:.0f}",
            f"{row['resident_megabytes_written']:.0f}",
            f"{row['resident_megabytes_sampled']:.0f}",
            f"{row['microseconds_per_batch']:.0f}",
            f"{row['microseconds_per_row_written']:.2f}",
            f"{row['seconds_to_open']:.2f}",
        )
        for row in result
    )
    columns = ("rows", "episodes", "MB", "begun", "written", "sampled")
    title = "a replay on disk; resident MB when begun, when written, when sampled from"
    return table(title, (*columns, "us a batch", "us a row", "s to open"), rows)


def of_play(result: Sequence[dict[str, Any]]) -> Table:
    """The table of `bench play`."""
    timed = ("dream_step", "row", "frame")
    rows = (
        (
            row["game"],
            *(f"{row[f'{name}_ms']:.2f} ({row[f'{name}_ms_99']:.2f})" for name in timed),
            f"{row['frames_per_second']:.1f}",
            f"{row['resident_megabytes_begun']:.0f}, {row['resident_megabytes_ended']:.0f}",
        )
        for row in result
    )
    threads = ", ".join(sorted({str(row["threads"]) for row in result}))
    title = f"one game, threads: {threads}; ms, the median and (of 99 % at most)"
    columns = ("game", "dream step", "row of both worlds", "row and pictures", "frames/s", "MB")
    return table(title, columns, rows)


def of_dream(result: Sequence[dict[str, Any]]) -> Table:
    """The table of `bench dream`."""
    rows = (
        (
            row["agent"],
            f"{row['dreamt_steps']:,}",
            f"{row['dream_return_mean']:.2f} ± {row['dream_return_se']:.2f}",
            f"{row['real_return_mean']:.2f} ± {row['real_return_se']:.2f}",
            f"{row['seconds']:.0f}",
        )
        for row in result
    )
    title = f"agents in one dream, learnt from {result[0]['real_steps_used']:,} real steps"
    return table(title, ("agent", "dreamt steps", "return, dreamt", "real", "s"), rows)


def bound(name: str, particles: int) -> str:
    """How a bound is written: exact, ELBO, IWAE-128."""
    if name == "exact":
        return name
    return name.upper() if name == "elbo" else f"{name.upper()}-{particles}"
