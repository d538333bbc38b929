"""Positions and rotations: where heads look before the first step."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pretrain.encoders import local_attention as local

PAIRS = st.integers(2, 24)


@given(PAIRS, st.integers(-20, 20), st.integers(20, 100))
def test_a_shift_turns_a_position_into_the_one_at_the_offset(pairs, offset, place):
    table = local.positions(121, pairs)
    np.testing.assert_allclose(
        local.shift(pairs, offset) @ table[place], table[place + offset], atol=1e-9
    )


@given(PAIRS)
def test_every_pair_of_a_position_has_length_1(pairs):
    table = local.positions(9, pairs).reshape(9, pairs, 2)
    np.testing.assert_allclose((table**2).sum(-1), 1)
    assert (np.diff(local.frequencies(pairs)) > 0).all()
    assert local.frequencies(pairs)[0] > 0 and local.frequencies(pairs)[-1] < np.pi


@given(st.integers(-6, 6), st.floats(0.1, 4), st.sampled_from([32, 64]))
def test_a_head_looks_at_its_offset(offset, amplitude, head_size):
    pairs, peak = 16, 12.0
    query, key = local.query_and_key(pairs, head_size, offset, amplitude, peak)
    states = amplitude * local.positions(128, pairs)
    logits = (states @ query.T) @ (states @ key.T).T / np.sqrt(head_size)
    weights = np.exp(logits)
    weights /= weights.sum(1, keepdims=True)
    for place in range(max(0, -offset), min(128, 128 - offset)):
        assert logits[place, place + offset] == pytest.approx(peak)
        assert weights[place, place + offset] > 0.97


@given(st.integers(0, 5), st.integers(1, 12))
def test_the_heads_of_a_layer_have_offsets_of_their_own(layer, heads):
    actual = local.offsets(layer, heads)
    assert len(set(actual)) == heads and 0 not in actual


def test_offsets_are_the_nearest_and_every_other_layer_looks_further():
    assert local.offsets(0, 4) == [-1, 1, -2, 2]
    assert local.offsets(1, 4) == [-3, 3, -1, 1]
    assert local.offsets(2, 2) == [-1, 1]
