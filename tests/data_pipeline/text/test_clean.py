from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_pipeline.recipe import Clean
from data_pipeline.text import clean


@pytest.mark.parametrize(
    ("rule", "before", "after", "changed"),
    [
        ("html", "<p class='a'>你好&nbsp;世界</p>", " 你好\xa0世界 ", 3),
        ("html", "<script>\nvar a=1;\n</script>文<!-- x\ny -->字&amp;lt;", " 文 字<", 4),
        ("html", "价格 a<b 且 c>d，3 < 5", "价格 a<b 且 c>d，3 < 5", 0),
        ("html", "&#20013;&#x56fd;&bogus;&", "中国&bogus;&", 2),
        ("control", "中\u200b国\x00人\ufeff民\ue123\u202e", "中国人民", 5),
        ("control", "一行\r\n二行\r三行\u2028四行", "一行\n二行\n三行\n四行", 0),
        ("control", "表\t格", "表\t格", 0),
        ("special_tokens", "他[MASK]说[SEP][cls]", "他说[cls]", 2),
        ("width", "ＡＢｃ１２３，（全角）！　", "ABc123，（全角）！ ", 7),
        ("simplify", "後來沒有人說：乾隆著作", "后来没有人说：乾隆著作", 4),
        ("simplify", "氣候乾燥，餘下的麵條", "气候干燥，余下的面条", 5),
        (
            "simplify",
            "我们在这里看见后面的余额，着急于发展",
            "我们在这里看见后面的余额，着急于发展",
            0,
        ),
        ("simplify", "a\0後\0b", "a\0后\0b", 1),
        ("blanks", "一 \u3000\t二\xa0三", "一 二 三", 2),
    ],
)
def test_rules(rule, before, after, changed):
    assert clean.RULES[rule](before) == (after, changed)


def test_undecodable_bytes_and_half_characters_go():
    text = "中\udcff\udc80国\ud800"
    assert clean.undecodable(text) == ("中国", 3)
    assert clean.undecodable("中国") == ("中国", 0)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("一。二！三？四", ["一。", "二！", "三？", "四"]),
        ("真的！！？好……吧。", ["真的！！？", "好……", "吧。"]),
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
    assert list(clean.sentences(line)) == expected


@given(st.text(st.sampled_from("。！？!?…”“「」『』'a中 ，"), max_size=60))
@settings(max_examples=500)
def test_sentences_lose_nothing(line):
    assert "".join(clean.sentences(line)) == line


@given(st.text(st.sampled_from("中文，a 。"), max_size=200), st.integers(1, 30))
def test_shortened_loses_nothing_and_keeps_the_limit(sentence, longest):
    parts = list(clean.shortened(sentence, longest))
    assert "".join(parts) == sentence
    assert max(map(len, parts)) <= longest


def test_shortened_cuts_after_a_comma():
    assert list(clean.shortened("一二三四五，六七八九十", 8)) == ["一二三四五，", "六七八九十"]
    assert list(clean.shortened("一二三四五六七八九十", 8)) == ["一二三四五六七八", "九十"]


@pytest.mark.parametrize(
    ("sentence", "reason"),
    [
        ("好。", "sentences_too_short"),
        ("好    。", "sentences_too_short"),
        ("hello world 你好", "sentences_not_chinese"),
        ("。。。！！！", "sentences_not_chinese"),
        ("今天很好。", None),
        ("𠀀𠀁𠀂𠀃", None),
    ],
)
def test_faults(sentence, reason):
    assert clean.fault(sentence, 4, 0.3) == reason


def test_every_sentence_is_accounted_for(news):
    counters = Counter()
    kept = [sentence for text in news for sentence in clean.clean(text, Clean(), counters)]
    gone = counters["sentences_too_short"] + counters["sentences_not_chinese"]
    assert counters["sentences_in"] == len(kept) + gone
    assert counters["lines_in"] == sum(
        counters[name] for name in ("lines_kept", "lines_blank", "lines_without_sentence")
    )
    assert gone > 0 and len(kept) > 1000


def test_switched_off_rules_do_nothing():
    off = Clean(
        **dict.fromkeys(clean.RULES, False), split=False, min_chars=1, min_chinese_share=0.0
    )
    counters = Counter()
    text = "<b>[MASK]</b>　１\u200b。二"
    assert clean.clean(text, off, counters) == [text]
    assert not any(name.startswith("changed_") for name in counters)


@given(st.text(max_size=200))
@settings(max_examples=300)
def test_any_text_gives_clean_sentences(text):
    for sentence in clean.clean(text, Clean(simplify=True), Counter()):
        assert "\n" not in sentence and sentence == sentence.strip()
        assert not clean.CONTROL.search(sentence)
        sentence.encode()


def test_one_very_long_line_takes_linear_time():
    text = "“<&没有标点" * 200_000
    kept = clean.clean(text, Clean(), Counter())
    assert sum(map(len, kept)) == len(text)
