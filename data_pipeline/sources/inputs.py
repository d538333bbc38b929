"""The inputs of a build: found, put together into pieces, read as documents.

A piece becomes one shard. It is made of parts: byte ranges of plain files, row groups of parquet
files, whole compressed files, ranges of a packaged corpus. Planning looks at names, sizes and the
first bytes of files; reading streams, so that memory does not grow with the input.
"""

import glob
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from data_pipeline.base.errors import UserError
from data_pipeline.sources import packaged, streams
from data_pipeline.sources.formats import FORMATS, SUFFIXES, format_named, format_of
from data_pipeline.sources.parts import Input, Part
from data_pipeline.sources.settings import Source


def find_inputs(sources: tuple[Source, ...], output_dir: Path | None = None) -> list[Input]:
    """All inputs in order, without those in `output_dir`, which may lie in the folder of a source.

    UserError for a source without files or with one that is unreadable.
    """
    inputs = []
    for number, source in enumerate(sources):
        if source.packaged:
            size = sum(len(text.encode()) for text in packaged.texts(source.packaged))
            inputs.append(Input(number, source.packaged, "packaged", "utf-8", size, 0))
        else:
            inputs += [_input(number, source, path) for path in find_files(source.path)]
    return inputs


def find_files(pattern: str) -> list[Path]:
    """The files of a path, a folder or a glob, in the order of their names."""
    path = Path(pattern).expanduser()
    if path.is_dir():
        files = [p for p in path.rglob("*") if p.is_file() and format_of(p) is not None]
        if not files:
            raise UserError(
                f"sources: the folder {path} holds no {', '.join(SUFFIXES)} (or .gz or .zst) file"
            )
        return sorted(files)
    if path.is_file():
        return [path]
    matches = sorted(Path(p) for p in glob.glob(str(path), recursive=True))  # noqa: PTH207
    files = [p for p in matches if p.is_file()]
    if not files:
        reason = "only folders match" if matches else "there is no such file or folder"
        raise UserError(f"sources: {pattern}: {reason}")
    return files


def make_pieces(
    inputs: list[Input], sources: tuple[Source, ...], piece_bytes: int
) -> list[list[Part]]:
    """Parts put together into pieces of about `piece_bytes`, in the order of the inputs."""
    pieces: list[list[Part]] = []
    room = 0
    for number, entry in enumerate(inputs):
        source = sources[entry.source]
        for part in format_named(entry.format).parts(number, entry, source, piece_bytes):
            if room < part.bytes // 2 or not pieces:
                pieces.append([])
                room = piece_bytes
            pieces[-1].append(part)
            room -= part.bytes
    return pieces


def read_documents(entry: Input, part: Part, source: Source, counters: Counter) -> Iterator[str]:
    """The documents of a part: see `Format.documents`."""
    return format_named(entry.format).documents(entry, part, source, counters)


def _input(number: int, source: Source, path: Path) -> Input:
    name = format_of(path) if source.format == "auto" else source.format
    if name is None:
        raise UserError(
            f"sources: {path}: the name does not tell the format; set `format` to one of "
            f"{', '.join(FORMATS)}"
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
        encoding = "utf-8" if name == "parquet" else streams.encoding_of(head)
    streams.check_encoding(encoding)
    return Input(number, str(path), name, encoding, state.st_size, state.st_mtime_ns)
