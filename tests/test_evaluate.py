"""Laws of what `evaluate` reports."""

import math

import pytest
import torch
from worldmodel.experiments.rl.toy_game_evaluation import score


def test_a_score_counts_the_counted_rows():
    torch.manual_seed(0)
    model = torch.randn(5, 4).double()
    exact = model + 0.25
    counted = torch.arange(5)[:, None] < torch.tensor([5, 3, 1, 4])
    model[~counted] = torch.nan
    found = score(model, exact, counted)
    steps = counted.sum().item()
    assert found.nats == pytest.approx(-model[counted].sum().item() / steps)
    assert found.gap == pytest.approx(0.25)
    assert found.gap_error == pytest.approx(0.0, abs=1e-12)
    assert found.exact_nats == pytest.approx(found.nats - 0.25)
    episodes = torch.tensor([-model[:n, b].sum() for b, n in enumerate((5, 3, 1, 4))])
    assert found.episode_nats == pytest.approx(episodes.mean().item())
    assert found.episode_nats_error == pytest.approx(episodes.std().item() / 2)
    assert found.figures()["bits_per_step"] == pytest.approx(found.nats / math.log(2))


def test_the_standard_error_of_a_score_is_that_of_repeated_scores():
    torch.manual_seed(0)
    counted = torch.arange(6)[:, None] < torch.randint(1, 7, (2000, 50))[:, None]
    nats = torch.randn(2000, 6, 50).double() + 1.0 * torch.randn(2000, 1, 50).double()
    found = [score(x, x - 1, c) for x, c in zip(nats, counted, strict=True)]
    means = torch.tensor([value.nats for value in found])
    errors = torch.tensor([value.nats_error for value in found])
    assert errors.mean().item() == pytest.approx(means.std().item(), rel=0.1)
