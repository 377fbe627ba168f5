"""A world model's belief about a toy game's ring, read out by queries of the model.

The model holds no ring, but it can be queried: its predictions of the observation at the
player's cell, one step to the right, and so on around give the ring that it
believes in, for a dream and for the real game alike.
"""

from typing import Any, NamedTuple, cast

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from worldmodel import ModelState, Prediction, Row, WorldModel, nested
from worldmodel.distributions import Categorical
from worldmodel.envs.toy_game import Action, draw_ring, ring_text


class RingBelief(NamedTuple):
    mind: ModelState  # leaves [B, ...], the model after the rows so far
    position: Tensor  # int64 [B], the player's cell, 0..width-1


class ToyGameView:
    """The believed ring and the player's cell, from rows (an `worldmodel.envs.dream_env.View`)."""

    modes: tuple[str, ...] = ("rgb_array", "ansi")
    hides = True  # the player sees one cell; the others are to be found out
    legend = "One digit: certain. Else a bar for each value, as high as it is probable."

    def __init__(self, model: WorldModel, width: int, classes: int, particles: int = 16):
        """particles: latents drawn for each answer, which is their mean."""
        self.model = model
        self.width = width
        self.classes = classes
        self.particles = particles

    @property
    def page(self) -> dict[str, Any]:
        """Options of the picture on the page of `export --format html`: cells as far as seen."""
        legend = "A cell shows what was seen in it last; ? was not seen yet."
        return {
            "name": "ring",
            "width": self.width,
            "classes": self.classes,
            "legend": legend,
        }

    def initial_state(self, batch_size: int) -> RingBelief:
        """The belief before the first rows of B games."""
        position = torch.zeros(batch_size, dtype=torch.int64, device=self.model.device)
        return RingBelief(self.model.initial_state(batch_size), position)

    def step(self, row: Row, state: RingBelief) -> RingBelief:
        """The state after a row [B, ...]. Ends are left out: no training data come after them,
        and the ring can still be queried."""
        row = nested.to(row, self.model.device)
        unsaid = row._replace(terminated=torch.zeros_like(row.terminated))
        mind = self.model.observe(unsaid, state.mind)
        moves = row.action[:, Action.RIGHT] - row.action[:, Action.LEFT]
        position = torch.where(row.first, 0, state.position + moves.long()) % self.width
        return RingBelief(mind, position)

    @torch.no_grad()
    def ring(self, state: RingBelief) -> Tensor:
        """The probability of each value in each cell, [B, width, classes].

        The player's own cell first, then one to the right after another, each given the most
        probable values of those before.
        """
        batch_size = len(state.position)
        mind = nested.repeat(state.mind, self.particles)
        device = state.position.device
        first = torch.zeros(batch_size * self.particles, dtype=torch.bool, device=device)
        cells = []
        for steps in range(self.width):
            move = Action.NOOP if steps == 0 else Action.RIGHT
            code = F.one_hot(torch.full_like(first, int(move), dtype=torch.int64), len(Action))
            code = code.to(mind.history.dtype)
            prediction, core = self.model.predict(code, mind)
            answer = self._probabilities(prediction, batch_size)  # [B, classes]
            cells.append(answer)
            if len(cells) == self.width:
                break
            seen = answer.argmax(-1).repeat(self.particles)
            reward = prediction.consequences(seen).parts["reward"].mode
            mind = self.model.advance(Row(first, code, seen, reward, first), core, mind)
        around = torch.stack(cells, 1)  # [B, width, classes], from the player on
        places = torch.arange(self.width, device=device)
        columns = (places - state.position[:, None]) % self.width
        return around[torch.arange(batch_size, device=device)[:, None], columns]

    def draw(self, state: RingBelief, mode: str) -> list[Any]:
        """Draws every game as a picture (`rgb_array`) or text (`ansi`)."""
        draw = draw_ring if mode == "rgb_array" else ring_text
        rings, positions = self.ring(state).cpu().numpy(), state.position.tolist()
        return [draw(ring, position) for ring, position in zip(rings, positions, strict=True)]

    def real(self, info: dict[str, Any], mode: str) -> Any:
        """Draws the true ring, from the `info` of one real game."""
        draw = draw_ring if mode == "rgb_array" else ring_text
        return draw(np.eye(self.classes)[info["ring"][0]], int(info["position"][0]))

    def _probabilities(self, prediction: Prediction, batch_size: int) -> Tensor:
        observation = cast(Categorical, prediction.observation)
        return observation.probs.unflatten(0, (self.particles, batch_size)).mean(0)
