"""Laws of the importance-weighting experiment: its arms are what they are called."""

import json
import math

import pytest
import torch
from command_line import assert_refused, worldmodel
from cores import LATENT, fed, make_model, noise_for, padded, random_rows
from rolls import write

from worldmodel import ELBO, kl_monte_carlo
from worldmodel.experiments.bench.iwae import ARMS, InvertedIWAE, K, plot, summary


def losses(name, sequences, particles, noise):
    """The loss of each of K draws by itself: minus its log w, a row."""
    model = make_model(name, silent=True)
    found = []
    for k in range(particles):
        with fed([row.unflatten(0, (particles, -1))[k] for row in noise]):
            found.append(ELBO(model, kl=kl_monte_carlo)([sequences], (), 0)[0])
    return model, torch.stack(found)


@pytest.mark.parametrize("name", LATENT)
def test_the_inverted_weights_prefer_what_explains_least(name):
    sequences = padded(random_rows(6, 1), [6])
    noise = noise_for(make_model(name, silent=True), 6, 1, 3)
    model, by_draw = losses(name, sequences, 3, noise)
    with fed(noise):
        loss, metrics, _ = InvertedIWAE(model, 3)([sequences], (), 0)
    weights = by_draw.softmax(0)  # by_draw is minus log w, averaged over time
    assert loss.item() == pytest.approx((weights * by_draw).sum().item(), abs=1e-12)
    assert loss > by_draw.mean()
    share = 1 / (3 * weights.square().sum())
    assert metrics["effective_particles"] == pytest.approx(share.item(), abs=1e-12)


def test_equal_computation_is_five_draws_a_recording_or_five_recordings():
    model = make_model("vrnn", silent=True)
    draws = {name: arm.objective(model).particles * arm.batches for name, arm in ARMS.items()}
    assert draws.pop("VAE") == 1
    assert set(draws.values()) == {K}


def test_a_summary_is_a_mean_with_its_standard_error():
    found = summary([{"by_bound": {"elbo": value}} for value in (-1.0, -2.0, -6.0)])
    assert found["elbo"] == pytest.approx((-3.0, math.sqrt(7 / 3)))


def test_the_command_runs_every_arm_and_draws_it(tmp_path):
    pytest.importorskip("matplotlib")
    data, picture = write(tmp_path / "rolls"), tmp_path / "iwae.png"
    command = ["bench", "iwae", "--data", data, "--quick", "--seeds", 2]
    result = worldmodel(*command, "--plot", picture, "--json")
    assert result.returncode == 0, result.stderr
    figures = json.loads(result.stdout)
    assert [(row["seed"], row["arm"]) for row in figures["rows"]] == [
        (seed, arm) for seed in (0, 1) for arm in ARMS
    ]
    first = [row["by_bound"]["iwae"] for row in figures["rows"][: len(ARMS)]]
    assert len(set(first)) == len(ARMS)  # no two arms learn the same
    assert picture.read_bytes()[:4] == b"\x89PNG"
    plot(figures, tmp_path / "again.svg")
    drawn = (tmp_path / "again.svg").read_text()
    assert all(name in drawn for name in ARMS)


def test_the_table_names_every_arm(tmp_path):
    data = write(tmp_path / "rolls")
    result = worldmodel("bench", "iwae", "--data", data, "--quick", "--seeds", 2)
    assert result.returncode == 0, result.stderr
    assert all(name in result.stdout for name in ARMS)


def test_the_command_says_what_is_wrong_before_it_begins(tmp_path, monkeypatch):
    assert_refused(worldmodel("bench", "iwae", "--data", tmp_path), "JSB_Chorales.npz", "--data")
    assert_refused(worldmodel("bench", "iwae", "--seeds", 1), "--seeds must be 2 or more")
    monkeypatch.setattr("worldmodel.experiments.runs.pictures.find_spec", lambda name: name)
    refused = worldmodel("bench", "iwae", "--plot", tmp_path / "iwae.txt")
    assert_refused(refused, ".png", "iwae.txt")
    assert_refused(worldmodel("bench", "iwae", "--plot", tmp_path / "no" / "x.png"), "folder")
    monkeypatch.setattr("worldmodel.experiments.runs.pictures.find_spec", lambda name: None)
    refused = worldmodel("bench", "iwae", "--plot", tmp_path / "iwae.png")
    assert_refused(refused, "worldmodel-gym[plots]")
