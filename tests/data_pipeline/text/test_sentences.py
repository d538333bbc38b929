import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_pipeline.text.sentences import join_short, split_long, split_sentences


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("一。二！三？四", ["一。", "二！", "三？", "四"]),
        ("真的！！？好……吧。", ["真的！！？", "好……吧。"]),
        ("他想了想……算了……", ["他想了想……算了……"]),
        ("“等等……”他停下来。好……。走", ["“等等……”他停下来。", "好……。", "走"]),
        ("他说：“好。我来。”然后走了。再见。", ["他说：“好。我来。”然后走了。", "再见。"]),
        ("“你是谁？”“我是我。”", ["“你是谁？”", "“我是我。”"]),
        ("（真的。）然后", ["（真的。）", "然后"]),
        ("圆周率是3.14，网址www.a.cn。", ["圆周率是3.14，网址www.a.cn。"]),
        ("“没有关的引号。后面。", ["“没有关的引号。", "后面。"]),
        ("「直角『引号。』也行。」他说。", ["「直角『引号。』也行。」他说。"]),
        ("", []),
    ],
)
def test_sentences(line, expected):
    assert split_sentences(line) == expected


@given(st.text(st.sampled_from("。！？!?…”“「」『』'a中 ，"), max_size=60))
@settings(max_examples=500)
def test_sentences_lose_nothing(line):
    assert "".join(split_sentences(line)) == line


@given(st.text(st.sampled_from("中文，a 。"), max_size=200), st.integers(1, 30))
def test_split_long_loses_nothing_and_keeps_the_limit(sentence, longest):
    parts = list(split_long(sentence, longest))
    assert "".join(parts) == sentence
    assert max(map(len, parts)) <= longest


def test_split_long_cuts_after_a_comma():
    assert list(split_long("一二三四五，六七八九十", 8)) == ["一二三四五，", "六七八九十"]
    assert list(split_long("一二三四五六七八九十", 8)) == ["一二三四五六七八", "九十"]


def test_short_pieces_join_their_neighbours():
    assert join_short(["好。", "我们走吧。", "嗯。"], 4, 100) == ["好。我们走吧。嗯。"]
    assert join_short(["好。", "走。"], 4, 100) == ["好。走。"]
    assert join_short(["一二三四五。", "好。"], 4, 7) == ["一二三四五。", "好。"]


@given(st.lists(st.text("中文，", min_size=1, max_size=9), max_size=12), st.integers(1, 6))
def test_joining_loses_nothing_and_leaves_no_short_one_beside_room(pieces, min_chars):
    joined = join_short(pieces, min_chars, 1000)
    assert "".join(joined) == "".join(pieces)
    assert len(joined) <= 1 or all(len(sentence) >= min_chars for sentence in joined)


def test_a_long_run_of_dots_takes_linear_time():
    assert "".join(split_sentences("好" + "…" * 100_000 + "吧" + "…" * 100_000)) != ""
