"""Whole words are hidden or left, at the shares asked for; special tokens never are."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pretrain.objectives.masking import IGNORED, mask_whole_words
from pretrain.objectives.settings import Masking

SPECIAL = {"pad": 0, "unk": 1, "cls": 2, "sep": 3, "mask": 4}
VOCABULARY = 50


def batch(seed, rows=8, length=40):
    random = np.random.default_rng(seed)
    ids = random.integers(5, VOCABULARY, (rows, length))
    starts = random.integers(0, 2, (rows, length)).astype(np.uint8)
    for row, n in enumerate(random.integers(4, length + 1, rows)):
        ids[row, 0], ids[row, n - 1], ids[row, n:] = 2, 3, 0
        starts[row, [0, 1, n - 1]], starts[row, n:] = 1, 0
    return ids, starts


def masked(seed, **changes):
    ids, starts = batch(seed)
    random = np.random.default_rng(seed + 1)
    return (
        ids,
        starts,
        *mask_whole_words(ids, starts, SPECIAL, VOCABULARY, Masking(**changes), random),
    )


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10**6), share=st.floats(0.05, 0.9))
def test_words_are_hidden_whole_and_special_tokens_never(seed, share):
    ids, starts, seen, labels = masked(seed, share=share)
    hidden = labels != IGNORED
    assert (labels[hidden] == ids[hidden]).all()
    assert (seen[~hidden] == ids[~hidden]).all()
    assert not hidden[np.isin(ids, (0, 2, 3))].any()
    same_word = (starts[:, 1:] == 0) & ~np.isin(ids[:, 1:], (0, 2, 3))
    assert (hidden[:, 1:] == hidden[:, :-1])[same_word].all()
    assert not np.isin(seen[hidden & (seen != ids)], (0, 1, 2, 3)).any()


def test_the_same_draws_give_the_same_masks():
    for one, other in zip(masked(3), masked(3), strict=True):
        assert (one == other).all()


def test_shares_are_what_was_asked_for():
    random = np.random.default_rng(0)
    ids = random.integers(5, VOCABULARY, (400, 100))
    seen, labels = mask_whole_words(
        ids, np.ones_like(ids, np.uint8), SPECIAL, VOCABULARY, Masking(), random
    )
    hidden = labels != IGNORED
    assert hidden.mean() == pytest.approx(0.15, abs=0.01)
    assert (seen[hidden] == 4).mean() == pytest.approx(0.8, abs=0.02)
    assert (seen[hidden] == ids[hidden]).mean() == pytest.approx(0.1 + 0.1 / 45, abs=0.02)
