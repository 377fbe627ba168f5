"""Laws of the benches of VAEs and of images on disk."""

import json

import numpy as np
import pytest
import torch

from worldmodel import as_recordings, autoencoder_for, log_prob
from worldmodel.experiments.bench import images as images_bench, vae as bench
from worldmodel.experiments.cli.main import main
from worldmodel.progress import Reporter


@pytest.fixture
def digits(tmp_path):
    """A small file with the arrays of MNIST's."""
    random = np.random.default_rng(0)
    arrays = {
        name: random.integers(256, size=(n, 28, 28), dtype=np.uint8)
        for name, n in (("x_train", 300), ("x_test", 20))
    }
    np.savez_compressed(tmp_path / "mnist.npz", **arrays)
    return tmp_path


def test_every_model_is_trained_and_scored_by_every_seed(digits, capsys):
    main(
        [
            "bench",
            "vae",
            "--data",
            str(digits),
            "--seeds",
            "2",
            "--quick",
            "--json",
            "--threads",
            "1",
        ]
    )
    result = json.loads(capsys.readouterr().out)
    runs = [(row["seed"], row["model"]) for row in result["rows"]]
    assert runs == [(seed, model) for seed in (0, 1) for model in bench.RECIPES]
    for row in result["rows"]:
        assert 0 < row["nll"] < 1.5 * 784 * np.log(2)
        assert row["negative_elbo_se"] > 0
        assert row["nll_se"] > 0
    assert len({row["nll"] for row in result["rows"]}) == len(runs)  # no two learn the same


def test_the_table_has_every_model_and_what_was_published(digits, capsys):
    main(["bench", "vae", "--data", str(digits), "--seeds", "1", "--quick", "--threads", "1"])
    shown = capsys.readouterr().out
    for words in ("vae-5", "iwae-5", "86.47", "85.54", "784 pixels"):
        assert words in shown


def test_a_likelihood_in_parts_is_that_of_the_whole():
    torch.manual_seed(0)
    model = autoencoder_for((28, 28, 1), "bernoulli", 2, hidden=4, width=1).double()
    images = torch.rand(2 * bench.TOGETHER + 3, 28, 28, 1) < 0.1
    with Reporter().stage("", len(images), 0, "digits") as stage:
        found = bench.negative_log_likelihood(model, images, 300, stage)
    expected = -log_prob(model, as_recordings(images), 300)["observation"][0]
    torch.testing.assert_close(found, expected, rtol=0.01, atol=0.0)


def test_missing_and_damaged_digits_get_a_sentence(tmp_path, capsys):
    def refused():
        with pytest.raises(SystemExit) as end:
            main(["bench", "vae", "--data", str(tmp_path), "--quick"])
        assert end.value.code == 2
        return capsys.readouterr().err

    assert "--data" in refused()
    np.savez(tmp_path / "mnist.npz", x_train=np.zeros((3, 784), np.uint8), x_test=np.zeros(3))
    assert "mnist.npz expects x_train and x_test" in refused()
    (tmp_path / "mnist.npz").write_bytes(b"nothing of the kind")
    assert "mnist.npz cannot be read" in refused()


def test_images_are_drawn_from_files_that_are_removed_again(tmp_path, capsys):
    config = ["--dir", str(tmp_path), "--gigabytes", "0.01", "--samples", "5000"]
    main(["bench", "images", *config, "--json"])
    result = json.loads(capsys.readouterr().out)
    assert result["files"] == images_bench.FILES
    assert result["bytes"] == pytest.approx(1e7, rel=0.01)
    assert result["images"] == pytest.approx(1e7 / np.prod(images_bench.SHAPE), rel=0.02)
    assert result["resident_bytes"] >= result["resident_before_bytes"] > 2**20
    assert result["samples_per_second"] > 0
    assert result["numpy_samples_per_second"] > 0
    assert not list(tmp_path.iterdir())
    main(["bench", "images", *config])
    assert "numpy's own" in capsys.readouterr().out


def test_a_missing_folder_gets_a_sentence(tmp_path, capsys):
    with pytest.raises(SystemExit):
        main(["bench", "images", "--dir", str(tmp_path / "no")])
    assert "there is no folder" in capsys.readouterr().err
