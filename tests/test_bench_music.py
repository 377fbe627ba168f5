"""Laws of the music bench: what is scored is what it says, and the test set decides nothing."""

import json
from dataclasses import replace
from pathlib import Path
from typing import get_args, get_type_hints

import numpy as np
import pytest
import torch
from rolls import LENGTHS, write
from test_cli import assert_refused, worldmodel
from torch import distributions as td

from experiments.bench.music import (
    RECIPES,
    CentredEncoder,
    Recipe,
    frame_nats,
    learn,
    marginal_nats,
    quickly,
    roll_model,
)
from experiments.bench.published import PUBLISHED
from experiments.cli import BenchMusic
from experiments.piano_rolls import FILES, Rolls, read
from worldmodel import BOUNDS, ELBO

every_recipe = pytest.mark.parametrize("name", RECIPES)
DATA = Path(__file__).parents[1] / BenchMusic.data


@pytest.fixture
def splits(tmp_path):
    return read(write(tmp_path / "rolls"), "JSB")


def untrained(name, rates):
    torch.manual_seed(0)
    return roll_model(quickly(RECIPES[name]), rates).double().eval()


@every_recipe
@pytest.mark.parametrize("bound", BOUNDS)
def test_a_model_that_says_nothing_is_the_marginal(name, bound, splits):
    """All weights zero but the outputs' first biases: the closed form, whatever the bound."""
    rates = splits["train"].rates
    model, logits = untrained(name, rates), torch.from_numpy(rates).logit()
    with torch.no_grad():
        for key, parameter in model.named_parameters():
            if not key.startswith("decoder.observation"):
                parameter.zero_()
    found = frame_nats(model, splits["test"].sequences(), bound, 3)
    frames = torch.from_numpy(splits["test"].frames).double()
    expected = td.Bernoulli(logits=logits).log_prob(frames).sum(-1).mean().item()
    assert found == pytest.approx(expected, abs=1e-5)  # the biases are kept in single precision
    assert marginal_nats(rates, splits["test"]) == pytest.approx(expected, abs=1e-12)


def test_a_frame_counts_the_same_in_short_and_long_recordings(splits):
    """The total over the total of frames, not a mean of recordings' means."""
    model = untrained("rnn-nade", splits["train"].rates)
    found = frame_nats(model, splits["test"].sequences(), "elbo", 1)
    by_recording = [
        frame_nats(model, splits["test"].sequences(np.array([i])), "elbo", 1) for i in range(3)
    ]
    weights = np.array(LENGTHS["test"])
    assert found == pytest.approx(float(weights @ by_recording) / weights.sum(), abs=1e-12)
    assert abs(found - np.mean(by_recording)) > 1e-4


def test_the_mean_frame_is_encoded_as_nothing():
    frames = np.random.default_rng(0).random((4, 88)) < 0.5
    encoded = CentredEncoder(frames.mean(0)).double()(torch.from_numpy(frames))
    assert encoded.mean(0).abs().max() < 1e-7
    assert np.array_equal(encoded.numpy() > 0, frames & (frames.mean(0) < 1))


def test_a_model_ends_with_the_weights_that_did_best_in_validation(splits):
    recipe = Recipe("rnn", hidden=32, updates=150, batch=6, learning_rate=0.05)
    torch.manual_seed(0)
    model = roll_model(recipe, splits["train"].rates)
    notes = []
    learned = learn(model, ELBO(model), recipe, splits, 0, note=lambda *note: notes.append(note))
    assert learned.nats == max(nats for _, nats in learned.curve)
    assert (learned.update, learned.nats) in learned.curve
    assert learned.curve[-1][1] < learned.nats - 1  # later ones have learned by heart
    found = frame_nats(model, splits["valid"].sequences(), "elbo", 1)
    assert found == pytest.approx(learned.nats, abs=1e-6)
    assert not model.training
    assert [done for done, _ in notes] == list(range(1, 151))


@every_recipe
def test_what_can_be_learned_is_learned(name):
    """Two chords that alternate: nothing but the first frame is a surprise."""
    frames = np.zeros((80, 88), bool)
    frames[::2, 10:14] = frames[1::2, 20:23] = True
    rolls = Rolls(frames, np.full(10, 8))
    recipe = replace(quickly(RECIPES[name]), updates=60, learning_rate=0.05, dropout=0.0)
    torch.manual_seed(0)
    model = roll_model(recipe, rolls.rates)
    learned = learn(model, ELBO(model), recipe, {"train": rolls, "valid": rolls}, 0)
    assert learned.nats > marginal_nats(rolls.rates, rolls) / 2


def test_the_command_trains_scores_and_prints(tmp_path):
    data = write(tmp_path / "rolls")
    result = worldmodel("bench", "music", "--data", data, "--quick", "--json", "--seed", 3)
    assert result.returncode == 0, result.stderr
    figures = json.loads(result.stdout)
    assert figures["set"] == "JSB"
    assert figures["seed"] == 3
    assert figures["frames"] == {split: sum(lengths) for split, lengths in LENGTHS.items()}
    assert [row["model"] for row in figures["rows"]] == list(RECIPES)
    for row in figures["rows"]:
        assert row["test_nats"] == max(row["by_bound"].values())
        assert list(row["by_bound"]) == (["exact"] if "rnn" in row["model"][:3] else list(BOUNDS))
        assert row["train_seconds"] > 0
        assert row["processor_seconds"] > 0
    published = [row.name for row in PUBLISHED if "JSB" in row.nats]
    assert [row["model"] for row in figures["published"]] == published

    again = worldmodel(
        "bench", "music", "--data", data, "--quick", "--seed", 3, "--models", "vrnn-fivo"
    )
    assert f"{figures['rows'][4]['test_nats']:.3f}" in again.stdout  # a row does not need others
    assert "RNN-NADE (2012) *" in again.stdout
    assert "learning vrnn-fivo" in again.stderr


def test_the_command_says_what_is_wrong(tmp_path):
    missing = worldmodel("bench", "music", "--data", tmp_path)
    assert_refused(missing, "JSB_Chorales.npz", "--data")
    (tmp_path / "Nottingham.npz").write_bytes(b"damaged")
    refused = worldmodel("bench", "music", "--set", "Nottingham", "--data", tmp_path)
    assert_refused(refused, "Nottingham.npz cannot be read")
    assert_refused(worldmodel("bench", "music", "--models", "transformer"), "vrnn-fivo")


def test_the_command_offers_every_recipe_and_every_set():
    hints = get_type_hints(BenchMusic)
    assert get_args(get_args(hints["models"])[0]) == BenchMusic.models == tuple(RECIPES)
    assert get_args(hints["set"]) == tuple(FILES)


@pytest.mark.parametrize("name", FILES)
def test_the_published_marginals_are_those_of_the_data(name):
    if not (DATA / FILES[name]).exists():
        pytest.skip(f"there is no {FILES[name]} in {BenchMusic.data}")
    splits = read(DATA, name)
    found = marginal_nats(splits["train"].rates, splits["test"])
    assert found == pytest.approx(PUBLISHED[0].nats[name], abs=0.005)
