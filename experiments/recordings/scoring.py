"""How likely recordings are under a run's model."""

import math
from collections.abc import Callable, Iterator
from typing import Any, cast

import numpy as np
import torch
from gymnasium import spaces
from rich.table import Table

from experiments.datasets import portions
from experiments.readers.files import Recording
from experiments.recordings.counting import MOST_ROWS, Ngrams, ngram_nats
from experiments.recordings.dreaming import load
from experiments.recordings.kind import Kind
from experiments.recordings.learning import frame_nats, scored
from experiments.recordings.shelf import as_episodes, held_out, shelf
from experiments.recordings_config import ScoreConfig
from experiments.run import RunError, RunFolder
from worldmodel import EpisodeSource, MemoryStore
from worldmodel.noise import OwnNoise

Note = Callable[[str, int, int], None]


def evaluate(
    folder: RunFolder, settings: ScoreConfig, note: Note = lambda what, done, total: None
) -> dict[str, Any]:
    """The model's bound on the recordings that the run held out, or on others."""
    config = folder.config()
    torch.set_num_threads(config.threads)
    model, kind = load(folder.path)
    warnings: list[str] = []
    names: list[str] = []
    if settings.data:
        store: EpisodeSource = MemoryStore()
        for recording in kind.recordings(settings.data, settings.on_error, warnings.append):
            store.add(as_episodes(kind, [recording.observation]))  # type: ignore[attr-defined]
            names.append(recording.name)
    else:
        store = held_out(folder)
    if not len(store):
        raise RunError(f"{', '.join(settings.data)}: nothing of it can be read")
    with OwnNoise(config.seed)():
        scores = list(
            scored(
                model,
                kind,
                store,
                settings.bound,
                settings.particles,
                lambda done, total: note(f"scoring {kind.frame}s", done, total),
            )
        )
    scores.sort(key=lambda score: score.episode)
    mean, error = frame_nats(scores)
    has_latents = bool(model.initial_state(1).core.latent.shape[-1])
    result: dict[str, Any] = {
        "frame": kind.frame,
        f"nats_per_{kind.frame}": mean,
        f"nats_per_{kind.frame}_se": None if math.isnan(error) else error,
        **kind.figures(mean),
        "bound": settings.bound if has_latents else "exact",
        "particles": settings.particles if has_latents else 1,
        "recordings": len(store),
        f"{kind.frame}s": store.rows,
        "scored": f"whole recordings, the first {kind.frame} too",
        "warnings": warnings,
    }
    if kind.orders and shelf(folder, "train").rows <= MOST_ROWS:
        result["counting"] = counted(kind, shelf(folder, "train"), store)
    if settings.each:
        result["each"] = []
        for score in scores:
            name = names[score.episode] if names else f"held out {score.episode}"
            whole = store.select(np.array([score.episode])).columns["observation"]
            result["each"] += kind.parts(Recording(whole, name), score.nats)
    return result


def counted(kind: Kind, train: EpisodeSource, store: EpisodeSource) -> dict[str, float]:
    """What counting makes of the same recordings, nats a frame, by how many frames in a row."""
    learned, asked = (list(_codes(source)) for source in (train, store))
    ngrams = Ngrams(cast(spaces.Discrete, kind.observation_space).n.item(), kind.orders, learned)
    nats = ngram_nats(ngrams, asked, [kind.correction(codes) for codes in asked])
    return {f"{n}-gram": value for n, value in enumerate(nats, 1)}


def _codes(source: EpisodeSource) -> Iterator[np.ndarray]:
    for part in portions(source):
        yield from np.split(part.columns["observation"], part.starts[1:])


def tables(result: dict[str, Any]) -> list[Table]:
    """The same, for people."""
    table = Table("figure", "value")
    for key, value in result.items():
        if isinstance(value, float):
            table.add_row(key.replace("_", " "), f"{value:.4f}")
        elif key == "counting":
            best = max(value, key=value.__getitem__)
            table.add_row(f"the best by counting, {best}", f"{value[best]:.4f}")
        elif key not in ("each", "warnings", "frame") and value is not None:
            table.add_row(key.replace("_", " "), str(value))
    for warning in result["warnings"]:
        table.add_row("note", warning)
    if "each" not in result:
        return [table]
    each = Table("nats", f"a {result['frame']}", f"{result['frame']}s", "of")
    for part in result["each"]:
        shown = part.get("text", part.get("name", "")).rstrip("\n")
        per = part["nats"] / part["rows"]
        each.add_row(f"{part['nats']:.2f}", f"{per:.3f}", str(part["rows"]), shown)
    return [table, each]
