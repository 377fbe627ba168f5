"""Laws of runs of a VAE: they learn, stop and go on, and show what they have made."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from torch.optim.swa_utils import AveragedModel

from worldmodel import (
    autoencoder_for,
    decode_images,
    encode_images,
    experiments,
    nested,
)
from worldmodel.experiments.cli.main import main
from worldmodel.experiments.images.config import (
    ImagesConfig,
    VAEConfig,
    VAELearningConfig,
    VAEModelConfig,
)
from worldmodel.experiments.images.experiment import training
from worldmodel.experiments.images.grids import grid
from worldmodel.experiments.images.training import (
    as_batch,
    finish,
    grids,
    load,
    train_autoencoder,
    training_on,
)
from worldmodel.experiments.runs.interruption import Interrupted
from worldmodel.experiments.runs.registry import new_run
from worldmodel.learner import follow
from worldmodel.progress import Reporter
from worldmodel.trainer import fetched

MODEL = VAEModelConfig(vae_latent=3, vae_hidden=8, vae_width=2)
LEARNING = VAELearningConfig(updates=8, batch_size=6)


def bars(number=40, shape=(9, 8, 1)):
    """Images of one bright column each."""
    random = np.random.default_rng(0)
    images = np.zeros((number, *shape), np.uint8)
    images[np.arange(number), :, random.integers(shape[1], size=number)] = 250
    return images


@pytest.fixture
def folder(tmp_path):
    """A folder of images."""
    (tmp_path / "images").mkdir()
    np.save(tmp_path / "images" / "a.npy", bars())
    return tmp_path / "images"


def config_of(folder, **learning):
    return VAEConfig(
        ImagesConfig(str(folder), super_batch=20),
        replace(MODEL, vae_likelihood="bernoulli"),
        replace(LEARNING, **learning),
        threads=1,
    )


def test_a_run_learns_shows_and_is_loaded(folder, tmp_path, capsys):
    run = tmp_path / "run"
    config = [
        "--vae-latent",
        "3",
        "--vae-hidden",
        "8",
        "--vae-width",
        "2",
        "--updates",
        "5",
        "--batch-size",
        "6",
        "--threads",
        "1",
    ]
    main(["train", "vae", "--images", str(folder), "--out", str(run), *config])
    said = capsys.readouterr().err
    assert "40 images; 9 x 8 images are padded with black to 16 x 16" in said
    for name in ("reconstructions", "samples", "traversals"):
        assert f"{name}.png" in said
        with Image.open(run / f"{name}.png") as picture:
            assert min(picture.size) > 100
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [line["unit"] for line in lines] == [1, 2, 3, 4, 5]
    assert all(line["kl_weight"] == 1 for line in lines)
    loaded = experiments.load(run)
    codes = encode_images(loaded.model, torch.from_numpy(bars(4)))
    assert codes.shape == (4, 3)
    assert decode_images(loaded.model, codes).shape == (4, 9, 8, 1)
    assert not any(p.requires_grad for p in loaded.model.parameters())


@pytest.mark.parametrize("objective", ["elbo", "iwae"])
def test_an_interrupted_run_goes_on_to_the_last_bit(folder, tmp_path, objective):
    weights = []
    for name, stops in (("whole", ()), ("pieces", (3, 4))):
        run = new_run(tmp_path / name, config_of(folder, objective=objective, num_particles=2))
        for stop in stops:
            running = training(run, Reporter())
            running.restore()
            with pytest.raises(Interrupted):
                running.run(lambda job, stop=stop: job.done == stop)
        running = training(run, Reporter())
        running.restore()
        running.run()
        weights.append(load(run).model.state_dict())
        assert len(list(run.metrics())) == 8
    nested.map(lambda a, b: torch.testing.assert_close(a, b, rtol=0, atol=0), *map(dict, weights))


def test_minutes_become_updates_that_a_checkpoint_keeps(folder, tmp_path):
    run = new_run(tmp_path / "run", config_of(folder, minutes=0.01))
    running = training(run, Reporter())
    running.restore()
    planned = running.job.stages[0].units
    with pytest.raises(Interrupted):
        running.run(lambda job: True)
    again = training(run, Reporter())
    again.restore()
    assert again.job.stages[0].units == planned > 0
    rates = [job.learner.trainer.learning_rate(planned) for job in (running.job, again.job)]
    assert rates == [pytest.approx(LEARNING.learning_rate / 50)] * 2


def test_training_is_the_same_whatever_was_timed(monkeypatch):
    """The same weights, batches and draws after as many updates."""
    weights = []
    for minutes in (0.0, 1.0):
        images = bars(60, (8, 8, 1))
        learning = replace(LEARNING, updates=4, minutes=minutes)
        model = replace(MODEL, vae_likelihood="bernoulli")
        job = training_on(images, model, learning, 3)
        job.extend()
        if minutes:
            assert job.stages[0].units > 4
            job._segments[:] = [(0, 4)]
            job.stages = [job.stages[0]._replace(units=4)]
        job.run()
        weights.append(dict(job.model.state_dict()))
    nested.map(lambda a, b: torch.testing.assert_close(a, b, rtol=0, atol=0), *weights)


def test_a_vae_learns_images_that_memory_holds():
    model = replace(MODEL, vae_likelihood="mse", vae_latent=4, vae_hidden=32, vae_width=8)
    learning = replace(LEARNING, batch_size=20, learning_rate=0.005, ema_decay=0.9)
    images = bars(60, (8, 8, 1))
    trained = train_autoencoder(images, 300, model, learning)
    seen = torch.from_numpy(images)
    error = (decode_images(trained, encode_images(trained, seen)).double() - seen).abs().mean()
    plain = (seen.double() - seen.double().mean(0)).abs().mean()
    assert error < 0.3 * plain


def test_the_average_of_weights_forgets_where_it_began():
    model = torch.nn.Linear(1, 1).requires_grad_(False)
    average = AveragedModel(model)
    weight = average.module.weight
    for number, value in enumerate([100.0, *[1.0] * 39]):
        model.weight.fill_(value)
        follow(average, model, number, 0.998)
    assert weight.item() == pytest.approx(1.0, abs=0.01)
    assert average.n_averaged == 40
    before = weight.item()
    model.weight.fill_(3.0)
    follow(average, model, 1000, 0.5)
    assert weight.item() == pytest.approx((before + 3) / 2)


def test_the_weight_of_the_divergence_is_that_of_the_loss():
    """reconstruction + weight x KL; metrics do not contain it."""
    (loss, metrics), (_, same) = (
        first_loss(replace(LEARNING, kl_weight=weight)) for weight in (9 * 8 / 3, 0.0)
    )
    assert metrics == pytest.approx(same)
    expected = metrics["observation_nats"] + 9 * 8 / 3 * metrics["kl_nats"]
    assert loss.item() == pytest.approx(expected, rel=1e-5)


def first_loss(learning):
    job = training_on(bars(), MODEL, learning, 0)
    with job.noise():
        loss, figures, _ = job.learner.trainer.objective(as_batch(next(job.batches)), (), 0)
        metrics = fetched(figures)
    return loss, metrics


def test_the_weight_of_the_divergence_runs_in_cycles(folder, tmp_path):
    run = new_run(tmp_path / "run", config_of(folder, kl_weight=2.0, kl_cycle=2, kl_delay=1))
    running = training(run, Reporter())
    running.restore()
    running.run()
    assert [line["kl_weight"] for line in run.metrics()] == [0, 0, 1, 2, 2, 0, 1, 2]


def test_grids_show_images_beside_what_their_codes_stand_for():
    torch.manual_seed(0)
    model = autoencoder_for((8, 9, 3), "mse", 12, hidden=8, width=2)
    images = torch.randint(256, (23, 8, 9, 3), dtype=torch.uint8)
    shown = grids(model, images)
    assert {name: tuple(part.shape[:2]) for name, part in shown.items()} == {
        "reconstructions": (4, 10),  # two rows of images, whole ones
        "samples": (10, 10),
        "traversals": (10, 10),
    }
    assert torch.equal(shown["reconstructions"][2], images[10:20])
    decoded = decode_images(model, encode_images(model, images[10:20]))
    assert torch.equal(shown["reconstructions"][3], decoded)
    pixels = grid(shown["samples"])
    assert pixels.dtype == np.uint8
    assert np.array_equal(pixels[:7, :7], np.broadcast_to(pixels[0, 0], (7, 7, 3)))  # enlarged


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"objective": "iwae", "kl_weight": 2.0}, "--objective iwae has no KL divergence"),
        ({"kl_delay": 3}, "give --kl-cycle"),
        ({"kl_warmup": 3, "kl_cycle": 2}, "give one"),
        ({"ema_decay": 1.0}, "--ema-decay must be"),
        ({"kl_weight": -1.0}, "--kl-weight must be 0 or more"),
    ],
)
def test_what_makes_no_sense_is_refused(config, words):
    with pytest.raises(ValueError, match=words):
        VAELearningConfig(**config)


def test_a_missing_folder_gets_one_sentence(tmp_path, capsys):
    with pytest.raises(SystemExit) as end:
        main(["train", "vae", "--images", str(tmp_path / "no"), "--out", str(tmp_path / "run")])
    assert end.value.code == 2
    assert "there is neither a file nor a folder" in capsys.readouterr().err


def test_pictures_can_be_written_again(folder, tmp_path):
    run = new_run(tmp_path / "run", config_of(folder))
    running = training(run, Reporter())
    running.restore()
    running.run()
    finish(run, Reporter())
    before = (run.path / "samples.png").read_bytes()
    finish(run, Reporter())
    assert (run.path / "samples.png").read_bytes() == before
