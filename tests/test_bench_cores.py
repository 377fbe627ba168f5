"""Laws of the bench of cores: the obvious loop computes the same numbers."""

import pytest
import torch
from cores import fed

from experiments.bench.cores import bench_model, bench_rows
from experiments.bench.obvious import ObviousELBO
from worldmodel import CORES, ELBO


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
        assert metrics["elbo_nats"] == -loss.item()
        gradients = torch.autograd.grad(loss, wanted, allow_unused=True, materialize_grads=True)
        found.append((loss, *gradients))
    torch.testing.assert_close(found[0], found[1], rtol=0, atol=1e-10)
