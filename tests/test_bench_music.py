"""Laws of the music bench: what is scored is what it says, and the test set decides nothing."""

import json
from dataclasses import replace
from pathlib import Path
from typing import get_args, get_type_hints

import numpy as np
import pytest
import torch
from command_line import assert_refused, worldmodel
from rolls import LENGTHS, made_up, write
from torch import distributions as td

from worldmodel import BOUNDS, ELBO, Learner, NullAgent, action_codec
from worldmodel.experiments.bench import music as bench
from worldmodel.experiments.bench.music import (
    BY_FIVO,
    LEARNING,
    RECIPES,
    RNN,
    Music,
    generated,
    learn_music,
    marginal_nats,
    read,
    some,
)
from worldmodel.experiments.bench.published import FILES, PUBLISHED
from worldmodel.experiments.bench.sequences import Recipe, whole_nats
from worldmodel.experiments.bench.settings import MusicSettings
from worldmodel.experiments.data.readers.roll_files import SPLITS
from worldmodel.experiments.recordings.config import MidiDataConfig, quick_recordings
from worldmodel.experiments.recordings.midi import Midi
from worldmodel.progress import Reporter
from worldmodel.run_folder import RunError
from worldmodel.sequence_model.modality import as_episodes
from worldmodel.sequence_model.training import model_of

PITCHES = 88
every_recipe = pytest.mark.parametrize("name", RECIPES)
DATA = Path(__file__).parents[1] / MusicSettings.data


@pytest.fixture
def music(tmp_path):
    return read(write(tmp_path / "rolls"), "JSB")


def music_of(recordings):
    """The same recordings, bool [T, 88], learned from, validated on and tested on."""
    data = MidiDataConfig((), beats=0)
    episodes = as_episodes(Midi(data, {}), recordings)
    modality = Midi(data, Midi(data, {}).statistics_of(episodes))
    return Music("made up", modality, dict.fromkeys(SPLITS, episodes))


def untrained(name, kind):
    torch.manual_seed(0)
    return model_of(kind, quick_recordings(RECIPES[name]).model).double().eval()


def silence_all_but_first_biases(model):
    """Every weight is zero, so that pitches sound as often as in the training set."""
    with torch.no_grad():
        for key, parameter in model.named_parameters():
            if not key.startswith("percepts.decoder.observation"):
                parameter.zero_()
    return model


def test_a_set_comes_back_recording_by_recording(music):
    arrays = made_up()
    assert tuple(music.splits) == SPLITS
    for split, source in music.splits.items():
        assert source.lengths.tolist() == LENGTHS[split]
        assert np.array_equal(source.columns["observation"], arrays[f"{split}_roll"])


@pytest.mark.parametrize("name", FILES)
def test_every_set_has_a_file_of_its_own(tmp_path, name):
    music = read(write(tmp_path, FILES[name]), name)
    assert (music.name, len(music.splits["train"])) == (name, 6)


def test_rates_are_those_of_the_training_set_and_never_certain():
    frames = np.zeros((3, PITCHES), bool)
    frames[:2, 5], frames[:, 7] = True, True
    rates = music_of([frames]).modality.rates
    assert rates[[0, 5, 7]] == pytest.approx([0.5 / 4, 2.5 / 4, 3.5 / 4])


def test_nobody_acts_and_every_frame_is_scored(music):
    assert isinstance(music.modality.agent(), NullAgent)
    codec = action_codec(music.modality.action_space)
    sequences = music.splits["train"].sequences(codec, np.array([1, 2]))
    rows = sequences.rows
    assert rows.action.shape == (9, 2, 0)
    assert rows.observation.shape == (9, 2, PITCHES)
    assert rows.observation.dtype == torch.bool
    assert rows.first.tolist() == [[True, True]] + [[False, False]] * 8
    assert not rows.reward.any()
    assert not rows.terminated.any()
    assert torch.equal(sequences.loss_mask, sequences.mask)  # the first frame counts
    assert sequences.mask.sum(0).tolist() == [9, 3]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"valid_len": None}, ["valid_len", "got only"]),
        ({"test_roll": None}, ["none for test", "test_roll"]),
        ({f"{split}_roll": None for split in SPLITS}, ["JSB_Chorales.npz"]),
        ({"train_roll": np.zeros((34, 87), np.uint8)}, ["train", "[T, 88]", "87]"]),
        ({"train_roll": np.full((34, 88), 2)}, ["train", "0 and 1"]),
        ({"test_len": np.array([3, 8, 3])}, ["test_len", "14", "13 rows"]),
        ({"test_len": np.array([3, 10, 0])}, ["test_len", "got 0"]),
        ({"test_len": np.array([6.5, 6.5])}, ["test_len", "float64"]),
        ({"test_len": np.array([], int)}, ["test_len", "got none"]),
    ],
)
def test_a_wrong_file_gets_a_sentence(tmp_path, changes, words):
    write(tmp_path, **changes)
    with pytest.raises(RunError, match=r"JSB_Chorales\.npz") as error:
        read(tmp_path, "JSB")
    for word in words:
        assert word in str(error.value)


def test_a_missing_folder_gets_a_sentence(tmp_path):
    with pytest.raises(RunError, match="--data"):
        read(tmp_path / "nowhere", "JSB")


@every_recipe
@pytest.mark.parametrize("bound", BOUNDS)
def test_a_model_that_says_nothing_is_the_marginal(name, bound, music):
    """All weights zero but the outputs' first biases: the closed form, whatever the bound."""
    model = silence_all_but_first_biases(untrained(name, music.modality))
    logits = torch.from_numpy(music.modality.rates).logit()
    frames = torch.from_numpy(music.splits["test"].columns["observation"]).double()
    expected = -td.Bernoulli(logits=logits).log_prob(frames).sum(-1).mean().item()
    found = whole_nats(model, music.modality, music.splits["test"], bound, 3)
    assert found == pytest.approx(expected, abs=1e-5)  # the biases are kept in single precision
    assert marginal_nats(music, "test") == pytest.approx(expected, abs=1e-12)


def test_a_frame_counts_the_same_in_short_and_long_recordings(music):
    """The total over the total of frames, not a mean of recordings' means."""
    model = untrained("rnn-nade", music.modality)
    test = music.splits["test"]
    found = whole_nats(model, music.modality, test)
    by_recording = [
        whole_nats(model, music.modality, test.select(np.array([i]))) for i in range(3)
    ]
    weights = np.array(LENGTHS["test"])
    assert found == pytest.approx(float(weights @ by_recording) / weights.sum(), abs=1e-12)
    assert abs(found - np.mean(by_recording)) > 1e-4


def test_the_mean_frame_is_encoded_as_nothing():
    frames = np.random.default_rng(0).random((4, PITCHES)) < 0.5
    kind = Midi(MidiDataConfig((), beats=0), {"rates": frames.mean(0).tolist()})
    encoded = kind.encoder().double()(torch.from_numpy(frames))
    assert encoded.mean(0).abs().max() < 1e-7
    assert np.array_equal(encoded.numpy() > 0, frames & (frames.mean(0) < 1))


def learned_by(recipe, music, objective=None):
    return learn_music("a model", recipe, music, 0, "elbo", Reporter(), objective)


def test_a_model_ends_with_the_weights_that_did_best_in_validation(music):
    learning = replace(LEARNING, updates=150, batch_size=6, learning_rate=0.05)
    model = replace(RNN, hidden_size=32, decoder_hidden=32, input_dropout=0.0)
    learned = learned_by(Recipe(model, learning), music)
    assert len(learned.curve) == 20
    assert learned.nats == min(nats for _, nats in learned.curve)
    assert (learned.update, learned.nats) in learned.curve
    assert learned.curve[-1][1] > learned.nats + 1  # later ones have learned by heart
    valid = whole_nats(learned.model, music.modality, music.splits["valid"])
    assert valid == pytest.approx(learned.nats, abs=1e-6)
    assert not learned.model.training
    assert learned.updates == 150


def test_a_large_validation_set_is_asked_in_part(monkeypatch):
    """In whole recordings, drawn from all of it; the same every time; a small one whole."""
    source = music_of([np.eye(PITCHES, dtype=bool)[:9]] * 20).splits["valid"]
    part = some(source, 40)
    assert part.lengths.tolist() == [9] * 5
    assert (
        some(source, 40).columns["observation"].tobytes() == part.columns["observation"].tobytes()
    )
    assert len(some(source, 180)) == len(some(source, 10_000)) == 20
    numbered = as_episodes(
        Midi(MidiDataConfig((), beats=0), {}), [np.full((2, PITCHES), n) for n in range(50)]
    )
    chosen = some(numbered, 20).columns["observation"][::2, 0]
    assert (np.diff(chosen) > 0).all()
    assert chosen.max() > 25


def test_minutes_are_at_most_the_updates_of_the_recipe(music, monkeypatch):
    recipe = quick_recordings(RECIPES["vrnn-elbo"])
    for possible, expected in ((4, 4), (80, 6)):
        timed = replace(recipe, learning=replace(recipe.learning, minutes=1.0))
        monkeypatch.setattr(Learner, "updates_within", lambda *_, possible=possible: possible)
        assert learned_by(timed, music).updates == expected
    monkeypatch.undo()
    tiny = replace(recipe, learning=replace(recipe.learning, minutes=1e-9))
    assert learned_by(tiny, music).updates == 1


def test_rows_that_are_there_are_said_and_survive_a_stop(music, tmp_path, monkeypatch, capsys):
    measured = bench.measure

    def stopped_at_the_second(name, *rest):
        if name == "rnn":
            raise KeyboardInterrupt
        return measured(name, *rest)

    monkeypatch.setattr(bench, "measure", stopped_at_the_second)
    folder = write(tmp_path / "rolls")
    models = ("vrnn-elbo", "rnn", "srnn-elbo")
    config = MusicSettings(models=models, data=folder, bound=("elbo", "fivo"), quick=True)
    (figures,) = bench.run(config, Reporter())
    (row,) = figures["rows"]
    assert list(row["by_bound"]) == ["elbo", "fivo"]
    said = capsys.readouterr().err
    assert f"vrnn-elbo on JSB: loss {row['test_nats']:.3f} nats per frame" in said
    assert "stopped" in said


@every_recipe
def test_what_can_be_learned_is_learned(name):
    """Two chords that alternate: nothing but the first frame is a surprise."""
    song = np.zeros((8, PITCHES), bool)
    song[::2, 10:14] = song[1::2, 20:23] = True
    music, recipe = music_of([song] * 10), quick_recordings(RECIPES[name])
    learning = replace(recipe.learning, updates=60, batch_size=4, learning_rate=0.05)
    recipe = Recipe(replace(recipe.model, input_dropout=0.0), learning)
    learned = learned_by(recipe, music, ELBO)
    assert learned.nats < marginal_nats(music, "test") / 2


def test_fivo_is_learned_by_a_posterior_that_does_not_look_ahead(music):
    for name, recipe in RECIPES.items():
        if recipe.learning.objective == "fivo":
            assert untrained(name, music.modality).core.filtering
            assert recipe.learning == BY_FIVO
    assert not untrained("srnn-elbo", music.modality).core.filtering


def test_music_that_repeats_the_rates_is_that_of_the_training_set(music):
    """A model that says nothing plays every pitch as often as it is played there."""
    model = silence_all_but_first_biases(untrained("rnn", music.modality).float())
    found = generated(model, music.modality, 0)
    rates = music.modality.rates
    error = np.sqrt((rates * (1 - rates)).sum() / 4_000)
    assert found["corpus_notes_a_frame"] == pytest.approx(rates.sum())
    assert abs(found["notes_a_frame"] - rates.sum()) < 4 * error
    assert found["pitch_class_tv"] < 0.02
    assert generated(model, music.modality, 0) == found
    other = Midi(music.modality.data, {"rates": np.roll(rates, 20).tolist()})
    assert generated(model, other, 0)["pitch_class_tv"] > 0.1


def test_the_command_trains_scores_plays_and_prints(tmp_path):
    data = write(tmp_path / "rolls")
    write(data, FILES["Nottingham"])
    command = ["bench", "music", "--data", data, "--quick", "--seed", 3]
    result = worldmodel(*command, "--json")
    assert result.returncode == 0, result.stderr
    (figures,) = json.loads(result.stdout)
    assert figures["set"] == "JSB"
    assert figures["seed"] == 3
    assert figures["frames"] == {split: sum(lengths) for split, lengths in LENGTHS.items()}
    assert [row["model"] for row in figures["rows"]] == list(RECIPES)
    for row in figures["rows"]:
        assert row["test_nats"] == min(row["by_bound"].values())
        assert list(row["by_bound"]) == (["exact"] if "rnn" in row["model"][:3] else list(BOUNDS))
        assert row["train_seconds"] > 0
        assert row["processor_seconds"] > 0
        assert row["generated"]["notes_a_frame"] > 0
    published = [row.name for row in PUBLISHED if "JSB" in row.nats]
    assert [row["model"] for row in figures["published"]] == published

    again = worldmodel(*command, "--models", "vrnn-fivo", "--set", "JSB", "Nottingham")
    (fivo,) = (row for row in figures["rows"] if row["model"] == "vrnn-fivo")
    assert f"{fivo['test_nats']:.3f}" in again.stdout  # a row does not need others
    assert f"{fivo['generated']['pitch_class_tv']:.3f}" in again.stdout
    assert "RNN-NADE (2012) *" in again.stdout
    assert "learning vrnn-fivo on JSB" in again.stderr
    assert "learning vrnn-fivo on Nottingham" in again.stderr


def test_the_command_says_what_is_wrong(tmp_path):
    missing = worldmodel("bench", "music", "--data", tmp_path)
    assert_refused(missing, "JSB_Chorales.npz", "--data")
    (tmp_path / "Nottingham.npz").write_bytes(b"PK\x03\x04 no more than a beginning")
    refused = worldmodel("bench", "music", "--set", "Nottingham", "--data", tmp_path)
    assert_refused(refused, "Nottingham.npz", "cannot be read")
    later = worldmodel("bench", "music", "--set", "JSB", "Nottingham", "--data", write(tmp_path))
    assert_refused(later, "Nottingham.npz", "cannot be read")  # before anything is learned
    assert "learning" not in later.stderr
    assert_refused(worldmodel("bench", "music", "--models", "transformer"), "vrnn-fivo")


def test_the_command_offers_every_recipe_and_every_set():
    hints = get_type_hints(MusicSettings)
    assert get_args(get_args(hints["models"])[0]) == MusicSettings.models == tuple(RECIPES)
    assert get_args(get_args(hints["set"])[0]) == tuple(FILES)


@pytest.mark.parametrize("name", FILES)
def test_the_published_marginals_are_those_of_the_data(name):
    if not (DATA / FILES[name]).exists():
        pytest.skip(f"there is no {FILES[name]} in {MusicSettings.data}")
    found = marginal_nats(read(DATA, name), "test")
    assert found == pytest.approx(PUBLISHED[0].nats[name], abs=0.005)
