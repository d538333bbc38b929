"""Parquet files, read by row groups."""

import contextlib
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from data_pipeline.base.errors import UserError
from data_pipeline.sources import streams
from data_pipeline.sources.lines import record_documents
from data_pipeline.sources.parts import Format, Input, Part, ReadSettings, whole_file_part

ROWS_AT_ONCE = 256


class Parquet(Format):
    """One document a row, the text in its columns."""

    suffixes = (".parquet",)

    def parts(
        self, number: int, entry: Input, settings: ReadSettings, part_bytes: int
    ) -> Iterator[Part]:
        """Ranges of row groups; the whole of a compressed file."""
        if Path(entry.path).suffix.lower() in streams.COMPRESSED:
            yield whole_file_part(number, entry)
            return
        try:
            with open_parquet(Path(entry.path)) as file:
                groups = file.metadata.num_row_groups
                sizes = [file.metadata.row_group(g).total_byte_size for g in range(groups)]
        except streams.Damaged:  # reported when it is read
            yield whole_file_part(number, entry)
            return
        start = size = 0
        for stop, group_bytes in enumerate(sizes, 1):
            size += group_bytes
            if size >= part_bytes or stop == groups:
                yield Part(number, "row group", start, stop, size)
                start, size = stop, 0

    def documents(
        self, entry: Input, part: Part, settings: ReadSettings, counters: Counter
    ) -> Iterator[str]:
        """One document a row; UserError when a column is missing."""
        with open_parquet(Path(entry.path)) as file:
            columns = file.schema_arrow.names
            missing = [field for field in settings.fields if field not in columns]
            if missing:
                raise UserError(
                    f"sources: {entry.path}: no column {', '.join(missing)}; "
                    f"it has {', '.join(columns)}"
                )
            groups = list(range(part.start, part.stop)) if part.unit == "row group" else None
            fields = list(settings.fields)
            for batch in file.iter_batches(ROWS_AT_ONCE, row_groups=groups, columns=fields):
                for row in batch.to_pylist():
                    counters["records_in"] += 1
                    yield from record_documents([row[field] for field in fields], counters)


@contextlib.contextmanager
def open_parquet(path: Path):
    """A pyarrow ParquetFile; a compressed one is decompressed into a temporary file first."""
    import pyarrow
    from pyarrow.parquet import ParquetFile

    with contextlib.ExitStack() as stack:
        file: Path | IO[bytes] = path
        if path.suffix.lower() in streams.COMPRESSED:
            unpacked = stack.enter_context(tempfile.TemporaryFile())
            for block in streams.blocks(stack.enter_context(streams.opened(path))):
                unpacked.write(block)
            unpacked.seek(0)
            file = unpacked
        try:
            yield stack.enter_context(ParquetFile(file))
        except (pyarrow.ArrowException, OSError) as error:
            if isinstance(error, OSError) and error.errno is not None:
                raise  # of the system; what pyarrow finds wrong in the data has no number
            raise streams.Damaged(f"not a whole parquet file: {error}") from error
