import pytest

from data_pipeline.base.errors import UserError
from data_pipeline.sources import streams
from data_pipeline.sources.encodings import checked_encoding, encoding_of

TEXT = "第一行，你好，这是我们的一个例子。\n第二行\n\n第三行：他在这里，很好！\n"


@pytest.mark.parametrize(
    "encoding",
    ["utf-8", "utf-8-sig", "gb18030", "utf-16", "utf-16-le", "utf-16-be", "utf-32"],
)
def test_encodings_are_told_apart(tmp_path, encoding):
    path = tmp_path / "a.txt"
    path.write_bytes(TEXT.encode(encoding))
    found = encoding_of(streams.head(path))
    assert found == encoding
    assert "\n".join(streams.lines(path, found)) == TEXT


@pytest.mark.parametrize("encoding", ["utf-8", "gb18030", "utf-16-le", "utf-16-be"])
def test_real_news_in_every_encoding(news, encoding):
    for text in news[:50]:
        assert encoding_of(text.encode(encoding)) == encoding


def test_a_character_cut_in_two_at_the_end_of_the_head_is_no_fault():
    assert encoding_of("中文".encode()[:-1]) == "utf-8"
    assert encoding_of("中文字的".encode("gb18030")[:-1]) == "gb18030"
    assert encoding_of(b"") == "utf-8"


def test_mostly_utf8_with_bad_bytes_stays_utf8():
    assert encoding_of("中文很好。".encode() * 20 + b"\xff\xfe") == "utf-8"


@pytest.mark.parametrize(
    ("name", "standard"),
    [("UTF16", "utf-16"), ("utf_16_le", "utf-16-le"), ("UTF-32", "utf-32"), ("GBK", "gbk")],
)
def test_spellings_of_an_encoding_are_one(name, standard):
    assert checked_encoding(name) == standard


@pytest.mark.parametrize("name", ["utf-7x", "zip", "rot13", ""])
def test_what_is_no_text_encoding_is_a_user_error(name):
    with pytest.raises(UserError, match="is no text encoding of Python"):
        checked_encoding(name)


def test_halves_of_utf16_characters_come_as_lone_surrogates(tmp_path):
    path = tmp_path / "a.txt"
    path.write_bytes("中国".encode("utf-16-le") + b"\x41\xd8" + "人\n".encode("utf-16-le"))
    (line, rest) = streams.lines(path, "utf-16-le")
    assert line.startswith("中国") and line.endswith("人") and rest == ""
    assert any("\ud800" <= char <= "\udfff" for char in line)
