"""Laws of sums: totals are totals, what is drawn is drawn in proportion, zeros never."""

import numpy as np
import pytest
from scipy.stats import chisquare

from worldmodel.arrays import BLOCK, GrowingArray, Sums


def sums_of(numbers, first=0):
    sums = Sums(len(numbers), first)
    sums.set(first + np.arange(numbers.shape[1]), numbers)
    return sums


@pytest.mark.parametrize("size", [1, 5, BLOCK, BLOCK + 1, 3 * BLOCK + 7])
@pytest.mark.parametrize("first", [0, 2 * BLOCK - 3])
def test_places_are_drawn_in_proportion_to_their_numbers(size, first):
    random = np.random.default_rng(size)
    numbers = random.random((2, size)) * (random.random((2, size)) < 0.7)
    numbers[:, 0] = 1.0
    sums = sums_of(numbers, first)
    assert np.allclose(sums.totals, numbers.sum(1), rtol=1e-14)
    for which in (0, 1):
        drawn = np.concatenate([sums.draw(random, which, 5_000) for _ in range(8)]) - first
        counts = np.bincount(drawn, minlength=size)
        likely = numbers[which] > 0
        assert not counts[~likely].any()
        expected = numbers[which][likely] / numbers[which].sum() * len(drawn)
        assert size == 1 or chisquare(counts[likely], expected).pvalue > 1e-3


def test_what_changes_or_is_forgotten_is_drawn_accordingly():
    """A long life beside sums that are made at once of what is left of it."""
    random = np.random.default_rng(0)
    begin, numbers, sums = 0, np.zeros((1, 0)), Sums(1)
    for _ in range(100):
        new = random.random((1, int(random.integers(1, 100))))
        sums.set(np.arange(numbers.shape[1], numbers.shape[1] + new.shape[1]), new)
        numbers = np.append(numbers, new, 1)
        gone = np.arange(begin, min(numbers.shape[1] - 1, begin + int(random.integers(0, 100))))
        sums.forget(gone)
        begin += len(gone)
        changed = random.integers(begin, numbers.shape[1], 5)
        numbers[:, changed] = random.random(5)
        sums.set(changed, numbers[:, changed])
        fresh = sums_of(numbers[:, begin:], begin)
        assert np.array_equal(sums.totals, fresh.totals)
        seeds = [np.random.default_rng(1), np.random.default_rng(1)]
        drawn, expected = (s.draw(r, 0, 50) for s, r in zip((sums, fresh), seeds, strict=True))
        assert np.array_equal(drawn, expected)
        assert drawn.min() >= begin


class Extreme:
    """Stands for a generator that draws the largest, or the smallest, number there is."""

    def __init__(self, value):
        self.value = value

    def random(self, number):
        return np.full(number, self.value)


def test_the_ends_of_the_dice_hit_no_zero():
    for scale in (1e-300, 0.1, 1 / 3, 1e300):
        numbers = np.zeros((1, 2 * BLOCK))
        numbers[0, [3, 4, BLOCK + 2]] = scale * np.array([0.1, 0.2, 0.7])
        sums = sums_of(numbers)
        assert sums.draw(Extreme(np.nextafter(1, 0)), 0, 1).tolist() == [BLOCK + 2]
        assert sums.draw(Extreme(0.0), 0, 1).tolist() == [3]


@pytest.mark.parametrize("count", range(400, BLOCK, 10))
def test_rounding_hits_no_zero(count):
    """Numbers added up in another order can have another sum."""
    numbers = np.zeros((1, BLOCK))
    numbers[0, :count] = np.random.default_rng(count).random(count)
    drawn = sums_of(numbers).draw(Extreme(np.nextafter(1, 0)), 0, 1)
    assert drawn.tolist() == [count - 1]


def test_a_growing_array_holds_what_came_and_has_not_gone():
    random, array, expected = np.random.default_rng(0), GrowingArray(np.empty((0, 2))), []
    for _ in range(300):
        new = random.random((int(random.integers(0, 9)), 2))
        array.append(new)
        expected += new.tolist()
        gone = int(random.integers(0, 1 + min(8, len(expected))))
        array.drop(gone)
        expected = expected[gone:]
        assert array.array.tolist() == expected
