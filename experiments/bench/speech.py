"""Spoken digits: losses of cores and heads on sound, beside Gaussians fitted in closed form.

    worldmodel bench speech --data FOLDER --seeds 3

The Free Spoken Digit Dataset (https://github.com/Jakobovski/free-spoken-digit-dataset), 8 kHz, in
frames of 200 samples; of every speaker and digit the recordings 0-4 are tested on, as its makers
say, 5-7 validated on, the rest learned from. Integers are dequantised by fixed noise, samples
standardised by the training set, every frame is scored, the first too; a rest shorter than a frame
is left out. The models are those of Chung et al. 2015 (VRNN, https://arxiv.org/abs/1506.02216) and
Fraccaro et al. 2016 (SRNN, https://arxiv.org/abs/1605.07571), and two heads whose samples depend
on each other within a frame (Lai et al. 2019, https://arxiv.org/abs/1902.01388). Early stopping
uses the validation set; the test set is scored once. docs/results.md lists expected results.
"""

import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from rich.table import Table

from worldmodel import Episodes, SequenceLearningConfig, SequenceModelConfig
from worldmodel.experiments.bench.sequences import Recipe, learn, score
from worldmodel.experiments.bench.settings import SpeechSettings
from worldmodel.experiments.bench.table import bound_name, table
from worldmodel.experiments.measure.scores import DENSITIES
from worldmodel.experiments.recordings.audio import NOISE, Audio
from worldmodel.experiments.recordings.config import AudioDataConfig, quick_recordings
from worldmodel.experiments.runs.interruption import stoppable
from worldmodel.progress import Reporter
from worldmodel.run_folder import RunError
from worldmodel.sequence_model.modality import as_episodes

FILE = "fsdd.npz"
ARRAYS = ("wave", "length", "index", "rate")
FULL_SCALE = 2**15
FRAME = 200
TESTED, VALIDATED = 5, 8  # exclusive upper bounds of recordings' numbers: 0-4 and 5-7
LAGS = 16
PARTICLES = 100


RNN = SequenceModelConfig(hidden_size=256, decoder_hidden=256, head="normal")
VRNN = replace(RNN, core="vrnn", latent=64, latent_hidden=256)
LEARNING = SequenceLearningConfig(
    updates=4_000,
    window=100,  # frames; the longest recording has 91
    learning_rate=0.002,
    ema_decay=0.995,
)
RECIPES = {
    "rnn-gauss": Recipe(RNN, LEARNING),
    "rnn-gmm": Recipe(replace(RNN, head="mixture"), LEARNING),
    "vrnn-gauss": Recipe(VRNN, LEARNING),
    "vrnn-gmm": Recipe(replace(VRNN, head="mixture"), LEARNING),
    "srnn": Recipe(replace(VRNN, core="srnn"), LEARNING),
    "rnn-autoregressive": Recipe(replace(RNN, head="autoregressive"), LEARNING),
    "rnn-full": Recipe(replace(RNN, head="full-normal"), replace(LEARNING, updates=1_200)),
}


class Speech(NamedTuple):
    """The recordings."""

    modality: Audio  # with mean and standard deviation of the training set
    splits: dict[str, Episodes]  # train, valid, test


def read(folder: Path) -> Speech:
    """Reads the recordings of a folder; raises an error that says what is wrong with its file."""
    path = folder / FILE
    if not path.is_file():
        raise RunError(
            f"there is no {path}; name the folder that holds {FILE} with --data (docs/results.md "
            "says what is in it)"
        )
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files if name in ARRAYS}
    except Exception as error:
        raise RunError(f"{path} cannot be read: {error}") from error
    wave, length, index, rate = _checked(path, arrays)
    samples = (wave + np.random.default_rng(NOISE).random(len(wave))) / FULL_SCALE
    by_split: dict[str, list[np.ndarray]] = {"train": [], "valid": [], "test": []}
    recordings = np.split(samples.astype(np.float32), np.cumsum(length)[:-1])
    for recording, number in zip(recordings, index.tolist(), strict=True):
        split = "test" if number < TESTED else "valid" if number < VALIDATED else "train"
        whole = len(recording) // FRAME * FRAME
        if whole:
            by_split[split].append(recording[:whole].reshape(-1, FRAME))
    empty = [split for split, found in by_split.items() if not found]
    if empty:
        raise RunError(
            f"{path} expects recordings of {FRAME} samples or more whose numbers (index) are 0-4 "
            f"(test), 5-7 (valid) and 8 or more (train), got none for {', '.join(empty)}"
        )
    if sum(map(len, by_split["train"])) <= 2 * FRAME:
        raise RunError(
            f"{path} has {sum(map(len, by_split['train']))} frames to learn from, expected more "
            f"than {2 * FRAME}: the covariance of {FRAME} samples is estimated from them"
        )
    data = AudioDataConfig((str(path),), rate=rate, frame=FRAME)
    modality = Audio(data, {})
    splits = {split: as_episodes(modality, found) for split, found in by_split.items()}
    return Speech(Audio(data, modality.statistics_of(splits["train"])), splits)


def _checked(
    path: Path, arrays: dict[str, np.ndarray]
) -> tuple[np.ndarray, np.ndarray, np.ndarray, int]:
    """wave int16 [N], length int64 [recordings], index [recordings], and the rate in Hz."""
    missing = [name for name in ARRAYS if name not in arrays]
    if missing:
        raise RunError(
            f"{path} expects the arrays {', '.join(ARRAYS)}, got no {', '.join(missing)}"
        )
    wave, length, index, rate = (arrays[name] for name in ARRAYS)
    if wave.dtype != np.int16 or wave.ndim != 1:
        raise RunError(
            f"{path}: wave expects samples of 16 bits, int16 [N], got {wave.dtype} "
            f"{list(wave.shape)}"
        )
    for name, array in (("length", length), ("index", index)):
        if array.dtype.kind not in "iu" or array.ndim != 1 or not (array >= 0).all():
            raise RunError(
                f"{path}: {name} expects a number, 0 or more, for each recording, got "
                f"{array.dtype} {list(array.shape)}"
            )
    lengths = length.astype(np.int64)
    if lengths.sum() != len(wave) or len(lengths) != len(index):
        raise RunError(
            f"{path} has {len(wave)} samples and {len(index)} indices, but {len(lengths)} lengths "
            f"that add up to {lengths.sum()}"
        )
    if rate.ndim or rate.dtype.kind not in "iu" or rate < 1:
        raise RunError(f"{path}: rate expects samples a second, got {rate}")
    return wave, lengths, index, int(rate)


def floors(speech: Speech) -> dict[str, float]:
    """Test losses of Gaussians fitted to the training set in closed form, nats a frame: of whole
    frames, alone or linear in the previous frame (zero before the first), and of samples, linear
    in the `LAGS` previous samples (zeros before the first)."""
    train, test = (_standard(speech, split) for split in ("train", "test"))
    frames = np.concatenate(train), np.concatenate(test)
    changes = _residuals((_before(train), _before(test)), frames)
    past, samples = zip(*(_lagged(part) for part in (train, test)), strict=True)
    surprises = _residuals(past, samples)
    return {
        "diagonal Gaussian": _diagonal(*frames),
        "linear in the frame before, diagonal": _diagonal(*changes),
        f"AR({LAGS})": FRAME * _diagonal(*surprises),
        "full-covariance Gaussian": _full(*frames),
        "linear in the frame before, full covariance": _full(*changes),
    }


Pair = tuple[np.ndarray, np.ndarray]  # of the training set, and of the test set


def _standard(speech: Speech, split: str) -> list[np.ndarray]:
    """The recordings of a split, standardised by the training set, float64 [T, FRAME] each."""
    episodes, known = speech.splits[split], speech.modality.statistics
    frames = (episodes.columns["observation"].astype(np.float64) - known["mean"]) / known["std"]
    return np.split(frames, episodes.starts[1:])


def _lagged(recordings: list[np.ndarray]) -> Pair:
    """The previous samples of every sample, [N, LAGS], and every sample, [N, 1]."""
    padded = (np.concatenate([np.zeros(LAGS), recording.ravel()]) for recording in recordings)
    windows = [np.lib.stride_tricks.sliding_window_view(part, LAGS + 1) for part in padded]
    whole = np.concatenate(windows)
    return whole[:, :LAGS], whole[:, LAGS:]


def _before(recordings: list[np.ndarray]) -> np.ndarray:
    """The previous frame of each, [frames, FRAME]."""
    nothing = np.zeros((1, FRAME))
    return np.concatenate([np.concatenate([nothing, each[:-1]]) for each in recordings])


def _residuals(inputs: Pair, outputs: Pair) -> Pair:
    """Residuals of outputs [N, O] after least squares on inputs [N, I] of the training set."""
    train, test = (np.concatenate([x, np.ones((len(x), 1))], 1) for x in inputs)
    weights = np.linalg.solve(train.T @ train, train.T @ outputs[0])
    return outputs[0] - train @ weights, outputs[1] - test @ weights


def _diagonal(train: np.ndarray, test: np.ndarray) -> float:
    """Mean negative log density of rows [N, D] under a diagonal Gaussian with the moments of other
    rows [M, D]."""
    variance = train.var(0)
    nats = 0.5 * (np.log(2 * np.pi * variance) + (test - train.mean(0)) ** 2 / variance)
    return float(nats.sum(1).mean())


def _full(train: np.ndarray, test: np.ndarray) -> float:
    """Mean negative log density under a Gaussian with full covariance; see `_diagonal`."""
    covariance = np.cov(train.T, bias=True)
    apart = test - train.mean(0)
    distance = (apart * np.linalg.solve(covariance, apart.T).T).sum(1)
    volume = np.linalg.slogdet(covariance)[1] + len(covariance) * np.log(2 * np.pi)
    return float(0.5 * (volume + distance.mean()))


def run(settings: SpeechSettings, reporter: Reporter) -> dict[str, Any]:
    """Trains models with each of the seeds, for the updates of their recipes or for about
    `minutes` each, on one thread, and scores them."""
    torch.set_num_threads(1)
    speech, models, bounds = read(settings.data), settings.models, settings.bound
    particles = 4 if settings.quick else PARTICLES
    rows: list[dict[str, Any]] = []
    with stoppable(reporter):
        for seed in settings.chosen_seeds:
            for name in models:
                learning = replace(RECIPES[name].learning, minutes=settings.minutes)
                recipe = replace(RECIPES[name], learning=learning)
                recipe = quick_recordings(recipe) if settings.quick else recipe
                rows.append(measure(name, recipe, speech, seed, bounds, particles, reporter))
                reporter.say(
                    f"{name}, seed {seed}: loss {rows[-1]['test_nats']:.1f} nats per frame of the "
                    f"test set ({rows[-1]['best']}), {rows[-1]['valid_nats']:.1f} in validation"
                )
    measured = {name: [row for row in rows if row["model"] == name] for name in models}
    return {
        "set": "FSDD",
        "scored": f"every frame of {FRAME} standardised samples, the first too; loss, nats per "
        f"frame, test set ({DENSITIES})",
        "frames": {split: source.rows for split, source in speech.splits.items()},
        "particles": particles,
        "seeds": list(settings.chosen_seeds),
        "floors": floors(speech),
        "summary": {name: summary(found) for name, found in measured.items() if found},
        "rows": rows,
    }


def measure(
    name: str,
    recipe: Recipe,
    speech: Speech,
    seed: int,
    bounds: Sequence[str],
    particles: int,
    reporter: Reporter,
) -> dict[str, Any]:
    """One row: a model trained by a recipe, and its losses on the test set."""
    title = f"{name}, seed {seed}"
    begun = (time.monotonic(), time.process_time())
    splits = speech.splits
    train, valid, test = (splits[split] for split in ("train", "valid", "test"))
    learned = learn(title, recipe, speech.modality, train, valid, seed, reporter)
    seconds, busy = time.monotonic() - begun[0], time.process_time() - begun[1]
    given = learned.model, speech.modality, test, particles, seed, title, reporter
    by_bound = score(*given, bounds)
    best = min(by_bound, key=by_bound.__getitem__)
    return {
        "model": name,
        "seed": seed,
        "test_nats": by_bound[best],
        "best": best,
        "by_bound": by_bound,
        "valid_nats": learned.nats,
        "train_nats": learned.train_nats,
        "update": learned.update,
        "updates": learned.updates,
        "parameters": sum(p.numel() for p in learned.model.parameters()),
        "train_seconds": seconds,
        "processor_seconds": busy,
        "recipe": asdict(recipe),
    }


def summary(rows: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """The mean loss over seeds by bound, nats a frame; its standard error (None of one seed)."""
    found = {}
    for bound in rows[0]["by_bound"]:
        values = np.array([row["by_bound"][bound] for row in rows])
        error = float(values.std(ddof=1) / len(values) ** 0.5) if len(values) > 1 else None
        found[bound] = {"mean": float(values.mean()), "se": error}
    return found


def tables(result: dict[str, Any]) -> list[Table]:
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
    titles = [bound_name(name, result["particles"]) for name in bounds]
    columns = ("run", *titles, "valid", "train", "update", "CPU s")
    seeds = f"{len(result['seeds'])} seed{'s' if len(result['seeds']) > 1 else ''}"
    return [
        table(f"{result['set']}: {result['scored']}", ("fitted at once", "exact"), floors),
        table(f"learned, {seeds}", ("model", *titles), means),
        table("in detail", columns, details),
    ]
