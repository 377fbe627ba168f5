"""Laws of every kind of recordings: all that is promised of one holds for all."""

import base64
import html
import itertools
import json
import math
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import NamedTuple
from xml.etree import ElementTree

import numpy as np
import pytest
import torch
from command_line import assert_refused, worldmodel
from kinds import FRAME, HIGH, LOW, MADE, RATE, STEPS, config_for, kind_for, write_files
from PIL import Image
from recordings import train
from runs import assert_same
from scipy import stats
from test_audio_files import encoded, wav

from worldmodel import (
    BOUNDS,
    CORES,
    DiskStore,
    Dream,
    GenCore,
    Learner,
    MemoryStore,
    SequenceConfig,
    Watcher,
    action_codec,
    nested,
)
from worldmodel.experiments.data.readers import stroke_pictures
from worldmodel.experiments.data.readers.audio import read_audio
from worldmodel.experiments.data.readers.files import Recording
from worldmodel.experiments.data.readers.midi import read_midi
from worldmodel.experiments.data.readers.stroke_pictures import strokes_of
from worldmodel.experiments.recordings import experiment, storage, strokes, training
from worldmodel.experiments.recordings.config import (
    GenerateConfig,
    MidiDataConfig,
    ScoreConfig,
    SequenceLearningConfig,
    SequenceModelConfig,
    StrokesDataConfig,
)
from worldmodel.experiments.recordings.generation import generate, some_real
from worldmodel.experiments.recordings.midi import Midi, transposed
from worldmodel.experiments.recordings.modality import modality_class
from worldmodel.experiments.recordings.scoring import counted, evaluate
from worldmodel.experiments.recordings.strokes import Strokes
from worldmodel.experiments.recordings.text import Text
from worldmodel.experiments.runs.registry import EXPERIMENTS, new_run
from worldmodel.files import read_json, write_json
from worldmodel.noise import OwnNoise
from worldmodel.progress import Reporter
from worldmodel.run_folder import RunError, RunFolder
from worldmodel.sequence_model.generation import dream
from worldmodel.sequence_model.modality import as_episodes
from worldmodel.sequence_model.scoring import scored
from worldmodel.sequence_model.training import SequenceTraining, examples, model_of, standardise


class Trial(NamedTuple):
    """What a kind is tried with: each core and each bound at least once."""

    core: str
    bound: str = "elbo"
    particles: int = 1
    history: int = 1


TRIALS = {
    "text": Trial("independent", "iwae", 2),
    "audio": Trial("vrnn", "iwae", 2),
    "midi": Trial("srnn", history=3),
    "midi without a metronome": Trial("rnn"),
    "strokes": Trial("rssm", "fivo", 3),
    "exact strokes": Trial("rnn", history=3),
}
every_kind = pytest.mark.parametrize("name", MADE)


def test_every_kind_core_and_bound_is_tried():
    kinds = {n for n, of in EXPERIMENTS.items() if of.implementation == experiment.__name__}
    assert {made.kind for made in MADE.values()} == kinds
    assert TRIALS.keys() == MADE.keys()
    assert {trial.core for trial in TRIALS.values()} >= CORES.keys() - {"vae"}
    assert {trial.bound for trial in TRIALS.values()} == BOUNDS.keys()


@pytest.fixture(scope="module", autouse=True)
def short_samples():
    """Those that are shown while it learns."""
    with pytest.MonkeyPatch.context() as patch:
        for made in MADE.values():
            patch.setattr(modality_class(made.config), "shown", 12)
        yield


class Finished(NamedTuple):
    """A run, what it learned from, and other recordings of the kind."""

    folder: RunFolder
    files: Path
    others: Path


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """Runs by the name of what they are of, each made once."""
    found = {}

    def run(name):
        if name not in found:
            place = tmp_path_factory.mktemp("kind")
            files = write_files(MADE[name], place / "files")
            others = write_files(MADE[name], place / "others", number=2, seed=1)
            folder = new_run(place / "run", config_of(name, files))
            train(folder)
            found[name] = Finished(folder, files, others)
        return found[name]

    return run


def config_of(name, *paths):
    trial = TRIALS[name]
    return config_for(
        MADE[name],
        *paths,
        model={"core": trial.core, "history": trial.history},
        objective=trial.bound,
        num_particles=trial.particles,
    )


def untrained(name, folder, core="rnn", **config):
    """A kind, its recordings in memory, and a model of them in double precision."""
    kind = kind_for(MADE[name], write_files(MADE[name], folder))
    store = MemoryStore()
    store.add(as_episodes(kind, [r.observation for r in kind.learned(print)]))
    kind = type(kind)(kind.data, kind.statistics | kind.statistics_of(store))
    return kind, store, model_for(kind, store, core=core, **config)


def model_for(kind, store, **config):
    config = {"hidden_size": 6, "latent": 2, "latent_hidden": 4, "decoder_hidden": 6} | config
    torch.manual_seed(0)
    model = model_of(kind, SequenceModelConfig(**config))
    standardise(model, examples(store))
    return model.double().eval()


def loaded(folder):
    run = experiment.load(folder)
    return run.model, run.modality


def scores_of(model, kind, source, bound="elbo", particles=1):
    """The log likelihoods of each recording's rows, in their order."""
    found = scored(model, kind, source, bound, particles)
    return [score.log_prob for score in sorted(found, key=lambda score: score.episode)]


@every_kind
@pytest.mark.parametrize("stop", [("learn", 1), ("validate", 0)])
def test_a_stopped_run_goes_on_to_the_last_bit(name, stop, finished, tmp_path):
    """Without the files that it read."""
    files = tmp_path / "files"
    shutil.copytree(finished(name).files, files)
    parted = new_run(tmp_path / "run", config_of(name, files))
    train(parted, lambda t: (t.stages[t.stage].kind, t.done - 1) == stop)
    shutil.rmtree(files)
    train(parted)
    assert_same(parted, finished(name).folder)
    samples, expected = (run.path / "samples" for run in (parted, finished(name).folder))
    for file in expected.iterdir():
        assert (samples / file.name).read_bytes() == file.read_bytes(), file.name


def test_a_run_that_goes_on_does_not_measure_its_speed_again(finished, tmp_path, monkeypatch):
    config = config_for(MADE["text"], finished("text").files, minutes=0.01)
    folder = new_run(tmp_path / "run", config)
    asked = []

    def measured(learner, minutes, *rest):
        asked.append(minutes)
        return 5

    monkeypatch.setattr(Learner, "updates_within", measured)
    monkeypatch.setattr(training, "minutes_of_validation", lambda job: 0.002)
    train(folder, lambda t: t.done == 1)
    train(folder)
    assert asked == [pytest.approx(0.006)]  # two validations have the rest
    assert sum("nats" in line for line in folder.metrics()) == 5


def test_few_long_recordings_say_together_how_far_numbers_vary():
    """Evenly, wherever in them, and no more of them than are needed."""
    store = MemoryStore()
    kind = Text(None, {"symbols": "abcde"})
    wholes = [np.full(30_000, n) for n in range(3)]
    store.add(as_episodes(kind, wholes))
    found = examples(store)
    assert len(found) == 10_000
    assert np.bincount(found).tolist() == pytest.approx([3_333] * 3, abs=1)
    store.add(as_episodes(kind, [np.arange(5)]))
    assert examples(store)[-1] == 4


@pytest.mark.parametrize(("count", "columns"), [(1, 1), (2, 2), (8, 8), (9, 8)])
def test_a_sheet_is_as_wide_as_its_drawings(count, columns, tmp_path):
    drawing = {"offset": np.ones((3, 2), np.float32), "pen": np.array([0, 0, 2])}
    strokes = Strokes(StrokesDataConfig(("nowhere",)), {})
    files = strokes.write([drawing] * count, tmp_path / "sheet", lambda line: None)
    with Image.open(files[1]) as sheet:
        assert sheet.width == columns * stroke_pictures.SQUARE


@every_kind
def test_a_run_is_validated_and_scored(name, finished):
    run = finished(name)
    logged = [line["valid_nats"] for line in run.folder.metrics() if "valid_nats" in line]
    assert len(logged) == 2
    assert all(math.isfinite(nats) for nats in logged)
    for data in ((), (str(run.others),)):
        settings = ScoreConfig(data=data, bound_particles=2, each=True)
        result = evaluate(run.folder, settings)
        assert evaluate(run.folder, settings) == result
        frame = result["frame"]
        rows = sum(part["rows"] for part in result["each"])
        nats = sum(part["nats"] for part in result["each"])
        assert rows == result[f"{frame}s"]
        assert nats / rows == pytest.approx(result[f"nats_per_{frame}"])


@every_kind
@pytest.mark.parametrize("prompted", [False, True])
def test_samples_are_what_was_dreamt(name, prompted, finished, tmp_path):
    """Files that others read, as far as there are readers here."""
    run, out = finished(name), tmp_path / "dream"
    config = GenerateConfig(length=9, samples=2, prompt_length=4, temperature=0.7, out=str(out))
    model, kind = loaded(run.folder)
    prompt = None
    if prompted:
        text = "the " if name == "text" else str(next(iter(run.others.iterdir())))
        config = replace(config, prompt=text)
        prompt = kind.prompt(text, 4, print)
    files = generate(run.folder, config, Reporter())
    with OwnNoise(config.seed)():
        samples = dream(model, kind, 9, 2, 0.7, prompt)
    for sample in samples:
        assert nested.leaves(sample)[0].shape[0] == 9 + 4 * prompted
        if prompted:
            begun = nested.index(sample, slice(0, 4))
            for leaf, expected in zip(nested.leaves(begun), nested.leaves(prompt), strict=True):
                np.testing.assert_array_equal(leaf, expected)
    READ_BACK[MADE[name].kind](kind, files, samples)


@every_kind
def test_as_many_real_ones_are_shown_beside(name, finished, tmp_path):
    run = finished(name)
    store = storage.held_out(run.folder)
    model, kind = loaded(run.folder)
    config = GenerateConfig(length=9, samples=1, beside=True, out=str(tmp_path / "dream"))
    files = generate(run.folder, config, Reporter())
    with OwnNoise(config.seed)():
        (sample,) = dream(model, kind, 9, 1)
    (real,) = some_real(store, 1, config.seed)
    wholes = [store.select(np.array([n])).columns["observation"] for n in range(len(store))]
    assert any(same(real, whole) for whole in wholes)
    read_back = READ_BACK[MADE[name].kind]
    if MADE[name].kind == "strokes":
        read_back(kind, files, [sample, real])
    else:
        half = len(files) // 2
        read_back(kind, files[:half], [sample])
        read_back(kind, files[half:], [real])
    with pytest.raises(RunError, match="--samples"):
        generate(run.folder, replace(config, samples=len(store) + 1), Reporter())


def same(a, b):
    pairs = zip(nested.leaves(a), nested.leaves(b), strict=True)
    return all(np.array_equal(x, y) for x, y in pairs)


def read_text(kind, files, samples):
    (file,) = files
    shown = file.read_text()
    assert all(kind.decode(sample) in shown for sample in samples)


def read_sound(kind, files, samples):
    *sounds, picture = files
    for file, sample in zip(sounds, samples, strict=True):
        (read,) = read_audio(file, RATE, FRAME, None)
        expected = np.clip(sample, -1, 1)
        np.testing.assert_allclose(read.observation, expected, atol=1.01 * 2**-15)
    assert Image.open(picture).size


def read_music(kind, files, samples):
    *files, picture = files
    for score, sound, sample in zip(files[::2], files[1::2], samples, strict=True):
        length = 1 + np.flatnonzero(sample.any(1)).max(initial=-1)
        if length:
            (read,) = read_midi(score, STEPS, LOW, HIGH)
            np.testing.assert_array_equal(read.observation, sample[:length])
        assert np.isfinite(next(read_audio(sound, 22_050, 100, None)).observation).all()
    assert Image.open(picture).size


def read_drawings(kind, files, samples):
    sheet, picture = files
    groups = ElementTree.parse(sheet).findall(".//{*}g[@transform]")
    found = [len(group.findall("{*}path")) for group in groups]
    assert found == [len(strokes_of(kind.drawing(sample))) for sample in samples]
    assert Image.open(picture).size


READ_BACK = {"text": read_text, "audio": read_sound, "midi": read_music, "strokes": read_drawings}


@every_kind
def test_without_latents_the_coldest_dreams_are_alike(name, tmp_path):
    kind, _, model = untrained(name, tmp_path)
    for temperature, alike in ((1e-12, True), (1.0, False)):
        torch.manual_seed(0)
        one, other = map(nested.leaves, dream(model, kind, 6, 2, temperature))
        close = [np.allclose(a, b, atol=1e-3) for a, b in zip(one, other, strict=True)]
        assert all(close) == alike


@every_kind
def test_a_recording_scored_by_windows_is_scored_whole(name, tmp_path):
    kind, store, model = untrained(name, tmp_path, history=3)
    for number, whole in enumerate(scores_of(model, kind, store)):
        sequences = store.sequences(action_codec(kind.action_space), np.array([number]))
        state, parts = model.initial_state(1), []
        for begin in range(0, len(sequences.mask), 5):
            window = nested.index(sequences, slice(begin, begin + 5))
            with torch.no_grad():
                inference, state = model.infer(window, state)
                found = model.log_probs(inference.states, window)["observation"]
            parts.append(found[:, 0, 0].numpy())
        observation = store.select(np.array([number])).columns["observation"]
        expected = np.concatenate(parts) + kind.correction(observation)
        np.testing.assert_allclose(whole, expected, rtol=1e-9)


@pytest.mark.parametrize("core", ["rnn", "vrnn", "srnn"])
def test_no_more_is_decoded_at_once_than_is_told(core, tmp_path, monkeypatch):
    kind, store, model = untrained("audio", tmp_path, core=core, head="full-normal")
    width = 2 * FRAME + FRAME * (FRAME - 1) // 2
    decoded = []

    def scores():
        with OwnNoise(0)():
            return scores_of(model, kind, store, "iwae", 2)

    whole = scores()
    monkeypatch.setattr("worldmodel.likelihoods.DECODED", 20 * width)
    model.percepts.decoder.register_forward_hook(
        lambda module, inputs, output: decoded.append(inputs[0].shape[:-1].numel())
    )
    for found, expected in zip(scores(), whole, strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-9)
    assert max(decoded) <= 20
    assert len(decoded) > 1


def midi_of(pitches, **config):
    data = MidiDataConfig(("nowhere",), low=60, high=59 + pitches, steps_per_beat=2, **config)
    return Midi(data, {"rates": [0.2, 0.5, 0.6][:pitches]})


def test_a_score_is_moved_by_as_many_semitones_up_as_down():
    most = 3
    draws = (torch.arange(7) + 0.5) / 7  # each of the seven ways once
    roll = torch.zeros(2, 7, 24, dtype=torch.int8)
    roll[:, :, [6, 10, 13]] = 1
    roll[1] = 0
    moved = transposed(roll, draws.double(), most)
    assert moved.dtype == roll.dtype
    for shift, column in zip(range(-most, most + 1), moved[0], strict=True):
        assert column.nonzero()[:, 0].tolist() == [6 + shift, 10 + shift, 13 + shift]
    assert not moved[1].any()
    assert torch.equal(transposed(roll, torch.full((7,), 0.5).double(), most), roll)


def test_a_note_that_leaves_the_range_sounds_an_octave_nearer():
    draws = torch.tensor([0.0, 0.999]).double()
    roll = torch.zeros(1, 2, 14, dtype=torch.bool)
    roll[..., [0, 13]] = True
    down, up = transposed(roll, draws, 2)[0]
    assert down.nonzero()[:, 0].tolist() == [10, 11]
    assert up.nonzero()[:, 0].tolist() == [2, 3]


def test_only_what_is_learned_from_is_transposed():
    """Validation and scores are of recordings as they are."""
    data = MidiDataConfig(("nowhere",), beats=0, transpose=5)
    kind = Midi(data, {})
    rolls = [np.eye(88, dtype=np.int8)[np.full(6, 40)] for _ in range(40)]
    train = as_episodes(kind, rolls)
    config = SequenceConfig(
        SequenceModelConfig(hidden_size=4, decoder_hidden=4),
        SequenceLearningConfig(updates=2, validations=1, batch_size=40),
    )
    training = SequenceTraining(config, kind)
    training.learn_from(train, train)
    read = next(training.passages).rows.observation
    assert set(read.nonzero()[:, 2].tolist()) <= set(range(35, 46))
    assert len(set(read[0].argmax(-1).tolist())) > 5
    as_it_is = SequenceTraining(config, Midi(replace(data, transpose=0), {}))
    as_it_is.learn_from(train, train)
    assert as_it_is.score(training.model) == training.score(training.model)


@pytest.mark.parametrize(
    ("core", "head", "tolerance"),
    [
        ("rnn", "nade", 1e-10),
        ("rnn", "bernoulli", 1e-10),
        ("rnn", "subset", 1e-10),
        ("srnn", "nade", 0.005),
    ],
)
def test_probabilities_of_all_short_scores_sum_to_one(core, head, tolerance):
    kind = midi_of(3, beats=2)
    torch.manual_seed(0)
    config = SequenceModelConfig(core=core, hidden_size=6, latent=2, latent_hidden=4, head=head)
    model = model_of(kind, config).double().eval()
    frames = list(itertools.product((False, True), repeat=3))
    every = [np.array(rows) for rows in itertools.product(frames, repeat=2)]
    nats = [part.sum() for part in scores_of(model, kind, as_episodes(kind, every), "iwae", 512)]
    assert len(nats) == 64
    assert abs(np.exp(nats).sum() - 1) < tolerance


@pytest.mark.parametrize(("most", "head"), [(4_096, "categorical"), (2, "pairs")])
def test_probabilities_of_all_short_drawings_sum_to_one(most, head, monkeypatch):
    """Of whole offsets from -1 to 1 and pens, most of which share one class."""
    monkeypatch.setattr(strokes, "MOST_CLASSES", most)
    facts = {"edges": [-1, 0, 1, 2], "cells": [7, 12]}
    kind = Strokes(StrokesDataConfig(("nowhere",), exact=True), facts)
    assert kind.default_head == head
    torch.manual_seed(0)
    model = model_of(kind, SequenceModelConfig(hidden_size=6)).double().eval()
    steps = np.array(list(itertools.product((-1, 0, 1), (-1, 0, 1), (0, 1, 2))))
    pairs = [steps[list(pair)] for pair in itertools.product(range(len(steps)), repeat=2)]
    every = [
        kind.grid.encode(Recording({"offset": pair[:, :2].astype("f4"), "pen": pair[:, 2]}, ""))
        for pair in pairs
    ]
    nats = [part.sum() for part in scores_of(model, kind, as_episodes(kind, every))]
    assert len(nats) == 27**2
    assert abs(np.exp(nats).sum() - 1) < 1e-10


class Noting(Watcher):
    """Puts the losses of updates into a list."""

    def __init__(self, nats):
        self.nats = nats

    def unit(self, job, stage, metrics):
        self.nats.append(metrics["nats"])
        return True


def test_drawings_of_very_many_classes_are_learned(tmp_path, monkeypatch):
    """x first and then the rest, by a head and an encoder of that: a triangle, again and again."""
    monkeypatch.setattr(strokes, "MOST_CLASSES", 2)
    triangle = np.array([[3, 0, 0], [-1, 2, 0], [-2, -2, 1]])
    np.savez(tmp_path / "all.npz", **{f"{n}": triangle for n in range(12)})
    kind = kind_for(MADE["exact strokes"], tmp_path / "all.npz")
    store = MemoryStore()
    store.add(as_episodes(kind, [r.observation for r in kind.learned(print)]))
    learning = SequenceLearningConfig(batch_size=4, window=8, learning_rate=0.03, ema_decay=0.0)
    training = SequenceTraining(
        SequenceConfig(SequenceModelConfig(hidden_size=16, decoder_hidden=16), learning), kind
    )
    training.learn_from(store)
    training.extend(80)
    nats = []
    training.run(Noting(nats))
    assert nats[-1] < 0.05 < nats[0]
    (sample,) = dream(training.kept, kind, 3, 1, temperature=0.1)
    np.testing.assert_array_equal(kind.drawing(sample)["offset"], triangle[:, :2])


def test_figures_of_sound_are_those_of_standardised_samples(tmp_path):
    """By hand, of a model that takes all frames for alike."""
    kind, store, model = untrained("audio", tmp_path, head="normal")
    with torch.no_grad():
        for parameter in model.percepts.decoder.parameters():
            parameter.zero_()
        one = model.percepts.decoder(torch.zeros(1, model.core.feature_size).double())
        frame = one.observation.base_dist
    frames = store.gather(np.arange(store.rows))["observation"].astype(float)
    mean, std = frames.mean(), frames.std()
    location, scale = ((frame.loc[0] - mean) / std).numpy(), (frame.scale[0] / std).numpy()
    expected = stats.norm.logpdf((frames - mean) / std, location, scale).sum(-1)
    found = np.concatenate(scores_of(model, kind, store))
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_figures_of_sound_do_not_depend_on_its_loudness(tmp_path):
    kind, store, model = untrained("audio", tmp_path)
    quiet = MemoryStore()
    parts = [store.select(np.array([number])) for number in range(len(store))]
    quiet.add(as_episodes(kind, [part.columns["observation"] / 8 for part in parts]))
    found = scores_of(model, kind, store)
    kind = type(kind)(kind.data, kind.statistics_of(quiet))
    for nats, expected in zip(scores_of(model_for(kind, quiet), kind, quiet), found, strict=True):
        np.testing.assert_allclose(nats, expected, rtol=1e-4)


@pytest.mark.parametrize("prompt", [[], [[1, 0], [0, 1]]])
def test_what_is_dreamt_next_is_as_likely_as_the_model_says(prompt):
    """After a prompt, too, with the metronome in step."""
    kind = midi_of(2, beats=3)
    torch.manual_seed(0)
    model = model_of(kind, SequenceModelConfig(hidden_size=6, history=2)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(3)  # so that it says more
    begun = np.array(prompt, bool).reshape(-1, 2)
    config = begun if prompt else None
    draws = np.stack([s[len(begun)] for s in dream(model, kind, 1, 4_000, prompt=config)])
    frames = np.array(list(itertools.product((False, True), repeat=2)))
    every = [np.concatenate([begun, frame[None]]) for frame in frames]
    nats = scores_of(model, kind, as_episodes(kind, every))
    for frame, each in zip(frames, nats, strict=True):
        expected = math.exp(each[-1])
        error = math.sqrt(expected * (1 - expected) / len(draws))
        assert abs((draws == frame).all(1).mean() - expected) < 4 * error


@pytest.mark.parametrize("seen", [0, 5])
def test_the_metronome_beats_in_dreams_as_in_data(seen, tmp_path):
    kind, _, model = untrained("midi", tmp_path)
    codec = action_codec(kind.action_space)
    prune_inactive = np.zeros((20, kind.pitches), bool)
    expected = as_episodes(kind, [prune_inactive]).sequences(codec).rows  # [20, 1, ...]
    core = GenCore(Dream(model, 100, kind.observation_space, kind.action_space), kind.agent())
    state = core.initial_state(1)
    for row in nested.steps(expected)[:seen]:
        state = core.observe(row, state)
    with torch.no_grad():
        dreamt, _, _ = core.generate(20 - seen, state)
    assert expected.action[1:].any()
    assert torch.equal(dreamt.rows.action.float(), expected.action[seen:])


def test_a_drawing_goes_on_from_a_prompt_that_is_over(tmp_path):
    made = MADE["strokes"]
    files = write_files(made, tmp_path / "files", number=1)
    kind = kind_for(made, files)
    file = str(next(files.iterdir()))
    whole = next(kind.recordings([file], "stop", print)).observation
    prompt = kind.prompt(file, 1_000, print)
    np.testing.assert_array_equal(prompt["offset"], whole["offset"])
    assert (whole["pen"][-1], prompt["pen"][-1]) == (2, 1)


def test_of_a_single_recording_the_end_is_held_out(tmp_path):
    made = MADE["midi"]
    files = write_files(made, tmp_path / "files", number=1)
    folder = new_run(tmp_path / "run", config_of("midi", files))
    kind = storage.import_recordings(folder, Reporter())
    (whole,) = kind.recordings([str(files)], "stop", print)
    stores = storage.split_stores(folder)
    learned, valid = stores["train"], stores["valid"]
    assert learned.rows == int(0.7 * len(whole.observation))
    parts = [store.gather(np.arange(store.rows))["observation"] for store in (learned, valid)]
    np.testing.assert_array_equal(np.concatenate(parts), whole.observation)


@pytest.mark.parametrize("name", ["midi", "exact strokes"])
def test_an_interrupted_reading_begins_anew(name, finished, tmp_path, monkeypatch):
    folder = new_run(tmp_path / "run", config_of(name, finished(name).files))
    monkeypatch.setattr(storage, "TOGETHER", 1)
    make = modality_class(MADE[name].config)
    learned = make.learned

    def killed(self, report):
        yield from itertools.islice(learned(self, report), 3)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(make, "learned", killed)
        with pytest.raises(KeyboardInterrupt):
            train(folder)
    assert len(DiskStore(folder.episodes / "train", writable=False))
    assert_refused(worldmodel("evaluate", folder.path), "not read", "worldmodel resume")
    train(folder)
    assert_same(folder, finished(name).folder)


def damaged_midi(file):
    MADE["midi"].write(file, np.random.default_rng(0))
    file.write_bytes(file.read_bytes()[:-9])


def strokes_of_nan(file):
    np.savez(file, drawing=np.array([[1.0, np.nan, 0.0], [1.0, 1.0, 1.0]]))


def strokes_of_halves(file):
    np.savez(file, drawing=np.array([[1.0, 0.5, 0.0], [1.0, 1.0, 1.0]]))


BAD = {
    "an empty text": ("text", "bad.txt", lambda file: file.touch()),
    "a text of one character": ("text", "bad.txt", lambda file: file.write_text("a")),
    "a text in another code": ("text", "bad.txt", lambda file: file.write_bytes(b"caf\xe9")),
    "an empty sound": ("audio", "bad.wav", lambda file: file.touch()),
    "no sound": ("audio", "bad.wav", lambda file: file.write_text("no sound at all")),
    "an empty score": ("midi", "bad.mid", lambda file: file.touch()),
    "a damaged score": ("midi", "bad.mid", damaged_midi),
    "a damaged roll": ("midi", "bad.npz", lambda file: file.write_bytes(b"PK\x03\x04 no more")),
    "empty strokes": ("strokes", "bad.npz", lambda file: file.touch()),
    "strokes of NaN": ("strokes", "bad.npz", strokes_of_nan),
    "exact strokes of NaN": ("exact strokes", "bad.npz", strokes_of_nan),
    "exact strokes of halves": ("exact strokes", "bad.npz", strokes_of_halves),
}


@pytest.mark.parametrize(("name", "bad", "write"), BAD.values(), ids=BAD)
def test_a_bad_file_stops_or_is_left_out(name, bad, write, finished, tmp_path):
    files = tmp_path / "files"
    shutil.copytree(finished(name).others, files)
    write(files / bad)
    made, run = MADE[name], tmp_path / "run"
    path = "--corpus" if name == "text" else "--data"
    order = ("train", made.kind, path, files, "--out", run, "--quick", *made.options)
    assert_refused(worldmodel(*order), bad)
    scored_run = finished(name).folder.path
    assert_refused(worldmodel("evaluate", scored_run, "--data", files, "--json"), bad)
    lenient = ("--data", files, "--on-error", "skip", "--bound-particles", 2)
    config = json.loads(worldmodel("evaluate", scored_run, *lenient, "--each", "--json").stdout)
    assert config["each"]
    (warning,) = config["warnings"]
    assert bad in warning
    assert "left out" in warning
    lines = []
    kind = kind_for(made, files, on_error="skip")
    assert list(kind.learned(lines.append))
    assert any(bad in line and "left out" in line for line in lines)


def test_a_run_that_met_a_bad_file_goes_on_when_that_is_mended(finished, tmp_path):
    files, run = tmp_path / "files", tmp_path / "run"
    shutil.copytree(finished("midi").files, files)
    damaged_midi(files / "bad.mid")
    order = ("train", "midi", "--data", files, "--out", run, "--quick", *MADE["midi"].options)
    assert_refused(worldmodel(*order), "bad.mid", f"worldmodel resume {run}")
    (files / "bad.mid").unlink()
    resumed = worldmodel("resume", run)
    assert resumed.returncode == 0, resumed.stderr
    shown = worldmodel("generate", run, "--length", 5, "--samples", 1)
    assert shown.returncode == 0, shown.stderr
    assert (run / "generated" / "seed-0-1.mid").exists()


def test_stereo_of_24_bits_is_read(finished, tmp_path):
    file = tmp_path / "stereo.wav"
    values = np.random.default_rng(0).integers(-(2**22), 2**22, (52, 2))
    file.write_bytes(wav(encoded(values, 24, 2**23), channels=2, rate=RATE, bits=24))
    result = evaluate(finished("audio").folder, ScoreConfig(data=(str(file),), bound_particles=1))
    assert result["frames"] == 52 // FRAME


def test_what_is_missing_says_what_to_install(finished, tmp_path, monkeypatch):
    run = finished("audio").folder.path
    monkeypatch.setitem(sys.modules, "soundfile", None)
    (tmp_path / "sound.flac").write_bytes(b"fLaC" + bytes(100))
    refused = worldmodel("evaluate", run, "--data", tmp_path, "--on-error", "skip")
    assert_refused(refused, "sound.flac", "pip install 'worldmodel-gym[audio]'")
    for name in ("audio", "midi"):
        monkeypatch.setattr(
            f"worldmodel.experiments.recordings.{name}.find_spec", lambda package: None
        )
        order = ("generate", finished(name).folder.path, "--length", 3, "--out")
        dreamt = worldmodel(*order, tmp_path / name / "dream")
        assert dreamt.returncode == 0
        assert "pip install 'worldmodel-gym[plots]'" in dreamt.stderr
        assert not list((tmp_path / name).glob("*.png"))


def test_there_may_be_many_characters():
    """More than the longest rows of characters could be counted of."""
    kind = Text(SimpleNamespace(), {"symbols": "".join(map(chr, range(0x4E00, 0x4E00 + 2_000)))})
    source = as_episodes(kind, [np.arange(100, dtype=np.uint16)])
    assert list(counted(kind, source, source)) == [f"{n}-gram" for n in range(1, 6)]


@pytest.mark.parametrize("name", ["text", "strokes"])
def test_what_was_learned_from_recordings_has_curves_and_a_report(name, finished, tmp_path):
    run = finished(name).folder
    out = tmp_path / "page.html"
    result = worldmodel("report", run.path, "--out", out)
    assert result.returncode == 0, result.stderr
    page = out.read_text()
    loss = json.loads(worldmodel("evaluate", run.path, "--json").stdout)
    nats = loss[f"nats_per_{loss['frame']}"]
    assert f'value="{nats!r}"' in page
    validated = [line["valid_nats"] for line in run.metrics() if line["stage"] == "validate"]
    assert f"{validated[-1]:.4g}".lstrip("-") in page
    newest = max(file.name for file in (run.path / "samples").glob("[0-9]*"))[:3]
    if name == "text":
        words = html.escape((run.path / "samples" / f"{newest}.txt").read_text())
        assert words.strip() in page
    else:
        picture = (run.path / "samples" / f"{newest}.png").read_bytes()
        assert base64.b64encode(picture).decode() in page
    compared = worldmodel("compare", run.path, "--out", out, "--json")
    (group,) = json.loads(compared.stdout)["groups"]
    assert group["curve"]["values"] == [validated]
    assert group["figures"]["best of the curve"]["values"] == [min(validated)]
    drawn = worldmodel("plot", run.path, "--out", tmp_path / "curve.png")
    assert drawn.returncode == 0, drawn.stderr


def test_a_report_shows_what_was_written_or_says_what_is_damaged(finished, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(finished("strokes").folder.path, run)
    assert worldmodel("evaluate", run, "--save").returncode == 0
    evaluated = read_json(run / "evaluation.json")

    def reported():
        return worldmodel("report", run, "--out", tmp_path / "page.html")

    assert "evaluating" not in reported().stderr
    write_json(run / "evaluation.json", evaluated | {"weights": 64 * "0"})  # of another run
    assert "there is no evaluation of this checkpoint: evaluating" in reported().stderr
    write_json(run / "evaluation.json", {k: v for k, v in evaluated.items() if k != "recordings"})
    assert_refused(reported(), "evaluation.json", "damaged")
    write_json(run / "evaluation.json", evaluated)
    sample = max((run / "samples").glob("[0-9]*"))
    content = sample.read_bytes()
    sample.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    assert_refused(reported(), f"{sample} is damaged")
    sample.write_bytes(content)
    write_json(run / "samples" / "checksums.json", {"001/../../x": 1})
    assert_refused(reported(), "is no file of samples")
