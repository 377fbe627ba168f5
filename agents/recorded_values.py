"""Values of recorded rows: a critic that learns from real returns, which go on with dreamt ones.

The returns of recorded rows are lambda returns whose values are those of dreams that begin there
(Hafner et al. 2023, https://arxiv.org/abs/2301.04104): real as far as the window reaches, and of
the present policy after it.
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor

from worldmodel import Row, nested, ranks
from worldmodel.agents.critics import estimate
from worldmodel.agents.imagination import Recorded
from worldmodel.agents.policy_gradient import PolicyGradient, Rollout, lambda_returns, split
from worldmodel.objectives import Figures


class Examples(NamedTuple):
    """A rollout, and examples of recorded rows for the critic."""

    rollout: Rollout
    thought: Tensor  # [M, F]
    returns: Tensor  # [M]


class RecordedValues:
    """A policy gradient whose critic learns from recorded rows besides."""

    def __init__(self, objective: PolicyGradient, weight: float, lambda_: float):
        """weight: of the critic's loss there; lambda_: of the returns there."""
        if objective.critic is None:
            raise ValueError(
                "--recorded-values are a critic's, and this method has none: leave them out, or "
                "take --method actor-critic"
            )
        self.objective = objective
        self.weight = weight
        self.lambda_ = lambda_

    def initial_state(self) -> Any:
        return self.objective.initial_state()

    def examples(self, rollout: Rollout, recorded: list[Recorded]) -> Examples:
        """The rollout of dreams that begin with the rows of all windows, in their order, with
        examples of these rows."""
        numbers = [int(part.begun.sum()) for part in recorded]
        first = rollout.returns.detach()[: sum(numbers)].split(numbers)
        pairs = [
            recorded_returns(part, values, self.objective.discount, self.lambda_)
            for part, values in zip(recorded, first, strict=True)
        ]
        thoughts, returns = zip(*pairs, strict=True)
        return Examples(rollout, torch.cat(thoughts), torch.cat(returns))

    def parts(self, examples: Examples, number: int) -> list[Examples]:
        """The rollout in so many minibatches, with as many examples each."""
        rollouts = self.objective.parts(examples.rollout, number)
        recorded = split((examples.thought, examples.returns), number)
        return [
            Examples(rollout, *of_rows)
            for rollout, of_rows in zip(rollouts, recorded, strict=True)
        ]

    def __call__(self, batch: Examples, state: Any, step: int) -> tuple[Tensor, Figures, Any]:
        loss, metrics, state = self.objective(batch.rollout, state, step)
        if not ranks.any_of(len(batch.returns)):  # windows of one row have none
            return loss, metrics, state
        critic: Any = self.objective.critic
        losses = estimate(critic, batch.thought).loss(batch.returns)
        recorded = ranks.mean(losses, len(batch.rollout.returns))
        metrics |= {"recorded_critic_loss": recorded.detach()}
        return loss + self.weight * recorded, metrics, state


def recorded_returns(
    recorded: Recorded, values: Tensor, discount: float, lambda_: float
) -> tuple[Tensor, Tensor]:
    """Thoughts after recorded rows [M, F], and the returns of what was done then [M].

    values: of the rows that a dream begins with, in order of time [N].
    """
    rows, mask, scored = recorded.sequences
    begun = recorded.begun.flatten().nonzero()[:, 0].to(values.device)
    after = values.new_zeros(mask.numel()).index_put((begun,), values).reshape(mask.shape)
    bounded = Row(rows.first | ~mask, *rows[1:])  # behind a window values stand for the rest
    returns = lambda_returns(nested.to(bounded, values.device), after, discount, lambda_)
    known = (scored[:-1] & mask[1:]).flatten().nonzero()[:, 0].to(values.device)
    return recorded.thought[:-1].flatten(0, 1)[known], returns[1:].flatten()[known]
