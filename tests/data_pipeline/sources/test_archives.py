import bz2
import gzip
import io
import json
import lzma
import random
import tarfile
import zipfile

import pytest
import zstandard

from data_pipeline.sources import streams
from data_pipeline.sources.settings import Source
from tests.data_pipeline.sources.documents import DOCS, everything


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
