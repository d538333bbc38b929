"""The entities and words of the People's Daily, from its tags."""

import pytest

from finetune.tasks import Span, open_task, people_daily
from finetune.tasks.settings import TaskSettings


def texts_of(example):
    return [(example.text[span.start : span.end], span.label) for span in example.spans]


def test_surname_and_given_name_are_one_person():
    line = [
        ("江", "nr"),
        ("泽民", "nr"),
        ("和", "c"),
        ("克林顿", "nr"),
        ("访", "v"),
        ("北京", "ns"),
    ]
    assert people_daily.names_of_line(line) == [
        Span(0, 3, "PER"),
        Span(4, 7, "PER"),
        Span(8, 10, "LOC"),
    ]


def test_a_list_of_names_without_marks_is_several_people():
    line = [("孟", "nr"), ("西安", "nr"), ("黄", "nr"), ("大刚", "nr")]
    assert people_daily.names_of_line(line) == [Span(0, 3, "PER"), Span(3, 6, "PER")]


def test_double_surnames_join_and_foreign_names_do_not():
    line = [("欧阳", "nr"), ("修", "nr"), ("阿拉法特", "nr"), ("叶利钦", "nr")]
    names = people_daily.names_of_line(line)
    assert names == [Span(0, 3, "PER"), Span(3, 7, "PER"), Span(7, 10, "PER")]


def test_a_line_becomes_sentences_with_their_own_positions():
    text = "１９９７年，江泽民到北京。李鹏在家。"
    spans = [Span(6, 9, "PER"), Span(10, 12, "LOC"), Span(13, 15, "PER")]
    first, second = people_daily.sentences(text, spans)
    assert first.text == "1997年，江泽民到北京。"
    assert texts_of(first) == [("江泽民", "PER"), ("北京", "LOC")]
    assert texts_of(second) == [("李鹏", "PER")]


@pytest.mark.parametrize("name", ["people_daily_ner", "people_daily_pos"])
def test_splits_are_fixed_apart_and_hold_every_type(name):
    task = open_task(TaskSettings(name=name))
    assert task.kind == "tokens"
    dev, test = task.split("dev"), task.split("test")
    assert (len(dev), len(test)) == (2090, 2007)
    assert len(task.split("train")) == 40076
    types = {label[2:] for label in task.labels[1:]}
    for examples in (dev, test):
        assert {span.label for example in examples for span in example.spans} == types
        assert max(len(example.text) for example in examples) <= 126
    for example in dev:
        ends = [0, *(span.end for span in example.spans)]
        assert all(s.start >= end for s, end in zip(example.spans, ends, strict=False))
        assert ends[-1] <= len(example.text)


def test_known_people_and_places_of_a_sentence():
    train = open_task(TaskSettings(name="people_daily_ner")).split("train")
    example = next(e for e in train if e.text.startswith("12月31日，中共中央总书记"))
    assert texts_of(example) == [("中共中央", "ORG"), ("江泽民", "PER")]
