import gzip

import pytest

from data_pipeline.base.errors import UserError
from data_pipeline.sources import streams
from data_pipeline.sources.inputs import find_inputs
from data_pipeline.sources.settings import Source
from tests.data_pipeline.sources.documents import DOCS, everything


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
