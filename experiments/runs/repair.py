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
from worldmodel.checkpoint import next_number, write_checkpoint
from worldmodel.experiments.runs.registry import offered
from worldmodel.files import DamagedError, RunError, write_text
from worldmodel.run_folder import RunFolder
from worldmodel.space_json import FILE as SPACES

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
    stores = []
    for file in sorted(folder.episodes.rglob("store.json")):
        store = DiskStore(file.parent, writable=False)
        damaged = store.damaged()
        if len(damaged):
            stores.append(DamagedStore(file.parent, store.added, damaged))
    try:
        folder.check_logged()
        fault = ""
    except DamagedError as error:
        readable = len(folder.readable_metrics())
        fault = f"{error.args[0].partition(':')[0]}: {readable} lines of it can be read"
    return Damage(stores, fault)


def repair(folder: RunFolder, damage: Damage) -> list[Path]:
    """Leaves the damage out, and writes a checkpoint that goes on without it; returns the paths
    under which the damaged files are kept."""
    checkpoint = folder.checkpoint()
    values, aside = dict(checkpoint.values), []
    if damage.stores:
        known = values.get("finished", values.get("added"))
        kept = {store.path: _kept(store, known) for store in damage.stores}
        counts = {path: len(numbers) for path, numbers in kept.items()}
        values = offered(folder, "repaired", "repair")(folder, values, counts)
        aside += [_leave_out(folder, path, numbers) for path, numbers in kept.items()]
    if damage.metrics:
        lines = "".join(json.dumps(line) + "\n" for line in folder.readable_metrics())
        if folder.metrics_file.exists():
            aside.append(_put_aside(folder, folder.metrics_file))
        write_text(folder.metrics_file, lines)
        logged = folder.logged()
        values |= {"metrics_size": logged.size, "metrics_crc32": logged.crc32}
    number = next_number(folder.checkpoints)
    content = checkpoint._replace(values=values)
    write_checkpoint(folder.checkpoints, number, content, spared=(values.get("best"),))
    return aside


def _kept(store: DamagedStore, added: int | None) -> np.ndarray:
    """The numbers of the episodes that are left, int64 [n]; added: how many a checkpoint knows of,
    None: all."""
    numbers = np.setdiff1d(np.arange(store.episodes if added is None else added), store.damaged)
    if not len(numbers):
        raise RunError(f"all episodes of {store.path} are damaged: nothing would be left")
    return numbers


def _leave_out(folder: RunFolder, path: Path, kept: np.ndarray) -> Path:
    """Writes a store anew, of the episodes that are kept; returns the path of the old one."""
    old, mended = DiskStore(path, writable=False), folder.path / f"mended-{path.name}"
    shutil.rmtree(mended, ignore_errors=True)  # a repair was interrupted
    with closing(DiskStore(mended)) as new:
        for group in np.split(kept, np.flatnonzero(np.diff(old.weights[kept])) + 1):
            for part in old.portions(group):
                new.add(part, float(old.weights[group[0]]))
    if (path / SPACES).exists():
        shutil.copy(path / SPACES, mended)
    aside = _put_aside(folder, path)
    mended.rename(path)
    return aside


def _put_aside(folder: RunFolder, path: Path) -> Path:
    """Moves a file or folder of a run to a new name in it, which is returned."""
    number = 1
    while (aside := folder.path / f"damaged-{number}-{path.name}").exists():
        number += 1
    return path.rename(aside)
