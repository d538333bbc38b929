"""Each kind of damage is named with its file."""

import json
import re
import shutil

import h5py
import numpy as np
import pytest

from data_pipeline.base.errors import UserError
from data_pipeline.shards.verify import verify
from data_pipeline.text import vocab


@pytest.fixture
def folder(shard_directory):
    return shard_directory(200, 300)


def test_whole_shards_have_no_damage(folder):
    assert verify(folder, quiet=True) == []


def test_processes_find_what_one_finds(folder):
    path = folder / "shard-00000.h5"
    assert verify(folder, quiet=True, workers=2) == []
    path.write_bytes(path.read_bytes()[:-1])
    damage = verify(folder, quiet=True, workers=2)
    assert damage == verify(folder, quiet=True) and "cut short" in damage[0]


def test_every_flipped_byte_is_found(folder):
    """Or the byte belongs to nothing: no flip may change what is read and stay unseen."""
    path = folder / "shard-00001.h5"
    good = path.read_bytes()
    random = np.random.default_rng(0)
    found = 0
    for place in random.integers(0, len(good), 150).tolist():
        bad = bytearray(good)
        bad[place] ^= 1 << int(random.integers(8))
        path.write_bytes(bad)
        damage = verify(folder, quiet=True)
        found += bool(damage)
        assert all(str(path) in line for line in damage)
        if not damage:
            with h5py.File(path) as file:  # what is read is what was written
                assert len(file["offsets"]) == 301
    path.write_bytes(good)
    assert found > 75 and verify(folder, quiet=True) == []


def rewrite(path, name, change):
    """Change one dataset of a shard in a way that keeps the file readable."""
    with h5py.File(path, "r+") as file:
        values = file[name][:]
        change(values)
        file[name][...] = values


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("input_ids", lambda v: v.__setitem__(5, 999), "the checksum of its content differs"),
        ("input_ids", lambda v: v.__setitem__(5, 1000), "id 1000, but the vocabulary has 1000"),
        ("input_ids", lambda v: v.__setitem__(1, 4), r"1 special token\(s\) inside samples"),
        ("input_ids", lambda v: v.__setitem__(0, 7), r"does not begin with \[CLS\]"),
        ("word_start", lambda v: v.__setitem__(0, v[0] ^ 4), "checksum"),
        ("offsets", lambda v: v.__setitem__(1, v[2]), "the offsets do not cut"),
        ("offsets", lambda v: v.__setitem__(0, 1), "tokens, the manifest says"),
    ],
)
def test_changed_content(folder, name, change, message):
    path = folder / "shard-00000.h5"
    rewrite(path, name, change)
    damage = "\n".join(verify(folder, quiet=True))
    assert f"{path}: " in damage
    assert re.search(message, damage)


def test_truncated_file(folder):
    path = folder / "shard-00000.h5"
    data = path.read_bytes()
    for size in (0, 10, len(data) // 2, len(data) - 1):
        path.write_bytes(data[:size])
        assert verify(folder, quiet=True) == [f"{path}: cut short, {size:,} of {len(data):,} bytes"]


def test_missing_shard_and_foreign_shard(folder):
    first, second = folder / "shard-00000.h5", folder / "shard-00001.h5"
    first.unlink()
    assert verify(folder, quiet=True) == [f"{first}: missing"]
    shutil.copy(second, first)
    damage = verify(folder, quiet=True)
    assert f"{first}: 300 samples, the manifest says 200" in damage


def test_a_directory_where_a_shard_should_be(folder):
    path = folder / "shard-00000.h5"
    path.unlink()
    path.mkdir()
    assert verify(folder, quiet=True) == [f"{path}: missing"]


def test_foreign_or_absent_vocabulary(folder):
    path = folder / "vocab.txt"
    tokens = vocab.read(path)
    vocab.write(path, [*tokens[:-1], "外"])
    (line,) = verify(folder, quiet=True)
    assert line.startswith(f"{path}: another vocabulary")
    path.unlink()
    (line,) = verify(folder, quiet=True)
    assert line.startswith(f"{path}: cannot read the vocabulary")


@pytest.mark.parametrize("name", ["samples", "tokens", "length_histogram"])
def test_false_totals(folder, name):
    path = folder / "manifest.json"
    values = json.loads(path.read_text())
    if name == "length_histogram":
        values[name][5] += 1
    else:
        values[name] += 1
    path.write_text(json.dumps(values))
    (line,) = verify(folder, quiet=True)
    assert line.startswith(f"{path}: ") and name.removeprefix("length_") in line


def test_absent_manifest_is_a_user_error(tmp_path):
    with pytest.raises(UserError, match="no finished shards"):
        verify(tmp_path, quiet=True)
