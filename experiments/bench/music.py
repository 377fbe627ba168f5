"""Polyphonic music: losses of cores and bounds on piano rolls, beside published figures.

    worldmodel bench music --set JSB --data FOLDER

The protocol of Maddison et al. 2017 (FIVO, https://arxiv.org/abs/1705.09279): every frame is
scored, the first too; a figure is a loss, minus the total log likelihood over the total of frames
(lower is better; they publish its negative); the mean of each pitch in the training set is
subtracted from the inputs and initialises the outputs. Early stopping uses the validation set
(if it is large, whole recordings of some 5,000 frames of it); the test set is scored once, by
three bounds. docs/results.md lists expected results.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from rich.table import Table

from worldmodel import (
    BOUNDS,
    Episodes,
    Objective,
    SequenceLearningConfig,
    SequenceModelConfig,
    WorldModel,
)
from worldmodel.experiments.bench.published import FILES, PUBLISHED
from worldmodel.experiments.bench.sequences import Learned, Recipe, learn, score, whole_nats
from worldmodel.experiments.bench.settings import MusicSettings
from worldmodel.experiments.bench.table import bound_name, table
from worldmodel.experiments.data.readers.files import Split
from worldmodel.experiments.data.readers.roll_files import SPLITS, read_rolls
from worldmodel.experiments.recordings.config import MidiDataConfig, quick_recordings
from worldmodel.experiments.recordings.midi import Midi
from worldmodel.experiments.runs.interruption import stoppable
from worldmodel.noise import OwnNoise
from worldmodel.progress import Reporter
from worldmodel.run_folder import RunError
from worldmodel.sequence_model.generation import dream
from worldmodel.sequence_model.modality import as_episodes

CHOOSING_PARTICLES = 8
SCORING_PARTICLES = 128
DREAMS, DREAMT_FRAMES = 20, 200


LEARNING = SequenceLearningConfig(
    updates=2_000,
    batch_size=16,
    window=160,  # frames; longer recordings are learned in pieces (none of JSB's is longer)
    piece=160,
    learning_rate=6e-3,
    ema_decay=0.99,
    matmul_precision="highest",
    validations=20,
    validation_rows=5_000,
)
BY_IWAE = replace(LEARNING, objective="iwae", num_particles=16, updates=1_000)
BY_FIVO = replace(LEARNING, objective="fivo", num_particles=16, batch_size=8)
RNN = SequenceModelConfig(
    core="rnn", hidden_size=128, head="bernoulli", decoder_hidden=128, input_dropout=0.6
)
VRNN = SequenceModelConfig(
    core="vrnn",
    hidden_size=64,
    latent=32,
    latent_hidden=64,
    head="bernoulli",
    decoder_hidden=64,
    input_dropout=0.3,
)
SRNN = replace(VRNN, core="srnn", input_dropout=0.5)
RECIPES = {
    "rnn": Recipe(RNN, LEARNING),
    "rnn-nade": Recipe(replace(RNN, head="nade"), LEARNING),
    "rnn-subset": Recipe(replace(RNN, head="subset"), LEARNING),
    "vrnn-elbo": Recipe(VRNN, LEARNING),
    "vrnn-iwae": Recipe(
        VRNN, replace(LEARNING, objective="iwae", num_particles=16, updates=1_000)
    ),
    "vrnn-fivo": Recipe(VRNN, BY_FIVO),
    "srnn-elbo": Recipe(SRNN, LEARNING),
    "srnn-fivo": Recipe(replace(SRNN, smoothing=False), BY_FIVO),
}


class Music(NamedTuple):
    """A data set with its published splits."""

    name: str
    modality: Midi  # with the pitches' frequencies in the training set
    splits: dict[Split, Episodes]


def read(folder: Path, name: str) -> Music:
    """Reads the set `name`; raises an error that says what is wrong with its file."""
    path = folder / FILES[name]
    if not path.is_file():
        raise RunError(
            f"there is no {path}; name the folder that holds {FILES[name]} with --data "
            "(docs/results.md says what is in it)"
        )
    data = MidiDataConfig((str(path),), beats=0)
    by_split: dict[Split | None, list[np.ndarray]] = {}
    for recording in read_rolls(path, data.low, data.high):
        by_split.setdefault(recording.split, []).append(recording.observation)
    for split in SPLITS:
        if split not in by_split:
            raise RunError(
                f"{path} expects recordings for train, valid and test, got none for {split}: "
                f"add the arrays {split}_roll and {split}_len"
            )
    modality = Midi(data, {})
    splits = {split: as_episodes(modality, by_split[split]) for split in SPLITS}
    return Music(name, Midi(data, modality.statistics_of(splits["train"])), splits)


def marginal_nats(music: Music, split: Split) -> float:
    """The loss on a split of independent Bernoulli pitches with their frequencies in the training
    set, nats a frame."""
    frames, rates = music.splits[split].columns["observation"], music.modality.rates
    return -float(np.where(frames, np.log(rates), np.log1p(-rates)).sum() / len(frames))


def some(source: Episodes, rows: int) -> Episodes:
    """Whole recordings, drawn with a fixed seed until they have that many rows; all of them if
    they have fewer."""
    drawn = np.random.default_rng(0).permutation(len(source))
    before = source.lengths[drawn].cumsum() - source.lengths[drawn]
    return source.select(np.sort(drawn[before < rows]))


def learn_music(
    title: str,
    recipe: Recipe,
    music: Music,
    seed: int,
    chosen_by: str,
    reporter: Reporter,
    objective: Callable[[WorldModel], Objective] | None = None,
) -> Learned:
    """Trains on the training set; selects weights by the bound `chosen_by` of whole recordings of
    the validation set. objective: of the model, instead of the recipe's."""
    valid = some(music.splits["valid"], recipe.learning.validation_rows)

    def nats(model: WorldModel) -> float:
        return whole_nats(model, music.modality, valid, chosen_by, CHOOSING_PARTICLES)

    train = music.splits["train"]
    given = title, recipe, music.modality, train, None, seed, reporter
    return learn(*given, objective=objective, score=nats, at_most=True)


def run(settings: MusicSettings, reporter: Reporter) -> list[dict[str, Any]]:
    """Trains models on some sets, on one thread, and scores them; returns figures of each set."""
    torch.set_num_threads(1)
    seed, bounds = settings.seed, settings.bound
    every = [read(settings.data, name) for name in settings.set]  # before training
    particles = 4 if settings.quick else settings.bound_particles
    rows: dict[str, list[dict[str, Any]]] = {music.name: [] for music in every}
    with stoppable(reporter):
        for music in every:
            for model in settings.models:
                recipe = RECIPES[model]
                learning = replace(recipe.learning, minutes=settings.minutes)
                recipe = replace(recipe, learning=learning)
                recipe = quick_recordings(recipe) if settings.quick else recipe
                row = measure(model, recipe, music, seed, bounds, particles, reporter)
                rows[music.name].append(row)
                reporter.say(in_words(row, music.name))
    return [figures(music, seed, particles, rows[music.name]) for music in every]


def in_words(row: dict[str, Any], name: str) -> str:
    """Reports a row as soon as it is measured, so that an interrupted bench has shown it."""
    played = row["generated"]
    return (
        f"{row['model']} on {name}: loss {row['test_nats']:.3f} nats per frame of the test set "
        f"({row['best']}), {row['valid_nats']:.3f} in validation; plays "
        f"{played['notes_a_frame']:.2f} notes a frame (learned from: "
        f"{played['corpus_notes_a_frame']:.2f}), pitch classes "
        f"{played['pitch_class_tv']:.3f} apart"
    )


def figures(music: Music, seed: int, particles: int, rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Our rows of one set, beside published ones."""
    return {
        "set": music.name,
        "seed": seed,
        "frames": {split: source.rows for split, source in music.splits.items()},
        "scored": "every frame, the first too; loss, nats per frame of the test set",
        "particles": particles,
        "marginal_nats": marginal_nats(music, "test"),
        "rows": rows,
        "published": [
            {
                "model": row.name,
                "nats": row.nats[music.name],
                "scored": row.scored,
                "checked": row.checked,
            }
            for row in PUBLISHED
            if music.name in row.nats
        ],
    }


def measure(
    name: str,
    recipe: Recipe,
    music: Music,
    seed: int,
    bounds: Sequence[str],
    particles: int,
    reporter: Reporter,
) -> dict[str, Any]:
    """One row: a model trained by a recipe, its losses on the test set, and statistics of its
    generated music."""
    begun = (time.monotonic(), time.process_time())
    title = f"{name} on {music.name}"
    learned = learn_music(title, recipe, music, seed, recipe.learning.objective, reporter)
    seconds, busy = time.monotonic() - begun[0], time.process_time() - begun[1]
    test = music.splits["test"]
    given = learned.model, music.modality, test, particles, seed, title, reporter
    by_bound = score(*given, bounds)
    best = min(by_bound, key=by_bound.__getitem__)
    return {
        "model": name,
        "test_nats": by_bound[best],
        "best": best,
        "by_bound": by_bound,
        "valid_nats": learned.nats,
        "update": learned.update,
        "updates": learned.updates,
        "train_seconds": seconds,
        "processor_seconds": busy,
        "generated": generated(learned.model, music.modality, seed),
        "recipe": asdict(recipe),
    }


def generated(model: WorldModel, modality: Midi, seed: int) -> dict[str, float]:
    """Statistics of generated music, beside the training set; `pitch_class_tv`: total variation
    distance of the histograms of pitch classes."""
    with OwnNoise(seed)():
        notes, apart = modality.beside(dream(model, modality, DREAMT_FRAMES, DREAMS))
    return {
        "notes_a_frame": notes,
        "corpus_notes_a_frame": float(modality.rates.sum()),
        "pitch_class_tv": apart,
    }


def tables(result: list[dict[str, Any]]) -> list[Table]:
    """The tables of all sets."""
    return [shown for of_set in result for shown in tables_of(of_set)]


def tables_of(result: dict[str, Any]) -> list[Table]:
    """The tables of a set: our figures beside published ones, ours in detail, and generated
    music."""
    particles = result["particles"]
    ours = [
        (row["model"], f"{row['test_nats']:.3f}", bound_name(row["best"], particles))
        for row in result["rows"]
    ]
    published = [
        (row["model"] + ("" if row["checked"] else " *"), f"{row['nats']:.2f}", row["scored"])
        for row in result["published"]
    ]
    details = (
        (
            row["model"],
            *(f"{row['by_bound'][key]:.3f}" if key in row["by_bound"] else "" for key in BOUNDS),
            f"{row['valid_nats']:.3f}",
            str(row["update"]),
            f"{row['train_seconds']:.0f}",
            f"{row['processor_seconds']:.0f}",
        )
        for row in result["rows"]
    )
    played = (
        (
            row["model"],
            f"{row['generated']['notes_a_frame']:.2f}",
            f"{row['generated']['corpus_notes_a_frame']:.2f}",
            f"{row['generated']['pitch_class_tv']:.3f}",
        )
        for row in result["rows"]
    )
    music = ("model", "notes a frame", "learned from", "pitch classes apart")
    bounds = (bound_name(key, particles) for key in BOUNDS)
    said = "loss, nats per frame (lower is better; * quoted from memory)"
    title = f"{result['set']}, seed {result['seed']}: {said}"
    return [
        table(title, ("model", "loss", "which is"), ours + published),
        table("in detail", ("model", *bounds, "valid", "update", "s", "CPU s"), details),
        table("generated music beside what was learned from", music, played),
    ]
