import gzip

import fsspec
import pytest

from data_pipeline.base.errors import UserError
from data_pipeline.sources import streams
from data_pipeline.sources.inputs import find_inputs
from data_pipeline.sources.settings import Source
from tests.data_pipeline.sources.documents import DOCS, everything


@pytest.fixture
def memory():
    """An empty file system in memory."""
    system = fsspec.filesystem("memory")
    system.store.clear()
    system.pseudo_dirs[:] = [""]
    yield system
    system.store.clear()


@pytest.mark.parametrize("pattern", ["", "/*/*.txt", "/**/*.txt", "/**", "/*/deep/*.txt"])
def test_a_remote_folder_that_cannot_be_listed_is_an_error(memory, monkeypatch, pattern):
    """fsspec's own walk, find and glob pass over it."""
    memory.pipe("/store/a.txt", b"x")
    memory.pipe("/store/open/deep/b.txt", b"x")
    memory.pipe("/store/open/c.txt", b"x")
    memory.pipe("/store/closed/deep/d.txt", b"x")
    original = type(memory).ls
    closed = "closed/deep" if "deep" in pattern else "closed"

    def refused(self, path, *arguments, **options):
        if closed in path:
            raise PermissionError(13, "Permission denied", path)
        return original(self, path, *arguments, **options)

    assert len(find_inputs((Source(path=f"memory://store{pattern}"),))) >= 1
    monkeypatch.setattr(type(memory), "ls", refused)
    with pytest.raises(UserError, match=r"memory://store.*: .*Permission denied: .*closed"):
        find_inputs((Source(path=f"memory://store{pattern}"),))
    assert len(find_inputs((Source(path="memory://store/open/**/*.txt"),))) == 2


TREE = (
    "a.txt",
    "a-b/1.txt",
    "a/2.txt",
    "a/10.txt",
    "a/notes.md",
    "b/c/d.txt",
    "b/c/e.jsonl",
    ".hidden/f.txt",
    "b/.hidden.txt",
    "deep.txt/part",
)


@pytest.mark.parametrize(
    "pattern",
    [
        *("", "/a.txt", "/*", "/*.txt", "/*/*.txt", "/**/*.txt", "/**", "/b/**/d.txt", "/**/c/*"),
        *("/*/c/d.txt", "/[ab]/*", "/?/*.txt", "/b*", "/none", "/none/*", "/*/none", "/.h*/*"),
        *("/deep*", "/**/b", "/a.txt/*"),
    ],
)
def test_remote_files_are_found_by_the_rules_of_local_ones(memory, tmp_path, pattern):
    for name in TREE:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text('{"text": "一行。"}')
        memory.pipe(f"/store/{name}", (tmp_path / name).read_bytes())

    def found(root: str, name: str):
        left_out = []
        source = Source(path=root + pattern, format=name)
        try:
            inputs = find_inputs((source,), report=left_out.append)
        except UserError as error:
            return str(error).replace(root, "ROOT").partition(f"ROOT{pattern}: ")[2]
        paths = [entry.path.replace(root, "ROOT") for entry in inputs]
        return paths, [one._replace(path=one.path.replace(root, "ROOT")) for one in left_out]

    for name in ("auto", "txt"):
        expected, remote = found(str(tmp_path), name), found("memory:///store", name)
        if isinstance(expected, str) and isinstance(remote, str):
            assert expected.startswith("only") == remote.startswith("only")
        else:
            assert remote == expected


def test_remote_files_are_read_through_fsspec(memory):
    memory.pipe("/corpus/a.txt", "\n\n".join(DOCS).encode())
    memory.pipe("/corpus/b/c.txt.gz", gzip.compress("又一篇。".encode()))
    memory.pipe("/corpus/b/d.parquet", b"not parquet")
    assert everything(Source(path="memory://corpus/a.txt")) == DOCS
    assert everything(Source(path="memory://corpus/**/*.txt*")) == [*DOCS, "又一篇。"]
    with pytest.raises(streams.Damaged):
        everything(Source(path="memory://corpus"))
    with pytest.raises(UserError, match=r"memory://none.*: "):
        everything(Source(path="memory://none/*.txt"))
