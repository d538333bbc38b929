from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_pipeline.base.files import write_json
from data_pipeline.building import dedup, hashing, piece_file, records
from data_pipeline.building.plan import Plan
from data_pipeline.building.records import KINDS, partition_count

EXACT = KINDS["exact"]


def write_records(path, kind, values):
    """The file of a piece with nothing but records of one kind."""
    with piece_file.writer(path) as made, made.section(kind.section) as file:
        records.write_records(file, values)


def record_files(folder, pieces):
    """One file of exact records a piece; each sentence a document of its own."""
    paths = []
    for number, sentences in enumerate(pieces):
        paths.append(folder / f"{number}.piece")
        values = hashing.exact_records(sentences, np.arange(len(sentences)))
        write_records(paths[-1], EXACT, values)
    return paths


def drops_of(folder, paths, partitions, groups=1):
    """What is dropped from each piece, by way of partitions and groups of pieces."""
    files = []
    for number in range(partitions):
        files.append(folder / f"dropped-{number}.npy")
        dedup.save_array(files[-1], dedup.later_occurrences(paths, EXACT, number, partitions))
    bounds = [n * len(paths) // groups for n in range(groups + 1)]
    return {
        piece: items.tolist()
        for first, last in pairwise(bounds)
        for piece, items in dedup.regroup(files, first, last)
    }


def kept(folder, pieces, partitions, groups):
    drops = drops_of(folder, record_files(folder, pieces), partitions, groups)
    return [
        [s for i, s in enumerate(sentences) if i not in drops[piece]]
        for piece, sentences in enumerate(pieces)
    ]


@given(
    st.lists(st.lists(st.sampled_from("一二三四五六七八九十百千"), max_size=12), max_size=4),
    st.integers(1, 5),
    st.integers(1, 4),
)
@settings(max_examples=60, deadline=None)
def test_first_occurrences_stay_whatever_the_partitions(
    tmp_path_factory, pieces, partitions, groups
):
    pieces = pieces or [[]]
    seen, expected = set(), []
    for sentences in pieces:
        expected.append([s for s in sentences if not (s in seen or seen.add(s))])
    folder = tmp_path_factory.mktemp("dedup")
    assert kept(folder, pieces, partitions, min(groups, len(pieces))) == expected


def test_documents_that_are_dropped_do_not_count_as_first(tmp_path):
    paths = record_files(tmp_path, [["一", "二"], ["一", "二"]])
    without = [np.array([0]), np.array([], np.uint32)]
    drops = dedup.later_occurrences(paths, EXACT, 0, 1, without.__getitem__)
    assert [divmod(drop, 1 << 32) for drop in drops.tolist()] == [(1, 1)]


def test_a_missing_record_file_is_an_error(tmp_path):
    """Never a shorter list of files: a network file system may show an old listing."""
    paths = record_files(tmp_path, [["一"], ["二"], ["三"]])
    paths[1].unlink()
    with pytest.raises(FileNotFoundError):
        dedup.later_occurrences(paths, EXACT, 0, 1)
    with pytest.raises(FileNotFoundError):
        list(dedup.regroup([tmp_path / "dropped-0.npy"], 0, 3))


def test_a_record_file_that_is_cut_short_is_an_error(tmp_path):
    (path,) = record_files(tmp_path, [["一", "二", "三"]])
    whole = path.read_bytes()
    for size in (len(whole) - 1, len(whole) - piece_file.TABLE.itemsize, 1, 0):
        path.write_bytes(whole[:size])
        with pytest.raises(OSError, match="cut short"):
            records.read_records(path, EXACT, 0, records.BUCKETS)


@given(st.integers(1, 60), st.integers(1, 60))
@settings(deadline=None)
def test_every_piece_is_in_one_group(pieces, count):
    ranges = [dedup.group_range(number, count, pieces) for number in range(count)]
    assert [p for first, last in ranges for p in range(first, last)] == list(range(pieces))
    for piece in range(pieces):
        first, last = ranges[dedup.group_of(piece, count, pieces)]
        assert first <= piece < last


@pytest.mark.parametrize("groups", [1, 2, 5])
def test_a_piece_gets_its_list_of_the_group(recipe, groups):
    plan = Plan(recipe(sources=[{"path": "x"}]), "id", [1] * 5)
    lists = [np.arange(n * n, dtype=np.uint32) for n in range(5)]
    write_json(dedup.layout_file(plan, "exact"), {"partitions": 1, "groups": groups})
    for number in range(groups):
        first, last = dedup.group_range(number, groups, 5)
        path = plan.file("exact_drops", number, dedup.GROUP_SUFFIX)
        dedup.save_group(path, lists[first:last])
    drops = dedup.Drops(plan, "exact")
    for piece, expected in enumerate(lists):
        np.testing.assert_array_equal(drops.of(piece), expected)
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(OSError, match="cut short"):
        drops.of(4)
    path.unlink()
    with pytest.raises(FileNotFoundError):
        drops.of(4)
    assert len(dedup.Drops(plan, "near").of(0)) == 0  # off in the recipe


def test_buckets_put_together_are_the_file(tmp_path):
    sentences = [f"第{i}句" for i in range(5000)]
    (path,) = record_files(tmp_path, [sentences])
    expected = hashing.exact_records(sentences, np.arange(5000))
    for count in (1, 8, 4096):
        bounds = [records.bucket_range(number, count) for number in range(count)]
        parts = [records.read_records(path, EXACT, *pair) for pair in bounds]
        np.testing.assert_array_equal(np.concatenate(parts), expected)


def test_no_file_stays_open(tmp_path):
    """As many as there were, whatever the number of pieces and partitions."""

    def count():
        return len(list(Path("/proc/self/fd").iterdir()))

    paths = record_files(tmp_path, [["一", "二", "三"]] * 40)
    before = count()
    opened = []
    files = []
    for number in range(64):
        files.append(tmp_path / f"d{number}.npy")
        dedup.save_array(files[-1], dedup.later_occurrences(paths, EXACT, number, 64))
        opened.append(count())
    groups = []
    for group in dedup.regroup(files, 0, 40):
        opened.append(count())
        groups.append(group)
    assert max(opened) <= before + 2
    assert sum(len(items) for _, items in groups) == 39 * 3


def test_partitions_bound_the_memory():
    assert partition_count(0, EXACT, 1 << 20) == 1
    number = 600_000_000
    count = partition_count(number, EXACT, 1 << 30)
    assert number / count * 5 * EXACT.dtype.itemsize <= 1 << 30
    assert count & (count - 1) == 0  # so that all have the same number of buckets
    assert partition_count(10**15, EXACT, 1) == records.BUCKETS


def test_partitions_share_the_records_evenly(tmp_path):
    sentences = [f"第{i}句" for i in range(20_000)] * 2
    paths = record_files(tmp_path, [sentences])
    sizes = [len(dedup.later_occurrences(paths, EXACT, number, 8)) for number in range(8)]
    assert sum(sizes) == 20_000
    assert max(sizes) < 1.1 * min(sizes)


def test_hashes_do_not_depend_on_machine_or_version():
    """Records of a build that was begun elsewhere, or before an upgrade, must still fit."""
    values = hashing.exact_records(["中国"], np.array([7]))
    assert values.tolist() == [(16018587630614493830, 3676724666315402391, 0, 7)]


def jaccard(a, b):
    x, y = set(hashing.shingles(a).tolist()), set(hashing.shingles(b).tolist())
    return len(x & y) / len(x | y)


def test_shingles_are_the_distinct_runs_of_five_characters():
    assert len(hashing.shingles("一二三四")) == 0
    assert len(hashing.shingles("一二三四五六")) == 2
    assert len(hashing.shingles("一" * 100)) == 1
    np.testing.assert_array_equal(hashing.shingles("一二 三四\n五"), hashing.shingles("一二三四五"))
    assert jaccard("一二三四五六七八九", "二三四五六七八九十") == pytest.approx(4 / 6)


def test_minhash_estimates_jaccard(news):
    first, half = news[0], len(news[0]) // 2
    texts = [first, first[:-60] + "换了一个结尾。", first[:half] + news[1], "短"]
    numbers, signatures = hashing.minhash(texts, 512)
    assert numbers.tolist() == [0, 1, 2]
    for other in (1, 2):
        estimate = (signatures[0] == signatures[other]).mean()
        assert estimate == pytest.approx(jaccard(texts[0], texts[other]), abs=0.08)


@pytest.mark.parametrize("threshold", [0.5, 0.7, 0.8, 0.9])
def test_banding_finds_nine_of_ten_pairs_at_the_threshold(threshold):
    bands, rows = hashing.banding(threshold, 128)
    assert bands * rows <= 128
    assert hashing.found_share(threshold, bands, rows) >= 0.9
    assert hashing.found_share(threshold - 0.3, bands, rows) < 0.2
    shown = hashing.describe_banding(threshold, 128)
    assert shown["found_share_by_similarity"][f"{threshold:g}"] >= 0.9


def test_the_stated_share_is_the_measured_one(tmp_path):
    """Pairs of Jaccard similarity 0.8 by construction: 90 shingles in common of 112."""
    random = np.random.default_rng(0)
    found, pairs = 0, 150
    for number in range(pairs):
        characters = [chr(0x4E00 + c) for c in random.choice(20_000, 116, replace=False)]
        first, second = "".join(characters[:105]), "".join(characters[11:])
        assert jaccard(first, second) == pytest.approx(0.8, abs=0.01)
        path = tmp_path / f"{number}.piece"
        write_records(path, KINDS["near"], hashing.near_records([first, second], 0.8, 128))
        found += len(dedup.later_occurrences([path], KINDS["near"], 0, 1))
    assert found / pairs > 0.85


def test_near_records_find_what_resembles(news, tmp_path):
    texts = [news[3], news[4], news[3].replace("的", "地", 1), news[5], news[4] + "完"]
    path = tmp_path / "0.piece"
    write_records(path, KINDS["near"], hashing.near_records(texts, 0.8, 128))
    assert dedup.later_occurrences([path], KINDS["near"], 0, 1).tolist() == [2, 4]
    assert len(hashing.near_records(["短", ""], 0.8, 128)) == 0
