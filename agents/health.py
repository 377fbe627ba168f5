"""The rewards and ends that a training has met so far, how often its dreams leave the range of
these and of what was seen, and a line on how it stands."""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from torch import Tensor

from worldmodel import Agent, Dream, DreamState, Environment, Episodes, ModelState, Row

ENOUGH = 10  # rows for each term of a regression
EXPLAINED = 1e-3  # of the spread of rewards, that may be left of them, or lie above doing nothing
MANY = 16  # numbers of an action, beyond which their costs are not looked at


class Met(NamedTuple):
    """The rewards and ends that were met so far."""

    least: float = math.inf  # reward
    greatest: float = -math.inf
    as_great: int = 0  # rewards
    rewards: int = 0
    terminations: int = 0
    squares: float = 0.0  # of rewards, their sum
    products: Sequence[Sequence[float]] = ()  # sums by which rewards are regressed on actions

    def and_those_of(self, episodes: Episodes) -> "Met":
        """Those met so far, and those of some more episodes."""
        rewards, ends = episodes.rewards, episodes.columns["terminated"]
        greatest = max(self.greatest, float(rewards.max(initial=-math.inf)))
        before = self.as_great if greatest == self.greatest else 0
        return Met(
            min(self.least, float(rewards.min(initial=math.inf))),
            greatest,
            before + int((rewards == greatest).sum()),
            self.rewards + len(rewards),
            self.terminations + int(ends.sum()),
            self.squares + float(np.square(rewards, dtype=float).sum()),
            self._products(episodes),
        )

    @property
    def unit(self) -> float:
        """The root of the mean square of rewards."""
        return math.sqrt(self.squares / max(1, self.rewards))

    def _products(self, episodes: Episodes) -> Sequence[Sequence[float]]:
        actions = episodes.columns["action"]
        if self.terminations or (self.rewards and not len(self.products)):
            return ()  # there is more to tell good from bad, or there are no numbers
        if not (isinstance(actions, np.ndarray) and np.issubdtype(actions.dtype, np.floating)):
            return ()
        numbers = np.delete(actions, episodes.starts, 0).reshape(len(episodes.rewards), -1)
        if numbers.shape[1] > MANY:
            return ()
        ones = np.ones((len(numbers), 1))
        terms = [
            ones,
            numbers,
            numbers.astype(float) ** 2,
            abs(numbers),
            episodes.rewards[:, None],
        ]
        table = np.concatenate(terms, 1, dtype=float)
        products = table.T @ table
        return (np.add(self.products, products) if len(self.products) else products).tolist()

    @property
    def only_costs(self) -> bool:
        """True if rewards are what actions in numbers cost and nothing else, so that the best one
        is had for doing nothing: a sum of their squares and absolute values explains them."""
        if not len(self.products):
            return False
        products = np.array(self.products)
        rows, total = products[0, 0], products[0, -1]
        spread = products[-1, -1] - total**2 / rows
        if rows < ENOUGH * len(products) or spread <= 0:
            return False
        of_terms, with_rewards = products[:-1, :-1], products[:-1, -1]
        weights = np.linalg.lstsq(of_terms, with_rewards, rcond=None)[0]
        left = products[-1, -1] - with_rewards @ weights
        idle = weights[0] + EXPLAINED * (self.greatest - self.least)
        return bool(left < EXPLAINED * spread and self.greatest <= idle)

    @property
    def has_no_goal(self) -> bool:
        """True while there is nothing to seek: all rewards are the same, and zero or without an
        end; or there are no ends, and the greatest reward is the ordinary one, or that of doing
        nothing."""
        if self.least == self.greatest and self.least == 0:
            return True
        is_ordinary = 2 * self.as_great > self.rewards
        return not self.terminations and (is_ordinary or self.only_costs)

    def __str__(self) -> str:
        ends = "" if self.terminations else " and no episode ended by itself"
        if self.only_costs:
            return f"rewards were nothing but the costs of actions{ends}"
        which = "every reward was" if self.least == self.greatest else "most rewards and the best"
        return f"{which} {self.greatest:g}{ends}"


class WatchedDream(Environment):
    """A dream that counts its steps, and those that show what was never met: a reward or an
    observed number out of the range of what was recorded."""

    def __init__(self, dream: Dream):
        self.dream = dream
        self.observation_space, self.action_space = dream.observation_space, dream.action_space
        self.steps = self.beyond = 0

    def initial_state(self, batch_size: int) -> DreamState:
        return self.dream.initial_state(batch_size)

    def step(self, action: Tensor, state: DreamState) -> tuple[Row, DreamState]:
        row, state = self.dream.step(action, state)
        is_out = self.dream.model.percepts.unmet(row, self.dream.draw_observations) & ~row.first
        self.steps += int((~row.first).sum())
        self.beyond += int(is_out.sum())
        return row, state

    def observe(self, row: Row, state: DreamState) -> DreamState:
        return self.dream.observe(row, state)

    def shared(self, state: DreamState, agent: Agent) -> ModelState | None:
        return self.dream.shared(state, agent)

    @property
    def share(self) -> float:
        """The share of the steps that show what was never met."""
        return self.beyond / max(1, self.steps)


def health(number: int, met: Met, figures: Mapping[str, float]) -> str:
    """A line on what a round has come to. figures: the latest ones, by name."""
    parts = ["nothing to seek yet" if met.has_no_goal else "there is something to seek"]
    if "new_nats" in figures:
        parts.append(
            f"new episodes cost {figures['new_nats']:.2f} nats a step, "
            f"those learned from {figures['nats']:.2f}"
        )
    elif "nats" in figures:
        parts.append(f"episodes cost {figures['nats']:.2f} nats a step")
    if "entropy" in figures:
        parts.append(f"entropy {figures['entropy']:.2f}")
    if "dream_return" in figures:
        parts.append(
            f"dreamt return {figures['dream_return']:,.4g} in {figures['dream_length']:,.0f} "
            f"steps, real one {figures['real_return']:,.4g}"
        )
    if "dream_beyond" in figures:
        parts.append(f"{figures['dream_beyond']:.1%} of dreamt steps beyond what was met")
    return f"round {number + 1}: " + "; ".join(parts)
