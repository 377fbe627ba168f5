"""Repair of a run: what cannot be read as it was written is left out.

Whatever is replaced is kept beside it under another name, for its user to remove.
"""

import json
import shutil
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

import numpy as np

from worldmodel import DiskStore
from worldmodel.checkpoint import list_checkpoints, next_number, write_checkpoint
from worldmodel.experiments.runs.registry import offered
from worldmodel.files import DamagedError, RunError, crc32_of, with_checksum, write_text
from worldmodel.run_folder import RunFolder
from worldmodel.space_json import FILE as SPACES

MENDED = "mended"  # of a run's folder: what a repair writes before it is put in its place
LISTED = 10  # numbers of episodes that a sentence lists


class DamagedStore(NamedTuple):
    """A store in which the rows of some episodes are not as they were written."""

    path: Path
    episodes: int  # in all
    damaged: np.ndarray  # their numbers, int64 [n]

    def __str__(self) -> str:
        numbers = ", ".join(map(str, self.damaged[:LISTED]))
        more = ", ..." if len(self.damaged) > LISTED else ""
        return (
            f"{self.path}: the rows of {len(self.damaged)} of {self.episodes} episodes are "
            f"damaged (number {numbers}{more})"
        )


class Damage(NamedTuple):
    """All of a run that can be left out."""

    stores: Sequence[DamagedStore]
    metrics: str  # the fault of metrics.jsonl; "": none

    def __bool__(self) -> bool:
        return bool(self.stores or self.metrics)

    def sentences(self) -> list[str]:
        """Sentences on what is damaged."""
        return [*map(str, self.stores), *([self.metrics] if self.metrics else [])]


def damage_of(folder: RunFolder) -> Damage:
    """Reads all episodes and metrics of a run, and finds those that are damaged."""
    stores, known = [], _known(folder)
    for file in sorted(folder.episodes.rglob("store.json")):
        store = DiskStore(file.parent, writable=False, as_of=known)
        damaged = store.damaged()
        if len(damaged):
            stores.append(DamagedStore(file.parent, store.added, damaged))
    try:
        folder.metrics()
        fault = ""
    except DamagedError as error:
        readable = len(folder.readable_metrics())
        fault = f"{error.args[0].partition(':')[0]}: {readable} lines of it can be read"
    return Damage(stores, fault)


def repair(folder: RunFolder, damage: Damage) -> list[Path]:
    """Leaves the damage out, and writes a checkpoint that goes on without it; returns the paths
    under which the damaged files are kept. All is written beside what it replaces, and then put in
    its place at once."""
    checkpoint = folder.checkpoint()
    values, mended = dict(checkpoint.values), folder.path / MENDED
    shutil.rmtree(mended, ignore_errors=True)  # a repair was interrupted
    mended.mkdir()
    replaced: list[tuple[Path, Path]] = []  # what is damaged, and what comes in its place
    if damage.stores:
        kept = [(store, _kept(store)) for store in damage.stores]
        counts = {store.path: len(numbers) for store, numbers in kept}
        values = offered(folder, "repaired", "repair")(folder, values, counts)
        for store, numbers in kept:
            _leave_out(store, numbers, mended / store.path.name)
            replaced.append((store.path, mended / store.path.name))
    if damage.metrics:
        lines = mended / folder.metrics_file.name
        read = (with_checksum(line) for line in folder.readable_metrics())
        write_text(lines, "".join(json.dumps(line) + "\n" for line in read))
        size = lines.stat().st_size
        values |= {"metrics_size": size, "metrics_crc32": crc32_of(lines, 0, size)}
        values |= {"best": None} if "best" in values else {}  # it knows the lines as they were
        replaced.append((folder.metrics_file, lines))
    number = next_number(folder.checkpoints)
    written = write_checkpoint(mended, number, checkpoint._replace(values=values))
    aside = [_aside(folder, path) for path, _ in replaced]
    folder.move(
        [
            *zip((path for path, _ in replaced), aside, strict=True),
            *((new, path) for path, new in replaced),
            (written, folder.checkpoints / written.name),
        ]
    )
    mended.rmdir()
    return [path for path in aside if path.exists()]


def _known(folder: RunFolder) -> int | None:
    """The number of episodes of a store that the checkpoint knows of; None: all that there are."""
    if not list_checkpoints(folder.checkpoints):
        return None
    values = folder.values()
    return values.get("finished", values.get("added"))


def _kept(store: DamagedStore) -> np.ndarray:
    """The numbers of the episodes that are left, int64 [n]."""
    numbers = np.setdiff1d(np.arange(store.episodes), store.damaged)
    if not len(numbers):
        raise RunError(f"all episodes of {store.path} are damaged: nothing would be left")
    return numbers


def _leave_out(store: DamagedStore, kept: np.ndarray, mended: Path) -> None:
    """Writes a store anew, of the episodes that are kept."""
    old = DiskStore(store.path, writable=False, as_of=store.episodes)
    with closing(DiskStore(mended)) as new:
        for group in np.split(kept, np.flatnonzero(np.diff(old.weights[kept])) + 1):
            for part in old.portions(group):
                new.add(part, float(old.weights[group[0]]))
    if (store.path / SPACES).exists():
        shutil.copy(store.path / SPACES, mended)


def _aside(folder: RunFolder, path: Path) -> Path:
    """A new name in a run for a file or folder of it that is damaged."""
    number = 1
    while (aside := folder.path / f"damaged-{number}-{path.name}").exists():
        number += 1
    return aside
