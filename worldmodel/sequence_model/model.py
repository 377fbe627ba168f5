"""A model of sequences, in five lines."""

import json
import shutil
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from gymnasium import spaces

from worldmodel import nested
from worldmodel.devices import find_device
from worldmodel.episodes import Columns, EpisodeSource
from worldmodel.errors import naming_damage
from worldmodel.job import Job, Metrics, Stage, Watcher
from worldmodel.model import WorldModel
from worldmodel.names import check_names
from worldmodel.noise import OwnNoise
from worldmodel.options import with_options
from worldmodel.recorder import Recorder
from worldmodel.reports import ProgressReport
from worldmodel.run_folder import RunError, RunFolder, put_in_place
from worldmodel.sequence_model.config import (
    SequenceConfig,
    SequenceLearningConfig,
    SequenceModelConfig,
    SeriesConfig,
)
from worldmodel.sequence_model.forecasting import (
    Forecast,
    complete,
    forecast,
    value_nats,
)
from worldmodel.sequence_model.generation import dream
from worldmodel.sequence_model.modalities import described, modality_from, modality_of
from worldmodel.sequence_model.modality import Arrays, Modality, as_episodes, space_of
from worldmodel.sequence_model.scoring import scored
from worldmodel.sequence_model.series import Series
from worldmodel.sequence_model.training import SequenceTraining

EXPERIMENT = "sequences"  # of saved models


class FitProgress(NamedTuple):
    """The progress of `fit`, for a callback."""

    model: "SequenceModel"
    stage: str  # "learn" or "validate"
    done: int  # units of the stage
    units: int
    updates: int  # all in all
    metrics: Metrics


Callback = Callable[[FitProgress], Any]


class SequenceModel:
    """A model of sequences that can be fitted, sampled from, and used to score recordings.

    model = SequenceModel(seed=0, core="srnn", hidden_size=64)
    model.fit(recordings, updates=1_000, progress_bar=True)
    nats = model.log_prob(others)  # [recordings]
    sample = model.sample(100, temperature=0.8)
    model.save("model"); model = SequenceModel.load("model")

    A recording is an array [T, ...] of integers (classes), of truth values or of real numbers, or
    a string; data is one recording, a list of them (of any lengths), an array [N, T, ...], or an
    `EpisodeSource`, whose observations are learned. Data frames, and arrays [T] or [T, C] in which
    values are missing (NaN), are time series (`Series`). The same seed gives the same model;
    torch's global generator is left alone. Nothing is written to disk but by `save`.
    """

    def __init__(
        self,
        *,
        seed: int | None = None,
        config: SequenceConfig | None = None,
        observation_space: spaces.Space | None = None,
        series: SeriesConfig | Mapping[str, Any] | None = None,
        device: str | None = None,
        **options: Any,
    ):
        """config: all options; options: single ones by name, such as core="vrnn", head="normal"
        (see `SequenceModelConfig` and `SequenceLearningConfig`).
        observation_space: of a frame; by default it is what the first data hold.
        series: the columns of tables, as a `SeriesConfig` or its options by name; {}: arrays
        are time series, too, where nothing is missing.
        device: where it is computed: "auto", "cpu" (the default), "cuda", "cuda:1", "mps".

        Raises ValueError or TypeError for options that there are not, or that do not fit.
        """
        if isinstance(options.get("head_options"), Mapping):
            options["head_options"] = json.dumps(options["head_options"])
        given = options if seed is None else options | {"seed": seed}
        self.config = with_options(config or SequenceConfig(), given)
        check_names(self.config)
        self._space = observation_space
        self._series = SeriesConfig(**series) if isinstance(series, Mapping) else series
        self._asked = device  # as it is saved
        self.device = find_device(device)
        self._training: SequenceTraining | None = None
        self._noise = OwnNoise(self.config.seed)  # of `sample`

    def __repr__(self) -> str:
        learned = f"{self.updates} updates"
        if self._training is not None:
            learned = f"of {self.modality.frame}s, {learned}"
        return f"{type(self).__name__}({self.config.model.core!r}, {learned})"

    @property
    def updates(self) -> int:
        """The number of updates so far."""
        return 0 if self._training is None else self._training.updates

    @property
    def training(self) -> SequenceTraining:
        """The training job of the model."""
        if self._training is None:
            raise ValueError("this model has learned nothing yet: call fit(data)")
        return self._training

    @property
    def model(self) -> WorldModel:
        """The world model: that with the average of its weights, or the best in validation."""
        return self.training.kept

    @property
    def modality(self) -> Modality:
        """The modality of the sequences."""
        return self.training.modality

    def fit(
        self,
        data: Any,
        updates: int | None = None,
        minutes: float | None = None,
        validation: Any = None,
        callback: Callback | Sequence[Callback] | None = None,
        progress_bar: bool = False,
    ) -> "SequenceModel":
        """Learns from data; goes on if it is called again, with the same data or with others.

        updates: how many more, or minutes: for about how long; by default those of the options.
        validation: other data, by which the best of the models on the way is chosen.
        callback: called with the `FitProgress` after every unit; returning False ends learning.
        """
        if self._training is None:
            modality = self._modality_of(data)
            self._training = SequenceTraining(self.config, modality, device=self.device)
        valid = None if validation is None else self._source(validation)
        self._learn(self._source(data), valid, updates, minutes, callback, progress_bar)
        return self

    def _learn(
        self,
        train: EpisodeSource,
        valid: EpisodeSource | None,
        updates: int | None,
        minutes: float | None,
        callback: Callback | Sequence[Callback] | None,
        progress_bar: bool,
    ) -> None:
        training = self.training
        training.learn_from(train, valid)
        training.extend(updates, minutes)
        callbacks = [] if callback is None else [callback] if callable(callback) else callback
        watchers: list[Watcher] = [_Callbacks(self, callbacks)]
        if progress_bar:
            watchers.append(ProgressReport())
        training.run(*watchers)

    def log_prob(self, data: Any, bound: str = "iwae", num_particles: int = 16) -> np.ndarray:
        """The log likelihood of recordings, or a lower bound of it, [recordings] nats (a density
        where frames are real numbers).

        bound, num_particles: of `worldmodel.BOUNDS`; exact where the model has no latents.
        """
        source = self._source(data)
        found = np.empty(len(source))
        with OwnNoise(self.config.seed)():
            for score in scored(self.model, self.modality, source, bound, num_particles):
                found[score.episode] = score.log_prob.sum()
        return found

    def sample(
        self,
        length: int,
        number: int | None = None,
        temperature: float = 1.0,
        prompt: Any = None,
    ) -> Any:
        """A recording of `length` frames that the model dreams, of the type that it learned from;
        with a number, a list of so many.

        temperature: below 1 nearer to what is most probable, above 1 wilder; prompt: the beginning
        of a recording that the samples begin with and go on from, beyond `length`.
        """
        modality = self.modality
        begun = actions = None
        if prompt is not None:
            begun, actions = modality.encode(prompt), modality.steering(prompt, length)
        sizes = length, number or 1, temperature
        with self._noise():
            samples = dream(self.model, modality, *sizes, begun, actions=actions)
        decoded = [modality.decode(sample) for sample in samples]
        return decoded[0] if number is None else decoded

    def forecast(self, data: Any, horizon: int, draws: int = 100) -> Forecast | list[Forecast]:
        """Draws of the `horizon` steps after the last of a time series that shows anything; of
        several series, a list.

        What is known ahead is given for these steps, too: as rows with nothing else in them.
        """
        series = self._as_series("forecast")
        with self._noise():
            found = [
                forecast(self.model, series, each, horizon, draws)
                for each in series.separated(data)
            ]
        return found[0] if len(found) == 1 else found

    def impute(self, data: Any, draws: int = 200) -> Any:
        """Time series with every missing value in place: the median of its draws given all the
        rest, of words the most frequent; of several series, a list."""
        series, found = self._as_series("impute"), []
        with self._noise():
            for each in series.separated(data):
                observation, actions = series.encode(each), series.steering(each)
                drawn = complete(self.model, series, observation, actions, draws).draws
                columns = series.merged(series.named(series.typical(drawn)), each)
                found.append(series.formed(columns))
        return found[0] if len(found) == 1 else found

    def value_log_prob(self, data: Any) -> Any:
        """The log likelihood of every value of a time series given all rows before, [T, C] nats,
        NaN where it is missing: the least are anomalies; of several series, a list."""
        series = self._as_series("value_log_prob")
        with OwnNoise(self.config.seed)():
            found = [value_nats(self.model, series, each) for each in series.separated(data)]
        return found[0] if len(found) == 1 else found

    def _as_series(self, what: str) -> Series:
        if not isinstance(self.modality, Series):
            raise ValueError(
                f"{what} is for time series, but this model learned {self.modality.frame}s of "
                "others: pass series={} before it is fitted"
            )
        return self.modality

    def save(self, path: str | Path) -> None:
        """Writes the model into a folder, with all that it takes to go on learning. A model that
        was saved there before is replaced; any other folder is left alone."""
        target = Path(path)
        if target.exists():
            RunFolder.open(target)  # refuses a folder that is no run
        part = target.with_name(f".{target.name}.part")
        shutil.rmtree(part, ignore_errors=True)
        Recorder(self._new_folder(part)).save(self.training)
        put_in_place(part, target)

    @classmethod
    def load(cls, path: str | Path, device: str | None = None) -> "SequenceModel":
        """Loads a saved model. device: where it is to be computed (see `__init__`); None: where it
        was, if that device is here."""
        folder = RunFolder.open(Path(path))
        if folder.experiment != EXPERIMENT:
            raise RunError(
                f"{path} is a run of {folder.experiment}: load it by worldmodel.experiments.load"
            )
        with naming_damage(folder.path):
            saved = folder.description.config
            asked = saved.get("device") if device is None else device
            place = find_device(asked, warnings.warn if device is None else None)
            model = cls(config=_config_from(saved), device=str(place))
            model._asked = asked
            modality = modality_from(saved["modality"])
            model._training = SequenceTraining(model.config, modality, device=place)
            model._training.restore(folder.checkpoint())
        return model

    def _new_folder(self, path: Path) -> RunFolder:
        saved = asdict(self.config) | {"modality": described(self.modality)}
        saved |= {"device": self._asked}
        return RunFolder.create(path, EXPERIMENT, saved)

    def _modality_of(self, data: Any) -> Modality:
        """The modality of data."""
        if isinstance(data, EpisodeSource):
            return Arrays(self._space or space_of(_extremes(data)))
        return modality_of(data, self._space, self._series)

    def _source(self, data: Any) -> EpisodeSource:
        """Data as episodes."""
        if isinstance(data, EpisodeSource):
            return _Unsteered(data)
        modality = self.modality
        recordings = modality.separated(data)
        steered = [modality.steering(one) for one in recordings]
        return as_episodes(modality, [modality.encode(one) for one in recordings], steered)


class _Callbacks(Watcher):
    """Reports the progress of learning to a user's callbacks."""

    def __init__(self, model: SequenceModel, callbacks: Sequence[Callback]):
        self.model = model
        self.callbacks = callbacks

    def unit(self, job: Job, stage: Stage, metrics: Metrics) -> bool:
        progress = FitProgress(
            self.model, stage.kind, job.done, stage.units, self.model.updates, metrics
        )
        return all([callback(progress) is not False for callback in self.callbacks])


class _Unsteered(EpisodeSource):
    """Episodes whose actions are left out."""

    def __init__(self, source: EpisodeSource):
        self.source = source

    @property
    def lengths(self) -> np.ndarray:
        return self.source.lengths

    @property
    def starts(self) -> np.ndarray:
        return self.source.starts

    def gather(self, rows: np.ndarray) -> Columns:
        return self.source.gather(rows) | {"action": np.zeros((*rows.shape, 0), np.float32)}


def _extremes(source: EpisodeSource) -> Any:
    """The least and the greatest observations, number by number, of some rows at a time, leaves
    [N, ...]."""
    found = [
        nested.map(lambda leaf: np.stack([leaf.min(0), leaf.max(0)]), part.columns["observation"])
        for part in source.portions()
    ]
    return nested.map(lambda *leaves: np.concatenate(leaves), *found)


def _config_from(saved: Mapping[str, Any]) -> SequenceConfig:
    return SequenceConfig(
        SequenceModelConfig(**saved["model"]),
        SequenceLearningConfig(**saved["learning"]),
        saved["seed"],
    )
