"""Laws of heads: their outputs are distributions, normalised and sampled as scored."""

import copy
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from worldmodel import nested
from worldmodel.codecs import DistModule, Prediction
from worldmodel.testing.law import SIGMAS, Laws, close, demand, finite, unreached

DRAWS = 20_000


@dataclass(frozen=True, eq=False)
class HeadCase:
    """A head to be checked, and points on which its probabilities add up."""

    head: DistModule
    """A head of features [*, input_size], in float64, no parameter zero (see `excite`)."""
    points: Any
    """Leaves [N, ...]: every value, or the middles of cells that fill its support."""
    volume: float | Tensor = 1.0
    """Volume of a cell, or of each [N]; 1 of a value that has a mass."""
    atol: float = 1e-6
    """Tolerance of a sum over cells against the integral."""
    input_size: int = 4
    """Size F of the features."""
    is_greedy: bool = False
    """Its mode is one part after another, each given those before: not the most probable."""
    name: str = ""

    def __str__(self) -> str:
        return self.name or type(self.head).__name__

    def copied(self) -> DistModule:
        """The head, to be changed."""
        return copy.deepcopy(self.head)

    def features(self, *leading: int) -> Tensor:
        """Random features [*leading, F], the same at every call."""
        torch.manual_seed(0)
        return torch.randn(*leading, self.input_size).double()

    def table(self, distribution: Any) -> Tensor:
        """The probability of every point under a distribution with batch shape [], [N]."""
        return distribution.log_prob(self.points).exp() * self.volume


HEAD_LAWS = Laws()
"""Laws of heads."""


def numbers(value: Any, dimensions: int) -> Tensor:
    """The leaves of values with so many leading dimensions, side by side, float [*, D]."""
    parts = [leaf.double().reshape(*leaf.shape[:dimensions], -1) for leaf in nested.leaves(value)]
    return torch.cat(parts, -1)


def statistics(value: Any, dimensions: int) -> Tensor:
    """The numbers of values and all their products, [*, D + D * D]."""
    x = numbers(value, dimensions)
    return torch.cat([x, (x[..., :, None] * x[..., None, :]).flatten(-2)], -1)


@HEAD_LAWS.add()
def heads_are_normalised(case: HeadCase) -> None:
    """The probabilities of all values add up to one, for any features (and the points that
    the law is given leave out none that matters)."""
    head = case.copied()
    for features in case.features(3):
        total = float(case.table(head(features)).sum())
        demand(abs(total - 1) <= case.atol, f"the probabilities of all points add up to {total}")


@HEAD_LAWS.add()
def heads_draw_what_they_score(case: HeadCase) -> None:
    """The mean of every number and of every product of two, within 4 standard errors."""
    distribution = case.copied()(case.features())
    found = statistics(distribution.sample((DRAWS,)), 1)
    expected = case.table(distribution) @ statistics(case.points, 1)
    error = found.std(0) / DRAWS**0.5
    off = (found.mean(0) - expected).abs()
    worst = int((off - SIGMAS * error).argmax())
    demand(
        (off <= SIGMAS * error + 1e-12).all(),
        f"moment {worst} of draws is {float(found.mean(0)[worst]):.5f}, that of the probabilities "
        f"{float(expected[worst]):.5f}, with a standard error of {float(error[worst]):.5f}",
    )
    demand(found.std(0).max() > 0.1, "draws hardly vary: nothing is told")


@HEAD_LAWS.add()
def the_mean_is_that_of_the_probabilities(case: HeadCase) -> None:
    """The mean is that of the probabilities, or a distribution raises NotImplementedError."""
    distribution = case.copied()(case.features())
    try:
        mean = distribution.mean
    except NotImplementedError:
        return
    expected = case.table(distribution) @ numbers(case.points, 1)
    close(numbers(mean, 0), expected, "the mean", 10 * case.atol)


@HEAD_LAWS.add(concerns=lambda case: not case.is_greedy)
def nothing_is_more_probable_than_the_mode(case: HeadCase) -> None:
    """The mode is the most probable value, or a distribution raises NotImplementedError."""
    distribution = case.copied()(case.features())
    try:
        mode = distribution.mode
    except NotImplementedError:
        return
    best = distribution.log_prob(case.points).max()
    excess = float(distribution.log_prob(mode) - best)
    demand(  # a grid comes near it
        -1e-12 <= excess <= 0.05,
        f"the mode is {excess:.4f} nats more probable than the most probable point",
    )


@HEAD_LAWS.add([{"leading": ()}, {"leading": (5,)}, {"leading": (2, 3, 5)}])
def placeholders_are_in_the_support_of_its_head(case: HeadCase, leading: tuple[int, ...]) -> None:
    """`placeholder` and draws have finite log probabilities of the batch shape, and the same
    shapes."""
    head = case.copied()
    distribution = head(case.features(*leading))
    demand(distribution.batch_shape == leading, f"a batch shape of {distribution.batch_shape}")
    void = nested.map(lambda leaf: leaf.expand((*leading, *leaf.shape)), head.placeholder)
    for what, value in (("void", void), ("a draw", distribution.sample())):
        log_prob = distribution.log_prob(value)
        demand(log_prob.shape == leading, f"log p of {what} has shape {tuple(log_prob.shape)}")
        finite(log_prob, f"the log probability of {what}")
    shapes = [leaf.shape for leaf in nested.leaves(void)]
    drawn = [leaf.shape for leaf in nested.leaves(distribution.sample())]
    demand(drawn == shapes, f"draws of shapes {drawn}, void of {shapes}")
    more = [leaf.shape for leaf in nested.leaves(distribution.sample((7,)))]
    expected = [(7, *shape) for shape in shapes]
    demand(more == expected, f"seven draws of shapes {more}, expected {expected}")


@HEAD_LAWS.add()
def heads_broadcast_over_particles(case: HeadCase) -> None:
    """Distributions [T, K, B] score values [T, 1, B]."""
    head, features = case.copied(), case.features(4, 2, 3)
    value = head(features[:, 0]).sample()
    found = head(features).log_prob(nested.map(lambda leaf: leaf[:, None], value))
    demand(found.shape == (4, 2, 3), f"log probabilities of shape {tuple(found.shape)}")
    for k in range(2):
        alone = head(features[:, k]).log_prob(value)
        close(found[:, k], alone, f"log probabilities of particle {k}, beside alone")


@HEAD_LAWS.add()
def a_head_reads_every_row_alone(case: HeadCase) -> None:
    """The log probability of a row depends on its own features, and on no others."""
    head, features = case.copied(), case.features(5).requires_grad_()
    value = head(features).sample()
    for b, log_prob in enumerate(head(features).log_prob(value)):
        gradient = torch.autograd.grad(log_prob, features, retain_graph=True)[0]
        unreached(gradient[torch.arange(5) != b], f"row {b} depends on the features of others")
        demand((gradient[b] != 0).any(), f"row {b} does not depend on its own features")


@HEAD_LAWS.add([{"dtype": torch.float32}, {"dtype": torch.float64}])
def gradients_are_finite_even_for_extreme_features(case: HeadCase, dtype: torch.dtype) -> None:
    """Gradients are finite at features of 1,000, and values drawn from quite other ones."""
    head = case.copied().to(dtype)
    for scale in (1.0, 1e3, -1e3):
        features = (scale * case.features(20)).to(dtype).requires_grad_()
        for value in (head(features).sample(), head(-features).sample()):
            log_prob = head(features).log_prob(value)
            demand(log_prob.dtype == dtype, f"log probabilities of {log_prob.dtype}")
            finite(log_prob, f"log probabilities at features of about {scale:g}")
            wanted = [features, *head.parameters()]
            found = torch.autograd.grad(log_prob.sum(), wanted, allow_unused=True)
            finite(tuple(g for g in found if g is not None), f"gradients at about {scale:g}")


@HEAD_LAWS.add()
def single_precision_gives_the_same(case: HeadCase) -> None:
    """Log probabilities in float32 are those in float64, to a thousandth."""
    head, features = case.copied(), case.features(20)
    value = head(features).sample()
    expected = head(features).log_prob(value)
    single = nested.map(lambda x: x.float() if x.is_floating_point() else x, value)
    found = head.float()(features.float()).log_prob(single).double()
    off = (found - expected).abs() - 1e-3 * expected.abs()
    demand((off <= 1e-4).all(), f"log probabilities differ by {float(off.max()):.3g} and more")


@HEAD_LAWS.add()
def what_a_head_gives_can_be_printed(case: HeadCase) -> None:
    """The printed form holds the name of its class."""
    head = case.copied()
    kind, printed = type(head(case.features(2))).__name__, repr(head(case.features()))
    demand(kind in printed, f"{printed} does not name {kind}")


@HEAD_LAWS.add()
def draws_carry_gradients_where_they_say_so(case: HeadCase) -> None:
    """Draws of `sample` have no gradients; those of `rsample`, if `has_rsample`, finite ones."""
    features = case.features(3).requires_grad_()
    distribution = case.copied()(features)
    recorded = any(leaf.requires_grad for leaf in nested.leaves(distribution.sample()))
    demand(not recorded, "`sample` records a gradient")
    is_chain = isinstance(distribution, Prediction)  # reads no later part
    if distribution.has_rsample and not is_chain:
        leaves = nested.leaves(distribution.rsample())
        drawn = torch.stack([leaf.sum() for leaf in leaves]).sum()
        demand(drawn.requires_grad, "`has_rsample` is true, but `rsample` records no gradient")
        finite(torch.autograd.grad(drawn, features)[0], "the gradient of a draw")
