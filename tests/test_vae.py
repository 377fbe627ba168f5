"""Laws of runs of a VAE: they learn, stop and go on, and show what they have made."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from worldmodel import (
    as_recordings,
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
from worldmodel.experiments.images.grids import grid
from worldmodel.experiments.images.training import (
    Learner,
    Training,
    finish,
    grids,
    load,
    model_of,
    rising_average,
    train_autoencoder,
)
from worldmodel.experiments.runs.interruption import Interrupted
from worldmodel.experiments.runs.registry import new_run
from worldmodel.progress import Reporter

MODEL = VAEModelConfig(latent=3, hidden=8, width=2)
LEARNING = VAELearningConfig(updates=8, batch=6)


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
        replace(MODEL, likelihood="bernoulli"),
        replace(LEARNING, **learning),
        threads=1,
    )


def test_a_run_learns_shows_and_is_loaded(folder, tmp_path, capsys):
    run = tmp_path / "run"
    told = [
        "--latent",
        "3",
        "--hidden",
        "8",
        "--width",
        "2",
        "--updates",
        "5",
        "--batch",
        "6",
        "--threads",
        "1",
    ]
    main(["train", "vae", "--images", str(folder), "--out", str(run), *told])
    said = capsys.readouterr().err
    assert "40 images; 9 x 8 images are padded with black to 16 x 16" in said
    for name in ("reconstructions", "samples", "traversals"):
        assert f"{name}.png" in said
        with Image.open(run / f"{name}.png") as picture:
            assert min(picture.size) > 100
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [line["unit"] for line in lines] == [1, 2, 3, 4, 5]
    assert all(line["beta"] == 1 for line in lines)
    loaded = experiments.load(run)
    codes = encode_images(loaded.model, torch.from_numpy(bars(4)))
    assert codes.shape == (4, 3)
    assert decode_images(loaded.model, codes).shape == (4, 9, 8, 1)
    assert not any(p.requires_grad for p in loaded.model.parameters())


@pytest.mark.parametrize("bound", ["elbo", "iwae"])
def test_an_interrupted_run_goes_on_to_the_last_bit(folder, tmp_path, bound):
    weights = []
    for name, stops in (("whole", ()), ("pieces", (3, 4))):
        run = new_run(tmp_path / name, config_of(folder, bound=bound, particles=2))
        for stop in stops:
            training = Training(run, Reporter())
            training.restore()
            with pytest.raises(Interrupted):
                training.run(lambda running, stop=stop: running.done == stop)
        training = Training(run, Reporter())
        training.restore()
        training.run()
        weights.append(load(run).model.state_dict())
        assert len(list(run.metrics())) == 8
    nested.map(lambda a, b: torch.testing.assert_close(a, b, rtol=0, atol=0), *map(dict, weights))


def test_minutes_become_updates_that_a_checkpoint_keeps(folder, tmp_path):
    run = new_run(tmp_path / "run", config_of(folder, minutes=0.01))
    training = Training(run, Reporter())
    training.restore()
    planned = training.stages[0].units
    assert planned == training.learner.updates > 0
    with pytest.raises(Interrupted):
        training.run(lambda running: True)
    again = Training(run, Reporter())
    again.restore()
    assert again.stages[0].units == again.learner.updates == planned


def test_training_begins_with_the_same_weights_whatever_was_timed(folder, tmp_path):
    weights = []
    for name, minutes in (("updates", 0.0), ("minutes", 0.01)):
        run = new_run(tmp_path / name, config_of(folder, minutes=minutes))
        weights.append(dict(Training(run, Reporter()).learner.model.state_dict()))
    nested.map(lambda a, b: torch.testing.assert_close(a, b, rtol=0, atol=0), *weights)


def test_a_vae_learns_images_that_memory_holds():
    torch.manual_seed(0)
    model = replace(MODEL, likelihood="mse", latent=4, hidden=32, width=8)
    learning = replace(LEARNING, batch=20, learning_rate=0.005, averaging=0.9)
    images = bars(60, (8, 8, 1))
    trained = train_autoencoder(images, 300, model, learning)
    seen = torch.from_numpy(images)
    error = (decode_images(trained, encode_images(trained, seen)).double() - seen).abs().mean()
    plain = (seen.double() - seen.double().mean(0)).abs().mean()
    assert error < 0.3 * plain


def test_the_average_of_weights_forgets_where_it_began():
    averaged, number = [torch.tensor([100.0])], 0
    for number in range(1, 40):
        rising_average(0.998)(averaged, [torch.tensor([1.0])], torch.tensor(number))
    assert averaged[0].item() == pytest.approx(1.0, abs=0.01)
    before = averaged[0].item()
    rising_average(0.5)(averaged, [torch.tensor([3.0])], torch.tensor(1000))
    assert averaged[0].item() == pytest.approx((before + 3) / 2)


def test_scaled_losses_are_divided_each_by_its_size():
    """reconstruction / pixel values + beta KL / size of the code, gradients included."""
    images = torch.from_numpy(bars(5))
    told = replace(LEARNING, beta=0.5, scale_losses=True)
    learner = Learner(model_of((9, 8, 1), MODEL), told, 8)
    plain = Learner(model_of((9, 8, 1), MODEL), replace(LEARNING, beta=0.0), 8)
    plain.model.load_state_dict(learner.model.state_dict())
    found = []
    for one in (learner, plain):
        torch.manual_seed(0)
        loss, metrics, _ = one.trainer.objective([as_recordings(images)], (), 0)
        found.append((loss, metrics))
    (loss, metrics), (_, same) = found
    assert metrics == pytest.approx(same)
    expected = metrics["observation_nats"] / (9 * 8) + 0.5 * metrics["kl_nats"] / 3
    assert loss.item() == pytest.approx(expected, rel=1e-5)


def test_beta_runs_in_cycles(folder, tmp_path):
    told = {"beta": 2.0, "half_beta_cycle": 2, "batch_freeze": 1}
    run = new_run(tmp_path / "run", config_of(folder, **told))
    training = Training(run, Reporter())
    training.restore()
    training.run()
    assert [line["beta"] for line in run.metrics()] == [0, 0, 1, 2, 2, 0, 1, 2]


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
    ("told", "words"),
    [
        ({"bound": "iwae", "beta": 2.0}, "--bound iwae has no KL divergence to weigh"),
        ({"batch_freeze": 3}, "give --half-beta-cycle"),
        ({"averaging": 1.0}, "--averaging must be"),
        ({"beta": -1.0}, "--beta must be 0 or more"),
    ],
)
def test_what_makes_no_sense_is_refused(told, words):
    with pytest.raises(ValueError, match=words):
        VAELearningConfig(**told)


def test_a_missing_folder_gets_one_sentence(tmp_path, capsys):
    with pytest.raises(SystemExit) as end:
        main(["train", "vae", "--images", str(tmp_path / "no"), "--out", str(tmp_path / "run")])
    assert end.value.code == 2
    assert "there is neither a file nor a folder" in capsys.readouterr().err


def test_pictures_can_be_written_again(folder, tmp_path):
    run = new_run(tmp_path / "run", config_of(folder))
    training = Training(run, Reporter())
    training.restore()
    training.run()
    finish(run, Reporter())
    before = (run.path / "samples.png").read_bytes()
    finish(run, Reporter())
    assert (run.path / "samples.png").read_bytes() == before
