"""Planning in the dream: an agent that acts by the best of many imagined plans.

A plan is a sequence of H actions. Some plans are acted out by the policy, in the dream; the others
are drawn from a search distribution, row by row and game by game its own. Each has the score

    sum over t < H of  discount^t reward_t  +  discount^H critic(thought_H)

of one dream, or of the mean of some, with nothing after a dreamt end. The search distribution is
fitted to the best plans, weighted by exp(score / temperature), and others are drawn from it, some
times over: MPPI (Williams et al. 2015, https://arxiv.org/abs/1509.01149), as in TD-MPC2 (Hansen et
al. 2024, https://arxiv.org/abs/2310.16828, sec. 3.2).
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from worldmodel import (
    AgentWrapper,
    BeliefAgent,
    Dream,
    GenCore,
    GenState,
    ModelState,
    Row,
    action_codec,
    nested,
)
from worldmodel.agent import no_action

BEST = 1 / 8  # the share of plans that the search is fitted to
TEMPERATURE = 0.2  # of their scores, in units of the mean distance to the best
KEPT = 0.05  # weight that all plans share alike: no action's probability dies out
FIRST_STD, LEAST_STD = 0.5, 0.05  # of numbers, whose codes lie in [-1, 1]


class PlanState(NamedTuple):
    """The mind of a `Planner`."""

    mind: Any  # of the agent whose thoughts it plans from
    plan: Tensor  # [B, H, A], the mean codes of the actions to come, as far as they are planned


class Planner(AgentWrapper):
    """An agent that plans from what a `BeliefAgent` believes, and acts by a plan's first row.

    Its thought is the search distribution of the next action: the mean of its code, and the
    standard deviation. What is left of a plan is where the next row's search begins.
    """

    agent: BeliefAgent

    def __init__(
        self,
        agent: BeliefAgent,
        dream: Dream,
        critic: nn.Module,
        discount: float = 0.99,
        length: int = 5,
        plans: int = 64,
        iterations: int = 2,
        by_policy: float = 0.25,
        draws: int = 1,
    ):
        """dream: of the agent's model; critic: thought [*, F] -> expected return from there on;
        length: rows of a plan, H; by_policy: the share of plans that the agent's policy acts out;
        draws: dreams of each plan."""
        super().__init__(agent)
        if dream.model is not agent.model or dream.horizon < length:
            raise ValueError(
                f"a planner of {length} rows wants a dream of its agent's own model, and of as "
                f"many rows or more, got {dream.horizon}; make it with Dream(agent.model, "
                f"horizon={length}, ...)"
            )
        self.actions = action_codec(dream.action_space)
        self.dream = dream
        self.core = GenCore(dream, BeliefAgent(agent.model, no_action, agent.reads))
        self.critic = critic
        self.discount = discount
        self.length = length
        self.plans = plans
        self.iterations = iterations
        self.acted_out = round(by_policy * plans)
        self.draws = draws
        self.thought_size = 2 * self.actions.size

    def initial_state(self, batch_size: int) -> PlanState:
        mind = self.agent.initial_state(batch_size)
        return PlanState(mind, self._nothing_planned(mind))

    @torch.no_grad()
    def step(
        self, row: Row, state: PlanState, shared: ModelState | None = None
    ) -> tuple[Tensor, PlanState]:
        thought, mind = self.agent.step(row, state.mind, shared)
        fresh = self._nothing_planned(mind)
        plan = nested.where(row.first.to(fresh.device), fresh, state.plan)
        mean, std = self._search(mind, thought, plan.transpose(0, 1))
        rest = torch.cat([mean[1:].transpose(0, 1), fresh[:, -1:]], 1)
        return torch.cat([mean[0], std[0]], -1), PlanState(mind, rest)

    def policy(self, thought: Tensor) -> Distribution:
        return self.actions.around(*thought.chunk(2, -1))

    def expected_reward(self, row: Row, state: PlanState) -> Tensor:
        return self.agent.expected_reward(row, state.mind)

    def _nothing_planned(self, mind: ModelState) -> Tensor:
        """The mean codes of actions that may be any, [B, H, A]."""
        shape = (len(mind.history), self.length)
        return self.actions.uniform(shape, mind.history.device).mean.to(mind.history)

    def _search(self, mind: ModelState, thought: Tensor, mean: Tensor) -> tuple[Tensor, Tensor]:
        """The mean and standard deviation of the best plans' codes, [H, B, A].

        mean: of the plan that the search begins with, [H, B, A].
        """
        games, searched = len(thought), self.plans - self.acted_out
        shape = (searched // 2, self.length, games)
        anything = self.actions.uniform(shape, mean.device).sample().to(mean)
        near = self.actions.around(mean, torch.full_like(mean, FIRST_STD))
        drawn = torch.cat([near.sample(torch.Size([searched - len(anything)])), anything])
        starts = self.core.start(
            self.dream.start(mind, torch.zeros_like(thought[:, 0], dtype=torch.bool)),
            mind,
            games,
        )._replace(thought=thought)
        starts = nested.repeat(starts, self.draws * self.plans)
        mean, std = self._fit(*self._imagine(starts, drawn.transpose(0, 1)))
        for _ in range(self.iterations - 1):
            drawn = self.actions.around(mean, std).sample(torch.Size([searched]))
            mean, std = self._fit(*self._imagine(starts, drawn.transpose(0, 1)))
        return mean, std

    def _imagine(self, games: GenState, drawn: Tensor) -> tuple[Tensor, Tensor]:
        """All plans [H, N, B, A], and their scores [N, B].

        games: where they begin, [draws * N * B, ...]; drawn: those that the policy does not act
        out, [H, n, B, A].
        """
        batch_size = drawn.shape[2]
        acted_out = self.acted_out * batch_size
        codes = []
        scores = torch.zeros_like(games.thought[:, 0])
        goes_on = torch.ones_like(scores)
        for t, others in enumerate(drawn.flatten(1, 2)):
            by_policy = self.agent.policy(games.thought[:acted_out]).sample()
            codes.append(torch.cat([by_policy, others]))  # [N * B, A]
            action = codes[-1].repeat(self.draws, 1)
            (row, _), games = self.core.step(games._replace(action=action))
            scores = scores + self.discount**t * goes_on * row.reward
            goes_on = goes_on * ~row.terminated
        scores = scores + self.discount**self.length * goes_on * self.critic(games.thought)
        plans = torch.stack(codes).unflatten(1, (self.plans, batch_size))
        return plans, scores.unflatten(0, (self.draws, self.plans, batch_size)).mean(0)

    def _fit(self, plans: Tensor, scores: Tensor) -> tuple[Tensor, Tensor]:
        """The mean and standard deviation [H, B, A] of the best of some plans [H, N, B, A]."""
        best = scores.topk(max(1, round(BEST * self.plans)), 0).values  # [n, B]
        below = scores - best[0]
        unit = (best[0] - best).mean(0).clamp(min=torch.finfo(scores.dtype).tiny)
        chosen = (below / unit / TEMPERATURE).masked_fill(scores < best[-1], -torch.inf)
        weights = torch.softmax(chosen, 0)[..., None]  # [N, B, 1]
        weights = (1 - KEPT) * weights + KEPT / self.plans
        mean = (weights * plans).sum(1)
        variance = (weights * (plans - mean[:, None]).square()).sum(1)
        return mean, variance.sqrt().clamp(min=LEAST_STD)
