from collections import Counter

import pytest

from data_pipeline.base.errors import UserError
from data_pipeline.text import quality
from data_pipeline.text.clean import clean
from data_pipeline.text.settings import Clean, Quality


def test_shares_by_hand():
    assert quality.repeated_sentences(["一", "二", "一", "一"]) == 0.5
    run = "".join(chr(0x4E00 + i) for i in range(quality.GRAM))
    other = "".join(chr(0x5E00 + i) for i in range(3 * quality.GRAM))
    assert quality.repeated_characters([run, other, run]) == pytest.approx(2 / 5)
    assert quality.repeated_characters([other]) == 0
    assert quality.symbols(["★好", "#好"]) == 0.5
    for share in quality.SHARES.values():
        assert share([]) == 0


@pytest.mark.parametrize("name", quality.SHARES)
def test_a_limit_leaves_documents_out_and_counts_them(name):
    sentence = "这一句话在这篇文章里反复出现而且没有任何的变化##★★。"
    document = "\n".join([sentence] * 5)
    counters = Counter()
    limits = Clean(quality=Quality(**{f"max_{name}": 0.1}))
    assert clean(document, limits, counters) == []
    assert counters[f"documents_{name}"] == 1 and counters[f"sentences_in_{name}_documents"] == 5
    assert clean(document, Clean(), Counter()) == [sentence] * 5


def test_most_real_news_pass_the_published_limits(news):
    published = {f"max_{name}": limit for name, limit in quality.PUBLISHED.items()}
    counters = Counter()
    for text in news:
        clean(text, Clean(quality=Quality(**published)), counters)
    assert sum(counters[f"documents_{name}"] for name in quality.SHARES) < len(news) / 5


def test_bad_words_of_the_users_own(tmp_path):
    path = tmp_path / "words.txt"
    path.write_text("坏词\n另一个坏词\n", encoding="utf-8")
    limits = Clean(quality=Quality(bad_words=path))
    assert clean("这句话里有坏词。\n这句没有。", limits, Counter()) == []
    assert clean("这句话里没有。", limits, Counter()) == ["这句话里没有。"]
    path.write_text("\n")
    for missing in (tmp_path / "none.txt", tmp_path):
        with pytest.raises(UserError, match=r"bad_words: .* cannot be read"):
            clean("这句话里没有。", Clean(quality=Quality(bad_words=missing)), Counter())
