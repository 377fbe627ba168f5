"""Sets of true values: first their number is drawn, then which."""

import torch
from torch import Tensor, distributions as td
from torch.nn import functional as F

from worldmodel.distributions.discrete import log_softmax

SAFE = 7.0  # nats: exp(7 * 88) is half of float64's range, in logarithms
NEVER = -1e300  # log of 0, with finite gradients


class Subset(td.Distribution):
    """A number of true values, and scores of which; value: bool (or 0 and 1) [*, n].

        p(v) = p(k) exp(sum of the scores of true values) / e_k,   k = how many are true,

    where e_k, the elementary symmetric polynomial of exp(scores), sums over all choices of k: the
    conditional Bernoulli distribution (Chen & Liu 1997,
    https://www3.stat.sinica.edu.tw/statistica/j7n4/j7n44/j7n44.htm), exact by its recursion.
    With the numbers that independent truth values would have it is those.
    """

    arg_constraints = {}  # noqa: RUF012 (nothing is validated here)

    has_rsample = False

    def __init__(self, counts: Tensor, scores: Tensor):
        """counts: logits [*, n + 1] of how many are true; scores [*, n], nats. Within `SAFE` of
        zero no product of their exponentials leaves what float64 holds; larger ones cost more."""
        self.counts = log_softmax(counts)
        self.scores = scores
        super().__init__(scores.shape[:-1], scores.shape[-1:], validate_args=False)

    @property
    def log_ways(self) -> Tensor:
        """log e_k of every k, [*, n + 1]."""
        return self._log_sums(self.scores.shape[-1])[-1].to(self.scores)

    @property
    def mode(self) -> Tensor:
        with torch.no_grad():
            order = self.scores.argsort(-1, descending=True)
            best = F.pad(self.scores.gather(-1, order).cumsum(-1), (1, 0))  # of k, [*, n + 1]
            count = (self.counts + best - self.log_ways).argmax(-1, keepdim=True)
            return order.argsort(-1) < count

    def sample(self, sample_shape: torch.Size = torch.Size()) -> Tensor:
        """Draws values from the last to the first, given how many are still to come."""
        with torch.no_grad():
            shape = torch.Size(sample_shape)
            left = td.Categorical(logits=self.counts, validate_args=False).sample(shape)[..., None]
            sums = self._log_sums(int(left.max()))  # of the first i scores, [*, k + 1] each
            chosen = []
            for i in range(self.scores.shape[-1], 0, -1):
                whole, without = (s.expand(*shape, *s.shape) for s in (sums[i], sums[i - 1]))
                spared = (without.gather(-1, left) - whole.gather(-1, left)).exp()
                taken = torch.rand_like(spared) >= spared
                chosen.append(taken & (left > 0))
                left = left - chosen[-1].long()
            return torch.cat(chosen[::-1], -1)

    def log_prob(self, value: Tensor) -> Tensor:
        value = value.to(self.scores.dtype)
        count = value.sum(-1, keepdim=True).long()  # [*, 1]
        ways = self._log_sums(int(count.max()))[-1].to(self.scores)
        shape = torch.broadcast_shapes(value.shape, self.scores.shape)[:-1]
        count = count.expand(*shape, 1)
        parts = (x.expand(*shape, -1).gather(-1, count)[..., 0] for x in (self.counts, ways))
        number, possible = parts
        return number + (value * self.scores).sum(-1) - possible

    def _log_sums(self, most: int) -> list[Tensor]:
        """log e_0 to e_most of the first 0, 1, ..., n scores, float64 [*, most + 1] each."""
        scores = self.scores.double()
        none = F.pad(torch.zeros_like(scores[..., :1]), (0, most), value=NEVER)
        if not scores.numel() or scores.abs().max() <= SAFE:
            return [each.log() for each in _sums(scores.exp(), none.exp())]
        found = [none]
        for score in scores.split(1, -1):
            longer = score + F.pad(found[-1][..., :-1], (1, 0), value=NEVER)
            found.append(torch.logaddexp(found[-1], longer))
        return found


def _sums(weights: Tensor, none: Tensor) -> list[Tensor]:
    """e_0 to e_most of the first 0, 1, ..., n weights; `none`: those of no weights."""
    found = [none]
    for weight in weights.split(1, -1):
        found.append(found[-1] + weight * F.pad(found[-1][..., :-1], (1, 0)))
    return found
