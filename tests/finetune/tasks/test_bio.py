"""BIO labels and spans, against seqeval's reading of the same labels."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from seqeval.metrics.sequence_labeling import get_entities

from data_pipeline.base.errors import UserError
from finetune.tasks import bio

TYPES = ("LOC", "PER")
labels = st.lists(st.sampled_from([*bio.labels_of(TYPES)]))


@st.composite
def spans(draw):
    """(length, spans in order and without overlap)."""
    length = draw(st.integers(0, 20))
    found, start = [], 0
    while start < length:
        start += draw(st.integers(0, 3))
        end = start + draw(st.integers(1, 4))
        if end > length:
            break
        found.append((start, end, draw(st.sampled_from(TYPES))))
        start = end
    return length, found


@given(spans())
def test_decode_reads_what_encode_writes(case):
    length, expected = case
    written = bio.encode(expected, length)
    assert len(written) == length
    assert bio.decode(written) == expected


@given(labels)
def test_decode_finds_the_entities_that_seqeval_finds(sequence):
    expected = [(start, end + 1, name) for name, start, end in get_entities(sequence)]
    assert bio.decode(sequence) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("B-X M-X E-X O S-Y", [(0, 3, "X"), (4, 5, "Y")]),
        ("B-X I-X B-X", [(0, 2, "X"), (2, 3, "X")]),
        ("O I-X I-Y", [(1, 2, "X"), (2, 3, "Y")]),
        ("S-X S-X", [(0, 1, "X"), (1, 2, "X")]),
    ],
)
def test_decode_reads_the_schemes_in_circulation(text, expected):
    assert bio.decode(text.split()) == expected


def test_labels_and_types_are_inverse():
    assert bio.labels_of(TYPES) == ["O", "B-LOC", "I-LOC", "B-PER", "I-PER"]
    assert bio.types_of(bio.labels_of(TYPES)) == list(TYPES)


@pytest.mark.parametrize("label", ["PER", "B", "B-", "X-PER", ""])
def test_what_is_no_label_is_named_with_its_place(label):
    with pytest.raises(UserError, match=r"a\.txt, line 3: .*expected O, B-TYPE or I-TYPE"):
        bio.check(label, "a.txt, line 3")
