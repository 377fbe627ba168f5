"""Solutions of the toy game: the best player with a memory, without one, and at random.

With a memory: a player's belief is all it needs. It consists of the cells that were seen
(their values are known from then on), the position, and what "not solved yet" rules out: unseen
cells are uniform over all combinations, but while all seen cells equal v and the game goes on,
"all unseen cells are v" is impossible, and stays so until one of them turns out to be another
value. Beliefs are finitely many; value iteration over them is exact.

Without a memory: a policy is a table [classes, actions]; its expected number of steps follows
from the Markov chain over rings and positions, and L-BFGS climbs along the exact gradient.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.sparse import csr_array

from worldmodel.envs.toy_game import (
    MOVES,
    TURNS,
    Action,
    check_game,
    is_solved,
    number_from_ring,
    play,
    ring_from_number,
)

# NOOP teaches nothing and costs a step, so that the best player never needs it.
USEFUL = (Action.RIGHT, Action.LEFT, Action.UP, Action.DOWN)


class Belief(NamedTuple):
    """The memory of a player of B games."""

    cells: NDArray[np.int64]  # [B, width], the value of a cell, or `classes` where unseen
    position: NDArray[np.int64]  # [B], in 0..width-1
    excluded: NDArray[np.bool_]  # [B, classes], "all unseen cells have this value" is impossible


class Solution:
    """The best player with a memory, and how many steps it needs.

    `expected_steps`: expected number of steps to the end of a game, without any limit.
    `values`: [N], expected steps to go from each belief that can come up in a game.
    """

    def __init__(
        self,
        width: int,
        classes: int,
        task: str,
        keys: NDArray[np.int64],
        values: NDArray[np.float64],
        actions: NDArray[np.int64],
    ) -> None:
        self.width = width
        self.classes = classes
        self.task = task
        self.values = values
        self._keys = keys
        self._actions = actions
        start = _seen(self.initial_state(1), np.zeros(1, np.int64), classes)
        self.expected_steps = float(values[self._find(start)[0]])

    def initial_state(self, batch_size: int) -> Belief:
        """The belief before the first row: no cell has been observed."""
        return Belief(
            np.full((batch_size, self.width), self.classes),
            np.zeros(batch_size, np.int64),
            np.zeros((batch_size, self.classes), np.bool_),
        )

    def step(
        self,
        first: NDArray[np.bool_],
        action: NDArray[np.int64],
        observation: NDArray[np.int64],
        state: Belief,
    ) -> tuple[NDArray[np.int64], Belief]:
        """The best next action [B] after a row, and the state that goes with it.

        `first` [B]: a game begins here (its action is ignored); `action` [B]: the one played;
        `observation` [B]: the one after it. The answer to a row that ended its game is
        NOOP.
        """
        fresh = self.initial_state(len(first))
        state = _begun(first, fresh, state)
        action = np.where(first, Action.NOOP, action)
        state = _seen(_played(state, action, self.classes, self.task), observation, self.classes)
        index = self._find(state)
        best = self._actions[index]
        return np.where(self._keys[index] == self._key(state), best, Action.NOOP), state

    def _key(self, state: Belief) -> NDArray[np.int64]:
        return _key(_canonical(state, self.classes, self.task), self.classes)

    def _find(self, state: Belief) -> NDArray[np.int64]:
        index = np.searchsorted(self._keys, self._key(state))
        return np.minimum(index, len(self._keys) - 1)


def solve_toy_game(width: int = 4, classes: int = 3, task: str = "copy") -> Solution:
    """The optimal policy of the game's belief MDP, exactly (to 1e-12 steps).

    >>> round(solve_toy_game(width=4, classes=3, task="copy").expected_steps, 4)
    4.6923
    """
    _check_has_end(width, classes, task)
    if (classes + 1) ** width * width * 2**classes >= 2**62:
        raise ValueError(f"width={width} with classes={classes} has too many beliefs to solve")
    start = Belief(
        np.array([[0] + [classes] * (width - 1)]), np.zeros(1, np.int64), np.eye(classes)[:1] > 0
    )
    keys, following, probability = _explore(_canonical(start, classes, task), classes, task)
    values, best = _value_iteration(following, probability)
    return Solution(width, classes, task, keys, values, np.array(USEFUL)[best])


def random_policy_steps(
    width: int = 4, classes: int = 3, task: str = "copy", time_limit: int = 100
) -> float:
    """Expected steps of uniformly random actions; games unsolved by the limit count as it."""
    chain = _Chain(width, classes, task, time_limit)
    return chain.steps_and_gradient(np.full((classes, len(Action)), 1 / len(Action)))[0]


def best_memoryless_policy(
    width: int = 4,
    classes: int = 3,
    task: str = "copy",
    time_limit: int = 100,
    seed: int = 0,
    restarts: int = 8,
) -> tuple[float, NDArray[np.float64]]:
    """The best policy found that acts on the current observation alone.

    Returns its expected number of steps, games unsolved by the limit counting as it, and the
    policy: probabilities [classes, actions]. There are local optima: the steps are exact for
    this policy, but that no other is better is not proven; more `restarts` make it likelier.
    """
    chain = _Chain(width, classes, task, time_limit)
    generator = np.random.default_rng(seed)
    shape = (classes, len(Action))

    def loss(logits: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        policy = _softmax(logits.reshape(shape))
        steps, slope = chain.steps_and_gradient(policy)
        centred = slope - (policy * slope).sum(1, keepdims=True)
        return steps, (policy * centred).ravel()

    starts = generator.normal(scale=2.0, size=(restarts, classes * len(Action)))
    results = [minimize(loss, start, jac=True, method="L-BFGS-B") for start in starts]
    best = min(results, key=lambda result: result.fun)
    return float(best.fun), _softmax(best.x.reshape(shape))


# Beliefs, many at once.


def _rows(state: Belief, index: NDArray[np.int64]) -> Belief:
    return Belief(state.cells[index], state.position[index], state.excluded[index])


def _begun(first: NDArray[np.bool_], fresh: Belief, state: Belief) -> Belief:
    """Fresh beliefs where `first` [B], the old ones elsewhere."""
    return Belief(
        np.where(first[:, None], fresh.cells, state.cells),
        np.where(first, fresh.position, state.position),
        np.where(first[:, None], fresh.excluded, state.excluded),
    )


def _played(state: Belief, action: NDArray[np.int64], classes: int, task: str) -> Belief:
    """Beliefs after the actions [B], before any observation and if the game goes on."""
    rows = np.arange(len(action))
    turn = TURNS[action]
    if task == "copy":
        turn = turn * (state.position != 0)
    cells = state.cells.copy()
    value = cells[rows, state.position]
    turned = (value + turn) % classes
    cells[rows, state.position] = np.where(value < classes, turned, value)
    position = (state.position + MOVES[action]) % cells.shape[1]
    return _not_solved(Belief(cells, position, state.excluded), classes)


def _seen(state: Belief, observation: NDArray[np.int64], classes: int) -> Belief:
    """Beliefs after the observations [B]: seeing a new value lifts all other exclusions."""
    rows = np.arange(len(observation))
    new = state.cells[rows, state.position] == classes
    cells = state.cells.copy()
    cells[rows, state.position] = observation
    same = np.arange(classes) == np.asarray(observation)[:, None]  # [B, classes]
    excluded = state.excluded & (same | ~new[:, None])
    return _not_solved(Belief(cells, state.position, excluded), classes)


def _not_solved(state: Belief, classes: int) -> Belief:
    """The same beliefs, knowing that the game goes on; with no unseen cell nothing is excluded."""
    unseen = (state.cells == classes).any(1)
    uniform = _all_known_equal(state.cells, classes)  # [B, classes]
    return state._replace(excluded=(state.excluded | uniform) & unseen[:, None])


def _all_known_equal(cells: NDArray[np.int64], classes: int) -> NDArray[np.bool_]:
    """True where every seen cell (and there is one) has this value, [B, classes]."""
    known = cells < classes
    values = np.arange(classes)[:, None]
    agree = (cells[:, None] == values) | ~known[:, None]  # [B, classes, width]
    return agree.all(2) & known.any(1, keepdims=True)


def _canonical(state: Belief, classes: int, task: str) -> Belief:
    """A canonical representative of beliefs that are equal up to the game's symmetries.

    Only differences of values matter, so the reference cell becomes 0. In "equal" all places are
    alike too, so the player's cell becomes cell 0 and the reference; in "copy" home is both.
    """
    rows = np.arange(len(state.position))[:, None]
    cells, position = state.cells, state.position
    if task == "equal":
        cells = cells[rows, (position[:, None] + np.arange(cells.shape[1])) % cells.shape[1]]
        position = np.zeros_like(position)
    reference = cells[:, :1] % classes
    cells = np.where(cells < classes, (cells - reference) % classes, classes)
    excluded = state.excluded[rows, (reference + np.arange(classes)) % classes]
    return Belief(cells, position, excluded)


def _key(state: Belief, classes: int) -> NDArray[np.int64]:
    """A number [B] for each belief, unique to it."""
    key = number_from_ring(state.cells, classes + 1)
    key = key * state.cells.shape[1] + state.position
    return key * 2**classes + state.excluded @ 2 ** np.arange(classes)


def _outcomes(
    state: Belief, action: int, classes: int, task: str
) -> tuple[NDArray[np.float64], list[Belief]]:
    """The outcomes of an action: probabilities [N, classes] and beliefs, by the value observed.

    The probability that is missing to 1 is that of the end.
    """
    taken = np.full(len(state.position), action)
    after = _played(state, taken, classes, task)
    here = after.cells[np.arange(len(taken)), after.position][:, None]  # [N, 1]
    values = np.arange(classes)
    known = (here == values) * (1.0 - _end_probability(state, after, classes))[:, None]
    unseen = (after.cells == classes).sum(1, keepdims=True)
    # Combinations of the unseen cells: in all, and those that begin with each value.
    total = float(classes) ** unseen - after.excluded.sum(1, keepdims=True)
    fitting = float(classes) ** (unseen - 1) - after.excluded  # [N, classes]
    probability = np.where(here == classes, fitting / np.maximum(total, 1), known)
    return probability, [_seen(after, np.full_like(taken, value), classes) for value in values]


def _end_probability(before: Belief, after: Belief, classes: int) -> NDArray[np.float64]:
    """Probability [N] that the ring just became solved."""
    solvable = _all_known_equal(after.cells, classes)  # [N, classes]
    news = (solvable & ~before.excluded).any(1)
    unseen = (after.cells == classes).sum(1)
    return news / (float(classes) ** unseen - before.excluded.sum(1))


def _explore(
    start: Belief, classes: int, task: str
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    """The beliefs that can follow from `start`, all of them, breadth first.

    Returns their keys [N], sorted, and for each belief, useful action and value seen the index
    of the next belief and its probability, both [N, actions, classes].
    """
    frontier, chunks = start, []
    found = _key(start, classes)
    while len(frontier.position):
        keys, probability, states = _expand(frontier, classes, task)
        chunks.append((_key(frontier, classes), keys, probability))
        possible = (probability > 0).ravel()
        reached, where = np.unique(keys.ravel()[possible], return_index=True)
        fresh = where[~np.isin(reached, found)]
        chosen = np.flatnonzero(possible)[fresh]
        frontier = _rows(states, chosen)
        found = np.union1d(found, reached)
    origin, following, probability = (np.concatenate(part) for part in zip(*chunks, strict=True))
    order = np.argsort(origin)
    following = np.where(probability > 0, following, origin[0])[order]
    return origin[order], np.searchsorted(origin[order], following), probability[order]


def _expand(
    state: Belief, classes: int, task: str
) -> tuple[NDArray[np.int64], NDArray[np.float64], Belief]:
    """Keys and probabilities [N, actions, classes] of the outcomes, and the beliefs, flat."""
    outcomes = [_outcomes(state, action, classes, task) for action in USEFUL]
    probability = np.stack([chances for chances, _ in outcomes], axis=1)
    beliefs = [belief for _, following in outcomes for belief in following]
    parts = (np.stack(part, axis=1) for part in zip(*beliefs, strict=True))
    flat = Belief(*(part.reshape(-1, *part.shape[2:]) for part in parts))  # N*actions*classes
    flat = _canonical(flat, classes, task)
    return _key(flat, classes).reshape(probability.shape), probability, flat


def _value_iteration(
    following: NDArray[np.int64], probability: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Least expected steps to the end [N], and the index of the action that needs them [N].

    From 0 the values rise towards the truth, and reach it: good play ends within boundedly many
    steps, and every detour soon costs more.
    """
    values = np.zeros(len(following))
    while True:
        steps = 1.0 + (probability * values[following]).sum(2)  # [N, actions]
        improved = steps.min(1)
        if np.abs(improved - values).max() < 1e-12:
            return improved, steps.argmin(1)
        values = improved


# Players without a memory.


class _Chain:
    """The Markov chain of rings and positions, state = ring * width + position, [S * width]."""

    def __init__(self, width: int, classes: int, task: str, time_limit: int) -> None:
        _check_has_end(width, classes, task)
        if time_limit < 1:
            raise ValueError(f"time_limit is a positive number of steps, but got {time_limit}")
        self.time_limit = time_limit
        number, position = np.divmod(np.arange(classes**width * width), width)
        ring = ring_from_number(number, width, classes)
        self._observation = ring[np.arange(len(ring)), position]
        self._alive = ~is_solved(ring)
        self._start = (self._alive & (position == 0)).astype(np.float64)
        self._start /= self._start.sum()
        self._following = np.empty((len(ring), len(Action)), np.int64)
        for action in Action:
            after, end = play(ring, position, np.full_like(position, action), classes, task)
            self._following[:, action] = number_from_ring(after, classes) * width + end

    def steps_and_gradient(self, policy: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        """Expected steps of a policy [classes, actions], and their derivative by it."""
        chances = policy[self._observation] * self._alive[:, None]  # [S * width, actions]
        matrix = self._matrix(chances)
        transposed = matrix.T.tocsr()
        to_go, visits = [np.zeros(len(chances))], [self._start]
        for _ in range(self.time_limit):
            to_go.append(self._alive + matrix @ to_go[-1])
            visits.append(transposed @ visits[-1])
        slope = np.zeros(chances.shape)
        for visit, rest in zip(visits, reversed(to_go[:-1]), strict=False):
            slope += (visit * self._alive)[:, None] * rest[self._following]
        gradient = np.zeros(policy.shape)
        np.add.at(gradient, self._observation, slope)
        return float(self._start @ to_go[-1]), gradient

    def _matrix(self, chances: NDArray[np.float64]) -> csr_array:
        states, actions = chances.shape
        rows = np.arange(0, states * actions + 1, actions)
        return csr_array((chances.ravel(), self._following.ravel(), rows), shape=(states, states))


def _check_has_end(width: int, classes: int, task: str) -> None:
    check_game(width, classes, task)
    if task == "free":
        raise ValueError('task "free" has neither reward nor end to play for; pass copy or equal')


def _softmax(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    weights = np.exp(logits - logits.max(1, keepdims=True))
    return weights / weights.sum(1, keepdims=True)
