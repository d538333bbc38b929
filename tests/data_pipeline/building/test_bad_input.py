"""What users' disks and files do: each ends in a clear error or a counted skip."""

import gzip
import json
import resource
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from data_pipeline.base.errors import UserError
from data_pipeline.base.recipes import check
from data_pipeline.building.build import build
from data_pipeline.recipe import BuildRecipe
from data_pipeline.shards.verify import verify

GOOD = "这是一句很好的话。\n\n又是另外一句话。\n".encode()


def built(recipe, *paths: Path, **sections):
    made = recipe(**{"sources": [{"path": str(path)} for path in paths], **sections})
    manifest = build(made, quiet=True)
    assert verify(made.output_dir, quiet=True) == []
    return manifest


@pytest.fixture
def good(tmp_path):
    path = tmp_path / "good.txt"
    path.write_bytes(GOOD)
    return path


@pytest.mark.parametrize(
    ("content", "counter", "count"),
    [
        (b"", "lines_in", 2),
        (b"\n\n \n", "lines_in", 2),
        ("。。。！！！\n？？？？？\n".encode(), "documents_not_chinese", 1),
        ("中\0国\0人民\0很好。\n".encode(), "changed_control", 3),
        ("今天天气".encode() * 20 + b"\xff\xfe\x80" + "好。\n".encode(), "bytes_undecodable", 3),
        ("<p>段落里的话。</p>\n".encode(), "changed_html", 2),
    ],
)
def test_odd_files_are_counted(tmp_path, recipe, good, content, counter, count):
    path = tmp_path / "odd.txt"
    path.write_bytes(content)
    manifest = built(recipe, good, path)
    assert manifest.counters[counter] == count
    assert manifest.counters["sentences_out"] >= 2


def test_a_line_of_ten_megabytes(tmp_path, recipe, good):
    path = tmp_path / "long.txt"
    path.write_text("没有标点的一行字" * 420_000, encoding="utf-8")
    manifest = built(recipe, good, path, vocab={"train": {"size": 200, "min_count": 1}})
    # Cut at 512 characters, all parts but a few are alike and so duplicates.
    assert manifest.counters["sentences_in"] > 6500
    assert manifest.counters["bytes_undecodable"] == 0


def test_gb18030_and_utf16_are_read(tmp_path, recipe):
    for number, encoding in enumerate(("gb18030", "utf-16", "utf-8-sig")):
        path = tmp_path / f"{number}.txt"
        path.write_bytes(f"第{number}个文件，编码不同。\n".encode(encoding))
    manifest = built(recipe, tmp_path)
    assert manifest.counters["sentences_out"] == 3
    assert manifest.counters["bytes_undecodable"] == 0


@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.gz"])
def test_halves_of_characters_in_json_are_removed_and_counted(tmp_path, recipe, name):
    """A \\ud83d alone is valid JSON and no text; it goes through every step before cleaning."""
    rows = [json.dumps({"text": f"第{i}行有半个字符\ud83d在里面。"}) for i in range(40)]
    data = "\n".join(rows).encode()
    (tmp_path / name).write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
    (tmp_path / "dev.json").write_text(json.dumps({"sentence": "任务里的半个字符\ud83d也算"}))
    manifest = built(
        recipe,
        vocab={"train": {"size": 300, "min_count": 1}},
        sources=[{"path": str(tmp_path / name), "sample": 0.999, "max_bad_share": 1}],
        decontaminate=[{"name": "t", "path": str(tmp_path / "dev.json"), "fields": ["sentence"]}],
        dedup={"near": True, "near_threshold": 0.99},
        piece_mb=0.0005,
    )
    assert manifest.counters["bytes_undecodable"] == manifest.counters["documents_in"] == 40
    assert len(manifest.shards) > 1


def test_a_directory_where_a_file_should_be(tmp_path, recipe, vocab_file):
    (tmp_path / "folder.txt").mkdir()
    with pytest.raises(UserError, match=r"the folder .*folder\.txt holds no"):
        built(recipe, tmp_path / "folder.txt")
    (tmp_path / "file").write_text("x")
    with pytest.raises(UserError, match="is, or lies below, a file"):
        built(recipe, vocab_file, output_dir=str(tmp_path / "file"))
    with pytest.raises(UserError, match="cannot read the vocabulary"):
        (tmp_path / "good.txt").write_bytes(GOOD)
        built(recipe, tmp_path / "good.txt", vocab={"file": str(tmp_path)})


def test_no_permission_to_read(good, recipe, monkeypatch):
    """Root may read anything, so what `open` does for other users is put in its place."""
    original = Path.open

    def refused(self, *arguments, **options):
        if self == good:
            raise PermissionError(13, "Permission denied")
        return original(self, *arguments, **options)

    monkeypatch.setattr(Path, "open", refused)
    with pytest.raises(UserError, match=r"good\.txt: no permission to read it"):
        built(recipe, good)


def test_a_corrupt_gz_stops_or_is_skipped(tmp_path, recipe, good):
    lines = "".join(f"第{i}句话，数字是{i * 7919 % 10007}。\n" for i in range(30_000))
    packed = bytearray(gzip.compress(lines.encode()))
    packed[len(packed) // 2] ^= 0xFF
    path = tmp_path / "bad.txt.gz"
    path.write_bytes(packed)
    with pytest.raises(UserError, match=r"bad\.txt\.gz: damaged: .*--run\.damaged_files skip"):
        built(recipe, good, path)
    manifest = built(recipe, good, path, run={"damaged_files": "skip"})
    assert manifest.counters["files_damaged"] == 1
    assert 2 < manifest.counters["sentences_out"] < 30_000


def test_a_full_disk_is_a_clear_error_and_nothing_is_lost(corpus, recipe, recipe_file):
    """A limit on the size of files stands for a full disk: writes fail in the same places."""
    made = recipe(sources=[{"path": str(corpus)}])
    config = recipe_file(made)

    def limited(size):
        return subprocess.run(
            [sys.executable, "-m", "data_pipeline", "build", "--config", str(config)],
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (size, size)),
            capture_output=True,
            text=True,
            check=False,
        )

    failures, done = 0, set()
    for size in (20_000, 60_000, 90_000):
        result = limited(size)
        assert result.returncode in (0, 2), result.stderr
        assert "Traceback" not in result.stderr and "h5py" not in result.stderr
        if result.returncode:
            failures += 1
            assert "What is finished is saved" in result.stderr
            assert not list(made.output_dir.glob("shard*"))
            now = set(made.output_dir.glob(".build/*/*/0*.json"))
            assert now >= done
            done = now
    assert failures >= 2
    assert limited(resource.RLIM_INFINITY).returncode == 0
    assert verify(made.output_dir, quiet=True) == []


def test_an_input_that_vanishes_is_named(corpus, recipe, monkeypatch):
    made = recipe(sources=[{"path": str(corpus)}])
    victim = corpus / "1" / "part-5.txt"
    monkeypatch.setattr("data_pipeline.building.build._begin", _begin_and_remove(victim))
    with pytest.raises(UserError, match=r"part-5\.txt.*What is finished is saved"):
        build(made, quiet=True)


def _begin_and_remove(victim):
    from data_pipeline.building.build import _begin

    def begin(inputs):
        plan = _begin(inputs)
        victim.unlink()
        return plan

    return begin


content = st.one_of(
    st.binary(max_size=400),
    st.text(max_size=200).map(lambda text: text.encode("utf-8", "surrogatepass")),
    st.lists(
        st.sampled_from(
            [
                "中文很好。",
                "“引号。”",
                "<b>",
                "&amp;",
                "\n",
                "\r\n",
                "\0",
                "[MASK]",
                "ａ１",
                "😀",
                "。",
                "a ",
            ]
        ),
        max_size=60,
    ).map(lambda parts: "".join(parts).encode()),
)


@given(
    st.lists(st.tuples(content, st.sampled_from([".txt", ".jsonl", ".txt.gz", ".txt.zst"]))),
    st.sampled_from(["sentence", "document", "corpus"]),
    st.integers(8, 40),
)
@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_any_bytes_give_whole_shards_or_a_clear_error(
    tmp_path_factory, vocab_file, files, pack, max_length
):
    folder = tmp_path_factory.mktemp("fuzz")
    (folder / "good.txt").write_bytes(GOOD)
    for number, (data, suffix) in enumerate(files):
        is_packed = suffix.endswith(".gz") and number % 2
        (folder / f"{number}{suffix}").write_bytes(gzip.compress(data) if is_packed else data)
    values = {
        "output_dir": str(folder / "out"),
        "sources": [{"path": str(folder)}],
        "vocab": {"file": str(vocab_file), "max_unk_share": 1.0},
        "dedup": {"near": True},
        "max_length": max_length,
        "pack": pack,
        "piece_mb": 0.0002,
        "run": {"workers": 1, "damaged_files": "skip"},
    }
    manifest = build(check(BuildRecipe, values, "fuzz"), quiet=True)
    assert manifest.counters["sentences_out"] >= 2
    assert verify(folder / "out", quiet=True) == []
