"""Equal runs have equal hashes, and others do not."""

from hypothesis import given
from hypothesis import strategies as st

from data_pipeline.text.runs import hashed_runs


def runs_of(text, length):
    return {text[i : i + length] for i in range(len(text) - length + 1)}


@given(st.text("一二三 a\ud800", max_size=40), st.text("一二三 a\ud800", max_size=40))
def test_two_texts_share_as_many_hashes_as_runs(one, other):
    hashes = [set(hashed_runs(text, 3).tolist()) for text in (one, other)]
    runs = [runs_of(text, 3) for text in (one, other)]
    assert [len(found) for found in hashes] == [len(expected) for expected in runs]
    assert len(hashes[0] & hashes[1]) == len(runs[0] & runs[1])
