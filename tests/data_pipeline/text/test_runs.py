"""Equal runs have equal hashes, and others do not."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from data_pipeline.text.runs import hashed_runs, run_hashes, whole_hash


def runs_of(text, length):
    return {text[i : i + length] for i in range(len(text) - length + 1)}


@given(st.text("一二三 a\ud800", max_size=40), st.text("一二三 a\ud800", max_size=40))
def test_two_texts_share_as_many_hashes_as_runs(one, other):
    hashes = [set(hashed_runs(text, 3).tolist()) for text in (one, other)]
    runs = [runs_of(text, 3) for text in (one, other)]
    assert [len(found) for found in hashes] == [len(expected) for expected in runs]
    assert len(hashes[0] & hashes[1]) == len(runs[0] & runs[1])


def test_hashes_go_by_the_codes_from_a_place_on():
    codes = np.arange(0x4E00, 0x4E00 + 40, dtype=np.uint32)
    hashes = run_hashes(codes, 13)
    assert len(np.unique(hashes)) == 40 - 13 + 1 and len(run_hashes(codes[:12], 13)) == 0
    np.testing.assert_array_equal(hashes[5:], run_hashes(codes[5:], 13))
    assert whole_hash(codes[:13]) != hashes[0]
    assert whole_hash(codes[:5]) == whole_hash(codes[:5]) != whole_hash(codes[:6])
