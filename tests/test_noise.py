"""Laws of noise of one's own, on the CPU and, by a stand-in for its generator, on CUDA."""

import pytest
import torch

from worldmodel import noise
from worldmodel.noise import OwnNoise


def drawn(own, number=3):
    with own():
        return torch.rand(number).tolist()


def fail_after_a_draw():
    torch.rand(3)
    raise ValueError("fails")


def test_what_is_drawn_depends_on_the_seed_and_on_what_was_drawn_before():
    own, other = OwnNoise(7), OwnNoise(7)
    first = drawn(own)
    torch.rand(5)
    assert drawn(own) != first
    assert drawn(other) == first
    assert drawn(OwnNoise(8)) != first
    other.state = own.state
    assert drawn(other) == drawn(own)


def test_the_global_generator_is_left_as_it_was_even_by_an_error():
    before = torch.get_rng_state()
    with pytest.raises(ValueError, match="fails"), OwnNoise(1)():
        fail_after_a_draw()
    assert torch.equal(torch.get_rng_state(), before)


@pytest.fixture
def device(monkeypatch):
    """The global generator of a CUDA device, that a CPU's stands in for."""
    generator = torch.Generator().manual_seed(99)

    def fresh(device, seed):
        return torch.Generator().manual_seed(seed + 1000 * (device != "cpu")).get_state()

    monkeypatch.setattr(noise, "fresh_state", fresh)
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "get_rng_state", lambda _: generator.get_state())
    monkeypatch.setattr(torch.cuda, "set_rng_state", lambda state, _: generator.set_state(state))
    return generator


def test_where_cuda_is_in_use_its_generator_is_swapped_as_well(device):
    own = OwnNoise(7)  # made before CUDA was in use: it has the CPU's state alone
    before = device.get_state()
    found = []
    for _ in range(2):
        with own():
            found.append(torch.rand(3, generator=device))
        assert torch.equal(device.get_state(), before)
    expected = torch.rand(6, generator=torch.Generator().manual_seed(1007))
    assert torch.equal(torch.cat(found), expected)
    assert len(own.state) == 2


def test_a_state_from_a_machine_with_cuda_goes_on_without_it(device, monkeypatch):
    own = OwnNoise(7)
    drawn(own)
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: False)
    other = OwnNoise(7)
    drawn(other)
    assert drawn(own) == drawn(other)
    assert len(own.state) == 2
