"""Laws of gated linear recurrences, which are computed for all rows at once."""

import pytest
import torch
from torch.nn import functional as F

from worldmodel import make_core
from worldmodel.nets import Dropout
from worldmodel.recurrences import GatedLinear, linear

WIDTHS = {"rows one by one": 0, "doubling": 10**9}  # NARROW, by how it is computed then


def plain(kept, written, memory):
    memories = []
    for keep, write in zip(kept, written, strict=True):
        memory = keep * memory + write
        memories.append(memory)
    return torch.stack(memories)


@pytest.mark.parametrize("way", WIDTHS)
@pytest.mark.parametrize("rows", [1, 7, 8])
def test_memories_and_their_gradients_are_those_of_a_loop(way, rows, monkeypatch):
    monkeypatch.setattr(linear, "NARROW", WIDTHS[way])
    torch.manual_seed(0)
    shapes = (rows, 2, 3), (rows, 2, 3), (2, 3)
    given = [torch.rand(shape).double().requires_grad_() for shape in shapes]
    weight = torch.randn(rows, 2, 3).double()
    results = []
    for compute in (linear.over_time, plain):
        memories = compute(*given)
        gradients = torch.autograd.grad((weight * memories.square()).sum(), given)
        results.append([memories, *gradients])
    torch.testing.assert_close(results[0], results[1], rtol=0, atol=1e-12)


@pytest.mark.parametrize("way", WIDTHS)
def test_long_memories_are_exact_in_single_precision(way, monkeypatch):
    """What is kept for thousands of rows, and what is dropped at once, side by side: a scan by
    sums of logarithms would overflow."""
    monkeypatch.setattr(linear, "NARROW", WIDTHS[way])
    torch.manual_seed(0)
    kept = (30 * torch.randn(3000, 1, 8)).sigmoid()  # from 1e-45 to 1
    written = (1 - kept) * torch.randn(3000, 1, 8)
    before = torch.randn(1, 8)
    found = linear.over_time(kept, written, before)
    expected = plain(kept.double(), written.double(), before.double())
    torch.testing.assert_close(found.double(), expected, rtol=0, atol=1e-5)


def test_a_layer_is_its_equations():
    torch.manual_seed(0)
    made = GatedLinear(3, 4).double()
    inputs, state = torch.randn(2, 3).double(), torch.randn(2, 20).double()
    layer, latest = made.layers[0], state.split(4, -1)[2:]
    x = inputs @ made.from_input.T + made.input_bias
    rows = [F.layer_norm(x, (4,)), *latest]
    u = sum(weight * row for weight, row in zip(layer.mix, rows, strict=True))
    v, f, o = (u @ layer.into.weight.T + layer.into.bias).split(4, -1)
    memory = f.sigmoid() * state[:, 4:8] + (1 - f.sigmoid()) * v
    x = x + (o * o.sigmoid() * memory) @ layer.out.weight.T
    p, q = (F.layer_norm(x, (4,)) @ layer.mlp_into.weight.T).split(8, -1)
    x = x + (p * p.sigmoid() * q) @ layer.mlp_out.weight.T
    expected = torch.cat([F.layer_norm(x, (4,)), memory, *rows[:3]], -1)
    torch.testing.assert_close(made.step(inputs, state), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("core", ["rnn", "srnn", "independent"])
def test_dropout_is_within_and_leaves_out_the_same_units_in_all_rows(core):
    made = make_core(core, 3, 2, hidden=64, recurrence="gated-linear", layers=2, dropout=0.5)
    rates = [module.p for module in made.modules() if isinstance(module, Dropout)]
    assert rates == [0.5, 0.5]
    torch.manual_seed(0)
    recurrence = made.recurrence.train()
    layer, ones = recurrence.layers[0], torch.ones(5, 3, 64)
    left = layer._dropped(ones) == 0
    assert (left == left[0]).all()
    assert left.any()
    assert not left.all()
    assert not torch.equal(left[0, 0], left[0, 1])  # each sequence has its own
    recurrence.eval()
    assert torch.equal(layer._dropped(ones), ones)
