import json
import multiprocessing
import os
import pickle
from concurrent.futures import ThreadPoolExecutor

import h5py
import numpy as np
import pytest

from data_pipeline.base.errors import UserError
from data_pipeline.shards import format as shards
from data_pipeline.shards.format import Manifest, ShardReader
from data_pipeline.text.samples import Ragged


def same(a: Ragged, b: Ragged) -> bool:
    pairs = ((a.ids, b.ids), (a.offsets, b.offsets), (a.word_start, b.word_start))
    return all(np.array_equal(x, y) for x, y in pairs)


@pytest.mark.parametrize("lengths", [[], [2], [3, 9, 4], [7] * 5000])
@pytest.mark.parametrize("vocab_size", [1000, 1 << 17])
def test_a_shard_comes_back(tmp_path, ragged, lengths, vocab_size):
    samples = ragged(lengths, vocab_size)
    path = tmp_path / "shard-00000.h5"
    info = shards.write_shard(path, samples, vocab_size)
    assert same(shards.read_shard(path), samples)
    assert info.samples == len(lengths) and info.tokens == sum(lengths)
    assert info.bytes == path.stat().st_size and info.sha256 == samples.checksum()


def test_layout_is_the_documented_one(tmp_path, ragged):
    samples = ragged([5, 6, 7])
    shards.write_shard(tmp_path / "a.h5", samples, 1000)
    with h5py.File(tmp_path / "a.h5") as file:
        assert set(file) == {"input_ids", "offsets", "word_start"}
        assert file["input_ids"].dtype == np.uint16 and file["offsets"].dtype == np.int64
        assert file["offsets"][:].tolist() == [0, 5, 11, 18]
        bits = np.unpackbits(file["word_start"][:], bitorder="little")[:18]
        np.testing.assert_array_equal(bits, samples.word_start)
    shards.write_shard(tmp_path / "b.h5", samples, 1 << 17)
    with h5py.File(tmp_path / "b.h5") as file:
        assert file["input_ids"].dtype == np.uint32


def test_writing_twice_gives_the_same_bytes(tmp_path, ragged):
    for name in ("a", "b"):
        shards.write_shard(tmp_path / name, ragged([9] * 300), 1000)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_checksum_sees_every_part(ragged):
    samples = ragged([5, 6])
    other_word = samples.word_start.copy()
    other_word[3] ^= 1
    sums = {
        samples.checksum(),
        Ragged(samples.ids + 1, samples.offsets, samples.word_start).checksum(),
        Ragged(samples.ids, np.array([0, 4, 11]), samples.word_start).checksum(),
        Ragged(samples.ids, samples.offsets, other_word).checksum(),
    }
    assert len(sums) == 4
    as_stored = Ragged(samples.ids.astype(np.uint16), samples.offsets, samples.word_start)
    assert as_stored.checksum() == samples.checksum()


def test_reader_reads_across_shards(shard_directory, ragged):
    folder = shard_directory(50, 1, 70)
    reader = ShardReader(folder)
    whole = Ragged.join([shards.read_shard(p) for p in sorted(folder.glob("*.h5"))])
    assert same(reader.range(0, 121), whole)
    np.testing.assert_array_equal(reader.lengths(0, 121), whole.lengths)
    assert reader.lengths(49, 52).dtype == np.int32
    for start, stop in ((0, 0), (49, 52), (50, 51), (7, 121), (120, 121)):
        part = reader.range(start, stop)
        a, b = whole.offsets[start], whole.offsets[stop]
        np.testing.assert_array_equal(part.ids, whole.ids[a:b])
        np.testing.assert_array_equal(part.word_start, whole.word_start[a:b])
        np.testing.assert_array_equal(part.lengths, whole.lengths[start:stop])
    ids, word_start = reader.read([120, 0, 50])
    for n, i, w in zip([120, 0, 50], ids, word_start, strict=True):
        np.testing.assert_array_equal(i, whole.ids[whole.offsets[n] : whole.offsets[n + 1]])
        assert len(w) == len(i)
    with pytest.raises(IndexError):
        reader.range(100, 122)


def test_reader_keeps_few_files_open(shard_directory, monkeypatch):
    monkeypatch.setattr(shards, "OPEN_FILES", 2)
    reader = ShardReader(shard_directory(3, 3, 3, 3, 3))
    for _ in range(2):
        assert len(reader.range(0, 15)) == 15
        assert len(reader._files) == 2


def test_threads_may_share_a_reader(shard_directory):
    reader = ShardReader(shard_directory(200, 200))
    expected = [reader.range(i, i + 40).ids for i in range(0, 360, 7)]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda i: reader.range(i, i + 40).ids, range(0, 360, 7)))
    for a, b in zip(expected, found, strict=True):
        np.testing.assert_array_equal(a, b)


def test_forked_processes_open_their_own_files(shard_directory):
    reader = ShardReader(shard_directory(300, 300))
    expected = reader.range(0, 600).checksum()
    context = multiprocessing.get_context("fork")

    def child(results):
        results.put((reader.range(0, 600).checksum(), reader._process == os.getpid()))

    results = context.SimpleQueue()
    children = [context.Process(target=child, args=(results,)) for _ in range(4)]
    for process in children:
        process.start()
    assert all(results.get() == (expected, True) for _ in children)
    for process in children:
        process.join()


def test_reader_can_be_pickled(shard_directory):
    reader = ShardReader(shard_directory(10))
    reader.range(0, 10)
    assert same(pickle.loads(pickle.dumps(reader)).range(0, 10), reader.range(0, 10))


def test_fingerprint_is_of_the_content(shard_directory):
    folder = shard_directory(10, 12)
    manifest = Manifest.read(folder)
    values = json.loads((folder / "manifest.json").read_text())
    values["shards"][0]["file"] = "other.h5"
    values["settings"] = {"a": 1}
    (folder / "manifest.json").write_text(json.dumps(values))
    assert Manifest.read(folder).fingerprint == manifest.fingerprint
    values["shards"][0]["sha256"] = "0"
    (folder / "manifest.json").write_text(json.dumps(values))
    assert Manifest.read(folder).fingerprint != manifest.fingerprint


def test_bad_manifests_are_user_errors(shard_directory, tmp_path):
    with pytest.raises(UserError, match="no finished shards"):
        Manifest.read(tmp_path / "nothing")
    folder = shard_directory(3)
    path = folder / "manifest.json"
    good = json.loads(path.read_text())
    for values, message in (
        ({**good, "format_version": 99}, "shard format 99, but this program reads 1"),
        ({**good, "surprise": 1}, "not a shard manifest"),
        ({}, "not a shard manifest"),
    ):
        path.write_text(json.dumps(values))
        with pytest.raises(UserError, match=message):
            Manifest.read(folder)
    path.write_text("{")
    with pytest.raises(UserError, match="not a shard manifest"):
        Manifest.read(folder)


def test_reading_a_damaged_shard_names_it(shard_directory):
    folder = shard_directory(3000, 10)
    path = folder / "shard-00001.h5"
    path.write_bytes(path.read_bytes()[:100])
    reader = ShardReader(folder)
    assert len(reader.range(0, 3000)) == 3000
    with pytest.raises(UserError, match=r"shard-00001\.h5: cannot be read.*verify"):
        reader.range(2999, 3005)
