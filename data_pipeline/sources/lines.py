"""Formats made of lines: plain text and JSON lines."""

import json
import re
from collections import Counter
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

from data_pipeline.sources import streams
from data_pipeline.sources.encodings import CUT_BY_BYTES
from data_pipeline.sources.parts import Format, Input, Part, ReadSettings, whole_file_part
from data_pipeline.text.rules import CONTROL

ARRAY_START = re.compile(r"\ufeff?\s*\[\s*(?=[{\]]|$)")
SHORT = 16  # characters; no longer line is looked at for characters without a shape
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
    """One JSON object a line, the text in its fields; or one JSON array of such objects."""

    suffixes = (".jsonl", ".json")

    def parts(
        self, number: int, entry: Input, settings: ReadSettings, part_bytes: int
    ) -> Iterator[Part]:
        """Byte ranges of whole lines; the whole of an array."""
        if entry.bytes > part_bytes and _is_array(entry):  # smaller ones are not cut anyway
            yield whole_file_part(number, entry)
        else:
            yield from line_parts(number, entry, part_bytes, False)

    def documents(
        self, entry: Input, part: Part, settings: ReadSettings, counters: Counter
    ) -> Iterator[str]:
        """One document a record."""
        records = _array_records(entry) if _is_array(entry) else _line_records(entry, part)
        for record in records:
            counters["records_in"] += 1
            try:
                values = [record[field] for field in settings.fields]
            except (KeyError, TypeError, IndexError):
                counters["records_bad"] += 1
                continue
            yield from record_documents(values, counters)


def _is_array(entry: Input) -> bool:
    head = streams.head(Path(entry.path)).decode(entry.encoding, "ignore")
    return bool(ARRAY_START.match(head))


def _line_records(entry: Input, part: Part) -> Iterator[Any]:
    for line in read_lines(entry, part, streams.LONGEST_RECORD):
        if line.strip():
            try:
                yield json.loads(line)
            except (ValueError, RecursionError):
                yield None


def _array_records(entry: Input) -> Iterator[Any]:
    """The elements of one JSON array, a block of the file at a time."""
    decode, rest = json.JSONDecoder().raw_decode, ""
    blocks = streams.text_blocks(Path(entry.path), entry.encoding)
    rest = ARRAY_START.sub("", next(blocks, ""), count=1)
    while True:
        rest = rest.lstrip(", \t\r\n")
        if rest.startswith("]"):
            if rest[1:].strip() or any(block.strip() for block in blocks):
                raise streams.Damaged("not a whole JSON array: there is more behind its end")
            return
        try:
            record, end = decode(rest)
            if end == len(rest):  # a number may continue in the next block
                raise ValueError
        except (ValueError, RecursionError):
            more = next(blocks, "")
            if not more or len(rest) > streams.LONGEST_RECORD:
                raise streams.Damaged(f"not a whole JSON array: {rest[:60]!r}") from None
            rest += more
            continue
        yield record
        rest = rest[end:]


def line_parts(number: int, entry: Input, part_bytes: int, blank_line: bool) -> Iterator[Part]:
    """Byte ranges of a plain file; the whole of a file that cannot be cut by bytes."""
    path = Path(entry.path)
    if path.suffix.lower() in streams.COMPRESSED or entry.encoding not in CUT_BY_BYTES:
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


def is_blank_line(line: str) -> bool:
    """Whether nothing of a line can be seen: a stray NUL or a bad byte does not fill it."""
    return not line.strip() or (len(line) <= SHORT and not CONTROL.sub("", line).strip())


def join_lines(lines: Iterator[str], documents: str) -> Iterator[str]:
    """Lines put together into documents: `blank_line`, `line` or `file`."""
    document: list[str] = []
    size = 0
    for line in lines:
        is_blank = is_blank_line(line)
        ended = documents == "line" or (documents == "blank_line" and is_blank)
        if document and (ended or size > LONGEST_DOCUMENT):
            yield "\n".join(document)
            document, size = [], 0
        if not is_blank:
            document.append(line)
            size += len(line)
    if document:
        yield "\n".join(document)
