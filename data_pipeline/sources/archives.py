"""Archives: the files in a .zip or .tar, each read in its own format."""

import dataclasses
import shutil
import tarfile
import tempfile
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from data_pipeline.sources import streams
from data_pipeline.sources.encodings import encoding_of
from data_pipeline.sources.parts import Format, Input, Part, ReadSettings


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
    except (zipfile.BadZipFile, tarfile.TarError, zlib.error, EOFError) as error:
        raise streams.Damaged(f"not a whole archive: {error}") from error


def _streams(path: Path) -> Iterator[tuple[str, BinaryIO]]:
    """(name, stream) of each member, read before the next is asked for."""
    if path.suffix.lower() == ".zip":
        with zipfile.ZipFile(path) as archive:
            for info in archive.infolist():
                if not info.is_dir():
                    with archive.open(info) as content:
                        yield info.filename, content
        return
    mode = "r|gz" if path.suffix.lower() == ".tgz" else "r|"
    with streams.opened(path) as raw, tarfile.open(fileobj=raw, mode=mode) as tar:
        for info in tar:
            content = tar.extractfile(info)
            if content is not None:
                yield info.name, content
