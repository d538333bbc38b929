"""Cleaned text between two steps: one compressed file a piece, sentences a line, blank line
between documents. A block is a list of documents, a document a list of sentences."""

import contextlib
import io
import json
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TypeVar

import zstandard

from data_pipeline.base.files import whole_file

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
def writer(path: Path) -> Iterator[Callable[[list[Document]], None]]:
    """A function that appends a block to the file, which is there once the context has ended."""
    with (
        whole_file(path) as temporary,
        temporary.open("wb") as file,
        zstandard.ZstdCompressor(level=1).stream_writer(file, closefd=False) as out,
    ):

        def write(block: list[Document]) -> None:
            out.write("".join("\n".join(document) + "\n\n" for document in block).encode())

        yield write


def read(path: Path) -> Iterator[list[Document]]:
    """The blocks of a file, not cut as they were written."""
    held = b""
    with path.open("rb") as file, zstandard.ZstdDecompressor().stream_reader(file) as stream:
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
    """A function that appends the raw text of a document, which `read_texts` gives back."""
    with (
        whole_file(path) as temporary,
        temporary.open("wb") as file,
        zstandard.ZstdCompressor(level=1).stream_writer(file, closefd=False) as out,
    ):

        def write(text: str) -> None:
            out.write(json.dumps(text).encode() + b"\n")

        yield write


def read_texts(path: Path) -> Iterator[str]:
    """The documents of a file of `text_writer`."""
    with path.open("rb") as file, zstandard.ZstdDecompressor().stream_reader(file) as stream:
        yield from map(json.loads, io.TextIOWrapper(stream, encoding="ascii"))
