import bz2
import csv
import gzip
import io
import json
import lzma
import os
import random
import tarfile
import zipfile
from collections import Counter
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard

from data_pipeline.base.errors import UserError
from data_pipeline.sources import packaged, streams
from data_pipeline.sources.inputs import (
    find_files,
    find_inputs,
    make_parts,
    make_pieces,
    read_documents,
)
from data_pipeline.sources.lines import join_lines
from data_pipeline.sources.parts import Input, Part
from data_pipeline.sources.settings import Source

DOCS = ["第一篇，你好。\n它有两行。", "第二篇。", "第三篇：很好！\n对。"]


def everything(source: Source, size: int = 1 << 20) -> list[str]:
    inputs = find_inputs((source,))
    counters = Counter()
    return [
        text
        for part in make_parts(inputs, (source,), size)
        for text in read_documents(inputs[part.input], part, source, counters)
    ]


def packed(name: str, data: bytes) -> bytes:
    if name.endswith(".gz"):
        return gzip.compress(data)
    return zstandard.compress(data) if name.endswith(".zst") else data


@pytest.mark.parametrize("suffix", ["", ".gz", ".zst"])
@pytest.mark.parametrize("size", [60, 1 << 20])
def test_txt(tmp_path, suffix, size):
    path = tmp_path / f"a.txt{suffix}"
    path.write_bytes(packed(path.name, "\n\n".join(DOCS).encode()))
    assert everything(Source(path=str(path)), size) == DOCS
    lines = [line for text in DOCS for line in text.split("\n")]
    assert everything(Source(path=str(path), documents="line"), size) == lines
    if size > 60:
        assert everything(Source(path=str(path), documents="file")) == ["\n".join(DOCS)]


@pytest.mark.parametrize("suffix", ["", ".gz", ".zst"])
@pytest.mark.parametrize("size", [60, 1 << 20])
def test_jsonl(tmp_path, suffix, size):
    rows = [{"title": text[:3], "body": text} for text in DOCS]
    path = tmp_path / f"a.jsonl{suffix}"
    path.write_bytes(packed(path.name, "\n".join(map(json.dumps, rows)).encode()))
    assert everything(Source(path=str(path), fields=("body",)), size) == DOCS
    joined = [f"{text[:3]}\n{text}" for text in DOCS]
    assert everything(Source(path=str(path), fields=("title", "body")), size) == joined


def test_bad_records_are_counted(tmp_path):
    path = tmp_path / "a.jsonl"
    bad = ["{", "[1]", '"text"', '{"other": 1}', '{"text": 3}', '{"text": null}', "[" * 100_000]
    path.write_text("\n".join([*bad, '{"text": "好"}', ""]), encoding="utf-8")
    source = Source(path=str(path))
    (entry,) = find_inputs((source,))
    (part,) = make_parts([entry], (source,), 1 << 20)
    counters = Counter()
    assert list(read_documents(entry, part, source, counters)) == ["好"]
    assert counters["records_bad"] == len(bad) and counters["records_in"] == len(bad) + 1


@pytest.mark.parametrize("suffix", ["", ".gz", ".zst"])
@pytest.mark.parametrize("size", [60, 1 << 20])
def test_parquet(tmp_path, suffix, size):
    pq.write_table(pa.table({"text": [*DOCS, None]}), tmp_path / "raw", row_group_size=1)
    path = tmp_path / f"a.parquet{suffix}"
    path.write_bytes(packed(path.name, (tmp_path / "raw").read_bytes()))
    assert everything(Source(path=str(path)), size) == DOCS


def test_parquet_without_the_column_names_those_it_has(tmp_path):
    pq.write_table(pa.table({"title": DOCS, "body": DOCS}), tmp_path / "a.parquet")
    with pytest.raises(UserError, match=r"no column text; it has title, body"):
        everything(Source(path=str(tmp_path / "a.parquet")))


def test_broken_parquet_is_damaged(tmp_path):
    pq.write_table(pa.table({"text": DOCS * 1000}), tmp_path / "a.parquet")
    data = bytearray((tmp_path / "a.parquet").read_bytes())
    entry = Input(0, str(tmp_path / "a.parquet"), "parquet", "utf-8", len(data), len(data), 0)
    (tmp_path / "a.parquet").write_bytes(data[: len(data) // 2])
    with pytest.raises(streams.Damaged):
        list(read_documents(entry, Part(0, "row group", 0, 1, 1), Source(path="x"), Counter()))


def test_folders_and_globs_find_files_in_order(tmp_path):
    """The layout of CLUECorpus2020: folders of .txt, blank lines between documents."""
    for number in range(4):
        path = tmp_path / f"clue-{number % 2}" / f"{number:03d}.txt"
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"第{number}篇。\n\n又{number}篇。\n", encoding="utf-8")
    (tmp_path / "clue-0" / "readme.md").write_text("# no")
    (tmp_path / "clue-0" / "dir.txt").mkdir()
    order = [0, 2, 1, 3]
    expected = [text for n in order for text in (f"第{n}篇。", f"又{n}篇。")]
    assert everything(Source(path=str(tmp_path))) == expected
    assert everything(Source(path=f"{tmp_path}/**/*.txt")) == expected
    assert everything(Source(path=f"{tmp_path}/clue-1/*.txt")) == expected[4:]


def test_small_files_share_a_piece_and_large_ones_are_cut(tmp_path):
    for number in range(10):
        (tmp_path / f"{number}.txt").write_text("小文件。\n", encoding="utf-8")
    (tmp_path / "x.txt").write_text("一行很长的文字。\n\n" * 100, encoding="utf-8")
    source = Source(path=str(tmp_path))
    pieces = make_pieces(make_parts(find_inputs((source,)), (source,), 500), 500)
    assert {part.input for part in pieces[0]} == set(range(11))
    assert len(pieces) == 5
    assert all(sum(part.bytes for part in piece) <= 750 for piece in pieces)
    assert sum(part.bytes for piece in pieces for part in piece) == 10 * 13 + 100 * 26


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("absent.txt", "there is no such file or folder"),
        ("*.none", "there is no such file or folder"),
        ("folder*", "only folders match"),
        ("folder", "holds no .txt"),
        ("picture.png", "the name does not tell the format"),
    ],
)
def test_what_cannot_be_found_is_named(tmp_path, name, message):
    (tmp_path / "folder").mkdir()
    (tmp_path / "picture.png").write_bytes(b"x")
    with pytest.raises(UserError, match=message):
        find_inputs((Source(path=str(tmp_path / name)),))


def test_long_documents_go_on_as_another_one():
    lines = ["字" * 1000] * 1000
    texts = list(join_lines(iter(lines), "file"))
    assert len(texts) > 1
    assert "\n".join(texts).split("\n") == lines


def test_packaged_corpora_hold_back_what_is_tested_on():
    titles = {title for split in ("dev", "test") for title in packaged.inews(split)[0]}
    train = packaged.inews("train")[0]
    texts = everything(Source(packaged="inews"), 4 << 20)
    read = [text.partition("\n")[0] for text in texts]
    assert not set(read) & titles and len(titles & set(train)) > 50  # copies lie in the train split
    assert 0.9 * len(train) < len(read) < len(train) and set(read) <= set(train)


OWN = """
def chapters(path):
    yield from path.read_text(encoding="utf-8").split("##")

def numbers(path):
    yield 1
"""


@pytest.fixture
def own_module(tmp_path, monkeypatch):
    """A module of the user's own, importable."""
    (tmp_path / "own_reader_of_test_formats.py").write_text(OWN, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    return "own_reader_of_test_formats"


def test_a_reader_of_the_users_own(tmp_path, own_module):
    (tmp_path / "book.md").write_text("##".join(DOCS), encoding="utf-8")
    source = Source(path=str(tmp_path / "book.md"), format=f"{own_module}:chapters")
    assert everything(source) == DOCS
    source = Source(path=str(tmp_path / "book.md"), format=f"{own_module}:numbers")
    with pytest.raises(UserError, match="numbers gave 1; a reader takes a path"):
        everything(source)


def test_units_of_a_part_are_stated(tmp_path):
    (tmp_path / "a.txt").write_text("一行。\n", encoding="utf-8")
    (tmp_path / "b.txt.gz").write_bytes(gzip.compress("一行。\n".encode()))
    pq.write_table(pa.table({"text": DOCS}), tmp_path / "c.parquet")
    sources = (Source(path=str(tmp_path)), Source(packaged="reviews"))
    parts = make_parts(find_inputs(sources), sources, 1 << 30)
    assert [part.unit for part in parts] == ["byte", "file", "row group", "document"]


@pytest.mark.parametrize("indent", [None, 2])
@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_a_json_array_is_read_whatever_its_layout(tmp_path, indent, suffix):
    texts = [f"第{i}篇，[很]好，\\n{{还有}}。" for i in range(400)]
    data = json.dumps([{"text": text, "n": i} for i, text in enumerate(texts)], indent=indent)
    path = tmp_path / f"a.json{suffix}"
    path.write_bytes(packed(path.name, data.encode()))
    assert everything(Source(path=str(path)), 60) == texts


@pytest.mark.parametrize(
    "data",
    [
        '[{"text": "一"}, {"text"',
        '[{"text": "一"} 3 4 {',
        "[{",
        '[{"text": "一"}]\n[{"text": "二"}]',
    ],
)
def test_a_json_array_that_breaks_off_is_damaged(tmp_path, data):
    (tmp_path / "a.json").write_text(data)
    with pytest.raises(streams.Damaged, match="not a whole JSON array"):
        everything(Source(path=str(tmp_path / "a.json")))


@pytest.mark.parametrize(("suffix", "delimiter"), [(".csv", ","), (".tsv", "\t"), (".csv.gz", ",")])
def test_tables(tmp_path, suffix, delimiter):
    rows = [["id", "title", "text"]] + [[str(i), f"标题{i}", t] for i, t in enumerate(DOCS)]
    text = io.StringIO()
    csv.writer(text, delimiter=delimiter).writerows(rows)
    path = tmp_path / f"a{suffix}"
    path.write_bytes(packed(path.name, text.getvalue().encode()))
    assert everything(Source(path=str(path))) == DOCS
    both = everything(Source(path=str(path), fields=("title", "text")))
    assert both[0] == f"标题0\n{DOCS[0]}"
    with pytest.raises(UserError, match="no column body; its first line names id, title, text"):
        everything(Source(path=str(path), fields=("body",)))


@pytest.mark.parametrize("name", ["a.zip", "a.tar", "a.tar.gz", "a.tgz"])
def test_archives(tmp_path, name):
    members = {
        "one.txt": "\n\n".join(DOCS[:2]).encode(),
        "readme.md": b"# no",
        "inner/two.jsonl": json.dumps({"text": DOCS[2]}).encode(),
        "inner/three.txt": "第四篇，这是在我们的国家。".encode("gb18030"),
    }
    path = tmp_path / name
    if name.endswith(".zip"):
        with zipfile.ZipFile(path, "w") as archive:
            for member, data in members.items():
                archive.writestr(member, data)
    else:
        with tarfile.open(path, "w" if name.endswith(".tar") else "w:gz") as archive:
            for member, data in members.items():
                info = tarfile.TarInfo(member)
                info.size = len(data)
                archive.addfile(info, io.BytesIO(data))
    assert everything(Source(path=str(path))) == [*DOCS, "第四篇，这是在我们的国家。"]
    path.write_bytes(path.read_bytes()[:150])
    with pytest.raises(streams.Damaged, match="not a whole archive"):
        everything(Source(path=str(path)))


def set_in_headers(data: bytes, local: int, central: int, value: int) -> bytes:
    """Bytes of a .zip with a value at an offset of every local and central header."""
    data = bytearray(data)
    for mark, offset in ((b"PK\3\4", local), (b"PK\1\2", central)):
        place = data.find(mark)
        while place >= 0:
            data[place + offset] = value
            place = data.find(mark, place + 1)
    return bytes(data)


@pytest.mark.parametrize(
    ("local", "central", "value", "message"),
    [(6, 8, 1, "encrypted"), (8, 10, 97, "compression")],
)
def test_archives_that_cannot_be_unpacked_are_damaged(tmp_path, local, central, value, message):
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("one.txt", DOCS[0])
    path.write_bytes(set_in_headers(path.read_bytes(), local, central, value))
    with pytest.raises(streams.Damaged, match=f"not a whole archive: .*{message}"):
        everything(Source(path=str(path)))


@pytest.mark.parametrize("suffix", [".gz", ".bz2", ".xz", ".zst"])
def test_a_compressed_archive_that_is_changed_inside_is_damaged(tmp_path, suffix):
    plain = io.BytesIO()
    with tarfile.open(fileobj=plain, mode="w") as archive:
        info = tarfile.TarInfo("one.txt")
        data = random.Random(0).randbytes(100_000).hex().encode()
        info.size = len(data)
        archive.addfile(info, io.BytesIO(data))
    pack = {
        ".gz": gzip.compress,
        ".bz2": bz2.compress,
        ".xz": lzma.compress,
        ".zst": zstandard.ZstdCompressor(write_checksum=True).compress,
    }
    whole = bytearray(pack[suffix](plain.getvalue()))
    whole[len(whole) // 2] ^= 0xFF
    path = tmp_path / f"a.tar{suffix}"
    path.write_bytes(whole)
    with pytest.raises(streams.Damaged):
        everything(Source(path=str(path)))


def test_a_remote_folder_that_cannot_be_listed_is_an_error(monkeypatch):
    """fsspec's own walk and find pass over it."""
    import fsspec

    memory = fsspec.filesystem("memory")
    memory.pipe("/store/a.txt", b"x")
    memory.pipe("/store/closed/b.txt", b"x")
    original = type(memory).ls

    def refused(self, path, *arguments, **options):
        if "closed" in path:
            raise PermissionError(13, "Permission denied", path)
        return original(self, path, *arguments, **options)

    assert len(find_inputs((Source(path="memory://store"),))) == 2
    monkeypatch.setattr(type(memory), "ls", refused)
    with pytest.raises(UserError, match=r"memory://store: .*Permission denied: .*closed"):
        find_inputs((Source(path="memory://store"),))


def test_remote_files_are_read_through_fsspec():
    import fsspec

    memory = fsspec.filesystem("memory")
    memory.pipe("/corpus/a.txt", "\n\n".join(DOCS).encode())
    memory.pipe("/corpus/b/c.txt.gz", gzip.compress("又一篇。".encode()))
    memory.pipe("/corpus/b/d.parquet", b"not parquet")
    assert everything(Source(path="memory://corpus/a.txt")) == DOCS
    assert everything(Source(path="memory://corpus/**/*.txt*")) == [*DOCS, "又一篇。"]
    with pytest.raises(streams.Damaged):
        everything(Source(path="memory://corpus"))
    with pytest.raises(UserError, match=r"memory://none.*: "):
        everything(Source(path="memory://none/*.txt"))


@pytest.mark.parametrize("pattern", ["", "*/*.txt", "**/*.txt", "**", "*/deep/*.txt", "./**/*.txt"])
def test_a_folder_that_cannot_be_listed_is_an_error(tmp_path, monkeypatch, pattern):
    """Root may list anything, so what other users see is put in its place."""
    (tmp_path / "closed" / "deep").mkdir(parents=True)
    (tmp_path / "closed" / "deep" / "a.txt").write_text("一行。")
    (tmp_path / "open" / "deep").mkdir(parents=True)
    (tmp_path / "open" / "b.txt").write_text("一行。")
    (tmp_path / "open" / "deep" / "c.txt").write_text("一行。")
    original = os.scandir

    def refused(path):
        is_closed = "closed/deep" in str(path) if "deep" in pattern else "closed" in str(path)
        if is_closed:
            raise PermissionError(13, "Permission denied", str(path))
        return original(path)

    monkeypatch.setattr(os, "scandir", refused)
    monkeypatch.chdir(tmp_path)
    path = pattern if pattern.startswith(".") else f"{tmp_path}/{pattern}"
    with pytest.raises(UserError, match=r"closed.*: cannot be listed: Permission denied"):
        find_inputs((Source(path=path),))
    assert len(find_files(f"{tmp_path}/open/**/*.txt")) == 2


@pytest.mark.parametrize("name", ["a" * 300, f"{'b' * 300}/*.txt"])
def test_a_path_that_the_system_refuses_is_a_user_error(tmp_path, name):
    with pytest.raises(UserError, match="sources: "):
        find_files(f"{tmp_path}/{name}")


def test_files_of_a_folder_that_are_left_out_for_their_names_are_reported(tmp_path):
    for name in ("a.txt", "b.md", "c.md", "part-00000", ".hidden"):
        (tmp_path / name).write_text("一行。")
    seen = []
    find_inputs((Source(path=str(tmp_path)),), report=lambda *values: seen.append(values))
    ((folder, what, count),) = seen
    assert folder == str(tmp_path) and count == 3
    assert what == "files left out, whose names tell no format (2 .md, 1 without a suffix)"
    seen.clear()
    find_inputs((Source(path=str(tmp_path), format="txt"),), report=lambda *v: seen.append(v))
    assert not seen


def test_files_without_a_suffix_under_an_explicit_format(tmp_path):
    (tmp_path / "part-00000").write_text("第一篇。")
    (tmp_path / ".hidden").write_text("不要。")
    assert everything(Source(path=str(tmp_path), format="txt")) == ["第一篇。"]
    with pytest.raises(UserError, match="of other names with `format` set"):
        everything(Source(path=str(tmp_path)))


def test_a_linked_folder_is_read_once(tmp_path):
    (tmp_path / "corpus").mkdir()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "a.txt").write_text("一行。")
    (tmp_path / "corpus" / "link").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "corpus" / "circle").symlink_to(tmp_path / "corpus")
    assert everything(Source(path=str(tmp_path / "corpus"))) == ["一行。"]


def test_the_output_directory_inside_a_source_is_left_out(tmp_path):
    (tmp_path / "a.txt").write_text("一行。")
    (tmp_path / "shards").mkdir()
    (tmp_path / "shards" / "vocab.txt").write_text("[PAD]")
    (entry,) = find_inputs((Source(path=str(tmp_path)),), tmp_path / "shards")
    assert entry.path.endswith("a.txt")


@pytest.mark.parametrize("dirt", ["\0", "\ufeff", "\u200b", " \x7f "])
def test_dirt_on_a_blank_line_does_not_join_documents(tmp_path, dirt):
    (tmp_path / "a.txt").write_text(f"第一篇。\n{dirt}\n第二篇。\n", encoding="utf-8")
    assert everything(Source(path=str(tmp_path / "a.txt"))) == ["第一篇。", "第二篇。"]
    (tmp_path / "b.txt").write_bytes("第一篇。\n".encode() * 9 + b"\xff\n" + "第二篇。".encode())
    assert len(everything(Source(path=str(tmp_path / "b.txt")))) == 2


@pytest.mark.parametrize("name", ["{}.txt", "{}.jsonl", "{}.json"])
def test_planning_opens_a_small_file_once(tmp_path, monkeypatch, name):
    """For its encoding; a corpus may be a million small files."""
    for number in range(100):
        (tmp_path / name.format(number)).write_text('{"text": "一句话。"}\n', encoding="utf-8")
    opened = Counter()
    original = Path.open

    def counting(self, *arguments, **options):
        opened[self.name] += 1
        return original(self, *arguments, **options)

    monkeypatch.setattr(Path, "open", counting)
    sources = (Source(path=str(tmp_path)),)
    parts = list(make_parts(find_inputs(sources), sources, 1 << 20))
    assert len(parts) == len(opened) == 100 and set(opened.values()) == {1}


def test_paths_keep_their_order_and_spelling(tmp_path, monkeypatch):
    """Folders before their neighbours with a longer name, as Path sorts them."""
    for name in ("a/2.txt", "a/10.txt", "a-b/1.txt", "a.txt", "b/c/d.txt"):
        (tmp_path / "x" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "x" / name).write_text("一句话。")
    files = find_files(str(tmp_path / "x"))
    assert files == [str(path) for path in sorted(Path(tmp_path / "x").rglob("*.txt"))]
    assert find_files(f"{tmp_path}/x/**/*.txt") == files
    monkeypatch.chdir(tmp_path / "x")
    assert find_files(".")[0] == "a/10.txt" and find_files("./a") == ["a/10.txt", "a/2.txt"]
