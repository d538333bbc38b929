"""The table of formats: one class for each, and the class for a reader of the user's own."""

import os
from collections import Counter
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from data_pipeline.base.errors import UserError
from data_pipeline.base.functions import load_function
from data_pipeline.sources import packaged, streams
from data_pipeline.sources.archives import Archive
from data_pipeline.sources.delimited import Delimited
from data_pipeline.sources.lines import JsonLines, Text
from data_pipeline.sources.parquet import Parquet
from data_pipeline.sources.parts import Format, Input, Part, ReadSettings


class Packaged(Format):
    """A corpus that an installed package carries."""

    def parts(
        self, number: int, entry: Input, settings: ReadSettings, part_bytes: int
    ) -> Iterator[Part]:
        """Ranges of documents."""
        start = size = stop = 0
        for stop, text in enumerate(packaged.texts(entry.path), 1):
            size += len(text.encode())
            if size >= part_bytes:
                yield Part(number, "document", start, stop, size)
                start, size = stop, 0
        if size:
            yield Part(number, "document", start, stop, size)

    def documents(
        self, entry: Input, part: Part, settings: ReadSettings, counters: Counter
    ) -> Iterator[str]:
        """The documents of the range."""
        return islice(packaged.texts(entry.path), part.start, part.stop)


class OwnReader(Format):
    """A reader of the user's own: a function from a path to the documents of the file. Only the
    reader can say where a file may be cut, so it is read as a whole."""

    def __init__(self, name: str):
        self.name = name

    def documents(
        self, entry: Input, part: Part, settings: ReadSettings, counters: Counter
    ) -> Iterator[str]:
        """What the reader yields; UserError when that is not text."""
        for document in load_function(self.name)(Path(entry.path)):
            if not isinstance(document, str):
                raise UserError(
                    f"sources: {entry.path}: {self.name} gave {document!r:.60}; "
                    "a reader takes a path and gives the documents as text"
                )
            yield document


FORMATS: dict[str, Format] = {
    "txt": Text(),
    "jsonl": JsonLines(),
    "parquet": Parquet(),
    "csv": Delimited(".csv", ","),
    "tsv": Delimited(".tsv", "\t"),
    "archive": Archive(lambda path: FORMATS.get(format_of(str(path)) or "")),
}
PACKAGED = Packaged()
SUFFIXES = {suffix: name for name, entry in FORMATS.items() for suffix in entry.suffixes}


def format_named(name: str) -> Format:
    """The format of `Input.format`."""
    if name == "packaged":
        return PACKAGED
    return OwnReader(name) if ":" in name else FORMATS[name]


def format_of(path: str) -> str | None:
    """Name of the format that a file name stands for, compression left aside."""
    stem, suffix = os.path.splitext(path.lower())  # noqa: PTH122 - asked for a million names
    if suffix in streams.COMPRESSED:
        _, suffix = os.path.splitext(stem)  # noqa: PTH122
    return SUFFIXES.get(suffix)
