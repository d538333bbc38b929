import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_pipeline.sources import packaged
from data_pipeline.sources.held_out import RUN, SHARE, HeldOut, plain_characters

TEXTS = st.text(alphabet="今天天气很好我们去公园散步吧，。 aB1", max_size=60)
TITLE = "央行宣布下调存款准备金率零点五个百分点释放资金"


def is_near_copy(one: str, other: str) -> bool:
    """The rule as it is written, with sets."""
    one, other = plain_characters(one), plain_characters(other)
    if one == other:
        return bool(one)
    runs = [{t[i : i + RUN] for i in range(len(t) - RUN + 1)} for t in (one, other)]
    shared, shorter = len(runs[0] & runs[1]), min(map(len, runs))
    return shared > 0 and shared >= SHARE * shorter


@given(st.lists(TEXTS, max_size=5), TEXTS, st.integers(0, 40))
def test_near_copies_are_found_as_the_rule_says(held, text, cut):
    for candidate in (text, *(one[cut:] + text for one in held)):
        expected = any(is_near_copy(candidate, one) for one in held)
        assert HeldOut(held).has_near_copy_of(candidate) == expected


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (TITLE, True),
        (" ".join(TITLE) + "！", True),  # blanks and punctuation aside
        ("【快讯】" + TITLE + "，分析人士认为影响有限" * 5, True),  # the whole of the shorter one
        (TITLE[:16], True),
        (TITLE[:14] + "其余的部分与它完全不同讲的是另一件事情", False),
        ("", False),
        (string.punctuation, False),
        ("很好", False),
    ],
)
def test_what_counts_as_a_near_copy(text, found):
    assert HeldOut([TITLE, "", "好"]).has_near_copy_of(text) is found


def test_short_texts_are_compared_as_a_whole():
    held = HeldOut(["质量不错，很喜欢！"])
    assert held.has_near_copy_of("质量不错 很喜欢")
    assert not held.has_near_copy_of("质量不错，很喜欢这个颜色")


@pytest.mark.parametrize(("name", "most"), [("inews", 0.08), ("reviews", 0.01)])
def test_packaged_texts_hold_no_near_copy_of_a_held_out_text(name, most):
    train = packaged.inews("train")[0] if name == "inews" else packaged.reviews("train")[0]
    texts = list(packaged.texts(name))
    assert 0 < len(train) - len(texts) < most * len(train)
    held = {
        plain_characters(text)
        for split in ("dev", "test")
        for text in (
            *packaged.inews(split)[0],
            *packaged.inews(split)[1],
            *packaged.reviews(split)[0],
        )
    } - {""}
    parts = {plain_characters(part) for text in texts for part in (text, *text.split("\n", 1))}
    assert not parts & held
