"""What the step `read` leaves of a piece, in one file: every file more is a wait for the disk more.

Sections one behind another, and at the end a table of where each begins and ends.
"""

import contextlib
import io
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np

from data_pipeline.base.files import whole_file

SECTIONS = ("text", "documents", "exact", "near")
"""Sentences (see `spill`), where the documents come from (`provenance`), and records of hashes
(`records`) of each kind that the recipe asks for."""
SUFFIX = ".piece"
TABLE = np.dtype(("<i8", (len(SECTIONS), 2)))


class Writer:
    """Writes the sections of one file, in any order."""

    def __init__(self, file: BinaryIO):
        self.file = file
        self._table = np.zeros((), TABLE)

    @contextlib.contextmanager
    def section(self, name: str) -> Iterator[BinaryIO]:
        """The file, for what belongs to the section."""
        bounds = self._table[SECTIONS.index(name)]
        bounds[:] = self.file.tell()
        yield self.file
        bounds[1] = self.file.tell()

    def finish(self) -> None:
        """Write the table."""
        self.file.write(self._table.tobytes())


@contextlib.contextmanager
def writer(path: Path) -> Iterator[Writer]:
    """A writer of the file, which is there once the context has ended. The folder is not synced."""
    with whole_file(path, sync_folder=False) as temporary, temporary.open("wb") as file:
        made = Writer(file)
        yield made
        made.finish()


@contextlib.contextmanager
def section(path: Path, name: str) -> Iterator[tuple[BinaryIO, int]]:
    """(the file, at the beginning of a section; bytes of the section). OSError when the file is not
    whole."""
    with path.open("rb") as file:
        table_begin = file.seek(0, io.SEEK_END) - TABLE.itemsize
        if table_begin < 0:
            raise cut_short(path)
        file.seek(table_begin)
        table = np.frombuffer(file.read(TABLE.itemsize), "<i8").reshape(TABLE.shape)
        begin, end = map(int, table[SECTIONS.index(name)])
        if table.max() != table_begin or not 0 <= begin <= end:
            raise cut_short(path)
        file.seek(begin)
        yield file, end - begin


def cut_short(path: Path) -> OSError:
    """What a file that ends too early is reported with."""
    return OSError(f"{path} is cut short")
