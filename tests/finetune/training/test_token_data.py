"""Entities to token labels and back, and entity F1 against seqeval."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from seqeval.metrics import f1_score, precision_score, recall_score

from data_pipeline.text.encode import WordPieceEncoder
from finetune.tasks import Example, Span, bio
from finetune.training.batches import IGNORE
from finetune.training.token_data import encode_tokens, pieces, tags_of

NAMES = bio.labels_of(["LOC", "PER"])
VOCAB = [
    "[PAD]",
    "[UNK]",
    "[CLS]",
    "[SEP]",
    "[MASK]",
    *"我在北京见李明，。",
    "ab",
    "##c",
    "##d",
    "1",
]


@pytest.fixture(scope="module")
def wordpiece(tmp_path_factory):
    path = tmp_path_factory.mktemp("vocab") / "vocab.txt"
    path.write_text("\n".join(VOCAB) + "\n", encoding="utf-8")
    return WordPieceEncoder(path)


def perfect(data):
    """Logits whose largest values are the labels."""
    return [np.eye(len(data.names), dtype=np.float32)[np.maximum(row, 0)] for row in data.labels]


def test_tokens_are_labelled_by_the_entity_they_lie_in(wordpiece):
    example = Example("我在 abcd见李明", spans=(Span(3, 7, "LOC"), Span(8, 10, "PER")))
    data = encode_tokens(wordpiece, [example], 16, NAMES)
    labels = [None if label == IGNORE else NAMES[label] for label in data.labels[0]]
    # [CLS] 我 在 ab ##c ##d 见 李 明 [SEP]
    expected = [None, "O", "O", "B-LOC", None, None, "O", "B-PER", "I-PER", None]
    assert labels == expected
    assert data.spans(0, data.labels[0]) == list(example.spans)
    assert data.scores(perfect(data))["entity_f1"] == 1.0


def test_batches_pad_labels_with_what_no_loss_counts(wordpiece):
    examples = [Example("我在北京", spans=(Span(2, 4, "LOC"),)), Example("我", spans=())]
    data = encode_tokens(wordpiece, examples, 16, NAMES)
    batch = data.take(np.array([0, 1]), 8)
    assert batch["labels"].shape == batch["input_ids"].shape == (2, 8)
    assert batch["labels"][1].tolist() == [IGNORE, 0, *[IGNORE] * 6]
    assert data.counted_labels().tolist() == [0, 0, 1, 2, 0]
    assert len(data.first(1)) == 1


def test_long_texts_are_cut_after_sentences_and_lose_nothing(wordpiece):
    text = "我在北京。" * 7
    spans = tuple(Span(5 * i + 2, 5 * i + 4, "LOC") for i in range(7))
    data = encode_tokens(
        wordpiece, [Example("我", spans=()), Example(text, spans=spans)], 14, NAMES
    )
    assert data.examples.tolist() == [0, 1, 1, 1, 1]
    assert data.lengths.max() <= 14
    found = [span for row in range(1, 5) for span in data.spans(row, data.labels[row])]
    assert tuple(found) == spans
    assert data.scores(perfect(data))["entity_recall"] == 1.0


def test_an_entity_that_is_no_whole_run_is_missed_not_counted_as_found(wordpiece):
    data = encode_tokens(wordpiece, [Example("我在abcd", spans=(Span(3, 5, "LOC"),))], 16, NAMES)
    assert data.scores(perfect(data))["entity_f1"] == 0.0
    assert [column.tolist() for column in data.columns(perfect(data))] == [[[0]], [[1]], [[1]]]


@given(st.text("我在北京，。！\nab“”", max_size=60), st.integers(5, 20))
def test_pieces_are_the_text_and_no_longer_than_asked(text, longest):
    found = pieces(text, longest)
    assert "".join(found) == text
    assert all(0 < len(piece) <= longest for piece in found)


@settings(max_examples=50)
@given(st.integers(0, 2**32 - 1))
def test_entity_scores_equal_seqevals(seed):
    random = np.random.default_rng(seed)
    data = random_data(random)
    logits = [random.normal(size=(len(row), len(NAMES))).astype("f4") for row in data.labels]
    for row, labels in enumerate(data.labels):  # half of the tokens right, so that some match
        right = (labels != IGNORE) & (random.random(len(labels)) < 0.8)
        logits[row][right, labels[right]] = 9
    gold = [[NAMES[i] for i in row if i != IGNORE] for row in data.labels]
    predicted = [
        [NAMES[i] for i in values.argmax(-1)[labels != IGNORE]]
        for values, labels in zip(logits, data.labels, strict=True)
    ]
    scores = data.scores(logits)
    assert scores["entity_f1"] == pytest.approx(f1_score(gold, predicted))
    assert scores["entity_precision"] == pytest.approx(precision_score(gold, predicted))
    assert scores["entity_recall"] == pytest.approx(recall_score(gold, predicted))


def random_data(random):
    """Five sentences of lone characters with at least one entity each."""
    from finetune.training.token_data import EncodedTokens

    labels, places, gold = [], [], []
    for _ in range(5):
        length = int(random.integers(3, 12))
        start = int(random.integers(0, length - 1))
        end = int(random.integers(start + 1, length + 1))
        kind = ("LOC", "PER")[int(random.integers(2))]
        tags = bio.encode([(start, end, kind)], length)
        labels.append(np.array([IGNORE, *(NAMES.index(tag) for tag in tags), IGNORE]))
        place = np.full((length + 2, 2), -1)
        place[1:-1, 0], place[1:-1, 1] = np.arange(length), np.arange(1, length + 1)
        places.append(place)
        gold.append((Span(start, end, kind),))
    ids = [np.ones(len(row), np.int64) for row in labels]
    return EncodedTokens(ids, ids, labels, NAMES, places, np.arange(5), gold)


def test_two_entities_in_one_run_do_not_overwrite_each_other():
    places = np.array([[0, 1], [1, 5], [5, 6]])
    spans = (Span(0, 2, "PER"), Span(2, 6, "LOC"))
    assert tags_of(places, spans) == ["B-PER", "I-PER", "B-LOC"]
