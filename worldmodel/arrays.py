"""Arrays that grow, and numbers that are drawn in proportion to themselves, however many."""

import numpy as np

BLOCK = 512  # numbers whose sum is kept


class GrowingArray:
    """An array [N, ...] that grows at its end and shrinks at its front, or at its end.

    Either costs, on average, what the rows that come or go cost.
    """

    def __init__(self, like: np.ndarray):
        self._memory = like[:0]
        self._begin = self._end = 0

    @property
    def array(self) -> np.ndarray:
        """The current content: a view, until the next change."""
        return self._memory[self._begin : self._end]

    def append(self, values: np.ndarray) -> None:
        end = self._end + len(values)
        if end > len(self._memory):
            kept = self.array
            end -= self._begin
            self._memory = np.empty((2 * end, *kept.shape[1:]), kept.dtype)
            self._memory[: len(kept)] = kept
            self._begin = 0
        self._memory[end - len(values) : end] = values
        self._end = end

    def drop(self, number: int) -> None:
        """Removes the first `number` rows."""
        self._begin += number

    def truncate(self, number: int) -> None:
        """Keeps the first `number` rows."""
        self._end = self._begin + number


class Sums:
    """Lists of numbers, 0 or more, at places that go up, and the sums of their blocks.

    Changing some numbers costs what these cost, and drawing some hardly more where there are
    many than where there are few: what a sum tree does (Schaul et al. 2016,
    https://arxiv.org/abs/1511.05952, appendix B.2.1), with one wide level instead of many narrow
    ones. What is drawn depends on the numbers alone, not on how they came to be there.
    """

    def __init__(self, lists: int, first: int = 0):
        """first: the lowest place that will ever be used."""
        self._numbers = GrowingArray(np.zeros((0, lists, BLOCK)))  # [blocks, lists, BLOCK]
        self._sums = GrowingArray(np.zeros((0, lists)))
        self._first = first // BLOCK  # the number of the first block

    @property
    def totals(self) -> np.ndarray:
        """The sum of each list."""
        return self._sums.array.sum(0)

    def set(self, places: np.ndarray, values: np.ndarray) -> None:
        """Puts values [lists, n] at the given places int64 [n]."""
        if not len(places):
            return
        missing = int(places.max()) // BLOCK + 1 - self._first - len(self._sums.array)
        for array in (self._numbers, self._sums):
            array.append(np.zeros((max(0, missing), *array.array.shape[1:])))
        blocks = places // BLOCK - self._first
        self._numbers.array[blocks, :, places % BLOCK] = values.T
        touched = np.unique(blocks)
        self._sums.array[touched] = self._numbers.array[touched].sum(-1)

    def forget(self, places: np.ndarray) -> None:
        """Puts zeros at the lowest places that are not zero yet, int64 [n], rising; for good."""
        self.set(places, np.zeros((self._sums.array.shape[1], len(places))))
        if len(places):
            empty = (int(places[-1]) + 1) // BLOCK - self._first
            for array in (self._numbers, self._sums):
                array.drop(empty)
            self._first += empty

    def draw(self, random: np.random.Generator, which: int, number: int) -> np.ndarray:
        """`number` places, each drawn in proportion to its number in list `which`, int64."""
        until = self._sums.array[:, which].cumsum()
        rest = random.random(number) * until[-1]
        rest = np.minimum(rest, np.nextafter(until[-1], 0))  # rounding may have reached it
        block = np.searchsorted(until, rest, side="right")
        rest -= np.append(0.0, until)[block]
        within = self._numbers.array[block, which].cumsum(1)  # [number, BLOCK]
        rest = np.minimum(rest, np.nextafter(within[:, -1], 0))
        return (self._first + block) * BLOCK + (within <= rest[:, None]).sum(1)
