"""The choice of a weight decay, by what rows cost that were not learned from."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from worldmodel import ActionCodec, Episodes, Learner, Replay, Sequences, WorldModel, log_prob
from worldmodel.objectives import Metrics

CANDIDATES = (0.0, 3.0)
"""A few hundred rows of a world that follows rules want none: what they tell is exact. Of one that
throws dice a model learns every throw by heart (FrozenLake: 0.48 nats a step, others 2.2; with a
weight decay of 3, 1.1 and 1.3)."""
HELD_OUT = 0.2  # of the rows, the last ones


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
        return [loss_of(learner.model, self.others) for learner in self.learners]

    def tensors(self) -> dict[str, Any]:
        return {
            "models": [learner.model.state_dict() for learner in self.learners],
            "learners": [learner.state_dict() for learner in self.learners],
        }

    def load(self, tensors: Mapping[str, Any], values: dict[str, Any]) -> None:
        for learner, model, state in zip(
            self.learners, tensors["models"], tensors["learners"], strict=True
        ):
            learner.model.load_state_dict(model)
            learner.load_state_dict(state)
        self.replay.load_state_dict(values)


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


def loss_of(model: WorldModel, sequences: Sequences) -> float:
    """The loss of scored rows, in nats a row."""
    nats = sum(value.double().sum() for value in log_prob(model, sequences).values())
    return -float(nats) / int(sequences.loss_mask.sum())
