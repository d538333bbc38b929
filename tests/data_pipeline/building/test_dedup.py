import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_pipeline.building import dedup


def record_files(folder, pieces):
    """One file of exact records a piece; each sentence a document of its own."""
    paths = []
    for number, sentences in enumerate(pieces):
        paths.append(folder / f"{number}.npy")
        dedup.save(paths[-1], dedup.exact_records(sentences, np.arange(len(sentences))))
    return paths


def kept(folder, pieces, partitions):
    paths = record_files(folder, pieces)
    outcome = []
    for number in range(partitions):
        outcome.append(folder / f"dropped-{number}.npy")
        dedup.save(outcome[-1], dedup.later_occurrences(paths, number, partitions))
    return [
        [s for i, s in enumerate(sentences) if i not in dedup.dropped_of(outcome, piece)]
        for piece, sentences in enumerate(pieces)
    ]


@given(
    st.lists(st.lists(st.sampled_from("一二三四五六七八九十百千"), max_size=12), max_size=4),
    st.integers(1, 5),
)
@settings(max_examples=60, deadline=None)
def test_first_occurrences_stay_whatever_the_partitions(tmp_path_factory, pieces, partitions):
    pieces = pieces or [[]]
    seen, expected = set(), []
    for sentences in pieces:
        expected.append([s for s in sentences if not (s in seen or seen.add(s))])
    assert kept(tmp_path_factory.mktemp("dedup"), pieces, partitions) == expected


def test_documents_that_are_gone_do_not_count_as_first(tmp_path):
    paths = record_files(tmp_path, [["一", "二"], ["一", "二"]])
    without = [np.array([0]), np.array([], np.uint32)]
    dropped = dedup.later_occurrences(paths, 0, 1, without)
    assert [tuple(row) for row in dropped.tolist()] == [(1, 1)]


def test_partitions_bound_the_memory():
    assert dedup.partitions(0, 1) == 1
    records = 600_000_000
    count = dedup.partitions(records, 256)
    assert records / count * dedup.BYTES_IN_MEMORY <= 256 * 2**20


def test_partitions_share_the_records_evenly(tmp_path):
    sentences = [f"第{i}句" for i in range(20_000)] * 2
    paths = record_files(tmp_path, [sentences])
    sizes = [len(dedup.later_occurrences(paths, number, 8)) for number in range(8)]
    assert sum(sizes) == 20_000
    assert max(sizes) < 1.1 * min(sizes)


def test_hashes_do_not_depend_on_machine_or_version():
    """Records of a build that was begun elsewhere, or before an upgrade, must still fit."""
    records = dedup.exact_records(["中国"], np.array([7]))
    assert records.tolist() == [(16018587630614493830, 3676724666315402391, 0, 7)]


def jaccard(a, b):
    x, y = set(dedup.shingles(a).tolist()), set(dedup.shingles(b).tolist())
    return len(x & y) / len(x | y)


def test_shingles_are_the_distinct_runs_of_five_characters():
    assert len(dedup.shingles("一二三四")) == 0
    assert len(dedup.shingles("一二三四五六")) == 2
    assert len(dedup.shingles("一" * 100)) == 1
    np.testing.assert_array_equal(dedup.shingles("一二 三四\n五"), dedup.shingles("一二三四五"))
    assert jaccard("一二三四五六七八九", "二三四五六七八九十") == pytest.approx(4 / 6)


def test_minhash_estimates_jaccard(news):
    first, half = news[0], len(news[0]) // 2
    texts = [first, first[:-60] + "换了一个结尾。", first[:half] + news[1], "短"]
    numbers, signatures = dedup.minhash(texts, 512)
    assert numbers.tolist() == [0, 1, 2]
    for other in (1, 2):
        estimate = (signatures[0] == signatures[other]).mean()
        assert estimate == pytest.approx(jaccard(texts[0], texts[other]), abs=0.08)


def test_banding_is_sharpest_near_the_threshold():
    for threshold in (0.5, 0.7, 0.9):
        bands, rows = dedup.banding(threshold, 128)
        assert bands * rows <= 128
        chance = [1 - (1 - s**rows) ** bands for s in (threshold - 0.2, threshold + 0.1)]
        assert chance[0] < 0.25 and chance[1] > 0.75


def test_near_records_find_what_resembles(news, tmp_path):
    texts = [news[3], news[4], news[3].replace("的", "地", 1), news[5], news[4] + "完"]
    path = tmp_path / "near.npy"
    dedup.save(path, dedup.near_records(texts, 0.8, 128))
    assert dedup.later_occurrences([path], 0, 1)["item"].tolist() == [2, 4]
    assert len(dedup.near_records(["短", ""], 0.8, 128)) == 0
