import hashlib
import json
import platform

import pytest

from data_pipeline.base import files


def test_an_error_leaves_the_old_file_and_no_litter(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(RuntimeError), files.whole_file(path) as temporary:
        temporary.write_text("half of the n")
        raise RuntimeError
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]


def test_success_replaces_the_file_and_makes_its_folder(tmp_path):
    path = tmp_path / "b" / "a.json"
    files.write_json(path, {"名": 1})
    assert json.loads(path.read_text(encoding="utf-8")) == {"名": 1}
    assert "名" in path.read_text(encoding="utf-8")
    assert [p.name for p in path.parent.iterdir()] == ["a.json"]


def test_two_writers_of_one_file_have_different_temporary_names(tmp_path):
    """Also on two machines whose random generators and process ids agree."""
    with files.whole_file(tmp_path / "a") as one, files.whole_file(tmp_path / "a") as other:
        one.write_text("first")
        other.write_text("second")
    assert one != other and all(platform.node() in path.name for path in (one, other))
    assert (tmp_path / "a").read_text() == "first"  # the context that ended last
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_sha256_is_that_of_the_bytes(tmp_path):
    path = tmp_path / "a"
    path.write_bytes(b"\x00" * 100_000)
    assert files.sha256(path) == hashlib.sha256(b"\x00" * 100_000).hexdigest()
