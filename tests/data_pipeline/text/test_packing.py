import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from data_pipeline.text import packing

sentences = st.lists(st.tuples(st.integers(0, 40), st.booleans()), max_size=30)


@given(sentences, st.integers(1, 20), st.integers(0, 2**31))
def test_nothing_is_lost_and_no_sample_is_too_long(rows, room, seed):
    sizes, new = [size for size, _ in rows], [flag for _, flag in rows]
    starts = np.random.default_rng(seed).integers(0, 2, sum(sizes)).astype(np.uint8)
    offsets = packing.cuts(sizes, new, starts, room)
    lengths = np.diff(offsets)
    assert offsets[0] == 0 and offsets[-1] == sum(sizes)
    assert (lengths > 0).all() and (lengths <= room).all()


@given(sentences, st.integers(1, 20))
def test_documents_never_share_a_sample(rows, room):
    sizes, new = [size for size, _ in rows], [flag for _, flag in rows]
    offsets = packing.cuts(sizes, new, np.ones(sum(sizes), np.uint8), room)
    begins = np.cumsum([0, *sizes])[:-1][np.array(new, bool)] if sizes else []
    assert set(begins) <= {*offsets.tolist(), sum(sizes)}


def test_whole_sentences_are_kept_together():
    offsets = packing.cuts([4, 4, 4, 9], [True, False, False, False], np.ones(21), 10)
    assert offsets.tolist() == [0, 8, 12, 21]


def test_a_long_sentence_is_cut_before_a_word():
    starts = np.array([1, 0, 0, 1, 0, 1, 0, 0, 0, 0, 0, 0], np.uint8)
    assert packing.cuts([12], [True], starts, 5).tolist() == [0, 5, 10, 12]
    assert packing.cuts([12], [True], starts, 4).tolist() == [0, 3, 5, 9, 12]


def test_specials_go_round_each_sample():
    ids, starts = np.array([7, 8, 9], np.uint16), np.array([1, 0, 1], np.uint8)
    samples = packing.with_specials(ids, starts, np.array([0, 2, 3]), 2, 3)
    assert samples.ids.tolist() == [2, 7, 8, 3, 2, 9, 3]
    assert samples.offsets.tolist() == [0, 4, 7]
    assert samples.word_start.tolist() == [1, 1, 0, 1, 1, 1, 1]
    assert len(packing.with_specials(ids[:0], starts[:0], np.array([0]), 2, 3)) == 0
