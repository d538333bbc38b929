"""The inputs of a build: found, put together into pieces, read as documents.

A piece becomes one shard. It is made of parts: byte ranges of plain files, row groups of parquet
files, whole compressed files, ranges of a packaged corpus. Planning looks at names, sizes and the
first bytes of files; reading streams, so that memory does not grow with the input.
"""

import glob
import os
from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path, PurePosixPath

from data_pipeline.base.errors import UserError
from data_pipeline.sources import packaged, streams
from data_pipeline.sources.encodings import checked_encoding, encoding_of
from data_pipeline.sources.formats import FORMATS, SUFFIXES, format_named, format_of
from data_pipeline.sources.parts import Input, Part, whole_file_part
from data_pipeline.sources.remote import find_remote, is_remote, local_copy, remote_head
from data_pipeline.sources.settings import Source

HEADS_AT_ONCE = 32


def find_inputs(sources: tuple[Source, ...], output_dir: Path | None = None) -> list[Input]:
    """All inputs in order, without those in `output_dir`, which may lie in the folder of a source.

    UserError for a source without files, or with a folder or file that is unreadable.
    """
    inputs: list[Input] = []
    with ThreadPoolExecutor(HEADS_AT_ONCE) as pool:  # waiting for a disk or a network, not for us
        for number, source in enumerate(sources):
            if source.packaged:
                size = sum(len(text.encode()) for text in packaged.texts(source.packaged))
                inputs.append(Input(number, source.packaged, "packaged", "utf-8", size, size, 0))
            elif is_remote(source.path):
                files = find_remote(source.path)
                inputs += pool.map(partial(_remote_input, number, source), files)
            else:
                files = find_files(source.path, source.format, output_dir)
                inputs += pool.map(partial(_input, number, source), files)
    return inputs


def find_files(pattern: str, format_name: str = "auto", without: Path | None = None) -> list[Path]:
    """The files of a path, a folder or a glob, in the order of their names.

    Of a folder those whose name tells the format, or with another `format_name` all but hidden
    ones. What lies in the folder `without` is left out.
    """
    path = Path(pattern).expanduser()
    if path.is_dir():
        files = [p for p in _walk(path, without) if format_name != "auto" or format_of(p)]
        if not files:
            raise UserError(
                f"sources: the folder {path} holds no {', '.join(SUFFIXES)} file (or one of these "
                f"with {', '.join(streams.COMPRESSED)}); of other names with `format` set"
            )
        return sorted(files)
    if path.is_file():
        return [path]
    matches = sorted(Path(p) for p in glob.glob(str(path), recursive=True))  # noqa: PTH207
    files = [p for p in matches if p.is_file() and not _lies_in(p, without)]
    if not files:
        reason = "only folders match" if matches else "there is no such file or folder"
        raise UserError(f"sources: {pattern}: {reason}")
    return files


def _walk(folder: Path, without: Path | None) -> Iterator[Path]:
    """All files that are not hidden. UserError for a folder that cannot be listed."""

    def unreadable(error: OSError) -> None:
        raise UserError(f"sources: {error.filename}: cannot be listed: {error.strerror}")

    visited = set()
    for parent, names, files in os.walk(folder, onerror=unreadable, followlinks=True):
        visited.add(Path(parent).resolve())  # a link may point to a folder above it
        names[:] = [
            name
            for name in names
            if name[0] != "."
            and Path(parent, name).resolve() not in visited
            and not _lies_in(Path(parent, name), without)
        ]
        yield from (Path(parent, name) for name in files if name[0] != ".")


def _lies_in(path: Path, folder: Path | None) -> bool:
    return folder is not None and path.resolve().is_relative_to(folder.resolve())


def make_parts(inputs: list[Input], sources: tuple[Source, ...], part_bytes: int) -> Iterator[Part]:
    """The parts of all inputs, in order."""
    for number, entry in enumerate(inputs):
        if is_remote(entry.path):
            yield whole_file_part(number, entry)
        else:
            source = sources[entry.source]
            yield from format_named(entry.format).parts(number, entry, source, part_bytes)


def make_pieces(parts: Iterable[Part], piece_bytes: int) -> list[list[Part]]:
    """Parts put together into pieces of about `piece_bytes`, in order."""
    pieces: list[list[Part]] = []
    room = 0
    for part in parts:
        if room < part.bytes // 2 or not pieces:
            pieces.append([])
            room = piece_bytes
        pieces[-1].append(part)
        room -= part.bytes
    return pieces


def read_documents(entry: Input, part: Part, source: Source, counters: Counter) -> Iterator[str]:
    """The documents of a part: see `Format.documents`."""
    with local_copy(entry) as local:
        yield from format_named(entry.format).documents(local, part, source, counters)


def _input(number: int, source: Source, path: Path) -> Input:
    try:
        state = path.stat()
        head = streams.head(path)
        text_bytes = streams.decompressed_size(path)
    except PermissionError:
        raise UserError(f"sources: {path}: no permission to read it") from None
    except OSError as error:
        raise UserError(f"sources: {path}: cannot be read: {error.strerror or error}") from None
    size, modified = state.st_size, state.st_mtime_ns
    return _described(number, source, str(path), head, size, text_bytes, modified)


def _remote_input(number: int, source: Source, file: tuple[str, int, int]) -> Input:
    url, size, modified = file
    try:
        head = remote_head(url)
    except OSError as error:
        raise UserError(f"sources: {url}: cannot be read: {error}") from None
    compressed = PurePosixPath(url).suffix.lower() in streams.COMPRESSED
    text_bytes = size * (streams.USUAL_RATIO if compressed else 1)
    return _described(number, source, url, head, size, text_bytes, modified)


def _described(
    number: int, source: Source, path: str, head: bytes, size: int, text_bytes: int, modified: int
) -> Input:
    name = format_of(Path(path)) if source.format == "auto" else source.format
    if name is None:
        raise UserError(
            f"sources: {path}: the name does not tell the format; set `format` to one of "
            f"{', '.join(FORMATS)}"
        )
    if name == "parquet":
        encoding = "utf-8"
    elif source.encoding == "auto":
        encoding = encoding_of(head)
    else:
        encoding = checked_encoding(source.encoding)
    return Input(number, path, name, encoding, size, text_bytes, modified)
