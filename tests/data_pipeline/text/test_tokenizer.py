"""The tokenizer of a model directory decides ids as PaddleNLP's and Hugging Face's files say."""

import json

import pytest

from data_pipeline.base.errors import UserError
from data_pipeline.text import tokenizer, vocab
from data_pipeline.text.encode import WordPieceEncoder

TOKENS = [*vocab.SPECIAL.values(), "中", "国", "a", "A", "##b", "##B", "é", "e"]


def tokens_of(directory, text):
    encoder = WordPieceEncoder.of_directory(directory)
    return [encoder.tokens[i] for i in encoder.ids([text])[0]]


@pytest.mark.parametrize(("lower_case", "expected"), [(True, "a ##b e"), (False, "A ##B é")])
def test_case_is_written_read_and_copied(tmp_path, lower_case, expected):
    (tmp_path / "one").mkdir()
    (tmp_path / "other").mkdir()
    tokenizer.write(tmp_path / "one", TOKENS, lower_case, "PPMiniLMTokenizer")
    tokenizer.copy(tmp_path / "one", tmp_path / "other", "PPMiniLMTokenizer")
    for name in ("one", "other"):
        assert " ".join(tokens_of(tmp_path / name, "AB é")) == expected
    written = json.loads((tmp_path / "other" / "tokenizer_config.json").read_text())
    assert written["tokenizer_class"] == "PPMiniLMTokenizer"
    assert tokenizer.differences(tmp_path / "one", tmp_path / "other") == []


def test_texts_are_lower_cased_where_nothing_is_said(tmp_path):
    vocab.write(tmp_path / "vocab.txt", TOKENS)
    assert tokens_of(tmp_path, "AB") == ["a", "##b"]
    (tmp_path / "tokenizer_config.json").write_text('{"init_inputs": []}')  # RoBERTa-wwm's
    assert tokens_of(tmp_path, "AB") == ["a", "##b"]


@pytest.mark.parametrize(
    ("value", "expected"), [(128, 128), (None, None), (10**30, None), ("128", None), (0, None)]
)
def test_the_longest_text(tmp_path, value, expected):
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"model_max_length": value}))
    assert tokenizer.longest_text(tmp_path) == expected


def test_differences_are_named(tmp_path):
    for name, tokens, lower_case in (
        ("one", TOKENS, True),
        ("cased", TOKENS, False),
        ("short", TOKENS[:-1], True),
    ):
        (tmp_path / name).mkdir()
        tokenizer.write(tmp_path / name, tokens, lower_case)
    (case,) = tokenizer.differences(tmp_path / "one", tmp_path / "cased")
    assert case == "do_lower_case is True in one and False in the other"
    assert tokenizer.differences(tmp_path / "one", tmp_path / "short") == [
        "the vocabularies differ"
    ]


@pytest.mark.parametrize("lower_case", [True, False])
def test_tokenizer_json_alone_is_read(tmp_path, lower_case):
    from tokenizers import BertWordPieceTokenizer

    vocab.write(tmp_path / "v.txt", TOKENS)
    library = BertWordPieceTokenizer(str(tmp_path / "v.txt"), lowercase=lower_case)
    library.save(str(tmp_path / "tokenizer.json"))
    assert tokenizer.read(tmp_path) == (TOKENS, lower_case)
    expected = library.encode("AB 中国 é", add_special_tokens=False).tokens
    assert tokens_of(tmp_path, "AB 中国 é") == expected


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("x.txt", "", "no vocab.txt and no tokenizer.json"),
        ("tokenizer.json", "{", "not a tokenizer"),
        ("tokenizer.json", "[]", "not a tokenizer"),
        ("tokenizer.json", '{"model": {"vocab": 3}}', "not a tokenizer"),
        ("tokenizer.json", '{"model": {"type": "BPE", "vocab": {"a": 0}}}', "a BPE tokenizer"),
        (
            "tokenizer.json",
            '{"model": {"type": "WordPiece", "vocab": {"a": 0, "b": 2}}}',
            "the ids are not 0 to 1",
        ),
    ],
)
def test_what_is_no_vocabulary_is_named(tmp_path, name, content, message):
    (tmp_path / name).write_text(content)
    with pytest.raises(UserError, match=message):
        vocab.read(tokenizer.vocabulary_file(tmp_path))


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"do_lower_case": "yes"}, "do_lower_case is 'yes'"),
        ({"strip_accents": False}, "strip_accents False with do_lower_case True is not supported"),
        ({"do_lower_case": False, "strip_accents": True}, "strip_accents True with do_lower_case"),
        ({"tokenize_chinese_chars": False}, "tokenize_chinese_chars False"),
        ([], "not a mapping"),
    ],
)
def test_what_would_give_other_ids_is_refused(tmp_path, config, message):
    vocab.write(tmp_path / "vocab.txt", TOKENS)
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
    with pytest.raises(UserError, match=message):
        WordPieceEncoder.of_directory(tmp_path)
