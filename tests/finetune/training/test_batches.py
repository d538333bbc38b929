"""Batches hold every example once, padded little."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from finetune.training.batches import Encoded, pad, shuffled, sorted_by_length

LENGTHS = np.random.default_rng(0).integers(3, 60, 1000)


@pytest.mark.parametrize("size", [1, 7, 32, 2000])
def test_an_epoch_has_every_row_once(size):
    rows = np.concatenate(list(shuffled(LENGTHS, size, seed=4)))
    assert sorted(rows) == list(range(1000))


def test_epochs_differ_and_repeat_by_seed():
    one, again, other = (list(shuffled(LENGTHS, 32, seed)) for seed in (1, 1, 2))
    assert all((a == b).all() for a, b in zip(one, again, strict=True))
    assert any(len(a) != len(b) or (a != b).any() for a, b in zip(one, other, strict=True))


def test_bucketing_saves_padding():
    def padded(batches):
        return sum(len(rows) * LENGTHS[rows].max() for rows in batches)

    plain = padded(np.split(np.arange(992), 31))
    assert padded(shuffled(LENGTHS, 32, 0)) < 0.65 * plain


def test_longest_batch_comes_first_in_evaluation():
    batches = sorted_by_length(LENGTHS, 100)
    assert LENGTHS[batches[0]].max() == LENGTHS.max()
    assert sorted(np.concatenate(batches)) == list(range(1000))


def test_padding():
    assert pad([np.array([1, 2]), np.array([3])]).tolist() == [[1, 2], [3, 0]]
    assert pad([np.array([1])], length=3).tolist() == [[1, 0, 0]]
    data = Encoded([np.array([5, 6])], [np.array([0, 1])], np.array([2]))
    batch = data.take(np.array([0, 0]), 4)
    assert batch["token_type_ids"].tolist() == [[0, 1, 0, 0]] * 2
    assert batch["labels"].tolist() == [2, 2]


@given(st.lists(st.integers(1, 512), max_size=200), st.integers(1, 40))
def test_every_row_once_in_batches_with_little_padding(lengths, batch_size):
    lengths = np.array(lengths, np.int64)
    batches = sorted_by_length(lengths, batch_size)
    assert sorted(row for rows in batches for row in rows) == list(range(len(lengths)))
    for rows in batches:
        of_batch = lengths[rows]
        assert 1 <= len(rows) <= batch_size
        assert list(of_batch) == sorted(of_batch, reverse=True)
        padding = len(rows) * of_batch[0] - of_batch.sum()
        assert padding <= max(64, of_batch[0] * (len(rows) - 1) / 16)
    for one, following in itertools.pairwise(batches):  # none could have held more
        full, more = len(one) == batch_size, lengths[one[0]] - lengths[following[0]]
        padding = len(one) * lengths[one[0]] - lengths[one].sum() + more
        assert full or padding > max(64, int(lengths[one[0]] * len(one) / 16))
