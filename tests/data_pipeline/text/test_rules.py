from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_pipeline.text.clean import clean
from data_pipeline.text.rules import (
    DOCUMENT_RULES,
    SPECIAL_TOKEN,
    rejection,
    remove_undecodable,
)
from data_pipeline.text.settings import Clean


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
        ("special_tokens", "他[MA[MASK]SK]说", "他说", 2),
        ("special_tokens", "他［MASK］说［SEP]", "他说", 2),
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
        ("urls", "看https://a.cn/b?c=1和www.x.com，好", "看和，好", 2),
        ("personal_data", "信箱a.b@c.com.cn，电话13912345678。", "信箱，电话。", 2),
        (
            "personal_data",
            "身份证11010519491231002X，编号123456789012",
            "身份证，编号123456789012",
            1,
        ),
        ("blanks", "一 \u3000\t二\xa0三", "一 二 三", 2),
    ],
)
def test_rules(rule, before, after, changed):
    assert DOCUMENT_RULES[rule].apply(before) == (after, changed)


def test_undecodable_bytes_and_half_characters_go():
    text = "中\udcff\udc80国\ud800"
    assert remove_undecodable(text) == ("中国", 3)
    assert remove_undecodable("中国") == ("中国", 0)


@pytest.mark.parametrize(
    ("sentence", "reason"),
    [
        ("好。", "too_short"),
        ("好    。", "too_short"),
        ("hello world 你好", "not_chinese"),
        ("。。。！！！", "not_chinese"),
        ("今天很好。", None),
        ("𠀀𠀁𠀂𠀃", None),
    ],
)
def test_rejections(sentence, reason):
    assert rejection(sentence, Clean(min_chars=4, min_sentence_chinese_share=0.3)) == reason


def test_the_switches_of_a_recipe_are_the_table():
    for name, rule in DOCUMENT_RULES.items():
        field = Clean.model_fields[name]
        assert field.default == rule.on_by_default
        assert field.description


@given(st.integers(0, 400))
@settings(max_examples=20, deadline=None)
def test_nests_of_special_tokens_leave_none(depth):
    """However deep they are, in a bounded number of passes."""
    text, _ = DOCUMENT_RULES["special_tokens"].apply("[MA" * depth + "[MASK]" + "SK]" * depth)
    assert SPECIAL_TOKEN.search(text) is None


def test_no_special_token_is_left_by_all_rules_together():
    for text in ("［ＭＡＳＫ］", "[MA\u200bSK]", "&#91;MASK]", "[<b>MASK</b>]", "[ＭＡ[MASK]SK]"):
        (line,) = clean(f"这是一句很好的话{text}。", Clean(), Counter())
        assert SPECIAL_TOKEN.search(line) is None
