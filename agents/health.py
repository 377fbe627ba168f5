"""The rewards and ends that a training has met so far, how often its dreams leave the range of
these and of what was seen, and a line on how it stands."""

import math
from collections.abc import Mapping
from typing import NamedTuple

from torch import Tensor

from worldmodel import Agent, Dream, DreamState, Environment, Episodes, ModelState, Row


class Met(NamedTuple):
    """The rewards and ends that were met so far."""

    least: float = math.inf  # reward
    greatest: float = -math.inf
    as_great: int = 0  # rewards
    rewards: int = 0
    terminations: int = 0

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
        )

    @property
    def has_no_goal(self) -> bool:
        """True while there is nothing to seek: all rewards are the same, and zero or without an
        end; or there are no ends, and the greatest reward is the ordinary one."""
        if self.least == self.greatest and self.least == 0:
            return True
        return not self.terminations and 2 * self.as_great > self.rewards

    def __str__(self) -> str:
        which = "every reward was" if self.least == self.greatest else "most rewards and the best"
        ends = "" if self.terminations else " and no episode ended by itself"
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
