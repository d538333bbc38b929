import gzip
from itertools import pairwise

import pytest
import zstandard
from hypothesis import example, given
from hypothesis import strategies as st

from data_pipeline.base.errors import UserError
from data_pipeline.sources import streams

TEXT = "第一行，你好。\n第二行\n\n第三行：很好！\n"


def read(path, encoding="utf-8", start=0, stop=None):
    return list(streams.lines(path, encoding, None if stop is None else (start, stop)))


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "gb18030", "utf-16"])
def test_encodings_are_told_apart(tmp_path, encoding):
    path = tmp_path / "a.txt"
    path.write_bytes(TEXT.encode(encoding))
    found = streams.encoding_of(streams.head(path))
    assert found == encoding
    assert "\n".join(read(path, found)) == TEXT


def test_a_character_cut_in_two_at_the_end_of_the_head_is_no_fault():
    assert streams.encoding_of("中文".encode()[:-1]) == "utf-8"
    assert streams.encoding_of("中文字".encode("gb18030")[:-1]) == "gb18030"
    assert streams.encoding_of(b"") == "utf-8"


def test_mostly_utf8_with_bad_bytes_stays_utf8():
    assert streams.encoding_of("中文很好。".encode() * 20 + b"\xff\xfe") == "utf-8"


def test_unknown_encoding_is_a_user_error():
    with pytest.raises(UserError, match="'utf-7x' is unknown"):
        streams.check_encoding("utf-7x")


@pytest.mark.parametrize("suffix", [".gz", ".zst"])
def test_compressed_files_give_the_same_lines(tmp_path, suffix):
    pack = {".gz": gzip.compress, ".zst": zstandard.compress}[suffix]
    path = tmp_path / f"a.txt{suffix}"
    path.write_bytes(pack(TEXT.encode()) + pack(TEXT.encode()))  # two members, as `cat` makes
    assert "\n".join(read(path)) == TEXT + TEXT


@pytest.mark.parametrize("suffix", [".gz", ".zst"])
def test_a_file_that_breaks_off_delivers_what_came_before(tmp_path, suffix):
    pack = {".gz": gzip.compress, ".zst": zstandard.compress}[suffix]
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


@pytest.mark.parametrize("suffix", [".gz", ".zst"])
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
