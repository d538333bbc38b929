"""Archives: the files in a .zip or .tar, each read in its own format."""

import dataclasses
import lzma
import shutil
import tarfile
import tempfile
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import IO, cast

import zstandard

from data_pipeline.sources import streams
from data_pipeline.sources.encodings import encoding_of
from data_pipeline.sources.parts import Format, Input, Part, ReadSettings

# RuntimeError: a .zip that is encrypted, or has a compression that Python lacks.
UNREADABLE = (
    zipfile.BadZipFile,
    tarfile.TarError,
    zlib.error,
    lzma.LZMAError,
    zstandard.ZstdError,
    EOFError,
    OSError,
    RuntimeError,
)


class Archive(Format):
    """All members whose name tells their format, in the order in which they were put in."""

    suffixes = (".zip", ".tar", ".tgz")

    def __init__(self, format_for: Callable[[Path], Format | None]):
        self._format_for = format_for

    def documents(
        self, entry: Input, part: Part, settings: ReadSettings, counters: Counter
    ) -> Iterator[str]:
        """The documents of one member after another, each unpacked into a temporary file."""
        for path in _members(Path(entry.path)):
            member_format = self._format_for(path)
            if member_format is None or isinstance(member_format, Archive):
                counters["members_skipped"] += 1
                continue
            encoding = settings.encoding
            if encoding == "auto":
                encoding = encoding_of(streams.head(path))
            size = path.stat().st_size
            member = dataclasses.replace(entry, path=str(path), encoding=encoding, bytes=size)
            for piece in member_format.parts(part.input, member, settings, 1 << 62):
                yield from member_format.documents(member, piece, settings, counters)


def _members(path: Path) -> Iterator[Path]:
    """The files in an archive, each as a temporary file that lasts until the next is asked for.

    streams.Damaged when the archive breaks off.
    """
    try:
        for name, content in _streams(path):
            with tempfile.TemporaryDirectory() as folder:
                member = Path(folder, PurePosixPath(name).name)
                with member.open("wb") as file:
                    shutil.copyfileobj(content, file, streams.BLOCK)
                yield member
    except UNREADABLE as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise  # of the system; what a decompressor finds wrong in the data has no number
        raise streams.Damaged(f"not a whole archive: {error}") from error


def _streams(path: Path) -> Iterator[tuple[str, IO[bytes]]]:
    """(name, stream) of each member, read before the next is asked for."""
    if path.suffix.lower() == ".zip":
        with zipfile.ZipFile(path) as archive:
            for info in archive.infolist():
                if not info.is_dir():
                    with archive.open(info) as content:
                        yield info.filename, content
        return
    with (
        streams.opened(path) as raw,
        # Of a stream only `read` is called, although the type asks for all of a file.
        tarfile.open(fileobj=cast(IO[bytes], raw), mode="r|") as tar,
    ):
        for member in tar:
            unpacked = tar.extractfile(member)
            if unpacked is not None:
                yield member.name, unpacked
        for _ in streams.blocks(raw):  # the checksum of a compressed file is at its end
            pass
