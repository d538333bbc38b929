"""Bytes on disk to lines of text, in bounded memory: compression, encodings, byte ranges."""

import bz2
import contextlib
import gzip
import lzma
import re
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Protocol

from data_pipeline.sources.encodings import line_decoder

if TYPE_CHECKING:
    import zstandard

BLOCK = 1 << 20
LONGEST_LINE = 1 << 16  # characters; a longer line is continued as another
LONGEST_RECORD = 1 << 24  # characters of a line that must not be cut
HEAD = 1 << 16
# A lone \r ends a line too; one that is the last byte read may belong to a \r\n.
LINE_END = re.compile(rb"\n|\r(?=[^\n])")
BLANK_LINE = re.compile(rb"\n[ \t\r]{0,4}\n|\r[ \t]{0,4}\r(?=[^\n])")
GZIP_LARGE = 1 << 30  # bytes of a .gz whose stored size (modulo 4 GiB) says nothing
USUAL_RATIO = 4  # of text to its compressed size
SAMPLED_FROM, SAMPLE = (
    1 << 20,
    1 << 21,
)  # bytes of a compressed file, and of text from its beginning


class Damaged(Exception):
    """A file that breaks off or will not decompress; what came before was delivered."""


def head(path: Path) -> bytes:
    """The first bytes, decompressed; of a damaged file those before the damage."""
    with contextlib.suppress(Damaged), opened(path) as stream:
        return next(blocks(stream, HEAD), b"")
    return b""


@contextlib.contextmanager
def opened(path: Path, start: int = 0) -> Iterator["Readable"]:
    """A stream of the decompressed bytes, from byte `start` of the file as it is stored. OSError
    when it cannot be opened."""
    with Path(path).open("rb") as raw:
        raw.seek(start)
        yield decompressed(raw, path.suffix.lower())


class Readable(Protocol):
    """What is needed of a stream of bytes."""

    def read(self, size: int, /) -> bytes:
        """Up to `size` bytes; b"" at the end."""
        ...


class Zstandard:
    """Reads the frames of a .zst file; unlike the library's own reader, it tells when one is cut
    off (https://github.com/indygreg/python-zstandard, `stream_reader`)."""

    def __init__(self, raw: BinaryIO):
        self._raw, self._held = raw, b""
        self._frame: zstandard.ZstdDecompressionObj | None = None

    def read(self, size: int) -> bytes:
        """Up to `size` bytes; b"" at the end. EOFError when the last frame is not whole."""
        while not self._held:
            data = self._raw.read(HEAD)
            if not data:
                if self._frame is not None:
                    raise EOFError("the last Zstandard frame is cut off")
                return b""
            self._held = self._unpacked(data)
        taken, self._held = self._held[:size], self._held[size:]
        return taken

    def _unpacked(self, data: bytes) -> bytes:
        parts = []
        while data:
            frame = self._frame or _new_frame()
            parts.append(frame.decompress(data))
            data = frame.unused_data if frame.eof else b""
            self._frame = None if frame.eof else frame
        return b"".join(parts)


def _new_frame() -> "zstandard.ZstdDecompressionObj":
    import zstandard

    return zstandard.ZstdDecompressor(max_window_size=1 << 31).decompressobj()


DECOMPRESSORS: dict[str, Callable[[BinaryIO], Readable]] = {
    ".gz": lambda raw: gzip.GzipFile(fileobj=raw),
    ".zst": Zstandard,
    ".bz2": bz2.BZ2File,
    ".xz": lzma.LZMAFile,
}
COMPRESSED = tuple(DECOMPRESSORS)


def decompressed(raw: BinaryIO, suffix: str) -> Readable:
    """The stream, decompressed as the suffix of its file says; .tgz is .tar.gz."""
    decompress = DECOMPRESSORS.get(suffix.replace("tgz", "gz"))
    return decompress(raw) if decompress else raw


def decompressed_size(path: Path) -> int:
    """Bytes of a file once it is decompressed: read from its head or end, or estimated.

    The head of a .zst and the end of a .gz tell the size of one of its members only. What the
    beginning of a large file decompresses to shows whether it has many, or breaks off.
    """
    size = path.stat().st_size
    suffix = path.suffix.lower()
    if suffix not in (*COMPRESSED, ".zip", ".tgz"):
        return size
    stored = _stored_size(path, suffix, size)
    if size < SAMPLED_FROM or suffix == ".zip":
        return stored if stored >= size else USUAL_RATIO * size
    sampled = _sampled_size(path, suffix, size)
    return stored if sampled <= 2 * stored <= 8 * sampled else sampled


def _stored_size(path: Path, suffix: str, size: int) -> int:
    """The size that the file itself tells; 0 when it does not."""
    import zstandard

    if suffix == ".zip":
        with contextlib.suppress(zipfile.BadZipFile), zipfile.ZipFile(path) as archive:
            return sum(info.file_size for info in archive.infolist())
    with path.open("rb") as file:
        if suffix in (".gz", ".tgz") and 4 < size < GZIP_LARGE:
            file.seek(-4, 2)
            return int.from_bytes(file.read(4), "little")
        if suffix == ".zst":
            with contextlib.suppress(zstandard.ZstdError):
                return max(0, zstandard.frame_content_size(file.read(32)))
    return 0


def _sampled_size(path: Path, suffix: str, size: int) -> int:
    """The size by the ratio at the beginning of the file."""
    seen = 0
    with path.open("rb") as raw, contextlib.suppress(Damaged):
        for block in blocks(decompressed(raw, suffix), HEAD, SAMPLE):
            seen += len(block)
        return size * seen // max(raw.tell(), 1)
    return USUAL_RATIO * size


def blocks(stream: Readable, size: int = BLOCK, limit: int | None = None) -> Iterator[bytes]:
    """Blocks of exactly `size` bytes but for the last, at most `limit` bytes in all.

    Damaged, after all that could be read, when the data cannot be decompressed. An I/O error of
    the system stays an OSError: the file may be whole.
    """
    import zstandard

    left = limit
    while left is None or left > 0:
        parts, wanted = [], size if left is None else min(size, left)
        failure = None
        while wanted:
            try:
                data = stream.read(min(wanted, HEAD))  # a failure loses what it had read
            except (EOFError, zlib.error, lzma.LZMAError, zstandard.ZstdError, OSError) as error:
                if isinstance(error, OSError) and error.errno is not None:
                    raise  # of the system; a decompressor's own OSError has no number
                failure = error
                break
            if not data:
                break
            parts.append(data)
            wanted -= len(data)
        block = b"".join(parts)
        if block:
            yield block
            left = None if left is None else left - len(block)
        if failure is not None:
            raise Damaged(str(failure)) from failure
        if wanted:
            return


def lines(
    path: Path,
    encoding: str,
    byte_range: tuple[int, int] | None = None,
    longest: int = LONGEST_LINE,
) -> Iterator[str]:
    """Lines of a byte range of a plain file, or of the whole of a file, decompressed.

    Without their line ends (\\n, \\r\\n or \\r). Bytes that are no text come as lone surrogates. A
    line of more than `longest` characters comes in parts, cut after a 。 where there is one.
    """
    decoder = line_decoder(encoding)
    start, stop = byte_range or (0, None)
    rest = ""
    with opened(path, start) as stream:
        for block in blocks(stream, limit=None if stop is None else stop - start):
            *complete, rest = (rest + decoder.decode(block)).split("\n")
            for line in complete:
                yield from _bounded(line, longest)
            if len(rest) > longest:
                *complete, rest = _bounded(rest, longest)
                yield from complete
        rest += decoder.decode(b"", final=True)  # a \r at the end is a line end after all
    for line in rest.split("\n"):
        yield from _bounded(line, longest)


def text_blocks(path: Path, encoding: str) -> Iterator[str]:
    """The text of a file, decompressed and decoded, in blocks."""
    decoder = line_decoder(encoding)
    with opened(path) as stream:
        for block in blocks(stream):
            yield decoder.decode(block)
    yield decoder.decode(b"", final=True)


def _bounded(line: str, longest: int) -> Iterator[str]:
    if len(line) <= longest:
        yield line
        return
    start = 0
    while len(line) - start > longest:
        end = line.rfind("。", start, start + longest) + 1 or start + longest
        yield line[start:end]
        start = end
    yield line[start:]


def cuts(path: Path, size: int, piece: int, blank_line: bool) -> list[int]:
    """Byte offsets [0, ..., size] about `piece` apart, each at the start of a line.

    With `blank_line`, each behind a blank line if one comes within a piece.
    """
    offsets = [0]
    if 3 * piece // 2 >= size:  # nothing to look for in a small file
        return [*offsets, size]
    with path.open("rb") as file:
        while offsets[-1] + 3 * piece // 2 < size:
            goal = offsets[-1] + piece
            offset = _behind(file, BLANK_LINE, goal, goal + piece) if blank_line else None
            offset = offset or _behind(file, LINE_END, goal, size)
            if offset is None or offset >= size:
                break
            offsets.append(offset)
    return [*offsets, size]


def _behind(file, boundary: re.Pattern, start: int, stop: int) -> int | None:
    """The offset behind the first `boundary` that begins between start and about stop."""
    held, base = b"", start
    while base < stop:
        file.seek(base + len(held))
        more = file.read(HEAD)
        held += more
        match = boundary.search(held)
        if match:
            return base + match.end()
        if not more:
            return None
        tail = held[-8:]  # a boundary may lie across two blocks
        base, held = base + len(held) - len(tail), tail
    return None
