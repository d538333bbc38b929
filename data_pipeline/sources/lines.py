"""Formats made of lines: plain text and JSON lines."""

import json
from collections import Counter
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

from data_pipeline.sources import streams
from data_pipeline.sources.parts import Format, Input, Part, ReadSettings, whole_file_part

LONGEST_DOCUMENT = 1 << 18  # characters; a longer one is continued as another document


class Text(Format):
    """Plain text. `documents` of the source says what ends a document."""

    suffixes = (".txt",)

    def parts(
        self, number: int, entry: Input, settings: ReadSettings, part_bytes: int
    ) -> Iterator[Part]:
        """Byte ranges that begin behind a blank line, where blank lines end documents."""
        return line_parts(number, entry, part_bytes, settings.documents == "blank_line")

    def documents(
        self, entry: Input, part: Part, settings: ReadSettings, counters: Counter
    ) -> Iterator[str]:
        """Lines put together as `settings.documents` says."""
        return join_lines(read_lines(entry, part, streams.LONGEST_LINE), settings.documents)


class JsonLines(Format):
    """One JSON object a line, the text in its fields."""

    suffixes = (".jsonl", ".json")

    def parts(
        self, number: int, entry: Input, settings: ReadSettings, part_bytes: int
    ) -> Iterator[Part]:
        """Byte ranges of whole lines."""
        return line_parts(number, entry, part_bytes, False)

    def documents(
        self, entry: Input, part: Part, settings: ReadSettings, counters: Counter
    ) -> Iterator[str]:
        """One document a record."""
        for line in read_lines(entry, part, streams.LONGEST_RECORD):
            if not line.strip():
                continue
            try:
                record = json.loads(line)
                values = [record[field] for field in settings.fields]
            except (ValueError, KeyError, TypeError, RecursionError):
                counters["records_bad"] += 1
                continue
            yield from record_documents(values, counters)


def line_parts(number: int, entry: Input, part_bytes: int, blank_line: bool) -> Iterator[Part]:
    """Byte ranges of a plain file; the whole of a file that cannot be cut by bytes."""
    path = Path(entry.path)
    if path.suffix.lower() in streams.COMPRESSED or entry.encoding.startswith("utf-16"):
        if entry.bytes:
            yield whole_file_part(number, entry)
        return
    for start, stop in pairwise(streams.cuts(path, entry.bytes, part_bytes, blank_line)):
        if stop > start:
            yield Part(number, "byte", start, stop, stop - start)


def read_lines(entry: Input, part: Part, longest: int) -> Iterator[str]:
    """The lines of a part, those of more than `longest` characters cut."""
    bounds = (part.start, part.stop) if part.unit == "byte" else None
    return streams.lines(Path(entry.path), entry.encoding, bounds, longest)


def record_documents(values: list, counters: Counter) -> Iterator[str]:
    """The document of one record, cut if it is very long; none when a value is not text."""
    if all(isinstance(value, str) for value in values):
        yield from join_lines(iter("\n".join(values).split("\n")), "file")
    else:
        counters["records_bad"] += 1


def join_lines(lines: Iterator[str], documents: str) -> Iterator[str]:
    """Lines put together into documents: `blank_line`, `line` or `file`."""
    document: list[str] = []
    size = 0
    for line in lines:
        is_blank = not line.strip()
        ended = documents == "line" or (documents == "blank_line" and is_blank)
        if document and (ended or size > LONGEST_DOCUMENT):
            yield "\n".join(document)
            document, size = [], 0
        if not is_blank:
            document.append(line)
            size += len(line)
    if document:
        yield "\n".join(document)
