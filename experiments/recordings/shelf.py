"""The recordings of a run, in its folder: independent of the files that they came from."""

import json
from collections.abc import Iterator
from typing import Any, cast, get_args

import numpy as np

from worldmodel import DiskStore, Episodes, EpisodeSource, EpisodeStore, nested
from worldmodel.episodes import PORTION
from worldmodel.experiments.data.readers.files import Recording, Split
from worldmodel.experiments.recordings.kind import Kind, kind_of_config
from worldmodel.experiments.runs.registry import config_of
from worldmodel.progress import Reporter
from worldmodel.run_folder import RunError, RunFolder, write_text

SPLITS: tuple[str, ...] = get_args(Split)
FACTS = "facts.json"
TOGETHER = 10_000  # rows that are written at once


def take_in(folder: RunFolder, reporter: Reporter) -> Kind:
    """Reads what a run is told to learn from, once; an interrupted reading begins anew."""
    file = folder.episodes / FACTS
    if not file.exists():
        try:
            kind = _read(folder, reporter)
        except RunError as error:
            hint = f"when that is mended: worldmodel resume {folder.path}"
            raise RunError(f"{error} ({hint})") from error
        write_text(file, json.dumps(kind.facts))
    return kind_of(folder)


def kind_of(folder: RunFolder) -> Kind:
    """What a run's recordings are."""
    file = folder.episodes / FACTS
    if not file.exists():
        raise RunError(
            f"{folder.path} has not read its recordings yet; `worldmodel resume {folder.path}` "
            "goes on with the run"
        )
    config = config_of(folder)
    return kind_of_config(config)(config.data, json.loads(file.read_text()))


def shelf(folder: RunFolder, split: str, writable: bool = False) -> EpisodeStore:
    """The recordings of one split."""
    return DiskStore(folder.episodes / split, writable=writable)


def held_out(folder: RunFolder) -> EpisodeStore:
    """What a run is scored on: its test recordings, or else those that it was validated on."""
    try:
        test = shelf(folder, "test")
    except FileNotFoundError:  # nobody ever kept any for that
        return shelf(folder, "valid")
    return test if len(test) else shelf(folder, "valid")


def as_episodes(kind: Kind, observations: list[Any]) -> Episodes:
    """Recordings, leaves [T, ...] each, as episodes in which nobody is rewarded."""
    lengths = np.array([len(nested.leaves(o)[0]) for o in observations])
    rows = int(lengths.sum())
    columns = {
        "action": np.concatenate([kind.actions(length) for length in lengths.tolist()]),
        "observation": nested.map(lambda *leaves: np.concatenate(leaves), *observations),
        "reward": np.zeros(rows, np.float32),
        "terminated": np.zeros(rows, bool),
    }
    return Episodes(columns, lengths)


class Intake:
    """Recordings on their way into a store, which takes many at once faster than one by one."""

    def __init__(self, kind: Kind, store: EpisodeStore):
        self.kind = kind
        self.store = store
        self.rows = 0
        self.waiting: list[Any] = []

    def add(self, observation: Any) -> None:
        """Takes in a recording, leaves [T, ...]."""
        self.waiting.append(observation)
        self.rows += len(nested.leaves(observation)[0])
        if self.rows >= TOGETHER:
            self.flush()

    def flush(self) -> None:
        """Puts what waits into the store."""
        if self.waiting:
            self.store.add(as_episodes(self.kind, self.waiting))
        self.rows, self.waiting = 0, []


def _read(folder: RunFolder, reporter: Reporter) -> Kind:
    config = config_of(folder)
    of_kind = kind_of_config(config)
    kind = of_kind(config.data, of_kind.first_facts(config.data, reporter.say))
    stores = {split: shelf(folder, split, writable=True) for split in SPLITS}
    for store in stores.values():
        store.rewind(0)
    intakes = {split: Intake(kind, store) for split, store in stores.items()}
    for recording in _assigned(kind.learned(reporter.say), config.data.held_out):
        intakes[cast(str, recording.split)].add(recording.observation)
    for intake in intakes.values():
        intake.flush()
    if not len(stores["valid"]):
        _hold_out(stores["train"], stores["valid"], config.data.held_out)
    for split in ("train", "valid"):
        if not len(stores[split]):
            raise RunError(
                f"there is nothing to {'learn from' if split == 'train' else 'validate on'}: give "
                "more recordings, or another --held-out"
            )
    told = ", ".join(
        f"{len(store):,} recordings of {store.rows:,} {kind.frame}s ({split})"
        for split, store in stores.items()
        if len(store)
    )
    reporter.say(told)
    kind = of_kind(config.data, kind.facts | kind.facts_of(stores["train"]))
    for store in stores.values():
        cast(DiskStore, store).close()
    return kind


def _assigned(recordings: Iterator[Recording], share: float) -> Iterator[Recording]:
    """Recordings that no maker put into a split: about a `share` of all rows is validated on,
    evenly."""
    total = valid = 0
    for recording in recordings:
        if recording.split is None:
            length = len(nested.leaves(recording.observation)[0])
            chosen = total > 0 and valid + length / 2 < share * (total + length)
            total, valid = total + length, valid + length * chosen
            recording = recording._replace(split="valid" if chosen else "train")
        yield recording


def _hold_out(train: EpisodeStore, valid: EpisodeStore, share: float) -> None:
    """The last recordings are validated on, where their makers kept some for testing alone or
    there are few; of a single one, its end."""
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
    """All but the first `kept` rows of a single recording go to `valid`."""
    if kept:
        columns = train.select(np.array([0])).columns
        train.rewind(0)
        for store, rows in ((train, slice(kept)), (valid, slice(kept, None))):
            part = nested.index(columns, rows)
            store.add(Episodes(part, np.array([len(part["reward"])])))


def examples(store: EpisodeSource) -> Any:
    """Observations that say how far numbers vary, evenly from all recordings however long they
    are, leaves [N, ...]."""
    places = np.linspace(0, store.rows - 1, min(store.rows, PORTION)).round()
    return store.gather(store.starts[0] + places.astype(np.int64))["observation"]
