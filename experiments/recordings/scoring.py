"""The evaluation of runs of recordings: the likelihood of recordings under a model."""

import math
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from gymnasium import spaces
from rich.table import Table

from worldmodel import DiskStore, EpisodeSource
from worldmodel.experiments.data.readers.files import Recording
from worldmodel.experiments.measure.scores import DENSITIES
from worldmodel.experiments.recordings.config import ScoreConfig
from worldmodel.experiments.recordings.counting import MOST_ROWS, Ngrams, most_in_a_row, ngram_nats
from worldmodel.experiments.recordings.modality import FileModality
from worldmodel.experiments.recordings.model import RecordingsModel
from worldmodel.experiments.recordings.storage import Writer, held_out
from worldmodel.experiments.runs.registry import config_of
from worldmodel.noise import OwnNoise
from worldmodel.run_folder import RunError, RunFolder
from worldmodel.sequence_model.scoring import frame_nats, has_latents, scored

Note = Callable[[str, int, int], None]
Besides = Callable[[RecordingsModel, EpisodeSource], dict[str, Any]]


def evaluate(
    folder: RunFolder,
    settings: ScoreConfig,
    note: Note = lambda what, done, total: None,
    besides: Besides = lambda run, store: {},
) -> dict[str, Any]:
    """The model's loss by a bound on the recordings that the run held out, or on others.

    besides: other figures of the model on them.
    """
    torch.set_num_threads(config_of(folder).threads)
    run = RecordingsModel.of_run(folder)
    if not settings.data:
        store = held_out(folder)
        names = [f"held out {number}" for number in range(len(store))]
        scored_on = "recordings that were held out"
        result = _evaluated(run, store, names, settings, note) | {"scored_on": scored_on}
        return result | besides(run, store)
    with tempfile.TemporaryDirectory() as place:  # there may be more than memory holds
        store = DiskStore(Path(place))
        writer = Writer(run.modality, store)
        names = []
        warnings: list[str] = []
        read = run.modality.recordings(settings.data, settings.on_error, warnings.append)
        for recording in read:
            writer.add(recording)
            names.append(recording.name)
        writer.flush()
        if not names:
            raise RunError(f"{', '.join(settings.data)}: nothing of it can be read")
        result = _evaluated(run, store, names, settings, note) | besides(run, store)
        store.close()
    return result | {"scored_on": ", ".join(settings.data), "warnings": warnings}


def _evaluated(
    run: RecordingsModel,
    store: EpisodeSource,
    names: list[str],
    settings: ScoreConfig,
    note: Note,
) -> dict[str, Any]:
    """The evaluation on the recordings of a store. names: of the recordings, [N]."""
    model, modality, frame = run.model, run.modality, run.modality.frame
    is_exact, particles = not has_latents(model), settings.bound_particles

    def noted(done: int, total: int) -> None:
        note(f"scoring {frame}s", done, total)

    with OwnNoise(run.config.seed)():
        scores = list(scored(model, modality, store, settings.bound, particles, noted))
    scores.sort(key=lambda score: score.episode)
    mean, error = frame_nats(scores)
    result: dict[str, Any] = {
        "frame": frame,
        f"nats_per_{frame}": mean,
        f"nats_per_{frame}_se": None if math.isnan(error) else error,
        **modality.figures(mean),
        "bound": "exact" if is_exact else settings.bound,
        "bound_particles": 1 if is_exact else particles,
        "recordings": len(store),
        f"{frame}s": sum(len(score.log_prob) for score in scores),
        "density": modality.has_density,
        "scored": f"whole recordings, the first {frame} too",
        "warnings": [],
    }
    train = run.stores["train"]
    if modality.orders and 0 < train.rows <= MOST_ROWS:
        result["counting"] = counted(modality, train, store)
    if settings.each:
        result["each"] = []
        for score in scores:
            whole = store.select(np.array([score.episode])).columns["observation"]
            recording = Recording(whole, names[score.episode])
            result["each"] += modality.parts(recording, -score.log_prob)
    return result


def counted(
    modality: FileModality, train: EpisodeSource, store: EpisodeSource
) -> dict[str, float]:
    """The losses of n-gram models on the same recordings, nats per frame, by order."""
    learned, others = (list(_codes(source)) for source in (train, store))
    classes = cast(spaces.Discrete, modality.observation_space).n.item()
    order = min(modality.orders, most_in_a_row(classes))
    ngrams = Ngrams(classes, order, learned)
    nats = ngram_nats(ngrams, others, [modality.correction(codes) for codes in others])
    return {f"{n}-gram": value for n, value in enumerate(nats, 1)}


def _codes(source: EpisodeSource) -> Iterator[np.ndarray]:
    for part in source.portions():
        yield from np.split(part.columns["observation"], part.starts[1:])


NOT_SHOWN = ("each", "warnings", "frame", "density", "settings")  # in rows of their own


def tables(result: dict[str, Any]) -> list[Table]:
    """The results of `evaluate`, as tables."""
    caption = DENSITIES if result["density"] else None
    table = Table("figure", "value", caption=caption)
    frame = result["frame"]
    for key, value in result.items():
        if isinstance(value, float):
            table.add_row(_in_words(key, frame), f"{value:.4f}")
        elif key == "counting":
            best = min(value, key=value.__getitem__)
            table.add_row(f"the best by counting, {best}", f"{value[best]:.4f}")
        elif key not in NOT_SHOWN and value is not None:
            table.add_row(_in_words(key, frame), str(value))
    for warning in result["warnings"]:
        table.add_row("note", warning)
    if "each" not in result:
        return [table]
    each = Table("loss, nats", f"per {frame}", f"{frame}s", "of", caption=caption)
    for part in result["each"]:
        shown = part.get("text", part.get("name", "")).rstrip("\n")
        per = part["nats"] / part["rows"]
        each.add_row(f"{part['nats']:.2f}", f"{per:.3f}", str(part["rows"]), shown)
    return [table, each]


def _in_words(key: str, frame: str) -> str:
    """A key of the results, in words.

    >>> _in_words("nats_per_step", "step"), _in_words("bound", "step")
    ('loss, nats per step', 'bound')
    """
    names = {
        f"nats_per_{frame}": f"loss, nats per {frame}",
        f"nats_per_{frame}_se": "its standard error",
        f"bits_per_{frame}": f"loss, bits per {frame}",
    }
    return names.get(key, key.replace("_", " "))
