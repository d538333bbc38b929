"""Cleaned text between two steps: one compressed section a piece, sentences a line, blank line
between documents. A block is a list of documents, a document a list of sentences."""

import contextlib
import io
import json
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import BinaryIO, TypeVar, cast

import zstandard

from data_pipeline.base.files import whole_file
from data_pipeline.building import piece_file

BLOCK = 1 << 18  # characters that are handled at a time, about
Document = list[str]
P = TypeVar("P")


def blocks(documents: Iterable[tuple[P, Document]]) -> Iterator[tuple[list[P], list[Document]]]:
    """Documents with their places put together into blocks; empty ones are left out."""
    places: list[P] = []
    block: list[Document] = []
    size = 0
    for place, document in documents:
        if not document:
            continue
        places.append(place)
        block.append(document)
        size += sum(map(len, document))
        if size >= BLOCK:
            yield places, block
            places, block, size = [], [], 0
    if block:
        yield places, block


@contextlib.contextmanager
def writer(file: BinaryIO) -> Iterator[Callable[[list[Document]], None]]:
    """A function that appends a block to an open file."""
    with _compressed(file) as out:

        def write(block: list[Document]) -> None:
            out.write("".join("\n".join(document) + "\n\n" for document in block).encode())

        yield write


def read(path: Path) -> Iterator[list[Document]]:
    """The blocks of the file of a piece, not cut as they were written."""
    held = b""
    with (
        piece_file.section(path, "text") as (file, length),
        zstandard.ZstdDecompressor().stream_reader(_limited(file, length)) as stream,
    ):
        while data := stream.read(1 << 19):
            complete, separator, rest = (held + data).rpartition(b"\n\n")
            if separator:
                yield _parsed(complete)
            held = rest
    if held:
        yield _parsed(held)


def _parsed(text: bytes) -> list[Document]:
    return [document.split("\n") for document in text.decode().split("\n\n")]


@contextlib.contextmanager
def text_writer(path: Path) -> Iterator[Callable[[str], None]]:
    """A function that appends the raw text of a document, which `read_texts` gives back. The folder
    of the file is not synced."""
    with (
        whole_file(path, sync_folder=False) as temporary,
        temporary.open("wb") as file,
        _compressed(file) as out,
    ):

        def write(text: str) -> None:
            out.write(json.dumps(text).encode() + b"\n")

        yield write


def read_texts(path: Path) -> Iterator[str]:
    """The documents of a file of `text_writer`."""
    with path.open("rb") as file, zstandard.ZstdDecompressor().stream_reader(file) as stream:
        yield from map(json.loads, io.TextIOWrapper(stream, encoding="ascii"))


def _limited(file: BinaryIO, length: int) -> BinaryIO:
    """The next bytes of a file as a stream of their own, for who only calls `read`: the library's
    reader goes on behind the end of its frame."""
    return cast(BinaryIO, _Limited(file, length))


class _Limited:
    def __init__(self, file: BinaryIO, left: int):
        self._file, self._left = file, left

    def read(self, size: int) -> bytes:
        data = self._file.read(min(size, self._left))
        self._left -= len(data)
        return data


def _compressed(file: BinaryIO) -> zstandard.ZstdCompressionWriter:
    return zstandard.ZstdCompressor(level=1).stream_writer(file, closefd=False)
