"""Directed exploration: networks that disagree about what has not been met."""

import itertools
import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from worldmodel import BeliefAgent, Sequences, Trainer, ranks
from worldmodel.objectives import Figures

MEMBERS = 6
HIDDEN = 64
RATE = 1e-3
DECAY = 0.99  # of the ordinary disagreement, an update
MOST = 10.0  # ordinary disagreements, that a penalty counts


class Ensemble(nn.Module):
    """Small networks side by side, each of which predicts the encoding of the next percept from a
    thought and an action: thought [N, F], action [N, A] -> [members, N, E].

    They begin with different weights, so they differ where nothing has been met that would make
    them agree. Means are what they predict: noise, which no network foresees, makes no difference
    (Pathak et al. 2019, https://arxiv.org/abs/1906.04161; in dreams Sekar et al. 2020,
    https://arxiv.org/abs/2005.05960).
    """

    ordinary: Tensor

    def __init__(
        self,
        thought_size: int,
        action_size: int,
        encoding_size: int,
        members: int = MEMBERS,
        hidden: int = HIDDEN,
    ):
        super().__init__()
        sizes = [thought_size + action_size, hidden, hidden, encoding_size]
        self.weights = nn.ParameterList(
            torch.randn(members, before, after) * math.sqrt(2 / before)
            for before, after in itertools.pairwise(sizes)
        )
        self.biases = nn.ParameterList(torch.zeros(members, 1, after) for after in sizes[1:])
        self.register_buffer("ordinary", torch.zeros(2))  # disagreement, decaying; its weight

    def forward(self, thought: Tensor, action: Tensor) -> Tensor:
        x = torch.cat([thought, action], -1).expand(len(self.weights[0]), -1, -1)
        for number, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            x = torch.baddbmm(bias, F.silu(x) if number else x, weight)
        return x

    def disagreement(self, thought: Tensor, action: Tensor) -> Tensor:
        """The standard deviation among the predictions, [*] for thoughts [*, F]."""
        shape = thought.shape[:-1]
        means = self(thought.flatten(0, -2), action.flatten(0, -2))
        return means.var(0, unbiased=False).mean(-1).sqrt().reshape(shape)


class Curiosity:
    """The learning of an ensemble, beside the model whose thoughts it reads."""

    def __init__(self, ensemble: Ensemble, unit: float, pessimism: float = 0.0):
        """unit: of rewards; pessimism: units that an ordinary disagreement costs."""
        self.ensemble = ensemble
        self.unit = unit
        self.pessimism = pessimism
        self.trainer = Trainer(self, ensemble.parameters(), RATE)

    def initial_state(self) -> tuple[()]:
        return ()

    def __call__(
        self, batch: tuple[Tensor, Tensor, Tensor], state: Any, step: int
    ) -> tuple[Tensor, Figures, Any]:
        """The squared error of each member on rows of its own, a random half of all."""
        thought, action, encoding = batch
        errors = (self.ensemble(thought, action) - encoding).square().mean(-1)  # [members, N]
        own = torch.rand_like(errors) < 0.5
        return (errors * own).sum() / own.sum().clamp(min=1), {}, state

    def update(self, agent: BeliefAgent, batch: Iterable[Sequences]) -> None:
        """Takes one step on windows of recorded rows."""
        rows = _steps(agent, ranks.own_blocks(list(batch)))
        self.trainer.update(rows)
        with torch.no_grad():
            found = ranks.gathered(self.ensemble.disagreement(*rows[:2])).mean()
            latest = torch.stack([found, torch.ones_like(found)])
            self.ensemble.ordinary.lerp_(latest, 1 - DECAY)

    def bonus(self, thought: Tensor, action: Tensor) -> Tensor:
        """The reward for what is not known, [*], of actions [*, A] after thoughts [*, F]: a unit
        where the disagreement is what it is on recorded rows, growing with its logarithm: under a
        ceiling all that is new would be alike."""
        return self.unit * (1 + self._ratio(thought, action)).log2()

    def penalty(self, thought: Tensor, action: Tensor) -> Tensor:
        """The loss of reward for what is not known, [*]: `pessimism` units for each ordinary
        disagreement beyond the first (Yu et al. 2020, https://arxiv.org/abs/2005.13239)."""
        beyond = (self._ratio(thought, action) - 1).clamp(0, MOST)
        return -self.pessimism * self.unit * beyond

    def _ratio(self, thought: Tensor, action: Tensor) -> Tensor:
        """The disagreement, relative to what it is on recorded rows."""
        total, weight = self.ensemble.ordinary
        return self.ensemble.disagreement(thought, action) * weight / total


@torch.no_grad()
def _steps(agent: BeliefAgent, batch: Iterable[Sequences]) -> tuple[Tensor, Tensor, Tensor]:
    """The steps within windows: the thought before each, [N, F], its action, and the encoding of
    the percept that it led to."""
    found: list[tuple[Tensor, Tensor, Tensor]] = []
    for block in batch:
        states = agent.model.states(block)
        thoughts, encodings = agent.thought(states), states.history[..., -1, :]
        there = block.mask[1:].flatten().nonzero()[:, 0].to(thoughts.device)
        actions = block.rows.action[1:].to(thoughts.device)
        parts = (thoughts[:-1], actions, encodings[1:])
        found.append(tuple(part.flatten(0, 1)[there] for part in parts))  # type: ignore[arg-type]
    thought, action, encoding = (torch.cat(parts) for parts in zip(*found, strict=True))
    return thought, action, encoding
