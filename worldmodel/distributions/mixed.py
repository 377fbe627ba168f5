"""Numbers some values of which recur exactly: a mass for each of these, a density for others; and
numbers in groups that lie far apart."""

import torch
from torch import Tensor, distributions as td
from torch.nn import functional as F

from worldmodel.distributions.discrete import Categorical, FiniteSupport, log_softmax


class Mixed(td.Distribution):
    """P(atom k) where the value is one of the `atoms`, P(other) p(value) elsewhere; value: float
    [*].

    What is clipped, counted or switched does not move like other numbers: a Gaussian over it is
    either far too wide or, of a value that never came before, a thousand nats too narrow. The
    probability is one with respect to the atoms' counting measure and the Lebesgue measure side by
    side; a density gives exact repetitions probability zero, so that both never compete.
    """

    arg_constraints = {}  # noqa: RUF012 (nothing is validated here)
    has_rsample = True

    def __init__(self, logits: Tensor, atoms: Tensor, density: td.Distribution, others: Tensor):
        """logits: [*, A + 1], of the atoms and, last, of all other numbers; atoms: [*, A] or what
        broadcasts to it, NaN where there is none; density: of the others, batch shape [*];
        others: bool, whether any other number was ever met, [*] or what broadcasts to it."""
        self.logits = log_softmax(logits)
        self.atoms = atoms
        self.density = density
        self.others = others
        super().__init__(logits.shape[:-1], validate_args=False)

    @property
    def few(self) -> bool:
        """True if all numbers that were met are atoms."""
        return not self.others.any()

    @property
    def probs(self) -> Tensor:
        """The probabilities of the atoms and, last, of all other numbers, [*, A + 1]."""
        return self.logits.exp()

    @property
    def mean(self) -> Tensor:
        masses = self.probs[..., :-1] * self.atoms.nan_to_num().to(self.probs)
        return masses.sum(-1) + self.probs[..., -1] * self.density.mean

    @property
    def mode(self) -> Tensor:
        """The most probable atom, or other number if one of these is likelier to come."""
        return self._values(self.logits.argmax(-1), self.density.mode)

    def sample(self, sample_shape: torch.Size = torch.Size()) -> Tensor:
        with torch.no_grad():
            return self.rsample(sample_shape)

    def rsample(self, sample_shape: torch.Size = torch.Size()) -> Tensor:
        """Draws; those that are no atoms have the density's gradient, atoms have none."""
        which = Categorical(self.logits).sample(sample_shape)
        return self._values(which, self.density.rsample(sample_shape))

    def log_prob(self, value: Tensor) -> Tensor:
        hits = value[..., None].float() == self.atoms.float()  # [*, A]
        is_atom = hits.any(-1)
        which = torch.where(is_atom, hits.long().argmax(-1), hits.shape[-1])
        shape = torch.broadcast_shapes(which.shape, self.logits.shape[:-1])
        which = which.expand(shape)[..., None]
        masses = self.logits.expand(*shape, -1).gather(-1, which)[..., 0]
        others = self.density.log_prob(value)
        return masses + torch.where(is_atom, 0.0, others)

    def _values(self, which: Tensor, others: Tensor) -> Tensor:
        """The values of places [*] among atoms and others."""
        atoms = F.pad(self.atoms.nan_to_num().to(others), (0, 1))
        atoms = atoms.expand(*which.shape, -1).gather(-1, which[..., None])[..., 0]
        return torch.where(which == self.logits.shape[-1] - 1, others, atoms)


class Grouped(td.Distribution):
    """P(group k) p_k(value), summed over groups; value: float [*].

    A prize among costs is far from all that came before, where a density with one mean learns to
    be wide and not to be elsewhere. Which group comes is learned as a class is.
    """

    arg_constraints = {}  # noqa: RUF012 (nothing is validated here)
    has_rsample = True

    def __init__(self, logits: Tensor, parts: td.Distribution):
        """logits: [*, G], of the groups; parts: their densities, batch shape [*, G]."""
        self.logits = log_softmax(logits)
        self.parts = parts
        super().__init__(logits.shape[:-1], validate_args=False)

    @property
    def mean(self) -> Tensor:
        return (self.logits.exp() * self.parts.mean).sum(-1)

    @property
    def mode(self) -> Tensor:
        """The mode of the most probable group."""
        return self._chosen(self.parts.mode, self.logits.argmax(-1))

    @property
    def variance(self) -> Tensor:
        spread = self.parts.variance + (self.parts.mean - self.mean[..., None]).square()
        return (self.logits.exp() * spread).sum(-1)

    def sample(self, sample_shape: torch.Size = torch.Size()) -> Tensor:
        with torch.no_grad():
            return self.rsample(sample_shape)

    def rsample(self, sample_shape: torch.Size = torch.Size()) -> Tensor:
        """Draws, with the gradient of the group's density. That of the mean in the probabilities
        of groups, straight through, explodes in dreams, which go on from what was drawn."""
        which = Categorical(self.logits).sample(sample_shape)
        return self._chosen(self.parts.rsample(sample_shape), which)

    def log_prob(self, value: Tensor) -> Tensor:
        return (self.logits + self.parts.log_prob(value[..., None])).logsumexp(-1)

    @staticmethod
    def _chosen(values: Tensor, which: Tensor) -> Tensor:
        values = values.expand(*which.shape, values.shape[-1])
        return values.gather(-1, which[..., None])[..., 0]


def masses_of(distribution: td.Distribution) -> tuple[Tensor, Tensor] | None:
    """The values [V] that numbers take and the probability of each, [*, V]; None where others
    come, which have a density."""
    if isinstance(distribution, FiniteSupport):
        return distribution.support_values, distribution.probs
    if isinstance(distribution, Mixed) and distribution.few and distribution.atoms.dim() == 1:
        there = ~distribution.atoms.isnan()
        return distribution.atoms[there], distribution.probs[..., :-1][..., there]
    return None


def points_of(distribution: td.Distribution) -> tuple[Tensor, Tensor]:
    """Values that stand for all numbers [*] of a distribution, and the probability of each, [n, *]
    both: those that recur, and the means of densities."""
    if isinstance(distribution, FiniteSupport):
        probs = distribution.probs
        values = distribution.support_values.expand(probs.shape)
    elif isinstance(distribution, Mixed):
        known = ~distribution.atoms.isnan()
        there = known.reshape(-1, known.shape[-1]).any(0)  # in any number
        atoms = distribution.atoms[..., there].nan_to_num().to(distribution.density.mean)
        atoms = atoms.expand(*distribution.batch_shape, -1)
        values = torch.cat([atoms, distribution.density.mean[..., None]], -1)
        probs = distribution.probs[..., torch.cat([there, there.new_ones(1)])]
    elif isinstance(distribution, Grouped):
        values, probs = distribution.parts.mean, distribution.logits.exp()
    else:
        values = distribution.mean[..., None]
        probs = torch.ones_like(values)
    return values.movedim(-1, 0), probs.movedim(-1, 0)
