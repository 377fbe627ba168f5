"""Polyphonic music: what cores and bounds make of piano rolls, beside what was published.

    worldmodel bench music --set JSB --data FOLDER

The protocol of Maddison et al. 2017 (FIVO, https://arxiv.org/abs/1705.09279): every frame is
scored, the first too; a figure is a loss, minus the total log likelihood over the total of frames
(lower is better; they publish its negative); what pitches do on average in the training set is
subtracted from the inputs and initialises the outputs. When to stop is decided on the validation
set (if it is large, on whole recordings of some 5,000 frames); the test set is scored once, by
three bounds. What to expect stands in docs/results.md.
"""

import copy
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from rich.table import Table
from worldmodel.experiments.recordings.dreaming import dream
from worldmodel.experiments.recordings.learning import (
    Learner,
    frame_nats,
    model_of,
    scored,
    updates_within,
)
from worldmodel.experiments.recordings.shelf import as_episodes

from worldmodel import BOUNDS, Episodes, Objective, WorldModel
from worldmodel.experiments.bench.published import FILES, PUBLISHED
from worldmodel.experiments.bench.settings import MusicSettings
from worldmodel.experiments.bench.table import bound_name, table
from worldmodel.experiments.data.readers.files import Split
from worldmodel.experiments.data.readers.roll_files import SPLITS, read_rolls
from worldmodel.experiments.recordings.config import (
    MidiDataConfig,
    SequenceLearningConfig,
    SequenceModelConfig,
    quick_recordings,
)
from worldmodel.experiments.recordings.midi import Midi
from worldmodel.experiments.runs.interruption import stoppable
from worldmodel.noise import OwnNoise
from worldmodel.progress import Reporter
from worldmodel.run_folder import RunError

CHOOSING_PARTICLES = 8
SCORING_PARTICLES = 128
ELBO_DRAWS = 16  # at most: more of them do not change what it is in expectation
DREAMS, DREAMT_FRAMES = 20, 200


@dataclass(frozen=True)
class Recipe:
    """A model, and how it learns."""

    model: SequenceModelConfig
    learning: SequenceLearningConfig


LEARNING = SequenceLearningConfig(
    updates=2_000,
    batch=16,
    window=160,  # frames; longer recordings are learned in pieces (none of JSB's is longer)
    piece=160,
    learning_rate=6e-3,
    averaging=0.99,
    products="exact",
    validations=20,
    validation_rows=5_000,
)
BY_FIVO = replace(LEARNING, bound="fivo", particles=16, batch=8)
RNN = SequenceModelConfig(
    core="rnn", hidden=128, head="bernoulli", decoder_hidden=128, deafness=0.6
)
VRNN = SequenceModelConfig(
    core="vrnn",
    hidden=64,
    latent=32,
    latent_hidden=64,
    head="bernoulli",
    decoder_hidden=64,
    deafness=0.3,
)
SRNN = replace(VRNN, core="srnn", deafness=0.5)
RECIPES = {
    "rnn": Recipe(RNN, LEARNING),
    "rnn-nade": Recipe(replace(RNN, head="nade"), LEARNING),
    "rnn-subset": Recipe(replace(RNN, head="subset"), LEARNING),
    "vrnn-elbo": Recipe(VRNN, LEARNING),
    "vrnn-iwae": Recipe(VRNN, replace(LEARNING, bound="iwae", particles=16, updates=1_000)),
    "vrnn-fivo": Recipe(VRNN, BY_FIVO),
    "srnn-elbo": Recipe(SRNN, LEARNING),
    "srnn-fivo": Recipe(replace(SRNN, smoothing=False), BY_FIVO),
}


class Music(NamedTuple):
    """A set of recordings as it was published."""

    name: str
    kind: Midi  # that knows how often pitches sound in the training set
    splits: dict[Split, Episodes]


def read(folder: Path, name: str) -> Music:
    """The set `name`; what is wrong with its file is said in a sentence."""
    path = folder / FILES[name]
    if not path.is_file():
        raise RunError(
            f"there is no {path}; name the folder that holds {FILES[name]} with --data "
            "(docs/results.md says what is in it)"
        )
    told = MidiDataConfig((str(path),), beats=0)
    by_split: dict[Split | None, list[np.ndarray]] = {}
    for recording in read_rolls(path, told.low, told.high):
        by_split.setdefault(recording.split, []).append(recording.observation)
    for split in SPLITS:
        if split not in by_split:
            raise RunError(
                f"{path} expects recordings for train, valid and test, got none for {split}: "
                f"add the arrays {split}_roll and {split}_len"
            )
    kind = Midi(told, {})
    splits = {split: as_episodes(kind, by_split[split]) for split in SPLITS}
    return Music(name, Midi(told, kind.facts_of(splits["train"])), splits)


def whole_nats(
    model: WorldModel, music: Music, split: Split, bound: str = "elbo", particles: int = 1
) -> float:
    """The loss on the whole recordings of a split by a bound, in nats a frame."""
    return frame_nats(list(scored(model, music.kind, music.splits[split], bound, particles)))[0]


def marginal_nats(music: Music, split: Split) -> float:
    """The loss on a split if every pitch sounded by itself, as often as it does in the
    training set; nats a frame."""
    frames, rates = music.splits[split].columns["observation"], music.kind.rates
    return -float(np.where(frames, np.log(rates), np.log1p(-rates)).sum() / len(frames))


def some(source: Episodes, rows: int) -> Episodes:
    """Whole recordings, drawn by chance that is always the same, until they have so many rows; all
    of them, if they have fewer."""
    drawn = np.random.default_rng(0).permutation(len(source))
    before = source.lengths[drawn].cumsum() - source.lengths[drawn]
    return source.select(np.sort(drawn[before < rows]))


class Learned(NamedTuple):
    """A model that has learned, and how validation went, in nats a frame."""

    model: WorldModel  # with the average of its weights that did best in validation
    update: int  # that it is from
    nats: float
    curve: list[tuple[int, float]]  # (update, nats) of every choice


def learn(
    model: WorldModel,
    music: Music,
    told: SequenceLearningConfig,
    seed: int,
    chosen_by: str,
    objective: Objective | None = None,
    note: Callable[[int, str], None] = lambda done, words: None,
) -> Learned:
    """Learns from the training set; the validation set decides by the bound `chosen_by`.
    objective: of the model, instead of the bound that is told."""
    train, valid = music.splits["train"], some(music.splits["valid"], told.validation_rows)
    asked = music._replace(splits=music.splits | {"valid": valid})
    learner = Learner(model, music.kind, train, told, told.updates, seed, objective)
    curve: list[tuple[int, float]] = []
    chosen = ""
    for part in np.array_split(np.arange(1, told.updates + 1), told.validations):
        for update in part.tolist():
            note(update, f"loss {learner.update()['nats']:.3f} nats per frame{chosen}")
        if len(part):
            nats = learner.validate(
                lambda model: whole_nats(model, asked, "valid", chosen_by, CHOOSING_PARTICLES)
            )
            curve.append((update, nats))
            chosen = f", best in validation {learner.best_nats:.3f}"
    best = min(curve, key=lambda choice: choice[1])
    return Learned(learner.best, *best, curve)


def run(settings: MusicSettings, reporter: Reporter) -> list[dict[str, Any]]:
    """Trains models on some sets, on one thread, and scores them; figures of each set."""
    torch.set_num_threads(1)
    seed, bounds = settings.seed, settings.bounds
    every = [read(settings.data, name) for name in settings.set]  # before any is learned
    particles = 4 if settings.quick else settings.particles
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
    """A row, as it is said once it is there: a bench that is stopped has not been in vain."""
    played = row["generated"]
    return (
        f"{row['model']} on {name}: loss {row['test_nats']:.3f} nats per frame of the test set "
        f"({row['best']}), {row['valid_nats']:.3f} in validation; plays "
        f"{played['notes_a_frame']:.2f} notes a frame (learned from: "
        f"{played['corpus_notes_a_frame']:.2f}), pitch classes "
        f"{played['pitch_class_tv']:.3f} apart"
    )


def figures(music: Music, seed: int, particles: int, rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Our rows of one set, beside what was published."""
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
    """One row: a model trained by a recipe, what it makes of the test set, and what it plays."""
    begun = (time.monotonic(), time.process_time())
    torch.manual_seed(seed)
    model = model_of(music.kind, recipe.model)
    told = fitting(model, music, recipe.learning, seed)
    title = f"{name} on {music.name}"
    with reporter.stage(f"learning {title}", told.updates, 0, "updates") as stage:
        learned = learn(model, music, told, seed, told.bound, note=stage.update)
    seconds, busy = time.monotonic() - begun[0], time.process_time() - begun[1]
    by_bound = score(learned.model, music, particles, title, reporter, bounds)
    best = min(by_bound, key=by_bound.__getitem__)
    return {
        "model": name,
        "test_nats": by_bound[best],
        "best": best,
        "by_bound": by_bound,
        "valid_nats": learned.nats,
        "update": learned.update,
        "updates": told.updates,
        "train_seconds": seconds,
        "processor_seconds": busy,
        "generated": generated(learned.model, music.kind, seed),
        "recipe": asdict(recipe),
    }


def fitting(
    model: WorldModel, music: Music, told: SequenceLearningConfig, seed: int
) -> SequenceLearningConfig:
    """The same with no more updates than its minutes allow, if it has any; the model is as it
    was."""
    if not told.minutes:
        return told
    with OwnNoise(seed)():
        tried = copy.deepcopy(model)
        learner = Learner(tried, music.kind, music.splits["train"], told, told.updates, seed)
        return replace(told, updates=min(told.updates, updates_within(told.minutes, learner)))


def score(
    model: WorldModel,
    music: Music,
    particles: int,
    title: str,
    reporter: Reporter,
    bounds: Sequence[str] = tuple(BOUNDS),
) -> dict[str, float]:
    """The loss on the test set by each bound, nats a frame; {"exact": ...} without latents."""
    if not model.initial_state(1).core.latent.shape[-1]:
        exact = whole_nats(model, music, "test")
        reporter.say(f"scoring {title}: exact {exact:.3f}")
        return {"exact": exact}
    found = {}
    with reporter.stage(f"scoring {title}", len(bounds), 0, "bounds") as stage:
        for number, bound in enumerate(bounds, 1):
            draws = min(particles, ELBO_DRAWS) if bound == "elbo" else particles
            found[bound] = whole_nats(model, music, "test", bound, draws)
            stage.update(number, f"{bound} {found[bound]:.3f}")
    return found


def generated(model: WorldModel, kind: Midi, seed: int) -> dict[str, float]:
    """What a model plays by itself, beside the training set; `pitch_class_tv`: how far apart the
    histograms of pitch classes are, in total variation."""
    with OwnNoise(seed)():
        notes, apart = kind.beside(dream(model, kind, DREAMT_FRAMES, DREAMS))
    return {
        "notes_a_frame": notes,
        "corpus_notes_a_frame": float(kind.rates.sum()),
        "pitch_class_tv": apart,
    }


def tables(result: list[dict[str, Any]]) -> list[Table]:
    """The tables of all sets."""
    return [shown for of_set in result for shown in tables_of(of_set)]


def tables_of(result: dict[str, Any]) -> list[Table]:
    """The tables of a set: ours beside what was published, ours in detail, and
    the music that they make."""
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
