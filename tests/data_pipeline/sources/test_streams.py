import bz2
import gzip
import lzma
import random
import zipfile
from itertools import pairwise

import pytest
import zstandard
from hypothesis import example, given
from hypothesis import strategies as st

from data_pipeline.sources import streams

PACK = {
    ".gz": gzip.compress,
    ".zst": zstandard.compress,
    ".bz2": bz2.compress,
    ".xz": lzma.compress,
}
TEXT = "第一行，你好。\n第二行\n\n第三行：很好！\n"


def read(path, encoding="utf-8", start=0, stop=None):
    return list(streams.lines(path, encoding, None if stop is None else (start, stop)))


@pytest.mark.parametrize("suffix", [".gz", ".zst", ".bz2", ".xz"])
def test_compressed_files_give_the_same_lines(tmp_path, suffix):
    pack = PACK[suffix]
    path = tmp_path / f"a.txt{suffix}"
    path.write_bytes(pack(TEXT.encode()) + pack(TEXT.encode()))  # two members, as `cat` makes
    assert "\n".join(read(path)) == TEXT + TEXT


@pytest.mark.parametrize("suffix", [".gz", ".zst", ".bz2", ".xz"])
def test_a_file_that_breaks_off_delivers_what_came_before(tmp_path, suffix):
    pack = PACK[suffix]
    whole = "".join(f"第{i}行，{i * 7919 % 10007}\n" for i in range(300_000)).encode()
    path = tmp_path / f"a.txt{suffix}"
    packed = pack(whole)
    path.write_bytes(packed[: len(packed) * 9 // 10])
    found = []
    with pytest.raises(streams.Damaged):
        for line in streams.lines(path, "utf-8"):
            found.append(line)
    assert len(found) > 100_000
    assert "\n".join(found).encode() == whole[: len("\n".join(found).encode())]


@pytest.mark.parametrize("suffix", [".gz", ".zst", ".bz2", ".xz"])
def test_rubbish_is_damaged_not_fatal(tmp_path, suffix):
    path = tmp_path / f"a.txt{suffix}"
    path.write_bytes(b"this is no compressed file at all")
    assert streams.head(path) == b""
    with pytest.raises(streams.Damaged):
        list(streams.lines(path, "utf-8"))


def test_bad_bytes_come_as_lone_surrogates(tmp_path):
    path = tmp_path / "a.txt"
    path.write_bytes("中".encode() + b"\xff\x80" + "国\n".encode())
    assert read(path) == ["中\udcff\udc80国", ""]


def test_a_very_long_line_comes_in_parts_and_whole(tmp_path):
    line = "很长的一行没有标点" * 200_000 + "。完" + "再来" * 40_000
    path = tmp_path / "a.txt"
    path.write_text(line + "\n短\n", encoding="utf-8")
    parts = read(path)
    assert parts[-2:] == ["短", ""]
    assert "".join(parts[:-2]) == line
    assert max(map(len, parts)) <= streams.LONGEST_LINE
    assert any(part.endswith("。") for part in parts)


@given(
    st.lists(st.sampled_from(["一", "二三", "", " ", "四五六七", "\r"]), max_size=40),
    st.integers(1, 60),
    st.booleans(),
    st.sampled_from(["utf-8", "gb18030"]),
)
@example(["四五六七", "四五六七", "一", " ", " ", "", *["四五六七"] * 3, "一"], 1, True, "utf-8")
def test_ranges_between_cuts_give_all_lines_once(
    tmp_path_factory, lines, piece, blank_line, encoding
):
    path = tmp_path_factory.mktemp("cuts") / "a.txt"
    path.write_bytes("".join(f"{line}\n" for line in lines).encode(encoding))
    size = path.stat().st_size
    cuts = streams.cuts(path, size, piece, blank_line)
    assert cuts[0] == 0 and cuts[-1] == size and cuts == sorted(cuts)
    found = [
        line
        for a, b in pairwise(cuts)
        for line in read(path, encoding, a, b)[:-1]  # each range ends with a line end
    ]
    assert found == [line.removesuffix("\r") for line in lines]


def test_cuts_lie_behind_blank_lines(tmp_path):
    path = tmp_path / "a.txt"
    path.write_bytes(("一行\r\n两行\r\n\r\n" * 50).encode())
    size = path.stat().st_size
    cuts = streams.cuts(path, size, 100, True)
    assert len(cuts) > 5
    text = path.read_bytes()
    assert all(text[:cut].endswith(b"\r\n\r\n") for cut in cuts[1:-1])


def test_an_error_of_the_system_is_no_damage(tmp_path):
    """A file on a network disk may be whole though one read of it failed."""

    class Broken:
        def read(self, size):
            raise OSError(5, "Input/output error")

    with pytest.raises(OSError, match="Input/output error"):
        next(streams.blocks(Broken()))


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_every_line_end_ends_a_line(tmp_path, end):
    path = tmp_path / "a.txt"
    lines = [f"第{i}行。" for i in range(2000)]
    path.write_bytes(end.join(lines).encode())
    assert read(path) == lines
    offsets = streams.cuts(path, path.stat().st_size, 1000, False)
    assert len(offsets) > 20
    assert [
        line for a, b in pairwise(offsets) for line in read(path, "utf-8", a, b) if line
    ] == lines


@pytest.mark.parametrize("suffix", PACK)
def test_the_size_of_the_text_is_known_or_estimated(tmp_path, suffix):
    text = "".join(f"第{i}行，{i * 7919 % 10007}\n" for i in range(20_000)).encode()
    path = tmp_path / f"a.txt{suffix}"
    path.write_bytes(PACK[suffix](text))
    size = streams.decompressed_size(path)
    exact = suffix in (".gz", ".zst")
    assert size == len(text) if exact else len(text) / 5 < size < 5 * len(text)


@pytest.mark.parametrize("suffix", [".gz", ".zst"])
@pytest.mark.parametrize("members", [10, 100])
@pytest.mark.parametrize("is_large", [False, True])
def test_the_size_of_many_members_is_not_that_of_one(
    tmp_path, monkeypatch, suffix, members, is_large
):
    """As `cat`, bgzip, pzstd and web crawls make them: their heads and ends tell one size each."""
    if is_large:
        monkeypatch.setattr(streams, "SAMPLED_FROM", 1000)
    chosen = random.Random(0)
    text = "".join(f"第{chosen.randrange(100_000)}行。\n" for _ in range(30_000)).encode()
    path = tmp_path / f"a.txt{suffix}"
    step = -(-len(text) // members)
    parts = [text[start : start + step] for start in range(0, len(text), step)]
    path.write_bytes(b"".join(map(PACK[suffix], parts)))
    closer = 2 if is_large else 6
    assert len(text) / closer < streams.decompressed_size(path) < closer * len(text)


@pytest.mark.parametrize("suffix", PACK)
def test_the_size_of_a_large_file_is_sampled(tmp_path, monkeypatch, suffix):
    monkeypatch.setattr(streams, "SAMPLED_FROM", 1000)
    text = b"".join(b"%d" % (i * 7919 % 10007) * 9 for i in range(20_000))
    path = tmp_path / f"a.txt{suffix}"
    path.write_bytes(PACK[suffix](text))
    assert streams.decompressed_size(path) == len(text)
    path.write_bytes(path.read_bytes()[:2000])  # breaks off
    assert 2000 < streams.decompressed_size(path) < 20 * len(text)


def test_a_zip_tells_its_size(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.txt", b"x" * 100_000)
        archive.writestr("b.txt", b"y" * 5_000)
    assert streams.decompressed_size(tmp_path / "a.zip") == 105_000
