"""One game with a person at the controls, in the real world or in the dream of it.

There is no user interface in here: faces (a terminal, a window, a browser) press keys and show
moments.
"""

from typing import Literal, NamedTuple, cast

import numpy as np
import torch
from torch import Tensor

from agents import Human
from envs import Action, GymEnvironment
from experiments.toy_game import Parts
from worldmodel import Environment, GenCore, ModelState, Row, WorldModel, nested
from worldmodel.distributions import Categorical, Chain
from worldmodel.noise import OwnNoise

World = Literal["real", "dream"]

PARTICLES = 32  # latents over which the model's expectation is averaged


class Expectation(NamedTuple):
    """What the model expects of the next percept, before it happens."""

    observation: list[float]  # the probability of each value
    reward: float  # the expected one
    terminated: float  # the probability of the end


class Moment(NamedTuple):
    """One row of a game and what the model makes of it, in plain Python."""

    step: int  # 0 on a first row
    action: str  # lower case; empty on a first row
    observation: int
    reward: float
    total: float  # the rewards since the first row
    first: bool
    terminated: bool
    truncated: bool
    predicted: Expectation
    surprise: dict[str, float]  # -log p(percept) by key, nats, each given the keys before it
    ring: list[list[float]]  # [width, classes], the ring that the model now believes in
    position: int  # of the player, 0..width-1

    @property
    def ended(self) -> bool:
        """Whether the next key begins a new game."""
        return self.terminated or self.truncated


class Player:
    """A GenCore with a person at the controls, who presses one key a row.

    Owns its noise: the same seed and the same keys give the same game, and torch's global
    generator is left alone. Looking does not disturb: what the model is asked about each row
    draws from noise of its own. The real game is the one that `ToyGame` gives for the seed.
    """

    def __init__(self, parts: Parts, world: World, seed: int):
        noise, looking = np.random.SeedSequence(seed).generate_state(2)
        self.world = world
        self.environment: Environment = (
            parts.environment(1, seed) if world == "real" else parts.dream()
        )
        self.human = Human(parts.agent, parts.action_space)
        self.core = GenCore(self.environment, self.human)
        self.model = parts.model
        self.view = parts.view()
        self._noise = OwnNoise(int(noise))
        self._looking = OwnNoise(int(looking))
        self._begin()

    def reset(self) -> Moment:
        """Begins a new game; its first row."""
        self._begin()
        return self._step()

    def press(self, action: int | str) -> Moment:
        """One row: what `action` (of `Action`, as a number or a name) leads to.

        After an end, and before anything else, it is the first row of a new game, whatever the
        action.
        """
        self.human.press(Action[action.upper()] if isinstance(action, str) else Action(action))
        return self._step()

    @property
    def truth(self) -> list[int] | None:
        """The ring as it is, which the player does not see; None in a dream, where none is."""
        if not isinstance(self.environment, GymEnvironment):
            return None
        return self.environment.info["ring"][0].tolist()

    def _begin(self) -> None:
        self.state = self.core.initial_state(1)
        self.pictured = self.view.initial_state(1)
        self.step, self.total = 0, 0.0

    @torch.no_grad()
    def _step(self) -> Moment:
        chosen = self.human.policy(self.state.thought).sample()
        before = self.state._replace(action=chosen)
        with self._noise():
            (row, _), self.state = self.core.step(before)
        with self._looking():
            predicted, surprise = expect(self.model, before.mind, before.action, row)
            self.pictured = self.view.step(row, self.pictured)
            ring = self.view.ring(self.pictured)[0]
        first, terminated = bool(row.first), bool(row.terminated)
        self.step = 0 if first else self.step + 1
        self.total = 0.0 if first else self.total + float(row.reward)
        return Moment(
            step=self.step,
            action="" if first else Action(int(self.core.actions.decode(row.action))).name.lower(),
            observation=int(row.observation),
            reward=float(row.reward),
            total=self.total,
            first=first,
            terminated=terminated,
            truncated=bool(self.state.world.ended) and not terminated,
            predicted=predicted,
            surprise=surprise,
            ring=ring.tolist(),
            position=int(self.pictured.position),
        )


def expect(
    model: WorldModel, mind: ModelState, action: Tensor, row: Row
) -> tuple[Expectation, dict[str, float]]:
    """What the model expected of a row of one game, and how much the row surprised it, in nats.

    mind: the model's state before the row, leaves [1, ...]; action: the code [1, A] that led to
    the row. Both are averages over K latents: p(x) = E p(x | z). What is void on a first row is
    neither expected nor surprising.
    """
    if row.first:
        mind, action = model.initial_state(1), torch.zeros_like(action)
    mind, action, row = nested.repeat((mind, action, row), PARTICLES)
    percept = cast(Chain, model.predict(action, mind)[0])
    expected, log_probs = _expectation(percept), percept.log_probs(row.percept)
    if row.first[0]:
        expected = expected._replace(reward=0.0, terminated=0.0)
        log_probs = {"observation": log_probs["observation"]}
    return expected, _surprise(log_probs)


def _expectation(percept: Chain) -> Expectation:
    """The mean over a batch [K] of predictions; rewards and ends are summed over observations."""
    observation = cast(Categorical, percept.first.parts["observation"]).probs  # [K, n]
    consequences = [
        percept.then({"observation": torch.full((len(observation),), value)})
        for value in range(observation.shape[-1])
    ]

    def mean(key: str) -> float:
        given = torch.stack([then.parts[key].mean for then in consequences], -1)  # [K, n]
        return float((observation * given).sum(-1).mean())

    return Expectation(observation.mean(0).tolist(), mean("reward"), mean("terminated"))


def _surprise(log_probs: dict[str, Tensor]) -> dict[str, float]:
    """-log p by key from log p(key | keys before, z) [K]: the latents are averaged over first."""
    so_far = torch.stack(list(log_probs.values())).cumsum(0)  # [keys, K]
    joint = so_far.logsumexp(-1) - np.log(so_far.shape[-1])  # [keys]
    nats = -torch.diff(joint, prepend=joint.new_zeros(1))
    return dict(zip(log_probs, nats.tolist(), strict=True))
