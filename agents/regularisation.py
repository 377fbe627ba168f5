"""The choice of a weight decay, by what rows cost that were not learned from."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from worldmodel import (
    ActionCodec,
    Episodes,
    Learner,
    Prediction,
    Replay,
    Sequences,
    WorldModel,
    log_prob,
    nested,
)
from worldmodel.distributions import masses_of
from worldmodel.objectives import Metrics

CANDIDATES = (0.0, 3.0)
"""A few hundred rows of a world that follows rules want none: what they tell is exact. Of one that
throws dice a model learns every throw by heart (FrozenLake: 0.48 nats a step, others 2.2; with a
weight decay of 3, 1.1 and 1.3)."""
HELD_OUT = 0.2  # of the rows, the last ones
TEMPERATURES = tuple(4.0**power for power in range(6))  # scales of 1 to 32 times what is expected


class WeightDecayChoice:
    """Learners that differ in weight decay alone, one after the other, and a part of the rows that
    they do not see."""

    def __init__(
        self,
        learners: Sequence[Learner],
        episodes: Episodes,
        actions: ActionCodec,
        updates: int,
        window: tuple[int, int, float, int],
        seed: int,
    ):
        """learners: of `CANDIDATES`; updates: of each; window: the arguments of
        `Replay.sample`."""
        self.learners = learners
        self.updates = updates
        self.window = window
        seen, self.others = split(episodes, actions, window[0], window[3])
        self.replay = Replay(actions, seed)
        self.replay.add(seen)

    def update(self, done: int) -> Metrics:
        """The update of that number."""
        place = done // self.updates
        metrics = self.learners[place].update(self.replay.sample(*self.window))
        return {"weight_decay": CANDIDATES[place], "nats": metrics["nats"]}

    def losses(self) -> list[float]:
        """The loss of the rows that were not seen, by each learner, in nats a row."""
        return [loss_of(learner.averaged, self.others) for learner in self.learners]

    def tensors(self) -> dict[str, Any]:
        return {
            "modules": [
                {name: part.state_dict() for name, part in self._modules(learner).items()}
                for learner in self.learners
            ],
            "learners": [learner.state_dict() for learner in self.learners],
        }

    def load(self, tensors: Mapping[str, Any], values: dict[str, Any]) -> None:
        for learner, weights, state in zip(
            self.learners, tensors["modules"], tensors["learners"], strict=True
        ):
            for name, part in self._modules(learner).items():
                part.load_state_dict(weights[name])
            learner.load_state_dict(state)
        self.replay.load_state_dict(values)

    @staticmethod
    def _modules(learner: Learner) -> dict[str, nn.Module]:
        return {"model": learner.model} | learner.modules


def split(
    episodes: Episodes, actions: ActionCodec, length: int, burn_in: int
) -> tuple[Episodes, Sequences]:
    """The first rows as episodes, whose last is a truncation, and windows of `length` over the
    rest, in each of which the first `burn_in` rows are not scored."""
    border = int(episodes.rows * (1 - HELD_OUT))
    starts, lengths = episodes.starts - episodes.starts[0], episodes.lengths
    kept = np.clip(border - starts, 0, lengths)
    kept[kept < 2] = 0  # rows: one alone is no step
    whole = np.flatnonzero(kept)
    rows = [
        np.arange(start, start + n) for start, n in zip(starts[whole], kept[whole], strict=True)
    ]
    seen = Episodes(episodes.gather(episodes.starts[0] + np.concatenate(rows)), kept[whole])
    places = [
        (episode, start)
        for episode in range(len(episodes))
        for start in range(kept[episode], lengths[episode] - burn_in, length)
    ]
    numbers, begin = (np.array(column) for column in zip(*places, strict=True))
    return seen, episodes.windows(actions, numbers, begin, length, burn_in)


@torch.no_grad()
def loss_of(model: WorldModel, sequences: Sequences) -> float:
    """The loss of scored rows, in nats a row; that of densities at the temperature at which it is
    least.

    A model of a few hundred rows is too sure of their numbers, which is nothing that a policy
    minds, and costs more than all that it knows. By nats alone one that had learned nothing of
    rewards would be chosen (Reacher). Classes and values are drawn in dreams as they are expected.
    """
    nats = sum(value.double().sum() for value in log_prob(model, sequences).values())
    states = model.infer(sequences)[0].states
    prediction = model.percepts.predict(model.core.features(states))
    rows, mask = sequences.rows, sequences.loss_mask.to(model.device)
    percept = nested.to(model.fill(sequences).rows.percept, model.device)
    of_rewards = mask & ~rows.first.to(model.device)
    scored = {"observation": mask, "reward": of_rewards}
    for key in densities(prediction, percept):
        found = [
            prediction.tempered(temperature).log_probs(percept)[key][scored[key]].double().sum()
            for temperature in TEMPERATURES
        ]
        nats += max(found) - found[0]
    return -float(nats) / int(sequences.loss_mask.sum())


def densities(prediction: Prediction, percept: dict[str, Any]) -> list[str]:
    """The keys of percepts that have densities: numbers, and rewards of any size."""
    numbers = any(leaf.is_floating_point() for leaf in nested.leaves(percept["observation"]))
    reward = prediction.consequences(percept["observation"]).parts["reward"]
    is_there = {"observation": numbers, "reward": masses_of(reward) is None}
    return [key for key, is_density in is_there.items() if is_density]
