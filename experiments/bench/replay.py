"""Costs of a replay on disk as it grows: resident memory, and microseconds a batch.

    worldmodel bench replay --rows 10000000      about a minute; writes 300 MB, and removes them

Rows as small as CartPole's, in episodes of 10 to 89 rows. Each size is measured in a process of
its own, which writes, closes, opens again and samples, as a resumed run would.
"""

import multiprocessing
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from rich.table import Table

from worldmodel import DiskStore, Episodes, Replay, action_codec
from worldmodel.experiments.bench.settings import ReplaySettings
from worldmodel.experiments.bench.table import table
from worldmodel.experiments.runs.processor import resident
from worldmodel.progress import Reporter

ACTIONS = spaces.Discrete(2)
ROWS_AT_ONCE = 50_000
WINDOW, BATCH_ROWS, FROM_START = 64, 1_024, 0.5
ROUNDS, BATCHES = 10, 20


def run(settings: ReplaySettings, reporter: Reporter) -> list[dict[str, Any]]:
    """The costs at `rows` rows, and at a tenth and a hundredth of them, smallest first."""
    sizes = sorted({max(1, settings.rows // part) for part in (100, 10, 1)})
    results = []
    context = multiprocessing.get_context("spawn")
    with reporter.stage("replays", len(sizes), 0, "sizes") as stage:
        for number, size in enumerate(sizes):
            with tempfile.TemporaryDirectory(dir=settings.folder) as path, context.Pool(1) as pool:
                results.append(pool.apply(measure, (Path(path) / "store", size)))
            stage.update(number + 1, f"{size} rows")
    return results


def measure(path: Path, rows: int) -> dict[str, Any]:
    """Costs of writing, opening and sampling from a store of `rows` rows."""
    torch.set_num_threads(1)
    before = resident()
    store = DiskStore(path)
    begun = time.perf_counter()
    for episodes in random_episodes(rows):
        store.add(episodes)
    written = time.perf_counter() - begun
    after_writing = resident()
    store.close()
    begun = time.perf_counter()
    store = DiskStore(path)
    replay = Replay(action_codec(ACTIONS), 0, store)
    replay.sample(WINDOW, BATCH_ROWS, FROM_START)
    opened = time.perf_counter() - begun
    sampling = [_seconds_a_batch(replay) for _ in range(ROUNDS)]
    return {
        "rows": store.rows,
        "episodes": len(store),
        "megabytes": sum(f.stat().st_size for f in path.rglob("*") if f.is_file()) / 1e6,
        "resident_megabytes_before": before / 1e6,
        "resident_megabytes_written": after_writing / 1e6,
        "resident_megabytes_sampled": resident() / 1e6,
        "microseconds_per_batch": 1e6 * float(np.median(sampling)),
        "microseconds_per_batch_best": 1e6 * min(sampling),
        "microseconds_per_row_written": 1e6 * written / store.rows,
        "seconds_to_open": opened,
    }


def _seconds_a_batch(replay: Replay) -> float:
    begun = time.perf_counter()
    for _ in range(BATCHES):
        replay.sample(WINDOW, BATCH_ROWS, FROM_START)
    return (time.perf_counter() - begun) / BATCHES


def random_episodes(rows: int) -> Iterator[Episodes]:
    """Episodes of 10 to 89 rows of noise, `rows` rows in all, in batches."""
    random = np.random.default_rng(0)
    for begin in range(0, rows, ROWS_AT_ONCE):
        count = min(ROWS_AT_ONCE, rows - begin)
        ends = random.integers(10, 90, count // 10 + 1).cumsum()
        lengths = np.diff(np.append(ends[ends < count], count), prepend=0)
        columns = {
            "action": random.integers(0, 2, count),
            "observation": random.standard_normal((count, 4), dtype=np.float32),
            "reward": np.ones(count, np.float32),
            "terminated": np.zeros(count, bool),
        }
        yield Episodes(columns, lengths)


def tables(result: list[dict[str, Any]]) -> list[Table]:
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
    return [table(title, (*columns, "us a batch", "us a row", "s to open"), rows)]
