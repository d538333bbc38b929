import csv
import io
import json
from collections import Counter

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from data_pipeline.base.errors import UserError
from data_pipeline.sources import packaged, streams
from data_pipeline.sources.inputs import find_inputs, make_parts, read_documents
from data_pipeline.sources.lines import join_lines
from data_pipeline.sources.parts import Input, Part
from data_pipeline.sources.settings import Source
from tests.data_pipeline.sources.documents import DOCS, everything, packed


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


@pytest.mark.parametrize("dirt", ["\0", "\ufeff", "\u200b", " \x7f "])
def test_dirt_on_a_blank_line_does_not_join_documents(tmp_path, dirt):
    (tmp_path / "a.txt").write_text(f"第一篇。\n{dirt}\n第二篇。\n", encoding="utf-8")
    assert everything(Source(path=str(tmp_path / "a.txt"))) == ["第一篇。", "第二篇。"]
    (tmp_path / "b.txt").write_bytes("第一篇。\n".encode() * 9 + b"\xff\n" + "第二篇。".encode())
    assert len(everything(Source(path=str(tmp_path / "b.txt")))) == 2
