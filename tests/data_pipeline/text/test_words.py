from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_pipeline.sources import packaged
from data_pipeline.text import words


@pytest.fixture(scope="module", params=words.SEGMENTERS)
def cut(request):
    return words.segmenter(request.param)


def begun(text, cut):
    """Words according to the boundaries."""
    starts = [*np.flatnonzero(words.boundaries(text, cut)), len(text)]
    return [text[a:b] for a, b in pairwise(starts)]


def test_boundaries_are_those_of_the_words(cut):
    text = "我来到北京清华大学\n他说：hello，很好。"
    assert begun(text, cut) == cut(text)
    assert "清华大学" in begun(text, cut)


def test_lines_are_cut_alike_alone_and_together(cut, news):
    lines = [line for text in news[:5] for line in text.split("\n") if line]
    together = words.boundaries("\n".join(lines), cut)
    alone = [np.append(words.boundaries(line, cut), True) for line in lines]
    np.testing.assert_array_equal(together, np.concatenate(alone)[:-1])


@given(st.text(max_size=60))
def test_any_text_has_boundaries(cut, text):
    found = words.boundaries(text, cut)
    assert found.shape == (len(text),) and (not text or found[0])


def test_the_input_of_the_segmenter_is_capped():
    longest = []

    def cut(text):
        longest.append(max(map(len, text.split("\n"))))
        return [text]

    text = "鿿" * 50_000 + "\n短\n\n" + "龘" * 5000
    assert len(words.boundaries(text, cut)) == len(text)
    assert max(longest) <= words.LONGEST_RUN


@given(st.lists(st.integers(0, 30), max_size=8), st.integers(1, 12))
def test_capped_parts_are_the_text(sizes, longest):
    text = "\n".join("字" * size for size in sizes)
    parts = words.capped(text, longest)
    assert "".join(parts) == text
    assert all(len(line) <= longest for part in parts for line in part.split("\n"))


def test_a_segmenter_that_changes_the_text_is_found_out():
    with pytest.raises(RuntimeError, match="changed the text"):
        words.boundaries("一二三", lambda text: [text, "多"])


def test_rjieba_cuts_like_jieba(news):
    """What the default rests on: F1 of words at least 0.995, and 0.999 on lines of Han alone."""
    fast, reference = (words.segmenter(name) for name in words.SEGMENTERS)
    lines = [line for text in news[:40] for line in text.split("\n")]
    lines += packaged.people_daily()[:400]
    assert words.agreement(map(reference, lines), map(fast, lines)) > 0.995
    han = ["".join(c for c in line if "\u4e00" <= c <= "\u9fd5") for line in lines]
    assert words.agreement(map(reference, han), map(fast, han)) > 0.999


def test_agreement_is_the_f1_of_spans():
    assert words.agreement([["一二", "三"]], [["一二", "三"]]) == 1
    assert words.agreement([["一二", "三"]], [["一", "二", "三"]]) == pytest.approx(2 / 5)
    assert words.agreement([], []) == 1
