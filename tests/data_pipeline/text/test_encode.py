"""Ids must be those of PaddleNLP's BertTokenizer, which users of the release load."""

import json
import random
import shutil

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_pipeline.text import words
from data_pipeline.text.encode import WordPieceEncoder, longest_first

TRICKY = (
    "",
    " \t\n　",
    "今天天气很好。",
    "😀😃👨‍👩‍👧‍👦🇨🇳❤️",  # emoji, joined, flags, with a variation selector
    "𠀀𪚥𫝀𫠠㐀䶿龥鿿﨏豈",  # rare Han of all planes, compatibility forms
    "气温37°C～40℃，50％±2‰§№",
    "iPhone7Plus vs. HUAWEI P30-Pro!!! good-ing GOODING",
    "Ａ１ｂ２，（全角）ＡＢＣ",
    "2018年10月，GDP增长6.5%；2018182018",
    "café naïve Ångström İstanbul ẞß ΣΟΦΟΣ ﬁ ǅ",
    "カタカナ ひらがな 한국어 русский עברית العربية ไทย हिन्दी",
    "〇二一〇 ①②③ ⅠⅡⅣ Ⓐ㊣ ½ ² ³",
    "a\u200bb\ufeffc\u00add\u0000e\ufffdf\u0301g",
    "\u0301 중\u0301 \u2028 \u2029 \u0085",
    "[CLS] 你好[SEP]，[MASK]了[UNK] [PAD][mask] [ MASK ] [[SEP]]",
    "x" * 100 + " " + "x" * 101 + "中" + "9" * 250,
    "https://www.example.com/a?b=c&d=%E4%B8%AD#e_f",
    "\ud800bad\udfff",
)


@pytest.fixture(scope="module")
def encoder(vocab_file):
    return WordPieceEncoder(vocab_file)


@pytest.fixture(scope="module")
def reference(vocab_file, tmp_path_factory):
    from paddlenlp.transformers import BertTokenizer

    folder = tmp_path_factory.mktemp("tokenizer")
    shutil.copy(vocab_file, folder / "vocab.txt")
    (folder / "tokenizer_config.json").write_text(json.dumps({"do_lower_case": True}))
    tokenizer = BertTokenizer.from_pretrained(str(folder))
    return lambda text: tokenizer.convert_tokens_to_ids(tokenizer.tokenize(text)), tokenizer


def test_tricky_texts_equal_the_reference(encoder, reference):
    for text, ids in zip(TRICKY, encoder.ids(list(TRICKY)), strict=True):
        assert ids.tolist() == reference[0](text), ascii(text)


def test_news_equal_the_reference(encoder, reference, news):
    lines = [line for text in news[:120] for line in text.split("\n")]
    for line, ids in zip(lines, encoder.ids(lines), strict=True):
        assert ids.tolist() == reference[0](line), line


def test_code_points_of_all_blocks_equal_the_reference(encoder, reference):
    codes = [*range(0x3400), *range(0x3400, 0x110000, 61), *range(0xFE00, 0x10000)]
    texts = [f"a{chr(code)}b中{chr(code)}" for code in codes]
    for text, ids in zip(texts, encoder.ids(texts), strict=True):
        assert ids.tolist() == reference[0](text), ascii(text)


@given(
    st.text(
        st.one_of(
            st.characters(), st.characters(max_codepoint=0x500), st.sampled_from("中国°℃😀é[]")
        ),
        max_size=20,
    )
)
@settings(max_examples=300, deadline=None)
def test_any_text_equals_the_reference(encoder, reference, text):
    assert encoder.ids([text])[0].tolist() == reference[0](text)


@pytest.mark.parametrize("max_length", [3, 4, 5, 16, 33, 128])
def test_classification_input_equals_the_reference(encoder, reference, max_length):
    texts = ["今天天气good" * n for n in range(1, 30)]
    pairs = ["一二三abc" * (n * 7 % 30) for n in range(1, 30)]
    expected = reference[1](texts, pairs, max_length=max_length, truncation="longest_first")
    found = encoder.classify(texts, pairs, max_length)
    assert found == (expected["input_ids"], expected["token_type_ids"])
    expected = reference[1](texts, max_length=max_length, truncation=True)
    found = encoder.classify(texts, max_length=max_length)
    assert found == (expected["input_ids"], expected["token_type_ids"])


def test_cased_vocabulary_equals_the_reference(vocab_file, tmp_path):
    from paddlenlp.transformers import BertTokenizer

    tokenizer = BertTokenizer(str(vocab_file), do_lower_case=False)
    encoder = WordPieceEncoder(vocab_file, do_lower_case=False)
    for text in TRICKY[:14]:
        expected = tokenizer.convert_tokens_to_ids(tokenizer.tokenize(text))
        assert encoder.ids([text])[0].tolist() == expected, ascii(text)


def test_texts_encode_alike_alone_and_together(encoder, news):
    together = encoder.ids(news[:20])
    for text, ids in zip(news[:20], together, strict=True):
        np.testing.assert_array_equal(ids, encoder.ids([text])[0])
    assert encoder.ids([]) == []


def test_positions_point_at_the_characters(encoder):
    text = "中\u200b国 good-ing[SEP]好"
    ids, where = encoder.positions(text)
    tokens = [encoder.tokens[i] for i in ids]
    assert tokens == ["中", "国", "good", "-", "i", "##n", "##g", "[SEP]", "好"]
    assert where.tolist() == [0, 2, 4, 8, 9, 9, 9, 12, 17]


def test_word_starts_follow_the_words_but_never_cut_a_run(encoder):
    text = "新冠病毒iphone很好"
    cut = lambda _: ["新冠", "病毒iph", "one", "很好"]  # noqa: E731
    ids, starts, _ = encoder.words_and_ids(text, words.boundaries(text, cut))
    tokens = [encoder.tokens[i] for i in ids]
    begun = [token for token, start in zip(tokens, starts, strict=True) if start]
    assert begun == ["新", "病", "很"]


def test_word_starts_survive_dropped_characters(encoder):
    text = "中国\u200b人民"
    bounds = np.array([1, 0, 1, 0, 0], bool)  # the second word begins with a dropped character
    _, starts, _ = encoder.words_and_ids(text, bounds)
    assert starts.tolist() == [1, 0, 1, 0]


@given(st.integers(0, 40), st.integers(0, 40), st.integers(0, 60))
def test_longest_first_equals_removing_one_at_a_time(a, b, room):
    x, y = a, b
    while x + y > room:
        if x > y:
            x -= 1
        else:
            y -= 1
    assert longest_first(a, b, room) == (x, y)


def test_run_cache_stays_bounded(vocab_file, monkeypatch):
    monkeypatch.setattr("data_pipeline.text.encode.RUNS_KEPT", 10)
    encoder = WordPieceEncoder(vocab_file)
    rng = random.Random(0)
    texts = [f"word{rng.random()}" for _ in range(50)]
    first = [ids.tolist() for ids in encoder.ids(texts)]
    assert len(encoder._runs) <= 10
    assert [ids.tolist() for ids in encoder.ids(texts)] == first
