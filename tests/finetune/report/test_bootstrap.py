"""Scores per example and paired intervals, against plain formulas and a known normal limit."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from finetune.report import bootstrap
from finetune.training.scores import SampledScore, ratio_score


def accuracy_of(right) -> SampledScore:
    right = np.asarray(right, float)
    return ratio_score(np.stack([right, np.ones_like(right)], -1))


def test_accuracy_and_f1_are_ratios_of_sums():
    assert accuracy_of([1, 0, 1, 1]).value == 0.75
    # sentence 1: 2 of 3 predicted right, 2 gold; sentence 2: nothing predicted, 1 gold
    parts = np.array([[2 * 2, 3 + 2], [0, 0 + 1]], float)
    precision, recall = 2 / 3, 2 / 3
    assert ratio_score(parts).value == pytest.approx(2 * precision * recall / (precision + recall))


@given(st.integers(0, 2**32 - 1))
def test_resampling_by_weights_equals_drawing_examples(seed):
    random = np.random.default_rng(seed)
    runs = random.integers(1, 9, (2, 7, 2)).astype(float)
    drawn = [random.integers(0, 7, 7) for _ in range(bootstrap.AT_ONCE + 1)]
    weights = np.stack([np.bincount(rows, minlength=7) for rows in drawn])
    wanted = [np.mean([run[rows, 0].sum() / run[rows, 1].sum() for run in runs]) for rows in drawn]
    found = bootstrap.resampled([ratio_score(run) for run in runs], weights)
    np.testing.assert_allclose(found, wanted)


def test_the_interval_is_that_of_the_normal_limit():
    random = np.random.default_rng(5)
    a, b = random.random((2, 4000)) < np.array([[0.8], [0.7]])
    found = bootstrap.difference({"t": [accuracy_of(a)]}, {"t": [accuracy_of(b)]})
    each = a.astype(float) - b
    error = 1.96 * each.std() / np.sqrt(each.size)
    assert found.points == pytest.approx(100 * each.mean())
    assert found.low == pytest.approx(100 * (each.mean() - error), abs=0.2)
    assert found.high == pytest.approx(100 * (each.mean() + error), abs=0.2)
    assert found.is_outside
    error = 1.96 * a.std() / np.sqrt(a.size)
    limits = pytest.approx((a.mean() - error, a.mean() + error), abs=0.002)
    assert bootstrap.interval(accuracy_of(a)) == limits


def test_pairing_makes_the_interval_narrow():
    random = np.random.default_rng(5)
    a = random.random(1000) < 0.7
    b = a.copy()
    b[:20] = ~b[:20]
    paired = bootstrap.difference({"t": [accuracy_of(a)]}, {"t": [accuracy_of(b)]})
    shuffled = random.permutation(b)
    apart = bootstrap.difference({"t": [accuracy_of(a)]}, {"t": [accuracy_of(shuffled)]})
    assert paired.high - paired.low < 0.5 * (apart.high - apart.low)


def test_a_contender_does_not_differ_from_itself():
    runs = {"t": [accuracy_of([1, 0, 1]), accuracy_of([0, 1, 1])]}
    found = bootstrap.difference(runs, runs)
    assert (found.points, found.low, found.high) == (0, 0, 0)
    assert not found.is_outside


def test_spread_is_between_seeds_where_there_are_several():
    assert bootstrap.spread_over_seeds({1: [0.1, 0.3], 2: [0.4, 0.4]}) == pytest.approx(
        np.std([0.2, 0.4], ddof=1)
    )
    assert bootstrap.spread_over_seeds({1: [0.1, 0.3]}) == pytest.approx(np.std([0.1, 0.3], ddof=1))
