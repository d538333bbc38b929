"""Where text comes from: files and packaged corpora, planned into pieces, read as documents.

A piece is what becomes one shard. It is made of parts, and a part is a byte range of a plain
file, row groups of a parquet file, a whole compressed file, or a range of a packaged corpus.
Planning looks at names, sizes and the first bytes of files; reading streams, so that memory does
not grow with the input.
"""

import glob
import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice, pairwise
from pathlib import Path

from data_pipeline.base.errors import UserError
from data_pipeline.recipe import Source
from data_pipeline.sources import packaged, streams

LONGEST_DOCUMENT = 1 << 18  # characters; a longer one goes on as another document
FORMATS = {".txt": "txt", ".jsonl": "jsonl", ".json": "jsonl", ".parquet": "parquet"}


@dataclass(frozen=True)
class Input:
    """One file, or one packaged corpus."""

    source: int
    """Index into the recipe's sources."""
    path: str
    """Or the name of the packaged corpus."""
    format: str
    """txt, jsonl, parquet or packaged."""
    encoding: str
    bytes: int
    modified_ns: int


@dataclass(frozen=True)
class Part:
    """start .. stop of an input: bytes of a plain file, rows groups, documents, or 0 .. 1."""

    input: int
    start: int
    stop: int
    bytes: int
    """How much of the input that is, for the progress bar."""


def find(sources: tuple[Source, ...]) -> list[Input]:
    """All inputs in order. UserError for a source that finds nothing or cannot be read."""
    inputs = []
    for number, source in enumerate(sources):
        if source.packaged:
            size = sum(len(text.encode()) for text in packaged.texts(source.packaged))
            inputs.append(Input(number, source.packaged, "packaged", "utf-8", size, 0))
        else:
            inputs += [_input(number, source, path) for path in files(source.path)]
    return inputs


def files(pattern: str) -> list[Path]:
    """The files that a path, a folder or a glob names, in the order of their names."""
    path = Path(pattern).expanduser()
    if path.is_dir():
        known = [p for p in path.rglob("*") if p.is_file() and _format_of(p) is not None]
        if not known:
            raise UserError(
                f"sources: the folder {path} holds no {', '.join(FORMATS)} (or .gz or .zst) file"
            )
        return sorted(known)
    if path.is_file():
        return [path]
    found = sorted(Path(p) for p in glob.glob(str(path), recursive=True))  # noqa: PTH207
    plain = [p for p in found if p.is_file()]
    if not plain:
        what = "only folders match" if found else "there is no such file or folder"
        raise UserError(f"sources: {pattern}: {what}")
    return plain


def pieces(inputs: list[Input], sources: tuple[Source, ...], size: int) -> list[list[Part]]:
    """Parts put together into pieces of about `size` bytes, in the order of the inputs."""
    done: list[list[Part]] = []
    room = 0
    for number, entry in enumerate(inputs):
        for part in _parts(number, entry, sources[entry.source], size):
            if room < part.bytes // 2 or not done:
                done.append([])
                room = size
            done[-1].append(part)
            room -= part.bytes
    return done


def documents(entry: Input, part: Part, source: Source, counters: Counter) -> Iterator[str]:
    """The documents of a part: lines joined by line ends, bad bytes as lone surrogates.

    `counters` learns of records that are no JSON or lack the field. streams.Damaged when the file
    breaks off; OSError when it cannot be opened.
    """
    if entry.format == "packaged":
        yield from islice(packaged.texts(entry.path), part.start, part.stop)
    elif entry.format == "parquet":
        yield from _rows(entry, part, source, counters)
    else:
        records = entry.format == "jsonl"
        lines = streams.lines(
            Path(entry.path),
            part.start,
            part.stop,
            entry.encoding,
            streams.LONGEST_RECORD if records else streams.LONGEST_LINE,
        )
        if records:
            yield from _records(lines, source.fields, counters)
        else:
            yield from joined(lines, source.documents)


def joined(lines: Iterator[str], documents: str) -> Iterator[str]:
    """Lines put together into documents: `blank_line`, `line` or `file`."""
    held: list[str] = []
    size = 0
    for line in lines:
        blank = not line.strip()
        ended = documents == "line" or (documents == "blank_line" and blank)
        if held and (ended or size > LONGEST_DOCUMENT):
            yield "\n".join(held)
            held, size = [], 0
        if not blank:
            held.append(line)
            size += len(line)
    if held:
        yield "\n".join(held)


def _format_of(path: Path) -> str | None:
    suffixes = [suffix.lower() for suffix in path.suffixes]
    if suffixes and suffixes[-1] in streams.COMPRESSED:
        suffixes.pop()
    return FORMATS.get(suffixes[-1]) if suffixes else None


def _input(number: int, source: Source, path: Path) -> Input:
    kind = _format_of(path) if source.format == "auto" else source.format
    if kind is None:
        raise UserError(
            f"sources: {path}: no format known for this name; set `format` to txt, jsonl or parquet"
        )
    try:
        state = path.stat()
        head = streams.head(path)
    except PermissionError:
        raise UserError(f"sources: {path}: no permission to read it") from None
    except OSError as error:
        raise UserError(f"sources: {path}: cannot be read: {error.strerror or error}") from None
    encoding = source.encoding
    if encoding == "auto":
        encoding = "utf-8" if kind == "parquet" else streams.encoding_of(head)
    streams.check_encoding(encoding)
    return Input(number, str(path), kind, encoding, state.st_size, state.st_mtime_ns)


def _parts(number: int, entry: Input, source: Source, size: int) -> Iterator[Part]:
    if entry.format == "packaged":
        start = held = 0
        for stop, text in enumerate(packaged.texts(entry.path), 1):
            held += len(text.encode())
            if held >= size:
                yield Part(number, start, stop, held)
                start, held = stop, 0
        if held:
            yield Part(number, start, stop, held)
        return
    path = Path(entry.path)
    if path.suffix.lower() in streams.COMPRESSED or entry.encoding.startswith("utf-16"):
        cuts = [0, entry.bytes]
    elif entry.format == "parquet":
        yield from _row_groups(number, entry, size)
        return
    else:
        blank_line = entry.format == "txt" and source.documents == "blank_line"
        cuts = streams.cuts(path, entry.bytes, size, blank_line)
    for start, stop in pairwise(cuts):
        if stop > start:
            yield Part(number, start, stop, stop - start)


def _records(lines: Iterator[str], fields: tuple[str, ...], counters: Counter) -> Iterator[str]:
    for line in lines:
        if not line.strip():
            continue
        try:
            record = json.loads(line)
            texts = [record[field] for field in fields]
        except (ValueError, KeyError, TypeError, RecursionError):
            counters["records_bad"] += 1
            continue
        yield from _document(texts, counters)


def _document(texts: list, counters: Counter) -> Iterator[str]:
    if all(isinstance(text, str) for text in texts):
        yield from joined(iter("\n".join(texts).split("\n")), "file")
    else:
        counters["records_bad"] += 1


def _row_groups(number: int, entry: Input, size: int) -> Iterator[Part]:
    try:
        with streams.parquet(Path(entry.path)) as file:
            groups = file.metadata.num_row_groups
            bytes_of = [file.metadata.row_group(g).total_byte_size for g in range(groups)]
    except streams.Damaged:  # reading it will say so
        groups, bytes_of = 1, [entry.bytes]
    start = held = 0
    for stop, amount in enumerate(bytes_of, 1):
        held += amount
        if held >= size or stop == groups:
            yield Part(number, start, stop, held)
            start, held = stop, 0


def _rows(entry: Input, part: Part, source: Source, counters: Counter) -> Iterator[str]:
    with streams.parquet(Path(entry.path)) as file:
        absent = [f for f in source.fields if f not in file.schema_arrow.names]
        if absent:
            raise UserError(
                f"sources: {entry.path}: no column {', '.join(absent)}; "
                f"it has {', '.join(file.schema_arrow.names)}"
            )
        whole = Path(entry.path).suffix.lower() in streams.COMPRESSED
        groups = None if whole else list(range(part.start, part.stop))
        for batch in file.iter_batches(256, row_groups=groups, columns=list(source.fields)):
            for row in batch.to_pylist():
                yield from _document([row[field] for field in source.fields], counters)
