"""Tables in text files: comma-separated and tab-separated values with a line of column names."""

import csv
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from data_pipeline.base.errors import UserError
from data_pipeline.sources import streams
from data_pipeline.sources.lines import record_documents
from data_pipeline.sources.parts import Format, Input, Part, ReadSettings, whole_file_part


class Delimited(Format):
    """One document a row, the text in its columns. Quoted values may hold line ends."""

    def __init__(self, suffix: str, delimiter: str):
        self.suffixes = (suffix,)
        self._delimiter = delimiter

    def parts(
        self, number: int, entry: Input, settings: ReadSettings, part_bytes: int
    ) -> Iterator[Part]:
        """The whole file: a line end may lie inside a value."""
        if entry.bytes:
            yield whole_file_part(number, entry)

    def documents(
        self, entry: Input, part: Part, settings: ReadSettings, counters: Counter
    ) -> Iterator[str]:
        """One document a row; UserError when a column is missing."""
        csv.field_size_limit(streams.LONGEST_RECORD)
        lines = streams.lines(Path(entry.path), entry.encoding, None, streams.LONGEST_RECORD)
        rows = csv.reader((f"{line}\n" for line in lines), delimiter=self._delimiter)
        columns = next(_rows(rows), [])
        missing = [field for field in settings.fields if field not in columns]
        if missing:
            raise UserError(
                f"sources: {entry.path}: no column {', '.join(missing)}; "
                f"its first line names {', '.join(columns)[:200] or 'none'}"
            )
        places = [columns.index(field) for field in settings.fields]
        for row in _rows(rows):
            if row:
                counters["records_in"] += 1
                values = [row[i] if i < len(row) else None for i in places]
                yield from record_documents(values, counters)


def _rows(rows: Iterator[list[str]]) -> Iterator[list[str]]:
    try:
        yield from rows
    except csv.Error as error:
        raise streams.Damaged(f"not a table: {error}") from error
