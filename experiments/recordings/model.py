"""A model of recordings in files, as the command line trains it, for scripts."""

import warnings
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, cast, get_type_hints

from worldmodel import DiskStore, EpisodeStore, SequenceModel
from worldmodel.errors import naming_damage
from worldmodel.experiments.recordings.config import FilesConfig, RecordingsConfig
from worldmodel.experiments.recordings.modality import FileModality
from worldmodel.experiments.recordings.storage import (
    for_scoring,
    in_memory,
    modality_of_run,
    split_stores,
    write_statistics,
)
from worldmodel.experiments.recordings.training import training_of
from worldmodel.experiments.runs.device import device_of, placed
from worldmodel.experiments.runs.naming import run_name
from worldmodel.experiments.runs.registry import (
    config_class,
    config_of,
    experiment_of,
    load_plugins,
    new_run,
)
from worldmodel.options import with_options
from worldmodel.run_folder import RunError, RunFolder
from worldmodel.sequence_model.model import Callback


class RecordingsModel(SequenceModel):
    """A `SequenceModel` of files, or of a run of `train text`, `audio`, `midi` or `strokes`.

    Without data, `fit` learns from the files and `log_prob` is of those that were held out;
    other data are as the modality encodes them (strings of text, else arrays of frames).
    """

    recordings: RecordingsConfig
    stores: dict[str, EpisodeStore]

    def __init__(
        self,
        recordings: RecordingsConfig,
        modality: FileModality,
        stores: dict[str, EpisodeStore],
        device: str | None = None,
    ):
        """stores: the recordings by split; device: see `SequenceModel`, by default as the options
        say."""
        asked = recordings.computing.device if device is None else device
        super().__init__(config=recordings.sequence, device=asked)
        self.recordings = recordings
        self.stores = stores
        self._training = training_of(recordings, modality, self.device)

    def __repr__(self) -> str:
        return run_name(experiment_of(self.recordings), self.model)

    @property
    def modality(self) -> FileModality:
        """The modality: space of the sequences, reader of files, writer of samples."""
        return cast(FileModality, self.training.modality)

    def fit(
        self,
        data: Any = None,
        updates: int | None = None,
        minutes: float | None = None,
        validation: Any = None,
        callback: Callback | Sequence[Callback] | None = None,
        progress_bar: bool = False,
    ) -> "RecordingsModel":
        train = self.stores["train"] if data is None else self._source(data)
        valid = None if validation is None else self._source(validation)
        if data is None and validation is None:
            valid = self.stores["valid"]
        self._learn(train, valid, updates, minutes, callback, progress_bar)
        return self

    def log_prob(self, data: Any = None, bound: str = "iwae", num_particles: int = 16) -> Any:
        recordings = for_scoring(self.stores) if data is None else data
        return super().log_prob(recordings, bound, num_particles)

    def _source(self, data: Any) -> Any:
        return data if isinstance(data, EpisodeStore) else super()._source(data)

    def _new_folder(self, path: Path) -> RunFolder:
        """A run's folder, as of the command line, with the recordings."""
        folder = new_run(path, self.recordings)
        for split, store in self.stores.items():
            with closing(DiskStore(folder.episodes / split)) as target:
                for part in store.portions():
                    target.add(part)
        write_statistics(folder, self.modality, self.stores)
        return folder

    @classmethod
    def load(cls, path: str | Path, device: str | None = None) -> "RecordingsModel":
        """A saved model, or the model of a run, as its newest checkpoint left it. device: see
        `SequenceModel.load`."""
        load_plugins()
        return cls.of_run(placed(RunFolder.open(Path(path)), device, warnings.warn))

    @classmethod
    def of_run(cls, folder: RunFolder) -> "RecordingsModel":
        """The model of a run, as its newest checkpoint left it."""
        with naming_damage(folder.path):
            parts = config_of(folder), modality_of_run(folder), split_stores(folder)
            model = cls(*parts, str(device_of(folder)))
            model.training.restore(folder.checkpoint())
        return model


def sequence_model(
    kind: str, files: str | Path | Sequence[str | Path], **options: Any
) -> RecordingsModel:
    """An untrained model of files: text, audio, midi, strokes, or an experiment
    of a plugin that is made like these.

    model = sequence_model("text", "corpus.txt", hidden_size=128).fit(minutes=5)
    model.sample(200, prompt="Once")

    files: files, or folders of them, read into memory; options: those of the command line, such as
    rate=8_000 of audio. Nothing is written to disk but by `save`, which makes a run that the
    command line goes on with.
    """
    paths = [files] if isinstance(files, str | Path) else files
    make: Any = config_class(kind)
    if not issubclass(make, RecordingsConfig):
        raise RunError(f"{kind} is no experiment on recordings, as text, audio, midi, strokes are")
    data_class: type[FilesConfig] = get_type_hints(make)["data"]
    data = data_class(tuple(str(Path(path).resolve()) for path in paths))
    config = with_options(make(data=data), options)
    return RecordingsModel(config, *in_memory(config, lambda line: None))
