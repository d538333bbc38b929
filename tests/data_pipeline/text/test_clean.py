from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_pipeline.base.errors import UserError
from data_pipeline.text.clean import clean
from data_pipeline.text.rules import CONTROL, DOCUMENT_RULES
from data_pipeline.text.settings import Clean


def test_every_sentence_and_character_is_accounted_for(news):
    counters = Counter()
    settings = Clean(min_sentence_chinese_share=0.2)
    kept = [sentence for text in news for sentence in clean(text, settings, counters)]
    rejected = sum(
        counters[f"sentences_{name}"]
        for name in ("too_short", "not_chinese", "in_not_chinese_documents")
    )
    assert counters["sentences_in"] == len(kept) + rejected
    assert rejected > 0 and len(kept) > 1000
    removed = sum(n for name, n in counters.items() if name.startswith("characters_removed"))
    blanks = sum(c.isspace() for text in news for c in text)
    left = counters["characters_in"] - removed - sum(map(len, kept))
    assert 0 <= left <= blanks + counters["bytes_undecodable"]


@pytest.mark.parametrize(
    ("document", "kept"),
    [
        ("第一句话。\n嗯。\n第二句话。", ["第一句话。嗯。", "第二句话。"]),
        ("第一句话。\n12\n第二句话。", ["第一句话。", "第二句话。"]),  # a page number
        ("他说……好吧。", ["他说……好吧。"]),
        ("是。", []),
        ("iPhone X is here\n中文正文在这里，很长的一段话，说的是手机。", None),
        ("All of this is English.\n只有这里是中文。" + "No Chinese at all here. " * 3, []),
    ],
)
def test_documents_stay_whole(document, kept):
    expected = document.split("\n") if kept is None else kept
    assert clean(document, Clean(), Counter()) == expected


def test_switched_off_rules_do_nothing():
    off = Clean(
        **dict.fromkeys(DOCUMENT_RULES, False), split=False, min_chars=1, min_chinese_share=0.0
    )
    counters = Counter()
    text = "<b>[MASK]</b>　１\u200b。二"
    assert clean(text, off, counters) == [text]
    assert not any(name.startswith("changed_") for name in counters)


@given(st.text(max_size=200))
@settings(max_examples=300)
def test_any_text_gives_clean_sentences(text):
    for sentence in clean(text, Clean(simplify=True), Counter()):
        assert "\n" not in sentence and sentence == sentence.strip()
        assert not CONTROL.search(sentence)
        sentence.encode()


def test_one_very_long_line_takes_linear_time():
    text = "“<&没有标点" * 200_000
    kept = clean(text, Clean(min_chinese_share=0), Counter())
    assert sum(map(len, kept)) == len(text)


OWN = """
def without_adverts(text):
    return text.replace("广告", ""), text.count("广告")

def wrong(text):
    return text
"""


@pytest.fixture
def own_module(tmp_path, monkeypatch):
    """A module of the user's own, importable."""
    (tmp_path / "own_rules_of_test_clean.py").write_text(OWN, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    return "own_rules_of_test_clean"


def test_a_rule_of_the_users_own(own_module):
    counters = Counter()
    name = f"{own_module}:without_adverts"
    assert clean("这是广告，很好的广告。", Clean(rules=(name,)), counters) == ["这是，很好的。"]
    assert counters[f"changed_{name}"] == 2


@pytest.mark.parametrize(
    ("function", "message"),
    [
        ("absent", "has no function absent"),
        ("wrong", r"wrong returned .*; a rule returns \(text, number of places changed\)"),
    ],
)
def test_a_rule_that_does_not_fit_is_named(own_module, function, message):
    with pytest.raises(UserError, match=message):
        clean("很好的一句话。", Clean(rules=(f"{own_module}:{function}",)), Counter())


def test_a_module_that_cannot_be_imported_is_named():
    with pytest.raises(UserError, match="no_such_module:rule: cannot import no_such_module"):
        clean("很好的一句话。", Clean(rules=("no_such_module:rule",)), Counter())
