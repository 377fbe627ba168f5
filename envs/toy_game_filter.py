"""The exact Bayes filter of the toy game: the belief and predictions of a perfect world model.

A belief gives every ring its probability; the position is always known. No model can have a
higher expected log-likelihood than this filter's, so its loss is the floor for all of them.

    log p(rows) = sum over t of  log p(observation_t | rows before t, action_t)
                               + log p(reward_t      | the same, observation_t)
                               + log p(terminated_t  | the same, observation_t, reward_t)

Truncation is a time limit, no part of the world, and is not modelled.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from worldmodel.envs.toy_game import (
    Action,
    check_game,
    is_solved,
    number_from_ring,
    play,
    ring_from_number,
)

LogProbs = dict[str, NDArray[np.float64]]


class FilterState(NamedTuple):
    """Beliefs in B games about S = classes**width rings, numbered as in `toy_game`."""

    belief: NDArray[np.float64]  # [B, S], rows sum to 1
    position: NDArray[np.int64]  # [B], in 0..width-1


class ToyGameFilter:
    """Exact beliefs and log-likelihoods (nats) of the game with these parameters.

    Evidence of probability zero scores -inf and is otherwise ignored: the belief stays what it
    was before that piece of evidence, so that the state is always a distribution.
    """

    def __init__(self, width: int = 4, classes: int = 3, task: str = "copy") -> None:
        check_game(width, classes, task)
        if classes**width > 2**20:
            raise ValueError(
                f"the filter weighs every ring, at most 2**20, but there are {classes}**{width}; "
                "choose a smaller width or fewer classes"
            )
        self.width = width
        self.classes = classes
        self.task = task
        rings = ring_from_number(np.arange(classes**width), width, classes)  # [S, width]
        self._value = np.ascontiguousarray(rings.T)  # [width, S], value of each cell
        self._solved = is_solved(rings) & (task != "free")  # [S]
        self._prior = ~self._solved / np.sum(~self._solved)  # [S]
        self._source = self._sources(rings)  # [width, actions, S]

    def initial_state(self, batch_size: int) -> FilterState:
        """The prior at the beginning of an episode, before its first observation."""
        return FilterState(
            np.tile(self._prior, (batch_size, 1)), np.zeros(batch_size, dtype=np.int64)
        )

    def predict(
        self, action: NDArray[np.int64], first: NDArray[np.bool_], state: FilterState
    ) -> FilterState:
        """The belief after `action` [B], before the observation.

        Where `first` [B], an episode begins: back to the prior, for any action.
        """
        action = np.where(first, Action.NOOP, action)
        source = self._source[state.position, action]  # [B, S]
        belief = np.take_along_axis(state.belief, source, axis=1)
        belief[first] = self._prior
        position = self._next_position[state.position, action]
        return FilterState(belief, np.where(first, 0, position))

    def observation_probabilities(self, state: FilterState) -> NDArray[np.float64]:
        """Probability of each observation at the current position, [B, classes]."""
        return self._marginal(state.belief, self._value[state.position])

    def step(
        self,
        first: NDArray[np.bool_],
        action: NDArray[np.int64],
        observation: NDArray[np.int64],
        reward: NDArray[np.floating],
        terminated: NDArray[np.bool_],
        state: FilterState,
    ) -> tuple[LogProbs, FilterState]:
        """Score one row of B games and update the belief.

        Arguments are [B]. Returns log probabilities, nats, [B], of "observation", "reward" and
        "terminated", each given those before, and the state after the row. A first row has no
        reward and no end: both score 0.
        """
        belief, position = self.predict(action, first, state)
        seen = self._value[position] == np.asarray(observation)[:, None]  # [B, S]
        observation_log_prob, belief = _condition(belief, seen)
        expected = 0.0 if self.task == "free" else -1.0
        reward_log_prob = np.where(first | (np.asarray(reward) == expected), 0.0, -np.inf)
        ended = self._solved == np.asarray(terminated)[:, None]  # [B, S]
        ended[first] = True
        terminated_log_prob, belief = _condition(belief, ended)
        log_probs = {
            "observation": observation_log_prob,
            "reward": reward_log_prob,
            "terminated": terminated_log_prob,
        }
        return log_probs, FilterState(belief, position)

    def log_prob(
        self,
        first: NDArray[np.bool_],
        action: NDArray[np.int64],
        observation: NDArray[np.int64],
        reward: NDArray[np.floating],
        terminated: NDArray[np.bool_],
    ) -> LogProbs:
        """Log probabilities, nats, [T, B], of whole sequences, by the keys of `step`.

        Arguments are [T, B]; row t holds the action that led to its observation.
        """
        state = self.initial_state(np.shape(first)[1])
        scores = []
        for row in zip(first, action, observation, reward, terminated, strict=True):
            log_probs, state = self.step(*row, state)
            scores.append(log_probs)
        return {key: np.stack([score[key] for score in scores]) for key in scores[0]}

    def ring_probabilities(self, state: FilterState) -> NDArray[np.float64]:
        """Probability of each value of each cell, [B, width, classes]: input of `draw_ring`."""
        cells = [self._marginal(state.belief, value[None]) for value in self._value]
        return np.stack(cells, axis=1)

    def _sources(self, rings: NDArray[np.int64]) -> NDArray[np.int64]:
        """Number of the ring that each ring came from, [width, actions, S]: play is one-to-one."""
        numbers = np.arange(len(rings))
        source = np.empty((self.width, len(Action), len(rings)), np.int64)
        self._next_position = np.empty((self.width, len(Action)), np.int64)
        for position, action in np.ndindex(source.shape[:2]):
            start = np.full(len(rings), position)
            after, end = play(rings, start, np.full_like(start, action), self.classes, self.task)
            source[position, action, number_from_ring(after, self.classes)] = numbers
            self._next_position[position, action] = end[0]
        return source

    def _marginal(
        self, belief: NDArray[np.float64], value: NDArray[np.int64]
    ) -> NDArray[np.float64]:
        """Belief [B, S] in `value` ([B, S] or [1, S]) being 0, 1, ..., [B, classes]."""
        masses = [(belief * (value == c)).sum(1) for c in range(self.classes)]
        return np.stack(masses, axis=1)


def _condition(
    belief: NDArray[np.float64], compatible: NDArray[np.bool_]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Log probability [B] of evidence, and the belief [B, S] given it; both [B, S] come in.

    Each row of the new belief is divided by its own sum, so that rounding cannot accumulate.
    """
    joint = belief * compatible
    probability = joint.sum(1)
    possible = probability > 0
    scale = np.where(possible, probability, 1.0)
    posterior = np.where(possible[:, None], joint / scale[:, None], belief)
    certain = possible & ~((belief > 0) & ~compatible).any(1)  # exactly 1, not 1 - rounding
    log_prob = np.log(scale, where=~certain, out=np.zeros(len(belief)))
    return np.where(possible, log_prob, -np.inf), posterior
