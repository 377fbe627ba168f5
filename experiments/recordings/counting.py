"""N-gram baselines for recordings of classes, which a model has to beat."""

import math
from collections.abc import Iterable, Sequence

import numpy as np

MOST_ROWS = 20_000_000  # that are counted; more would fill the memory


class Ngrams:
    """Interpolated n-gram models (Witten & Bell 1991, https://doi.org/10.1109/18.87000,
    method C): of n classes in a row,

        p_n(c | h) = (count(h, c) + kinds(h) p_(n-1)(c | h')) / (count(h) + kinds(h)),

    where kinds(h) different classes followed h, and h' is h without its first; p_0 is uniform.
    The padding before a recording is a class of its own. Each p_n sums to one.
    """

    def __init__(self, classes: int, order: int, recordings: Iterable[np.ndarray]):
        """recordings: int [T] each, of 0..classes-1; order: the largest n."""
        if order > most_in_a_row(classes):
            raise ValueError(f"{order} of {classes} classes in a row are too many to be counted")
        self.classes = classes
        self.order = order
        arrays = [np.asarray(codes, np.int64) for codes in recordings]
        each = [[self._contexts(codes, n) for codes in arrays] for n in range(order)]
        codes = np.concatenate(arrays)
        self._tables = [_Table(np.concatenate(part), codes, classes) for part in each]

    def log_probs(self, codes: np.ndarray) -> np.ndarray:
        """log p_1 to p_n of each row of a recording, float64 [n, T], nats."""
        codes = np.asarray(codes, np.int64)
        probabilities = np.full(len(codes), 1 / self.classes)
        found = []
        for n, table in enumerate(self._tables):
            probabilities = table.probabilities(self._contexts(codes, n), codes, probabilities)
            found.append(np.log(probabilities))
        return np.stack(found)

    def _contexts(self, codes: np.ndarray, length: int) -> np.ndarray:
        """Indices of the `length` classes before each row, int64 [T]."""
        padded = np.concatenate([np.full(length, self.classes), codes[:-1]])
        contexts = np.zeros(len(codes), np.int64)
        for place in range(length):
            contexts = contexts * (self.classes + 1) + padded[place : place + len(codes)]
        return contexts


def most_in_a_row(classes: int) -> int:
    """The largest n of which all n-grams, with padding among the classes, have an int64 index.

    >>> most_in_a_row(65), most_in_a_row(20_000)
    (10, 4)
    """
    return int(63 * math.log(2) / math.log(classes + 1))


class _Table:
    """Counts of each class after each context."""

    def __init__(self, contexts: np.ndarray, codes: np.ndarray, classes: int):
        self.classes = classes
        self.contexts, self.times = np.unique(contexts, return_counts=True)
        self.pairs, self.counts = np.unique(contexts * classes + codes, return_counts=True)
        places = np.searchsorted(self.contexts, self.pairs // classes)
        self.kinds = np.bincount(places, minlength=len(self.contexts))

    def probabilities(
        self, contexts: np.ndarray, codes: np.ndarray, lower: np.ndarray
    ) -> np.ndarray:
        """Probabilities of the classes in their contexts, float64 [T]. lower: of order n - 1."""
        times, kinds = (_found(self.contexts, x, contexts) for x in (self.times, self.kinds))
        counts = _found(self.pairs, self.counts, contexts * self.classes + codes)
        weighed = (counts + kinds * lower) / np.maximum(times + kinds, 1)
        return np.where(times == 0, lower, weighed)


def _found(keys: np.ndarray, values: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """The values of wanted keys, 0 where a key is missing. keys: sorted."""
    places = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
    return np.where(keys[places] == wanted, values[places], 0)


def ngram_nats(
    ngrams: Ngrams, recordings: Sequence[np.ndarray], corrections: Sequence[np.ndarray | float]
) -> list[float]:
    """The loss of each order, nats per row, with the corrections of a model's loss."""
    pairs = zip(recordings, corrections, strict=True)
    scores = [ngrams.log_probs(codes) + correction for codes, correction in pairs]
    return [-float(mean) for mean in np.concatenate(scores, 1).mean(1)]
