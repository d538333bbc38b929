"""Encodings: told apart by the first bytes of a file, checked, and decoded without an exception."""

import codecs
import io

from data_pipeline.base.errors import UserError

# In these a byte 0x0A or 0x0D is always a line end, so files can be cut by bytes.
CUT_BY_BYTES = {
    "ascii", "utf-8", "utf-8-sig", "gb18030", "gbk", "gb2312", "big5", "big5hkscs", "cp950",
    "euc_jp", "euc_kr", "shift_jis", "cp932", "cp949", "iso8859-1", "cp1252",
}  # fmt: skip
BAD_BYTES = "data_pipeline.bad_bytes"
# The most frequent characters of Chinese text; they make up about a third of it.
FREQUENT = set(
    "的一是了我不人在他有这个上们来到时大地为子中你说生国年着就那和要她出也得里后自以会，。、"
)
UTF_16_MARKS = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
UTF_32_MARKS = (codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE)


def encoding_of(head: bytes) -> str:
    """The encoding of a file, from its first bytes.

    Without a byte order mark: UTF-8, unless a fifth of the bytes beyond ASCII are no UTF-8 or a
    third of all are NUL. (Of GB18030 and UTF-16 text most are no UTF-8, and of ASCII in UTF-16 half
    are NUL.) The decoding with most frequent characters of Chinese shows which other it is.
    """
    if head.startswith(codecs.BOM_UTF8):
        return "utf-8-sig"
    if head.startswith(UTF_32_MARKS):
        return "utf-32"
    if head.startswith(UTF_16_MARKS):
        return "utf-16"
    # Not final: a character cut in two at the end of `head` is no fault.
    text = codecs.getincrementaldecoder("utf-8")("surrogateescape").decode(head)
    bad = sum("\udc80" <= char <= "\udcff" for char in text)
    if bad * 5 <= sum(byte >= 0x80 for byte in head) and head.count(0) * 3 <= len(head):
        return "utf-8"
    return max(("gb18030", "utf-16-le", "utf-16-be"), key=lambda name: _likeness(head, name))


def _likeness(head: bytes, encoding: str) -> float:
    """Share of frequent Chinese characters, and a tenth of that of ASCII, in a decoding."""
    text = codecs.getincrementaldecoder(encoding)("replace").decode(head)
    frequent = sum(char in FREQUENT for char in text) + 0.1 * sum(map(str.isascii, text))
    wrong = sum(char in "\0\ufffd" for char in text)
    return (frequent - wrong) / max(len(text), 1)


def checked_encoding(name: str) -> str:
    """Python's own name of an encoding, whatever its spelling: UTF16 is utf-16.

    UserError unless Python can decode text with it.
    """
    try:
        info = codecs.lookup(name)
        text = info.incrementaldecoder("strict").decode(b"", final=True)
        if not isinstance(text, str):
            raise LookupError(name)
    except (LookupError, TypeError, ValueError):
        raise UserError(
            f"encoding: {name!r} is no text encoding of Python; utf-8, gb18030 or utf-16, for "
            "example, or auto"
        ) from None
    return info.name


def line_decoder(encoding: str) -> io.IncrementalNewlineDecoder:
    """An incremental decoder that never fails and makes every line end a \\n.

    A byte that is no text becomes a lone surrogate, which cleaning removes and counts.
    """
    decoder = codecs.getincrementaldecoder(encoding)(BAD_BYTES)
    return io.IncrementalNewlineDecoder(decoder, translate=True)


def _as_surrogates(error: UnicodeError) -> tuple[str, int]:
    """Like `surrogateescape`, which fails on bytes below 0x80 (half a character of UTF-16)."""
    if not isinstance(error, UnicodeDecodeError):
        raise error
    bad = error.object[error.start : error.end]
    return "".join(chr(0xDC00 + byte) for byte in bad), error.end


codecs.register_error(BAD_BYTES, _as_surrogates)
