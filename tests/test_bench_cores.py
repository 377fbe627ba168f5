"""Laws of the bench of cores: the obvious loop computes the same numbers."""

import json

import pytest
import torch
from cores import fed

from worldmodel import CORES, ELBO
from worldmodel.experiments.bench import cores as bench, dreamer as whole
from worldmodel.experiments.bench.cores import arithmetic, bench_model, bench_rows, fastest
from worldmodel.experiments.bench.dreamer import Dreamer, bench_dreamer
from worldmodel.experiments.cli.main import main
from worldmodel.experiments.runs.processor import PRODUCTS, products
from worldmodel.testing.exact import ObviousELBO


@pytest.mark.parametrize("name", CORES)
def test_the_obvious_loop_computes_the_same_loss_and_gradient(name):
    torch.manual_seed(0)
    model = bench_model(name, hidden=8, latent=3).double()
    batch = bench_rows(time=7, batch_size=4, dtype=torch.float64)
    noise = list(torch.randn(7, 4, 3).double())
    queue = iter(noise)
    wanted = list(model.parameters())
    found = []
    for objective, rows in (
        (ELBO(model), [batch]),
        (ObviousELBO(model, lambda like: next(queue)), batch),
    ):
        with fed(noise):
            loss, metrics, _ = objective(rows, (), 0)
        assert metrics["nats"] == loss.item()
        gradients = torch.autograd.grad(loss, wanted, allow_unused=True, materialize_grads=True)
        found.append((loss, *gradients))
    torch.testing.assert_close(found[0], found[1], rtol=0, atol=1e-10)


def test_arithmetic_is_that_of_the_products():
    x, weight = torch.randn(3, 5), torch.randn(7, 5)
    assert arithmetic(lambda: torch.nn.functional.linear(x, weight)) == 2 * 3 * 5 * 7


def test_the_kind_of_products_ends_with_its_block():
    before = torch.get_float32_matmul_precision()
    x = torch.randn(64, 64)
    found = []
    for kind in PRODUCTS:
        with products(kind):
            found.append(x @ x)
    assert torch.get_float32_matmul_precision() == before
    torch.testing.assert_close(found[0], found[1], rtol=0.02, atol=0.5)
    assert fastest(lambda: x @ x)[1] in PRODUCTS


@pytest.fixture
def hasty(monkeypatch):
    """Sizes with which a bench takes seconds."""
    monkeypatch.setattr(bench, "LEAST", 0.0)
    monkeypatch.setattr(bench, "LARGE", ((8, 8, 8),))
    monkeypatch.setattr(bench, "SIZES", {8: 3, 64: 4})
    monkeypatch.setattr(bench, "DREAMS", (1, 2))
    monkeypatch.setattr(bench, "GROWTH", {"time": (2,), "hidden": (8,)})
    monkeypatch.setattr(bench, "TIME", 3)
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


def test_a_bench_of_cores_has_a_row_for_everything(hasty, capsys):
    main(["bench", "cores", "--core", "srnn", "--json", "--threads", "1"])
    result = json.loads(capsys.readouterr().out)
    assert [row["hidden"] for row in result["learning"]] == [8, 64]
    assert [row["batch"] for row in result["dreaming"]] == [1, 2] * 2
    grown = [(row["what"], row["value"]) for row in result["growth"]]
    assert grown == [("time", 2), ("hidden", 8), *(("particles", k) for k in bench.PARTICLES)]
    best = max(row["gflops"] for row in result["products"])
    assert result["best_gflops"] == pytest.approx(best)
    for row in result["learning"]:
        assert row["frames_per_second"] == pytest.approx(48 * row["updates_per_second"])
        ratio = row["updates_per_second"] / row["obvious_updates_per_second"]
        assert row["ratio"] == pytest.approx(ratio)
        assert row["fraction"] == pytest.approx(row["gflop"] * row["updates_per_second"] / best)
    assert bench.tables(result)


def test_bad_options_of_the_bench_are_said(capsys):
    with pytest.raises(SystemExit):
        main(["bench", "cores", "--threads", "0"])
    assert "--threads must be between 1 and 1,024" in capsys.readouterr().err


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_a_device_that_is_not_there_is_said(capsys):
    with pytest.raises(SystemExit, match="2"):
        main(["bench", "cores", "--device", "cuda"])
    assert "finds no cuda here" in capsys.readouterr().err


def test_a_preset_learns_and_dreams(hasty, monkeypatch):
    monkeypatch.setattr("worldmodel.experiments.bench.dreamer.LENGTH", 3)
    monkeypatch.setattr("worldmodel.experiments.bench.dreamer.HORIZON", 2)
    for name, size in whole.SIZES.items():
        monkeypatch.setitem(whole.SIZES, name, size._replace(hidden=16, units=8))
        result = bench_dreamer(name)
        assert result["updates_per_second"] > 0
        assert result["kernels"] > 1000
    assert whole.tables(result)
    torch.manual_seed(0)
    dreamer, batch = Dreamer(), bench_rows(3, 16)
    metrics = dreamer.update(batch)
    assert {"nats", "critic_loss", "entropy"} <= metrics.keys()
    begin = dreamer.start(batch)
    model = dreamer.model
    with torch.no_grad():
        features = model.core.features(dreamer.explained.states)
        rollout, _ = dreamer.dreams.roll(begin)
    assert torch.equal(begin.thought, features)
    assert begin.thought.shape == (48, model.core.feature_size)
    assert rollout.thought.shape[1] == model.core.feature_size
