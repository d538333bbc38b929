"""Counts, PMI, word vectors and neighbour maps against the plain way to compute them."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse

from data_pipeline.text.samples import Ragged
from pretrain.encoders import cooccurrence

SPECIAL = (0, 1)
VOCABULARY = 8
SAMPLES = st.lists(st.lists(st.integers(0, VOCABULARY - 1), max_size=9), min_size=1, max_size=5)


def ragged(samples):
    ids = np.array([token for sample in samples for token in sample], np.uint16)
    return Ragged(ids, np.cumsum([0, *map(len, samples)]), np.ones(len(ids), np.uint8))


@settings(deadline=None)
@given(SAMPLES, SAMPLES, st.integers(1, 4))
def test_pairs_are_counted_within_samples_and_without_special_tokens(one, other, distance):
    expected = np.zeros((VOCABULARY, VOCABULARY))
    for sample in (*one, *other):
        for first, second in zip(sample, sample[distance:], strict=False):
            expected[first, second] += first not in SPECIAL and second not in SPECIAL
    actual = cooccurrence.neighbour_counts(
        [ragged(one), ragged(other)], distance, VOCABULARY, SPECIAL
    )
    np.testing.assert_array_equal(actual.toarray(), expected)


@settings(deadline=None)
@given(
    st.lists(st.integers(0, 5), min_size=16, max_size=16).filter(any),
    st.sampled_from([0.0, 2.0]),
)
def test_pmi_is_the_formula(values, few):
    counts = np.array(values, np.float64).reshape(4, 4)
    actual = cooccurrence.positive_pmi(sparse.csr_matrix(counts), few).toarray()
    powers = counts.sum(0) ** 0.75
    for i in range(4):
        for j in range(4):
            expected = 0.0
            if counts[i, j]:
                joint = counts[i, j] / counts.sum()
                alone = counts[i].sum() / counts.sum() * powers[j] / powers.sum()
                expected = max(0, math.log(joint / alone)) * counts[i, j] / (counts[i, j] + few)
            assert actual[i, j] == pytest.approx(expected, abs=1e-9)


def block_counts():
    """Two groups of words that occur among themselves only, and three that never occur."""
    random = np.random.default_rng(0)
    counts = np.zeros((23, 23))
    for group in (slice(3, 13), slice(13, 23)):
        counts[group, group] = random.integers(1, 9, (10, 10))
    return sparse.csr_matrix(counts)


def test_words_of_one_company_get_similar_vectors():
    vectors = cooccurrence.word_vectors([block_counts()], 6, 0.05, np.random.default_rng(0))
    assert vectors.dtype == np.float32 and vectors.shape == (23, 6)
    assert vectors[3:].std() == pytest.approx(0.05, rel=1e-4)
    assert not vectors[:3].any()
    unit = vectors[3:] / np.linalg.norm(vectors[3:], axis=1, keepdims=True)
    similar = unit @ unit.T
    assert similar[:10, :10].mean() > 0.3 > -0.3 > similar[:10, 10:].mean()


def test_the_same_seed_makes_the_same_vectors():
    made = [
        cooccurrence.word_vectors([block_counts()], 6, 0.05, np.random.default_rng(3))
        for _ in range(2)
    ]
    np.testing.assert_array_equal(*made)


def test_more_coordinates_than_words_are_left_empty():
    counts = sparse.csr_matrix(np.arange(36.0).reshape(6, 6))
    vectors = cooccurrence.word_vectors([counts], 16, 0.05, np.random.default_rng(0))
    assert vectors.shape == (6, 16) and np.isfinite(vectors).all()


def test_a_neighbour_map_is_the_weighted_least_squares_fit():
    random = np.random.default_rng(1)
    counts = sparse.csr_matrix(random.integers(0, 6, (12, 12)).astype(float))
    vectors, frequencies = random.normal(size=(12, 3)), random.integers(1, 50, 12)
    actual = cooccurrence.neighbour_map(counts, vectors, frequencies)
    # One row for every pair of words: sqrt(weight) * (outer product of vectors) . M = sqrt * PMI.
    weights = frequencies**0.5 / (frequencies**0.5).mean()
    roots = np.sqrt(np.outer(weights, weights)).ravel()
    design = np.einsum("ia,jb->ijab", vectors, vectors).reshape(144, 9) * roots[:, None]
    pmi = cooccurrence.positive_pmi(counts, 2.0).toarray().ravel() * roots
    expected = np.linalg.lstsq(design, pmi, rcond=None)[0].reshape(3, 3)
    np.testing.assert_allclose(actual, expected, atol=0.02 * np.abs(expected).max())
