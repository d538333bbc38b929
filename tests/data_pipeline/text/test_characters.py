from data_pipeline.text.characters import HAN_RANGES, count_han, is_han


def test_the_pattern_and_the_predicate_agree_on_every_edge():
    for first, last in HAN_RANGES:
        for code in (first - 1, first, last, last + 1):
            assert count_han(chr(code)) == is_han(chr(code))


def test_han_characters_are_counted():
    assert count_han("中文 abc，𠀀。カ1") == 3
