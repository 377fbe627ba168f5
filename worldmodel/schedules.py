"""Numbers that change from update to update."""

import math
from collections.abc import Callable, Sequence

Schedule = Callable[[int], float]
"""A function from the number of an update to a value."""


def constant(value: float) -> Schedule:
    """The same value at every step."""
    return lambda step: value


def linear(start: float, end: float, steps: int) -> Schedule:
    """A line from `start` to `end` within `steps`, then `end`.

    >>> [linear(0.0, 1.0, 4)(step) for step in (0, 2, 9)]
    [0.0, 0.5, 1.0]
    """
    return lambda step: end if step >= steps else start + (end - start) * step / steps


def warmed_up(schedule: Schedule, steps: int) -> Schedule:
    """A schedule times a line from 0 to 1 within the first `steps`.

    >>> [warmed_up(constant(2.0), 4)(step) for step in (0, 1, 4, 9)]
    [0.0, 0.5, 2.0, 2.0]
    """
    return lambda step: schedule(step) * linear(0.0, 1.0, steps)(step)


def half_life(start: float, steps: float) -> Schedule:
    """A value that begins at `start` and is halved every `steps`.

    >>> [half_life(1.0, 4)(step) for step in (0, 4, 8)]
    [1.0, 0.5, 0.25]
    """
    return lambda step: start * 0.5 ** (step / steps)


def cosine(start: float, end: float, steps: int) -> Schedule:
    """Half a cosine from `start` to `end` within `steps`, then `end`."""

    def schedule(step: int) -> float:
        return end if step >= steps else end + (start - end) * _half_cosine(step / steps)

    return schedule


def cyclical(target: float, half_cycle: int, freeze: int = 0) -> Schedule:
    """A cycle: zero for `freeze` steps; then, over and over, from 0 to `target` in a line within
    `half_cycle` steps and `target` for as many (Fu et al. 2019, https://arxiv.org/abs/1903.10145).

    >>> [cyclical(1.0, 2, freeze=1)(step) for step in range(7)]
    [0.0, 0.0, 0.5, 1.0, 1.0, 0.0, 0.5]
    """
    if half_cycle < 1 or freeze < 0:
        raise ValueError(
            "cyclical expects a half cycle of one step or more and no negative freeze, "
            f"got half_cycle={half_cycle}, freeze={freeze}"
        )

    def schedule(step: int) -> float:
        if step < freeze:
            return 0.0
        return target * min(1.0, (step - freeze) % (2 * half_cycle) / half_cycle)

    return schedule


def in_segments(make: Callable[[int], Schedule], segments: Sequence[tuple[int, int]]) -> Schedule:
    """A schedule for each segment of a resumed training: `make(length)`, from the
    step on at which the segment begins.

    segments: (first step, length) each, in order.

    >>> schedule = in_segments(lambda length: linear(1.0, 0.0, length), [(0, 4), (4, 2)])
    >>> [schedule(step) for step in range(7)]
    [1.0, 0.75, 0.5, 0.25, 1.0, 0.5, 0.0]
    """

    def schedule(step: int) -> float:
        begin, length = max((s for s in segments if s[0] <= step), default=segments[0])
        return make(length)(step - begin)

    return schedule


def _half_cosine(x: float) -> float:
    """Half a cosine, from 1 at x = 0 to 0 at x = 1."""
    return 0.5 * (1 + math.cos(math.pi * x))
