"""Recordings in memory or in a run's folder, independent of the files that they came from."""

import shutil
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any, cast, get_args

import numpy as np

from worldmodel import DiskStore, Episodes, EpisodeStore, MemoryStore, nested, ranks
from worldmodel.checkpoint import list_checkpoints
from worldmodel.errors import naming_damage
from worldmodel.experiments.data.readers.files import Recording, Split
from worldmodel.experiments.recordings.config import RecordingsConfig
from worldmodel.experiments.recordings.modality import FileModality, Report, modality_class
from worldmodel.experiments.runs.registry import config_of
from worldmodel.files import DamagedError, RunError, read_json, write_json
from worldmodel.progress import Reporter
from worldmodel.run_folder import RunFolder
from worldmodel.sequence_model.modality import as_episodes
from worldmodel.sequence_model.training import kept_module

SPLITS: tuple[str, ...] = get_args(Split)
STATISTICS = "statistics.json"
TOGETHER = 10_000  # rows that are written at once


def import_recordings(folder: RunFolder, reporter: Reporter) -> FileModality:
    """Reads the files of a run into its folder, once; if interrupted, it starts over."""
    return ranks.first_then_others(lambda: _imported(folder, reporter))


def _imported(folder: RunFolder, reporter: Reporter) -> FileModality:
    if not (folder.episodes / STATISTICS).exists() and not list_checkpoints(folder.checkpoints):
        stores: dict[str, EpisodeStore] = {
            split: DiskStore(folder.episodes / split) for split in SPLITS
        }
        try:
            modality = read_into(stores, config_of(folder), reporter.say)
        except RunError as error:
            hint = f"when that is fixed: worldmodel resume {folder.path}"
            raise RunError(f"{error} ({hint})") from error
        for store in stores.values():
            cast(DiskStore, store).close()
        write_statistics(folder, modality, stores)
    return modality_of_run(folder)


def in_memory(
    config: RecordingsConfig, report: Report
) -> tuple[FileModality, dict[str, EpisodeStore]]:
    """The modality of files, and their recordings in memory, by split."""
    stores: dict[str, EpisodeStore] = {split: MemoryStore() for split in SPLITS}
    return read_into(stores, config, report), stores


def write_statistics(
    folder: RunFolder, modality: FileModality, stores: Mapping[str, EpisodeStore]
) -> None:
    """Writes the statistics, without which a run would need its files again, and the number of
    recordings by split."""
    counts = {split: len(store) for split, store in stores.items()}
    described = {"statistics": modality.statistics, "recordings": counts}
    write_json(folder.episodes / STATISTICS, described)


def modality_of_run(folder: RunFolder) -> FileModality:
    """The modality of a run's recordings."""
    config, statistics = config_of(folder), _described(folder)["statistics"]
    with naming_damage(folder.episodes / STATISTICS):
        return modality_class(config)(config.data, statistics)


def _described(folder: RunFolder) -> dict[str, Any]:
    """The content of statistics.json."""
    file = folder.episodes / STATISTICS
    try:
        described = read_json(file)
    except FileNotFoundError as error:
        if list_checkpoints(folder.checkpoints):
            raise DamagedError(f"{file} is missing: put it back from a copy") from error
        raise RunError(
            f"{folder.path} has not read its recordings yet; `worldmodel resume {folder.path}` "
            "goes on with the run"
        ) from error
    if set(described) != {"statistics", "recordings"}:
        raise DamagedError(f"{file} is damaged: it has not the statistics of recordings")
    return described


def split_stores(folder: RunFolder) -> dict[str, EpisodeStore]:
    """The recordings of a run by split; a split without any is empty, as all are of a run that was
    packed without them."""
    if folder.lacks_episodes:
        return {split: MemoryStore() for split in SPLITS}
    counts = _described(folder)["recordings"]
    return {split: _split_store(folder, split, counts[split]) for split in SPLITS}


def _split_store(folder: RunFolder, split: str, count: int) -> EpisodeStore:
    """The recordings of one split, which are `count`."""
    if not count:
        return MemoryStore()
    store = DiskStore(folder.episodes / split, writable=False)
    if len(store) != count:
        raise DamagedError(
            f"{store.path} is damaged: it has {len(store)} recordings instead of {count}"
        )
    return store


def held_out(folder: RunFolder) -> EpisodeStore:
    """The recordings that a run is scored on: the test split, or else the validation split."""
    folder.check_episodes()
    return for_scoring(split_stores(folder))


def for_scoring(stores: Mapping[str, EpisodeStore]) -> EpisodeStore:
    """The test split, or else the validation split."""
    return stores["test"] if len(stores["test"]) else stores["valid"]


def repaired(
    folder: RunFolder, values: Mapping[str, Any], counts: Mapping[Path, int]
) -> dict[str, Any]:
    """The values of a checkpoint after recordings were left out: the epoch begins anew.

    counts: of those that are left, by the path of their split.
    """
    described = _described(folder)
    described["recordings"] |= {path.name: count for path, count in counts.items()}
    write_json(folder.episodes / STATISTICS, described)
    return {**values, "passages": values["passages"] | {"position": 0}}


def packed(
    folder: RunFolder, values: Mapping[str, Any], place: Path, episodes: bool
) -> dict[str, Any]:
    """Writes the statistics of a run, and its recordings if they are wanted, into a folder that is
    to be packed; returns the values of its checkpoint."""
    target = place / folder.episodes.name
    counts = _described(folder)["recordings"]
    target.mkdir()
    shutil.copy(folder.episodes / STATISTICS, target)
    for split in SPLITS:
        if episodes and counts[split]:
            ignored = shutil.ignore_patterns("lock", ".*")
            shutil.copytree(folder.episodes / split, target / split, ignore=ignored)
    return dict(values)


def shown(values: Mapping[str, Any], names: Collection[str]) -> str:
    """The name of the module that a packed run shows; values: of its checkpoint."""
    return kept_module(values["best_nats"], names)


class Writer:
    """Writes recordings to a store, many at once, which is faster than one by one."""

    def __init__(self, modality: FileModality, store: EpisodeStore):
        self.modality = modality
        self.store = store
        self.rows = 0
        self.waiting: list[Recording] = []

    def add(self, recording: Recording) -> None:
        """Adds a recording."""
        self.waiting.append(recording)
        self.rows += len(nested.leaves(recording.observation)[0])
        if self.rows >= TOGETHER:
            self.flush()

    def flush(self) -> None:
        """Writes the recordings that were added since to the store."""
        if self.waiting:
            observations = [recording.observation for recording in self.waiting]
            actions = [recording.action for recording in self.waiting]
            self.store.add(as_episodes(self.modality, observations, actions))
        self.rows, self.waiting = 0, []


def read_into(
    stores: Mapping[str, EpisodeStore], config: RecordingsConfig, report: Report
) -> FileModality:
    """Reads files into stores by split, which are emptied first; returns their modality."""
    make = modality_class(config)
    modality = make(config.data, make.first_statistics(config.data, report))
    for store in stores.values():
        store.rewind(0)
    writers = {split: Writer(modality, store) for split, store in stores.items()}
    for recording in _assigned(modality.learned(report), config.data.held_out):
        writers[cast(str, recording.split)].add(recording)
    for writer in writers.values():
        writer.flush()
    if not len(stores["valid"]):
        _hold_out(stores["train"], stores["valid"], config.data.held_out)
    for split in ("train", "valid"):
        if not len(stores[split]):
            raise RunError(
                f"there is nothing to {'learn from' if split == 'train' else 'validate on'}: give "
                "more recordings, or another --held-out"
            )
    counts = (
        f"{len(store):,} recordings of {store.rows:,} {modality.frame}s ({split})"
        for split, store in stores.items()
        if len(store)
    )
    report(", ".join(counts))
    return make(config.data, modality.statistics | modality.statistics_of(stores["train"]))


def _assigned(recordings: Iterator[Recording], share: float) -> Iterator[Recording]:
    """Assigns splits to recordings without one: about a `share` of all rows, evenly spread, to
    validation."""
    total = valid = 0
    for recording in recordings:
        if recording.split is None:
            length = len(nested.leaves(recording.observation)[0])
            chosen = total > 0 and valid + length / 2 < share * (total + length)
            total, valid = total + length, valid + length * chosen
            recording = recording._replace(split="valid" if chosen else "train")
        yield recording


def _hold_out(train: EpisodeStore, valid: EpisodeStore, share: float) -> None:
    """Moves the last recordings to validation, where the files define a test split alone or are
    few; of a single recording, its end."""
    if len(train) == 1:
        _cut(train, valid, int((1 - share) * train.rows))
        return
    kept = np.cumsum(train.lengths) <= (1 - share) * train.rows
    last = np.flatnonzero(~kept)
    if len(last) and kept.any():
        for part in train.portions(last):
            valid.add(part)
        train.rewind(int(kept.sum()))


def _cut(train: EpisodeStore, valid: EpisodeStore, kept: int) -> None:
    """Moves all but the first `kept` rows of a single recording to `valid`."""
    if kept:
        columns = train.select(np.array([0])).columns
        train.rewind(0)
        for store, rows in ((train, slice(kept)), (valid, slice(kept, None))):
            part = nested.index(columns, rows)
            store.add(Episodes(part, np.array([len(part["reward"])])))
