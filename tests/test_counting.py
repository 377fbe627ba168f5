"""Counting: probabilities that sum to one, and are what one counts by hand."""

import itertools

import numpy as np
import pytest

from worldmodel.experiments.recordings.counting import Ngrams, ngram_nats


def texts(seed=0):
    random = np.random.default_rng(seed)
    return [random.integers(0, 3, random.integers(1, 9)) for _ in range(12)]


def test_probabilities_of_all_short_recordings_sum_to_one():
    ngrams = Ngrams(4, 3, texts())  # the class 3 was never met
    every = [np.array(codes) for codes in itertools.product(range(4), repeat=3)]
    totals = np.exp([ngrams.log_probs(codes).sum(1) for codes in every]).sum(0)
    np.testing.assert_allclose(totals, np.ones(3), atol=1e-12)


def test_floors_are_what_one_counts_by_hand():
    """Five rows of two of three classes: a a b, a b."""
    ngrams = Ngrams(3, 2, [np.array([0, 0, 1]), np.array([0, 1])])
    lower = 1 / 3
    p_a, p_b = (3 + 2 * lower) / 7, (2 + 2 * lower) / 7  # 2 kinds in 5 rows
    first = (2 + 1 * p_a) / 3  # 2 beginnings, of 1 kind
    then = (2 + 2 * p_b) / 5  # after a: one a, two b
    found = np.exp(ngrams.log_probs(np.array([0, 1])))
    np.testing.assert_allclose(found, [[p_a, p_b], [first, then]])
    never = np.exp(ngrams.log_probs(np.array([2, 1])))
    np.testing.assert_allclose(never[:, 0], [2 * lower / 7, (0 + 1 * 2 * lower / 7) / 3])
    np.testing.assert_allclose(never[:, 1], [p_b, p_b])  # nothing ever followed it


def test_more_is_known_of_what_was_met_the_longer_it_is():
    corpus = np.tile([0, 1, 2, 1], 50)
    nats = ngram_nats(Ngrams(3, 4, [corpus]), [corpus], [0.0])
    assert nats == sorted(nats, reverse=True)
    assert nats[-1] < 0.1
    shifted = ngram_nats(Ngrams(3, 4, [corpus]), [corpus, corpus], [-1.0, np.full(200, -1.0)])
    np.testing.assert_allclose(shifted, np.array(nats) + 1.0)


def test_what_cannot_be_counted_is_refused():
    with pytest.raises(ValueError, match="too many"):
        Ngrams(10_000, 5, texts())
