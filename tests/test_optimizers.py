import copy
import math

import pytest
import torch
from torch import nn

from worldmodel.optimizers import SMALLEST, LaProp, clip_adaptively
from worldmodel.schedules import constant, warmed_up
from worldmodel.trainer import Trainer


def by_hand(weights, gradients, rate, first, second, epsilon, decay):
    """The equations of LaProp, number by number."""
    weights, n, m = list(weights), [0.0] * len(weights), [0.0] * len(weights)
    for t, gradient in enumerate(gradients, 1):
        for i, g in enumerate(gradient):
            n[i] = second * n[i] + (1 - second) * g**2
            root = math.sqrt(n[i] / (1 - second**t)) + epsilon
            m[i] = first * m[i] + (1 - first) * g / root
            weights[i] -= rate * (m[i] / (1 - first**t) + decay * weights[i])
    return weights


@pytest.mark.parametrize("decay", [0.0, 0.3])
def test_laprop_takes_the_steps_of_its_equations(decay):
    generator = torch.Generator().manual_seed(0)
    gradients = torch.randn(7, 3, generator=generator).double() * torch.tensor([1e-6, 1, 1e6])
    gradients[2, 0] = 0.0
    weights = nn.Parameter(torch.tensor([1.0, -2.0, 0.5]).double())
    optimizer = LaProp([weights], lr=0.1, weight_decay=decay)
    for gradient in gradients:
        weights.grad = gradient.clone()
        optimizer.step()
    expected = by_hand([1.0, -2.0, 0.5], gradients.tolist(), 0.1, 0.9, 0.99, 1e-20, decay)
    assert weights.tolist() == pytest.approx(expected, rel=1e-12)


def test_laprop_goes_on_from_its_saved_state_to_the_last_bit():
    def made():
        weights = nn.Parameter(torch.ones(4))
        return weights, LaProp([weights], lr=0.01)

    def step(weights, optimizer, number):
        weights.grad = torch.sin(number + torch.arange(4.0))
        optimizer.step()

    weights, optimizer = made()
    for number in range(3):
        step(weights, optimizer, number)
    others, again = made()
    others.data.copy_(weights.data)
    again.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    for number in range(3, 6):
        step(weights, optimizer, number)
        step(others, again, number)
    assert torch.equal(weights, others)


def test_a_gradient_is_clipped_to_a_share_of_its_weights():
    large, small, new = (nn.Parameter(torch.full((4,), value)) for value in (5.0, 1.0, 0.0))
    large.grad, small.grad, new.grad = (torch.full((4,), 2.0) for _ in range(3))
    norm = clip_adaptively([large, small, new, nn.Parameter(torch.ones(1))], 0.5)
    assert norm.item() == pytest.approx(math.sqrt(3 * 16))
    assert torch.equal(large.grad, torch.full((4,), 2.0))  # 4 of at most 5
    assert small.grad.norm().item() == pytest.approx(0.5 * 2.0)
    assert new.grad.norm().item() == pytest.approx(0.5 * SMALLEST)


class Square:
    """The objective |w|^2 / 2, whose gradient is w."""

    def __init__(self, weights):
        self.weights = weights

    def initial_state(self):
        return ()

    def __call__(self, batch, state, step):
        return self.weights.square().sum() / 2, {}, state


def test_a_trainer_clips_adaptively_and_warms_up():
    weights = nn.Parameter(torch.tensor([3.0, 4.0]))
    rate = warmed_up(constant(0.5), 2)
    trainer = Trainer(
        Square(weights), [weights], rate, optimizer="laprop", adaptive_clip=0.1, clip_norm=1e-9
    )
    assert trainer.update()["gradient_norm"] == 5.0
    assert weights.tolist() == [3.0, 4.0]  # the rate began at zero
    trainer.update()
    assert weights.tolist() == pytest.approx([2.75, 3.75])  # half of 0.5, times sign(g)
    assert weights.grad.norm().item() == pytest.approx(0.5)


def test_a_gradient_that_is_not_finite_moves_nothing():
    weights = nn.Parameter(torch.tensor([torch.inf]))
    trainer = Trainer(Square(weights), [weights], optimizer="laprop", adaptive_clip=0.1)
    with pytest.raises(FloatingPointError, match="not finite"):
        trainer.update()
    assert weights.tolist() == [torch.inf]


def test_moments_begin_anew_where_an_earlier_version_had_fewer_parameters():
    """And all else goes on: the count of updates, and the options."""
    weights, more = nn.Parameter(torch.tensor([3.0, 4.0])), nn.Parameter(torch.zeros(1))
    old = Trainer(Square(weights), [weights], 0.5, optimizer="laprop")
    old.decay_by(0.25)
    old.update()
    trainer = Trainer(Square(weights), [weights, more], 0.5, optimizer="laprop")
    trainer.load_state_dict(old.state_dict())
    assert trainer.updates == 1
    assert trainer.optimizer.param_groups[0]["weight_decay"] == 0.25
    assert not trainer.optimizer.state
    before = weights.detach().clone()
    trainer.update()
    taken = 0.5 * (before.sign() + 0.25 * before)  # the first step of LaProp is the sign
    assert weights.tolist() == pytest.approx((before - taken).tolist())
